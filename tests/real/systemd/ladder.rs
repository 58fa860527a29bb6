//! What is stuck is started anew, by the lowest rung of the ladder that still holds.

use std::time::Duration;

use crate::patience::{let_pass, timed, wait_until};
use crate::systemd::front::Manner;
use crate::systemd::installed::{UNIT, cynosure, edit, edit_unit};
use crate::systemd::scene::Scene;

/// So many threads that they are not done before something is seen of them.
const MANY: u32 = 20_000;

const MONITOR: &str = "cynosure-monitor.service";

const INSTANCE: &str = "cynosure@work.service";

/// A worker says how it is every 2 s, and is left in peace for 3 s more than it promises. It works
/// slowly, so that it is still at it then.
const WATCHED: &str = r#"
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
const BLOCKED: &str = "Environment=FAIL_CYNOSURE=block_runtime\nWatchdogSec=4s";
const NO_POOL: &str = "Environment=FAIL_CYNOSURE=fill_pool\nWatchdogSec=4s";

#[test]
fn a_source_that_hangs_climbs_the_ladder_to_a_restart_by_systemd() {
    let Some(scene) = Scene::set_with(MANY, "[restart]\nstuck_threshold = \"2s\"\n") else {
        return;
    };
    scene.start_until("downloading");

    let took = scene.time_to_work(|scene| scene.front.turn(Manner::Silent));
    println!("from a hung source to another worker, with a threshold of 2 s: {took:?}");
    assert_eq!(scene.restarts(), 1, "it left by itself first");

    let pid = scene.pid();
    let ((), took) = timed(|| another_worker(&scene, &pid));
    println!("from there to another worker, by D-Bus, since the source still hangs: {took:?}");
    assert_eq!(scene.restarts(), 0, "a restart that was asked for is no restart of systemd's");
    let told = scene.machine.journal(UNIT);
    let climbed = |rung| told.matches(rung).count();
    assert!(climbed("beginning the stage anew") >= 2, "{told}");
    assert_eq!(climbed("leaving has not helped; asking systemd"), 1, "{told}");

    scene.front.turn(Manner::Through);
    let stored = scene.status()["downloaded_threads"].as_u64();
    wait_until("it goes on", || scene.status()["downloaded_threads"].as_u64() > stored);
    assert_eq!(scene.status()["restart_count"], 2);
}

#[test]
fn a_worker_that_is_blocked_has_systemd_restart_it() {
    let Some(scene) = Scene::set(MANY) else { return };
    let (pid, told) = blocked(&scene, BLOCKED);

    let ((), took) = timed(|| another_worker(&scene, &pid));

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
fn without_a_rule_what_is_blocked_is_left_to_the_watchdog() {
    let Some(scene) = Scene::set(MANY) else { return };
    scene.machine.succeed(&["rm", RULE]);
    let (pid, told) = blocked(&scene, BLOCKED);

    another_worker(&scene, &pid);

    assert_eq!(scene.restarts(), 1);
    assert!(told(&scene).contains("leaving it to the watchdog"), "{}", told(&scene));
}

#[test]
fn without_a_bus_what_is_blocked_is_left_to_the_watchdog() {
    let Some(scene) = Scene::set(MANY) else { return };
    scene.machine.succeed(&["systemctl", "stop", "dbus.socket", "dbus.service"]);
    let (pid, told) = blocked(&scene, BLOCKED);

    another_worker(&scene, &pid);

    assert_eq!(scene.restarts(), 1);
    assert!(told(&scene).contains("leaving it to the watchdog"), "{}", told(&scene));
}

#[test]
fn a_bus_that_hangs_leaves_what_is_blocked_to_the_watchdog() {
    let Some(scene) = Scene::set_with(MANY, "[monitor]\nbus_timeout = \"1s\"\n") else { return };
    let (pid, told) = blocked(&scene, NO_POOL);
    let bus = scene.machine.property("dbus.service", "MainPID");
    scene.machine.succeed(&["kill", "-STOP", &bus]);
    scene.machine.succeed(&["systemctl", "start", "--no-block", MONITOR]);

    let ((), took) = timed(|| another_worker(&scene, &pid));

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
    scene.machine.succeed(&["kill", "-CONT", &bus]);
    assert_eq!(scene.machine.property(MONITOR, "NRestarts"), "0");
}

#[test]
fn the_monitor_has_a_unit_restarted_that_is_down() {
    let Some(scene) = Scene::set_with(MANY, "[monitor]\ninterval = \"1s\"\n") else { return };
    edit(&scene.machine, "Restart=no");
    scene.start_until("downloading");
    scene.machine.succeed(&["systemctl", "start", "cynosure-monitor.service"]);

    let took = scene.time_to_work(|scene| scene.signal("KILL"));

    println!("from a dead unit to another worker, by the monitor: {took:?}");
    assert_eq!(scene.property("ActiveState"), "active");
}

#[test]
fn the_monitor_has_a_worker_restarted_that_hangs_and_leaves_the_next_alone() {
    let Some(scene) = Scene::set_with(MANY, WATCHED) else { return };
    hang_on_request(&scene);

    let took = scene.time_to_work(|scene| scene.signal("STOP"));

    println!(
        "from a worker that hangs to another, by the monitor, 7 s after its last word: {took:?}"
    );
    // Longer than a worker may be late that has only just started.
    let_pass(Duration::from_secs(9));
    let told = scene.machine.journal(MONITOR);
    assert_eq!(told.matches("asked systemd for a restart").count(), 1, "{told}");
    assert!(told.contains("decides nothing"), "{told}");
}

#[test]
fn the_monitor_watches_a_source_in_a_unit_of_its_own() {
    let Some(scene) = Scene::set_with(MANY, WATCHED) else { return };
    edit_unit(&scene.machine, INSTANCE, "[Service]\nWatchdogSec=0");
    scene.machine.succeed(&["systemctl", "start", INSTANCE, MONITOR]);
    scene.wait_for("downloading");
    let pid = scene.machine.property(INSTANCE, "MainPID");

    scene.machine.succeed(&["kill", "-STOP", &pid]);

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
fn without_a_rule_the_monitor_says_what_it_may_not() {
    let Some(scene) = Scene::set_with(MANY, WATCHED) else { return };
    scene.machine.succeed(&["rm", RULE]);
    hang_on_request(&scene);
    let pid = scene.pid();

    scene.signal("STOP");

    wait_until("the monitor says so", || scene.machine.journal(MONITOR).contains(RULE));
    assert_eq!(scene.pid(), pid);
    let health = cynosure(&scene.machine, "root", &["check", "--json"]);
    assert!(health.contains(r#""outcome":"refused""#), "{health}");
}

/// Starts the worker without a watchdog, and the monitor.
fn hang_on_request(scene: &Scene) {
    edit(&scene.machine, "WatchdogSec=0");
    scene.start_until("downloading");
    scene.machine.succeed(&["systemctl", "start", MONITOR]);
}

/// Starts a worker that blocks; returns its number, and a way to read what was logged.
fn blocked(scene: &Scene, how: &str) -> (String, impl Fn(&Scene) -> String) {
    edit(&scene.machine, how);
    scene.systemctl("start");
    // The next one is well.
    edit(&scene.machine, "WatchdogSec=4s");
    (scene.pid(), |scene: &Scene| scene.machine.journal(UNIT))
}

fn another_worker(scene: &Scene, pid: &str) {
    wait_until("there is another worker", || !["0", pid].contains(&&*scene.pid()));
    wait_until("it has said what it does", || scene.is_working());
    scene.wait_for("downloading");
}
