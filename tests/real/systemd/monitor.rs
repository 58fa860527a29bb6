//! `check`, `doctor` and the endpoint beside a real systemd.

use crate::systemd::install::{UNIT, cynosure};
use crate::systemd::test_setup::ServiceSetup;
use crate::wait::wait_until;

/// Completed, started anew for it, and looking for something new now and then.
fn wait_until_idle(scene: &ServiceSetup) {
    wait_until("it is started anew after its session", || {
        let status = scene.status();
        let pid = status["pid"].as_u64().map(|pid| pid.to_string());
        status["downloaded_threads"] == 10
            && status["status"] == "idle"
            && pid.is_some_and(|pid| pid == scene.pid())
    });
}

#[test]
fn doctor_reports_the_host() {
    let Some(scene) = ServiceSetup::new(10) else { return };
    scene.systemctl("start");
    wait_until_idle(&scene);

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
    assert!(check.contains(&format!("HEALTHY  service    {UNIT}")), "{check}");
    assert_eq!(scene.pid(), pid, "asking whether it may be restarted restarts nothing");
}

/// Asks the endpoint from within, as whoever is on the machine can.
fn get_from_machine(scene: &ServiceSetup, path: &str) -> String {
    let request =
        format!("GET {path} HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n");
    let talk = format!("exec 3<>/dev/tcp/127.0.0.1/8080 && printf '{request}' >&3 && cat <&3");
    let output = scene.machine.run(&["bash", "-c", &talk]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What the monitor saw when it last looked.
fn health(scene: &ServiceSetup) -> Option<serde_json::Value> {
    let output = scene.machine.run(&["cat", "/var/lib/cynosure/health.json"]);
    serde_json::from_slice(&output.stdout).ok()
}

#[test]
fn a_socket_of_systemd_starts_the_monitor_and_outlives_it() {
    let Some(scene) = ServiceSetup::new(10) else { return };
    scene.systemctl("start");
    wait_until_idle(&scene);
    scene.machine.run_successfully(&["systemctl", "start", "cynosure-monitor.socket"]);
    assert_eq!(scene.machine.property("cynosure-monitor.service", "ActiveState"), "inactive");

    // The first who asks has it started, and is answered.
    let first = get_from_machine(&scene, "/api/sources/work");
    println!("{first}");
    assert!(first.starts_with("HTTP/1.1 200 OK") && first.contains("\"stored\":10"), "{first}");
    // Whoever asked for it again and again would be turned away.
    wait_until("it has looked", || health(&scene).is_some());
    let overview = get_from_machine(&scene, "/api/health/overview");
    println!("{overview}");
    assert!(!overview.contains("UNKNOWN"), "the unit lets it see everything: {overview}");

    scene.machine.run_successfully(&["systemctl", "restart", "cynosure-monitor.service"]);
    let after = get_from_machine(&scene, "/metrics");
    assert!(after.contains("cynosure_"), "{after}");
    scene.machine.run_successfully(&[
        "systemctl",
        "stop",
        "cynosure-monitor.socket",
        "cynosure-monitor.service",
    ]);
}

#[test]
fn the_hardened_monitor_can_read_everything() {
    let Some(scene) = ServiceSetup::new(10) else { return };
    scene.systemctl("start");
    wait_until_idle(&scene);
    scene.machine.run_successfully(&["systemctl", "start", "cynosure-monitor.service"]);

    wait_until("it has looked at everything", || health(&scene).is_some());

    let health = health(&scene).expect("it was there a moment ago");
    println!("{health}");
    let checks = health["report"]["checks"].as_array().expect("there are checks");
    let names: std::collections::BTreeSet<_> =
        checks.iter().filter_map(|check| check["name"].as_str()).collect();
    for name in ["service", "execution", "heartbeat", "sources", "clients", "system", "journal"] {
        assert!(names.contains(name), "{name} is not among {names:?}");
    }
    let unknown: Vec<_> = checks.iter().filter(|check| check["level"] == "UNKNOWN").collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
