//! Session after session: each ends, the unit starts anew, and the next finds what is new.

use crate::patience::wait_until;
use crate::systemd::installed::edit;
use crate::systemd::scene::Scene;

#[test]
fn three_sessions_in_a_row_complete_and_each_starts_the_unit_anew() {
    let Some(scene) = Scene::set(50) else { return };
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
    assert_eq!(scene.demo.counters().messages_served_again, 0);
    assert_eq!(scene.property("Result"), "success");
}

#[test]
fn one_source_alone_runs_in_an_instance_of_its_own() {
    let Some(scene) = Scene::set(50) else { return };

    scene.machine.succeed(&["systemctl", "start", "cynosure@work.service"]);

    wait_until("everything is stored", || scene.status()["downloaded_threads"] == 50);
    wait_until("the instance is started anew", || {
        scene.machine.property("cynosure@work.service", "NRestarts") == "1"
    });
    assert_eq!(scene.property("ActiveState"), "inactive");
}

#[test]
fn nobody_who_listens_for_its_state_is_no_reason_not_to_work() {
    let Some(scene) = Scene::set(50) else { return };
    for socket in ["-u NOTIFY_SOCKET", "NOTIFY_SOCKET=/nowhere/notify", "NOTIFY_SOCKET=junk"] {
        edit(
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
