//! Property tests of the breaker.

use proptest::prelude::*;

use super::tests::*;
use super::*;

#[derive(Clone, Debug)]
enum BreakerEvent {
    Admit,
    /// The oldest call in flight succeeds.
    Succeeded,
    Failed(u64),
    Cancelled,
    Command(ManualCommand),
    SessionFailed,
    Restart,
}

fn breaker_event() -> impl Strategy<Value = BreakerEvent> {
    prop_oneof![
        6 => Just(BreakerEvent::Admit),
        3 => Just(BreakerEvent::Succeeded),
        4 => (0..20_u64).prop_map(BreakerEvent::Failed),
        1 => Just(BreakerEvent::Cancelled),
        1 => prop::sample::select(vec![
            ManualCommand::Close,
            ManualCommand::Reset,
            ManualCommand::TryNow,
            ManualCommand::Open { until: None },
            ManualCommand::Open { until: Some(after(100_000)) },
        ]).prop_map(BreakerEvent::Command),
        1 => Just(BreakerEvent::SessionFailed),
        1 => Just(BreakerEvent::Restart),
    ]
}

proptest! {
    #[test]
    fn half_open_admits_one_call_at_a_time_and_open_admits_none(
        events in prop::collection::vec((breaker_event(), 0..40_000_i64), 0..200)
    ) {
        let (mut breaker, mut now, mut permits) = (breaker(), NOW, Vec::new());
        for (event, pause) in events {
            now = Timestamp(now.0 + pause);
            let (before, generation) = (breaker.state(), breaker.generation());
            let transition = match event {
                BreakerEvent::Admit => {
                    let rejecting_until = breaker.rejecting_until(now);
                    let (admission, transition) = breaker.admit(now);
                    let is_rejected = matches!(admission, Admission::Rejected { .. });
                    prop_assert_eq!(rejecting_until.is_some(), is_rejected);
                    if let Admission::Admitted(permit) = admission { permits.push(permit) }
                    transition
                }
                BreakerEvent::Succeeded if !permits.is_empty() => {
                    breaker.record_success(permits.remove(0), now)
                }
                BreakerEvent::Failed(number) if !permits.is_empty() => {
                    breaker.record_failure(permits.remove(0), &item(number), &failure(), now)
                }
                BreakerEvent::Cancelled if !permits.is_empty() => {
                    breaker.record_cancelled(permits.remove(0));
                    None
                }
                BreakerEvent::Command(command) => breaker.apply_command(command, now),
                BreakerEvent::SessionFailed => breaker.require_probes(now),
                BreakerEvent::Restart => {
                    permits.clear();
                    breaker = Breaker::restore("example", POLICY, &breaker.to_persisted(), now);
                    None
                }
                BreakerEvent::Succeeded | BreakerEvent::Failed(_) | BreakerEvent::Cancelled => None,
            };
            if let Some(transition) = &transition {
                prop_assert_eq!((transition.from, transition.to), (before, breaker.state()));
                prop_assert!(breaker.generation() > generation);
                prop_assert_eq!(breaker.state_since(), now);
            }
            prop_assert!(transition.is_some() || before == breaker.state());
            let probes = permits.iter().filter(|permit| permit.generation == breaker.generation());
            prop_assert!(breaker.state() != BreakerState::HalfOpen || probes.count() <= 1);
            let statistics = breaker.statistics();
            prop_assert!(statistics.successes + statistics.failures <= statistics.calls);
        }
    }

    #[test]
    fn one_item_alone_never_opens_it(
        results in prop::collection::vec((any::<bool>(), 0..60_000_i64), 0..400),
        min_calls in 1..30_u32,
        failure_rate in 0.01..=1.0_f64,
    ) {
        let policy = BreakerPolicy { min_calls, failure_rate, ..POLICY };
        let (mut breaker, mut now) = (Breaker::new("example", policy, NOW), NOW);
        for (is_failure, pause) in results {
            now = Timestamp(now.0 + pause);
            let transition = if is_failure {
                fail(&mut breaker, &item(7), now)
            } else {
                succeed(&mut breaker, now)
            };
            prop_assert_eq!(transition, None);
        }
    }

    #[test]
    fn one_item_alone_never_reopens_it(
        results in prop::collection::vec((any::<bool>(), 0..60_000_i64), 0..50),
    ) {
        let (mut breaker, mut now) = (open_breaker(), after(60));
        for (is_failure, pause) in results {
            now = Timestamp(now.0 + pause);
            if is_failure {
                prop_assert_eq!(fail(&mut breaker, &item(7), now), None);
            } else {
                drop(succeed(&mut breaker, now));
            }
        }
    }

    #[test]
    fn a_persisted_breaker_is_restored_unchanged(
        events in prop::collection::vec((0..3_u8, 0..20_u64, 0..9_000_i64), 0..150)
    ) {
        let (mut breaker, mut now) = (breaker(), NOW);
        for (result, number, pause) in events {
            now = Timestamp(now.0 + pause);
            let (admission, _) = breaker.admit(now);
            let Admission::Admitted(permit) = admission else { continue };
            match result {
                0 => drop(breaker.record_failure(permit, &item(number), &failure(), now)),
                _ => drop(breaker.record_success(permit, now)),
            }
        }
        let json = serde_json::to_string(&breaker.to_persisted()).unwrap();
        let persisted: PersistedBreaker = serde_json::from_str(&json).unwrap();
        let restored = Breaker::restore("example", POLICY, &persisted, now);

        prop_assert_eq!(restored.state(), breaker.state());
        prop_assert_eq!(restored.open_until(), breaker.open_until());
        prop_assert_eq!(restored.consecutive_successes(), breaker.consecutive_successes());
        prop_assert_eq!(restored.statistics(), breaker.statistics());
        prop_assert_eq!(restored.last_failure(), breaker.last_failure());
        prop_assert_eq!(restored.last_transition(), breaker.last_transition());
        prop_assert_eq!(&restored.transitions, &breaker.transitions);
        prop_assert_eq!(
            restored.to_persisted().open_periods(),
            breaker.to_persisted().open_periods()
        );
        prop_assert!(restored.consecutive_failures() <= breaker.consecutive_failures());
    }

    #[test]
    fn open_periods_match_the_recorded_transitions(
        events in prop::collection::vec((breaker_event(), 0..40_000_i64), 0..300)
    ) {
        let (mut breaker, mut now, mut permits) = (breaker(), NOW, Vec::new());
        let mut expected: Vec<(Timestamp, Option<Timestamp>)> = Vec::new();
        for (event, pause) in events {
            now = Timestamp(now.0 + pause);
            let transition = match event {
                BreakerEvent::Admit => {
                    let (admission, transition) = breaker.admit(now);
                    if let Admission::Admitted(permit) = admission { permits.push(permit) }
                    transition
                }
                BreakerEvent::Succeeded if !permits.is_empty() => {
                    breaker.record_success(permits.remove(0), now)
                }
                BreakerEvent::Failed(number) if !permits.is_empty() => {
                    breaker.record_failure(permits.remove(0), &item(number), &failure(), now)
                }
                BreakerEvent::Command(command) => breaker.apply_command(command, now),
                BreakerEvent::SessionFailed => breaker.require_probes(now),
                BreakerEvent::Restart => {
                    breaker = Breaker::restore("example", POLICY, &breaker.to_persisted(), now);
                    None
                }
                BreakerEvent::Succeeded | BreakerEvent::Failed(_) | BreakerEvent::Cancelled => None,
            };
            let current = expected.last_mut().filter(|(_, closed_at)| closed_at.is_none());
            match (transition.map(|transition| transition.to), current) {
                (Some(BreakerState::Open), None) => expected.push((now, None)),
                (Some(BreakerState::Closed), Some(current)) => current.1 = Some(now),
                (Some(_) | None, _) => {}
            }
            let is_last_open = expected.last().is_some_and(|(_, closed_at)| closed_at.is_none());
            prop_assert_eq!(breaker.is_in_open_period(), is_last_open);

            let periods = breaker.to_persisted().open_periods();
            let bounds = |period: &OpenPeriod| {
                (period.opened_at, period.closed.as_ref().map(|end| end.at))
            };
            let recorded: Vec<_> = periods.iter().map(bounds).collect();
            let surplus = expected.len().saturating_sub(recorded.len());
            prop_assert_eq!(&recorded[..], &expected[surplus..]);
            prop_assert!(recorded.len() >= expected.len().min(7), "{recorded:?}");
            prop_assert!(periods.is_sorted_by_key(|period| period.generation));
            prop_assert!(breaker.transitions.len() <= transition::TRANSITIONS_MAX);
        }
    }

    #[test]
    fn any_persisted_state_is_restored_without_panic(
        state in "closed|open|half_open|dreaming",
        times in prop::collection::vec(any::<i64>(), 8),
        counts in any::<(u64, u32, u32, usize)>(),
    ) {
        let at = |index: usize| times[index];
        let persisted = PersistedBreaker {
            state,
            generation: counts.0.max(u64::MAX - 3),
            state_since: at(0),
            open_until: Some(at(1)),
            consecutive_opens: counts.1,
            successes: counts.2,
            failed_items: vec![PersistedFailure { item: None, at: at(2) }],
            failure_streak: vec![PersistedFailure { item: None, at: at(2) }],
            window: PersistedWindow {
                successes: vec![PersistedBucket { at: at(3), count: counts.3 }],
                failures: vec![PersistedFailure { item: Some("x".to_owned()), at: at(4) }],
            },
            statistics: BreakerStatistics {
                calls: u64::MAX,
                rejected: counts.0,
                ..BreakerStatistics::default()
            },
            statistics_since: at(5),
            last_failure: None,
            last_transition: None,
            transitions: (0..40)
                .map(|number| PersistedTransition {
                    generation: counts.0,
                    at: at(number % 8),
                    ..persisted_transition(number)
                })
                .collect(),
        };
        drop(persisted.open_periods());
        let mut breaker = Breaker::restore("example", POLICY, &persisted, Timestamp(at(6)));
        let now = Timestamp(at(7));
        if let (Admission::Admitted(permit), _) = breaker.admit(now) {
            drop(breaker.record_failure(permit, &CallSubject::Service, &failure(), now));
        }
        drop(breaker.to_persisted());
    }
}

/// Returns a transition whose state names may be unknown.
fn persisted_transition(number: usize) -> PersistedTransition {
    let state_name =
        |number: usize| ["closed", "open", "half_open", "dreaming"][number % 4].to_owned();
    PersistedTransition {
        from: state_name(number),
        to: state_name(number / 3),
        ..PersistedTransition::default()
    }
}
