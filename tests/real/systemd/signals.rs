//! Signals from systemd or from elsewhere, in each state of the worker.

use crate::systemd::install::{UNIT, override_service};
use crate::systemd::switchable_proxy::ConnectionMode;
use crate::systemd::test_setup::ServiceSetup;
use crate::wait::{timed, wait_until};

/// Number of threads that takes longer than the test needs to observe the state.
const MANY_THREADS: u32 = 20_000;

/// Response that makes the worker wait for hours.
const RETRY_LATER: &str = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7200\r\n";

const UNAUTHORIZED: &str = "HTTP/1.1 401 Unauthorized\r\n";

const SERVER_ERROR: &str = "HTTP/1.1 500 Internal Server Error\r\n";

#[test]
fn a_stop_in_any_state_leaves_nothing_running_and_a_clean_state() {
    let Some(setup) = ServiceSetup::new(MANY_THREADS) else { return };
    // systemd forgets a stopped unit that nothing references, and its exit status with it.
    setup.systemctl("enable");
    let cases = [
        ("collecting", "collecting, ", ConnectionMode::Silent),
        ("rate_limited", "rate limited until ", ConnectionMode::Reject(RETRY_LATER.to_owned())),
        ("downloading", "downloading ", ConnectionMode::Forward),
        ("error", "error, next attempt at ", ConnectionMode::Reject(SERVER_ERROR.to_owned())),
        ("auth_failed", "auth failed until ", ConnectionMode::Reject(UNAUTHORIZED.to_owned())),
    ];
    for (state, status_text, mode) in cases {
        delete_progress(&setup);
        setup.proxy.set_mode(mode);
        setup.start_until(state);
        wait_until("systemd shows it", || setup.property("StatusText").starts_with(status_text));
        println!("{state}: {:?}", setup.property("StatusText"));

        let ((), took) = timed(|| setup.systemctl("stop"));

        println!("{state}: stopped in {took:?}");
        assert_eq!(setup.property("ActiveState"), "inactive", "in {state}");
        assert_eq!(setup.property("Result"), "success", "in {state}");
        assert_eq!(setup.property("ExecMainStatus"), "75", "in {state}");
        assert_eq!(processes(&setup), "", "in {state}");
        let status = setup.status();
        assert_eq!((&status["status"], &status["running"]), (&state.into(), &false.into()));
        assert_eq!(status["trouble"], serde_json::Value::Null, "in {state}");
    }
}

#[test]
fn a_stop_before_the_next_session_is_clean() {
    let extra_config = "[restart]\nrestart_delay_success = \"1h\"\n";
    let Some(setup) = ServiceSetup::with_config(10, extra_config) else { return };
    setup.start_until("completed");
    wait_until("systemd shows it", || setup.property("StatusText").starts_with("completed"));
    println!("completed: {:?}", setup.property("StatusText"));

    setup.systemctl("stop");

    assert_eq!(setup.property("ActiveState"), "inactive");
    assert_eq!((setup.property("Result").as_str(), processes(&setup).as_str()), ("success", ""));
    let status = setup.status();
    assert_eq!((&status["status"], &status["running"]), (&"completed".into(), &false.into()));
}

#[test]
fn a_stop_while_idle_is_clean() {
    let Some(setup) = ServiceSetup::new(10) else { return };
    setup.start_until("idle");
    wait_until("the next session waits for mail", || {
        setup.property("StatusText").starts_with("idle, next check at ") && setup.restarts() == 1
    });
    println!("idle: {:?}", setup.property("StatusText"));

    setup.systemctl("stop");

    assert_eq!(setup.property("ActiveState"), "inactive");
    assert_eq!((setup.property("Result").as_str(), processes(&setup).as_str()), ("success", ""));
    assert_eq!(setup.status()["running"], false);
}

#[test]
fn a_stopped_session_resumes_and_stores_everything_once() {
    let Some(setup) = ServiceSetup::new(2_000) else { return };
    setup.start_until("downloading");
    setup.systemctl("stop");

    setup.systemctl("start");
    wait_until("everything is stored", || setup.status()["downloaded_threads"] == 2_000);
    setup.systemctl("stop");

    assert_eq!(setup.demo.counters().messages_served_repeatedly, 0);
    verify(&setup);
}

#[test]
fn a_sigterm_not_from_systemd_restarts_the_worker() {
    let Some(setup) = ServiceSetup::new(MANY_THREADS) else { return };
    setup.start_until("downloading");

    let took = setup.recovery_time(|setup| setup.signal("TERM"));

    println!("from a stray SIGTERM to working again: {took:?}");
    assert_eq!(setup.restarts(), 1);
    assert_eq!(setup.property("ActiveState"), "active");
}

#[test]
fn a_second_sigterm_does_not_wait_for_requests_in_flight() {
    let Some(setup) = ServiceSetup::new(MANY_THREADS) else { return };
    setup.start_until("downloading");
    // A request from now on gets no response, and a stop would wait for it.
    let before = setup.proxy.connections();
    setup.proxy.set_mode(ConnectionMode::Silent);
    wait_until("requests are in flight", || setup.proxy.connections() > before);
    let pid = setup.pid();

    setup.machine.run_successfully(&["kill", "-TERM", &pid]);
    wait_until("the first signal is handled", || {
        setup.machine.journal(UNIT).contains("a second signal")
    });
    setup.machine.run_successfully(&["kill", "-TERM", &pid]);

    wait_until("the worker is restarted", || setup.restarts() == 1);
    let journal = setup.machine.journal(UNIT);
    assert!(!journal.contains("stopped: downloading"), "it waited for the requests: {journal}");
}

#[test]
fn a_killed_worker_is_restarted_within_seconds() {
    let Some(setup) = ServiceSetup::new(MANY_THREADS) else { return };
    setup.start_until("downloading");

    let took = setup.recovery_time(|setup| setup.signal("KILL"));

    println!("from SIGKILL to working again: {took:?}");
    assert_eq!(setup.restarts(), 1);
    wait_until("it continues", || setup.status()["status"] == "downloading");
}

#[test]
fn a_frozen_worker_is_restarted() {
    let Some(setup) = ServiceSetup::new(MANY_THREADS) else { return };
    override_service(&setup.machine, "WatchdogSec=2s");
    setup.start_until("downloading");

    let took = setup.recovery_time(|setup| setup.signal("STOP"));

    println!("from SIGSTOP to working again, with a watchdog of 2 s: {took:?}");
    assert_eq!(setup.restarts(), 1);
    assert!(setup.machine.journal(UNIT).contains("Watchdog timeout"));
}

/// Returns the pids of the service's processes.
fn processes(setup: &ServiceSetup) -> String {
    let group = format!("/sys/fs/cgroup/system.slice/{UNIT}/cgroup.procs");
    let output = setup.machine.run(&["cat", &group]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Deletes all progress, as if the service had never run.
fn delete_progress(setup: &ServiceSetup) {
    setup.machine.run_successfully(&["sh", "-c", "rm -rf /var/lib/cynosure/*"]);
}

fn verify(setup: &ServiceSetup) {
    setup.machine.run_successfully(&["cynosure", "verify", "--state-dir", "/var/lib/cynosure"]);
}
