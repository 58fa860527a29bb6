//! Tests of the findings, by their texts.

use std::time::Duration;

use super::*;
use crate::health::{Finding, Remedy};
use crate::{Status, Timestamp};

const NOW: Timestamp = Timestamp(1_772_874_303_000);
const UNIT: &str = "cynosure.service";
const PID: u32 = 4711;

pub(super) const LIMITS: WatchLimits = WatchLimits {
    grace: Duration::from_secs(360),
    clock_stable_for: Duration::MAX,
    stuck_threshold: Duration::from_secs(1800),
    max_consecutive_errors: 5,
    max_transition: Duration::from_secs(300),
    max_starts: 5,
};

fn minutes(minutes: i64) -> i64 {
    minutes * 60_000
}

/// Returns a status with progress a minute ago, and a deadline in 29 minutes.
pub(super) fn worker_status(status: Status, now: Timestamp) -> WorkerStatus {
    WorkerStatus {
        status,
        state_since: Timestamp(now.0 - minutes(10)),
        until: Some(Timestamp(now.0 + minutes(29))),
        reason: "503 from api.example.com".to_owned(),
        last_progress: Timestamp(now.0 - minutes(1)),
        last_updated: Timestamp(now.0 - minutes(1)),
        consecutive_errors: 0,
        last_cause: None,
        storage_error: None,
        session_started_at: None,
        quarantined: 0,
        process: ProcessStatus::Running { pid: PID },
    }
}

pub(super) fn unit_status(active_state: ActiveState, now: Timestamp) -> UnitStatus {
    UnitStatus {
        name: UNIT.to_owned(),
        load_state: LoadState::Loaded,
        active_state,
        sub_state: "running".to_owned(),
        result: "success".to_owned(),
        main_pid: Some(PID),
        restarts: 0,
        exit_status: 0,
        active_since: Some(Timestamp(now.0 - minutes(180))),
        state_changed_at: Some(Timestamp(now.0 - minutes(180))),
        status_text: String::new(),
        watchdog_timeout: Some(Duration::from_secs(60)),
        start_limit: StartLimit { interval: Duration::ZERO, burst: 5 },
        unit_file_state: "enabled".to_owned(),
    }
}

fn observed_unit(unit: UnitStatus) -> UnitObservation {
    UnitObservation::Observed { unit, recent_starts: None }
}

fn running_unit() -> UnitObservation {
    observed_unit(unit_status(ActiveState::Active, NOW))
}

fn finding_line(finding: &Finding) -> String {
    let value = finding.value.as_ref().map(|value| format!(" ({value})")).unwrap_or_default();
    let advice = finding.advice.as_ref().map(|advice| format!("; {advice}")).unwrap_or_default();
    let remedy = match finding.remedy {
        Remedy::Restart => "restart, ",
        Remedy::None => "",
    };
    format!("{remedy}{}: {}{value}{advice}", finding.level.name(), finding.message)
}

/// Returns the finding about a source, as a line.
fn source_line(state_file: StateFileContent, unit: &UnitObservation) -> String {
    let watched = WatchedSource { name: "work".to_owned(), state_file };
    finding_line(&evaluate(UNIT, unit, &[watched], &LIMITS, NOW)[1])
}

fn worker_line(worker: WorkerStatus) -> String {
    source_line(StateFileContent::Status(worker), &running_unit())
}

/// Returns the finding about the unit, as a line.
fn unit_line(observation: &UnitObservation) -> String {
    finding_line(&evaluate(UNIT, observation, &[], &LIMITS, NOW)[0])
}

#[test]
fn a_worker_before_its_deadline_is_healthy() {
    let lines = Status::ALL.map(|status| worker_line(worker_status(status, NOW))).join("\n");

    insta::assert_snapshot!(lines, @r"
    HEALTHY: idle
    HEALTHY: collecting
    HEALTHY: downloading
    HEALTHY: completed
    WARNING: waiting after an error: 503 from api.example.com (29 min left)
    HEALTHY: rate limited: 503 from api.example.com (29 min left)
    CRITICAL: its credential is refused: 503 from api.example.com (for 10 min); replace the credential: `cynosure status` shows where it is
    ");
}

#[test]
fn a_six_hour_wait_is_never_stuck() {
    let mut waiting = worker_status(Status::RateLimited, NOW);
    waiting.state_since = Timestamp(NOW.0 - minutes(355));
    waiting.last_progress = waiting.state_since;
    waiting.last_updated = waiting.state_since;
    waiting.until = Some(Timestamp(NOW.0 + minutes(5)));

    let line = worker_line(waiting);

    assert_eq!(line, "HEALTHY: rate limited: 503 from api.example.com (5 min left)");
}

#[test]
fn a_missed_deadline_means_a_stuck_worker() {
    let mut late = worker_status(Status::RateLimited, NOW);
    late.until = Some(Timestamp(NOW.0 - minutes(5)));
    let within_the_grace = worker_line(late.clone());
    late.until = Some(Timestamp(NOW.0 - minutes(7)));

    assert!(within_the_grace.starts_with("HEALTHY"), "{within_the_grace}");
    insta::assert_snapshot!(worker_line(late), @"restart, CRITICAL: stuck while rate limited: process 4711 missed its deadline (7 min late); restart it with `systemctl restart cynosure.service`");
}

#[test]
fn a_manually_started_worker_causes_no_unit_restart() {
    let mut late = worker_status(Status::Downloading, NOW);
    late.until = Some(Timestamp(NOW.0 - minutes(60)));
    let mut other = unit_status(ActiveState::Active, NOW);
    other.main_pid = Some(1234);

    insta::assert_snapshot!(source_line(StateFileContent::Status(late), &observed_unit(other)), @"CRITICAL: stuck while downloading: process 4711 missed its deadline (1 h late); end process 4711 and start it again");
}

#[test]
fn a_stall_warns_first_and_then_needs_intervention() {
    let mut stalled = worker_status(Status::Downloading, NOW);
    stalled.state_since = Timestamp(NOW.0 - minutes(500));
    // The worker restarted the phase ten minutes ago.
    stalled.until = Some(Timestamp(NOW.0 + minutes(20)));
    stalled.last_progress = Timestamp(NOW.0 - minutes(40));
    let first = worker_line(stalled.clone());
    stalled.last_progress = Timestamp(NOW.0 - minutes(80));

    insta::assert_snapshot!(first, @"WARNING: downloading without progress (40 min); wait: its worker restarts the phase, then itself");
    insta::assert_snapshot!(worker_line(stalled), @"CRITICAL: downloading without progress (1 h 20 min); its worker restarted itself without success: see why with `journalctl -u cynosure.service -n 50`, and `cynosure history work`");
}

#[test]
fn new_or_idle_work_is_not_stalled() {
    let mut started = worker_status(Status::Downloading, NOW);
    started.state_since = Timestamp(NOW.0 - minutes(500));
    started.last_progress = Timestamp(NOW.0 - minutes(400));
    started.until = Some(Timestamp(NOW.0 + minutes(25)));
    let mut idle = started.clone();
    idle.until = Some(Timestamp(NOW.0 + minutes(120)));

    assert_eq!([started, idle].map(worker_line), ["HEALTHY: downloading"; 2]);
}

#[test]
fn errors_in_a_row_are_counted_against_the_limit() {
    let failing = WorkerStatus { consecutive_errors: 6, ..worker_status(Status::Error, NOW) };

    insta::assert_snapshot!(worker_line(failing), @"CRITICAL: consecutive errors without progress: 503 from api.example.com (6 of 5); see what fails with `cynosure history work`");
}

#[test]
fn a_state_ahead_of_the_clock_is_clock_skew() {
    let mut ahead = worker_status(Status::Downloading, NOW);
    ahead.last_updated = Timestamp(NOW.0 + minutes(1440));
    ahead.until = Some(Timestamp(NOW.0 - minutes(60)));

    insta::assert_snapshot!(worker_line(ahead), @"WARNING: the timestamp of its state is in the future: the clock was set back (1 d ahead); set the clock: `timedatectl`");
}

#[test]
fn a_dead_worker_is_reported_unless_its_unit_is_starting() {
    let with_process = |process| {
        StateFileContent::Status(WorkerStatus {
            process,
            ..worker_status(Status::Downloading, NOW)
        })
    };
    let down = observed_unit(unit_status(ActiveState::Inactive, NOW));
    let mut starting = unit_status(ActiveState::Activating, NOW);
    starting.sub_state = "auto-restart".to_owned();
    let lines = [
        source_line(with_process(ProcessStatus::Died { pid: PID }), &down),
        source_line(with_process(ProcessStatus::Exited), &down),
        source_line(with_process(ProcessStatus::Exited), &observed_unit(starting)),
        source_line(StateFileContent::NeverRun, &down),
        source_line(
            StateFileContent::Unreadable { reason: "its state file cannot be read".to_owned() },
            &running_unit(),
        ),
    ];

    insta::assert_snapshot!(lines.join("\n"), @r"
    CRITICAL: its worker, process 4711, died without recording its exit; see why with `journalctl -u cynosure.service -n 50`
    WARNING: stopped while downloading, and no worker is running; start it with `systemctl start cynosure.service` or `cynosure run`
    HEALTHY: its unit is starting it
    WARNING: it has never run; start it with `systemctl start cynosure.service` or `cynosure run`
    UNKNOWN: its state file cannot be read; the next start rebuilds it from the ledger; if a newer cynosure wrote it, use that version: see `cynosure status`
    ");
}

#[test]
fn a_unit_is_evaluated_by_state_and_duration() {
    let line_with = |active_state, change: fn(&mut UnitStatus)| {
        let mut unit = unit_status(active_state, NOW);
        change(&mut unit);
        unit_line(&observed_unit(unit))
    };
    let lines = [
        line_with(ActiveState::Active, |unit| unit.restarts = 3),
        line_with(ActiveState::Inactive, |_| {}),
        line_with(ActiveState::Inactive, |unit| unit.unit_file_state = "disabled".to_owned()),
        line_with(ActiveState::Failed, |unit| {
            unit.result = "watchdog".to_owned();
            unit.exit_status = 6;
        }),
        line_with(ActiveState::Failed, |unit| {
            unit.result = "exit-code".to_owned();
            unit.exit_status = 78;
        }),
        line_with(ActiveState::Activating, |_| {}),
        line_with(ActiveState::Activating, |unit| unit.sub_state = "auto-restart".to_owned()),
        line_with(ActiveState::Deactivating, |_| {}),
        line_with(ActiveState::Active, |unit| unit.load_state = LoadState::Masked),
        line_with(ActiveState::Inactive, |unit| unit.load_state = LoadState::NotFound),
    ];

    insta::assert_snapshot!(lines.join("\n"), @r"
    HEALTHY: it runs, restarted 3 times by systemd (for 3 h)
    CRITICAL: it was stopped, or never started; start it with `systemctl start cynosure.service` or `cynosure run`
    WARNING: it was stopped, or never started; start it with `systemctl start cynosure.service` or `cynosure run`
    restart, CRITICAL: it has failed: watchdog (status 6); see why with `journalctl -u cynosure.service -n 50`
    CRITICAL: it has failed: exit-code (status 78); correct the configuration: `cynosure config check`
    restart, CRITICAL: it has been activating for too long (for 3 h); restart it with `systemctl restart cynosure.service`
    HEALTHY: it is starting or stopping
    WARNING: it has been deactivating for too long (for 3 h); restart it with `systemctl restart cynosure.service`
    CRITICAL: it is masked; unmask it with `systemctl unmask cynosure.service`
    HEALTHY: this unit is not installed; install the unit, or set service.service_name to its name
    ");
}

#[test]
fn repeated_starts_are_a_crash_loop() {
    let looping = |starts| UnitObservation::Observed {
        unit: unit_status(ActiveState::Active, NOW),
        recent_starts: Some(RecentStarts { starts, window: Duration::from_secs(540) }),
    };

    assert!(unit_line(&looping(5)).starts_with("HEALTHY"));
    insta::assert_snapshot!(unit_line(&looping(6)), @"WARNING: crash loop: it restarts repeatedly (6 in 9 min); see why with `journalctl -u cynosure.service -n 50`");
}

#[test]
fn absent_systemd_is_skipped_and_unresponsive_is_unknown() {
    let lines = [
        unit_line(&UnitObservation::NoSystemd { reason: "there is no D-Bus".to_owned() }),
        unit_line(&UnitObservation::Unavailable {
            reason: "cannot query the state of cynosure.service: no response within 10 s"
                .to_owned(),
            advice: "see whether it responds".to_owned(),
        }),
    ];

    insta::assert_snapshot!(lines.join("\n"), @r"
    SKIPPED: it cannot be observed or restarted: systemd is not running (there is no D-Bus); nothing to do if the worker was started by other means
    UNKNOWN: cannot query the state of cynosure.service: no response within 10 s; see whether it responds
    ");
}
