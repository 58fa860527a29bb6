//! `check` and `monitor`: what is found, what is restarted, and what is told.

use std::time::Duration;

use cynosure::disk::{FileLock, RealDisk};
use cynosure::engine::{Status, Timestamp};
use cynosure::state::{ExecutionState, save_state_file};
use cynosure::worker::{Env, RealEnv};
use rustix::process::Signal;

use crate::bus::{Daemon, Manner, Systemd};
use crate::commands::home::{Home, Ran, dead_pid};
use crate::commands::standing::state;

/// A worker, this test, that let its deadline pass an hour ago.
fn stuck() -> ExecutionState {
    let now = RealEnv.now();
    let late = Timestamp(now.0 - 3_600_000);
    ExecutionState {
        state_until: Some(late),
        last_progress: late,
        state_since: late,
        last_updated: late,
        ..state()
    }
}

pub(super) fn publish(home: &Home, source: &str, state: &ExecutionState) {
    let dir = home.path("state").join(source);
    fs_err::create_dir_all(&dir).unwrap();
    save_state_file(&RealDisk, &dir.join("execution_state.json"), state).unwrap();
}

fn home_of(state: &ExecutionState) -> Home {
    let home = Home::of_work();
    publish(&home, "work", state);
    home
}

/// `check` beside a made-up systemd, whose unit runs this test.
fn check(home: &Home, daemon: &Daemon, args: &[&str]) -> Ran {
    home.end(home.command(args).env("DBUS_SYSTEM_BUS_ADDRESS", daemon.address()))
}

fn supervised(manner: Manner) -> (Daemon, Systemd) {
    let daemon = Daemon::start();
    let systemd = Systemd::start(daemon.address(), manner);
    systemd.set_main_pid(std::process::id());
    (daemon, systemd)
}

#[test]
fn without_systemd_the_states_are_judged_and_the_rest_is_told() {
    let home = home_of(&ExecutionState { last_updated: RealEnv.now(), ..fresh() });

    let ran = home.cynosure(&["check"]);

    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.cells().contains("HEALTHY | execution | work | downloading\n"), "{}", ran.out);
    assert!(ran.out.contains("it can neither be seen nor restarted"), "{}", ran.out);
}

pub(super) fn fresh() -> ExecutionState {
    let now = RealEnv.now();
    ExecutionState { last_progress: now, state_since: now, start_time: Some(now), ..state() }
}

#[test]
fn a_source_that_never_ran_is_a_warning() {
    let ran = Home::of_work().cynosure(&["check"]);

    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.out.contains("it has never run; start it with"), "{}", ran.out);
}

#[test]
fn a_state_that_cannot_be_read_is_unknown() {
    for text in ["{\"schema\":", "", "{\"schema\": 99}"] {
        let home = Home::of_work();
        home.write("state/work/execution_state.json", text);

        let ran = home.cynosure(&["check"]);

        assert_eq!(ran.code, Some(3), "{ran:?}");
        assert_eq!(home.read("state/work/execution_state.json"), text, "it is left as it was");
    }
}

#[test]
fn a_configuration_that_cannot_be_read_is_unknown() {
    let home = Home::of_work();
    home.configure("[restart]", "[restrat]");

    assert_eq!(home.cynosure(&["check"]).code, Some(3));
}

#[test]
fn a_worker_that_died_is_critical() {
    let home = home_of(&ExecutionState { pid: Some(dead_pid()), ..fresh() });

    let ran = home.cynosure(&["check"]);

    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.out.contains("is gone without a word"), "{}", ran.out);
}

#[test]
fn a_worker_that_cannot_write_its_state_is_alive_by_its_lock() {
    let home =
        home_of(&ExecutionState { pid: Some(dead_pid()), last_updated: RealEnv.now(), ..fresh() });
    let _held = FileLock::acquire(&home.path("state/work/lock")).unwrap();

    let ran = home.cynosure(&["check"]);
    let status = home.cynosure(&["status"]);

    assert!(!ran.out.contains("is gone without a word"), "{}", ran.out);
    assert!(!status.out.contains("not running"), "{}", status.out);
}

#[test]
fn what_is_stuck_is_restarted_once_and_the_next_time_has_to_wait() {
    let (daemon, systemd) = supervised(Manner::Obliging);
    let home = home_of(&stuck());

    let looked = check(&home, &daemon, &["check"]);
    assert_eq!((looked.code, systemd.restarts().len()), (Some(2), 0), "{looked:?}");
    let first = check(&home, &daemon, &["check", "--restart", "--json"]);
    let second = check(&home, &daemon, &["check", "--restart"]);

    assert_eq!((first.code, second.code), (Some(2), Some(2)), "{first:?} {second:?}");
    assert_eq!(systemd.restarts(), ["cynosure.service"]);
    let told = &first.json_lines()[0];
    assert!(told["restart"].as_str().unwrap().contains("restart 1 in a row"), "{told}");
    assert_eq!(told["monitor"]["restarts"][0]["outcome"], "accepted");
    assert!(second.out.contains("the next restart is allowed at"), "{}", second.out);
    assert!(second.out.contains(": restarted, since work: stuck:"), "{}", second.out);
}

#[test]
fn a_restart_that_is_not_authorised_says_which_rule_is_missing() {
    let (daemon, _systemd) = supervised(Manner::Denying);
    let home = home_of(&stuck());

    let ran = check(&home, &daemon, &["check", "--restart"]);

    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.out.contains("does not let this user do that"), "{}", ran.out);
    assert!(ran.out.contains("/usr/share/polkit-1/rules.d"), "{}", ran.out);
    assert!(ran.out.contains("a restart was refused"), "{}", ran.out);
}

#[test]
fn a_systemd_that_does_not_answer_is_unknown() {
    let (daemon, _systemd) = supervised(Manner::Silent);
    let home = home_of(&ExecutionState { last_updated: RealEnv.now(), ..fresh() });
    home.configure("[restart]", "[monitor]\nbus_timeout = \"300ms\"\n[restart]");

    let ran = check(&home, &daemon, &["check"]);

    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.out.contains("no answer within 0.3 s"), "{}", ran.out);
}

#[test]
fn switches_withhold_restarts() {
    let (daemon, systemd) = supervised(Manner::Obliging);
    for switch in ["[monitor]\nrestart_stuck = false", "[service]\nenable_auto_restart = false"] {
        let home = home_of(&stuck());
        home.configure("[restart]", &format!("{switch}\n[restart]"));

        let ran = check(&home, &daemon, &["check", "--restart"]);

        assert!(ran.out.contains("a restart would help, and is switched off"), "{}", ran.out);
    }
    assert_eq!(systemd.restarts(), Vec::<String>::new());
}

#[test]
fn what_is_no_longer_configured_is_nobodys_trouble() {
    let home = home_of(&ExecutionState { last_updated: RealEnv.now(), ..fresh() });
    publish(&home, "old", &stuck());

    let ran = home.cynosure(&["check"]);

    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(!ran.out.contains("old"), "{}", ran.out);
}

#[test]
fn two_hundred_sources_are_judged_each() {
    let home = Home::of_work();
    let mut text = home.read("config.toml");
    for number in 0..199 {
        text.push_str(&format!(
            "[source.s{number}]\nkind = \"jmap\"\nurl = \"http://127.0.0.1:9/\"\naccount = \"a\"\n\
             auth = {{ type = \"bearer\", token = {{ file = \"token\" }} }}\n"
        ));
    }
    home.write("config.toml", &text);

    let ran = home.cynosure(&["check", "--json"]);

    assert_eq!(ran.code, Some(1), "{ran:?}");
    let told = &ran.json_lines()[0];
    let of_work = |check: &&serde_json::Value| check["name"] == "execution";
    assert_eq!(told["checks"].as_array().unwrap().iter().filter(of_work).count(), 200);
}

#[test]
fn the_monitor_has_what_is_stuck_restarted_and_leaves_when_asked() {
    let (daemon, systemd) = supervised(Manner::Obliging);
    let home = home_of(&stuck());
    let mut command = home.command(&["monitor"]);
    command.env("DBUS_SYSTEM_BUS_ADDRESS", daemon.address());
    let mut monitor = crate::commands::home::Running(command.spawn().unwrap());

    monitor.log_until("asked systemd for a restart (restart 1 in a row)");
    monitor.signal(Signal::TERM);

    assert_eq!(monitor.0.wait().unwrap().code(), Some(143));
    assert_eq!(systemd.restarts(), ["cynosure.service"]);
    assert!(home.read("state/monitor.json").contains("\"outcome\": \"accepted\""));
}

#[test]
fn the_monitor_goes_on_without_systemd_and_sees_what_changes() {
    let home = home_of(&ExecutionState { last_updated: RealEnv.now(), ..fresh() });
    home.configure("[restart]", "[monitor]\ninterval = \"50ms\"\n[restart]");
    let mut monitor = home.start(&["monitor"]);

    monitor.log_until("it can neither be seen nor restarted");
    publish(&home, "work", &ExecutionState { status: Status::Downloading, ..stuck() });
    monitor.log_until("its deadline has passed");
    home.write("state/work/execution_state.json", "{");
    monitor.log_until("its state is not known");
    fs_err::remove_file(home.path("state/work/execution_state.json")).unwrap();
    monitor.log_until("it has never run");
    monitor.signal(Signal::INT);

    assert_eq!(monitor.0.wait().unwrap().code(), Some(130));
}

#[test]
fn a_wait_of_hours_is_no_reason_to_restart_anything() {
    let (daemon, systemd) = supervised(Manner::Obliging);
    let since = Timestamp(RealEnv.now().0 - 6 * 3_600_000);
    let home = home_of(&ExecutionState {
        status: Status::RateLimited,
        state_since: since,
        last_progress: since,
        last_updated: since,
        start_time: Some(since),
        state_until: Some(RealEnv.now().after(Duration::from_secs(60))),
        ..state()
    });

    let ran = check(&home, &daemon, &["check", "--restart"]);

    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(systemd.restarts(), Vec::<String>::new());
}
