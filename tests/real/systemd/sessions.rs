//! Successive sessions: each one ends, the unit restarts, and the next one fetches what is new.

use crate::systemd::install::override_service;
use crate::systemd::switchable_proxy::ConnectionMode;
use crate::systemd::test_setup::ServiceSetup;
use crate::wait::{timed, wait_until};

#[test]
fn three_sessions_complete_and_each_restarts_the_unit() {
    let Some(setup) = ServiceSetup::new(50) else { return };
    setup.systemctl("start");

    for session in 1..=3 {
        wait_until("the unit has restarted", || setup.restarts() >= session);
        wait_until("the next session waits for mail", || setup.status()["status"] == "idle");
        println!("session {session}: {}", setup.status());
        assert_eq!(setup.restarts(), session, "one restart for each session");
        setup.demo.lock_mailbox().deliver(20);
    }

    let before = setup.demo.counters();
    wait_until("the last mail is stored", || {
        let now = setup.demo.counters();
        now.messages_served > before.messages_served && setup.status()["status"] == "idle"
    });
    assert_eq!(setup.demo.counters().messages_served_repeatedly, 0);
    assert_eq!(setup.property("Result"), "success");
}

#[test]
fn a_single_source_runs_in_a_separate_instance() {
    let Some(setup) = ServiceSetup::new(50) else { return };

    setup.machine.run_successfully(&["systemctl", "start", "cynosure@work.service"]);

    wait_until("everything is stored", || setup.status()["downloaded_threads"] == 50);
    wait_until("the instance has restarted", || {
        setup.machine.property("cynosure@work.service", "NRestarts") == "1"
    });
    assert_eq!(setup.property("ActiveState"), "inactive");
}

#[test]
fn the_worker_runs_without_a_notify_listener() {
    let Some(setup) = ServiceSetup::new(50) else { return };
    for socket in ["-u NOTIFY_SOCKET", "NOTIFY_SOCKET=/nowhere/notify", "NOTIFY_SOCKET=junk"] {
        override_service(
            &setup.machine,
            &format!(
                "Type=exec\nWatchdogSec=0\nExecStart=\nExecStart=/usr/bin/env {socket} \
                 /usr/bin/cynosure run --config /etc/cynosure/config.toml"
            ),
        );
        let served = setup.demo.counters().messages_served;
        setup.demo.lock_mailbox().deliver(5);
        setup.systemctl("start");

        wait_until("the new mail is stored", || {
            let status = setup.status();
            setup.demo.counters().messages_served > served
                && status["downloaded_threads"] == status["total_threads"]
        });
        setup.systemctl("stop");
        assert_eq!(setup.property("Result"), "success", "{socket}");
        assert_eq!(setup.property("ActiveState"), "inactive", "{socket}");
    }
}

#[test]
fn each_restart_cause_restarts_the_unit_and_is_kept() {
    let rate_cap = "[provider.\"127.0.0.1\"]\ncap = \"50/s\"\n";
    let assert_restart = |config: &str, cause_failure: &dyn Fn(&ServiceSetup), cause: &str| {
        let Some(setup) = ServiceSetup::with_config(5_000, &format!("{config}{rate_cap}")) else {
            return;
        };
        setup.start_until("downloading");
        let session = setup.status()["session_id"].clone();
        let ((), took) = timed(|| {
            cause_failure(&setup);
            wait_until("the unit has restarted", || setup.restarts() >= 1);
        });
        println!("{cause}: restarted after {took:?}");
        wait_until("the cause is recorded", || setup.status()["restart_count"].as_u64() >= Some(1));
        setup.proxy.set_mode(ConnectionMode::Forward);
        let status = setup.status();
        assert_eq!(status["last_restart"]["cause"], cause, "{status}");
        assert_eq!(status["session_id"], session, "{status}");
        assert_eq!(setup.property("Result"), "success");
    };

    assert_restart("[restart]\nmax_execution_time = \"3s\"\n", &|_| {}, "execution_time");
    let error_limits = "[restart]\nmax_retries = 0\nrestart_delay_errors = \"1s\"\n";
    let reject = |status: &str| {
        let head = format!("HTTP/1.1 {status}\r\n");
        move |setup: &ServiceSetup| setup.proxy.set_mode(ConnectionMode::Reject(head.clone()))
    };
    assert_restart(error_limits, &reject("404 Not Found"), "errors");
    let auth_delay = "[restart]\nrestart_delay_auth = \"1s\"\n";
    assert_restart(auth_delay, &reject("401 Unauthorized"), "authentication");
}
