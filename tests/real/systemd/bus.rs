//! Permissions to restart units over the system bus.

use std::process::Output;

use crate::systemd::install::{UNIT, cynosure};
use crate::systemd::test_setup::ServiceSetup;
use crate::wait::wait_until;

/// Path of the installed polkit rule.
const RULE: &str = "/usr/share/polkit-1/rules.d/50-cynosure.rules";

#[test]
fn the_worker_may_only_restart_its_own_unit() {
    let Some(setup) = ServiceSetup::new(10) else { return };
    setup.systemctl("start");
    let pid = setup.pid();

    assert!(call_systemd(&setup, "cynosure", "RestartUnit", UNIT).status.success());

    wait_until("there is another worker", || !["0", &pid].contains(&&*setup.pid()));
    for (user, method, unit) in [
        ("cynosure", "StopUnit", UNIT),
        ("cynosure", "StartUnit", UNIT),
        ("cynosure", "ReloadUnit", UNIT),
        ("cynosure", "RestartUnit", "dbus.service"),
        ("cynosure", "RestartUnit", "cynosure-monitor.service"),
        ("nobody", "RestartUnit", UNIT),
    ] {
        let output = call_systemd(&setup, user, method, unit);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{user} may call {method} for {unit}");
        assert!(stderr.contains("authentication required"), "{user} {method} {unit}: {stderr}");
    }
}

#[test]
fn without_the_rule_only_root_may_restart_it() {
    let Some(setup) = ServiceSetup::new(10) else { return };
    setup.machine.run_successfully(&["rm", RULE]);
    setup.machine.run_successfully(&["systemctl", "restart", "polkit.service"]);
    setup.systemctl("start");

    assert!(!call_systemd(&setup, "cynosure", "RestartUnit", UNIT).status.success());
}

#[test]
fn without_polkit_only_root_may_restart_it() {
    let Some(setup) = ServiceSetup::new(10) else { return };
    // As if polkit were not installed.
    setup.machine.run_successfully(&[
        "rm",
        "/usr/share/dbus-1/system-services/org.freedesktop.PolicyKit1.service",
    ]);
    setup.machine.run_successfully(&["systemctl", "mask", "--now", "polkit.service"]);
    setup.systemctl("start");

    assert!(!call_systemd(&setup, "cynosure", "RestartUnit", UNIT).status.success());
    let report = cynosure(&setup.machine, "cynosure", &["doctor"]);
    println!("{report}");
    assert!(report.contains("note    polkit              not available"), "{report}");
    assert!(report.contains("install polkit and the rule"), "{report}");
}

/// Calls a method of systemd for a unit, as this user.
pub(super) fn call_systemd(setup: &ServiceSetup, user: &str, method: &str, unit: &str) -> Output {
    let call = ["call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1"];
    let method = ["org.freedesktop.systemd1.Manager", method, "ss", unit, "replace"];
    let as_user = ["runuser", "-u", user, "--", "busctl", "--allow-interactive-authorization=no"];
    setup.machine.run(&[&as_user[..], &call[..], &method[..]].concat())
}
