//! Waits that are long and right: nobody ends them, nothing cuts them short, and they outlive the machine.

use std::time::Duration;

use crate::systemd::install::{SECRET, UNIT, override_service};
use crate::systemd::switchable_proxy::ConnectionMode;
use crate::systemd::test_setup::{PASSWORD, ServiceSetup};
use crate::wait::{sleep, wait_until};

/// So many threads that they are not done before something is seen of them.
const MANY_THREADS: u32 = 20_000;

/// Six hours, which no watchdog is as patient as.
const RETRY_IN_SIX_HOURS: &str = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 21600\r\n";

const RETRY_AFTER_REBOOT: &str = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 8\r\n";

/// So that a single refusal sets the deadline: each further one in flight would move it.
const SINGLE_CONNECTION_CONFIG: &str = "[provider.\"127.0.0.1\"]\nconcurrency = 1\n";

#[test]
fn a_wait_of_hours_is_not_taken_for_hanging() {
    let more = "[restart]\nstuck_threshold = \"1s\"\nhealth_check_interval = \"1s\"\n";
    let Some(scene) = ServiceSetup::with_config(10, more) else { return };
    override_service(&scene.machine, "WatchdogSec=1s");
    scene.proxy.set_mode(ConnectionMode::Reject(RETRY_IN_SIX_HOURS.to_owned()));
    scene.start_until("rate_limited");
    let (pid, asked) = (scene.pid(), scene.proxy.connections());

    // As long as a watchdog and a stuck detector would need several times over.
    sleep(Duration::from_secs(6));

    assert_eq!((scene.pid(), scene.restarts()), (pid, 0));
    assert_eq!(scene.proxy.connections(), asked, "it asked although it was told to wait");
    assert_eq!(scene.status()["status"], "rate_limited");
}

#[test]
fn a_wait_survives_a_reboot_with_the_same_deadline() {
    let Some(mut scene) = ServiceSetup::with_config(MANY_THREADS, SINGLE_CONNECTION_CONFIG) else {
        return;
    };
    scene.systemctl("enable");
    scene.start_until("downloading");
    scene.proxy.set_mode(ConnectionMode::Reject(RETRY_AFTER_REBOOT.to_owned()));
    scene.wait_for("rate_limited");
    let before = scene.status();
    scene.proxy.set_mode(ConnectionMode::Forward);
    let asked = scene.proxy.connections();

    scene.machine.kill_all_processes();
    scene.machine.reboot();

    let after = scene.status();
    for key in ["status", "rate_limit_until", "session_id"] {
        assert!(before[key].is_string() && after[key] == before[key], "{key}: {before} {after}");
    }
    assert_eq!(scene.proxy.connections(), asked, "it asked before the deadline");
    wait_until("it goes on", || scene.status()["status"] == "downloading");
    wait_until("more is stored", || {
        scene.status()["downloaded_threads"].as_u64() > before["downloaded_threads"].as_u64()
    });
    assert_eq!(scene.status()["session_id"], before["session_id"]);
}

#[test]
fn a_new_secret_and_sighup_end_auth_failed_at_once() {
    let Some(scene) = ServiceSetup::new(10) else { return };
    scene.machine.write_private(SECRET, "cynosure", "revoked");
    scene.start_until("auth_failed");
    let pid = scene.pid();

    scene.machine.write_private(SECRET, "cynosure", PASSWORD);
    scene.systemctl("reload");

    wait_until("everything is stored", || scene.status()["downloaded_threads"] == 10);
    assert_eq!(scene.machine.journal(UNIT).matches("started execution session").count(), 1);
    assert_ne!(pid, "0");
}
