//! What is judged, in the words a person reads, and what is told of it.

use std::time::Duration;

use super::*;
use crate::engine::Status;
use crate::engine::alert::Observation;
use crate::engine::breaker::BreakerState;
use crate::engine::watch::{Cure, Finding, Lately, Level, Subject, What};

pub(super) const NOW: Timestamp = Timestamp(1_772_874_303_000);
pub(super) const UNIT: &str = "cynosure.service";
pub(super) const HOUR: i64 = 3_600_000;

pub(super) const LIMITS: Bounds = Bounds {
    thresholds: Thresholds::DEFAULT,
    session: Duration::from_secs(2 * 86_400),
    grace: Duration::from_secs(30),
    clock_kept: Duration::MAX,
    stuck: Duration::from_secs(1800),
    turn: Duration::from_secs(300),
};

pub(super) fn finding(name: &str, level: Level, what: What) -> Finding {
    Finding { level, about: Subject::Source(name.to_owned()), what, cure: Cure::None }
}

fn in_order(name: &str) -> Finding {
    finding(name, Level::Healthy, What::InOrder { status: Status::Downloading })
}

pub(super) fn of_unit(level: Level, what: What) -> Finding {
    of(UNIT, level, what)
}

pub(super) fn of(unit: &str, level: Level, what: What) -> Finding {
    Finding { level, about: Subject::Unit(unit.to_owned()), what, cure: Cure::None }
}

fn source(name: &str) -> SourceSeen {
    SourceSeen {
        name: name.to_owned(),
        provider: "example".to_owned(),
        state: Some(StateSeen {
            status: Status::Downloading,
            until: Some(Timestamp(NOW.0 + HOUR / 2)),
            last_updated: Timestamp(NOW.0 - 2_000),
            session_since: Some(Timestamp(NOW.0 - HOUR)),
            is_running: true,
            quarantined: 0,
            storage_error: None,
        }),
        counts: Ok(Some(CountsSeen {
            attempts: 10,
            success_rate: Some(0.9),
            p95: Some(Duration::from_millis(120)),
            ..CountsSeen::default()
        })),
    }
}

pub(super) fn disk() -> DiskSeen {
    DiskSeen { path: "/srv/mail".to_owned(), used: 0.4, free: 50_000_000_000, inodes: Some(0.1) }
}

pub(super) fn errors(unit: &str, count: u32) -> Errors {
    Errors { unit: unit.to_owned(), count, newest: (count > 0).then(|| "503".to_owned()) }
}

/// Two sources at work, and nothing amiss.
pub(super) fn well() -> Facts {
    let runs = What::UnitRuns { since: Some(Duration::from_secs(3600)), restarts: 0 };
    Facts {
        unit: UNIT.to_owned(),
        findings: vec![of_unit(Level::Healthy, runs), in_order("home"), in_order("work")],
        sources: vec![source("home"), source("work")],
        unseen: None,
        breakers: Ok(Vec::new()),
        loops: Ok(Vec::new()),
        pool: None,
        system: Ok(System { cpu: Some(0.2), memory: Some(0.5), disks: vec![disk()] }),
        unmeasured: Vec::new(),
        archives: Vec::new(),
        journal: Some(Ok(vec![errors(UNIT, 0)])),
    }
}

fn lines(report: &Report, level: Level) -> Vec<String> {
    let line = |check: &Check| {
        let parts = [
            Some(format!("{} {}: {}", check.name.name(), check.about, check.message)),
            check.figure.clone(),
            check.threshold.clone(),
            check.advice.clone(),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" | ")
    };
    report.checks.iter().filter(|check| check.level == level).map(line).collect()
}

/// All that is not healthy.
fn amiss(facts: &Facts) -> Vec<String> {
    let report = judge(facts, &LIMITS, NOW);
    [Level::Critical, Level::Unknown, Level::Warning]
        .iter()
        .flat_map(|level| {
            lines(&report, *level).into_iter().map(|l| format!("{}: {l}", level.name()))
        })
        .collect()
}

fn told(facts: &Facts) -> Vec<String> {
    let Observation { conditions: concerns, .. } = concerns(facts, &judge(facts, &LIMITS, NOW));
    let line = |concern: &crate::engine::alert::AlertCondition| {
        let (severity, cause) = (concern.severity.name(), &concern.key);
        format!("{severity} {cause} {}: {}", concern.subject, concern.message)
    };
    concerns.iter().map(line).collect()
}

#[test]
fn where_all_is_well_each_check_says_so_once_and_nothing_is_told() {
    let report = judge(&well(), &LIMITS, NOW);

    assert_eq!(report.level, Level::Healthy);
    insta::assert_snapshot!(lines(&report, Level::Healthy).join("\n"), @"
    service cynosure.service: it runs | for 1 h
    execution home: downloading
    execution work: downloading
    heartbeat : 2 states written in time | 2 s | more than 5 min
    sources : the last attempts of each source mostly succeeded | 90 % | less than 30 %
    clients : every source reaches its server, as far as it tried | 0 failures in a row | 3 or more
    system processor: there is enough | 20 % used | more than 95 %
    system memory: there is enough | 50 % used | more than 90 %
    system /srv/mail: its disk has room | 40 % used, 50.0 GB free | more than 80 %
    journal cynosure.service: it has little to complain of | 0 errors in 15 min | 10 or more
    ");
    assert_eq!(told(&well()), [""; 0]);
}

#[test]
fn each_source_that_is_amiss_is_named_with_figure_threshold_and_advice() {
    let mut facts = well();
    let [home, work] = &mut facts.sources[..] else { panic!("two sources") };
    home.counts = Ok(Some(CountsSeen { success_rate: Some(0.2), ..home.counted().unwrap() }));
    home.state.as_mut().unwrap().session_since = Some(Timestamp(NOW.0 - 60 * HOUR));
    let counts = work.counted().unwrap();
    work.counts = Ok(Some(CountsSeen { connection_failures: 4, clients_rebuilt: 1, ..counts }));
    work.state.as_mut().unwrap().last_updated = Timestamp(NOW.0 - 420_000);

    insta::assert_snapshot!(amiss(&facts).join("\n"), @"
    WARNING: execution home: its session takes very long | 2 d 12 h | more than 2 d | see what holds it up: `cynosure history home`
    WARNING: heartbeat work: its state was not written when it should have been | 7 min | more than 5 min | see whether its worker still runs: `cynosure status`
    WARNING: sources home: few of its last 10 attempts succeeded | 20 % | less than 30 % | see what fails: `cynosure failures home`
    WARNING: clients work: nobody answers its requests, and its client was made anew (1 time so far) | 4 failures in a row | 3 or more | see whether its server can be reached: `cynosure doctor`
    ");
}

#[test]
fn nine_attempts_are_too_few_to_speak_of_a_share() {
    let mut facts = well();
    for source in &mut facts.sources {
        let counts = CountsSeen { attempts: 9, success_rate: Some(0.0), ..CountsSeen::default() };
        source.counts = Ok(Some(counts));
    }

    assert_eq!(amiss(&facts), [""; 0]);
}

#[test]
fn a_wait_of_six_hours_is_no_silence_until_it_is_over() {
    let mut facts = well();
    let state = facts.sources[0].state.as_mut().unwrap();
    state.status = Status::RateLimited;
    state.last_updated = Timestamp(NOW.0 - 5 * HOUR);
    state.until = Some(Timestamp(NOW.0 + HOUR));
    assert_eq!(amiss(&facts), [""; 0]);

    facts.sources[0].state.as_mut().unwrap().until = Some(Timestamp(NOW.0 - 301_000));
    assert_eq!(amiss(&facts).len(), 1);

    facts.sources[0].state.as_mut().unwrap().is_running = false;
    assert_eq!(amiss(&facts), [""; 0], "a worker that has left says nothing more");
}

#[test]
fn a_state_that_is_missing_is_a_warning() {
    let mut facts = well();
    facts.sources[0].state = None;

    insta::assert_snapshot!(amiss(&facts).join("\n"), @"
    WARNING: heartbeat home: it has no state that can be read | see `cynosure status`
    ");
}

#[test]
fn what_cannot_be_looked_at_is_unknown_and_never_healthy() {
    let facts = Facts {
        system: Err("no answer within 10 s".to_owned()),
        journal: Some(Err("journalctl is not here".to_owned())),
        loops: Err("restarts.json cannot be read".to_owned()),
        ..well()
    };

    assert_eq!(judge(&facts, &LIMITS, NOW).level, Level::Unknown);
    insta::assert_snapshot!(amiss(&facts).join("\n"), @"
    UNKNOWN: service : cannot be told: restarts.json cannot be read
    UNKNOWN: system : cannot be told: no answer within 10 s
    UNKNOWN: journal cynosure.service: cannot be told: journalctl is not here
    ");
    assert_eq!(Report::new(Vec::new(), NOW).level, Level::Unknown);
}

#[test]
fn the_machine_is_judged_by_its_limits() {
    let system = |cpu, memory, used, free, inodes| Facts {
        system: Ok(System { cpu, memory, disks: vec![DiskSeen { used, free, inodes, ..disk() }] }),
        ..well()
    };
    let plenty = 50_000_000_000;

    assert_eq!(amiss(&system(Some(0.95), Some(0.9), 0.8, plenty, Some(0.9))), [""; 0]);
    let all = [
        system(Some(0.96), Some(0.91), 0.81, plenty, None),
        system(None, Some(0.5), 0.91, plenty, None),
        system(Some(0.5), Some(0.5), 0.5, 1_999_999_999, Some(0.95)),
    ];
    let all: Vec<_> = all.iter().flat_map(amiss).collect();
    insta::assert_snapshot!(all.join("\n"), @"
    WARNING: system processor: hardly any is left | 96 % used | more than 95 % | see what takes it: `top`
    WARNING: system memory: hardly any is left | 91 % used | more than 90 % | see what takes it: `top`
    WARNING: system /srv/mail: its disk is filling up | 81 % used, 50.0 GB free | more than 80 % | make room, or move `archive.dir` to a larger disk
    CRITICAL: system /srv/mail: its disk is nearly full | 91 % used, 50.0 GB free | more than 90 %, or less than 2.0 GB free | make room, or move `archive.dir` to a larger disk
    UNKNOWN: system processor: cannot be told: the kernel does not say how much is used
    CRITICAL: system /srv/mail: its disk is nearly full | 50 % used, 2.0 GB free | more than 90 %, or less than 2.0 GB free | make room, or move `archive.dir` to a larger disk
    CRITICAL: system /srv/mail: its disk can hold few more files | 95 % of its inodes used | more than 90 % | remove small files, or make a filesystem with more inodes
    ");
}

#[test]
fn a_pool_needs_three_that_are_healthy_or_all_it_has() {
    let pool = |total, healthy| {
        let pool = Pool {
            total,
            healthy,
            doubted: 0,
            dead: total - healthy,
            cooling: 1.min(total - healthy),
            mean_latency: Some(Duration::from_millis(40)),
        };
        amiss(&Facts { pool: Some(Ok(Some(pool))), ..well() })
    };

    for (total, healthy) in [(5, 3), (3, 3), (2, 2), (1, 1)] {
        assert_eq!(pool(total, healthy), [""; 0]);
    }
    let told = [pool(5, 2), pool(2, 1), pool(1, 0)].concat();
    insta::assert_snapshot!(told.join("\n"), @"
    CRITICAL: proxies : 2 of 5 healthy, 0 in doubt, 3 dead, 1 of them in cooldown, 40 ms on average | 2 of 5 | fewer than 3 | see which fail: `cynosure doctor`; repair them, or change `proxy.pool`
    CRITICAL: proxies : 1 of 2 healthy, 0 in doubt, 1 dead, 1 of them in cooldown, 40 ms on average | 1 of 2 | fewer than 2 | see which fail: `cynosure doctor`; repair them, or change `proxy.pool`
    CRITICAL: proxies : 0 of 1 healthy, 0 in doubt, 1 dead, 1 of them in cooldown, 40 ms on average | 0 of 1 | fewer than 1 | see which fail: `cynosure doctor`; repair them, or change `proxy.pool`
    ");
}

#[test]
fn a_crash_loop_is_one_warning_whoever_counted_it() {
    let lately = Lately { starts: 6, within: Duration::from_secs(540) };
    let mut by_systemd = well();
    by_systemd.findings[0] = of_unit(Level::Warning, What::CrashLoop(lately));
    let by_us = Facts { loops: Ok(vec![(UNIT.to_owned(), 7)]), ..well() };
    let of_a_source = Facts { loops: Ok(vec![("work".to_owned(), 8)]), ..well() };
    let both = Facts { loops: by_us.loops.clone(), ..by_systemd.clone() };

    for facts in [&by_systemd, &by_us, &both, &of_a_source] {
        assert_eq!(amiss(facts).len(), 1, "{:?}", amiss(facts));
    }
    let all = [&by_systemd, &of_a_source].map(told).concat();
    insta::assert_snapshot!(all.join("\n"), @"
    warning service.crash_loop cynosure.service: it is started again and again: a crash loop (6 in 9 min)
    warning execution.crash_loop work: it is started again and again: a crash loop (8 restarts in a row)
    ");
}

#[test]
fn without_a_unit_nobody_is_sent_to_systemd() {
    let without = |what| {
        let mut facts = Facts { loops: Ok(vec![("work".to_owned(), 8)]), ..well() };
        facts.findings[0] = of_unit(Level::Healthy, what);
        facts.findings[1] = finding("home", Level::Critical, What::Died { pid: 1 });
        facts.findings[2] =
            finding("work", Level::Warning, What::Stopped { status: Status::Downloading });
        amiss(&facts).join("\n")
    };
    let no_systemd = without(What::NoSystemd { why: "there is no D-Bus".to_owned() });

    assert_eq!(without(What::NotInstalled), no_systemd);
    insta::assert_snapshot!(no_systemd, @"
    CRITICAL: execution home: its worker, process 1, is gone without a word | see why in its log
    WARNING: execution work: stopped while downloading, and nothing goes on with it | start it with `cynosure run`
    WARNING: execution work: it is started again and again: a crash loop | 8 restarts in a row | more than 5 | see why in its log
    ");
}

#[test]
fn a_provider_that_is_down_is_one_concern() {
    let mut facts = well();
    for source in &mut facts.sources {
        source.counts = Ok(Some(CountsSeen {
            attempts: 10,
            success_rate: Some(0.0),
            connection_failures: 12,
            ..CountsSeen::default()
        }));
    }
    facts.findings[1] = finding(
        "home",
        Level::Critical,
        What::Failing { errors: 5, limit: 5, reason: "503".to_owned() },
    );
    facts.findings[2] = finding(
        "work",
        Level::Warning,
        What::Waiting {
            status: Status::Error,
            left: Duration::from_secs(60),
            reason: "503".to_owned(),
        },
    );
    facts.journal = Some(Ok(vec![errors(UNIT, 99)]));
    let without_breaker = told(&facts);
    facts.breakers = Ok(vec![BreakerSeen {
        name: "example".to_owned(),
        phase: BreakerState::Open,
        why: "5 failures in a row".to_owned(),
        openings: Vec::new(),
    }]);

    assert_eq!(amiss(&facts).len(), 7, "{:?}", amiss(&facts));
    let all = [without_breaker, told(&facts)].concat();
    insta::assert_snapshot!(all.join("\n"), @"
    critical provider.unwell example: home: errors in a row, without progress between them: 503 (5 of 5)
    critical provider.unwell example: left alone by its breaker: 5 failures in a row
    ");
}

#[test]
fn a_unit_that_is_down_takes_its_sources_along() {
    let mut facts = well();
    facts.findings[0] = of_unit(
        Level::Critical,
        What::UnitFailed { result: "exit-code".to_owned(), exit_status: 1, limit: None },
    );
    facts.findings[1] = finding("home", Level::Critical, What::Died { pid: 1 });
    facts.findings[2] =
        finding("work", Level::Warning, What::Stopped { status: Status::Downloading });

    insta::assert_snapshot!(told(&facts).join("\n"), @"
    critical service.unit_failed cynosure.service: it has failed and stays down (exit-code) (status 1)
    ");
}

#[test]
fn a_full_disk_is_the_one_cause_of_all_that_cannot_be_stored() {
    let mut facts = well();
    for source in &mut facts.sources {
        let state = source.state.as_mut().unwrap();
        (state.status, state.storage_error) =
            (Status::Error, Some("cannot write: No space left on device".to_owned()));
    }
    let failing = told(&facts);
    facts.system = Ok(System {
        cpu: None,
        memory: Some(0.1),
        disks: vec![DiskSeen { used: 1.0, free: 0, ..disk() }],
    });
    facts.breakers = Ok(vec![BreakerSeen {
        name: "archive".to_owned(),
        phase: BreakerState::Open,
        why: "5 failures in a row".to_owned(),
        openings: Vec::new(),
    }]);

    let all = [failing, told(&facts)].concat();
    insta::assert_snapshot!(all.join("\n"), @"
    critical storage.failing : 2 sources cannot store what is fetched; home: cannot write: No space left on device
    warning system.not_known processor: cannot be told: the kernel does not say how much is used
    critical system.disk_full /srv/mail: its disk is nearly full (100 % used, 0 bytes free)
    ");
}

#[test]
fn a_refused_credential_and_items_set_aside_are_told_of_their_source() {
    let mut facts = well();
    let refused =
        What::CredentialRefused { since: Duration::from_secs(60), reason: "401".to_owned() };
    facts.findings[1] = finding("home", Level::Critical, refused);
    facts.sources[1].state.as_mut().unwrap().quarantined = 3;

    insta::assert_snapshot!(told(&facts).join("\n"), @"
    critical execution.credential_refused home: its credential is refused: 401 (for 1 min)
    warning quarantine.items work: 3 items of its last session could not be fetched: quarantined
    ");
}
