//! What is stuck is started anew, by the lowest rung of the ladder that still holds.

use std::time::Duration;

use crate::systemd::install::{UNIT, cynosure, override_service, override_unit};
use crate::systemd::switchable_proxy::ConnectionMode;
use crate::systemd::test_setup::ServiceSetup;
use crate::wait::{sleep, timed, wait_until};

/// So many threads that they are not done before something is seen of them.
const MANY_THREADS: u32 = 20_000;

const MONITOR: &str = "cynosure-monitor.service";

const INSTANCE: &str = "cynosure@work.service";

/// A worker says how it is every 2 s, and is left in peace for 3 s more than it promises. It works
/// slowly, so that it is still at it then.
const WATCHDOG_CONFIG: &str = r#"
[restart]
stuck_threshold = "4s"
[monitor]
interval = "1s"
grace = "3s"
[provider."127.0.0.1"]
cap = "200/s"
"#;

const RULE: &str = "/usr/share/polkit-1/rules.d/50-cynosure.rules";

/// Breaks the worker a second after its start, in builds for tests: the one thread of its runtime is
/// blocked, or all threads are that wait for disks.
const BLOCK_RUNTIME_ENV: &str = "Environment=FAIL_CYNOSURE=block_runtime\nWatchdogSec=4s";
const FILL_POOL_ENV: &str = "Environment=FAIL_CYNOSURE=fill_pool\nWatchdogSec=4s";

#[test]
fn a_hanging_source_escalates_to_a_restart_by_systemd() {
    let Some(scene) =
        ServiceSetup::with_config(MANY_THREADS, "[restart]\nstuck_threshold = \"2s\"\n")
    else {
        return;
    };
    scene.start_until("downloading");

    let took = scene.recovery_time(|scene| scene.proxy.set_mode(ConnectionMode::Silent));
    println!("from a hung source to another worker, with a threshold of 2 s: {took:?}");
    assert_eq!(scene.restarts(), 1, "it left by itself first");

    let pid = scene.pid();
    let ((), took) = timed(|| wait_for_new_worker(&scene, &pid));
    println!("from there to another worker, by D-Bus, since the source still hangs: {took:?}");
    assert_eq!(scene.restarts(), 0, "a restart that was asked for is no restart of systemd's");
    let told = scene.machine.journal(UNIT);
    let climbed = |rung| told.matches(rung).count();
    assert!(climbed("beginning the stage anew") >= 2, "{told}");
    assert_eq!(climbed("leaving has not helped; asking systemd"), 1, "{told}");

    scene.proxy.set_mode(ConnectionMode::Forward);
    let stored = scene.status()["downloaded_threads"].as_u64();
    wait_until("it goes on", || scene.status()["downloaded_threads"].as_u64() > stored);
    assert_eq!(scene.status()["restart_count"], 2);
}

#[test]
fn a_blocked_worker_requests_a_restart_by_systemd() {
    let Some(scene) = ServiceSetup::new(MANY_THREADS) else { return };
    let (pid, told) = start_blocked_worker(&scene, BLOCK_RUNTIME_ENV);

    let ((), took) = timed(|| wait_for_new_worker(&scene, &pid));

    println!("from a blocked runtime to another worker, by D-Bus: {took:?}");
    assert_eq!(scene.restarts(), 0, "a restart that was asked for is no restart of systemd's");
    assert!(!told(&scene).contains("does not restart the unit"), "{}", told(&scene));
    let status = scene.status();
    assert_eq!(
        (&status["restart_count"], &status["last_restart"]["cause"]),
        (&1.into(), &"stuck".into())
    );
}

#[test]
fn without_a_rule_the_watchdog_ends_a_blocked_worker() {
    let Some(scene) = ServiceSetup::new(MANY_THREADS) else { return };
    scene.machine.run_successfully(&["rm", RULE]);
    let (pid, told) = start_blocked_worker(&scene, BLOCK_RUNTIME_ENV);

    wait_for_new_worker(&scene, &pid);

    assert_eq!(scene.restarts(), 1);
    assert!(told(&scene).contains("leaving it to the watchdog"), "{}", told(&scene));
}

#[test]
fn without_a_bus_the_watchdog_ends_a_blocked_worker() {
    let Some(scene) = ServiceSetup::new(MANY_THREADS) else { return };
    scene.machine.run_successfully(&["systemctl", "stop", "dbus.socket", "dbus.service"]);
    let (pid, told) = start_blocked_worker(&scene, BLOCK_RUNTIME_ENV);

    wait_for_new_worker(&scene, &pid);

    assert_eq!(scene.restarts(), 1);
    assert!(told(&scene).contains("leaving it to the watchdog"), "{}", told(&scene));
}

#[test]
fn with_a_hung_bus_the_watchdog_ends_a_blocked_worker() {
    let Some(scene) = ServiceSetup::with_config(MANY_THREADS, "[monitor]\nbus_timeout = \"1s\"\n")
    else {
        return;
    };
    let (pid, told) = start_blocked_worker(&scene, FILL_POOL_ENV);
    let bus = scene.machine.property("dbus.service", "MainPID");
    scene.machine.run_successfully(&["kill", "-STOP", &bus]);
    scene.machine.run_successfully(&["systemctl", "start", "--no-block", MONITOR]);

    let ((), took) = timed(|| wait_for_new_worker(&scene, &pid));

    println!(
        "from a pool of threads that is dead, beside a bus that hangs, to another worker: {took:?}"
    );
    assert_eq!(scene.restarts(), 1);
    let told = told(&scene);
    assert!(told.contains("asking systemd") && told.contains("Watchdog timeout"), "{told}");
    let ((), took) = timed(|| {
        wait_until("the monitor has waited in vain", || {
            scene.machine.property(MONITOR, "StatusText").contains("no answer within")
        });
    });
    println!("the monitor took {took:?}");
    scene.machine.run_successfully(&["kill", "-CONT", &bus]);
    assert_eq!(scene.machine.property(MONITOR, "NRestarts"), "0");
}

#[test]
fn the_monitor_restarts_a_unit_that_is_down() {
    let Some(scene) = ServiceSetup::with_config(MANY_THREADS, "[monitor]\ninterval = \"1s\"\n")
    else {
        return;
    };
    override_service(&scene.machine, "Restart=no");
    scene.start_until("downloading");
    scene.machine.run_successfully(&["systemctl", "start", "cynosure-monitor.service"]);

    let took = scene.recovery_time(|scene| scene.signal("KILL"));

    println!("from a dead unit to another worker, by the monitor: {took:?}");
    assert_eq!(scene.property("ActiveState"), "active");
}

#[test]
fn the_monitor_restarts_a_hanging_worker_once() {
    let Some(scene) = ServiceSetup::with_config(MANY_THREADS, WATCHDOG_CONFIG) else { return };
    start_hanging_worker(&scene);

    let took = scene.recovery_time(|scene| scene.signal("STOP"));

    println!(
        "from a worker that hangs to another, by the monitor, 7 s after its last word: {took:?}"
    );
    // Longer than a worker may be late that has only just started.
    sleep(Duration::from_secs(9));
    let told = scene.machine.journal(MONITOR);
    assert_eq!(told.matches("asked systemd for a restart").count(), 1, "{told}");
    assert!(told.contains("decides nothing"), "{told}");
}

#[test]
fn the_monitor_watches_a_source_in_a_unit_of_its_own() {
    let Some(scene) = ServiceSetup::with_config(MANY_THREADS, WATCHDOG_CONFIG) else { return };
    override_unit(&scene.machine, INSTANCE, "[Service]\nWatchdogSec=0");
    scene.machine.run_successfully(&["systemctl", "start", INSTANCE, MONITOR]);
    scene.wait_for("downloading");
    let pid = scene.machine.property(INSTANCE, "MainPID");

    scene.machine.run_successfully(&["kill", "-STOP", &pid]);

    wait_until("there is another worker", || {
        !["0", &pid].contains(&&*scene.machine.property(INSTANCE, "MainPID"))
    });
    assert!(scene.machine.journal(MONITOR).contains("asked systemd for a restart"));
    let health = cynosure(&scene.machine, "root", &["check"]);
    println!("{health}");
    assert!(health.contains(INSTANCE) && !health.contains(UNIT), "{health}");
    let doctor = cynosure(&scene.machine, "cynosure", &["doctor"]);
    assert!(doctor.contains("this user may restart cynosure@work.service"), "{doctor}");
}

#[test]
fn without_a_rule_the_monitor_reports_the_denial() {
    let Some(scene) = ServiceSetup::with_config(MANY_THREADS, WATCHDOG_CONFIG) else { return };
    scene.machine.run_successfully(&["rm", RULE]);
    start_hanging_worker(&scene);
    let pid = scene.pid();

    scene.signal("STOP");

    wait_until("the monitor says so", || scene.machine.journal(MONITOR).contains(RULE));
    assert_eq!(scene.pid(), pid);
    let health = cynosure(&scene.machine, "root", &["check", "--json"]);
    assert!(health.contains(r#""outcome":"refused""#), "{health}");
}

/// Starts the worker without a watchdog, and the monitor.
fn start_hanging_worker(scene: &ServiceSetup) {
    override_service(&scene.machine, "WatchdogSec=0");
    scene.start_until("downloading");
    scene.machine.run_successfully(&["systemctl", "start", MONITOR]);
}

/// Starts a worker that blocks; returns its number, and a way to read what was logged.
fn start_blocked_worker(
    scene: &ServiceSetup,
    how: &str,
) -> (String, impl Fn(&ServiceSetup) -> String) {
    override_service(&scene.machine, how);
    scene.systemctl("start");
    // The next one is well.
    override_service(&scene.machine, "WatchdogSec=4s");
    (scene.pid(), |scene: &ServiceSetup| scene.machine.journal(UNIT))
}

fn wait_for_new_worker(scene: &ServiceSetup, pid: &str) {
    wait_until("there is another worker", || !["0", pid].contains(&&*scene.pid()));
    wait_until("it has said what it does", || scene.is_working());
    scene.wait_for("downloading");
}
