//! The core of it all on the systemd of the next Debian: what differs between versions differs here.

use fs_err as fs;

use crate::systemd::bus::call_systemd;
use crate::systemd::install::{SECRET, UNIT, cynosure, install, override_service};
use crate::systemd::machine::TestMachine;
use crate::systemd::secrets::{CREDENTIALS_DIR, use_systemd_credential};
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
    let scene = ServiceSetup::on_machine(machine, 50, "");
    use_systemd_credential(&scene);
    scene.machine.run_successfully(&["rm", SECRET]);
    scene.machine.write_private(CREDENTIALS_DIR, "root", PASSWORD);

    scene.systemctl("start");

    wait_until("the unit is started anew", || scene.restarts() == 1);
    wait_until("the next session waits for mail", || scene.status()["status"] == "idle");
    assert_eq!(scene.status()["downloaded_threads"], 50);
    let told = cynosure(&scene.machine, "cynosure", &["doctor"]);
    println!("{told}");
    assert!(told.contains("ok     restart over D-Bus"), "{told}");
    scene.systemctl("stop");
    assert_eq!(scene.property("Result"), "success");
    assert_eq!(scene.property("ActiveState"), "inactive");
}

#[test]
fn a_newer_systemd_restarts_killed_frozen_and_requested_units() {
    let Some(machine) = TestMachine::boot_newer() else { return };
    let scene = ServiceSetup::on_machine(machine, MANY_THREADS, "");
    override_service(&scene.machine, "WatchdogSec=2s");
    scene.start_until("downloading");

    for (signal, starts) in [("KILL", 1), ("TERM", 2), ("STOP", 3)] {
        let took = scene.recovery_time(|scene| scene.signal(signal));
        println!("from SIG{signal} to working again: {took:?}");
        assert_eq!(scene.restarts(), starts);
    }
    let took = scene.recovery_time(|scene| {
        assert!(call_systemd(scene, "cynosure", "RestartUnit", UNIT).status.success());
    });
    println!("from a request over the bus to working again: {took:?}");
    assert!(!call_systemd(&scene, "nobody", "RestartUnit", UNIT).status.success());
    assert!(!call_systemd(&scene, "cynosure", "StopUnit", UNIT).status.success());
}
