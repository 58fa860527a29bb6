//! Journal that is stopped or stuck, which must not affect the work.

use crate::systemd::install::override_service;
use crate::systemd::test_setup::ServiceSetup;
use crate::wait::{timed, wait_until};

/// Number of threads. At the log level of the test each one causes several lines, which is more in
/// all than the queue of a stuck journal can hold.
const MANY_THREADS: u32 = 500;

#[test]
fn a_stuck_journal_blocks_nothing() {
    let Some(setup) = ServiceSetup::new(MANY_THREADS) else { return };
    override_service(&setup.machine, "Environment=CYNOSURE_LOG=trace");
    let journal = setup.machine.property("systemd-journald.service", "MainPID");

    setup.machine.run_successfully(&["kill", "-STOP", &journal]);
    let ((), started) = timed(|| setup.systemctl("start"));
    let ((), stored) = timed(|| {
        wait_until("everything is stored", || setup.status()["downloaded_threads"] == MANY_THREADS);
    });
    setup.machine.run_successfully(&["kill", "-CONT", &journal]);
    println!(
        "with a stuck journal: started in {started:?}, {MANY_THREADS} threads stored in {stored:?}"
    );

    assert_eq!(setup.property("Result"), "success");
}

#[test]
fn without_a_journal_the_worker_continues() {
    let Some(setup) = ServiceSetup::new(MANY_THREADS) else { return };
    setup.systemctl("start");

    setup.machine.run_successfully(&[
        "systemctl",
        "stop",
        "systemd-journald.socket",
        "systemd-journald-dev-log.socket",
        "systemd-journald-audit.socket",
        "systemd-journald.service",
    ]);

    wait_until("everything is stored", || setup.status()["downloaded_threads"] == MANY_THREADS);
    assert_eq!(setup.property("Result"), "success");
}
