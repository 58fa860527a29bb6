//! Who may have what restarted over the system bus.

use std::process::Output;

use crate::systemd::install::{UNIT, cynosure};
use crate::systemd::test_setup::ServiceSetup;
use crate::wait::wait_until;

/// Where the package puts what polkit goes by.
const RULE: &str = "/usr/share/polkit-1/rules.d/50-cynosure.rules";

#[test]
fn the_worker_may_have_itself_restarted_and_nothing_else() {
    let Some(scene) = ServiceSetup::new(10) else { return };
    scene.systemctl("start");
    let pid = scene.pid();

    assert!(call_systemd(&scene, "cynosure", "RestartUnit", UNIT).status.success());

    wait_until("there is another worker", || !["0", &pid].contains(&&*scene.pid()));
    for (user, verb, unit) in [
        ("cynosure", "StopUnit", UNIT),
        ("cynosure", "StartUnit", UNIT),
        ("cynosure", "ReloadUnit", UNIT),
        ("cynosure", "RestartUnit", "dbus.service"),
        ("cynosure", "RestartUnit", "cynosure-monitor.service"),
        ("nobody", "RestartUnit", UNIT),
    ] {
        let refused = call_systemd(&scene, user, verb, unit);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success(), "{user} may {verb} {unit}");
        assert!(said.contains("authentication required"), "{user} {verb} {unit}: {said}");
    }
}

#[test]
fn without_the_rule_only_root_may_restart_it() {
    let Some(scene) = ServiceSetup::new(10) else { return };
    scene.machine.run_successfully(&["rm", RULE]);
    scene.machine.run_successfully(&["systemctl", "restart", "polkit.service"]);
    scene.systemctl("start");

    assert!(!call_systemd(&scene, "cynosure", "RestartUnit", UNIT).status.success());
}

#[test]
fn without_polkit_only_root_may_restart_it() {
    let Some(scene) = ServiceSetup::new(10) else { return };
    // As if it was not installed.
    scene.machine.run_successfully(&[
        "rm",
        "/usr/share/dbus-1/system-services/org.freedesktop.PolicyKit1.service",
    ]);
    scene.machine.run_successfully(&["systemctl", "mask", "--now", "polkit.service"]);
    scene.systemctl("start");

    assert!(!call_systemd(&scene, "cynosure", "RestartUnit", UNIT).status.success());
    let told = cynosure(&scene.machine, "cynosure", &["doctor"]);
    println!("{told}");
    assert!(told.contains("note   polkit              not here"), "{told}");
    assert!(told.contains("install polkit and the rule"), "{told}");
}

/// Asks systemd for something about a unit, as this user.
pub(super) fn call_systemd(scene: &ServiceSetup, user: &str, method: &str, unit: &str) -> Output {
    let call = ["call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1"];
    let method = ["org.freedesktop.systemd1.Manager", method, "ss", unit, "replace"];
    let who = ["runuser", "-u", user, "--", "busctl", "--allow-interactive-authorization=no"];
    scene.machine.run(&[&who[..], &call[..], &method[..]].concat())
}
