//! Tests of what resolves an alert, and what only makes its condition unobserved.

use std::time::Duration;

use super::tests::{
    HOUR, LIMITS, NOW, UNIT, healthy_disk, healthy_inputs, journal_errors, main_unit_finding,
    source_finding, unit_finding,
};
use super::*;
use crate::engine::Status;
use crate::engine::alert::{AlertStore, NotificationKind};
use crate::engine::watch::{FindingKind, HealthLevel};

const INSTANCE: &str = "cynosure@work.service";

/// Evaluates once and returns the notifications as lines.
fn evaluate_to_lines(alerts: &mut AlertStore, facts: &HealthInputs) -> Vec<String> {
    let looked = correlate(facts, &evaluate(facts, &LIMITS, NOW));
    let notices = alerts.evaluate(&looked, NOW);
    let line = |notice: &crate::engine::alert::Notification| {
        let (news, alert) = (notice.kind.name(), &notice.alert);
        format!("{news} {} {}", alert.key, alert.subject).trim_end().to_owned()
    };
    notices.iter().map(line).collect()
}

/// Returns the alerts raised by `ill` that `then` resolves.
fn resolved_lines(ill: &HealthInputs, then: &HealthInputs) -> Vec<String> {
    let mut alerts = AlertStore::default();
    assert_ne!(evaluate_to_lines(&mut alerts, ill), [""; 0], "there is something to end");
    let mut told = evaluate_to_lines(&mut alerts, then);
    told.retain(|line| line.starts_with(NotificationKind::Resolved.name()));
    told
}

fn waiting_finding() -> FindingKind {
    let left = Duration::from_secs(60);
    FindingKind::Waiting { status: Status::Error, remaining: left, reason: "503".to_owned() }
}

/// Returns inputs that raise each kind of alert that the workers' files can raise.
fn failing_inputs() -> HealthInputs {
    let mut facts = healthy_inputs();
    for source in &mut facts.sources {
        let counts = source.known_counters().unwrap();
        source.counters = Ok(Some(CounterObservation { connection_failures: 9, ..counts }));
    }
    facts.crash_loops = Ok(vec![(UNIT.to_owned(), 7), ("work".to_owned(), 8)]);
    facts.proxy_pool = Some(Ok(Some(ProxyPoolStatus {
        total: 2,
        healthy: 0,
        suspect: 0,
        dead: 2,
        cooling_down: 1,
        mean_latency: None,
    })));
    facts.sources[0].state.as_mut().unwrap().last_updated = Timestamp(NOW.0 - HOUR);
    facts.sources[0].state.as_mut().unwrap().until = None;
    facts.sources[1].state.as_mut().unwrap().quarantined = 3;
    facts
}

/// Returns the inputs of a cycle in which reading the workers' files timed out.
pub(super) fn without_worker_files(facts: &HealthInputs) -> HealthInputs {
    let why = "no answer within 10 s".to_owned();
    let mut facts = facts.clone();
    for source in &mut facts.sources {
        (source.state, source.counters) = (None, Err(why.clone()));
    }
    (facts.breakers, facts.crash_loops) = (Err(why.clone()), Err(why.clone()));
    (facts.proxy_pool, facts.uncollected_reason) = (Some(Err(why.clone())), Some(why));
    facts
}

#[test]
fn a_failed_collection_resolves_nothing_and_is_notified_once() {
    let mut alerts = AlertStore::default();
    assert_eq!(
        evaluate_to_lines(&mut alerts, &failing_inputs()),
        [
            "raised service.crash_loop cynosure.service",
            "raised proxies.none_healthy",
            "raised execution.crash_loop work",
            "raised heartbeat.silent home",
            "raised quarantine.items work",
            "raised provider.unwell example",
        ]
    );

    assert_eq!(
        evaluate_to_lines(&mut alerts, &without_worker_files(&failing_inputs())),
        ["raised sources.not_known"]
    );
    assert_eq!(evaluate_to_lines(&mut alerts, &failing_inputs()), ["ended sources.not_known"]);
}

#[test]
fn a_failed_collection_makes_source_checks_unknown() {
    let report = evaluate(&without_worker_files(&healthy_inputs()), &LIMITS, NOW);

    for area in [CheckKind::Heartbeat, CheckKind::Sources, CheckKind::Clients] {
        let found: Vec<_> = report.checks.iter().filter(|check| check.kind == area).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].level, HealthLevel::Unknown);
        assert_eq!(found[0].message, "cannot be told: no answer within 10 s");
    }
    let facts = degradation_inputs(&report, &without_worker_files(&healthy_inputs()).sources);
    assert!(
        facts.iter().all(|facts| facts.health != crate::engine::degradation::SourceHealth::Healthy)
    );
}

#[test]
fn unreadable_metrics_leave_the_provider_alert_unchanged() {
    let mut then = healthy_inputs();
    then.sources[0].counters = Err("figures.json cannot be read: EOF".to_owned());

    let report = evaluate(&then, &LIMITS, NOW);

    for area in [CheckKind::Sources, CheckKind::Clients] {
        let found: Vec<_> = report.checks.iter().filter(|check| check.kind == area).collect();
        assert_eq!((found.len(), found[0].level), (1, HealthLevel::Unknown), "{found:?}");
        assert_eq!(found[0].subject, "home");
        assert_eq!(found[0].message, "cannot be told: figures.json cannot be read: EOF");
    }
    assert_eq!(
        evaluate_to_lines(&mut AlertStore::default(), &then),
        ["raised sources.not_known home"]
    );
    let mut alerts = AlertStore::default();
    evaluate_to_lines(&mut alerts, &failing_inputs());
    let told = evaluate_to_lines(
        &mut alerts,
        &HealthInputs { crash_loops: failing_inputs().crash_loops, ..then },
    );
    assert!(told.contains(&"raised sources.not_known home".to_owned()), "{told:?}");
    assert!(!told.iter().any(|line| line.contains("provider")), "{told:?}");
}

#[test]
fn a_source_without_metrics_is_healthy() {
    let mut facts = healthy_inputs();
    facts.sources[0].counters = Ok(None);

    assert_eq!(evaluate(&facts, &LIMITS, NOW).level, HealthLevel::Healthy);
}

#[test]
fn unreadable_breakers_are_unknown_and_resolve_nothing() {
    let mut ill = healthy_inputs();
    ill.breakers = Ok(vec![BreakerObservation {
        name: "archive".to_owned(),
        state: crate::engine::breaker::BreakerState::Open,
        reason: "5 failures in a row".to_owned(),
        openings: Vec::new(),
    }]);
    let then = HealthInputs {
        breakers: Err("breakers.json cannot be read".to_owned()),
        ..healthy_inputs()
    };

    assert_eq!(evaluate(&then, &LIMITS, NOW).level, HealthLevel::Unknown);
    assert_eq!(resolved_lines(&ill, &then), [""; 0]);
    assert_eq!(resolved_lines(&ill, &healthy_inputs()), ["ended provider.unwell archive"]);
}

#[test]
fn unreadable_restart_counts_keep_only_crash_loop_alerts() {
    let failed = FindingKind::UnitFailed {
        result: "exit-code".to_owned(),
        exit_status: 1,
        start_limit: None,
    };
    let mut down = healthy_inputs();
    down.findings[0] = main_unit_finding(HealthLevel::Critical, failed);
    let looping = HealthInputs { crash_loops: failing_inputs().crash_loops, ..healthy_inputs() };
    let then = HealthInputs {
        crash_loops: Err("restarts.json cannot be read".to_owned()),
        ..healthy_inputs()
    };

    assert_eq!(resolved_lines(&looping, &then), [""; 0]);
    assert_eq!(resolved_lines(&down, &then), ["ended service.unit_failed cynosure.service"]);
    assert_eq!(resolved_lines(&looping, &healthy_inputs()).len(), 2);
}

#[test]
fn instance_alerts_persist_while_systemd_is_unavailable() {
    let failed = FindingKind::UnitFailed {
        result: "exit-code".to_owned(),
        exit_status: 1,
        start_limit: None,
    };
    let mut ill = inputs_with_instance();
    ill.findings[2] = unit_finding(INSTANCE, HealthLevel::Critical, failed);
    let mut complains = inputs_with_instance();
    complains.journal_errors =
        Some(Ok(vec![journal_errors(UNIT, 0), journal_errors(INSTANCE, 99)]));
    let mut then = healthy_inputs();
    let remedy = "see `systemctl status`".to_owned();
    let untold = FindingKind::UnitStateUnknown { reason: "no answer".to_owned(), advice: remedy };
    then.findings[0] = main_unit_finding(HealthLevel::Unknown, untold);
    then.journal_errors = None;

    assert_eq!(resolved_lines(&ill, &then), [""; 0]);
    assert_eq!(resolved_lines(&complains, &then), [""; 0]);
    assert_eq!(
        resolved_lines(&complains, &inputs_with_instance()),
        [format!("ended journal.errors {INSTANCE}")]
    );
}

#[test]
fn a_wait_after_an_error_keeps_the_long_session_alert() {
    let mut ill = healthy_inputs();
    ill.sources[0].state.as_mut().unwrap().session_started_at = Some(Timestamp(NOW.0 - 60 * HOUR));
    let mut then = ill.clone();
    then.findings[1] = source_finding("home", HealthLevel::Warning, waiting_finding());

    assert_eq!(resolved_lines(&ill, &then), [""; 0]);
    assert_eq!(resolved_lines(&ill, &healthy_inputs()), ["ended execution.too_long home"]);
    // The refused credential resolves: the worker now waits after another error.
    let mut refused = ill.clone();
    let since = Duration::from_secs(60);
    let what = FindingKind::CredentialRefused { duration: since, reason: "401".to_owned() };
    refused.findings[1] = source_finding("home", HealthLevel::Critical, what);
    assert_eq!(resolved_lines(&refused, &then), ["ended execution.credential_refused home"]);
}

#[test]
fn a_starting_unit_resolves_no_alert_of_its_sources() {
    let since = Duration::from_secs(60);
    let amiss = [
        FindingKind::CredentialRefused { duration: since, reason: "401".to_owned() },
        FindingKind::Overdue { status: Status::Downloading, late_by: since, pid: 1 },
        FindingKind::Died { pid: 1 },
        FindingKind::Failing { errors: 5, limit: 5, reason: "503".to_owned() },
    ];
    let mut then = healthy_inputs();
    then.findings[1] = source_finding("home", HealthLevel::Healthy, FindingKind::Starting);

    for what in amiss {
        let mut ill = healthy_inputs();
        ill.findings[1] = source_finding("home", HealthLevel::Critical, what);
        assert_eq!(resolved_lines(&ill, &then), [""; 0]);
        assert_eq!(resolved_lines(&ill, &healthy_inputs()).len(), 1);
    }
}

#[test]
fn a_missing_state_is_fine_while_the_unit_starts() {
    let mut facts = healthy_inputs();
    facts.sources[0].state = None;
    assert_eq!(evaluate(&facts, &LIMITS, NOW).level, HealthLevel::Warning);

    facts.findings[1] = source_finding("home", HealthLevel::Healthy, FindingKind::Starting);

    let report = evaluate(&facts, &LIMITS, NOW);
    assert_eq!(report.level, HealthLevel::Healthy);
    let heartbeat = report.checks.iter().find(|check| check.kind == CheckKind::Heartbeat).unwrap();
    assert_eq!(heartbeat.message, "1 state written in time");
}

#[test]
fn an_unused_proxy_pool_keeps_its_alert() {
    let ill = HealthInputs { proxy_pool: failing_inputs().proxy_pool, ..healthy_inputs() };

    assert_eq!(
        resolved_lines(&ill, &HealthInputs { proxy_pool: Some(Ok(None)), ..healthy_inputs() }),
        [""; 0]
    );
    assert_eq!(
        resolved_lines(&ill, &healthy_inputs()),
        ["ended proxies.none_healthy"],
        "there is no pool any more"
    );
}

#[test]
fn an_unmeasurable_folder_hides_no_other() {
    let full = |path: &str| DiskUsage { path: path.to_owned(), used_ratio: 0.99, ..healthy_disk() };
    let system = |disks| Ok(HostMetrics { cpu_ratio: Some(0.99), memory_ratio: Some(0.5), disks });
    let ill =
        HealthInputs { system: system(vec![full("/state"), full("/mail")]), ..healthy_inputs() };
    let then = HealthInputs {
        system: system(vec![full("/mail")]),
        unmeasured_folders: vec![("/state".to_owned(), "Stale file handle".to_owned())],
        ..healthy_inputs()
    };

    let mut alerts = AlertStore::default();
    assert_eq!(evaluate_to_lines(&mut alerts, &ill).len(), 3);
    assert_eq!(evaluate_to_lines(&mut alerts, &then), ["raised system.not_known /state"]);
    let report = evaluate(&then, &LIMITS, NOW);
    let of_machine = report.checks.iter().filter(|check| check.kind == CheckKind::System);
    let levels: Vec<_> = of_machine.map(|check| (&*check.subject, check.level)).collect();
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
    let mut facts = healthy_inputs();
    let runs = FindingKind::UnitRunning { uptime: None, restarts: 0 };
    facts.findings.insert(2, unit_finding(INSTANCE, HealthLevel::Healthy, runs));
    facts.journal_errors = Some(Ok(vec![journal_errors(UNIT, 0), journal_errors(INSTANCE, 0)]));
    facts
}

#[test]
fn a_failed_unit_inhibits_only_its_own_sources() {
    let failed = FindingKind::UnitFailed {
        result: "exit-code".to_owned(),
        exit_status: 1,
        start_limit: None,
    };
    let mut facts = inputs_with_instance();
    facts.findings[2] = unit_finding(INSTANCE, HealthLevel::Critical, failed);
    facts.findings[1] = source_finding("home", HealthLevel::Critical, FindingKind::Died { pid: 1 });
    facts.findings[3] = source_finding("work", HealthLevel::Critical, FindingKind::Died { pid: 2 });

    assert_eq!(
        evaluate_to_lines(&mut AlertStore::default(), &facts),
        ["raised service.unit_failed cynosure@work.service", "raised execution.died home"]
    );
}

#[test]
fn advice_names_the_unit_that_runs_the_source() {
    let mut facts = inputs_with_instance();
    facts.findings[1] = source_finding("home", HealthLevel::Critical, FindingKind::Died { pid: 1 });
    facts.findings[3] = source_finding("work", HealthLevel::Critical, FindingKind::Died { pid: 2 });
    facts.crash_loops = Ok(vec![("work".to_owned(), 8), (INSTANCE.to_owned(), 9)]);
    facts.journal_errors = Some(Ok(vec![journal_errors(UNIT, 0), journal_errors(INSTANCE, 99)]));

    let report = evaluate(&facts, &LIMITS, NOW);

    let amiss = report.checks.iter().filter(|check| check.level > HealthLevel::Healthy);
    let advice = amiss.map(|check| {
        let advice = check.advice.as_deref().unwrap_or_default();
        format!("{} {}: {advice}", check.kind.name(), check.subject)
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
    let amiss = [
        FindingKind::Overdue { status, late_by: late, pid: 1 },
        FindingKind::Stalled { status, stalled_for: late },
        FindingKind::Failing { errors: 7, limit: 5, reason: "503".to_owned() },
        FindingKind::ClockSkew { ahead_by: late },
    ];
    let mut shown = Vec::new();
    for what in amiss {
        let mut facts = healthy_inputs();
        facts.findings[1] = source_finding("home", HealthLevel::Critical, what);
        let report = evaluate(&facts, &LIMITS, NOW);
        let check = report.checks.iter().find(|check| check.subject == "home").unwrap();
        shown.push([check.value.clone().unwrap(), check.threshold.clone().unwrap()].join(" | "));
    }

    assert_eq!(
        shown,
        [
            "2 h late | more than 30 s",
            "2 h | more than 30 min",
            "7 of 5 | 5 or more",
            "2 h ahead | more than 30 s"
        ]
    );
}
