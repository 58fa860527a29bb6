//! What holds for whatever is seen.

use proptest::prelude::*;

use super::endings::unseen;
use super::tests::{LIMITS, errors, well};
use super::*;
use crate::engine::alert::{AlertStore, NotificationKind};
use crate::engine::watch::Level;

fn shares() -> impl Strategy<Value = f64> {
    0.0..=1.0_f64
}

fn counts() -> impl Strategy<Value = CountsSeen> {
    (0..20_u32, prop::option::of(shares()), any::<u32>(), any::<u64>()).prop_map(
        |(attempts, success_rate, connection_failures, clients_rebuilt)| CountsSeen {
            attempts,
            success_rate,
            connection_failures,
            clients_rebuilt,
            ..CountsSeen::default()
        },
    )
}

fn facts() -> impl Strategy<Value = Facts> {
    let counts = prop::result::maybe_err(prop::option::of(counts()), any::<String>());
    let source = (any::<bool>(), any::<[i64; 3]>(), counts, any::<u64>());
    let disk = (shares(), any::<u64>(), prop::option::of(shares()));
    let system = (prop::option::of(shares()), prop::option::of(shares()), disk);
    let sources = prop::collection::vec(source, 0..4);
    let unseen = prop::option::of(any::<String>());
    (sources, prop::result::maybe_err(system, any::<String>()), any::<Option<u32>>(), unseen)
        .prop_map(|(sources, system, count, unseen)| {
            let mut facts = Facts { unseen, ..well() };
            let example = facts.sources[0].clone();
            facts.sources = sources
                .into_iter()
                .enumerate()
                .map(|(no, (has_state, times, counts, quarantined))| SourceSeen {
                    name: format!("s{no}"),
                    state: has_state.then(|| StateSeen {
                        until: Some(Timestamp(times[0])),
                        last_updated: Timestamp(times[1]),
                        session_since: Some(Timestamp(times[2])),
                        quarantined,
                        ..example.state.clone().unwrap()
                    }),
                    counts,
                    ..example.clone()
                })
                .collect();
            facts.system = system.map(|(cpu, memory, (used, free, inodes))| System {
                cpu,
                memory,
                disks: vec![DiskSeen { path: "/".to_owned(), used, free, inodes }],
            });
            facts.journal = count.map(|count| Ok(vec![errors("cynosure.service", count)]));
            facts
        })
}

proptest! {
    #[test]
    fn nothing_that_is_seen_upsets_the_judge(facts in facts(), now: i64) {
        let report = judge(&facts, &LIMITS, Timestamp(now));

        prop_assert!(report.checks.iter().all(|check| !check.message.is_empty()));
        let worst = report.checks.iter().map(|check| check.level).max();
        prop_assert_eq!(Some(report.level), worst);
    }

    #[test]
    fn each_cause_is_told_once_and_only_what_is_amiss(facts in facts(), now: i64) {
        let report = judge(&facts, &LIMITS, Timestamp(now));
        let looked = concerns(&facts, &report);

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
        if report.level == Level::Healthy && is_quiet {
            prop_assert!(looked.conditions.is_empty());
        }
    }

    #[test]
    fn a_look_that_fails_ends_nothing(facts in facts(), now in 0..4_000_000_000_000_i64) {
        let mut alerts = AlertStore::default();
        let mut note = |facts: &Facts| {
            alerts.evaluate(&concerns(facts, &judge(facts, &LIMITS, Timestamp(now))), Timestamp(now))
        };
        prop_assert!(note(&facts).iter().all(|notice| notice.kind == NotificationKind::Firing));

        let failed = note(&unseen(&facts));

        prop_assert!(failed.iter().all(|notice| notice.kind != NotificationKind::Resolved), "{failed:?}");
    }

    #[test]
    fn looking_twice_at_the_same_tells_nothing_new(facts in facts(), now in 0..4_000_000_000_000_i64) {
        let looked = concerns(&facts, &judge(&facts, &LIMITS, Timestamp(now)));
        let mut alerts = AlertStore::default();

        let first = alerts.evaluate(&looked, Timestamp(now));

        prop_assert_eq!(first.len(), looked.conditions.len());
        prop_assert_eq!(alerts.evaluate(&looked, Timestamp(now)), []);
    }
}
