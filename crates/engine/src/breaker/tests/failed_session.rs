//! Breakers that are half-open because a session failed.

use super::*;

/// Returns a breaker that is half-open because a session failed.
fn breaker_after_failed_session() -> Breaker {
    let mut breaker = breaker();
    assert!(breaker.require_probes(NOW).is_some());
    breaker
}

#[test]
fn a_failed_session_makes_a_closed_breaker_half_open() {
    let mut breaker = breaker();
    let early = permit(&mut breaker, NOW);

    let transition = breaker.require_probes(NOW).unwrap();

    assert_eq!((transition.from, transition.to), (BreakerState::Closed, BreakerState::HalfOpen));
    assert_eq!(transition.reason, "a session failed: one request at a time is admitted");
    assert_eq!(breaker.require_probes(after(1)), None, "it is half-open already");
    assert_eq!(breaker.record_success(early, after(1)), None);
    assert_eq!(breaker.consecutive_successes(), 0, "the result is from before");
    let probe = permit(&mut breaker, after(1));
    assert_eq!(breaker.admit(after(1)).0, Admission::ProbeInFlight);
    assert_eq!(breaker.record_success(probe, after(2)), None);
    assert_eq!(succeed(&mut breaker, after(3)), None);
    let transition = succeed(&mut breaker, after(4)).unwrap();
    assert_eq!((transition.from, transition.to), (BreakerState::HalfOpen, BreakerState::Closed));
}

#[test]
fn an_open_or_testing_breaker_ignores_a_failed_session() {
    let mut breaker = open_breaker();
    assert_eq!(breaker.require_probes(after(1)), None);
    assert_eq!(breaker.open_until(), Some(after(60)));
    succeed(&mut breaker, after(60));

    assert_eq!(breaker.require_probes(after(61)), None);

    assert_eq!((breaker.consecutive_successes(), breaker.is_in_open_period()), (1, true));
}

#[test]
fn a_cancelled_or_neutral_request_admits_the_next_one() {
    let mut breaker = breaker_after_failed_session();
    let first = permit(&mut breaker, NOW);
    breaker.record_cancelled(first);
    let second = permit(&mut breaker, NOW);
    breaker.record_neutral(second);

    assert!(matches!(breaker.admit(NOW).0, Admission::Admitted(_)));
}

#[test]
fn failures_before_and_after_a_failed_session_are_added() {
    let mut breaker = breaker();
    for _ in 0..2 {
        assert_eq!(fail(&mut breaker, &CallSubject::Service, NOW), None);
    }
    breaker.require_probes(after(1));
    assert_eq!(fail(&mut breaker, &CallSubject::Service, after(1)), None);
    let mut breaker = Breaker::restore("example", POLICY, &breaker.to_persisted(), after(1));
    assert_eq!(fail(&mut breaker, &CallSubject::Service, after(1)), None);

    let transition = fail(&mut breaker, &CallSubject::Service, after(1)).unwrap();

    assert_eq!(transition.to, BreakerState::Open);
    assert_eq!(transition.reason, "5 failures in a row: 503 from example");
    assert_eq!(breaker.open_until(), Some(after(61)), "it is the first open period");
    assert!(breaker.is_in_open_period());
}

#[test]
fn successes_of_other_sources_keep_it_from_opening() {
    let mut breaker = breaker();
    for round in 0..20 {
        breaker.require_probes(after(round));
        assert_eq!(fail(&mut breaker, &CallSubject::Service, after(round)), None);
        drop(succeed(&mut breaker, after(round)));
    }

    assert_ne!(breaker.state(), BreakerState::Open);
}

#[test]
fn items_that_failed_before_the_session_do_not_open_it() {
    let mut breaker = breaker();
    fail(&mut breaker, &item(0), NOW);
    succeed(&mut breaker, NOW);
    for number in 1..4 {
        fail(&mut breaker, &item(number), NOW);
    }
    breaker.require_probes(after(1));

    for number in [0, 1, 2, 3, 8, 8, 0] {
        assert_eq!(fail(&mut breaker, &item(number), after(2)), None, "{number}");
    }

    assert!(fail(&mut breaker, &item(9), after(2)).is_some());
}

#[test]
fn a_failed_session_begins_no_open_period() {
    let mut breaker = breaker_after_failed_session();
    let mut restored = Breaker::restore("example", POLICY, &breaker.to_persisted(), after(1));

    for breaker in [&mut breaker, &mut restored] {
        assert_eq!((breaker.state(), breaker.is_in_open_period()), (BreakerState::HalfOpen, false));
        assert_eq!(breaker.to_persisted().open_periods(), []);
        for _ in 0..5 {
            drop(fail(breaker, &CallSubject::Service, after(2)));
        }
        let periods = breaker.to_persisted().open_periods();
        assert_eq!((periods.len(), periods[0].opened_at, periods[0].generation), (1, after(2), 2));
    }
}

#[test]
fn failed_sessions_do_not_displace_open_periods() {
    let mut breaker = open_breaker();
    assert_eq!((0..3).filter_map(|_| succeed(&mut breaker, after(60))).count(), 1);
    let periods = breaker.to_persisted().open_periods();
    for second in 100..150 {
        assert!(breaker.require_probes(after(second)).is_some());
        assert_eq!((0..3).filter_map(|_| succeed(&mut breaker, after(second))).count(), 1);
    }

    assert_eq!(breaker.to_persisted().open_periods(), periods);
}
