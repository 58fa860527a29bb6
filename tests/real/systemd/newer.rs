//! The core of it all on the systemd of the next Debian: what differs between versions differs here.

use fs_err as fs;

use crate::patience::wait_until;
use crate::systemd::bus::ask;
use crate::systemd::installed::{SECRET, UNIT, cynosure, edit, install};
use crate::systemd::machine::Machine;
use crate::systemd::scene::{PASSWORD, Scene};
use crate::systemd::secrets::{HANDED_OVER, take_from_systemd};
use crate::systemd::units::{exposures, verify};

const MANY: u32 = 20_000;

const STEPS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/restart-steps.conf");

#[test]
fn a_newer_systemd_reads_the_units_and_the_drop_in_that_only_it_knows() {
    let Some(machine) = Machine::boot_newer() else { return };
    install(&machine);
    let drop_in = format!("/etc/systemd/system/{UNIT}.d/restart-steps.conf");
    machine.write(&drop_in, fs::read(STEPS).expect("the file is in the source tree"));
    machine.succeed(&["systemctl", "daemon-reload"]);

    println!("{}", machine.succeed(&["systemctl", "--version"]));
    verify(&machine);
    println!("exposure: {:?}", exposures(&machine));
    assert_eq!(machine.property(UNIT, "RestartSteps"), "5");
}

#[test]
fn a_newer_systemd_hands_over_credentials_and_starts_anew_what_completed() {
    let Some(machine) = Machine::boot_newer() else { return };
    let scene = Scene::on(machine, 50, "");
    take_from_systemd(&scene);
    scene.machine.succeed(&["rm", SECRET]);
    scene.machine.write_private(HANDED_OVER, "root", PASSWORD);

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
fn a_newer_systemd_starts_again_what_is_killed_frozen_or_asked_for_over_the_bus() {
    let Some(machine) = Machine::boot_newer() else { return };
    let scene = Scene::on(machine, MANY, "");
    edit(&scene.machine, "WatchdogSec=2s");
    scene.start_until("downloading");

    for (signal, starts) in [("KILL", 1), ("TERM", 2), ("STOP", 3)] {
        let took = scene.time_to_work(|scene| scene.signal(signal));
        println!("from SIG{signal} to working again: {took:?}");
        assert_eq!(scene.restarts(), starts);
    }
    let took = scene.time_to_work(|scene| {
        assert!(ask(scene, "cynosure", "RestartUnit", UNIT).status.success());
    });
    println!("from a request over the bus to working again: {took:?}");
    assert!(!ask(&scene, "nobody", "RestartUnit", UNIT).status.success());
    assert!(!ask(&scene, "cynosure", "StopUnit", UNIT).status.success());
}
