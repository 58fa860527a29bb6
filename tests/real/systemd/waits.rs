//! Long waits that a server requires: no watchdog ends them, nothing shortens them, and they
//! survive a reboot.

use std::time::Duration;

use crate::systemd::install::{SECRET, UNIT, override_service};
use crate::systemd::switchable_proxy::ConnectionMode;
use crate::systemd::test_setup::{PASSWORD, ServiceSetup};
use crate::wait::{sleep, wait_until};

/// Number of threads that takes longer than the test needs to observe the state.
const MANY_THREADS: u32 = 20_000;

/// Response with a wait of six hours, which is longer than any watchdog timeout.
const RETRY_IN_SIX_HOURS: &str = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 21600\r\n";

const RETRY_AFTER_REBOOT: &str = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 8\r\n";

/// One request at a time, so that a single 429 sets the deadline: each further one in flight would
/// move it.
const SINGLE_CONNECTION_CONFIG: &str = "[provider.\"127.0.0.1\"]\nconcurrency = 1\n";

#[test]
fn a_wait_of_hours_is_not_taken_for_stuck() {
    let extra_config = "[restart]\nstuck_threshold = \"1s\"\nhealth_check_interval = \"1s\"\n";
    let Some(setup) = ServiceSetup::with_config(10, extra_config) else { return };
    override_service(&setup.machine, "WatchdogSec=1s");
    setup.proxy.set_mode(ConnectionMode::Reject(RETRY_IN_SIX_HOURS.to_owned()));
    setup.start_until("rate_limited");
    let (pid, connections) = (setup.pid(), setup.proxy.connections());

    // Several times as long as the watchdog and the stuck detection need.
    sleep(Duration::from_secs(6));

    assert_eq!((setup.pid(), setup.restarts()), (pid, 0));
    assert_eq!(setup.proxy.connections(), connections, "it ignored the Retry-After");
    assert_eq!(setup.status()["status"], "rate_limited");
}

#[test]
fn a_wait_survives_a_reboot_with_the_same_deadline() {
    let Some(mut setup) = ServiceSetup::with_config(MANY_THREADS, SINGLE_CONNECTION_CONFIG) else {
        return;
    };
    setup.systemctl("enable");
    setup.start_until("downloading");
    setup.proxy.set_mode(ConnectionMode::Reject(RETRY_AFTER_REBOOT.to_owned()));
    setup.wait_for("rate_limited");
    let before = setup.status();
    setup.proxy.set_mode(ConnectionMode::Forward);
    let connections = setup.proxy.connections();

    setup.machine.kill_all_processes();
    setup.machine.start();

    let after = setup.status();
    for key in ["status", "rate_limit_until", "session_id"] {
        assert!(before[key].is_string() && after[key] == before[key], "{key}: {before} {after}");
    }
    assert_eq!(setup.proxy.connections(), connections, "a request before the deadline");
    wait_until("it continues", || setup.status()["status"] == "downloading");
    wait_until("more is stored", || {
        setup.status()["downloaded_threads"].as_u64() > before["downloaded_threads"].as_u64()
    });
    assert_eq!(setup.status()["session_id"], before["session_id"]);
}

#[test]
fn a_new_secret_and_sighup_end_auth_failed_at_once() {
    let Some(setup) = ServiceSetup::new(10) else { return };
    setup.machine.write_private(SECRET, "cynosure", "revoked");
    setup.start_until("auth_failed");
    let pid = setup.pid();

    setup.machine.write_private(SECRET, "cynosure", PASSWORD);
    setup.systemctl("reload");

    wait_until("everything is stored", || setup.status()["downloaded_threads"] == 10);
    assert_eq!(setup.machine.journal(UNIT).matches("started execution session").count(), 1);
    assert_ne!(pid, "0");
}
