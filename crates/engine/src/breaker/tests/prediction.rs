//! Predictions of a failure that would open the breaker, and successes that clear its counts.

use super::*;

/// Records a failure; returns true if `would_open` predicted that it opens the breaker.
fn fail_after_prediction(breaker: &mut Breaker, subject: &CallSubject, now: Timestamp) -> bool {
    let permit = permit(breaker, now);
    let before = breaker.clone();
    let would_open = breaker.would_open(permit, subject, &failure(), now);
    assert_eq!(*breaker, before, "a prediction changes nothing");
    let transition = breaker.record_failure(permit, subject, &failure(), now);
    assert_eq!(would_open, transition.is_some(), "{subject:?}: {transition:?}");
    would_open
}

#[test]
fn would_open_predicts_the_failure_that_opens_it() {
    let mut by_streak = breaker();
    let opened =
        [0, 1, 1, 2, 3, 4].map(|number| fail_after_prediction(&mut by_streak, &item(number), NOW));
    assert_eq!(opened, [false, false, false, false, false, true]);

    let mut by_rate = breaker();
    let predicted_at = (0..10).position(|number| {
        succeed(&mut by_rate, NOW);
        fail_after_prediction(&mut by_rate, &item(number), NOW)
    });
    assert_eq!(predicted_at, Some(9));

    let mut half_open = open_breaker();
    let subjects = [item(0), item(8), item(8), item(9)];
    let opened = subjects.map(|subject| fail_after_prediction(&mut half_open, &subject, after(60)));
    assert_eq!(opened, [false, false, false, true], "two that had not failed before");
    let until = half_open.open_until().unwrap();
    assert!(fail_after_prediction(&mut half_open, &CallSubject::Service, until));
}

#[test]
fn a_late_failure_would_open_nothing() {
    let mut breaker = breaker();
    let late = permit(&mut breaker, NOW);
    for number in 0..5 {
        fail(&mut breaker, &item(number), NOW);
    }

    assert!(!breaker.would_open(late, &CallSubject::Service, &failure(), after(1)), "it is open");
    let _probe = permit(&mut breaker, after(60));
    assert!(!breaker.would_open(late, &CallSubject::Service, &failure(), after(61)));
}

#[test]
fn a_clearing_success_empties_a_closed_breaker() {
    let mut breaker = breaker();
    for number in 0..4 {
        fail(&mut breaker, &item(number), NOW);
    }
    let permit = permit(&mut breaker, after(1));

    assert_eq!(breaker.clear_and_record_success(permit, after(1)), None);

    assert_eq!(breaker.consecutive_failures(), 0);
    assert_eq!(
        breaker.failure_rate(after(1)),
        FailureRate { failed: 0, calls: 1 },
        "only the clearing call is left"
    );
    let statistics = breaker.statistics();
    assert_eq!((statistics.calls, statistics.failures, statistics.successes), (5, 4, 1));
    assert!((0..4).all(|number| fail(&mut breaker, &item(number), after(2)).is_none()));
    assert!(fail(&mut breaker, &item(4), after(2)).is_some(), "counting continues");
}

#[test]
fn a_clearing_success_counts_once_when_half_open() {
    let mut breaker = open_breaker();
    let clear = |breaker: &mut Breaker, second: u64| {
        let permit = permit(breaker, after(second));
        breaker.clear_and_record_success(permit, after(second))
    };

    assert_eq!(clear(&mut breaker, 60), None);
    assert_eq!((breaker.state(), breaker.consecutive_successes()), (BreakerState::HalfOpen, 1));
    assert_eq!(succeed(&mut breaker, after(61)), None);
    let transition = clear(&mut breaker, 62).unwrap();

    assert_eq!(
        (transition.to, &*transition.reason),
        (BreakerState::Closed, "3 successes in a row")
    );
}
