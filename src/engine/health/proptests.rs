//! Property tests of the health evaluation.

use proptest::prelude::*;

use super::resolution_tests::without_worker_files;
use super::tests::{LIMITS, healthy_inputs, journal_errors};
use super::*;
use crate::engine::alert::{AlertStore, NotificationKind};
use crate::engine::watch::HealthLevel;

fn any_ratio() -> impl Strategy<Value = f64> {
    0.0..=1.0_f64
}

fn any_counters() -> impl Strategy<Value = CounterObservation> {
    (0..20_u32, prop::option::of(any_ratio()), any::<u32>(), any::<u64>()).prop_map(
        |(attempts, success_rate, connection_failures, clients_rebuilt)| CounterObservation {
            attempts,
            success_rate,
            connection_failures,
            client_rebuilds: clients_rebuilt,
            ..CounterObservation::default()
        },
    )
}

fn any_inputs() -> impl Strategy<Value = HealthInputs> {
    let counts = prop::result::maybe_err(prop::option::of(any_counters()), any::<String>());
    let source = (any::<bool>(), any::<[i64; 3]>(), counts, any::<u64>());
    let disk = (any_ratio(), any::<u64>(), prop::option::of(any_ratio()));
    let system = (prop::option::of(any_ratio()), prop::option::of(any_ratio()), disk);
    let sources = prop::collection::vec(source, 0..4);
    let unseen = prop::option::of(any::<String>());
    (sources, prop::result::maybe_err(system, any::<String>()), any::<Option<u32>>(), unseen)
        .prop_map(|(sources, system, count, unseen)| {
            let mut facts = HealthInputs { uncollected_reason: unseen, ..healthy_inputs() };
            let example = facts.sources[0].clone();
            facts.sources = sources
                .into_iter()
                .enumerate()
                .map(|(no, (has_state, times, counts, quarantined))| SourceObservation {
                    name: format!("s{no}"),
                    state: has_state.then(|| StateObservation {
                        until: Some(Timestamp(times[0])),
                        last_updated: Timestamp(times[1]),
                        session_started_at: Some(Timestamp(times[2])),
                        quarantined,
                        ..example.state.clone().unwrap()
                    }),
                    counters: counts,
                    ..example.clone()
                })
                .collect();
            facts.system = system.map(|(cpu, memory, (used, free, inodes))| HostMetrics {
                cpu_ratio: cpu,
                memory_ratio: memory,
                disks: vec![DiskUsage {
                    path: "/".to_owned(),
                    used_ratio: used,
                    free_bytes: free,
                    inode_ratio: inodes,
                }],
            });
            facts.journal_errors =
                count.map(|count| Ok(vec![journal_errors("cynosure.service", count)]));
            facts
        })
}

proptest! {
    #[test]
    fn evaluation_never_panics(facts in any_inputs(), now: i64) {
        let report = evaluate(&facts, &LIMITS, Timestamp(now));

        prop_assert!(report.checks.iter().all(|check| !check.message.is_empty()));
        let worst = report.checks.iter().map(|check| check.level).max();
        prop_assert_eq!(Some(report.level), worst);
    }

    #[test]
    fn conditions_are_unique_and_raised_only_for_problems(facts in any_inputs(), now: i64) {
        let report = evaluate(&facts, &LIMITS, Timestamp(now));
        let looked = correlate(&facts, &report);

        let mut causes: Vec<_> =
            looked.conditions.iter().map(|concern| (&concern.key, &concern.subject)).collect();
        let all = causes.len();
        causes.sort();
        causes.dedup();
        prop_assert_eq!(causes.len(), all);
        let is_known = |about: &String| about.is_empty() || looked.known_subjects.contains(about);
        prop_assert!(looked.conditions.iter().all(|concern| is_known(&concern.subject)));
        let is_quiet = facts.sources.iter().all(|source| {
            source.state.as_ref().is_some_and(|state| state.quarantined == 0)
        });
        if report.level == HealthLevel::Healthy && is_quiet {
            prop_assert!(looked.conditions.is_empty());
        }
    }

    #[test]
    fn a_failed_collection_resolves_nothing(facts in any_inputs(), now in 0..4_000_000_000_000_i64) {
        let mut alerts = AlertStore::default();
        let mut note = |facts: &HealthInputs| {
            alerts.evaluate(&correlate(facts, &evaluate(facts, &LIMITS, Timestamp(now))), Timestamp(now))
        };
        prop_assert!(note(&facts).iter().all(|notice| notice.kind == NotificationKind::Firing));

        let failed = note(&without_worker_files(&facts));

        prop_assert!(failed.iter().all(|notice| notice.kind != NotificationKind::Resolved), "{failed:?}");
    }

    #[test]
    fn evaluating_twice_notifies_once(facts in any_inputs(), now in 0..4_000_000_000_000_i64) {
        let looked = correlate(&facts, &evaluate(&facts, &LIMITS, Timestamp(now)));
        let mut alerts = AlertStore::default();

        let first = alerts.evaluate(&looked, Timestamp(now));

        prop_assert_eq!(first.len(), looked.conditions.len());
        prop_assert_eq!(alerts.evaluate(&looked, Timestamp(now)), []);
    }
}
