//! Session after session: each ends, the unit starts anew, and the next finds what is new.

use crate::systemd::install::override_service;
use crate::systemd::switchable_proxy::ConnectionMode;
use crate::systemd::test_setup::ServiceSetup;
use crate::wait::{timed, wait_until};

#[test]
fn three_sessions_complete_and_each_restarts_the_unit() {
    let Some(scene) = ServiceSetup::new(50) else { return };
    scene.systemctl("start");

    for session in 1..=3 {
        wait_until("the unit is started anew", || scene.restarts() >= session);
        wait_until("the next session waits for mail", || scene.status()["status"] == "idle");
        println!("session {session}: {}", scene.status());
        assert_eq!(scene.restarts(), session, "once for each session");
        scene.demo.mailbox().deliver(20);
    }

    let served = scene.demo.counters();
    wait_until("the last mail is stored", || {
        let now = scene.demo.counters();
        now.messages_served > served.messages_served && scene.status()["status"] == "idle"
    });
    assert_eq!(scene.demo.counters().messages_served_repeatedly, 0);
    assert_eq!(scene.property("Result"), "success");
}

#[test]
fn one_source_alone_runs_in_an_instance_of_its_own() {
    let Some(scene) = ServiceSetup::new(50) else { return };

    scene.machine.run_successfully(&["systemctl", "start", "cynosure@work.service"]);

    wait_until("everything is stored", || scene.status()["downloaded_threads"] == 50);
    wait_until("the instance is started anew", || {
        scene.machine.property("cynosure@work.service", "NRestarts") == "1"
    });
    assert_eq!(scene.property("ActiveState"), "inactive");
}

#[test]
fn the_worker_runs_without_a_notify_listener() {
    let Some(scene) = ServiceSetup::new(50) else { return };
    for socket in ["-u NOTIFY_SOCKET", "NOTIFY_SOCKET=/nowhere/notify", "NOTIFY_SOCKET=junk"] {
        override_service(
            &scene.machine,
            &format!(
                "Type=exec\nWatchdogSec=0\nExecStart=\nExecStart=/usr/bin/env {socket} \
                 /usr/bin/cynosure run --config /etc/cynosure/config.toml"
            ),
        );
        let served = scene.demo.counters().messages_served;
        scene.demo.mailbox().deliver(5);
        scene.systemctl("start");

        wait_until("the new mail is stored", || {
            let status = scene.status();
            scene.demo.counters().messages_served > served
                && status["downloaded_threads"] == status["total_threads"]
        });
        scene.systemctl("stop");
        assert_eq!(scene.property("Result"), "success", "{socket}");
        assert_eq!(scene.property("ActiveState"), "inactive", "{socket}");
    }
}

#[test]
fn each_restart_cause_restarts_the_unit_and_is_kept() {
    let slow = "[provider.\"127.0.0.1\"]\ncap = \"50/s\"\n";
    let unit_starts_anew = |more: &str, break_it: &dyn Fn(&ServiceSetup), cause: &str| {
        let Some(scene) = ServiceSetup::with_config(5_000, &format!("{more}{slow}")) else {
            return;
        };
        scene.start_until("downloading");
        let session = scene.status()["session_id"].clone();
        let ((), took) = timed(|| {
            break_it(&scene);
            wait_until("the unit is started anew", || scene.restarts() >= 1);
        });
        println!("{cause}: started anew after {took:?}");
        wait_until("it is known why", || scene.status()["restart_count"].as_u64() >= Some(1));
        scene.proxy.set_mode(ConnectionMode::Forward);
        let status = scene.status();
        assert_eq!(status["last_restart"]["cause"], cause, "{status}");
        assert_eq!(status["session_id"], session, "{status}");
        assert_eq!(scene.property("Result"), "success");
    };

    unit_starts_anew("[restart]\nmax_execution_time = \"3s\"\n", &|_| {}, "execution_time");
    let errors = "[restart]\nmax_retries = 0\nrestart_delay_errors = \"1s\"\n";
    let refuse = |with: &str| {
        let answer = format!("HTTP/1.1 {with}\r\n");
        move |scene: &ServiceSetup| scene.proxy.set_mode(ConnectionMode::Reject(answer.clone()))
    };
    unit_starts_anew(errors, &refuse("404 Not Found"), "errors");
    let authentication = "[restart]\nrestart_delay_auth = \"1s\"\n";
    unit_starts_anew(authentication, &refuse("401 Unauthorized"), "authentication");
}
