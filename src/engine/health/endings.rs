//! What ends an alert, and what only keeps it from being seen.

use std::time::Duration;

use super::tests::{HOUR, LIMITS, NOW, UNIT, disk, errors, finding, of, of_unit, well};
use super::*;
use crate::engine::Status;
use crate::engine::alert::{AlertStore, NotificationKind};
use crate::engine::watch::{Level, What};

const INSTANCE: &str = "cynosure@work.service";

/// What there is to be told of one look.
fn note(alerts: &mut AlertStore, facts: &Facts) -> Vec<String> {
    let looked = concerns(facts, &judge(facts, &LIMITS, NOW));
    let notices = alerts.evaluate(&looked, NOW);
    let line = |notice: &crate::engine::alert::Notification| {
        let (news, alert) = (notice.kind.name(), &notice.alert);
        format!("{news} {} {}", alert.key, alert.subject).trim_end().to_owned()
    };
    notices.iter().map(line).collect()
}

/// Of the alerts that `ill` raises, those that end with this look.
fn ended(ill: &Facts, then: &Facts) -> Vec<String> {
    let mut alerts = AlertStore::default();
    assert_ne!(note(&mut alerts, ill), [""; 0], "there is something to end");
    let mut told = note(&mut alerts, then);
    told.retain(|line| line.starts_with(NotificationKind::Resolved.name()));
    told
}

fn waiting() -> What {
    let left = Duration::from_secs(60);
    What::Waiting { status: Status::Error, left, reason: "503".to_owned() }
}

/// Each kind of alert that looks at what the workers wrote can raise.
fn ill() -> Facts {
    let mut facts = well();
    for source in &mut facts.sources {
        let counts = source.counted().unwrap();
        source.counts = Ok(Some(CountsSeen { connection_failures: 9, ..counts }));
    }
    facts.loops = Ok(vec![(UNIT.to_owned(), 7), ("work".to_owned(), 8)]);
    facts.pool = Some(Ok(Some(Pool {
        total: 2,
        healthy: 0,
        doubted: 0,
        dead: 2,
        cooling: 1,
        mean_latency: None,
    })));
    facts.sources[0].state.as_mut().unwrap().last_updated = Timestamp(NOW.0 - HOUR);
    facts.sources[0].state.as_mut().unwrap().until = None;
    facts.sources[1].state.as_mut().unwrap().quarantined = 3;
    facts
}

/// The look at what the workers wrote did not come back.
pub(super) fn unseen(facts: &Facts) -> Facts {
    let why = "no answer within 10 s".to_owned();
    let mut facts = facts.clone();
    for source in &mut facts.sources {
        (source.state, source.counts) = (None, Err(why.clone()));
    }
    (facts.breakers, facts.loops) = (Err(why.clone()), Err(why.clone()));
    (facts.pool, facts.unseen) = (Some(Err(why.clone())), Some(why));
    facts
}

#[test]
fn a_look_that_fails_ends_nothing_and_is_told_once() {
    let mut alerts = AlertStore::default();
    assert_eq!(
        note(&mut alerts, &ill()),
        [
            "raised service.crash_loop cynosure.service",
            "raised proxies.none_healthy",
            "raised execution.crash_loop work",
            "raised heartbeat.silent home",
            "raised quarantine.items work",
            "raised provider.unwell example",
        ]
    );

    assert_eq!(note(&mut alerts, &unseen(&ill())), ["raised sources.not_known"]);
    assert_eq!(note(&mut alerts, &ill()), ["ended sources.not_known"]);
}

#[test]
fn a_look_that_fails_leaves_heartbeat_attempts_and_connections_unknown() {
    let report = judge(&unseen(&well()), &LIMITS, NOW);

    for area in [Area::Heartbeat, Area::Sources, Area::Clients] {
        let found: Vec<_> = report.checks.iter().filter(|check| check.name == area).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].level, Level::Unknown);
        assert_eq!(found[0].message, "cannot be told: no answer within 10 s");
    }
    let facts = standings(&report, &unseen(&well()).sources);
    assert!(facts.iter().all(|facts| facts.standing != crate::engine::degradation::Standing::Well));
}

#[test]
fn figures_that_cannot_be_read_leave_their_source_unknown_and_its_provider_as_it_was() {
    let mut then = well();
    then.sources[0].counts = Err("figures.json cannot be read: EOF".to_owned());

    let report = judge(&then, &LIMITS, NOW);

    for area in [Area::Sources, Area::Clients] {
        let found: Vec<_> = report.checks.iter().filter(|check| check.name == area).collect();
        assert_eq!((found.len(), found[0].level), (1, Level::Unknown), "{found:?}");
        assert_eq!(found[0].about, "home");
        assert_eq!(found[0].message, "cannot be told: figures.json cannot be read: EOF");
    }
    assert_eq!(note(&mut AlertStore::default(), &then), ["raised sources.not_known home"]);
    let mut alerts = AlertStore::default();
    note(&mut alerts, &ill());
    let told = note(&mut alerts, &Facts { loops: ill().loops, ..then });
    assert!(told.contains(&"raised sources.not_known home".to_owned()), "{told:?}");
    assert!(!told.iter().any(|line| line.contains("provider")), "{told:?}");
}

#[test]
fn who_has_not_counted_yet_is_no_trouble() {
    let mut facts = well();
    facts.sources[0].counts = Ok(None);

    assert_eq!(judge(&facts, &LIMITS, NOW).level, Level::Healthy);
}

#[test]
fn breakers_that_cannot_be_read_are_unknown_and_end_nothing() {
    let mut ill = well();
    ill.breakers = Ok(vec![BreakerSeen {
        name: "archive".to_owned(),
        phase: crate::engine::breaker::BreakerState::Open,
        why: "5 failures in a row".to_owned(),
        openings: Vec::new(),
    }]);
    let then = Facts { breakers: Err("breakers.json cannot be read".to_owned()), ..well() };

    assert_eq!(judge(&then, &LIMITS, NOW).level, Level::Unknown);
    assert_eq!(ended(&ill, &then), [""; 0]);
    assert_eq!(ended(&ill, &well()), ["ended provider.unwell archive"]);
}

#[test]
fn a_crash_loop_has_not_ended_since_its_count_cannot_be_read_and_the_rest_has() {
    let failed = What::UnitFailed { result: "exit-code".to_owned(), exit_status: 1, limit: None };
    let mut down = well();
    down.findings[0] = of_unit(Level::Critical, failed);
    let looping = Facts { loops: ill().loops, ..well() };
    let then = Facts { loops: Err("restarts.json cannot be read".to_owned()), ..well() };

    assert_eq!(ended(&looping, &then), [""; 0]);
    assert_eq!(ended(&down, &then), ["ended service.unit_failed cynosure.service"]);
    assert_eq!(ended(&looping, &well()).len(), 2);
}

#[test]
fn the_alerts_of_instances_stand_while_systemd_does_not_tell() {
    let failed = What::UnitFailed { result: "exit-code".to_owned(), exit_status: 1, limit: None };
    let mut ill = instances();
    ill.findings[2] = of(INSTANCE, Level::Critical, failed);
    let mut complains = instances();
    complains.journal = Some(Ok(vec![errors(UNIT, 0), errors(INSTANCE, 99)]));
    let mut then = well();
    let remedy = "see `systemctl status`".to_owned();
    let untold = What::UnitUntold { why: "no answer".to_owned(), remedy };
    then.findings[0] = of_unit(Level::Unknown, untold);
    then.journal = None;

    assert_eq!(ended(&ill, &then), [""; 0]);
    assert_eq!(ended(&complains, &then), [""; 0]);
    assert_eq!(ended(&complains, &instances()), [format!("ended journal.errors {INSTANCE}")]);
}

#[test]
fn an_error_that_is_waited_for_does_not_end_a_long_session() {
    let mut ill = well();
    ill.sources[0].state.as_mut().unwrap().session_since = Some(Timestamp(NOW.0 - 60 * HOUR));
    let mut then = ill.clone();
    then.findings[1] = finding("home", Level::Warning, waiting());

    assert_eq!(ended(&ill, &then), [""; 0]);
    assert_eq!(ended(&ill, &well()), ["ended execution.too_long home"]);
    // What else was amiss has ended: it is at work on its error again.
    let mut refused = ill.clone();
    let since = Duration::from_secs(60);
    let what = What::CredentialRefused { since, reason: "401".to_owned() };
    refused.findings[1] = finding("home", Level::Critical, what);
    assert_eq!(ended(&refused, &then), ["ended execution.credential_refused home"]);
}

#[test]
fn a_unit_that_is_only_starting_ends_nothing_of_its_sources() {
    let since = Duration::from_secs(60);
    let amiss = [
        What::CredentialRefused { since, reason: "401".to_owned() },
        What::Overdue { status: Status::Downloading, by: since, pid: 1 },
        What::Died { pid: 1 },
        What::Failing { errors: 5, limit: 5, reason: "503".to_owned() },
    ];
    let mut then = well();
    then.findings[1] = finding("home", Level::Healthy, What::Starting);

    for what in amiss {
        let mut ill = well();
        ill.findings[1] = finding("home", Level::Critical, what);
        assert_eq!(ended(&ill, &then), [""; 0]);
        assert_eq!(ended(&ill, &well()).len(), 1);
    }
}

#[test]
fn a_state_is_not_missed_while_the_unit_is_only_starting() {
    let mut facts = well();
    facts.sources[0].state = None;
    assert_eq!(judge(&facts, &LIMITS, NOW).level, Level::Warning);

    facts.findings[1] = finding("home", Level::Healthy, What::Starting);

    let report = judge(&facts, &LIMITS, NOW);
    assert_eq!(report.level, Level::Healthy);
    let heartbeat = report.checks.iter().find(|check| check.name == Area::Heartbeat).unwrap();
    assert_eq!(heartbeat.message, "1 state written in time");
}

#[test]
fn a_pool_that_nobody_uses_is_no_better_than_it_was() {
    let ill = Facts { pool: ill().pool, ..well() };

    assert_eq!(ended(&ill, &Facts { pool: Some(Ok(None)), ..well() }), [""; 0]);
    assert_eq!(ended(&ill, &well()), ["ended proxies.none_healthy"], "there is no pool any more");
}

#[test]
fn a_folder_that_cannot_be_measured_hides_no_other() {
    let full = |path: &str| DiskSeen { path: path.to_owned(), used: 0.99, ..disk() };
    let system = |disks| Ok(System { cpu: Some(0.99), memory: Some(0.5), disks });
    let ill = Facts { system: system(vec![full("/state"), full("/mail")]), ..well() };
    let then = Facts {
        system: system(vec![full("/mail")]),
        unmeasured: vec![("/state".to_owned(), "Stale file handle".to_owned())],
        ..well()
    };

    let mut alerts = AlertStore::default();
    assert_eq!(note(&mut alerts, &ill).len(), 3);
    assert_eq!(note(&mut alerts, &then), ["raised system.not_known /state"]);
    let report = judge(&then, &LIMITS, NOW);
    let of_machine = report.checks.iter().filter(|check| check.name == Area::System);
    let levels: Vec<_> = of_machine.map(|check| (&*check.about, check.level)).collect();
    assert_eq!(
        levels,
        [
            ("processor", Level::Warning),
            ("memory", Level::Healthy),
            ("/mail", Level::Critical),
            ("/state", Level::Unknown)
        ]
    );
}

/// `home` is of the unit of all, `work` of an instance of its own.
fn instances() -> Facts {
    let mut facts = well();
    let runs = What::UnitRuns { since: None, restarts: 0 };
    facts.findings.insert(2, of(INSTANCE, Level::Healthy, runs));
    facts.journal = Some(Ok(vec![errors(UNIT, 0), errors(INSTANCE, 0)]));
    facts
}

#[test]
fn a_unit_that_is_down_takes_only_its_own_sources_along() {
    let failed = What::UnitFailed { result: "exit-code".to_owned(), exit_status: 1, limit: None };
    let mut facts = instances();
    facts.findings[2] = of(INSTANCE, Level::Critical, failed);
    facts.findings[1] = finding("home", Level::Critical, What::Died { pid: 1 });
    facts.findings[3] = finding("work", Level::Critical, What::Died { pid: 2 });

    assert_eq!(
        note(&mut AlertStore::default(), &facts),
        ["raised service.unit_failed cynosure@work.service", "raised execution.died home"]
    );
}

#[test]
fn advice_names_the_unit_that_runs_the_source() {
    let mut facts = instances();
    facts.findings[1] = finding("home", Level::Critical, What::Died { pid: 1 });
    facts.findings[3] = finding("work", Level::Critical, What::Died { pid: 2 });
    facts.loops = Ok(vec![("work".to_owned(), 8), (INSTANCE.to_owned(), 9)]);
    facts.journal = Some(Ok(vec![errors(UNIT, 0), errors(INSTANCE, 99)]));

    let report = judge(&facts, &LIMITS, NOW);

    let amiss = report.checks.iter().filter(|check| check.level > Level::Healthy);
    let advice = amiss.map(|check| {
        let advice = check.advice.as_deref().unwrap_or_default();
        format!("{} {}: {advice}", check.name.name(), check.about)
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
fn each_figure_with_a_limit_is_shown_with_it() {
    let status = Status::Downloading;
    let late = Duration::from_secs(7200);
    let amiss = [
        What::Overdue { status, by: late, pid: 1 },
        What::Stalled { status, still: late },
        What::Failing { errors: 7, limit: 5, reason: "503".to_owned() },
        What::FromTheFuture { by: late },
    ];
    let mut shown = Vec::new();
    for what in amiss {
        let mut facts = well();
        facts.findings[1] = finding("home", Level::Critical, what);
        let report = judge(&facts, &LIMITS, NOW);
        let check = report.checks.iter().find(|check| check.about == "home").unwrap();
        shown.push([check.figure.clone().unwrap(), check.threshold.clone().unwrap()].join(" | "));
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
