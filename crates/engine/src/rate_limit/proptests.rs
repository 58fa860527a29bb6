//! Property tests of the rate limiter with arbitrary responses.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const START: Timestamp = Timestamp(1_800_000_000_000);

fn header_number() -> impl Strategy<Value = String> {
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
        (header_number(), header_number())
            .prop_map(|(r, t)| ("ratelimit", format!("\"a\";r={r};t={t}"))),
        (header_number(), header_number())
            .prop_map(|(q, w)| ("ratelimit-policy", format!("\"a\";q={q};w={w}"))),
        ".{0,40}".prop_map(|junk| ("ratelimit", junk)),
    ];
    prop_oneof![3 => (name, header_number()), 1 => structured]
}

#[derive(Clone, Debug)]
struct GeneratedExchange {
    outcome: ResponseOutcome,
    headers: Vec<(&'static str, String)>,
    latency_millis: u64,
    is_dropped: bool,
    sample: u32,
}

fn exchange() -> impl Strategy<Value = GeneratedExchange> {
    let outcome = prop_oneof![
        4 => Just(ResponseOutcome::Accepted),
        2 => Just(ResponseOutcome::Throttled),
        1 => Just(ResponseOutcome::Failed),
    ];
    let headers = prop::collection::vec(header(), 0..5);
    (outcome, headers, 0..3_000_u64, prop::bool::weighted(0.05), any::<u32>()).prop_map(
        |(outcome, headers, latency_millis, is_dropped, sample)| GeneratedExchange {
            outcome,
            headers,
            latency_millis,
            is_dropped,
            sample,
        },
    )
}

fn policy() -> impl Strategy<Value = RateLimitPolicy> {
    let mode = prop::sample::select(vec![
        RateLimitMode::Adaptive,
        RateLimitMode::Fixed,
        RateLimitMode::Off,
    ]);
    let cap = prop::option::of((0.01..5_000.0_f64).prop_map(Rate::per_second));
    (mode, cap, 0.0..=0.9_f64, 1..100_000_u64).prop_map(|(mode, cap, reserve, wait)| {
        RateLimitPolicy {
            mode,
            cap,
            reserve,
            max_wait: Duration::from_secs(wait),
            ..RateLimitPolicy::default()
        }
    })
}

/// Repeats a request until it is admitted. Returns its token and the time.
fn admit_eventually(
    limiter: &mut RateLimiter,
    mut now: Timestamp,
) -> Result<(RequestToken, Timestamp), TestCaseError> {
    for _ in 0..100 {
        let blocked_until = limiter.current_block(now).map(|block| block.until);
        match limiter.admit(1, now) {
            SendDecision::Admitted(token) => {
                prop_assert_eq!(blocked_until, None, "admitted during a block");
                return Ok((token, now));
            }
            SendDecision::Wait { until, reason } => {
                prop_assert!(until > now, "a wait that ends in the past: {:?}", reason);
                now = until;
            }
        }
    }
    Err(TestCaseError::fail("a hundred waits in a row are a busy loop, or a stall"))
}

fn record_response(
    limiter: &mut RateLimiter,
    token: RequestToken,
    exchange: &GeneratedExchange,
    now: Timestamp,
) -> Option<Block> {
    let headers: Vec<_> = exchange.headers.iter().map(|(name, text)| (*name, &**text)).collect();
    let parsed = parse_headers(&headers, &HeaderNames::default(), now);
    let response = RateLimitResponse { outcome: exchange.outcome, reported: &parsed };
    limiter.record_response(token, &response, now, RandomSample(exchange.sample))
}

proptest! {
    #[test]
    fn no_request_is_sent_while_blocked_and_waits_lie_ahead(
        policy in policy(), exchanges in prop::collection::vec(exchange(), 1..60)
    ) {
        let mut limiter = RateLimiter::new(policy, START);
        let mut now = START;
        for exchange in &exchanges {
            let (token, sent_at) = admit_eventually(&mut limiter, now)?;
            now = sent_at.after(Duration::from_millis(exchange.latency_millis));
            if exchange.is_dropped {
                limiter.record_cancelled(token, now);
                continue;
            }
            let _block: Option<Block> = record_response(&mut limiter, token, exchange, now);
            if exchange.outcome == ResponseOutcome::Throttled {
                prop_assert!(limiter.current_block(now).is_some(), "a throttle without a block");
            }
        }
    }

    #[test]
    fn every_wait_within_max_wait_or_flagged(
        policy in policy(), exchanges in prop::collection::vec(exchange(), 1..60)
    ) {
        let mut limiter = RateLimiter::new(policy.clone(), START);
        let mut now = START;
        // The margin with its jitter, plus one interval of the slowest cap.
        let longest = policy.max_block() + Duration::from_secs(102);
        let longest = longest.mul_f64(1.11);
        for exchange in &exchanges {
            let requested_at = now;
            let is_flagged = limiter.current_block(now).is_some_and(|block| block.exceeds_max_wait);
            let (token, sent_at) = admit_eventually(&mut limiter, now)?;
            let waited = sent_at.since(requested_at);
            prop_assert!(is_flagged || waited <= longest, "{waited:?}");
            now = sent_at.after(Duration::from_millis(exchange.latency_millis));
            let _block: Option<Block> = record_response(&mut limiter, token, exchange, now);
        }
    }

    #[test]
    fn state_survives_json_and_restart_never_ends_a_block(
        policy in policy(), exchanges in prop::collection::vec(exchange(), 1..40)
    ) {
        let mut limiter = RateLimiter::new(policy.clone(), START);
        let mut now = START;
        for exchange in &exchanges {
            let (token, sent_at) = admit_eventually(&mut limiter, now)?;
            now = sent_at.after(Duration::from_millis(exchange.latency_millis));
            let _block: Option<Block> = record_response(&mut limiter, token, exchange, now);
            let text = serde_json::to_string(&limiter.to_state(now)).expect("it is plain data");
            let state: RateLimiterState =
                serde_json::from_str(&text).expect("it reads what it wrote");
            let until = limiter.current_block(now).map(|block| block.until);
            limiter = RateLimiter::restore(policy.clone(), &state, now);
            prop_assert_eq!(limiter.current_block(now).map(|block| block.until), until);
        }
    }

    #[test]
    fn redacted_headers_parse_to_the_same_limits(headers in prop::collection::vec(header(), 0..6)) {
        // Each name once: of duplicates, lists are joined, and of other headers the last one
        // counts.
        let headers: BTreeMap<&str, &str> =
            headers.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let headers: Vec<(&str, &str)> = headers.into_iter().collect();
        let names = HeaderNames::default();
        let redacted = redact_headers(&headers, &names);
        let redacted: Vec<(&str, &str)> =
            redacted.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let mut parsed = parse_headers(&headers, &names, START);
        parsed.limits.iter_mut().for_each(|limit| limit.partition = None);
        prop_assert_eq!(parse_headers(&redacted, &names, START), parsed);
    }
}
