//! Who may have what restarted over the system bus.

use std::process::Output;

use crate::patience::wait_until;
use crate::systemd::installed::{UNIT, cynosure};
use crate::systemd::scene::Scene;

/// Where the package puts what polkit goes by.
const RULE: &str = "/usr/share/polkit-1/rules.d/50-cynosure.rules";

#[test]
fn the_worker_may_have_itself_restarted_and_nothing_else() {
    let Some(scene) = Scene::set(10) else { return };
    scene.systemctl("start");
    let pid = scene.pid();

    assert!(ask(&scene, "cynosure", "RestartUnit", UNIT).status.success());

    wait_until("there is another worker", || !["0", &pid].contains(&&*scene.pid()));
    for (user, verb, unit) in [
        ("cynosure", "StopUnit", UNIT),
        ("cynosure", "StartUnit", UNIT),
        ("cynosure", "ReloadUnit", UNIT),
        ("cynosure", "RestartUnit", "dbus.service"),
        ("cynosure", "RestartUnit", "cynosure-monitor.service"),
        ("nobody", "RestartUnit", UNIT),
    ] {
        let refused = ask(&scene, user, verb, unit);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success(), "{user} may {verb} {unit}");
        assert!(said.contains("authentication required"), "{user} {verb} {unit}: {said}");
    }
}

#[test]
fn without_the_rule_nobody_but_root_restarts_it() {
    let Some(scene) = Scene::set(10) else { return };
    scene.machine.succeed(&["rm", RULE]);
    scene.machine.succeed(&["systemctl", "restart", "polkit.service"]);
    scene.systemctl("start");

    assert!(!ask(&scene, "cynosure", "RestartUnit", UNIT).status.success());
}

#[test]
fn without_polkit_nobody_but_root_restarts_it() {
    let Some(scene) = Scene::set(10) else { return };
    // As if it was not installed.
    scene
        .machine
        .succeed(&["rm", "/usr/share/dbus-1/system-services/org.freedesktop.PolicyKit1.service"]);
    scene.machine.succeed(&["systemctl", "mask", "--now", "polkit.service"]);
    scene.systemctl("start");

    assert!(!ask(&scene, "cynosure", "RestartUnit", UNIT).status.success());
    let told = cynosure(&scene.machine, "cynosure", &["doctor"]);
    println!("{told}");
    assert!(told.contains("note   polkit              not here"), "{told}");
    assert!(told.contains("install polkit and the rule"), "{told}");
}

/// Asks systemd for something about a unit, as this user.
pub(super) fn ask(scene: &Scene, user: &str, method: &str, unit: &str) -> Output {
    let call = ["call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1"];
    let method = ["org.freedesktop.systemd1.Manager", method, "ss", unit, "replace"];
    let who = ["runuser", "-u", user, "--", "busctl", "--allow-interactive-authorization=no"];
    scene.machine.run(&[&who[..], &call[..], &method[..]].concat())
}
