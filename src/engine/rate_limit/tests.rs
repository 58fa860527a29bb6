//! Tests of the rate limiter of one scope, request by request.

use super::*;
use crate::engine::ClockStep;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const MID_SAMPLE: RandomSample = RandomSample(u32::MAX / 2);

fn limiter() -> RateLimiter {
    RateLimiter::new(RateLimitPolicy::default(), NOW)
}

fn later(seconds: f64) -> Timestamp {
    NOW.after(Duration::from_secs_f64(seconds))
}

/// Sends one request at `now`, which must be admitted.
fn send(quota: &mut RateLimiter, now: Timestamp) -> RequestToken {
    match quota.admit(1, now) {
        SendDecision::Admitted(ticket) => ticket,
        SendDecision::Wait { until, reason: why } => panic!("waits until {until}: {why:?}"),
    }
}

fn answer(
    quota: &mut RateLimiter,
    ticket: RequestToken,
    outcome: ReplyOutcome,
    headers: &[(&str, &str)],
    now: Timestamp,
) -> Option<Block> {
    let signals = parse_headers(headers, &HeaderNames::default(), now);
    quota.record_reply(ticket, &RateLimitReply { outcome, headers: &signals }, now, MID_SAMPLE)
}

fn record_throttle(
    quota: &mut RateLimiter,
    headers: &[(&str, &str)],
    now: Timestamp,
) -> Option<Block> {
    let ticket = send(quota, now);
    answer(quota, ticket, ReplyOutcome::Throttled, headers, now)
}

#[test]
fn retry_after_is_obeyed_late_rather_than_early() {
    let mut quota = limiter();
    let hold = record_throttle(&mut quota, &[("retry-after", "60")], NOW).expect("it closes");

    assert_eq!(hold.to_string(), "the server said: retry after 60 s");
    assert!(hold.until >= later(61.0) && hold.until <= later(62.0), "{}", hold.until);
    let waits = SendDecision::Wait { until: hold.until, reason: WaitReason::Blocked };
    assert_eq!(quota.admit(1, later(60.9)), waits);
}

#[test]
fn a_block_is_extended_but_never_shortened() {
    let mut quota = limiter();
    let tickets = [0, 1, 2].map(|nth| send(&mut quota, later(f64::from(nth) * 0.02)));
    let word = |quota: &mut RateLimiter, ticket, word| {
        answer(quota, ticket, ReplyOutcome::Throttled, &[("retry-after", word)], later(1.0))
    };
    assert!(word(&mut quota, tickets[0], "60").is_some());
    assert_eq!(word(&mut quota, tickets[1], "10"), None);
    assert!(word(&mut quota, tickets[2], "90").is_some_and(|hold| hold.until > later(90.0)));
}

#[test]
fn long_retry_after_is_obeyed_in_full_and_flagged() {
    let mut quota = limiter();
    let hold = record_throttle(&mut quota, &[("retry-after", "86400")], NOW).expect("it closes");

    assert!(hold.exceeds_max_wait);
    assert!(hold.until > later(86_400.0));
}

#[test]
fn after_a_block_one_probe_is_sent_until_one_succeeds() {
    let mut quota = limiter();
    let hold = record_throttle(&mut quota, &[("retry-after", "5")], NOW).expect("it closes");

    let ticket = send(&mut quota, hold.until);
    assert!(matches!(
        quota.admit(1, hold.until),
        SendDecision::Wait { reason: WaitReason::Probing, .. }
    ));

    answer(&mut quota, ticket, ReplyOutcome::Failed, &[], hold.until);
    let ticket = send(&mut quota, hold.until.after(Duration::from_secs(60)));
    let now = hold.until.after(Duration::from_secs(61));
    answer(&mut quota, ticket, ReplyOutcome::Accepted, &[], now);
    assert_eq!(quota.status(now).block, None);
}

#[test]
fn a_dropped_probe_is_replaced() {
    let mut quota = limiter();
    let hold = record_throttle(&mut quota, &[("retry-after", "5")], NOW).expect("it closes");
    let ticket = send(&mut quota, hold.until);
    quota.record_cancelled(ticket, hold.until);

    let _another = send(&mut quota, hold.until.after(Duration::from_secs(60)));
}

#[test]
fn late_success_from_before_the_block_does_not_end_it() {
    let mut quota = limiter();
    let early = send(&mut quota, NOW);
    let hold =
        record_throttle(&mut quota, &[("retry-after", "60")], later(0.1)).expect("it closes");
    answer(&mut quota, early, ReplyOutcome::Accepted, &[], later(1.0));

    assert_eq!(quota.current_block(later(2.0)), Some(&hold));
}

#[test]
fn blocks_without_retry_after_grow_while_throttled() {
    let mut quota = limiter();
    let mut now = NOW;
    let mut holds = Vec::new();
    for _ in 0..10 {
        let hold = record_throttle(&mut quota, &[], now).expect("it closes");
        holds.push(hold.until.since(now).as_secs());
        now = hold.until;
    }
    assert_eq!(holds, [1, 2, 7, 21, 31, 63, 127, 317, 63, 67]);
}

#[test]
fn fixed_rate_is_even_above_a_thousand_per_second() {
    for (rate, seconds, admitted) in [(10.0, 10, 100), (4_000.0, 1, 4_000)] {
        let policy = RateLimitPolicy {
            mode: RateLimitMode::Fixed,
            cap: Some(Rate::per_second(rate)),
            ..RateLimitPolicy::default()
        };
        let mut quota = RateLimiter::new(policy, NOW);
        let mut count = 0;
        for ms in 0..seconds * 1000 {
            let now = Timestamp(NOW.0 + ms);
            while let SendDecision::Admitted(_) = quota.admit(1, now) {
                count += 1;
            }
        }
        assert_eq!(count, admitted);
    }
}

#[test]
fn a_heavy_request_takes_the_time_of_its_weight() {
    let policy =
        RateLimitPolicy { cap: Some(Rate::per_second(10.0)), ..RateLimitPolicy::default() };
    let mut quota = RateLimiter::new(policy, NOW);
    let SendDecision::Admitted(_) = quota.admit(20, NOW) else { panic!("the first goes") };

    assert_eq!(
        quota.admit(1, NOW),
        SendDecision::Wait { until: later(2.0), reason: WaitReason::Pacing }
    );
}

#[test]
fn advertised_limits_are_readable_from_saved_state() {
    let mut quota = limiter();
    let headers = [("ratelimit-policy", "\"day\";q=600;w=60"), ("ratelimit", "\"day\";r=400;t=40")];
    let ticket = send(&mut quota, NOW);
    answer(&mut quota, ticket, ReplyOutcome::Accepted, &headers, NOW);
    let ours = quota.status(NOW);

    let theirs = restored(&quota, NOW).status(NOW);

    assert_eq!(theirs.rate_source, RateSource::Headers);
    assert_eq!(theirs.rate, ours.rate);
    let limit = theirs.limits.first().expect("it is remembered");
    assert_eq!((limit.quota, limit.remaining), (Some(600.0), Some(400.0)));
    assert_eq!(limit.window, Some(Duration::from_secs(60)));
}

#[test]
fn one_early_throttle_does_not_slow_an_unlimited_server() {
    let mut quota = limiter();
    for _ in 0..5 {
        let ticket = send(&mut quota, NOW);
        answer(&mut quota, ticket, ReplyOutcome::Accepted, &[], NOW);
        // Undo the pacing of slow start.
        quota.pacer = Pacer::default();
    }
    let hold = record_throttle(&mut quota, &[("retry-after", "2")], NOW).expect("it closes");

    let mut latest = 0;
    for ms in 0..30_000 {
        let now = hold.until.after(Duration::from_millis(ms));
        latest = 0;
        while let SendDecision::Admitted(ticket) = quota.admit(1, now) {
            answer(&mut quota, ticket, ReplyOutcome::Accepted, &[], now);
            latest += 1;
            if latest == 10 {
                break;
            }
        }
    }

    assert_eq!(latest, 10, "half a minute later it is at ten thousand per second");
}

#[test]
fn a_fast_server_that_throttles_nobody_is_reached_in_half_a_second() {
    let mut quota = limiter();
    let mut latest = 0;
    for ms in 0..500 {
        let now = Timestamp(NOW.0 + ms);
        latest = 0;
        while let SendDecision::Admitted(ticket) = quota.admit(1, now) {
            answer(&mut quota, ticket, ReplyOutcome::Accepted, &[], now);
            latest += 1;
            if latest == 100 {
                break;
            }
        }
    }
    assert!(latest >= 16, "{latest} per millisecond");
}

#[test]
fn zero_remaining_blocks_until_reset_even_after_success() {
    let mut quota = limiter();
    let ticket = send(&mut quota, NOW);
    let headers = [
        ("x-ratelimit-remaining", "0"),
        ("x-ratelimit-limit", "60"),
        ("x-ratelimit-reset", "1800000040"),
    ];
    let hold =
        answer(&mut quota, ticket, ReplyOutcome::Accepted, &headers, NOW).expect("it closes");

    assert!(hold.until >= later(41.0) && hold.until <= later(42.0));
    assert_eq!(hold.to_string(), "nothing remains until 2027-01-15T08:00:40.000Z (X-RateLimit-*)");
}

#[test]
fn a_reset_in_a_thousand_years_waits_at_most_max_wait() {
    for reset in ["33356995200", "4102444800", "3000000"] {
        let mut quota = limiter();
        let headers = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", reset)];
        let hold = record_throttle(&mut quota, &headers, NOW).expect("it closes");
        assert!(hold.until <= later(3602.0), "{reset}: {}", hold.until);
    }
}

#[test]
fn contradictory_zero_remaining_is_soon_ignored() {
    for reset in ["1800000060", "1799990000", "0"] {
        let mut quota = limiter();
        let mut now = NOW;
        let mut sent = 0;
        while now < later(600.0) {
            let headers = [
                ("x-ratelimit-limit", "60"),
                ("x-ratelimit-remaining", "0"),
                ("x-ratelimit-reset", reset),
            ];
            match quota.admit(1, now) {
                SendDecision::Admitted(ticket) => {
                    sent += 1;
                    now = now.after(Duration::from_millis(50));
                    answer(&mut quota, ticket, ReplyOutcome::Accepted, &headers, now);
                }
                SendDecision::Wait { until, .. } => now = until,
            }
        }
        assert!(sent > 5_000, "{reset}: {sent} in ten minutes");
    }
}

#[test]
fn restart_during_a_block_keeps_its_deadline() {
    let mut before = limiter();
    let hold = record_throttle(&mut before, &[("retry-after", "60")], NOW).expect("it closes");
    let after = RateLimiter::restore(
        RateLimitPolicy::default(),
        &through_json(&before.to_state(later(20.0))),
        later(30.0),
    );

    assert_eq!(after.current_block(later(40.0)), Some(&hold));
}

#[test]
fn a_restart_keeps_the_rate_and_a_series_of_throttles() {
    let mut before = limiter();
    let ticket = send(&mut before, NOW);
    answer(&mut before, ticket, ReplyOutcome::Accepted, &[], NOW);
    let hold = record_throttle(&mut before, &[], later(1.0)).expect("it closes");
    let mut between = restored(&before, later(1.5));
    let ticket = send(&mut between, hold.until);
    answer(&mut between, ticket, ReplyOutcome::Accepted, &[], hold.until);

    let learned = between.status(hold.until);
    assert_eq!(
        (learned.rate_source, learned.estimate_cycles),
        (RateSource::SlowStart, 1),
        "the first is tried again"
    );
    let after = restored(&between, hold.until).status(hold.until);
    assert_eq!((after.rate, after.rate_source), (learned.rate, RateSource::SlowStart));
}

#[test]
fn old_state_allows_failed_rates_and_is_finally_forgotten() {
    let mut quota = limiter();
    let hold = record_throttle(&mut quota, &[], NOW).expect("it closes");
    let ticket = send(&mut quota, hold.until);
    answer(&mut quota, ticket, ReplyOutcome::Accepted, &[], hold.until);
    let day = 86_400.0;

    let old = restored(&quota, later(2.0 * day)).status(later(2.0 * day));
    assert_eq!((old.rate_source, old.estimate_cycles), (RateSource::Learned, 0));
    let forgotten = restored(&quota, later(40.0 * day)).status(later(40.0 * day));
    assert_eq!(forgotten.rate_source, RateSource::SlowStart);
}

#[test]
fn cached_and_outdated_replies_are_ignored() {
    let mut quota = limiter();
    let tickets = [0.0, 0.02, 0.04].map(|at| send(&mut quota, later(at)));
    let newest = [("ratelimit", "\"a\";r=50;t=60"), ("ratelimit-policy", "\"a\";q=100;w=60")];
    answer(&mut quota, tickets[1], ReplyOutcome::Accepted, &newest, later(0.2));
    let known = quota.status(later(1.0)).limits;

    let old = [("ratelimit", "\"a\";r=0;t=60"), ("ratelimit-policy", "\"a\";q=100;w=60")];
    answer(&mut quota, tickets[0], ReplyOutcome::Accepted, &old, later(0.3));
    assert_eq!(quota.status(later(1.0)).limits, known);
    let cached = [old[0], old[1], ("age", "7")];
    assert_eq!(answer(&mut quota, tickets[2], ReplyOutcome::Accepted, &cached, later(0.4)), None);
    assert_eq!(quota.status(later(1.0)).limits, known);
}

#[test]
fn throttle_with_units_remaining_reveals_a_hidden_limit() {
    let mut quota = limiter();
    let headers =
        [("ratelimit", "\"a\";r=500;t=3600"), ("ratelimit-policy", "\"a\";q=1000;w=3600")];
    let ticket = send(&mut quota, NOW);
    answer(&mut quota, ticket, ReplyOutcome::Accepted, &headers, NOW);
    assert_eq!(quota.status(NOW).rate_source, RateSource::Headers);

    let now = later(20.0);
    let hold = record_throttle(&mut quota, &headers, now).expect("it closes");
    let now = hold.until.after(Duration::from_secs(10));
    let ticket = send(&mut quota, now);
    answer(&mut quota, ticket, ReplyOutcome::Accepted, &headers, now);
    assert!(quota.status(now).estimated_rate.is_some());
}

#[test]
fn the_tightest_of_several_policies_counts_and_the_reserve_is_left() {
    let headers = [
        ("ratelimit-policy", "\"minute\";q=600;w=60, \"hour\";q=1200;w=3600"),
        ("ratelimit", "\"minute\";r=600;t=60, \"hour\";r=1200;t=3600"),
    ];
    for (reserve, rate) in [(0.0, 20.0), (0.5, 10.0)] {
        let policy = RateLimitPolicy { reserve, ..RateLimitPolicy::default() };
        let mut quota = RateLimiter::new(policy, NOW);
        let ticket = send(&mut quota, NOW);
        answer(&mut quota, ticket, ReplyOutcome::Accepted, &headers, NOW);
        let per_minute = quota.status(NOW).rate.expect("it is paced").get() * 60.0;
        assert!((per_minute - rate).abs() < 0.1, "{per_minute}");
    }
}

#[test]
fn non_adaptive_modes_obey_retry_after_and_learn_nothing() {
    let policy = RateLimitPolicy { mode: RateLimitMode::Off, ..RateLimitPolicy::default() };
    let mut quota = RateLimiter::new(policy, NOW);
    let hold = record_throttle(&mut quota, &[], NOW).expect("it closes");
    assert_eq!(hold.until, later(300.0));

    let ticket = send(&mut quota, hold.until);
    answer(&mut quota, ticket, ReplyOutcome::Accepted, &[], hold.until);
    let standing = quota.status(hold.until);
    assert_eq!((standing.rate, standing.estimate_cycles), (None, 0));
}

fn restored(quota: &RateLimiter, now: Timestamp) -> RateLimiter {
    let memory = through_json(&quota.to_state(state_time(quota)));
    RateLimiter::restore(RateLimitPolicy::default(), &memory, now)
}

/// Time of the last write: the state is written on events, and none follows the last reply.
fn state_time(quota: &RateLimiter) -> Timestamp {
    quota.block.block().map_or(NOW, |hold| hold.until.min(later(1.0)))
}

fn through_json(memory: &RateLimiterState) -> RateLimiterState {
    let text = serde_json::to_string(memory).expect("it is plain data");
    serde_json::from_str(&text).expect("it reads what it wrote")
}

#[test]
fn two_processes_continue_from_each_others_state() {
    let (mut ours, mut theirs) = (limiter(), limiter());
    let early = send(&mut ours, NOW);
    let hold = record_throttle(&mut theirs, &[("retry-after", "60")], NOW).expect("it closes");
    ours.merge_from_peer(&through_json(&theirs.to_state(NOW)), NOW);
    assert_eq!(ours.current_block(NOW), Some(&hold));
    answer(&mut ours, early, ReplyOutcome::Accepted, &[], later(1.0));
    assert_eq!(ours.current_block(later(2.0)), Some(&hold), "it was sent before the hold");

    let ticket = send(&mut ours, hold.until);
    theirs.merge_from_peer(&through_json(&ours.to_state(hold.until)), hold.until);
    assert!(matches!(
        theirs.admit(1, hold.until),
        SendDecision::Wait { reason: WaitReason::Probing, .. }
    ));
    answer(&mut ours, ticket, ReplyOutcome::Accepted, &[], hold.until);
    theirs.merge_from_peer(&through_json(&ours.to_state(hold.until)), hold.until);
    assert_eq!(theirs.status(hold.until).block, None);
    assert_eq!(theirs.status(hold.until).rate, ours.status(hold.until).rate);
}

#[test]
fn clock_set_back_does_not_lengthen_a_wait() {
    let day = Duration::from_secs(86_400);
    let mut quota = limiter();
    let hold = record_throttle(&mut quota, &[("retry-after", "60")], NOW).expect("it closes");
    let memory = quota.to_state(NOW);

    let before = |moment: Timestamp| moment.before(day);
    let waits = SendDecision::Wait { until: before(hold.until), reason: WaitReason::Blocked };
    assert_eq!(quota.admit(1, before(NOW)), waits);
    let mut recalled = RateLimiter::restore(RateLimitPolicy::default(), &memory, before(NOW));
    assert_eq!(recalled.admit(1, before(NOW)), waits);

    let _proof = send(&mut quota, before(hold.until));
    assert!(matches!(quota.admit(1, before(hold.until)), SendDecision::Wait { .. }));
    let two_days_back = before(before(hold.until));
    let admitted = quota.admit(1, two_days_back);
    let is_proving = matches!(admitted, SendDecision::Wait { reason: WaitReason::Probing, .. });
    assert!(!is_proving, "nobody waits a day for an answer: {admitted:?}");
}

#[test]
fn clock_set_back_keeps_the_pacing_delay() {
    let cap = Some(Rate::from_units(1.0, Duration::from_secs(10)));
    let mut quota = RateLimiter::new(RateLimitPolicy { cap, ..RateLimitPolicy::default() }, NOW);
    let _sent = send(&mut quota, NOW);

    let earlier = NOW.before(Duration::from_secs(86_400));
    let waits = SendDecision::Wait {
        until: earlier.after(Duration::from_secs(10)),
        reason: WaitReason::Pacing,
    };
    assert_eq!(quota.admit(1, earlier), waits);
}

#[test]
fn clock_step_during_a_wait_keeps_its_length() {
    let day = Duration::from_secs(86_400);
    for set in [Timestamp::before as fn(Timestamp, Duration) -> Timestamp, Timestamp::after] {
        let mut quota = limiter();
        let hold = record_throttle(&mut quota, &[("retry-after", "60")], NOW).expect("it closes");
        let step = ClockStep::between(NOW, set(NOW, day)).expect("it is one");

        quota.shift_by(step);

        let until = set(hold.until, day);
        let just_before = Timestamp(until.0 - 1);
        assert_eq!(
            quota.admit(1, just_before),
            SendDecision::Wait { until, reason: WaitReason::Blocked }
        );
        assert!(matches!(quota.admit(1, until), SendDecision::Admitted(_)));
    }
}
