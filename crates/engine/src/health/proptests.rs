//! Property tests of the health evaluation.

use proptest::prelude::*;

use super::tests::resolution::without_worker_files;
use super::tests::{LIMITS, healthy_inputs, journal_errors};
use super::*;
use crate::alert::{AlertStore, NotificationKind, correlate};
use crate::health::watch::WorkerStatus;

fn any_ratio() -> impl Strategy<Value = f64> {
    0.0..=1.0_f64
}

fn any_counters() -> impl Strategy<Value = CounterObservation> {
    (0..20_u32, prop::option::of(any_ratio()), any::<u32>(), any::<u64>()).prop_map(
        |(attempts, success_rate, connection_failures, reconnects)| CounterObservation {
            attempts,
            success_rate,
            connection_failures,
            reconnects,
            ..CounterObservation::default()
        },
    )
}

fn any_inputs() -> impl Strategy<Value = HealthInputs> {
    let counters = prop::result::maybe_err(prop::option::of(any_counters()), any::<String>());
    let source = (any::<bool>(), any::<[i64; 3]>(), counters, any::<u64>());
    let disk = (any_ratio(), any::<u64>(), prop::option::of(any_ratio()));
    let system = (prop::option::of(any_ratio()), prop::option::of(any_ratio()), disk);
    let sources = prop::collection::vec(source, 0..4);
    let uncollected_reason = prop::option::of(any::<String>());
    (
        sources,
        prop::result::maybe_err(system, any::<String>()),
        any::<Option<u32>>(),
        uncollected_reason,
    )
        .prop_map(|(sources, system, count, uncollected_reason)| {
            let mut inputs = HealthInputs { uncollected_reason, ..healthy_inputs() };
            let example = inputs.sources[0].clone();
            inputs.sources = sources
                .into_iter()
                .enumerate()
                .map(|(number, (has_state, times, counters, quarantined))| SourceObservation {
                    name: format!("s{number}"),
                    state: has_state.then(|| WorkerStatus {
                        until: Some(Timestamp(times[0])),
                        last_updated: Timestamp(times[1]),
                        session_started_at: Some(Timestamp(times[2])),
                        quarantined,
                        ..example.state.clone().unwrap()
                    }),
                    counters,
                    ..example.clone()
                })
                .collect();
            inputs.system = system.map(|(cpu, memory, (used, free, inodes))| HostMetrics {
                cpu_ratio: cpu,
                memory_ratio: memory,
                disks: vec![DiskUsage {
                    path: "/".to_owned(),
                    used_ratio: used,
                    free_bytes: free,
                    inode_ratio: inodes,
                }],
            });
            inputs.journal_errors =
                count.map(|count| Ok(vec![journal_errors("cynosure.service", count)]));
            inputs
        })
}

proptest! {
    #[test]
    fn evaluation_never_panics(inputs in any_inputs(), now: i64) {
        let report = evaluate(&inputs, &LIMITS, Timestamp(now));

        prop_assert!(report.findings.iter().all(|finding| !finding.message.is_empty()));
        let worst = report.findings.iter().map(|finding| finding.level).max();
        prop_assert_eq!(Some(report.level), worst);
    }

    #[test]
    fn alerts_are_unique_and_raised_only_for_problems(inputs in any_inputs(), now: i64) {
        let report = evaluate(&inputs, &LIMITS, Timestamp(now));
        let observation = correlate(&inputs, &report);

        let key = |found: &Finding| (found.check, found.kind.clone(), found.subject.clone());
        let mut keys: Vec<_> = observation.findings.iter().map(key).collect();
        let count = keys.len();
        keys.sort();
        keys.dedup();
        prop_assert_eq!(keys.len(), count);
        let is_known = |subject: &String| {
            subject.is_empty() || observation.known_subjects.contains(subject)
        };
        prop_assert!(observation.findings.iter().all(|found| is_known(&found.subject)));
        let is_quarantine_empty = inputs.sources.iter().all(|source| {
            source.state.as_ref().is_some_and(|state| state.quarantined == 0)
        });
        if report.level == HealthLevel::Healthy && is_quarantine_empty {
            prop_assert!(observation.findings.is_empty());
        }
    }

    #[test]
    fn a_failed_collection_resolves_nothing(
        inputs in any_inputs(),
        now in 0..4_000_000_000_000_i64,
    ) {
        let mut alerts = AlertStore::default();
        let mut notify = |inputs: &HealthInputs| {
            let report = evaluate(inputs, &LIMITS, Timestamp(now));
            alerts.evaluate(&correlate(inputs, &report), Timestamp(now))
        };
        let first = notify(&inputs);
        let second = notify(&without_worker_files(&inputs));

        prop_assert!(first.iter().all(|sent| sent.kind == NotificationKind::Firing));
        let has_resolved = second.iter().any(|sent| sent.kind == NotificationKind::Resolved);
        prop_assert!(!has_resolved, "{second:?}");
    }

    #[test]
    fn evaluating_twice_notifies_once(inputs in any_inputs(), now in 0..4_000_000_000_000_i64) {
        let observation = correlate(&inputs, &evaluate(&inputs, &LIMITS, Timestamp(now)));
        let mut alerts = AlertStore::default();

        let first = alerts.evaluate(&observation, Timestamp(now));

        prop_assert_eq!(first.len(), observation.findings.len());
        prop_assert_eq!(alerts.evaluate(&observation, Timestamp(now)), []);
    }
}
