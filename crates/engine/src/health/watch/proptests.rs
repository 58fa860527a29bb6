//! Property tests of the evaluation.

use std::time::Duration;

use proptest::prelude::*;

use super::tests::{LIMITS, unit_status, worker_status};
use super::*;
use crate::health::{Finding, HealthLevel, Remedy};
use crate::{Status, Timestamp};

fn any_process() -> impl Strategy<Value = ProcessStatus> {
    prop::sample::select(vec![
        ProcessStatus::Running { pid: 4711 },
        ProcessStatus::Exited,
        ProcessStatus::Died { pid: 4711 },
    ])
}

fn any_worker_status() -> impl Strategy<Value = WorkerStatus> {
    let status = prop::sample::select(Status::ALL.to_vec());
    (status, any::<[i64; 4]>(), any::<Option<i64>>(), any::<u32>(), any_process()).prop_map(
        |(status, times, until, consecutive_errors, process)| WorkerStatus {
            state_since: Timestamp(times[0]),
            last_progress: Timestamp(times[1]),
            last_updated: Timestamp(times[2]),
            until: until.map(Timestamp),
            consecutive_errors,
            process,
            ..worker_status(status, Timestamp(times[3]))
        },
    )
}

fn any_unit() -> impl Strategy<Value = UnitObservation> {
    let active_state = prop::sample::select(ActiveState::ALL.to_vec());
    (active_state, any::<i64>(), any::<Option<u32>>()).prop_map(|(active_state, at, starts)| {
        UnitObservation::Observed {
            unit: unit_status(active_state, Timestamp(at)),
            recent_starts: starts
                .map(|starts| RecentStarts { starts, window: Duration::from_secs(600) }),
        }
    })
}

fn evaluate_worker(worker: WorkerStatus, unit: &UnitObservation, now: Timestamp) -> Finding {
    let watched =
        WatchedSource { name: "work".to_owned(), state_file: StateFileContent::Status(worker) };
    evaluate("cynosure.service", unit, &[watched], &LIMITS, now).remove(1)
}

proptest! {
    #[test]
    fn evaluation_never_panics(worker in any_worker_status(), unit in any_unit(), now: i64) {
        let finding = evaluate_worker(worker, &unit, Timestamp(now));

        prop_assert!(!finding.message.is_empty());
    }

    #[test]
    fn nothing_is_restarted_before_its_deadline(
        worker in any_worker_status(),
        unit in any_unit(),
        now in 0..4_000_000_000_000_i64,
        remaining in 0..4_000_000_000_000_i64,
    ) {
        let worker = WorkerStatus { until: Some(Timestamp(now + remaining)), ..worker };

        prop_assert_eq!(evaluate_worker(worker, &unit, Timestamp(now)).remedy, Remedy::None);
    }

    #[test]
    fn nothing_is_overdue_right_after_a_clock_step(
        worker in any_worker_status(),
        unit in any_unit(),
        now: i64,
        stable_secs in 0..=LIMITS.grace.as_secs(),
    ) {
        let state_file = StateFileContent::Status(worker);
        let watched = WatchedSource { name: "work".to_owned(), state_file };
        let limits = WatchLimits {
            clock_stable_for: Duration::from_secs(stable_secs),
            max_transition: LIMITS.grace,
            ..LIMITS
        };
        let findings = evaluate("cynosure.service", &unit, &[watched], &limits, Timestamp(now));
        for finding in findings {
            let is_failed_unit = finding.kind == "unit_failed";
            prop_assert!(is_failed_unit || finding.remedy == Remedy::None, "{finding:?}");
            let depends_on_time =
                ["overdue", "stalled", "clock_skew"].contains(&finding.kind.as_str());
            prop_assert!(!depends_on_time, "{finding:?}");
        }
    }

    #[test]
    fn only_a_running_worker_of_the_unit_causes_a_restart(
        worker in any_worker_status(),
        unit in any_unit(),
        now: i64,
    ) {
        let process = worker.process;
        let finding = evaluate_worker(worker, &unit, Timestamp(now));

        if finding.remedy == Remedy::Restart {
            let is_running = matches!(process, ProcessStatus::Running { .. });
            prop_assert!(is_running);
            prop_assert_eq!(finding.level, HealthLevel::Critical);
        }
    }
}
