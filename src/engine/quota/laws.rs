//! Whatever a server answers.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const START: Timestamp = Timestamp(1_800_000_000_000);

fn figure() -> impl Strategy<Value = String> {
    prop_oneof![
        (0..100_u32).prop_map(|n| n.to_string()),
        (0..10_000_000_u32).prop_map(|n| n.to_string()),
        (1_799_999_000_u64..1_800_100_000).prop_map(|n| n.to_string()),
        (1_799_999_000_000_u64..1_800_100_000_000).prop_map(|n| n.to_string()),
        prop::sample::select(vec![
            "-5",
            "NaN",
            "inf",
            "1e300",
            "",
            "0",
            "0.0001",
            "99999999999999999999",
            "soon",
            "Fri, 15 Jan 2027 08:00:30 GMT",
            "Thu, 01 Jan 3027 00:00:00 GMT",
            "1970-01-01T00:00:00Z",
        ])
        .prop_map(str::to_owned),
    ]
}

fn header() -> impl Strategy<Value = (&'static str, String)> {
    let name = prop::sample::select(vec![
        "retry-after",
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
        "ratelimit-limit",
        "ratelimit-remaining",
        "ratelimit-reset",
        "x-rate-limit-used",
        "age",
        "date",
    ]);
    let structured = prop_oneof![
        (figure(), figure()).prop_map(|(r, t)| ("ratelimit", format!("\"a\";r={r};t={t}"))),
        (figure(), figure()).prop_map(|(q, w)| ("ratelimit-policy", format!("\"a\";q={q};w={w}"))),
        ".{0,40}".prop_map(|junk| ("ratelimit", junk)),
    ];
    prop_oneof![3 => (name, figure()), 1 => structured]
}

#[derive(Clone, Debug)]
struct Exchange {
    outcome: Outcome,
    headers: Vec<(&'static str, String)>,
    takes: u64,
    is_dropped: bool,
    draw: u32,
}

fn exchange() -> impl Strategy<Value = Exchange> {
    let outcome = prop_oneof![
        4 => Just(Outcome::Accepted), 2 => Just(Outcome::Throttled), 1 => Just(Outcome::Failed)
    ];
    let headers = prop::collection::vec(header(), 0..5);
    (outcome, headers, 0..3_000_u64, prop::bool::weighted(0.05), any::<u32>()).prop_map(
        |(outcome, headers, takes, is_dropped, draw)| Exchange {
            outcome,
            headers,
            takes,
            is_dropped,
            draw,
        },
    )
}

fn policy() -> impl Strategy<Value = QuotaPolicy> {
    let mode = prop::sample::select(vec![QuotaMode::Follow, QuotaMode::Fixed, QuotaMode::Off]);
    let cap = prop::option::of((0.01..5_000.0_f64).prop_map(Rate::per_second));
    (mode, cap, 0.0..=0.9_f64, 1..100_000_u64).prop_map(|(mode, cap, reserve, wait)| QuotaPolicy {
        mode,
        cap,
        reserve,
        max_wait: Duration::from_secs(wait),
        ..QuotaPolicy::default()
    })
}

/// Asks until a request may go. Returns its ticket and when.
fn admitted(quota: &mut Quota, mut now: Timestamp) -> Result<(Ticket, Timestamp), TestCaseError> {
    for _ in 0..100 {
        let held = quota.held(now).map(|hold| hold.until);
        match quota.admit(1, now) {
            Admission::Go(ticket) => {
                prop_assert_eq!(held, None, "admitted in a hold");
                return Ok((ticket, now));
            }
            Admission::Wait { until, why } => {
                prop_assert!(until > now, "a wait that does not lie ahead: {:?}", why);
                now = until;
            }
        }
    }
    Err(TestCaseError::fail("a hundred waits in a row are a busy loop, or a stall"))
}

fn answer(quota: &mut Quota, ticket: Ticket, exchange: &Exchange, now: Timestamp) -> Option<Hold> {
    let headers: Vec<_> = exchange.headers.iter().map(|(name, text)| (*name, &**text)).collect();
    let signals = read(&headers, &HeaderNames::default(), now);
    let reply = Reply { outcome: exchange.outcome, signals: &signals };
    quota.answered(ticket, &reply, now, RandomSample(exchange.draw))
}

proptest! {
    #[test]
    fn no_request_goes_in_a_hold_and_every_wait_lies_ahead(
        policy in policy(), exchanges in prop::collection::vec(exchange(), 1..60)
    ) {
        let mut quota = Quota::new(policy, START);
        let mut now = START;
        for exchange in &exchanges {
            let (ticket, sent) = admitted(&mut quota, now)?;
            now = sent.after(Duration::from_millis(exchange.takes));
            if exchange.is_dropped {
                quota.dropped(ticket, now);
                continue;
            }
            let _moved: Option<Hold> = answer(&mut quota, ticket, exchange, now);
            if exchange.outcome == Outcome::Throttled {
                prop_assert!(quota.held(now).is_some(), "a throttle that holds nothing");
            }
        }
    }

    #[test]
    fn a_wait_is_within_the_limit_or_says_that_it_is_not(
        policy in policy(), exchanges in prop::collection::vec(exchange(), 1..60)
    ) {
        let mut quota = Quota::new(policy.clone(), START);
        let mut now = START;
        // The margin with its jitter, and one interval of the slowest cap.
        let most = policy.longest_hold() + Duration::from_secs(102);
        let most = most.mul_f64(1.11);
        for exchange in &exchanges {
            let asked = now;
            let long = quota.held(now).is_some_and(|hold| hold.exceeds_max_wait);
            let (ticket, sent) = admitted(&mut quota, now)?;
            prop_assert!(long || sent.since(asked) <= most, "{:?}", sent.since(asked));
            now = sent.after(Duration::from_millis(exchange.takes));
            let _moved: Option<Hold> = answer(&mut quota, ticket, exchange, now);
        }
    }

    #[test]
    fn a_memory_survives_the_file_and_a_restart_never_ends_a_hold(
        policy in policy(), exchanges in prop::collection::vec(exchange(), 1..40)
    ) {
        let mut quota = Quota::new(policy.clone(), START);
        let mut now = START;
        for exchange in &exchanges {
            let (ticket, sent) = admitted(&mut quota, now)?;
            now = sent.after(Duration::from_millis(exchange.takes));
            let _moved: Option<Hold> = answer(&mut quota, ticket, exchange, now);
            let text = serde_json::to_string(&quota.memory(now)).expect("it is plain data");
            let memory: Memory = serde_json::from_str(&text).expect("it reads what it wrote");
            let until = quota.held(now).map(|hold| hold.until);
            quota = Quota::recall(policy.clone(), &memory, now);
            prop_assert_eq!(quota.held(now).map(|hold| hold.until), until);
        }
    }

    #[test]
    fn what_is_public_says_the_same_of_limits(headers in prop::collection::vec(header(), 0..6)) {
        // Each once: of what stands there twice, the lists go together and the last of the others counts.
        let headers: BTreeMap<&str, &str> =
            headers.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let headers: Vec<(&str, &str)> = headers.into_iter().collect();
        let names = HeaderNames::default();
        let kept = public(&headers, &names);
        let kept: Vec<(&str, &str)> =
            kept.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let mut whole = read(&headers, &names, START);
        whole.limits.iter_mut().for_each(|limit| limit.partition = None);
        prop_assert_eq!(read(&kept, &names, START), whole);
    }
}
