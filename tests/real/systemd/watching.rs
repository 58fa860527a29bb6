//! `check`, `doctor` and the endpoint beside a real systemd.

use crate::patience::wait_until;
use crate::systemd::installed::UNIT;
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

fn cynosure(scene: &Scene, user: &str, args: &[&str]) -> String {
    let who = ["runuser", "-u", user, "--", "cynosure"];
    let place = ["--config", "/etc/cynosure/config.toml", "--state-dir", "/var/lib/cynosure"];
    let output = scene.machine.run(&[&who[..], args, &place[..]].concat());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn doctor_tells_how_the_machine_is() {
    let Some(scene) = Scene::set(10) else { return };
    scene.systemctl("start");
    wait_until_at_rest(&scene);

    let told = cynosure(&scene, "cynosure", &["doctor"]);

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
    let check = cynosure(&scene, "cynosure", &["check"]);
    println!("{check}");
    assert!(check.contains(&format!("HEALTHY  {UNIT}")), "{check}");
    assert_eq!(scene.pid(), pid, "asking whether it may be restarted restarts nothing");
}

/// Asks the endpoint from within, as whoever is on the machine can.
fn ask(scene: &Scene, path: &str) -> String {
    let request =
        format!("GET {path} HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n");
    let talk = format!("exec 3<>/dev/tcp/127.0.0.1/8080 && printf '{request}' >&3 && cat <&3");
    let output = scene.machine.run(&["bash", "-c", &talk]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_socket_of_systemd_starts_the_monitor_and_outlives_it() {
    let Some(scene) = Scene::set(10) else { return };
    scene.systemctl("start");
    wait_until_at_rest(&scene);
    scene.machine.succeed(&["systemctl", "start", "cynosure-monitor.socket"]);
    assert_eq!(scene.machine.property("cynosure-monitor.service", "ActiveState"), "inactive");

    // The first who asks has it started, and is answered.
    let first = ask(&scene, "/api/sources/work");
    println!("{first}");
    assert!(first.starts_with("HTTP/1.1 200 OK") && first.contains("\"stored\":10"), "{first}");
    wait_until("it has looked", || {
        ask(&scene, "/api/health/overview").contains("\"name\":\"system\"")
    });
    let overview = ask(&scene, "/api/health/overview");
    println!("{overview}");
    assert!(!overview.contains("UNKNOWN"), "the unit lets it see everything: {overview}");

    scene.machine.succeed(&["systemctl", "restart", "cynosure-monitor.service"]);
    let after = ask(&scene, "/metrics");
    assert!(after.contains("cynosure_"), "{after}");
    scene.machine.succeed(&[
        "systemctl",
        "stop",
        "cynosure-monitor.socket",
        "cynosure-monitor.service",
    ]);
}
