//! What holds for whatever is seen.

use std::time::Duration;

use proptest::prelude::*;

use super::tests::{LIMITS, course, unit};
use super::*;
use crate::engine::{Status, Timestamp};

fn processes() -> impl Strategy<Value = Process> {
    prop::sample::select(vec![
        Process::Running { pid: 4711 },
        Process::Left,
        Process::Died { pid: 4711 },
    ])
}

fn courses() -> impl Strategy<Value = Course> {
    let status = prop::sample::select(Status::ALL.to_vec());
    (status, any::<[i64; 4]>(), any::<Option<i64>>(), any::<u32>(), processes()).prop_map(
        |(status, times, until, consecutive_errors, process)| Course {
            state_since: Timestamp(times[0]),
            last_progress: Timestamp(times[1]),
            last_updated: Timestamp(times[2]),
            until: until.map(Timestamp),
            consecutive_errors,
            process,
            ..course(status, Timestamp(times[3]))
        },
    )
}

fn units() -> impl Strategy<Value = UnitSeen> {
    let activity = prop::sample::select(Activity::ALL.to_vec());
    (activity, any::<i64>(), any::<Option<u32>>()).prop_map(|(activity, at, starts)| {
        UnitSeen::Known {
            unit: unit(activity, Timestamp(at)),
            lately: starts.map(|starts| Lately { starts, within: Duration::from_secs(600) }),
        }
    })
}

fn judged(course: Course, unit: &UnitSeen, now: Timestamp) -> Finding {
    let watched = Watched { name: "work".to_owned(), told: Told::Course(course) };
    judge("cynosure.service", unit, &[watched], &LIMITS, now).remove(1)
}

proptest! {
    #[test]
    fn nothing_that_is_seen_upsets_the_judge(course in courses(), unit in units(), now: i64) {
        let finding = judged(course, &unit, Timestamp(now));

        let told = (finding.what.to_string(), finding.figure(), finding.advice(Some("a.service")));
        prop_assert!(!told.0.is_empty());
    }

    #[test]
    fn before_its_deadline_nothing_is_ever_restarted(
        course in courses(),
        unit in units(),
        now in 0..4_000_000_000_000_i64,
        left in 0..4_000_000_000_000_i64,
    ) {
        let course = Course { until: Some(Timestamp(now + left)), ..course };

        prop_assert_eq!(judged(course, &unit, Timestamp(now)).cure, Cure::None);
    }

    #[test]
    fn right_after_the_clock_was_set_nothing_is_late(
        course in courses(),
        unit in units(),
        now: i64,
        kept in 0..=LIMITS.grace.as_secs(),
    ) {
        let watched = Watched { name: "work".to_owned(), told: Told::Course(course) };
        let limits = Limits { clock_kept: Duration::from_secs(kept), max_turn: LIMITS.grace, ..LIMITS };
        let findings = judge("cynosure.service", &unit, &[watched], &limits, Timestamp(now));
        for finding in findings {
            let is_failure = matches!(finding.what, What::UnitFailed { .. });
            prop_assert!(is_failure || finding.cure == Cure::None, "{finding:?}");
            let is_of_time = matches!(
                finding.what,
                What::Overdue { .. } | What::Stalled { .. } | What::FromTheFuture { .. }
            );
            prop_assert!(!is_of_time, "{finding:?}");
        }
    }

    #[test]
    fn only_a_worker_of_the_unit_that_is_there_is_a_reason_to_restart_it(
        course in courses(),
        unit in units(),
        now: i64,
    ) {
        let process = course.process;
        let finding = judged(course, &unit, Timestamp(now));

        if finding.cure == Cure::Restart {
            let is_there = matches!(process, Process::Running { .. });
            prop_assert!(is_there);
            prop_assert_eq!(finding.level, Level::Critical);
        }
    }
}
