//! Tests of the breaker, by example.

mod failed_session;
mod prediction;

use super::*;
use crate::RequestScope;

pub(super) const NOW: Timestamp = Timestamp(1_000_000_000);
pub(super) const POLICY: BreakerPolicy = BreakerPolicy::DEFAULT;

pub(super) fn breaker() -> Breaker {
    Breaker::new("example", POLICY, NOW)
}

pub(super) fn after(seconds: u64) -> Timestamp {
    NOW.after(Duration::from_secs(seconds))
}

pub(super) fn item(number: u64) -> CallSubject {
    CallSubject::Item(format!("work/{number}"))
}

pub(super) fn failure() -> Failure {
    Failure::new(Cause::Server, "503 from example")
}

pub(super) fn permit(breaker: &mut Breaker, now: Timestamp) -> BreakerPermit {
    match breaker.admit(now) {
        (Admission::Admitted(permit), _) => permit,
        (other, _) => panic!("{other:?}"),
    }
}

pub(super) fn fail(
    breaker: &mut Breaker,
    subject: &CallSubject,
    now: Timestamp,
) -> Option<BreakerTransition> {
    let permit = permit(breaker, now);
    breaker.record_failure(permit, subject, &failure(), now)
}

pub(super) fn succeed(breaker: &mut Breaker, now: Timestamp) -> Option<BreakerTransition> {
    let permit = permit(breaker, now);
    breaker.record_success(permit, now)
}

/// Returns a breaker that five failures have just opened.
pub(super) fn open_breaker() -> Breaker {
    let mut breaker = breaker();
    let transitions: Vec<_> =
        (0..5).filter_map(|number| fail(&mut breaker, &item(number), NOW)).collect();
    assert_eq!(transitions.len(), 1, "{transitions:?}");
    breaker
}

#[test]
fn five_distinct_failures_in_a_row_open_it() {
    let breaker = open_breaker();

    assert_eq!(breaker.state(), BreakerState::Open);
    assert_eq!(breaker.open_until(), Some(after(60)));
    let transition = breaker.last_transition().unwrap();
    assert_eq!((transition.from, transition.to), (BreakerState::Closed, BreakerState::Open));
    assert_eq!(transition.severity, Severity::Critical);
    assert_eq!(transition.reason, "5 failures in a row: 503 from example");
}

#[test]
fn one_failing_item_never_opens_it() {
    let mut breaker = breaker();

    let transitions = (0..1000).filter_map(|second| fail(&mut breaker, &item(7), after(second)));

    assert_eq!(transitions.count(), 0);
    assert_eq!(breaker.consecutive_failures(), 1);
}

#[test]
fn each_failure_of_the_service_itself_counts() {
    let mut breaker = breaker();

    let transitions: Vec<_> =
        (0..5).filter_map(|_| fail(&mut breaker, &CallSubject::Service, NOW)).collect();

    assert_eq!(transitions.len(), 1);
}

#[test]
fn a_success_resets_the_streak() {
    let mut breaker = breaker();
    for number in 0..4 {
        assert_eq!(fail(&mut breaker, &item(number), NOW), None);
    }
    succeed(&mut breaker, NOW);

    assert!((4..8).all(|number| fail(&mut breaker, &item(number), NOW).is_none()));
}

#[test]
fn a_slow_source_opens_it_by_its_failure_rate() {
    let mut breaker = breaker();
    let mut opened = None;
    for call in 0..40 {
        let now = after(call * 25);
        if call % 2 == 0 {
            succeed(&mut breaker, now);
        } else if let Some(transition) = fail(&mut breaker, &item(call), now) {
            opened = Some((call, transition.reason));
            break;
        }
    }

    assert_eq!(opened, Some((19, "10 of 20 calls failed: 503 from example".to_owned())));
}

#[test]
fn a_fast_source_is_judged_by_its_last_hundred_calls() {
    let mut breaker = breaker();
    for _ in 0..10_000 {
        succeed(&mut breaker, NOW);
    }

    let opened = (0..400).position(|call| {
        let now = after(1);
        if call % 2 == 0 {
            succeed(&mut breaker, now).is_some()
        } else {
            fail(&mut breaker, &item(call), now).is_some()
        }
    });

    assert_eq!(opened, Some(99));
}

#[test]
fn calls_older_than_the_window_are_dropped() {
    let mut breaker = breaker();
    for call in 0..19 {
        if call % 2 == 0 {
            fail(&mut breaker, &item(call), NOW);
        } else {
            succeed(&mut breaker, NOW);
        }
    }
    assert_eq!(breaker.failure_rate(after(599)), FailureRate { failed: 10, calls: 19 });

    assert_eq!(fail(&mut breaker, &item(99), after(600)), None);

    assert_eq!(breaker.failure_rate(after(600)), FailureRate { failed: 1, calls: 1 });
}

#[test]
fn an_open_breaker_rejects_calls_and_then_admits_a_probe() {
    let mut breaker = open_breaker();
    assert_eq!(breaker.admit(after(59)), (Admission::Rejected { until: Some(after(60)) }, None));
    assert_eq!(breaker.statistics().rejected, 1);

    let (first, transition) = breaker.admit(after(60));
    let (second, none) = breaker.admit(after(60));

    assert!(matches!(first, Admission::Admitted(_)), "{first:?}");
    assert_eq!(second, Admission::ProbeInFlight);
    assert_eq!(none, None);
    let transition = transition.unwrap();
    assert_eq!((transition.from, transition.to), (BreakerState::Open, BreakerState::HalfOpen));
    assert_eq!(transition.severity, Severity::Warning);
}

#[test]
fn three_successes_in_a_row_close_it() {
    let mut breaker = open_breaker();
    assert_eq!(succeed(&mut breaker, after(60)), None);
    assert_eq!(succeed(&mut breaker, after(61)), None);

    let transition = succeed(&mut breaker, after(62)).unwrap();

    assert_eq!((transition.from, transition.to), (BreakerState::HalfOpen, BreakerState::Closed));
    assert_eq!(transition.severity, Severity::Info);
    assert_eq!(transition.reason, "3 successes in a row");
    assert!((0..4).all(|number| fail(&mut breaker, &item(number), after(63)).is_none()));
}

#[test]
fn a_failed_probe_doubles_the_open_time_up_to_a_limit() {
    let mut breaker = open_breaker();
    let mut now = after(60);
    let mut waits = Vec::new();
    for _ in 0..6 {
        let transition = fail(&mut breaker, &CallSubject::Service, now).unwrap();
        assert_eq!((transition.from, transition.to), (BreakerState::HalfOpen, BreakerState::Open));
        assert_eq!(transition.severity, Severity::Critical);
        let until = breaker.open_until().unwrap();
        waits.push(until.since(now).as_secs());
        now = until;
    }

    assert_eq!(waits, [120, 240, 480, 600, 600, 600]);
    for _ in 0..3 {
        succeed(&mut breaker, now);
    }
    for number in 0..5 {
        fail(&mut breaker, &item(number), now);
    }
    assert_eq!(
        breaker.open_until(),
        Some(now.after(POLICY.recovery_timeout)),
        "closing resets the doubling"
    );
}

#[test]
fn items_that_failed_before_do_not_reopen_it() {
    let mut breaker = open_breaker();
    succeed(&mut breaker, after(60));

    for number in [0, 1, 2, 3, 4, 99, 99, 0] {
        assert_eq!(fail(&mut breaker, &item(number), after(61)), None, "{number}");
    }
    assert_eq!(succeed(&mut breaker, after(62)), None);
    assert_eq!(
        fail(&mut breaker, &item(100), after(63)),
        None,
        "one new item alone proves nothing"
    );

    let transition = fail(&mut breaker, &item(101), after(64)).unwrap();
    assert_eq!(
        (transition.to, &*transition.reason),
        (BreakerState::Open, "still failing: 503 from example")
    );
    let mut restored = Breaker::restore("example", POLICY, &breaker.to_persisted(), after(64));
    for number in [0, 99, 100, 101] {
        assert_eq!(
            fail(&mut restored, &item(number), after(64 + 120)),
            None,
            "{number} after a restart"
        );
    }
}

#[test]
fn a_late_result_from_before_it_opened_changes_nothing() {
    let mut breaker = breaker();
    let early: Vec<_> = (0..8).map(|_| permit(&mut breaker, NOW)).collect();
    for number in 0..5 {
        fail(&mut breaker, &item(number), NOW);
    }
    assert_eq!(breaker.record_success(early[0], after(1)), None);
    assert_eq!(breaker.state(), BreakerState::Open);
    let probe = permit(&mut breaker, after(60));

    for late in &early[1..5] {
        assert_eq!(breaker.record_success(*late, after(61)), None);
    }
    assert_eq!(breaker.record_failure(early[5], &item(9), &failure(), after(61)), None);

    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    assert_eq!(
        breaker.admit(after(61)).0,
        Admission::ProbeInFlight,
        "the probe is still in flight"
    );
    assert_eq!(breaker.record_success(probe, after(62)), None);
    assert_eq!(breaker.consecutive_successes(), 1);
}

#[test]
fn a_cancelled_or_neutral_probe_admits_the_next_one() {
    let mut breaker = open_breaker();
    let first = permit(&mut breaker, after(60));
    breaker.record_cancelled(first);
    let second = permit(&mut breaker, after(60));
    breaker.record_neutral(second);

    assert!(matches!(breaker.admit(after(60)).0, Admission::Admitted(_)));
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
}

#[test]
fn a_manual_open_lasts_until_a_manual_close() {
    let mut breaker = breaker();
    let transition = breaker.apply_command(ManualCommand::Open { until: None }, NOW).unwrap();
    assert_eq!((transition.to, transition.severity), (BreakerState::Open, Severity::Critical));

    let year = after(365 * 86_400);
    assert_eq!(breaker.admit(year).0, Admission::Rejected { until: None });
    assert_eq!(breaker.apply_command(ManualCommand::TryNow, year), None);
    assert_eq!(
        breaker.apply_command(ManualCommand::Open { until: None }, year),
        None,
        "it is open already"
    );

    assert_eq!(
        breaker.apply_command(ManualCommand::Close, year).map(|transition| transition.to),
        Some(BreakerState::Closed)
    );
    assert!(matches!(breaker.admit(year).0, Admission::Admitted(_)));
}

#[test]
fn a_timed_manual_open_admits_a_probe_afterwards() {
    let mut breaker = breaker();
    breaker.apply_command(ManualCommand::Open { until: Some(after(7200)) }, NOW);

    assert_eq!(breaker.admit(after(7199)).0, Admission::Rejected { until: Some(after(7200)) });
    assert!(matches!(breaker.admit(after(7200)).0, Admission::Admitted(_)));
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
}

#[test]
fn a_reset_clears_the_statistics() {
    let mut breaker = open_breaker();

    let transition = breaker.apply_command(ManualCommand::Reset, after(1)).unwrap();

    assert_eq!(transition.to, BreakerState::Closed);
    assert_eq!(breaker.statistics(), BreakerStatistics::default());
    assert_eq!(breaker.last_failure(), None);
    assert_eq!(breaker.statistics_since(), after(1));
    for number in 0..4 {
        fail(&mut breaker, &item(number), after(1));
    }
    let generation = breaker.generation();
    assert_eq!(breaker.apply_command(ManualCommand::Reset, after(2)), None, "it was closed");
    assert_ne!(breaker.generation(), generation, "other processes notice the reset");
    assert_eq!(breaker.consecutive_failures(), 0);
}

#[test]
fn a_manual_retry_skips_the_wait() {
    let mut breaker = open_breaker();

    assert_eq!(
        breaker.apply_command(ManualCommand::TryNow, after(1)).map(|transition| transition.to),
        Some(BreakerState::HalfOpen)
    );

    assert!(matches!(breaker.admit(after(1)).0, Admission::Admitted(_)));
}

#[test]
fn an_open_breaker_stays_open_across_a_restart() {
    let mut breaker =
        Breaker::restore("example", POLICY, &open_breaker().to_persisted(), after(30));

    assert_eq!(breaker.admit(after(59)).0, Admission::Rejected { until: Some(after(60)) });
    assert!(matches!(breaker.admit(after(60)).0, Admission::Admitted(_)));
    assert_eq!(
        breaker.last_transition().map(|transition| transition.to),
        Some(BreakerState::HalfOpen)
    );
}

#[test]
fn a_probe_that_died_with_its_process_is_sent_again() {
    let mut breaker = open_breaker();
    succeed(&mut breaker, after(60));
    let _probe = permit(&mut breaker, after(61));

    let mut restored = Breaker::restore("example", POLICY, &breaker.to_persisted(), after(62));

    assert_eq!(restored.consecutive_successes(), 1);
    assert!(matches!(restored.admit(after(62)).0, Admission::Admitted(_)));
}

#[test]
fn old_failures_decay_after_a_restart() {
    let mut breaker = breaker();
    for number in 0..4 {
        fail(&mut breaker, &item(number), NOW);
    }
    let persisted = breaker.to_persisted();

    let counts = [0, 200, 400, 599, 600].map(|seconds| {
        Breaker::restore("example", POLICY, &persisted, after(seconds)).consecutive_failures()
    });

    assert_eq!(counts, [4, 2, 1, 0, 0]);
}

#[test]
fn a_backward_clock_step_does_not_keep_it_open() {
    let mut breaker = open_breaker();
    let set_back = |seconds: i64| Timestamp(NOW.0 - seconds * 1000);

    assert!(matches!(breaker.admit(set_back(10)).0, Admission::Rejected { .. }));
    assert_eq!(breaker.rejecting_until(set_back(86_400)), None);
    assert!(matches!(breaker.admit(set_back(86_400)).0, Admission::Admitted(_)));
}

#[test]
fn only_provider_faults_count_against_a_provider() {
    let failing_causes = |scope| {
        let causes = Cause::ALL.into_iter();
        let failing_causes = causes
            .filter(|cause| HealthSignal::for_provider(*cause, scope) == HealthSignal::Failure);
        failing_causes.map(Cause::name).collect::<Vec<_>>().join(" ")
    };

    assert_eq!(
        failing_causes(RequestScope::Item),
        "server connection tls timeout truncated unknown"
    );
    assert_eq!(
        failing_causes(RequestScope::Listing),
        "not_found server connection tls timeout truncated unknown"
    );
    assert_eq!(
        HealthSignal::for_provider(Cause::NotFound, RequestScope::Item),
        HealthSignal::Success
    );
    let storage =
        Cause::ALL.into_iter().filter(|c| HealthSignal::for_storage(*c) == HealthSignal::Failure);
    assert_eq!(storage.collect::<Vec<_>>(), [Cause::Storage, Cause::Ledger]);
}

#[test]
fn a_long_open_period_keeps_its_start() {
    let mut breaker = open_breaker();
    let mut now = NOW;
    for _ in 0..40 {
        now = breaker.open_until().unwrap();
        assert!(fail(&mut breaker, &CallSubject::Service, now).is_some());
    }

    let periods = breaker.to_persisted().open_periods();

    assert_eq!(periods.len(), 1);
    assert_eq!(
        (periods[0].opened_at, periods[0].generation, periods[0].closed.is_some()),
        (NOW, 1, false)
    );
    assert_eq!(periods[0].reason, "5 failures in a row: 503 from example");
    assert!(breaker.apply_command(ManualCommand::Reset, now).is_some());
    let closed = breaker.to_persisted().open_periods().remove(0).closed.unwrap();
    assert_eq!((closed.at, is_manual(&closed.reason)), (now, true));
}

#[test]
fn an_old_file_with_only_the_last_transition_is_read() {
    let persisted = open_breaker().to_persisted();
    let older = PersistedBreaker { transitions: Vec::new(), ..persisted.clone() };

    assert_eq!(older.open_periods(), persisted.open_periods());
    let breaker = Breaker::restore("example", POLICY, &older, NOW);
    assert_eq!(breaker.to_persisted().open_periods(), persisted.open_periods());
    assert_eq!(PersistedBreaker::default().open_periods(), []);
}

#[test]
fn recorded_transitions_have_a_size_limit() {
    let (mut breaker, mut now) = (breaker(), NOW);
    let failure = Failure::new(Cause::Server, "\u{1b}".repeat(10_000));
    for _ in 0..20 {
        for _ in 0..5 {
            let permit = permit(&mut breaker, now);
            drop(breaker.record_failure(permit, &CallSubject::Service, &failure, now));
        }
        now = breaker.open_until().unwrap();
        assert_eq!((0..3).filter_map(|_| succeed(&mut breaker, now)).count(), 1);
    }

    let persisted = breaker.to_persisted();

    let bytes = serde_json::to_vec_pretty(&persisted.transitions).unwrap().len();
    assert!((1_000..5_000).contains(&bytes), "{bytes} bytes");
    assert!(persisted.last_transition.unwrap().reason.contains("successes in a row"));
}
