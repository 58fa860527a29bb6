//! What holds for every breaker, whatever happens to it.

use proptest::prelude::*;

use super::tests::*;
use super::*;

#[derive(Clone, Debug)]
enum Fact {
    Admit,
    /// The end of the oldest call that is out.
    Succeeded,
    Failed(u64),
    Dropped,
    Obey(Order),
    Restart,
}

fn fact() -> impl Strategy<Value = Fact> {
    prop_oneof![
        6 => Just(Fact::Admit),
        3 => Just(Fact::Succeeded),
        4 => (0..20_u64).prop_map(Fact::Failed),
        1 => Just(Fact::Dropped),
        1 => prop::sample::select(vec![
            Order::Close,
            Order::Reset,
            Order::Try,
            Order::Open { until: None },
            Order::Open { until: Some(after(100_000)) },
        ]).prop_map(Fact::Obey),
        1 => Just(Fact::Restart),
    ]
}

proptest! {
    #[test]
    fn a_half_open_breaker_has_one_call_out_and_an_open_one_lets_none_through(
        facts in prop::collection::vec((fact(), 0..40_000_i64), 0..200)
    ) {
        let (mut breaker, mut now, mut out) = (breaker(), NOW, Vec::new());
        for (fact, pause) in facts {
            now = Timestamp(now.0 + pause);
            let (before, generation) = (breaker.phase(), breaker.generation());
            let change = match fact {
                Fact::Admit => {
                    let shut = breaker.shut(now);
                    let (admission, change) = breaker.admit(now);
                    prop_assert_eq!(shut.is_some(), matches!(admission, Admission::Shut { .. }));
                    if let Admission::Go(permit) = admission { out.push(permit) }
                    change
                }
                Fact::Succeeded if !out.is_empty() => breaker.succeeded(out.remove(0), now),
                Fact::Failed(no) if !out.is_empty() => {
                    breaker.failed(out.remove(0), &item(no), &failure(), now)
                }
                Fact::Dropped if !out.is_empty() => {
                    breaker.dropped(out.remove(0));
                    None
                }
                Fact::Obey(order) => breaker.obey(order, now),
                Fact::Restart => {
                    out.clear();
                    breaker = Breaker::recall("example", POLICY, &breaker.memory(), now);
                    None
                }
                Fact::Succeeded | Fact::Failed(_) | Fact::Dropped => None,
            };
            if let Some(change) = &change {
                prop_assert_eq!((change.from, change.to), (before, breaker.phase()));
                prop_assert!(breaker.generation() > generation);
                prop_assert_eq!(breaker.since(), now);
            }
            prop_assert!(change.is_some() || before == breaker.phase());
            let probes = out.iter().filter(|permit| permit.generation == breaker.generation());
            prop_assert!(breaker.phase() != Phase::HalfOpen || probes.count() <= 1);
            let statistics = breaker.statistics();
            prop_assert!(statistics.successes + statistics.failures <= statistics.calls);
        }
    }

    #[test]
    fn one_item_alone_never_opens_it_whatever_else_succeeds(
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
    fn one_item_alone_never_opens_it_again(
        ends in prop::collection::vec((any::<bool>(), 0..60_000_i64), 0..50),
    ) {
        let (mut breaker, mut now) = (opened(), after(60));
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
    fn what_is_written_down_is_read_back(
        facts in prop::collection::vec((0..3_u8, 0..20_u64, 0..9_000_i64), 0..150)
    ) {
        let (mut breaker, mut now) = (breaker(), NOW);
        for (what, no, pause) in facts {
            now = Timestamp(now.0 + pause);
            let (admission, _) = breaker.admit(now);
            let Admission::Go(permit) = admission else { continue };
            match what {
                0 => drop(breaker.failed(permit, &item(no), &failure(), now)),
                _ => drop(breaker.succeeded(permit, now)),
            }
        }
        let json = serde_json::to_string(&breaker.memory()).unwrap();
        let again = Breaker::recall("example", POLICY, &serde_json::from_str(&json).unwrap(), now);

        prop_assert_eq!(again.phase(), breaker.phase());
        prop_assert_eq!(again.until(), breaker.until());
        prop_assert_eq!(again.successes_in_a_row(), breaker.successes_in_a_row());
        prop_assert_eq!(again.statistics(), breaker.statistics());
        prop_assert_eq!(again.last_failure(), breaker.last_failure());
        prop_assert_eq!(again.last_change(), breaker.last_change());
        prop_assert_eq!(&again.changes, &breaker.changes);
        prop_assert_eq!(again.memory().openings(), breaker.memory().openings());
        prop_assert!(again.failures_in_a_row() <= breaker.failures_in_a_row());
    }

    #[test]
    fn its_openings_are_those_that_happened_as_far_as_it_remembers(
        facts in prop::collection::vec((fact(), 0..40_000_i64), 0..300)
    ) {
        let (mut breaker, mut now, mut out) = (breaker(), NOW, Vec::new());
        let mut happened: Vec<(Timestamp, Option<Timestamp>)> = Vec::new();
        for (fact, pause) in facts {
            now = Timestamp(now.0 + pause);
            let change = match fact {
                Fact::Admit => {
                    let (admission, change) = breaker.admit(now);
                    if let Admission::Go(permit) = admission { out.push(permit) }
                    change
                }
                Fact::Succeeded if !out.is_empty() => breaker.succeeded(out.remove(0), now),
                Fact::Failed(no) if !out.is_empty() => {
                    breaker.failed(out.remove(0), &item(no), &failure(), now)
                }
                Fact::Obey(order) => breaker.obey(order, now),
                Fact::Restart => {
                    breaker = Breaker::recall("example", POLICY, &breaker.memory(), now);
                    None
                }
                Fact::Succeeded | Fact::Failed(_) | Fact::Dropped => None,
            };
            match change {
                Some(Change { from: Phase::Closed, .. }) => happened.push((now, None)),
                Some(Change { to: Phase::Closed, .. }) => happened.last_mut().unwrap().1 = Some(now),
                Some(_) | None => {}
            }

            let told = breaker.memory().openings();
            let told_of = |opening: &Opening| (opening.at, opening.closing.as_ref().map(|end| end.at));
            let known: Vec<_> = told.iter().map(told_of).collect();
            let newest = happened.len().saturating_sub(known.len());
            prop_assert_eq!(&known[..], &happened[newest..]);
            prop_assert!(known.len() >= happened.len().min(7), "{known:?}");
            prop_assert!(told.is_sorted_by_key(|opening| opening.no));
            prop_assert!(breaker.changes.len() <= opening::CHANGES_KEPT);
        }
    }

    #[test]
    fn any_memory_is_read_without_harm(
        state in "closed|open|half_open|dreaming",
        times in prop::collection::vec(any::<i64>(), 8),
        counts in any::<(u64, u32, u32, usize)>(),
    ) {
        let at = |index: usize| times[index];
        let memory = Memory {
            state,
            generation: counts.0.max(u64::MAX - 3),
            since: at(0),
            until: Some(at(1)),
            openings: counts.1,
            successes: counts.2,
            ill: vec![FaultMemory { item: None, at: at(2) }],
            row: vec![FaultMemory { item: None, at: at(2) }],
            window: WindowMemory {
                successes: vec![SliceMemory { at: at(3), count: counts.3 }],
                failures: vec![FaultMemory { item: Some("x".to_owned()), at: at(4) }],
            },
            statistics: Statistics { calls: u64::MAX, rejected: counts.0, ..Statistics::default() },
            counted_since: at(5),
            last_failure: None,
            last_change: None,
            changes: (0..40).map(|no| ChangeMemory { no: counts.0, at: at(no % 8), ..words(no) }).collect(),
        };
        drop(memory.openings());
        let mut breaker = Breaker::recall("example", POLICY, &memory, Timestamp(at(6)));
        let now = Timestamp(at(7));
        if let (Admission::Go(permit), _) = breaker.admit(now) {
            drop(breaker.failed(permit, &Subject::Service, &failure(), now));
        }
        drop(breaker.memory());
    }
}

/// A change in words that may or may not be known.
fn words(no: usize) -> ChangeMemory {
    let word = |no: usize| ["closed", "open", "half_open", "dreaming"][no % 4].to_owned();
    ChangeMemory { from: word(no), to: word(no / 3), ..ChangeMemory::default() }
}
