//! Tests of idle times: an idle night, a suspended machine, a clock that was set.

use proptest::prelude::*;

use super::*;

const START: Timestamp = Timestamp(1_800_000_000_000);
const RESPONSE_TIME: Duration = Duration::from_millis(20);
const NIGHT: Duration = Duration::from_secs(8 * 3600);

/// Interruption between a block and the next request.
#[derive(Clone, Copy, Debug)]
enum Interruption {
    None,
    /// The process continues after this time as if nothing had happened.
    Suspended(Duration),
    /// The process ends, and another starts after this time.
    Restarted(Duration),
    /// The clock is set forward or back.
    ClockSet {
        is_forward: bool,
        by: Duration,
    },
}

/// Time given by a throttle.
#[derive(Clone, Copy, Debug)]
enum ThrottleTime {
    RetryAfter(u64),
    NotGiven,
}

/// Sends a request as soon as it is admitted, and records its response.
fn exchange(
    limiter: &mut RateLimiter,
    outcome: ResponseOutcome,
    retry_after: Option<Duration>,
    now: &mut Timestamp,
) {
    let token = loop {
        match limiter.admit(1, *now) {
            SendDecision::Admitted(token) => break token,
            SendDecision::Wait { until, .. } => *now = until,
        }
    };
    *now = now.after(RESPONSE_TIME);
    let headers = ReportedLimits { retry_after, ..ReportedLimits::default() };
    let _block: Option<Block> = limiter.record_response(
        token,
        &RateLimitResponse { outcome, reported: &headers },
        *now,
        RandomSample(0),
    );
}

/// Runs accepted requests, one throttle, the interruption, and more accepted requests.
fn throttle_once(
    accepted: u32,
    throttle_time: ThrottleTime,
    interruption: Interruption,
) -> (RateLimiter, Timestamp) {
    let mut limiter = RateLimiter::new(RateLimitPolicy::default(), START);
    let mut now = START;
    for _ in 0..accepted {
        exchange(&mut limiter, ResponseOutcome::Accepted, None, &mut now);
    }
    let retry_after = match throttle_time {
        ThrottleTime::RetryAfter(seconds) => Some(Duration::from_secs(seconds)),
        ThrottleTime::NotGiven => None,
    };
    exchange(&mut limiter, ResponseOutcome::Throttled, retry_after, &mut now);
    let restore = |limiter: &RateLimiter, written_at: Timestamp, now: Timestamp| {
        RateLimiter::restore(RateLimitPolicy::default(), &limiter.to_state(written_at), now)
    };
    match interruption {
        Interruption::None => limiter = restore(&limiter, now, now),
        Interruption::Restarted(downtime) => {
            let written_at = now;
            now = now.after(downtime);
            limiter = restore(&limiter, written_at, now);
        }
        Interruption::Suspended(downtime) => {
            limiter = restore(&limiter, now, now);
            now = now.after(downtime);
        }
        Interruption::ClockSet { is_forward, by } => {
            limiter = restore(&limiter, now, now);
            let new_now = if is_forward { now.after(by) } else { now.before(by) };
            limiter.shift_by(ClockStep::between(now, new_now).expect("the times differ"));
            now = new_now;
        }
    }
    for _ in 0..5 {
        exchange(&mut limiter, ResponseOutcome::Accepted, None, &mut now);
    }
    (limiter, now)
}

/// FAULTS 52: nothing ran for a night during a block.
#[test]
fn idle_night_during_a_block_is_not_learned_as_slow_server() {
    for interruption in [Interruption::Suspended(NIGHT), Interruption::Restarted(NIGHT)] {
        let (limiter, now) = throttle_once(2_000, ThrottleTime::RetryAfter(10), interruption);

        let status = limiter.status(now);

        assert!(
            limiter.estimator.throttle_cost < Duration::from_secs(15),
            "{:?}",
            limiter.estimator.throttle_cost
        );
        let estimate = status.estimated_rate.expect("a cycle is over");
        assert!(estimate.get() > 10.0, "{interruption:?}: {estimate}");
    }
}

/// FAULTS 52: the machine was suspended between two throttles.
#[test]
fn suspend_does_not_lengthen_the_next_block() {
    let mut limiter = RateLimiter::new(RateLimitPolicy::default(), START);
    let mut now = START;
    for _ in 0..9 {
        exchange(&mut limiter, ResponseOutcome::Throttled, None, &mut now);
    }
    now = now.after(NIGHT);

    exchange(&mut limiter, ResponseOutcome::Throttled, None, &mut now);

    let wait = limiter.current_block(now).expect("it is blocked").until.since(now);
    assert!(wait < Duration::from_secs(400), "{wait:?}");
}

proptest! {
    /// FAULTS 52: a suspend, a stop or a clock step after a throttle.
    #[test]
    fn idle_time_does_not_change_the_estimate(
        accepted in 1_u32..3_000,
        throttle_time in prop_oneof![
            (2_u64..600).prop_map(ThrottleTime::RetryAfter),
            Just(ThrottleTime::NotGiven),
        ],
        minutes in 20_u64..3 * 24 * 60,
        kind in 0..4_u32,
    ) {
        let by = Duration::from_secs(minutes * 60);
        let interruption = match kind {
            0 => Interruption::Suspended(by),
            1 => Interruption::Restarted(by),
            _ => Interruption::ClockSet { is_forward: kind == 2, by },
        };
        let (baseline, baseline_now) =
            throttle_once(accepted, throttle_time, Interruption::None);
        let (limiter, now) = throttle_once(accepted, throttle_time, interruption);

        let (expected, actual) = (baseline.status(baseline_now), limiter.status(now));

        prop_assert_eq!(actual.rate_source, expected.rate_source);
        let near = |a: Option<Rate>, b: Option<Rate>| match (a, b) {
            (Some(a), Some(b)) => (a.get() / b.get() - 1.0).abs() < 0.05,
            (a, b) => a == b,
        };
        let is_near = near(actual.estimated_rate, expected.estimated_rate);
        prop_assert!(is_near, "{actual:?}, not {expected:?}");
        prop_assert!(near(actual.rate, expected.rate), "{actual:?}, not {expected:?}");
        let cost = |limiter: &RateLimiter| limiter.estimator.throttle_cost.as_secs_f64();
        prop_assert!((cost(&limiter) - cost(&baseline)).abs() < 2.0, "{}", cost(&limiter));
        prop_assert_eq!(limiter.estimator.cycles, baseline.estimator.cycles);
    }
}
