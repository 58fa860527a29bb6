//! Tests of what resolves an alert, and what only makes its condition unobserved.

use super::*;
use crate::alert::{AlertStore, NotificationKind};

const INSTANCE: &str = "cynosure@work.service";

/// Evaluates once and returns the notifications as lines.
fn evaluate_to_lines(alerts: &mut AlertStore, inputs: &HealthInputs) -> Vec<String> {
    let observation = correlate(inputs, &evaluate(inputs, &LIMITS, NOW));
    let notifications = alerts.evaluate(&observation, NOW);
    let line = |notification: &crate::alert::Notification| {
        let (kind, alert) = (notification.kind.name(), &notification.alert);
        format!("{kind} {} {}", alert.key, alert.subject).trim_end().to_owned()
    };
    notifications.iter().map(line).collect()
}

/// Returns the alerts raised by `before` that `after` resolves.
fn resolved_lines(before: &HealthInputs, after: &HealthInputs) -> Vec<String> {
    let mut alerts = AlertStore::default();
    assert_ne!(evaluate_to_lines(&mut alerts, before), [""; 0], "an alert is firing");
    let mut lines = evaluate_to_lines(&mut alerts, after);
    lines.retain(|line| line.starts_with(NotificationKind::Resolved.name()));
    lines
}

fn waiting_diagnosis() -> Diagnosis {
    let remaining = Duration::from_secs(60);
    Diagnosis::Waiting { status: Status::Error, remaining, reason: "503".to_owned() }
}

/// Returns inputs that raise each kind of alert that the workers' files can raise.
fn failing_inputs() -> HealthInputs {
    let mut inputs = healthy_inputs();
    for source in &mut inputs.sources {
        let counters = source.known_counters().unwrap();
        source.counters = Ok(Some(CounterObservation { connection_failures: 9, ..counters }));
    }
    inputs.crash_loops = Ok(vec![(UNIT.to_owned(), 7), ("work".to_owned(), 8)]);
    inputs.proxy_pool = Some(Ok(Some(ProxyPoolStatus {
        total: 2,
        healthy: 0,
        failing: 0,
        dead: 2,
        cooling_down: 1,
        mean_latency: None,
    })));
    inputs.sources[0].state.as_mut().unwrap().last_updated = Timestamp(NOW.0 - HOUR);
    inputs.sources[0].state.as_mut().unwrap().until = None;
    inputs.sources[1].state.as_mut().unwrap().quarantined = 3;
    inputs
}

/// Returns the inputs of a cycle in which reading the workers' files timed out.
pub(in crate::health) fn without_worker_files(inputs: &HealthInputs) -> HealthInputs {
    let reason = "no response within 10 s".to_owned();
    let mut inputs = inputs.clone();
    for source in &mut inputs.sources {
        (source.state, source.counters) = (None, Err(reason.clone()));
    }
    (inputs.breakers, inputs.crash_loops) = (Err(reason.clone()), Err(reason.clone()));
    (inputs.proxy_pool, inputs.uncollected_reason) = (Some(Err(reason.clone())), Some(reason));
    inputs
}

#[test]
fn a_failed_collection_resolves_nothing_and_is_notified_once() {
    let mut alerts = AlertStore::default();
    assert_eq!(
        evaluate_to_lines(&mut alerts, &failing_inputs()),
        [
            "firing service.crash_loop cynosure.service",
            "firing proxies.none_healthy",
            "firing execution.crash_loop work",
            "firing heartbeat.silent home",
            "firing quarantine.items work",
            "firing provider.degraded example",
        ]
    );

    assert_eq!(
        evaluate_to_lines(&mut alerts, &without_worker_files(&failing_inputs())),
        ["firing sources.unknown"]
    );
    assert_eq!(evaluate_to_lines(&mut alerts, &failing_inputs()), ["resolved sources.unknown"]);
}

#[test]
fn a_failed_collection_makes_source_findings_unknown() {
    let inputs = without_worker_files(&healthy_inputs());
    let report = evaluate(&inputs, &LIMITS, NOW);

    for check in [CheckKind::Heartbeat, CheckKind::Sources, CheckKind::Clients] {
        let found: Vec<_> =
            report.findings.iter().filter(|finding| finding.check == check).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].level, HealthLevel::Unknown);
        assert_eq!(found[0].message, "cannot be checked: no response within 10 s");
    }
    let sources = providers::source_inputs(&inputs, &report);
    assert!(sources.iter().all(|source| source.health != degradation::SourceHealth::Healthy));
}

#[test]
fn unreadable_metrics_leave_the_provider_alert_unchanged() {
    let mut after = healthy_inputs();
    after.sources[0].counters = Err("figures.json cannot be read: EOF".to_owned());

    let report = evaluate(&after, &LIMITS, NOW);

    for check in [CheckKind::Sources, CheckKind::Clients] {
        let found: Vec<_> =
            report.findings.iter().filter(|finding| finding.check == check).collect();
        assert_eq!((found.len(), found[0].level), (1, HealthLevel::Unknown), "{found:?}");
        assert_eq!(found[0].subject, "home");
        assert_eq!(found[0].message, "cannot be checked: figures.json cannot be read: EOF");
    }
    assert_eq!(
        evaluate_to_lines(&mut AlertStore::default(), &after),
        ["firing sources.unknown home"]
    );
    let mut alerts = AlertStore::default();
    evaluate_to_lines(&mut alerts, &failing_inputs());
    let lines = evaluate_to_lines(
        &mut alerts,
        &HealthInputs { crash_loops: failing_inputs().crash_loops, ..after },
    );
    assert!(lines.contains(&"firing sources.unknown home".to_owned()), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("provider")), "{lines:?}");
}

#[test]
fn a_source_without_metrics_is_healthy() {
    let mut inputs = healthy_inputs();
    inputs.sources[0].counters = Ok(None);

    assert_eq!(evaluate(&inputs, &LIMITS, NOW).level, HealthLevel::Healthy);
}

#[test]
fn unreadable_breakers_are_unknown_and_resolve_nothing() {
    let mut before = healthy_inputs();
    before.breakers = Ok(vec![BreakerObservation {
        name: "archive".to_owned(),
        state: BreakerState::Open,
        reason: "5 failures in a row".to_owned(),
        open_periods: Vec::new(),
    }]);
    let after = HealthInputs {
        breakers: Err("breakers.json cannot be read".to_owned()),
        ..healthy_inputs()
    };

    assert_eq!(evaluate(&after, &LIMITS, NOW).level, HealthLevel::Unknown);
    assert_eq!(resolved_lines(&before, &after), [""; 0]);
    assert_eq!(resolved_lines(&before, &healthy_inputs()), ["resolved provider.degraded archive"]);
}

#[test]
fn unreadable_restart_counts_keep_only_crash_loop_alerts() {
    let failed =
        Diagnosis::UnitFailed { result: "exit-code".to_owned(), exit_status: 1, start_limit: None };
    let mut down = healthy_inputs();
    down.findings[0] = main_unit_finding(HealthLevel::Critical, failed);
    let looping = HealthInputs { crash_loops: failing_inputs().crash_loops, ..healthy_inputs() };
    let after = HealthInputs {
        crash_loops: Err("restarts.json cannot be read".to_owned()),
        ..healthy_inputs()
    };

    assert_eq!(resolved_lines(&looping, &after), [""; 0]);
    assert_eq!(resolved_lines(&down, &after), ["resolved service.unit_failed cynosure.service"]);
    assert_eq!(resolved_lines(&looping, &healthy_inputs()).len(), 2);
}

#[test]
fn instance_alerts_persist_while_systemd_is_unavailable() {
    let failed =
        Diagnosis::UnitFailed { result: "exit-code".to_owned(), exit_status: 1, start_limit: None };
    let mut before = inputs_with_instance();
    before.findings[2] = unit_finding(INSTANCE, HealthLevel::Critical, failed);
    let mut with_errors = inputs_with_instance();
    with_errors.journal_errors =
        Some(Ok(vec![journal_errors(UNIT, 0), journal_errors(INSTANCE, 99)]));
    let mut after = healthy_inputs();
    let advice = "see `systemctl status`".to_owned();
    let unknown = Diagnosis::UnitStateUnknown { reason: "no response".to_owned(), advice };
    after.findings[0] = main_unit_finding(HealthLevel::Unknown, unknown);
    after.journal_errors = None;

    assert_eq!(resolved_lines(&before, &after), [""; 0]);
    assert_eq!(resolved_lines(&with_errors, &after), [""; 0]);
    assert_eq!(
        resolved_lines(&with_errors, &inputs_with_instance()),
        [format!("resolved journal.errors {INSTANCE}")]
    );
}

#[test]
fn a_wait_after_an_error_keeps_the_long_session_alert() {
    let mut before = healthy_inputs();
    before.sources[0].state.as_mut().unwrap().session_started_at =
        Some(Timestamp(NOW.0 - 60 * HOUR));
    let mut after = before.clone();
    after.findings[1] = source_finding("home", HealthLevel::Warning, waiting_diagnosis());

    assert_eq!(resolved_lines(&before, &after), [""; 0]);
    assert_eq!(resolved_lines(&before, &healthy_inputs()), ["resolved execution.too_long home"]);
    // The refused credential resolves: the worker now waits after another error.
    let mut refused = before.clone();
    let duration = Duration::from_secs(60);
    let kind = Diagnosis::CredentialRefused { duration, reason: "401".to_owned() };
    refused.findings[1] = source_finding("home", HealthLevel::Critical, kind);
    assert_eq!(resolved_lines(&refused, &after), ["resolved execution.credential_refused home"]);
}

#[test]
fn a_starting_unit_resolves_no_alert_of_its_sources() {
    let duration = Duration::from_secs(60);
    let kinds = [
        Diagnosis::CredentialRefused { duration, reason: "401".to_owned() },
        Diagnosis::Overdue { status: Status::Downloading, late_by: duration, pid: 1 },
        Diagnosis::Died { pid: 1 },
        Diagnosis::Failing { errors: 5, limit: 5, reason: "503".to_owned() },
    ];
    let mut after = healthy_inputs();
    after.findings[1] = source_finding("home", HealthLevel::Healthy, Diagnosis::Starting);

    for kind in kinds {
        let mut before = healthy_inputs();
        before.findings[1] = source_finding("home", HealthLevel::Critical, kind);
        assert_eq!(resolved_lines(&before, &after), [""; 0]);
        assert_eq!(resolved_lines(&before, &healthy_inputs()).len(), 1);
    }
}

#[test]
fn a_missing_state_is_fine_while_the_unit_starts() {
    let mut inputs = healthy_inputs();
    inputs.sources[0].state = None;
    assert_eq!(evaluate(&inputs, &LIMITS, NOW).level, HealthLevel::Warning);

    inputs.findings[1] = source_finding("home", HealthLevel::Healthy, Diagnosis::Starting);

    let report = evaluate(&inputs, &LIMITS, NOW);
    assert_eq!(report.level, HealthLevel::Healthy);
    let heartbeat =
        report.findings.iter().find(|finding| finding.check == CheckKind::Heartbeat).unwrap();
    assert_eq!(heartbeat.message, "1 state written in time");
}

#[test]
fn an_unused_proxy_pool_keeps_its_alert() {
    let before = HealthInputs { proxy_pool: failing_inputs().proxy_pool, ..healthy_inputs() };

    assert_eq!(
        resolved_lines(&before, &HealthInputs { proxy_pool: Some(Ok(None)), ..healthy_inputs() }),
        [""; 0]
    );
    assert_eq!(
        resolved_lines(&before, &healthy_inputs()),
        ["resolved proxies.none_healthy"],
        "no pool is configured any more"
    );
}

#[test]
fn an_unmeasurable_folder_hides_no_other() {
    let full = |path: &str| DiskUsage { path: path.to_owned(), used_ratio: 0.99, ..healthy_disk() };
    let system = |disks| Ok(HostMetrics { cpu_ratio: Some(0.99), memory_ratio: Some(0.5), disks });
    let before =
        HealthInputs { system: system(vec![full("/state"), full("/mail")]), ..healthy_inputs() };
    let after = HealthInputs {
        system: system(vec![full("/mail")]),
        unmeasured_folders: vec![("/state".to_owned(), "Stale file handle".to_owned())],
        ..healthy_inputs()
    };

    let mut alerts = AlertStore::default();
    assert_eq!(evaluate_to_lines(&mut alerts, &before).len(), 3);
    assert_eq!(evaluate_to_lines(&mut alerts, &after), ["firing system.unknown /state"]);
    let report = evaluate(&after, &LIMITS, NOW);
    let of_host = report.findings.iter().filter(|finding| finding.check == CheckKind::System);
    let levels: Vec<_> = of_host.map(|finding| (&*finding.subject, finding.level)).collect();
    assert_eq!(
        levels,
        [
            ("processor", HealthLevel::Warning),
            ("memory", HealthLevel::Healthy),
            ("/mail", HealthLevel::Critical),
            ("/state", HealthLevel::Unknown)
        ]
    );
}

/// Returns inputs in which the main unit runs `home`, and an instance unit runs `work`.
fn inputs_with_instance() -> HealthInputs {
    let mut inputs = healthy_inputs();
    let running = Diagnosis::UnitRunning { uptime: None, restarts: 0 };
    inputs.findings.insert(2, unit_finding(INSTANCE, HealthLevel::Healthy, running));
    inputs.journal_errors = Some(Ok(vec![journal_errors(UNIT, 0), journal_errors(INSTANCE, 0)]));
    inputs
}

#[test]
fn a_failed_unit_inhibits_only_its_own_sources() {
    let failed =
        Diagnosis::UnitFailed { result: "exit-code".to_owned(), exit_status: 1, start_limit: None };
    let mut inputs = inputs_with_instance();
    inputs.findings[2] = unit_finding(INSTANCE, HealthLevel::Critical, failed);
    inputs.findings[1] = source_finding("home", HealthLevel::Critical, Diagnosis::Died { pid: 1 });
    inputs.findings[3] = source_finding("work", HealthLevel::Critical, Diagnosis::Died { pid: 2 });

    assert_eq!(
        evaluate_to_lines(&mut AlertStore::default(), &inputs),
        ["firing service.unit_failed cynosure@work.service", "firing execution.died home"]
    );
}

#[test]
fn advice_names_the_unit_that_runs_the_source() {
    let mut inputs = inputs_with_instance();
    inputs.findings[1] = source_finding("home", HealthLevel::Critical, Diagnosis::Died { pid: 1 });
    inputs.findings[3] = source_finding_with_unit(
        "work",
        HealthLevel::Critical,
        Diagnosis::Died { pid: 2 },
        Some(INSTANCE),
    );
    inputs.crash_loops = Ok(vec![("work".to_owned(), 8), (INSTANCE.to_owned(), 9)]);
    inputs.journal_errors = Some(Ok(vec![journal_errors(UNIT, 0), journal_errors(INSTANCE, 99)]));

    let report = evaluate(&inputs, &LIMITS, NOW);

    let failing = report.findings.iter().filter(|finding| finding.level > HealthLevel::Healthy);
    let advice = failing.map(|finding| {
        let advice = finding.advice.as_deref().unwrap_or_default();
        format!("{} {}: {advice}", finding.check.name(), finding.subject)
    });
    insta::assert_snapshot!(advice.collect::<Vec<_>>().join("\n"), @"
    service cynosure@work.service: see why with `journalctl -u cynosure@work.service -n 50`
    execution home: see why with `journalctl -u cynosure.service -n 50`
    execution work: see why with `journalctl -u cynosure@work.service -n 50`
    execution work: see why with `journalctl -u cynosure@work.service -n 50`
    journal cynosure@work.service: read them: `journalctl -u cynosure@work.service -p err -n 50`
    ");
}

#[test]
fn each_value_with_a_limit_is_shown_with_its_threshold() {
    let status = Status::Downloading;
    let late = Duration::from_secs(7200);
    let kinds = [
        Diagnosis::Overdue { status, late_by: late, pid: 1 },
        Diagnosis::Stalled { status, stalled_for: late },
        Diagnosis::Failing { errors: 7, limit: 5, reason: "503".to_owned() },
        Diagnosis::ClockSkew { ahead_by: late },
    ];
    let mut lines = Vec::new();
    for kind in kinds {
        let mut inputs = healthy_inputs();
        inputs.findings[1] = source_finding("home", HealthLevel::Critical, kind);
        let report = evaluate(&inputs, &LIMITS, NOW);
        let finding = report.findings.iter().find(|finding| finding.subject == "home").unwrap();
        lines
            .push([finding.value.clone().unwrap(), finding.threshold.clone().unwrap()].join(" | "));
    }

    assert_eq!(
        lines,
        [
            "2 h late | more than 30 s",
            "2 h | more than 30 min",
            "7 of 5 | 5 or more",
            "2 h ahead | more than 30 s"
        ]
    );
}
