//! Tests of the rate limiter of one scope, request by request.

mod idle;
mod multi_process;

use super::*;
use crate::ClockStep;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const MID_SAMPLE: RandomSample = RandomSample(u32::MAX / 2);

fn limiter() -> RateLimiter {
    RateLimiter::new(RateLimitPolicy::default(), NOW)
}

fn later(seconds: f64) -> Timestamp {
    NOW.after(Duration::from_secs_f64(seconds))
}

/// Sends one request at `now`, which must be admitted.
fn send(limiter: &mut RateLimiter, now: Timestamp) -> RequestToken {
    match limiter.admit(1, now) {
        SendDecision::Admitted(token) => token,
        SendDecision::Wait { until, reason } => panic!("waits until {until}: {reason:?}"),
    }
}

fn record_response(
    limiter: &mut RateLimiter,
    token: RequestToken,
    outcome: ResponseOutcome,
    headers: &[(&str, &str)],
    now: Timestamp,
) -> Option<Block> {
    let headers = parse_headers(headers, &HeaderNames::default(), now);
    limiter.record_response(
        token,
        &RateLimitResponse { outcome, reported: &headers },
        now,
        MID_SAMPLE,
    )
}

fn record_throttle(
    limiter: &mut RateLimiter,
    headers: &[(&str, &str)],
    now: Timestamp,
) -> Option<Block> {
    let token = send(limiter, now);
    record_response(limiter, token, ResponseOutcome::Throttled, headers, now)
}

#[test]
fn retry_after_is_obeyed_late_rather_than_early() {
    let mut limiter = limiter();
    let block =
        record_throttle(&mut limiter, &[("retry-after", "60")], NOW).expect("it is blocked");

    assert_eq!(block.to_string(), "the server said: retry after 60 s");
    assert!(block.until >= later(61.0) && block.until <= later(62.0), "{}", block.until);
    let waits = SendDecision::Wait { until: block.until, reason: WaitReason::Blocked };
    assert_eq!(limiter.admit(1, later(60.9)), waits);
}

#[test]
fn a_block_is_extended_but_never_shortened() {
    let mut limiter = limiter();
    let tokens = [0, 1, 2].map(|nth| send(&mut limiter, later(f64::from(nth) * 0.02)));
    let throttle = |limiter: &mut RateLimiter, token, retry_after| {
        record_response(
            limiter,
            token,
            ResponseOutcome::Throttled,
            &[("retry-after", retry_after)],
            later(1.0),
        )
    };
    assert!(throttle(&mut limiter, tokens[0], "60").is_some());
    assert_eq!(throttle(&mut limiter, tokens[1], "10"), None);
    assert!(throttle(&mut limiter, tokens[2], "90").is_some_and(|block| block.until > later(90.0)));
}

#[test]
fn long_retry_after_is_obeyed_in_full_and_flagged() {
    let mut limiter = limiter();
    let block =
        record_throttle(&mut limiter, &[("retry-after", "86400")], NOW).expect("it is blocked");

    assert!(block.exceeds_max_wait);
    assert!(block.until > later(86_400.0));
}

#[test]
fn after_a_block_one_probe_is_sent_until_one_succeeds() {
    let mut limiter = limiter();
    let block = record_throttle(&mut limiter, &[("retry-after", "5")], NOW).expect("it is blocked");

    let token = send(&mut limiter, block.until);
    assert!(matches!(
        limiter.admit(1, block.until),
        SendDecision::Wait { reason: WaitReason::Probing, .. }
    ));

    record_response(&mut limiter, token, ResponseOutcome::Failed, &[], block.until);
    let token = send(&mut limiter, block.until.after(Duration::from_secs(60)));
    let now = block.until.after(Duration::from_secs(61));
    record_response(&mut limiter, token, ResponseOutcome::Accepted, &[], now);
    assert_eq!(limiter.status(now).block, None);
}

#[test]
fn a_dropped_probe_is_replaced() {
    let mut limiter = limiter();
    let block = record_throttle(&mut limiter, &[("retry-after", "5")], NOW).expect("it is blocked");
    let token = send(&mut limiter, block.until);
    limiter.record_cancelled(token, block.until);

    let _another = send(&mut limiter, block.until.after(Duration::from_secs(60)));
}

#[test]
fn late_success_from_before_the_block_does_not_end_it() {
    let mut limiter = limiter();
    let early = send(&mut limiter, NOW);
    let block =
        record_throttle(&mut limiter, &[("retry-after", "60")], later(0.1)).expect("it is blocked");
    record_response(&mut limiter, early, ResponseOutcome::Accepted, &[], later(1.0));

    assert_eq!(limiter.current_block(later(2.0)), Some(&block));
}

#[test]
fn blocks_without_retry_after_grow_while_throttled() {
    let mut limiter = limiter();
    let mut now = NOW;
    let mut blocks = Vec::new();
    for _ in 0..10 {
        let block = record_throttle(&mut limiter, &[], now).expect("it is blocked");
        blocks.push(block.until.since(now).as_secs());
        now = block.until;
    }
    assert_eq!(blocks, [1, 2, 7, 21, 31, 63, 127, 317, 63, 67]);
}

#[test]
fn fixed_rate_is_even_above_a_thousand_per_second() {
    for (rate, seconds, admitted) in [(10.0, 10, 100), (4_000.0, 1, 4_000)] {
        let policy = RateLimitPolicy {
            mode: RateLimitMode::Fixed,
            cap: Some(Rate::per_second(rate)),
            ..RateLimitPolicy::default()
        };
        let mut limiter = RateLimiter::new(policy, NOW);
        let mut count = 0;
        for ms in 0..seconds * 1000 {
            let now = Timestamp(NOW.0 + ms);
            while let SendDecision::Admitted(_) = limiter.admit(1, now) {
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
    let mut limiter = RateLimiter::new(policy, NOW);
    let SendDecision::Admitted(_) = limiter.admit(20, NOW) else { panic!("the first is admitted") };

    assert_eq!(
        limiter.admit(1, NOW),
        SendDecision::Wait { until: later(2.0), reason: WaitReason::Pacing }
    );
}

#[test]
fn advertised_limits_are_readable_from_saved_state() {
    let mut limiter = limiter();
    let headers = [("ratelimit-policy", "\"day\";q=600;w=60"), ("ratelimit", "\"day\";r=400;t=40")];
    let token = send(&mut limiter, NOW);
    record_response(&mut limiter, token, ResponseOutcome::Accepted, &headers, NOW);
    let status = limiter.status(NOW);

    let restored_status = restored(&limiter, NOW).status(NOW);

    assert_eq!(restored_status.rate_source, RateSource::Headers);
    assert_eq!(restored_status.rate, status.rate);
    let limit = restored_status.limits.first().expect("it was saved");
    assert_eq!((limit.quota, limit.remaining), (Some(600.0), Some(400.0)));
    assert_eq!(limit.window, Some(Duration::from_secs(60)));
}

#[test]
fn one_early_throttle_does_not_slow_an_unlimited_server() {
    let mut limiter = limiter();
    for _ in 0..5 {
        let token = send(&mut limiter, NOW);
        record_response(&mut limiter, token, ResponseOutcome::Accepted, &[], NOW);
        // Undo the pacing of slow start.
        limiter.pacer = Pacer::default();
    }
    let block = record_throttle(&mut limiter, &[("retry-after", "2")], NOW).expect("it is blocked");

    let mut admitted_in_milli = 0;
    for ms in 0..30_000 {
        let now = block.until.after(Duration::from_millis(ms));
        admitted_in_milli = 0;
        while let SendDecision::Admitted(token) = limiter.admit(1, now) {
            record_response(&mut limiter, token, ResponseOutcome::Accepted, &[], now);
            admitted_in_milli += 1;
            if admitted_in_milli == 10 {
                break;
            }
        }
    }

    assert_eq!(admitted_in_milli, 10, "half a minute later it is at ten thousand per second");
}

#[test]
fn slow_start_reaches_a_fast_server_in_half_a_second() {
    let mut limiter = limiter();
    let mut admitted_in_milli = 0;
    for ms in 0..500 {
        let now = Timestamp(NOW.0 + ms);
        admitted_in_milli = 0;
        while let SendDecision::Admitted(token) = limiter.admit(1, now) {
            record_response(&mut limiter, token, ResponseOutcome::Accepted, &[], now);
            admitted_in_milli += 1;
            if admitted_in_milli == 100 {
                break;
            }
        }
    }
    assert!(admitted_in_milli >= 16, "{admitted_in_milli} per millisecond");
}

#[test]
fn zero_remaining_blocks_until_reset_even_after_success() {
    let mut limiter = limiter();
    let token = send(&mut limiter, NOW);
    let headers = [
        ("x-ratelimit-remaining", "0"),
        ("x-ratelimit-limit", "60"),
        ("x-ratelimit-reset", "1800000040"),
    ];
    let block = record_response(&mut limiter, token, ResponseOutcome::Accepted, &headers, NOW)
        .expect("it is blocked");

    assert!(block.until >= later(41.0) && block.until <= later(42.0));
    assert_eq!(
        block.to_string(),
        "no requests remain until 2027-01-15T08:00:40.000Z (X-RateLimit-*)"
    );
}

#[test]
fn a_reset_in_a_thousand_years_waits_at_most_max_wait() {
    for reset in ["33356995200", "4102444800", "3000000"] {
        let mut limiter = limiter();
        let headers = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", reset)];
        let block = record_throttle(&mut limiter, &headers, NOW).expect("it is blocked");
        assert!(block.until <= later(3602.0), "{reset}: {}", block.until);
    }
}

#[test]
fn contradictory_zero_remaining_is_soon_ignored() {
    for reset in ["1800000060", "1799990000", "0"] {
        let mut limiter = limiter();
        let mut now = NOW;
        let mut sent = 0;
        while now < later(600.0) {
            let headers = [
                ("x-ratelimit-limit", "60"),
                ("x-ratelimit-remaining", "0"),
                ("x-ratelimit-reset", reset),
            ];
            match limiter.admit(1, now) {
                SendDecision::Admitted(token) => {
                    sent += 1;
                    now = now.after(Duration::from_millis(50));
                    record_response(&mut limiter, token, ResponseOutcome::Accepted, &headers, now);
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
    let block = record_throttle(&mut before, &[("retry-after", "60")], NOW).expect("it is blocked");
    let after = RateLimiter::restore(
        RateLimitPolicy::default(),
        &through_json(&before.to_state(later(20.0))),
        later(30.0),
    );

    assert_eq!(after.current_block(later(40.0)), Some(&block));
}

#[test]
fn a_restart_keeps_the_rate_and_a_series_of_throttles() {
    let mut before = limiter();
    let token = send(&mut before, NOW);
    record_response(&mut before, token, ResponseOutcome::Accepted, &[], NOW);
    let block = record_throttle(&mut before, &[], later(1.0)).expect("it is blocked");
    let mut between = restored(&before, later(1.5));
    let token = send(&mut between, block.until);
    record_response(&mut between, token, ResponseOutcome::Accepted, &[], block.until);

    let status = between.status(block.until);
    assert_eq!(
        (status.rate_source, status.estimate_cycles),
        (RateSource::SlowStart, 1),
        "slow start begins again"
    );
    let after = restored(&between, block.until).status(block.until);
    assert_eq!((after.rate, after.rate_source), (status.rate, RateSource::SlowStart));
}

#[test]
fn old_state_allows_failed_rates_and_is_finally_forgotten() {
    let mut limiter = limiter();
    let block = record_throttle(&mut limiter, &[], NOW).expect("it is blocked");
    let token = send(&mut limiter, block.until);
    record_response(&mut limiter, token, ResponseOutcome::Accepted, &[], block.until);
    let day = 86_400.0;

    let old = restored(&limiter, later(2.0 * day)).status(later(2.0 * day));
    assert_eq!((old.rate_source, old.estimate_cycles), (RateSource::Estimated, 0));
    let forgotten = restored(&limiter, later(40.0 * day)).status(later(40.0 * day));
    assert_eq!(forgotten.rate_source, RateSource::SlowStart);
}

#[test]
fn cached_and_outdated_responses_are_ignored() {
    let mut limiter = limiter();
    let tokens = [0.0, 0.02, 0.04].map(|at| send(&mut limiter, later(at)));
    let newest = [("ratelimit", "\"a\";r=50;t=60"), ("ratelimit-policy", "\"a\";q=100;w=60")];
    record_response(&mut limiter, tokens[1], ResponseOutcome::Accepted, &newest, later(0.2));
    let known = limiter.status(later(1.0)).limits;

    let old = [("ratelimit", "\"a\";r=0;t=60"), ("ratelimit-policy", "\"a\";q=100;w=60")];
    record_response(&mut limiter, tokens[0], ResponseOutcome::Accepted, &old, later(0.3));
    assert_eq!(limiter.status(later(1.0)).limits, known);
    let cached = [old[0], old[1], ("age", "7")];
    assert_eq!(
        record_response(&mut limiter, tokens[2], ResponseOutcome::Accepted, &cached, later(0.4)),
        None
    );
    assert_eq!(limiter.status(later(1.0)).limits, known);
}

#[test]
fn throttle_with_units_remaining_reveals_a_hidden_limit() {
    let mut limiter = limiter();
    let headers =
        [("ratelimit", "\"a\";r=500;t=3600"), ("ratelimit-policy", "\"a\";q=1000;w=3600")];
    let token = send(&mut limiter, NOW);
    record_response(&mut limiter, token, ResponseOutcome::Accepted, &headers, NOW);
    assert_eq!(limiter.status(NOW).rate_source, RateSource::Headers);

    let now = later(20.0);
    let block = record_throttle(&mut limiter, &headers, now).expect("it is blocked");
    let now = block.until.after(Duration::from_secs(10));
    let token = send(&mut limiter, now);
    record_response(&mut limiter, token, ResponseOutcome::Accepted, &headers, now);
    assert!(limiter.status(now).estimated_rate.is_some());
}

#[test]
fn the_tightest_of_several_policies_counts_and_the_reserve_is_left() {
    let headers = [
        ("ratelimit-policy", "\"minute\";q=600;w=60, \"hour\";q=1200;w=3600"),
        ("ratelimit", "\"minute\";r=600;t=60, \"hour\";r=1200;t=3600"),
    ];
    for (reserve, rate) in [(0.0, 20.0), (0.5, 10.0)] {
        let policy = RateLimitPolicy { reserve, ..RateLimitPolicy::default() };
        let mut limiter = RateLimiter::new(policy, NOW);
        let token = send(&mut limiter, NOW);
        record_response(&mut limiter, token, ResponseOutcome::Accepted, &headers, NOW);
        let per_minute = limiter.status(NOW).rate.expect("it is paced").get() * 60.0;
        assert!((per_minute - rate).abs() < 0.1, "{per_minute}");
    }
}

#[test]
fn non_adaptive_modes_obey_retry_after_and_learn_nothing() {
    let policy = RateLimitPolicy { mode: RateLimitMode::Off, ..RateLimitPolicy::default() };
    let mut limiter = RateLimiter::new(policy, NOW);
    let block = record_throttle(&mut limiter, &[], NOW).expect("it is blocked");
    assert_eq!(block.until, later(300.0));

    let token = send(&mut limiter, block.until);
    record_response(&mut limiter, token, ResponseOutcome::Accepted, &[], block.until);
    let status = limiter.status(block.until);
    assert_eq!((status.rate, status.estimate_cycles), (None, 0));
}

fn restored(limiter: &RateLimiter, now: Timestamp) -> RateLimiter {
    let state = through_json(&limiter.to_state(state_time(limiter)));
    RateLimiter::restore(RateLimitPolicy::default(), &state, now)
}

/// Time of the last write: the state is written on events, and none follows the last response.
fn state_time(limiter: &RateLimiter) -> Timestamp {
    limiter.block.block().map_or(NOW, |block| block.until.min(later(1.0)))
}

fn through_json(state: &RateLimiterState) -> RateLimiterState {
    let text = serde_json::to_string(state).expect("it is plain data");
    serde_json::from_str(&text).expect("it reads what it wrote")
}

#[test]
fn two_processes_continue_from_each_others_state() {
    let (mut first, mut second) = (limiter(), limiter());
    let early = send(&mut first, NOW);
    let block = record_throttle(&mut second, &[("retry-after", "60")], NOW).expect("it is blocked");
    first.merge_from_peer(&through_json(&second.to_state(NOW)), NOW);
    assert_eq!(first.current_block(NOW), Some(&block));
    record_response(&mut first, early, ResponseOutcome::Accepted, &[], later(1.0));
    assert_eq!(first.current_block(later(2.0)), Some(&block), "it was sent before the block");

    let token = send(&mut first, block.until);
    second.merge_from_peer(&through_json(&first.to_state(block.until)), block.until);
    assert!(matches!(
        second.admit(1, block.until),
        SendDecision::Wait { reason: WaitReason::Probing, .. }
    ));
    record_response(&mut first, token, ResponseOutcome::Accepted, &[], block.until);
    second.merge_from_peer(&through_json(&first.to_state(block.until)), block.until);
    assert_eq!(second.status(block.until).block, None);
    assert_eq!(second.status(block.until).rate, first.status(block.until).rate);
}

#[test]
fn clock_set_back_does_not_lengthen_a_wait() {
    let day = Duration::from_secs(86_400);
    let mut limiter = limiter();
    let block =
        record_throttle(&mut limiter, &[("retry-after", "60")], NOW).expect("it is blocked");
    let state = limiter.to_state(NOW);

    let a_day_before = |at: Timestamp| at.before(day);
    let waits =
        SendDecision::Wait { until: a_day_before(block.until), reason: WaitReason::Blocked };
    assert_eq!(limiter.admit(1, a_day_before(NOW)), waits);
    let mut after_restart =
        RateLimiter::restore(RateLimitPolicy::default(), &state, a_day_before(NOW));
    assert_eq!(after_restart.admit(1, a_day_before(NOW)), waits);

    let _probe = send(&mut limiter, a_day_before(block.until));
    assert!(matches!(limiter.admit(1, a_day_before(block.until)), SendDecision::Wait { .. }));
    let two_days_back = a_day_before(a_day_before(block.until));
    let decision = limiter.admit(1, two_days_back);
    let is_probing = matches!(decision, SendDecision::Wait { reason: WaitReason::Probing, .. });
    assert!(!is_probing, "the probe timeout does not last a day: {decision:?}");
}

#[test]
fn clock_set_back_keeps_the_pacing_delay() {
    let cap = Some(Rate::from_units(1.0, Duration::from_secs(10)));
    let mut limiter = RateLimiter::new(RateLimitPolicy { cap, ..RateLimitPolicy::default() }, NOW);
    let _sent = send(&mut limiter, NOW);

    let earlier = NOW.before(Duration::from_secs(86_400));
    let waits = SendDecision::Wait {
        until: earlier.after(Duration::from_secs(10)),
        reason: WaitReason::Pacing,
    };
    assert_eq!(limiter.admit(1, earlier), waits);
}

#[test]
fn clock_step_during_a_wait_keeps_its_length() {
    let day = Duration::from_secs(86_400);
    for set_clock in [Timestamp::before as fn(Timestamp, Duration) -> Timestamp, Timestamp::after] {
        let mut limiter = limiter();
        let block =
            record_throttle(&mut limiter, &[("retry-after", "60")], NOW).expect("it is blocked");
        let step = ClockStep::between(NOW, set_clock(NOW, day)).expect("the times differ");

        limiter.shift_by(step);

        let until = set_clock(block.until, day);
        let just_before = Timestamp(until.0 - 1);
        assert_eq!(
            limiter.admit(1, just_before),
            SendDecision::Wait { until, reason: WaitReason::Blocked }
        );
        assert!(matches!(limiter.admit(1, until), SendDecision::Admitted(_)));
    }
}
