//! `check` and `doctor` beside a real systemd.

use crate::patience::wait_until;
use crate::systemd::installed::{UNIT, cynosure};
use crate::systemd::scene::Scene;

/// Completed, started anew for it, and looking for something new now and then.
fn wait_until_at_rest(scene: &Scene) {
    wait_until("it is started anew after its session", || {
        let status = scene.status();
        let pid = status["pid"].as_u64().map(|pid| pid.to_string());
        status["downloaded_threads"] == 10
            && status["status"] == "idle"
            && pid.is_some_and(|pid| pid == scene.pid())
    });
}

#[test]
fn doctor_tells_how_the_machine_is() {
    let Some(scene) = Scene::set(10) else { return };
    scene.systemctl("start");
    wait_until_at_rest(&scene);

    let told = cynosure(&scene.machine, "cynosure", &["doctor"]);

    println!("{told}");
    for line in [
        "ok     systemd",
        "ok     polkit",
        "ok     restart over D-Bus  this user may restart cynosure.service",
        "ok     start limit         none: systemd never gives up",
        "ok     watchdog            ends it after",
        "ok     work: server",
    ] {
        assert!(told.contains(line), "{line} is not in\n{told}");
    }
    let pid = scene.pid();
    let check = cynosure(&scene.machine, "cynosure", &["check"]);
    println!("{check}");
    assert!(check.contains(&format!("HEALTHY  {UNIT}")), "{check}");
    assert_eq!(scene.pid(), pid, "asking whether it may be restarted restarts nothing");
}
