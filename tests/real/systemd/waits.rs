//! Waits that are long and right: nobody ends them, nothing cuts them short, and they outlive the machine.

use std::time::Duration;

use crate::patience::{let_pass, wait_until};
use crate::systemd::front::Manner;
use crate::systemd::installed::{SECRET, UNIT, edit};
use crate::systemd::scene::{PASSWORD, Scene};

/// So many threads that they are not done before something is seen of them.
const MANY: u32 = 20_000;

/// Six hours, which no watchdog is as patient as.
const LATER: &str = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 21600\r\n";

const THROUGH_A_BOOT: &str = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 8\r\n";

/// So that a single refusal sets the deadline: each further one in flight would move it.
const ONE_AT_A_TIME: &str = "[provider.\"127.0.0.1\"]\nconcurrency = 1\n";

#[test]
fn a_legal_wait_of_hours_is_never_taken_for_hanging() {
    let more = "[restart]\nstuck_threshold = \"1s\"\nhealth_check_interval = \"1s\"\n";
    let Some(scene) = Scene::set_with(10, more) else { return };
    edit(&scene.machine, "WatchdogSec=1s");
    scene.front.turn(Manner::Refuse(LATER.to_owned()));
    scene.start_until("rate_limited");
    let (pid, asked) = (scene.pid(), scene.front.connections());

    // As long as a watchdog and a stuck detector would need several times over.
    let_pass(Duration::from_secs(6));

    assert_eq!((scene.pid(), scene.restarts()), (pid, 0));
    assert_eq!(scene.front.connections(), asked, "it asked although it was told to wait");
    assert_eq!(scene.status()["status"], "rate_limited");
}

#[test]
fn a_reboot_in_the_middle_of_a_wait_goes_on_to_the_same_deadline() {
    let Some(mut scene) = Scene::set_with(MANY, ONE_AT_A_TIME) else { return };
    scene.systemctl("enable");
    scene.start_until("downloading");
    scene.front.turn(Manner::Refuse(THROUGH_A_BOOT.to_owned()));
    scene.wait_for("rate_limited");
    let before = scene.status();
    scene.front.turn(Manner::Through);
    let asked = scene.front.connections();

    scene.machine.cut_the_power();
    scene.machine.boot_again();

    let after = scene.status();
    for key in ["status", "rate_limit_until", "session_id"] {
        assert!(before[key].is_string() && after[key] == before[key], "{key}: {before} {after}");
    }
    assert_eq!(scene.front.connections(), asked, "it asked before the deadline");
    wait_until("it goes on", || scene.status()["status"] == "downloading");
    wait_until("more is stored", || {
        scene.status()["downloaded_threads"].as_u64() > before["downloaded_threads"].as_u64()
    });
    assert_eq!(scene.status()["session_id"], before["session_id"]);
}

#[test]
fn a_new_secret_and_sighup_end_a_refusal_at_once() {
    let Some(scene) = Scene::set(10) else { return };
    scene.machine.write_private(SECRET, "cynosure", "revoked");
    scene.start_until("auth_failed");
    let pid = scene.pid();

    scene.machine.write_private(SECRET, "cynosure", PASSWORD);
    scene.systemctl("reload");

    wait_until("everything is stored", || scene.status()["downloaded_threads"] == 10);
    assert_eq!(scene.machine.journal(UNIT).matches("started execution session").count(), 1);
    assert_ne!(pid, "0");
}
