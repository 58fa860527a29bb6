//! A journal that is down or stuck, which the work must not notice.

use crate::patience::{timed, wait_until};
use crate::systemd::installed::edit;
use crate::systemd::scene::Scene;

/// At the level of the test each has several lines, more in all than the queue of a stuck journal has places.
const MANY: u32 = 500;

#[test]
fn a_stuck_journal_holds_up_nothing() {
    let Some(scene) = Scene::set(MANY) else { return };
    edit(&scene.machine, "Environment=CYNOSURE_LOG=trace");
    let journal = scene.machine.property("systemd-journald.service", "MainPID");

    scene.machine.succeed(&["kill", "-STOP", &journal]);
    let ((), started) = timed(|| scene.systemctl("start"));
    let ((), stored) = timed(|| {
        wait_until("everything is stored", || scene.status()["downloaded_threads"] == MANY);
    });
    scene.machine.succeed(&["kill", "-CONT", &journal]);
    println!("beside a stuck journal: started in {started:?}, {MANY} threads stored in {stored:?}");

    assert_eq!(scene.property("Result"), "success");
}

#[test]
fn without_a_journal_the_work_goes_on() {
    let Some(scene) = Scene::set(MANY) else { return };
    scene.systemctl("start");

    scene.machine.succeed(&[
        "systemctl",
        "stop",
        "systemd-journald.socket",
        "systemd-journald-dev-log.socket",
        "systemd-journald-audit.socket",
        "systemd-journald.service",
    ]);

    wait_until("everything is stored", || scene.status()["downloaded_threads"] == MANY);
    assert_eq!(scene.property("Result"), "success");
}
