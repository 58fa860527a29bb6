//! Tests of idle times: an idle night, a suspended machine, a clock that was set.

use proptest::prelude::*;

use super::*;
use crate::engine::ClockStep;

const START: Timestamp = Timestamp(1_800_000_000_000);
const REPLY_TIME: Duration = Duration::from_millis(20);
const NIGHT: Duration = Duration::from_secs(8 * 3600);

/// Interruption between a block and the next request.
#[derive(Clone, Copy, Debug)]
enum Interruption {
    Uninterrupted,
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

fn exchange(
    quota: &mut RateLimiter,
    outcome: ReplyOutcome,
    told: Option<Duration>,
    now: &mut Timestamp,
) {
    let ticket = loop {
        match quota.admit(1, *now) {
            SendDecision::Admitted(ticket) => break ticket,
            SendDecision::Wait { until, .. } => *now = until,
        }
    };
    *now = now.after(REPLY_TIME);
    let signals = RateLimitHeaders { retry_after: told, ..RateLimitHeaders::default() };
    let _hold: Option<Block> = quota.record_reply(
        ticket,
        &RateLimitReply { outcome, headers: &signals },
        *now,
        RandomSample(0),
    );
}

/// Runs accepted requests, one throttle, the interruption, and more accepted requests.
fn throttle_once(
    accepted: u32,
    word: ThrottleTime,
    between: Interruption,
) -> (RateLimiter, Timestamp) {
    let mut quota = RateLimiter::new(RateLimitPolicy::default(), START);
    let mut now = START;
    for _ in 0..accepted {
        exchange(&mut quota, ReplyOutcome::Accepted, None, &mut now);
    }
    let told = match word {
        ThrottleTime::RetryAfter(seconds) => Some(Duration::from_secs(seconds)),
        ThrottleTime::NotGiven => None,
    };
    exchange(&mut quota, ReplyOutcome::Throttled, told, &mut now);
    let recall = |quota: &RateLimiter, written: Timestamp, now: Timestamp| {
        RateLimiter::restore(RateLimitPolicy::default(), &quota.to_state(written), now)
    };
    match between {
        Interruption::Uninterrupted => quota = recall(&quota, now, now),
        Interruption::Restarted(off) => {
            let written = now;
            now = now.after(off);
            quota = recall(&quota, written, now);
        }
        Interruption::Suspended(off) => {
            quota = recall(&quota, now, now);
            now = now.after(off);
        }
        Interruption::ClockSet { is_forward: forward, by } => {
            quota = recall(&quota, now, now);
            let set = if forward { now.after(by) } else { now.before(by) };
            quota.shift_by(ClockStep::between(now, set).expect("it is one"));
            now = set;
        }
    }
    for _ in 0..5 {
        exchange(&mut quota, ReplyOutcome::Accepted, None, &mut now);
    }
    (quota, now)
}

/// FAULTS 52.
#[test]
fn idle_night_during_a_block_is_not_learned_as_slow_server() {
    for between in [Interruption::Suspended(NIGHT), Interruption::Restarted(NIGHT)] {
        let (quota, now) = throttle_once(2_000, ThrottleTime::RetryAfter(10), between);

        let standing = quota.status(now);

        assert!(
            quota.estimator.throttle_cost < Duration::from_secs(15),
            "{:?}",
            quota.estimator.throttle_cost
        );
        let estimate = standing.estimated_rate.expect("a cycle is over");
        assert!(estimate.get() > 10.0, "{between:?}: {estimate}");
    }
}

/// FAULTS 52.
#[test]
fn suspend_does_not_lengthen_the_next_block() {
    let mut quota = RateLimiter::new(RateLimitPolicy::default(), START);
    let mut now = START;
    for _ in 0..9 {
        exchange(&mut quota, ReplyOutcome::Throttled, None, &mut now);
    }
    now = now.after(NIGHT);

    exchange(&mut quota, ReplyOutcome::Throttled, None, &mut now);

    let hold = quota.current_block(now).expect("it closes").until.since(now);
    assert!(hold < Duration::from_secs(400), "{hold:?}");
}

proptest! {
    /// FAULTS 52.
    #[test]
    fn idle_time_does_not_change_the_estimate(
        accepted in 1_u32..3_000,
        word in prop_oneof![(2_u64..600).prop_map(ThrottleTime::RetryAfter), Just(ThrottleTime::NotGiven)],
        minutes in 20_u64..3 * 24 * 60,
        kind in 0..4_u32,
    ) {
        let by = Duration::from_secs(minutes * 60);
        let between = match kind {
            0 => Interruption::Suspended(by),
            1 => Interruption::Restarted(by),
            _ => Interruption::ClockSet { is_forward: kind == 2, by },
        };
        let (plain, plain_now) = throttle_once(accepted, word, Interruption::Uninterrupted);
        let (quota, now) = throttle_once(accepted, word, between);

        let (expected, learned) = (plain.status(plain_now), quota.status(now));

        prop_assert_eq!(learned.rate_source, expected.rate_source);
        let near = |a: Option<Rate>, b: Option<Rate>| match (a, b) {
            (Some(a), Some(b)) => (a.get() / b.get() - 1.0).abs() < 0.05,
            (a, b) => a == b,
        };
        prop_assert!(near(learned.estimated_rate, expected.estimated_rate), "{learned:?}, not {expected:?}");
        prop_assert!(near(learned.rate, expected.rate), "{learned:?}, not {expected:?}");
        let cost = |quota: &RateLimiter| quota.estimator.throttle_cost.as_secs_f64();
        prop_assert!((cost(&quota) - cost(&plain)).abs() < 2.0, "{}", cost(&quota));
        prop_assert_eq!(quota.estimator.cycles, plain.estimator.cycles);
    }
}
