//! Escalation for stuck workers: each is restarted by the mildest measure that still works.

use std::time::Duration;

use crate::systemd::install::{UNIT, cynosure, override_service, override_unit};
use crate::systemd::switchable_proxy::ConnectionMode;
use crate::systemd::test_setup::ServiceSetup;
use crate::wait::{sleep, timed, wait_until};

/// Number of threads that takes longer than the test needs to observe the state.
const MANY_THREADS: u32 = 20_000;

const MONITOR: &str = "cynosure-monitor.service";

const INSTANCE: &str = "cynosure@work.service";

/// Configuration in which a worker reports its state every 2 s, and is overdue 3 s after its
/// deadline. The rate is low, so that the work is not done by then.
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

/// Service settings with a fault that builds for tests inject into the worker a second after its
/// start: the only thread of its runtime is blocked, or all threads that wait for disks.
const BLOCK_RUNTIME_SETTINGS: &str = "Environment=FAIL_CYNOSURE=block_runtime\nWatchdogSec=4s";
const FILL_POOL_SETTINGS: &str = "Environment=FAIL_CYNOSURE=fill_pool\nWatchdogSec=4s";

#[test]
fn a_hanging_source_escalates_to_a_restart_by_systemd() {
    let Some(setup) =
        ServiceSetup::with_config(MANY_THREADS, "[restart]\nstuck_threshold = \"2s\"\n")
    else {
        return;
    };
    setup.start_until("downloading");

    let took = setup.recovery_time(|setup| setup.proxy.set_mode(ConnectionMode::Silent));
    println!("from a hung source to another worker, with a threshold of 2 s: {took:?}");
    assert_eq!(setup.restarts(), 1, "it exited by itself first");

    let pid = setup.pid();
    let ((), took) = timed(|| wait_for_new_worker(&setup, &pid));
    println!("from there to another worker, by D-Bus, because the source still hangs: {took:?}");
    assert_eq!(setup.restarts(), 0, "a requested restart is not an automatic one of systemd");
    let journal = worker_journal(&setup);
    let count = |message| journal.matches(message).count();
    assert!(count("no progress: restarting the phase") >= 2, "{journal}");
    assert_eq!(count("stuck: exiting has not helped; asking systemd"), 1, "{journal}");

    setup.proxy.set_mode(ConnectionMode::Forward);
    let stored = setup.status()["downloaded_threads"].as_u64();
    wait_until("it continues", || setup.status()["downloaded_threads"].as_u64() > stored);
    assert_eq!(setup.status()["restart_count"], 2);
}

#[test]
fn a_blocked_worker_requests_a_restart_by_systemd() {
    let Some(setup) = ServiceSetup::new(MANY_THREADS) else { return };
    let pid = start_blocked_worker(&setup, BLOCK_RUNTIME_SETTINGS);

    let ((), took) = timed(|| wait_for_new_worker(&setup, &pid));

    println!("from a blocked runtime to another worker, by D-Bus: {took:?}");
    assert_eq!(setup.restarts(), 0, "a requested restart is not an automatic one of systemd");
    assert!(
        !worker_journal(&setup).contains("does not restart the unit"),
        "{}",
        worker_journal(&setup)
    );
    let status = setup.status();
    assert_eq!(
        (&status["restart_count"], &status["last_restart"]["cause"]),
        (&1.into(), &"stuck".into())
    );
}

#[test]
fn without_a_rule_the_watchdog_ends_a_blocked_worker() {
    let Some(setup) = ServiceSetup::new(MANY_THREADS) else { return };
    setup.machine.run_successfully(&["rm", RULE]);
    let pid = start_blocked_worker(&setup, BLOCK_RUNTIME_SETTINGS);

    wait_for_new_worker(&setup, &pid);

    assert_eq!(setup.restarts(), 1);
    assert!(
        worker_journal(&setup).contains("leaving it to the watchdog"),
        "{}",
        worker_journal(&setup)
    );
}

#[test]
fn without_a_bus_the_watchdog_ends_a_blocked_worker() {
    let Some(setup) = ServiceSetup::new(MANY_THREADS) else { return };
    setup.machine.run_successfully(&["systemctl", "stop", "dbus.socket", "dbus.service"]);
    let pid = start_blocked_worker(&setup, BLOCK_RUNTIME_SETTINGS);

    wait_for_new_worker(&setup, &pid);

    assert_eq!(setup.restarts(), 1);
    assert!(
        worker_journal(&setup).contains("leaving it to the watchdog"),
        "{}",
        worker_journal(&setup)
    );
}

#[test]
fn with_a_hung_bus_the_watchdog_ends_a_blocked_worker() {
    let Some(setup) = ServiceSetup::with_config(MANY_THREADS, "[monitor]\nbus_timeout = \"1s\"\n")
    else {
        return;
    };
    let pid = start_blocked_worker(&setup, FILL_POOL_SETTINGS);
    let bus = setup.machine.property("dbus.service", "MainPID");
    setup.machine.run_successfully(&["kill", "-STOP", &bus]);
    setup.machine.run_successfully(&["systemctl", "start", "--no-block", MONITOR]);

    let ((), took) = timed(|| wait_for_new_worker(&setup, &pid));

    println!("from a blocked thread pool, with a hanging bus, to another worker: {took:?}");
    assert_eq!(setup.restarts(), 1);
    let journal = worker_journal(&setup);
    assert!(
        journal.contains("asking systemd") && journal.contains("Watchdog timeout"),
        "{journal}"
    );
    let ((), took) = timed(|| {
        wait_until("the monitor has reported its timeout", || {
            setup.machine.property(MONITOR, "StatusText").contains("no response within")
        });
    });
    println!("the monitor took {took:?}");
    setup.machine.run_successfully(&["kill", "-CONT", &bus]);
    assert_eq!(setup.machine.property(MONITOR, "NRestarts"), "0");
}

#[test]
fn the_monitor_restarts_a_unit_that_is_down() {
    let Some(setup) = ServiceSetup::with_config(MANY_THREADS, "[monitor]\ninterval = \"1s\"\n")
    else {
        return;
    };
    override_service(&setup.machine, "Restart=no");
    setup.start_until("downloading");
    setup.machine.run_successfully(&["systemctl", "start", "cynosure-monitor.service"]);

    let took = setup.recovery_time(|setup| setup.signal("KILL"));

    println!("from a dead unit to another worker, by the monitor: {took:?}");
    assert_eq!(setup.property("ActiveState"), "active");
}

#[test]
fn the_monitor_restarts_a_hanging_worker_once() {
    let Some(setup) = ServiceSetup::with_config(MANY_THREADS, WATCHDOG_CONFIG) else { return };
    start_worker_without_watchdog(&setup);

    let took = setup.recovery_time(|setup| setup.signal("STOP"));

    println!(
        "from a hanging worker to another, by the monitor, 7 s after its last report: {took:?}"
    );
    // Longer than the grace period of a worker that has just started.
    sleep(Duration::from_secs(9));
    let journal = setup.machine.journal(MONITOR);
    assert_eq!(journal.matches("asked systemd for a restart").count(), 1, "{journal}");
    assert!(journal.contains("missed its deadline"), "{journal}");
}

#[test]
fn the_monitor_watches_a_source_in_a_separate_unit() {
    let Some(setup) = ServiceSetup::with_config(MANY_THREADS, WATCHDOG_CONFIG) else { return };
    override_unit(&setup.machine, INSTANCE, "[Service]\nWatchdogSec=0");
    setup.machine.run_successfully(&["systemctl", "start", INSTANCE, MONITOR]);
    setup.wait_for("downloading");
    let pid = setup.machine.property(INSTANCE, "MainPID");

    setup.machine.run_successfully(&["kill", "-STOP", &pid]);

    wait_until("there is another worker", || {
        !["0", &pid].contains(&&*setup.machine.property(INSTANCE, "MainPID"))
    });
    assert!(setup.machine.journal(MONITOR).contains("asked systemd for a restart"));
    let health = cynosure(&setup.machine, "root", &["check"]);
    println!("{health}");
    assert!(health.contains(INSTANCE) && !health.contains(UNIT), "{health}");
    let doctor = cynosure(&setup.machine, "cynosure", &["doctor"]);
    assert!(doctor.contains("this user may restart cynosure@work.service"), "{doctor}");
}

#[test]
fn without_a_rule_the_monitor_reports_the_denial() {
    let Some(setup) = ServiceSetup::with_config(MANY_THREADS, WATCHDOG_CONFIG) else { return };
    setup.machine.run_successfully(&["rm", RULE]);
    start_worker_without_watchdog(&setup);
    let pid = setup.pid();

    setup.signal("STOP");

    wait_until("the monitor reports it", || setup.machine.journal(MONITOR).contains(RULE));
    assert_eq!(setup.pid(), pid);
    let health = cynosure(&setup.machine, "root", &["check", "--json"]);
    assert!(health.contains(r#""outcome":"refused""#), "{health}");
}

/// Starts the worker, without the watchdog of systemd, and the monitor.
fn start_worker_without_watchdog(setup: &ServiceSetup) {
    override_service(&setup.machine, "WatchdogSec=0");
    setup.start_until("downloading");
    setup.machine.run_successfully(&["systemctl", "start", MONITOR]);
}

/// Starts a worker with these settings, and returns its pid.
fn start_blocked_worker(setup: &ServiceSetup, fault_settings: &str) -> String {
    override_service(&setup.machine, fault_settings);
    setup.systemctl("start");
    // The next worker has no fault.
    override_service(&setup.machine, "WatchdogSec=4s");
    setup.pid()
}

fn worker_journal(setup: &ServiceSetup) -> String {
    setup.machine.journal(UNIT)
}

fn wait_for_new_worker(setup: &ServiceSetup, pid: &str) {
    wait_until("there is another worker", || !["0", pid].contains(&&*setup.pid()));
    wait_until("it has written its state", || setup.has_written_state());
    setup.wait_for("downloading");
}
