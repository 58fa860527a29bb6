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
        1 => Just(BreakerEvent::Restart),
    ]
}

proptest! {
    #[test]
    fn half_open_admits_one_call_at_a_time_and_open_admits_none(
        facts in prop::collection::vec((breaker_event(), 0..40_000_i64), 0..200)
    ) {
        let (mut breaker, mut now, mut out) = (breaker(), NOW, Vec::new());
        for (fact, pause) in facts {
            now = Timestamp(now.0 + pause);
            let (before, generation) = (breaker.state(), breaker.generation());
            let change = match fact {
                BreakerEvent::Admit => {
                    let shut = breaker.rejecting_until(now);
                    let (admission, change) = breaker.admit(now);
                    prop_assert_eq!(shut.is_some(), matches!(admission, Admission::Rejected { .. }));
                    if let Admission::Admitted(permit) = admission { out.push(permit) }
                    change
                }
                BreakerEvent::Succeeded if !out.is_empty() => breaker.record_success(out.remove(0), now),
                BreakerEvent::Failed(no) if !out.is_empty() => {
                    breaker.record_failure(out.remove(0), &item(no), &failure(), now)
                }
                BreakerEvent::Cancelled if !out.is_empty() => {
                    breaker.record_cancelled(out.remove(0));
                    None
                }
                BreakerEvent::Command(order) => breaker.apply_command(order, now),
                BreakerEvent::Restart => {
                    out.clear();
                    breaker = Breaker::restore("example", POLICY, &breaker.to_persisted(), now);
                    None
                }
                BreakerEvent::Succeeded | BreakerEvent::Failed(_) | BreakerEvent::Cancelled => None,
            };
            if let Some(change) = &change {
                prop_assert_eq!((change.from, change.to), (before, breaker.state()));
                prop_assert!(breaker.generation() > generation);
                prop_assert_eq!(breaker.state_since(), now);
            }
            prop_assert!(change.is_some() || before == breaker.state());
            let probes = out.iter().filter(|permit| permit.generation == breaker.generation());
            prop_assert!(breaker.state() != BreakerState::HalfOpen || probes.count() <= 1);
            let statistics = breaker.statistics();
            prop_assert!(statistics.successes + statistics.failures <= statistics.calls);
        }
    }

    #[test]
    fn one_item_alone_never_opens_it(
        ends in prop::collection::vec((any::<bool>(), 0..60_000_i64), 0..400),
        min_calls in 1..30_u32,
        failure_rate in 0.01..=1.0_f64,
    ) {
        let policy = BreakerPolicy { min_calls, failure_rate, ..POLICY };
        let (mut breaker, mut now) = (Breaker::new("example", policy, NOW), NOW);
        for (fails, pause) in ends {
            now = Timestamp(now.0 + pause);
            let change = if fails { fail(&mut breaker, &item(7), now) } else { succeed(&mut breaker, now) };
            prop_assert_eq!(change, None);
        }
    }

    #[test]
    fn one_item_alone_never_reopens_it(
        ends in prop::collection::vec((any::<bool>(), 0..60_000_i64), 0..50),
    ) {
        let (mut breaker, mut now) = (open_breaker(), after(60));
        for (fails, pause) in ends {
            now = Timestamp(now.0 + pause);
            if fails {
                prop_assert_eq!(fail(&mut breaker, &item(7), now), None);
            } else {
                drop(succeed(&mut breaker, now));
            }
        }
    }

    #[test]
    fn a_persisted_breaker_is_restored_unchanged(
        facts in prop::collection::vec((0..3_u8, 0..20_u64, 0..9_000_i64), 0..150)
    ) {
        let (mut breaker, mut now) = (breaker(), NOW);
        for (what, no, pause) in facts {
            now = Timestamp(now.0 + pause);
            let (admission, _) = breaker.admit(now);
            let Admission::Admitted(permit) = admission else { continue };
            match what {
                0 => drop(breaker.record_failure(permit, &item(no), &failure(), now)),
                _ => drop(breaker.record_success(permit, now)),
            }
        }
        let json = serde_json::to_string(&breaker.to_persisted()).unwrap();
        let again = Breaker::restore("example", POLICY, &serde_json::from_str(&json).unwrap(), now);

        prop_assert_eq!(again.state(), breaker.state());
        prop_assert_eq!(again.open_until(), breaker.open_until());
        prop_assert_eq!(again.consecutive_successes(), breaker.consecutive_successes());
        prop_assert_eq!(again.statistics(), breaker.statistics());
        prop_assert_eq!(again.last_failure(), breaker.last_failure());
        prop_assert_eq!(again.last_transition(), breaker.last_transition());
        prop_assert_eq!(&again.transitions, &breaker.transitions);
        prop_assert_eq!(again.to_persisted().open_periods(), breaker.to_persisted().open_periods());
        prop_assert!(again.consecutive_failures() <= breaker.consecutive_failures());
    }

    #[test]
    fn open_periods_match_the_recorded_transitions(
        facts in prop::collection::vec((breaker_event(), 0..40_000_i64), 0..300)
    ) {
        let (mut breaker, mut now, mut out) = (breaker(), NOW, Vec::new());
        let mut happened: Vec<(Timestamp, Option<Timestamp>)> = Vec::new();
        for (fact, pause) in facts {
            now = Timestamp(now.0 + pause);
            let change = match fact {
                BreakerEvent::Admit => {
                    let (admission, change) = breaker.admit(now);
                    if let Admission::Admitted(permit) = admission { out.push(permit) }
                    change
                }
                BreakerEvent::Succeeded if !out.is_empty() => breaker.record_success(out.remove(0), now),
                BreakerEvent::Failed(no) if !out.is_empty() => {
                    breaker.record_failure(out.remove(0), &item(no), &failure(), now)
                }
                BreakerEvent::Command(order) => breaker.apply_command(order, now),
                BreakerEvent::Restart => {
                    breaker = Breaker::restore("example", POLICY, &breaker.to_persisted(), now);
                    None
                }
                BreakerEvent::Succeeded | BreakerEvent::Failed(_) | BreakerEvent::Cancelled => None,
            };
            match change {
                Some(BreakerTransition { from: BreakerState::Closed, .. }) => happened.push((now, None)),
                Some(BreakerTransition { to: BreakerState::Closed, .. }) => happened.last_mut().unwrap().1 = Some(now),
                Some(_) | None => {}
            }

            let told = breaker.to_persisted().open_periods();
            let told_of = |opening: &OpenPeriod| (opening.opened_at, opening.closed.as_ref().map(|end| end.at));
            let known: Vec<_> = told.iter().map(told_of).collect();
            let newest = happened.len().saturating_sub(known.len());
            prop_assert_eq!(&known[..], &happened[newest..]);
            prop_assert!(known.len() >= happened.len().min(7), "{known:?}");
            prop_assert!(told.is_sorted_by_key(|opening| opening.generation));
            prop_assert!(breaker.transitions.len() <= history::TRANSITIONS_MAX);
        }
    }

    #[test]
    fn any_persisted_state_is_restored_without_panic(
        state in "closed|open|half_open|dreaming",
        times in prop::collection::vec(any::<i64>(), 8),
        counts in any::<(u64, u32, u32, usize)>(),
    ) {
        let at = |index: usize| times[index];
        let memory = PersistedBreaker {
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
            statistics: BreakerStatistics { calls: u64::MAX, rejected: counts.0, ..BreakerStatistics::default() },
            statistics_since: at(5),
            last_failure: None,
            last_transition: None,
            transitions: (0..40).map(|no| PersistedTransition { generation: counts.0, at: at(no % 8), ..persisted_transition(no) }).collect(),
        };
        drop(memory.open_periods());
        let mut breaker = Breaker::restore("example", POLICY, &memory, Timestamp(at(6)));
        let now = Timestamp(at(7));
        if let (Admission::Admitted(permit), _) = breaker.admit(now) {
            drop(breaker.record_failure(permit, &CallSubject::Service, &failure(), now));
        }
        drop(breaker.to_persisted());
    }
}

/// Returns a transition whose state names may be unknown.
fn persisted_transition(no: usize) -> PersistedTransition {
    let word = |no: usize| ["closed", "open", "half_open", "dreaming"][no % 4].to_owned();
    PersistedTransition { from: word(no), to: word(no / 3), ..PersistedTransition::default() }
}
