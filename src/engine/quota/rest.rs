//! Times in which nothing ran: a night off, a machine that was suspended, a clock that was set.

use proptest::prelude::*;

use super::*;
use crate::engine::ClockStep;

const START: Timestamp = Timestamp(1_800_000_000_000);
const REPLY: Duration = Duration::from_millis(20);
const NIGHT: Duration = Duration::from_secs(8 * 3600);

/// What comes between a hold and the next request.
#[derive(Clone, Copy, Debug)]
enum Between {
    Nothing,
    /// The process goes on as if nothing had been, so much later.
    Suspended(Duration),
    /// The process ended, and another begins so much later.
    Down(Duration),
    /// The clock is set forward, or back.
    Set {
        forward: bool,
        by: Duration,
    },
}

/// How a refusal names the time.
#[derive(Clone, Copy, Debug)]
enum Word {
    RetryAfter(u64),
    None,
}

fn exchange(quota: &mut Quota, outcome: Outcome, told: Option<Duration>, now: &mut Timestamp) {
    let ticket = loop {
        match quota.admit(1, *now) {
            Admission::Go(ticket) => break ticket,
            Admission::Wait { until, .. } => *now = until,
        }
    };
    *now = now.after(REPLY);
    let signals = Signals { told, ..Signals::default() };
    let _hold: Option<Hold> =
        quota.answered(ticket, &Reply { outcome, signals: &signals }, *now, RandomSample(0));
}

/// Requests that are accepted, one that is refused, what comes `between`, and more that are accepted.
fn throttled_once(accepted: u32, word: Word, between: Between) -> (Quota, Timestamp) {
    let mut quota = Quota::new(QuotaPolicy::default(), START);
    let mut now = START;
    for _ in 0..accepted {
        exchange(&mut quota, Outcome::Accepted, None, &mut now);
    }
    let told = match word {
        Word::RetryAfter(seconds) => Some(Duration::from_secs(seconds)),
        Word::None => None,
    };
    exchange(&mut quota, Outcome::Throttled, told, &mut now);
    let recall = |quota: &Quota, written: Timestamp, now: Timestamp| {
        Quota::recall(QuotaPolicy::default(), &quota.memory(written), now)
    };
    match between {
        Between::Nothing => quota = recall(&quota, now, now),
        Between::Down(off) => {
            let written = now;
            now = now.after(off);
            quota = recall(&quota, written, now);
        }
        Between::Suspended(off) => {
            quota = recall(&quota, now, now);
            now = now.after(off);
        }
        Between::Set { forward, by } => {
            quota = recall(&quota, now, now);
            let set = if forward { now.after(by) } else { now.before(by) };
            quota.move_by(ClockStep::between(now, set).expect("it is one"));
            now = set;
        }
    }
    for _ in 0..5 {
        exchange(&mut quota, Outcome::Accepted, None, &mut now);
    }
    (quota, now)
}

/// FAULTS 52.
#[test]
fn a_night_off_in_a_hold_is_not_learned_as_a_slow_server() {
    for between in [Between::Suspended(NIGHT), Between::Down(NIGHT)] {
        let (quota, now) = throttled_once(2_000, Word::RetryAfter(10), between);

        let standing = quota.standing(now);

        assert!(quota.learner.cost < Duration::from_secs(15), "{:?}", quota.learner.cost);
        let estimate = standing.estimate.expect("a cycle is over");
        assert!(estimate.get() > 10.0, "{between:?}: {estimate}");
    }
}

/// FAULTS 52.
#[test]
fn a_suspended_machine_does_not_make_the_next_hold_longer() {
    let mut quota = Quota::new(QuotaPolicy::default(), START);
    let mut now = START;
    for _ in 0..9 {
        exchange(&mut quota, Outcome::Throttled, None, &mut now);
    }
    now = now.after(NIGHT);

    exchange(&mut quota, Outcome::Throttled, None, &mut now);

    let hold = quota.held(now).expect("it closes").until.since(now);
    assert!(hold < Duration::from_secs(400), "{hold:?}");
}

proptest! {
    /// FAULTS 52.
    #[test]
    fn what_does_not_run_teaches_nothing(
        accepted in 1_u32..3_000,
        word in prop_oneof![(2_u64..600).prop_map(Word::RetryAfter), Just(Word::None)],
        minutes in 20_u64..3 * 24 * 60,
        kind in 0..4_u32,
    ) {
        let by = Duration::from_secs(minutes * 60);
        let between = match kind {
            0 => Between::Suspended(by),
            1 => Between::Down(by),
            _ => Between::Set { forward: kind == 2, by },
        };
        let (plain, plain_now) = throttled_once(accepted, word, Between::Nothing);
        let (quota, now) = throttled_once(accepted, word, between);

        let (expected, learned) = (plain.standing(plain_now), quota.standing(now));

        prop_assert_eq!(learned.basis, expected.basis);
        let near = |a: Option<Rate>, b: Option<Rate>| match (a, b) {
            (Some(a), Some(b)) => (a.get() / b.get() - 1.0).abs() < 0.05,
            (a, b) => a == b,
        };
        prop_assert!(near(learned.estimate, expected.estimate), "{learned:?}, not {expected:?}");
        prop_assert!(near(learned.rate, expected.rate), "{learned:?}, not {expected:?}");
        let cost = |quota: &Quota| quota.learner.cost.as_secs_f64();
        prop_assert!((cost(&quota) - cost(&plain)).abs() < 2.0, "{}", cost(&quota));
        prop_assert_eq!(quota.learner.cycles, plain.learner.cycles);
    }
}
