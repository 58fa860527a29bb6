//! Tests of the findings and of those to alert about, by their texts.

mod breaker_episodes;
pub(super) mod resolution;

use std::time::Duration;

use super::*;
use crate::Status;
use crate::alert::{AlertKey, Severity, correlate};
use crate::breaker::BreakerState;
use crate::health::watch::{Diagnosis, ProcessStatus, RecentStarts, WatchLimits, WorkerStatus};

pub(super) const NOW: Timestamp = Timestamp(1_772_874_303_000);
pub(super) const UNIT: &str = "cynosure.service";
pub(super) const HOUR: i64 = 3_600_000;

pub(super) const LIMITS: HealthLimits = HealthLimits {
    thresholds: Thresholds::DEFAULT,
    max_session_age: Duration::from_secs(2 * 86_400),
    clock_stable_for: Duration::MAX,
};

const WATCH_LIMITS: WatchLimits = WatchLimits {
    grace: Duration::from_secs(30),
    stuck_threshold: Duration::from_secs(1800),
    max_consecutive_errors: 5,
    max_transition: Duration::from_secs(300),
    max_starts: 5,
    clock_stable_for: Duration::MAX,
};

/// Returns a finding about a source that [`UNIT`] runs.
pub(super) fn source_finding(name: &str, level: HealthLevel, diagnosis: Diagnosis) -> Finding {
    source_finding_with_unit(name, level, diagnosis, Some(UNIT))
}

/// Returns a finding about a source that `unit` runs, if any.
pub(super) fn source_finding_with_unit(
    name: &str,
    level: HealthLevel,
    diagnosis: Diagnosis,
    unit: Option<&str>,
) -> Finding {
    diagnosis.into_finding((CheckKind::Execution, name), level, Remedy::None, unit, &WATCH_LIMITS)
}

fn healthy_finding(name: &str) -> Finding {
    let diagnosis = Diagnosis::Healthy { status: Status::Downloading };
    source_finding(name, HealthLevel::Healthy, diagnosis)
}

pub(super) fn main_unit_finding(level: HealthLevel, diagnosis: Diagnosis) -> Finding {
    unit_finding(UNIT, level, diagnosis)
}

pub(super) fn unit_finding(unit: &str, level: HealthLevel, diagnosis: Diagnosis) -> Finding {
    let subject = (CheckKind::Service, unit);
    diagnosis.into_finding(subject, level, Remedy::None, Some(unit), &WATCH_LIMITS)
}

fn healthy_source(name: &str) -> SourceObservation {
    SourceObservation {
        name: name.to_owned(),
        provider: "example".to_owned(),
        state: Some(WorkerStatus {
            status: Status::Downloading,
            state_since: Timestamp(NOW.0 - HOUR),
            until: Some(Timestamp(NOW.0 + HOUR / 2)),
            reason: String::new(),
            last_progress: Timestamp(NOW.0 - 2_000),
            last_updated: Timestamp(NOW.0 - 2_000),
            consecutive_errors: 0,
            last_cause: None,
            storage_error: None,
            session_started_at: Some(Timestamp(NOW.0 - HOUR)),
            quarantined: 0,
            process: ProcessStatus::Running { pid: 4711 },
        }),
        counters: Ok(Some(CounterObservation {
            attempts: 10,
            success_rate: Some(0.9),
            p95_latency: Some(Duration::from_millis(120)),
            ..CounterObservation::default()
        })),
    }
}

pub(super) fn healthy_disk() -> DiskUsage {
    DiskUsage {
        path: "/srv/mail".to_owned(),
        used_ratio: 0.4,
        free_bytes: 50_000_000_000,
        inode_ratio: Some(0.1),
    }
}

pub(super) fn journal_errors(unit: &str, count: u32) -> JournalErrors {
    JournalErrors { unit: unit.to_owned(), count, newest: (count > 0).then(|| "503".to_owned()) }
}

/// Returns inputs with two working sources and no problem.
pub(super) fn healthy_inputs() -> HealthInputs {
    let running = Diagnosis::UnitRunning { uptime: Some(Duration::from_secs(3600)), restarts: 0 };
    HealthInputs {
        unit: UNIT.to_owned(),
        findings: vec![
            main_unit_finding(HealthLevel::Healthy, running),
            healthy_finding("home"),
            healthy_finding("work"),
        ],
        sources: vec![healthy_source("home"), healthy_source("work")],
        uncollected_reason: None,
        breakers: Ok(Vec::new()),
        crash_loops: Ok(Vec::new()),
        proxy_pool: None,
        system: Ok(HostMetrics {
            cpu_ratio: Some(0.2),
            memory_ratio: Some(0.5),
            disks: vec![healthy_disk()],
        }),
        unmeasured_folders: Vec::new(),
        archive_mismatches: Vec::new(),
        journal_errors: Some(Ok(vec![journal_errors(UNIT, 0)])),
    }
}

fn finding_lines(report: &HealthCheckReport, level: HealthLevel) -> Vec<String> {
    let line = |finding: &Finding| {
        let parts = [
            Some(format!("{} {}: {}", finding.check.name(), finding.subject, finding.message)),
            finding.value.clone(),
            finding.threshold.clone(),
            finding.advice.clone(),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" | ")
    };
    report.findings.iter().filter(|finding| finding.level == level).map(line).collect()
}

/// Returns all findings that are not healthy, as lines.
fn failing_lines(inputs: &HealthInputs) -> Vec<String> {
    let report = evaluate(inputs, &LIMITS, NOW);
    [HealthLevel::Critical, HealthLevel::Unknown, HealthLevel::Warning]
        .iter()
        .flat_map(|level| {
            finding_lines(&report, *level)
                .into_iter()
                .map(|line| format!("{}: {line}", level.name()))
        })
        .collect()
}

/// Returns the findings to alert about, as lines.
fn alert_lines(inputs: &HealthInputs) -> Vec<String> {
    let observation = correlate(inputs, &evaluate(inputs, &LIMITS, NOW));
    let line = |finding: &Finding| {
        let (severity, key) = (Severity::from(finding.level).name(), AlertKey::from(finding));
        format!("{severity} {key} {}: {}", finding.subject, finding.message_with_value())
    };
    observation.findings.iter().map(line).collect()
}

#[test]
fn healthy_inputs_yield_healthy_findings_and_no_alerts() {
    let report = evaluate(&healthy_inputs(), &LIMITS, NOW);

    assert_eq!(report.level, HealthLevel::Healthy);
    insta::assert_snapshot!(finding_lines(&report, HealthLevel::Healthy).join("\n"), @"
    service cynosure.service: it runs | for 1 h
    execution home: downloading
    execution work: downloading
    heartbeat : 2 states written in time | 2 s | more than 5 min
    sources : the last attempts of each source mostly succeeded | 90 % | less than 30 %
    clients : no source has lost its connection | 0 failures in a row | 3 or more
    system processor: there is enough | 20 % used | more than 95 %
    system memory: there is enough | 50 % used | more than 90 %
    system /srv/mail: its disk has room | 40 % used, 50.0 GB free | more than 80 %
    journal cynosure.service: few or no errors in its journal | 0 errors in 15 min | 10 or more
    ");
    assert_eq!(alert_lines(&healthy_inputs()), [""; 0]);
}

#[test]
fn failing_sources_show_value_threshold_and_advice() {
    let mut inputs = healthy_inputs();
    let [home, work] = &mut inputs.sources[..] else { panic!("two sources") };
    home.counters =
        Ok(Some(CounterObservation { success_rate: Some(0.2), ..home.known_counters().unwrap() }));
    home.state.as_mut().unwrap().session_started_at = Some(Timestamp(NOW.0 - 60 * HOUR));
    let counters = work.known_counters().unwrap();
    work.counters =
        Ok(Some(CounterObservation { connection_failures: 4, reconnects: 1, ..counters }));
    work.state.as_mut().unwrap().last_updated = Timestamp(NOW.0 - 420_000);

    insta::assert_snapshot!(failing_lines(&inputs).join("\n"), @"
    WARNING: execution home: its session takes too long | 2 d 12 h | more than 2 d | see what delays it: `cynosure history home`
    WARNING: heartbeat work: its state was not written in time | 7 min | more than 5 min | see whether its worker still runs: `cynosure status`
    WARNING: sources home: few of its last 10 attempts succeeded | 20 % | less than 30 % | see what fails: `cynosure failures home`
    WARNING: clients work: its requests get no response, and its HTTP client was recreated (1 time so far) | 4 failures in a row | 3 or more | see whether its server can be reached: `cynosure doctor`
    ");
}

#[test]
fn nine_attempts_are_too_few_for_a_success_rate() {
    let mut inputs = healthy_inputs();
    for source in &mut inputs.sources {
        let counters = CounterObservation {
            attempts: 9,
            success_rate: Some(0.0),
            ..CounterObservation::default()
        };
        source.counters = Ok(Some(counters));
    }

    assert_eq!(failing_lines(&inputs), [""; 0]);
}

#[test]
fn a_six_hour_wait_is_no_missed_heartbeat() {
    let mut inputs = healthy_inputs();
    let state = inputs.sources[0].state.as_mut().unwrap();
    state.status = Status::RateLimited;
    state.last_updated = Timestamp(NOW.0 - 5 * HOUR);
    state.until = Some(Timestamp(NOW.0 + HOUR));
    assert_eq!(failing_lines(&inputs), [""; 0]);

    inputs.sources[0].state.as_mut().unwrap().until = Some(Timestamp(NOW.0 - 301_000));
    assert_eq!(failing_lines(&inputs).len(), 1);

    inputs.sources[0].state.as_mut().unwrap().process = ProcessStatus::Exited;
    assert_eq!(failing_lines(&inputs), [""; 0], "an exited worker sends no heartbeat");
}

#[test]
fn a_missing_state_is_a_warning() {
    let mut inputs = healthy_inputs();
    inputs.sources[0].state = None;

    insta::assert_snapshot!(failing_lines(&inputs).join("\n"), @"
    WARNING: heartbeat home: its state file is missing or unreadable | see `cynosure status`
    ");
}

#[test]
fn uncollected_inputs_are_unknown_and_never_healthy() {
    let inputs = HealthInputs {
        system: Err("no response within 10 s".to_owned()),
        journal_errors: Some(Err("journalctl is not installed".to_owned())),
        crash_loops: Err("restarts.json cannot be read".to_owned()),
        ..healthy_inputs()
    };

    assert_eq!(evaluate(&inputs, &LIMITS, NOW).level, HealthLevel::Unknown);
    insta::assert_snapshot!(failing_lines(&inputs).join("\n"), @"
    UNKNOWN: service : cannot be checked: restarts.json cannot be read
    UNKNOWN: system : cannot be checked: no response within 10 s
    UNKNOWN: journal cynosure.service: cannot be checked: journalctl is not installed
    ");
    assert_eq!(HealthCheckReport::new(Vec::new(), NOW).level, HealthLevel::Unknown);
}

#[test]
fn host_metrics_are_checked_against_thresholds() {
    let with_host = |cpu, memory, used, free, inodes| HealthInputs {
        system: Ok(HostMetrics {
            cpu_ratio: cpu,
            memory_ratio: memory,
            disks: vec![DiskUsage {
                used_ratio: used,
                free_bytes: free,
                inode_ratio: inodes,
                ..healthy_disk()
            }],
        }),
        ..healthy_inputs()
    };
    let plenty = 50_000_000_000;

    assert_eq!(failing_lines(&with_host(Some(0.95), Some(0.9), 0.8, plenty, Some(0.9))), [""; 0]);
    let all = [
        with_host(Some(0.96), Some(0.91), 0.81, plenty, None),
        with_host(None, Some(0.5), 0.91, plenty, None),
        with_host(Some(0.5), Some(0.5), 0.5, 1_999_999_999, Some(0.95)),
    ];
    let all: Vec<_> = all.iter().flat_map(failing_lines).collect();
    insta::assert_snapshot!(all.join("\n"), @"
    WARNING: system processor: nearly all of it is used | 96 % used | more than 95 % | see what uses it: `top`
    WARNING: system memory: nearly all of it is used | 91 % used | more than 90 % | see what uses it: `top`
    WARNING: system /srv/mail: its disk is filling up | 81 % used, 50.0 GB free | more than 80 % | make room, or move `archive.dir` to a larger disk
    CRITICAL: system /srv/mail: its disk is nearly full | 91 % used, 50.0 GB free | more than 90 %, or less than 2.0 GB free | make room, or move `archive.dir` to a larger disk
    UNKNOWN: system processor: cannot be checked: the kernel does not report the usage
    CRITICAL: system /srv/mail: its disk is nearly full | 50 % used, 2.0 GB free | more than 90 %, or less than 2.0 GB free | make room, or move `archive.dir` to a larger disk
    CRITICAL: system /srv/mail: its disk can hold few more files | 95 % of its inodes used | more than 90 % | remove small files, or make a filesystem with more inodes
    ");
}

#[test]
fn a_proxy_pool_needs_three_healthy_or_all() {
    let pool_lines = |total, healthy| {
        let pool = ProxyPoolStatus {
            total,
            healthy,
            failing: 0,
            dead: total - healthy,
            cooling_down: 1.min(total - healthy),
            mean_latency: Some(Duration::from_millis(40)),
        };
        failing_lines(&HealthInputs { proxy_pool: Some(Ok(Some(pool))), ..healthy_inputs() })
    };

    for (total, healthy) in [(5, 3), (3, 3), (2, 2), (1, 1)] {
        assert_eq!(pool_lines(total, healthy), [""; 0]);
    }
    let lines = [pool_lines(5, 2), pool_lines(2, 1), pool_lines(1, 0)].concat();
    insta::assert_snapshot!(lines.join("\n"), @"
    CRITICAL: proxies : 2 of 5 healthy, 0 failing, 3 dead (1 in cooldown), mean latency 40 ms | 2 of 5 | fewer than 3 | see which fail: `cynosure doctor`; repair them, or change `proxy.pool`
    CRITICAL: proxies : 1 of 2 healthy, 0 failing, 1 dead (1 in cooldown), mean latency 40 ms | 1 of 2 | fewer than 2 | see which fail: `cynosure doctor`; repair them, or change `proxy.pool`
    CRITICAL: proxies : 0 of 1 healthy, 0 failing, 1 dead (1 in cooldown), mean latency 40 ms | 0 of 1 | fewer than 1 | see which fail: `cynosure doctor`; repair them, or change `proxy.pool`
    ");
}

#[test]
fn a_crash_loop_is_one_warning_from_any_counter() {
    let recent_starts = RecentStarts { starts: 6, window: Duration::from_secs(540) };
    let mut by_systemd = healthy_inputs();
    by_systemd.findings[0] =
        main_unit_finding(HealthLevel::Warning, Diagnosis::CrashLoop(recent_starts));
    let by_restart_budget =
        HealthInputs { crash_loops: Ok(vec![(UNIT.to_owned(), 7)]), ..healthy_inputs() };
    let of_a_source =
        HealthInputs { crash_loops: Ok(vec![("work".to_owned(), 8)]), ..healthy_inputs() };
    let both =
        HealthInputs { crash_loops: by_restart_budget.crash_loops.clone(), ..by_systemd.clone() };

    for inputs in [&by_systemd, &by_restart_budget, &both, &of_a_source] {
        assert_eq!(failing_lines(inputs).len(), 1, "{:?}", failing_lines(inputs));
    }
    let all = [&by_systemd, &of_a_source].map(alert_lines).concat();
    insta::assert_snapshot!(all.join("\n"), @"
    warning service.crash_loop cynosure.service: crash loop: it restarts repeatedly (6 in 9 min)
    warning execution.crash_loop work: crash loop: it restarts repeatedly (8 restarts in a row)
    ");
}

#[test]
fn without_a_unit_advice_does_not_mention_systemd() {
    let lines_without_unit = |diagnosis| {
        let mut inputs =
            HealthInputs { crash_loops: Ok(vec![("work".to_owned(), 8)]), ..healthy_inputs() };
        inputs.findings[0] = main_unit_finding(HealthLevel::Healthy, diagnosis);
        let died = Diagnosis::Died { pid: 1 };
        inputs.findings[1] = source_finding_with_unit("home", HealthLevel::Critical, died, None);
        let stopped = Diagnosis::Stopped { status: Status::Downloading };
        inputs.findings[2] = source_finding_with_unit("work", HealthLevel::Warning, stopped, None);
        failing_lines(&inputs).join("\n")
    };
    let no_systemd =
        lines_without_unit(Diagnosis::NoSystemd { reason: "there is no D-Bus".to_owned() });

    assert_eq!(lines_without_unit(Diagnosis::UnitNotInstalled), no_systemd);
    insta::assert_snapshot!(no_systemd, @"
    CRITICAL: execution home: its worker, process 1, died without recording its exit | see why in its log
    WARNING: execution work: stopped while downloading, and no worker is running | start it with `cynosure run`
    WARNING: execution work: crash loop: it restarts repeatedly | 8 restarts in a row | more than 5 | see why in its log
    ");
}

#[test]
fn a_failing_provider_is_one_alert() {
    let mut inputs = healthy_inputs();
    for source in &mut inputs.sources {
        source.counters = Ok(Some(CounterObservation {
            attempts: 10,
            success_rate: Some(0.0),
            connection_failures: 12,
            ..CounterObservation::default()
        }));
    }
    inputs.findings[1] = source_finding(
        "home",
        HealthLevel::Critical,
        Diagnosis::Failing { errors: 5, limit: 5, reason: "503".to_owned() },
    );
    inputs.findings[2] = source_finding(
        "work",
        HealthLevel::Warning,
        Diagnosis::Waiting {
            status: Status::Error,
            remaining: Duration::from_secs(60),
            reason: "503".to_owned(),
        },
    );
    inputs.journal_errors = Some(Ok(vec![journal_errors(UNIT, 99)]));
    let without_breaker = alert_lines(&inputs);
    inputs.breakers = Ok(vec![BreakerObservation {
        name: "example".to_owned(),
        state: BreakerState::Open,
        reason: "5 failures in a row".to_owned(),
        open_periods: Vec::new(),
    }]);

    assert_eq!(failing_lines(&inputs).len(), 7, "{:?}", failing_lines(&inputs));
    let all = [without_breaker, alert_lines(&inputs)].concat();
    insta::assert_snapshot!(all.join("\n"), @"
    critical provider.degraded example: home: consecutive errors without progress: 503 (5 of 5)
    critical provider.degraded example: its circuit breaker opened: 5 failures in a row
    ");
}

#[test]
fn a_failed_unit_inhibits_its_sources() {
    let mut inputs = healthy_inputs();
    inputs.findings[0] = main_unit_finding(
        HealthLevel::Critical,
        Diagnosis::UnitFailed { result: "exit-code".to_owned(), exit_status: 1, start_limit: None },
    );
    inputs.findings[1] = source_finding("home", HealthLevel::Critical, Diagnosis::Died { pid: 1 });
    inputs.findings[2] = source_finding(
        "work",
        HealthLevel::Warning,
        Diagnosis::Stopped { status: Status::Downloading },
    );

    insta::assert_snapshot!(alert_lines(&inputs).join("\n"), @"
    critical service.unit_failed cynosure.service: it has failed: exit-code (status 1)
    ");
}

#[test]
fn a_full_disk_inhibits_storage_alerts() {
    let mut inputs = healthy_inputs();
    for source in &mut inputs.sources {
        let state = source.state.as_mut().unwrap();
        (state.status, state.storage_error) =
            (Status::Error, Some("cannot write: No space left on device".to_owned()));
    }
    let failing = alert_lines(&inputs);
    inputs.system = Ok(HostMetrics {
        cpu_ratio: None,
        memory_ratio: Some(0.1),
        disks: vec![DiskUsage { used_ratio: 1.0, free_bytes: 0, ..healthy_disk() }],
    });
    inputs.breakers = Ok(vec![BreakerObservation {
        name: "archive".to_owned(),
        state: BreakerState::Open,
        reason: "5 failures in a row".to_owned(),
        open_periods: Vec::new(),
    }]);

    let all = [failing, alert_lines(&inputs)].concat();
    insta::assert_snapshot!(all.join("\n"), @"
    critical storage.failing : 2 sources cannot store documents; home: cannot write: No space left on device
    warning system.unknown processor: cannot be checked: the kernel does not report the usage
    critical system.disk_full /srv/mail: its disk is nearly full (100 % used, 0 bytes free)
    ");
}

#[test]
fn refused_credentials_and_quarantine_name_their_source() {
    let mut inputs = healthy_inputs();
    let refused = Diagnosis::CredentialRefused {
        duration: Duration::from_secs(60),
        reason: "401".to_owned(),
    };
    inputs.findings[1] = source_finding("home", HealthLevel::Critical, refused);
    inputs.sources[1].state.as_mut().unwrap().quarantined = 3;

    insta::assert_snapshot!(alert_lines(&inputs).join("\n"), @"
    critical execution.credential_refused home: its credential is refused: 401 (for 1 min)
    warning quarantine.items work: 3 items of its last session could not be fetched: quarantined
    ");
}
