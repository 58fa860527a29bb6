//! `check` and `monitor`: findings, restarts and log lines.

use std::time::Duration;

use cynosure::disk::{FileLock, RealDisk};
use cynosure::env::{Env, RealEnv};
use cynosure::state::{ExecutionState, save_state_file};
use cynosure_engine::{Status, Timestamp};
use rustix::process::Signal;

use crate::bus::{BusDaemon, FakeSystemd, SystemdBehaviour};
use crate::commands::status::live_state;
use crate::commands::test_home::{ProgramOutput, RunningProgram, TestHome, dead_pid};

/// State of a worker that missed its deadline an hour ago. Its process is this test, so it is
/// alive.
fn stuck_state() -> ExecutionState {
    let now = RealEnv.now();
    let late = Timestamp(now.0 - 3_600_000);
    ExecutionState {
        state_until: Some(late),
        last_progress: late,
        state_since: late,
        last_updated: late,
        ..live_state()
    }
}

pub(super) fn write_state(home: &TestHome, source: &str, state: &ExecutionState) {
    let dir = home.path("state").join(source);
    fs_err::create_dir_all(&dir).unwrap();
    save_state_file(&RealDisk, &dir.join("execution_state.json"), state).unwrap();
}

fn home_with_state(state: &ExecutionState) -> TestHome {
    let home = TestHome::with_source_work();
    write_state(&home, "work", state);
    home
}

/// Runs a command with the fake systemd on this bus.
fn run_with_systemd(home: &TestHome, daemon: &BusDaemon, args: &[&str]) -> ProgramOutput {
    home.run_to_end(home.command(args).env("DBUS_SYSTEM_BUS_ADDRESS", daemon.address()))
}

fn bus_with_systemd(behaviour: SystemdBehaviour) -> (BusDaemon, FakeSystemd) {
    let daemon = BusDaemon::start();
    let systemd = FakeSystemd::start(daemon.address(), behaviour);
    systemd.set_main_pid(std::process::id());
    (daemon, systemd)
}

#[test]
fn without_systemd_the_states_are_checked() {
    let home = home_with_state(&ExecutionState { last_updated: RealEnv.now(), ..fresh_state() });

    let output = home.cynosure(&["check"]);

    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(
        output.cells().contains("HEALTHY | execution | work | downloading\n"),
        "{}",
        output.stdout
    );
    assert!(output.stdout.contains("it cannot be observed or restarted"), "{}", output.stdout);
}

pub(super) fn fresh_state() -> ExecutionState {
    let now = RealEnv.now();
    ExecutionState { last_progress: now, state_since: now, start_time: Some(now), ..live_state() }
}

#[test]
fn a_source_that_never_ran_is_a_warning() {
    let output = TestHome::with_source_work().cynosure(&["check"]);

    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stdout.contains("it has never run; start it with"), "{}", output.stdout);
}

#[test]
fn a_state_that_cannot_be_read_is_unknown() {
    for text in ["{\"schema\":", "", "{\"schema\": 99}"] {
        let home = TestHome::with_source_work();
        home.write("state/work/execution_state.json", text);

        let output = home.cynosure(&["check"]);

        assert_eq!(output.code, Some(3), "{output:?}");
        assert_eq!(home.read("state/work/execution_state.json"), text, "the file is unchanged");
    }
}

#[test]
fn a_configuration_that_cannot_be_read_is_unknown() {
    let home = TestHome::with_source_work();
    home.configure("[restart]", "[restrat]");

    assert_eq!(home.cynosure(&["check"]).code, Some(3));
}

#[test]
fn a_worker_that_died_is_critical() {
    let home = home_with_state(&ExecutionState { pid: Some(dead_pid()), ..fresh_state() });

    let output = home.cynosure(&["check"]);

    assert_eq!(output.code, Some(2), "{output:?}");
    assert!(output.stdout.contains("died without recording its exit"), "{}", output.stdout);
}

#[test]
fn a_worker_that_cannot_write_is_alive_by_its_lock() {
    let home = home_with_state(&ExecutionState {
        pid: Some(dead_pid()),
        last_updated: RealEnv.now(),
        ..fresh_state()
    });
    let _lock = FileLock::acquire(&home.path("state/work/lock")).unwrap();

    let output = home.cynosure(&["check"]);
    let status = home.cynosure(&["status"]);

    assert!(!output.stdout.contains("died without recording its exit"), "{}", output.stdout);
    assert!(!status.stdout.contains("not running"), "{}", status.stdout);
}

#[test]
fn a_stuck_worker_is_restarted_once_then_must_wait() {
    let (daemon, systemd) = bus_with_systemd(SystemdBehaviour::Allow);
    let home = home_with_state(&stuck_state());

    let plain = run_with_systemd(&home, &daemon, &["check"]);
    assert_eq!((plain.code, systemd.restarts().len()), (Some(2), 0), "{plain:?}");
    let first = run_with_systemd(&home, &daemon, &["check", "--restart", "--json"]);
    let second = run_with_systemd(&home, &daemon, &["check", "--restart"]);

    assert_eq!((first.code, second.code), (Some(2), Some(2)), "{first:?} {second:?}");
    assert_eq!(systemd.restarts(), ["cynosure.service"]);
    let report = &first.json_lines()[0];
    assert!(report["restart"].as_str().unwrap().contains("restart 1 in a row"), "{report}");
    assert_eq!(report["monitor"]["restarts"][0]["outcome"], "accepted");
    assert!(second.stdout.contains("the next restart is allowed at"), "{}", second.stdout);
    assert!(second.stdout.contains(": restarted, reason: work: stuck while "), "{}", second.stdout);
}

#[test]
fn a_restart_that_is_not_authorised_says_which_rule_is_missing() {
    let (daemon, _systemd) = bus_with_systemd(SystemdBehaviour::Deny);
    let home = home_with_state(&stuck_state());

    let output = run_with_systemd(&home, &daemon, &["check", "--restart"]);

    assert_eq!(output.code, Some(2), "{output:?}");
    assert!(output.stdout.contains("does not allow this user to do that"), "{}", output.stdout);
    assert!(output.stdout.contains("/usr/share/polkit-1/rules.d"), "{}", output.stdout);
    assert!(
        output.stdout.contains(
            "a restart was requested and rejected, reason of the request: work: stuck while "
        ),
        "{}",
        output.stdout
    );
}

#[test]
fn a_silent_systemd_is_unknown() {
    let (daemon, _systemd) = bus_with_systemd(SystemdBehaviour::Silent);
    let home = home_with_state(&ExecutionState { last_updated: RealEnv.now(), ..fresh_state() });
    home.configure("[restart]", "[monitor]\nbus_timeout = \"300ms\"\n[restart]");

    let output = run_with_systemd(&home, &daemon, &["check"]);

    assert_eq!(output.code, Some(3), "{output:?}");
    assert!(output.stdout.contains("no response within 0.3 s"), "{}", output.stdout);
}

#[test]
fn restarts_can_be_switched_off() {
    let (daemon, systemd) = bus_with_systemd(SystemdBehaviour::Allow);
    for switch in ["[monitor]\nrestart_stuck = false", "[service]\nenable_auto_restart = false"] {
        let home = home_with_state(&stuck_state());
        home.configure("[restart]", &format!("{switch}\n[restart]"));

        let output = run_with_systemd(&home, &daemon, &["check", "--restart"]);

        let disabled = "a restart would help, but automatic restarts are disabled";
        assert!(output.stdout.contains(disabled), "{}", output.stdout);
    }
    assert_eq!(systemd.restarts(), Vec::<String>::new());
}

#[test]
fn removed_sources_are_not_checked() {
    let home = home_with_state(&ExecutionState { last_updated: RealEnv.now(), ..fresh_state() });
    write_state(&home, "old", &stuck_state());

    let output = home.cynosure(&["check"]);

    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(!output.stdout.contains("old"), "{}", output.stdout);
}

#[test]
fn two_hundred_sources_are_each_checked() {
    let home = TestHome::with_source_work();
    let mut text = home.read("config.toml");
    for number in 0..199 {
        text.push_str(&format!(
            "[source.s{number}]\nkind = \"jmap\"\nurl = \"http://127.0.0.1:9/\"\naccount = \"a\"\n\
             auth = {{ type = \"bearer\", token = {{ file = \"token\" }} }}\n"
        ));
    }
    home.write("config.toml", &text);

    let output = home.cynosure(&["check", "--json"]);

    assert_eq!(output.code, Some(1), "{output:?}");
    let report = &output.json_lines()[0];
    let is_execution = |check: &&serde_json::Value| check["name"] == "execution";
    assert_eq!(report["checks"].as_array().unwrap().iter().filter(is_execution).count(), 200);
}

#[test]
fn the_monitor_restarts_a_stuck_unit_and_stops_on_signal() {
    let (daemon, systemd) = bus_with_systemd(SystemdBehaviour::Allow);
    let home = home_with_state(&stuck_state());
    let mut command = home.command(&["monitor"]);
    command.env("DBUS_SYSTEM_BUS_ADDRESS", daemon.address());
    let mut monitor = RunningProgram(command.spawn().unwrap());

    monitor.log_until("asked systemd for a restart unit=\"cynosure.service\" restarts=1 ");
    monitor.signal(Signal::TERM);

    assert_eq!(monitor.0.wait().unwrap().code(), Some(143));
    assert_eq!(systemd.restarts(), ["cynosure.service"]);
    assert!(home.read("state/monitor.json").contains("\"outcome\": \"accepted\""));
}

#[test]
fn the_monitor_continues_without_systemd() {
    let home = home_with_state(&ExecutionState { last_updated: RealEnv.now(), ..fresh_state() });
    home.configure("[restart]", "[monitor]\ninterval = \"50ms\"\n[restart]");
    let mut monitor = home.start(&["monitor"]);

    monitor.log_until("it cannot be observed or restarted");
    write_state(&home, "work", &ExecutionState { status: Status::Downloading, ..stuck_state() });
    monitor.log_until("missed its deadline");
    home.write("state/work/execution_state.json", "{");
    monitor.log_until("its state file cannot be read");
    fs_err::remove_file(home.path("state/work/execution_state.json")).unwrap();
    monitor.log_until("it has never run");
    monitor.signal(Signal::INT);

    assert_eq!(monitor.0.wait().unwrap().code(), Some(130));
}

#[test]
fn a_wait_of_hours_causes_no_restart() {
    let (daemon, systemd) = bus_with_systemd(SystemdBehaviour::Allow);
    let since = Timestamp(RealEnv.now().0 - 6 * 3_600_000);
    let home = home_with_state(&ExecutionState {
        status: Status::RateLimited,
        state_since: since,
        last_progress: since,
        last_updated: since,
        start_time: Some(since),
        state_until: Some(RealEnv.now().after(Duration::from_secs(60))),
        ..live_state()
    });

    let output = run_with_systemd(&home, &daemon, &["check", "--restart"]);

    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(systemd.restarts(), Vec::<String>::new());
}
