//! Signals: whoever sends them, and whatever the worker is doing.

use crate::systemd::install::{UNIT, override_service};
use crate::systemd::switchable_proxy::ConnectionMode;
use crate::systemd::test_setup::ServiceSetup;
use crate::wait::{timed, wait_until};

/// So many threads that they are not done before something is seen of them.
const MANY_THREADS: u32 = 20_000;

/// An answer that has the worker wait for hours.
const RETRY_LATER: &str = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7200\r\n";

const UNAUTHORIZED: &str = "HTTP/1.1 401 Unauthorized\r\n";

const SERVER_ERROR: &str = "HTTP/1.1 500 Internal Server Error\r\n";

#[test]
fn a_stop_in_any_state_leaves_nothing_running_and_a_clean_state() {
    let Some(scene) = ServiceSetup::new(MANY_THREADS) else { return };
    // What nothing wants any more is forgotten, with its exit code.
    scene.systemctl("enable");
    let manners = [
        ("collecting", "collecting, ", ConnectionMode::Silent),
        ("rate_limited", "rate limited until ", ConnectionMode::Reject(RETRY_LATER.to_owned())),
        ("downloading", "downloading ", ConnectionMode::Forward),
        ("error", "error, going on at ", ConnectionMode::Reject(SERVER_ERROR.to_owned())),
        ("auth_failed", "auth failed until ", ConnectionMode::Reject(UNAUTHORIZED.to_owned())),
    ];
    for (state, sentence, manner) in manners {
        delete_progress(&scene);
        scene.proxy.set_mode(manner);
        scene.start_until(state);
        wait_until("systemd knows", || scene.property("StatusText").starts_with(sentence));
        println!("{state}: {:?}", scene.property("StatusText"));

        let ((), took) = timed(|| scene.systemctl("stop"));

        println!("{state}: stopped in {took:?}");
        assert_eq!(scene.property("ActiveState"), "inactive", "in {state}");
        assert_eq!(scene.property("Result"), "success", "in {state}");
        assert_eq!(scene.property("ExecMainStatus"), "75", "in {state}");
        assert_eq!(processes(&scene), "", "in {state}");
        let status = scene.status();
        assert_eq!((&status["status"], &status["running"]), (&state.into(), &false.into()));
        assert_eq!(status["trouble"], serde_json::Value::Null, "in {state}");
    }
}

#[test]
fn a_stop_before_the_next_session_is_as_clean() {
    let more = "[restart]\nrestart_delay_success = \"1h\"\n";
    let Some(scene) = ServiceSetup::with_config(10, more) else { return };
    scene.start_until("completed");
    wait_until("systemd knows", || scene.property("StatusText").starts_with("completed"));
    println!("completed: {:?}", scene.property("StatusText"));

    scene.systemctl("stop");

    assert_eq!(scene.property("ActiveState"), "inactive");
    assert_eq!((scene.property("Result").as_str(), processes(&scene).as_str()), ("success", ""));
    let status = scene.status();
    assert_eq!((&status["status"], &status["running"]), (&"completed".into(), &false.into()));
}

#[test]
fn a_stop_while_idle_is_as_clean() {
    let Some(scene) = ServiceSetup::new(10) else { return };
    scene.start_until("idle");
    wait_until("the next session waits for mail", || {
        scene.property("StatusText").starts_with("idle, next look at ") && scene.restarts() == 1
    });
    println!("idle: {:?}", scene.property("StatusText"));

    scene.systemctl("stop");

    assert_eq!(scene.property("ActiveState"), "inactive");
    assert_eq!((scene.property("Result").as_str(), processes(&scene).as_str()), ("success", ""));
    assert_eq!(scene.status()["running"], false);
}

#[test]
fn a_stopped_session_resumes_and_stores_everything_once() {
    let Some(scene) = ServiceSetup::new(2_000) else { return };
    scene.start_until("downloading");
    scene.systemctl("stop");

    scene.systemctl("start");
    wait_until("everything is stored", || scene.status()["downloaded_threads"] == 2_000);
    scene.systemctl("stop");

    assert_eq!(scene.demo.counters().messages_served_repeatedly, 0);
    verify(&scene);
}

#[test]
fn a_sigterm_from_anywhere_else_starts_it_again() {
    let Some(scene) = ServiceSetup::new(MANY_THREADS) else { return };
    scene.start_until("downloading");

    let took = scene.recovery_time(|scene| scene.signal("TERM"));

    println!("from a stray SIGTERM to working again: {took:?}");
    assert_eq!(scene.restarts(), 1);
    assert_eq!(scene.property("ActiveState"), "active");
}

#[test]
fn a_second_sigterm_does_not_wait_for_what_is_in_flight() {
    let Some(scene) = ServiceSetup::new(MANY_THREADS) else { return };
    scene.start_until("downloading");
    // What is asked for from now on is never answered, and would be waited for.
    let before = scene.proxy.connections();
    scene.proxy.set_mode(ConnectionMode::Silent);
    wait_until("requests are in flight", || scene.proxy.connections() > before);
    let pid = scene.pid();

    scene.machine.run_successfully(&["kill", "-TERM", &pid]);
    wait_until("the first is heard", || scene.machine.journal(UNIT).contains("a second signal"));
    scene.machine.run_successfully(&["kill", "-TERM", &pid]);

    wait_until("it is started again", || scene.restarts() == 1);
    let told = scene.machine.journal(UNIT);
    assert!(!told.contains("stopped: downloading"), "it left without its last sentence: {told}");
}

#[test]
fn a_crash_starts_it_again_within_seconds() {
    let Some(scene) = ServiceSetup::new(MANY_THREADS) else { return };
    scene.start_until("downloading");

    let took = scene.recovery_time(|scene| scene.signal("KILL"));

    println!("from SIGKILL to working again: {took:?}");
    assert_eq!(scene.restarts(), 1);
    wait_until("it goes on", || scene.status()["status"] == "downloading");
}

#[test]
fn a_worker_that_is_frozen_is_started_again() {
    let Some(scene) = ServiceSetup::new(MANY_THREADS) else { return };
    override_service(&scene.machine, "WatchdogSec=2s");
    scene.start_until("downloading");

    let took = scene.recovery_time(|scene| scene.signal("STOP"));

    println!("from SIGSTOP to working again, with a watchdog of 2 s: {took:?}");
    assert_eq!(scene.restarts(), 1);
    assert!(scene.machine.journal(UNIT).contains("Watchdog timeout"));
}

/// The numbers of the service's processes.
fn processes(scene: &ServiceSetup) -> String {
    let group = format!("/sys/fs/cgroup/system.slice/{UNIT}/cgroup.procs");
    let output = scene.machine.run(&["cat", &group]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Takes all progress away, as if the service had never run.
fn delete_progress(scene: &ServiceSetup) {
    scene.machine.run_successfully(&["sh", "-c", "rm -rf /var/lib/cynosure/*"]);
}

fn verify(scene: &ServiceSetup) {
    scene.machine.run_successfully(&["cynosure", "verify", "--state-dir", "/var/lib/cynosure"]);
}
