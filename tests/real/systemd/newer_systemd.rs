//! Main tests repeated on the systemd of the next Debian, to find differences between versions.

use fs_err as fs;

use crate::systemd::bus::call_systemd;
use crate::systemd::install::{SECRET, UNIT, cynosure, install, override_service};
use crate::systemd::machine::TestMachine;
use crate::systemd::secrets::{CREDENTIAL_FILE, use_systemd_credential};
use crate::systemd::test_setup::{PASSWORD, ServiceSetup};
use crate::systemd::units::{exposures, verify};
use crate::wait::wait_until;

const MANY_THREADS: u32 = 20_000;

const RESTART_STEPS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/restart-steps.conf");

#[test]
fn a_newer_systemd_reads_the_units_and_its_own_drop_in() {
    let Some(machine) = TestMachine::boot_newer() else { return };
    install(&machine);
    let drop_in = format!("/etc/systemd/system/{UNIT}.d/restart-steps.conf");
    machine.write(&drop_in, fs::read(RESTART_STEPS).expect("the file is in the source tree"));
    machine.run_successfully(&["systemctl", "daemon-reload"]);

    println!("{}", machine.run_successfully(&["systemctl", "--version"]));
    verify(&machine);
    println!("exposure: {:?}", exposures(&machine));
    assert_eq!(machine.property(UNIT, "RestartSteps"), "5");
}

#[test]
fn a_newer_systemd_passes_credentials_and_restarts_the_unit() {
    let Some(machine) = TestMachine::boot_newer() else { return };
    let setup = ServiceSetup::on_machine(machine, 50, "");
    use_systemd_credential(&setup);
    setup.machine.run_successfully(&["rm", SECRET]);
    setup.machine.write_private(CREDENTIAL_FILE, "root", PASSWORD);

    setup.systemctl("start");

    wait_until("the unit has restarted", || setup.restarts() == 1);
    wait_until("the next session waits for mail", || setup.status()["status"] == "idle");
    assert_eq!(setup.status()["downloaded_threads"], 50);
    let report = cynosure(&setup.machine, "cynosure", &["doctor"]);
    println!("{report}");
    assert!(report.contains("ok      restart over D-Bus"), "{report}");
    setup.systemctl("stop");
    assert_eq!(setup.property("Result"), "success");
    assert_eq!(setup.property("ActiveState"), "inactive");
}

#[test]
fn a_newer_systemd_restarts_killed_frozen_and_requested_units() {
    let Some(machine) = TestMachine::boot_newer() else { return };
    let setup = ServiceSetup::on_machine(machine, MANY_THREADS, "");
    override_service(&setup.machine, "WatchdogSec=2s");
    setup.start_until("downloading");

    for (signal, restarts) in [("KILL", 1), ("TERM", 2), ("STOP", 3)] {
        let took = setup.recovery_time(|setup| setup.signal(signal));
        println!("from SIG{signal} to working again: {took:?}");
        assert_eq!(setup.restarts(), restarts);
    }
    let took = setup.recovery_time(|setup| {
        assert!(call_systemd(setup, "cynosure", "RestartUnit", UNIT).status.success());
    });
    println!("from a request over the bus to working again: {took:?}");
    assert!(!call_systemd(&setup, "nobody", "RestartUnit", UNIT).status.success());
    assert!(!call_systemd(&setup, "cynosure", "StopUnit", UNIT).status.success());
}
