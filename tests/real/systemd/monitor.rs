//! `check`, `doctor` and the endpoint with a real systemd.

use crate::systemd::install::{UNIT, cynosure};
use crate::systemd::test_setup::ServiceSetup;
use crate::wait::wait_until;

/// Waits until the first session is completed, the unit has restarted after it, and the worker
/// waits for the next poll.
fn wait_until_idle(setup: &ServiceSetup) {
    wait_until("the unit has restarted after the session", || {
        let status = setup.status();
        let pid = status["pid"].as_u64().map(|pid| pid.to_string());
        status["downloaded_threads"] == 10
            && status["status"] == "idle"
            && pid.is_some_and(|pid| pid == setup.pid())
    });
}

#[test]
fn doctor_reports_the_host() {
    let Some(setup) = ServiceSetup::new(10) else { return };
    setup.systemctl("start");
    wait_until_idle(&setup);

    let report = cynosure(&setup.machine, "cynosure", &["doctor"]);

    println!("{report}");
    for line in [
        "ok      systemd",
        "ok      polkit",
        "ok      restart over D-Bus  this user may restart cynosure.service",
        "ok      start limit         none: systemd restarts it without limit",
        "ok      watchdog            kills it after",
        "ok      work: server",
    ] {
        assert!(report.contains(line), "{line} is not in\n{report}");
    }
    let pid = setup.pid();
    let check = cynosure(&setup.machine, "cynosure", &["check"]);
    println!("{check}");
    assert!(check.contains(&format!("HEALTHY  service    {UNIT}")), "{check}");
    assert_eq!(setup.pid(), pid, "the check of the permission restarted the unit");
}

/// Sends a request to the endpoint from inside the machine, as any of its users can.
fn get_from_machine(setup: &ServiceSetup, path: &str) -> String {
    let request =
        format!("GET {path} HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n");
    let script = format!("exec 3<>/dev/tcp/127.0.0.1/8080 && printf '{request}' >&3 && cat <&3");
    let output = setup.machine.run(&["bash", "-c", &script]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Returns the last evaluation of the monitor.
fn health(setup: &ServiceSetup) -> Option<serde_json::Value> {
    let output = setup.machine.run(&["cat", "/var/lib/cynosure/health.json"]);
    serde_json::from_slice(&output.stdout).ok()
}

#[test]
fn a_socket_of_systemd_starts_the_monitor_and_outlives_it() {
    let Some(setup) = ServiceSetup::new(10) else { return };
    setup.systemctl("start");
    wait_until_idle(&setup);
    setup.machine.run_successfully(&["systemctl", "start", "cynosure-monitor.socket"]);
    assert_eq!(setup.machine.property("cynosure-monitor.service", "ActiveState"), "inactive");

    // The first request starts it, and gets a response.
    let first = get_from_machine(&setup, "/api/sources/work");
    println!("{first}");
    assert!(first.starts_with("HTTP/1.1 200 OK") && first.contains("\"stored\":10"), "{first}");
    // The file is polled, because the endpoint would reject so many requests.
    wait_until("it has evaluated once", || health(&setup).is_some());
    let overview = get_from_machine(&setup, "/api/health/overview");
    println!("{overview}");
    assert!(
        !overview.contains("UNKNOWN"),
        "the unit does not allow it to read everything: {overview}"
    );

    setup.machine.run_successfully(&["systemctl", "restart", "cynosure-monitor.service"]);
    let after = get_from_machine(&setup, "/metrics");
    assert!(after.contains("cynosure_"), "{after}");
    setup.machine.run_successfully(&[
        "systemctl",
        "stop",
        "cynosure-monitor.socket",
        "cynosure-monitor.service",
    ]);
}

#[test]
fn the_hardened_monitor_can_read_everything() {
    let Some(setup) = ServiceSetup::new(10) else { return };
    setup.systemctl("start");
    wait_until_idle(&setup);
    setup.machine.run_successfully(&["systemctl", "start", "cynosure-monitor.service"]);

    wait_until("it has evaluated once", || health(&setup).is_some());

    let health = health(&setup).expect("it has evaluated");
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
