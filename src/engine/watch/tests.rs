//! What is found, in the words a person reads.

use std::time::Duration;

use super::*;
use crate::engine::{Status, Timestamp};

const NOW: Timestamp = Timestamp(1_772_874_303_000);
const UNIT: &str = "cynosure.service";
const PID: u32 = 4711;

pub(super) const LIMITS: Limits = Limits {
    grace: Duration::from_secs(360),
    clock_kept: Duration::MAX,
    stuck_threshold: Duration::from_secs(1800),
    max_consecutive_errors: 5,
    max_turn: Duration::from_secs(300),
    max_starts: 5,
};

fn minutes(minutes: i64) -> i64 {
    minutes * 60_000
}

/// Progress a minute ago, and half an hour to go.
pub(super) fn course(status: Status, now: Timestamp) -> Course {
    Course {
        status,
        state_since: Timestamp(now.0 - minutes(10)),
        until: Some(Timestamp(now.0 + minutes(29))),
        reason: "503 from api.example.com".to_owned(),
        last_progress: Timestamp(now.0 - minutes(1)),
        last_updated: Timestamp(now.0 - minutes(1)),
        consecutive_errors: 0,
        last_cause: None,
        process: Process::Running { pid: PID },
    }
}

pub(super) fn unit(activity: Activity, now: Timestamp) -> UnitStatus {
    UnitStatus {
        name: UNIT.to_owned(),
        load: Load::Loaded,
        activity,
        sub_state: "running".to_owned(),
        result: "success".to_owned(),
        main_pid: Some(PID),
        restarts: 0,
        exit_status: 0,
        active_since: Some(Timestamp(now.0 - minutes(180))),
        changed: Some(Timestamp(now.0 - minutes(180))),
        status_text: String::new(),
        watchdog: Some(Duration::from_secs(60)),
        start_limit: StartLimit { interval: Duration::ZERO, burst: 5 },
        unit_file_state: "enabled".to_owned(),
    }
}

fn known(unit: UnitStatus) -> UnitSeen {
    UnitSeen::Known { unit, lately: None }
}

fn running() -> UnitSeen {
    known(unit(Activity::Active, NOW))
}

fn line(finding: &Finding) -> String {
    let figure = finding.figure().map(|figure| format!(" ({figure})")).unwrap_or_default();
    let advice = finding.advice(Some(UNIT)).map(|advice| format!("; {advice}")).unwrap_or_default();
    let cure = match finding.cure {
        Cure::Restart => "restart, ",
        Cure::None => "",
    };
    format!("{cure}{}: {}{figure}{advice}", finding.level.name(), finding.what)
}

/// The finding about a source.
fn source(told: Told, unit: &UnitSeen) -> String {
    let watched = Watched { name: "work".to_owned(), told };
    line(&judge(UNIT, unit, &[watched], &LIMITS, NOW)[1])
}

fn source_in(course: Course) -> String {
    source(Told::Course(course), &running())
}

/// The finding about the unit.
fn unit_line(seen: &UnitSeen) -> String {
    line(&judge(UNIT, seen, &[], &LIMITS, NOW)[0])
}

#[test]
fn a_worker_before_its_deadline_is_in_order_whatever_it_waits_for() {
    let lines = Status::ALL.map(|status| source_in(course(status, NOW))).join("\n");

    insta::assert_snapshot!(lines, @r"
    HEALTHY: idle
    HEALTHY: collecting
    HEALTHY: downloading
    HEALTHY: completed
    WARNING: waiting after an error: 503 from api.example.com (29 min left)
    HEALTHY: rate limited: 503 from api.example.com (29 min left)
    CRITICAL: its credential is refused: 503 from api.example.com (for 10 min); put a fresh credential in its place: `cynosure status` names it
    ");
}

#[test]
fn a_legal_wait_of_six_hours_is_never_stuck() {
    let mut waiting = course(Status::RateLimited, NOW);
    waiting.state_since = Timestamp(NOW.0 - minutes(355));
    waiting.last_progress = waiting.state_since;
    waiting.last_updated = waiting.state_since;
    waiting.until = Some(Timestamp(NOW.0 + minutes(5)));

    let found = source_in(waiting);

    assert_eq!(found, "HEALTHY: rate limited: 503 from api.example.com (5 min left)");
}

#[test]
fn a_deadline_that_has_passed_means_a_worker_that_decides_nothing() {
    let mut late = course(Status::RateLimited, NOW);
    late.until = Some(Timestamp(NOW.0 - minutes(5)));
    let within_the_grace = source_in(late.clone());
    late.until = Some(Timestamp(NOW.0 - minutes(7)));

    assert!(within_the_grace.starts_with("HEALTHY"), "{within_the_grace}");
    insta::assert_snapshot!(source_in(late), @"restart, CRITICAL: stuck: rate limited, its deadline has passed, and process 4711 decides nothing (7 min late); restart it with `systemctl restart cynosure.service`");
}

#[test]
fn a_worker_that_a_person_started_is_not_cured_by_restarting_the_unit() {
    let mut late = course(Status::Downloading, NOW);
    late.until = Some(Timestamp(NOW.0 - minutes(60)));
    let mut other = unit(Activity::Active, NOW);
    other.main_pid = Some(1234);

    insta::assert_snapshot!(source(Told::Course(late), &known(other)), @"CRITICAL: stuck: downloading, its deadline has passed, and process 4711 decides nothing (1 h late); end process 4711 and start it anew");
}

#[test]
fn missing_progress_is_first_the_workers_own_business_and_then_a_persons() {
    let mut still = course(Status::Downloading, NOW);
    still.state_since = Timestamp(NOW.0 - minutes(500));
    // It has begun the stage anew ten minutes ago.
    still.until = Some(Timestamp(NOW.0 + minutes(20)));
    still.last_progress = Timestamp(NOW.0 - minutes(40));
    let first = source_in(still.clone());
    still.last_progress = Timestamp(NOW.0 - minutes(80));

    insta::assert_snapshot!(first, @"WARNING: downloading without progress (40 min); wait: its worker begins the stage anew, then restarts by itself");
    insta::assert_snapshot!(source_in(still), @"CRITICAL: downloading without progress (1 h 20 min); its worker has started anew by itself, in vain: see why with `journalctl -u cynosure.service -n 50`, and `cynosure history work`");
}

#[test]
fn work_that_has_only_just_begun_and_work_that_rests_are_not_without_progress() {
    let mut begun = course(Status::Downloading, NOW);
    begun.state_since = Timestamp(NOW.0 - minutes(500));
    begun.last_progress = Timestamp(NOW.0 - minutes(400));
    begun.until = Some(Timestamp(NOW.0 + minutes(25)));
    let mut resting = begun.clone();
    resting.until = Some(Timestamp(NOW.0 + minutes(120)));

    assert_eq!([begun, resting].map(source_in), ["HEALTHY: downloading"; 2]);
}

#[test]
fn errors_in_a_row_are_counted_against_the_limit() {
    let failing = Course { consecutive_errors: 6, ..course(Status::Error, NOW) };

    insta::assert_snapshot!(source_in(failing), @"CRITICAL: errors in a row, without progress between them: 503 from api.example.com (6 of 5); see what fails with `cynosure history work`");
}

#[test]
fn a_state_from_the_future_is_a_clock_that_was_set_and_nothing_stuck() {
    let mut ahead = course(Status::Downloading, NOW);
    ahead.last_updated = Timestamp(NOW.0 + minutes(1440));
    ahead.until = Some(Timestamp(NOW.0 - minutes(60)));

    insta::assert_snapshot!(source_in(ahead), @"WARNING: its state was written later than now: the clock was set (1 d ahead); set the clock: `timedatectl`");
}

#[test]
fn a_worker_that_is_gone_is_told_unless_its_unit_is_starting_it() {
    let gone = |process| Told::Course(Course { process, ..course(Status::Downloading, NOW) });
    let down = known(unit(Activity::Inactive, NOW));
    let mut starting = unit(Activity::Activating, NOW);
    starting.sub_state = "auto-restart".to_owned();
    let lines = [
        source(gone(Process::Died { pid: PID }), &down),
        source(gone(Process::Left), &down),
        source(gone(Process::Left), &known(starting)),
        source(Told::NeverRun, &down),
        source(Told::Nothing { why: "the file is damaged".to_owned() }, &running()),
    ];

    insta::assert_snapshot!(lines.join("\n"), @r"
    CRITICAL: its worker, process 4711, is gone without a word; see why with `journalctl -u cynosure.service -n 50`
    WARNING: stopped while downloading, and nothing goes on with it; start it with `systemctl start cynosure.service` or `cynosure run`
    HEALTHY: its unit is starting it
    WARNING: it has never run; start it with `systemctl start cynosure.service` or `cynosure run`
    UNKNOWN: its state is not known: the file is damaged; the next start rebuilds it from the ledger; a newer one needs its own version: `cynosure status` shows work
    ");
}

#[test]
fn a_unit_is_judged_by_what_it_does_and_for_how_long() {
    let with = |activity, change: fn(&mut UnitStatus)| {
        let mut unit = unit(activity, NOW);
        change(&mut unit);
        unit_line(&known(unit))
    };
    let lines = [
        with(Activity::Active, |unit| unit.restarts = 3),
        with(Activity::Inactive, |_| {}),
        with(Activity::Inactive, |unit| unit.unit_file_state = "disabled".to_owned()),
        with(Activity::Failed, |unit| {
            unit.result = "watchdog".to_owned();
            unit.exit_status = 6;
        }),
        with(Activity::Failed, |unit| {
            unit.result = "exit-code".to_owned();
            unit.exit_status = 78;
        }),
        with(Activity::Activating, |_| {}),
        with(Activity::Activating, |unit| unit.sub_state = "auto-restart".to_owned()),
        with(Activity::Deactivating, |_| {}),
        with(Activity::Active, |unit| unit.load = Load::Masked),
        with(Activity::Inactive, |unit| unit.load = Load::NotFound),
    ];

    insta::assert_snapshot!(lines.join("\n"), @r"
    HEALTHY: it runs, started anew by systemd 3 times (for 3 h)
    CRITICAL: it was stopped, or never started; start it with `systemctl start cynosure.service` or `cynosure run`
    WARNING: it was stopped, or never started; start it with `systemctl start cynosure.service` or `cynosure run`
    restart, CRITICAL: it has failed and stays down (watchdog) (status 6); see why with `journalctl -u cynosure.service -n 50`
    CRITICAL: it has failed and stays down (exit-code) (status 78); correct the configuration: `cynosure config check`
    restart, CRITICAL: it is activating too long (for 3 h); restart it with `systemctl restart cynosure.service`
    HEALTHY: it is about to start again, or to stop
    WARNING: it is deactivating too long (for 3 h); restart it with `systemctl restart cynosure.service`
    CRITICAL: it is masked; unmask it with `systemctl unmask cynosure.service`
    HEALTHY: there is no such unit here; install the unit, or set service.service_name to its name
    ");
}

#[test]
fn starts_without_end_are_a_crash_loop() {
    let looping = |starts| UnitSeen::Known {
        unit: unit(Activity::Active, NOW),
        lately: Some(Lately { starts, within: Duration::from_secs(540) }),
    };

    assert!(unit_line(&looping(5)).starts_with("HEALTHY"));
    insta::assert_snapshot!(unit_line(&looping(6)), @"WARNING: it is started again and again: a crash loop (6 in 9 min); see why with `journalctl -u cynosure.service -n 50`");
}

#[test]
fn without_systemd_nothing_is_amiss_and_with_a_silent_one_something_is() {
    let lines = [
        unit_line(&UnitSeen::NoSystemd { why: "there is no D-Bus".to_owned() }),
        unit_line(&UnitSeen::Untold {
            why: "cannot ask for the state of cynosure.service: no answer within 10 s".to_owned(),
            remedy: "see whether it is alive".to_owned(),
        }),
    ];

    insta::assert_snapshot!(lines.join("\n"), @r"
    HEALTHY: it can neither be seen nor restarted: systemd is not here (there is no D-Bus); nothing, if you started the worker by other means
    UNKNOWN: cannot ask for the state of cynosure.service: no answer within 10 s; see whether it is alive
    ");
}
