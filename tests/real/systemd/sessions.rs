//! Session after session: each ends, the unit starts anew, and the next finds what is new.

use crate::patience::wait_until;
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
