//! A journal that is down or stuck, which the work must not notice.

use crate::systemd::install::override_service;
use crate::systemd::test_setup::ServiceSetup;
use crate::wait::{timed, wait_until};

/// At the level of the test each has several lines, more in all than the queue of a stuck journal has places.
const MANY_THREADS: u32 = 500;

#[test]
fn a_stuck_journal_blocks_nothing() {
    let Some(scene) = ServiceSetup::new(MANY_THREADS) else { return };
    override_service(&scene.machine, "Environment=CYNOSURE_LOG=trace");
    let journal = scene.machine.property("systemd-journald.service", "MainPID");

    scene.machine.run_successfully(&["kill", "-STOP", &journal]);
    let ((), started) = timed(|| scene.systemctl("start"));
    let ((), stored) = timed(|| {
        wait_until("everything is stored", || scene.status()["downloaded_threads"] == MANY_THREADS);
    });
    scene.machine.run_successfully(&["kill", "-CONT", &journal]);
    println!(
        "beside a stuck journal: started in {started:?}, {MANY_THREADS} threads stored in {stored:?}"
    );

    assert_eq!(scene.property("Result"), "success");
}

#[test]
fn without_a_journal_the_worker_continues() {
    let Some(scene) = ServiceSetup::new(MANY_THREADS) else { return };
    scene.systemctl("start");

    scene.machine.run_successfully(&[
        "systemctl",
        "stop",
        "systemd-journald.socket",
        "systemd-journald-dev-log.socket",
        "systemd-journald-audit.socket",
        "systemd-journald.service",
    ]);

    wait_until("everything is stored", || scene.status()["downloaded_threads"] == MANY_THREADS);
    assert_eq!(scene.property("Result"), "success");
}
