//! Credentials as people get them wrong. Each is told in a sentence, and none makes a loop of restarts.

use std::time::Duration;

use crate::patience::{let_pass, wait_until};
use crate::systemd::installed::{SECRET, UNIT};
use crate::systemd::scene::{PASSWORD, Scene};

/// Where systemd takes from what it hands to the service.
pub(super) const HANDED_OVER: &str = "/etc/cynosure/credentials/work";

#[test]
fn what_systemd_hands_over_lets_the_worker_in() {
    let Some(scene) = Scene::set(10) else { return };
    take_from_systemd(&scene);
    scene.machine.write_private(HANDED_OVER, "root", PASSWORD);

    scene.systemctl("start");

    wait_until("everything is stored", || scene.status()["downloaded_threads"] == 10);
}

#[test]
fn a_credential_that_is_no_use_is_named_and_makes_no_loop() {
    let Some(scene) = Scene::set(10) else { return };
    take_from_systemd(&scene);
    let huge = vec![b'x'; 100_000];
    let cases: [(Option<&[u8]>, &str); 5] = [
        (None, "cannot be read"),
        (Some(b""), "is empty"),
        (Some(b"two\nlines"), "holds a line break"),
        (Some(&huge), "gives more than"),
        (Some(b"\xff\xfe\x00"), "is not UTF-8"),
    ];
    for (secret, reason) in cases {
        match secret {
            Some(secret) => scene.machine.write_private(HANDED_OVER, "root", secret),
            None => drop(scene.machine.run(&["rm", "-f", HANDED_OVER])),
        }
        complains(&scene, reason);
    }
}

#[test]
fn a_file_that_others_can_read_is_refused_and_named() {
    let Some(scene) = Scene::set(10) else { return };
    scene.machine.succeed(&["chmod", "644", SECRET]);
    complains(&scene, "others than its owner can read or change it");

    scene.machine.succeed(&["rm", SECRET]);
    scene.machine.succeed(&["mkdir", SECRET]);
    complains(&scene, "is not a regular file");

    // A symlink is followed, and what it leads to is judged.
    scene.machine.succeed(&["rmdir", SECRET]);
    scene.machine.succeed(&["ln", "-s", "/etc/hostname", SECRET]);
    complains(&scene, "others than its owner can read or change it");
}

#[test]
fn what_has_worked_waits_for_its_credential_and_goes_on_by_itself() {
    let Some(scene) = Scene::set(10) else { return };
    scene.systemctl("start");
    wait_until("everything is stored", || scene.status()["downloaded_threads"] == 10);
    scene.systemctl("stop");
    scene.demo.mailbox().deliver(5);
    scene.machine.write_private(SECRET, "cynosure", "");

    scene.start_until("auth_failed");
    let (pid, reason) = (scene.pid(), scene.status()["reason"].to_string());
    let_pass(Duration::from_secs(3));

    assert!(reason.contains("is empty"), "{reason}");
    assert_eq!((scene.pid(), scene.restarts()), (pid, 0));
    let told = scene.machine.journal(UNIT).matches("authentication failed").count();
    assert_eq!(told, 1, "{}", scene.machine.journal(UNIT));
    scene.machine.write_private(SECRET, "cynosure", PASSWORD);
    let served = scene.demo.counters().messages_served;
    wait_until("the new mail is stored", || {
        scene.demo.counters().messages_served > served && scene.status()["status"] == "idle"
    });
}

#[test]
fn a_wrong_configuration_stays_down_with_its_reason() {
    let Some(scene) = Scene::set_with(10, "[restart]\nmax_retires = 3\n") else { return };

    scene.machine.run(&["systemctl", "start", UNIT]);

    wait_until("it has failed", || scene.property("ActiveState") == "failed");
    assert_eq!((scene.property("ExecMainStatus").as_str(), scene.restarts()), ("78", 0));
    assert!(scene.machine.journal(UNIT).contains("max_retries"), "it tells what was meant");
}

/// Starts the service, which must say this and stay down, without a loop of restarts.
fn complains(scene: &Scene, reason: &str) {
    let told = scene.machine.journal(UNIT).matches(reason).count();
    scene.machine.run(&["systemctl", "start", UNIT]);
    wait_until("it has failed", || scene.property("ActiveState") == "failed");
    // Longer than systemd waits before it starts something again.
    let_pass(Duration::from_secs(3));
    assert_eq!((scene.property("ExecMainStatus").as_str(), scene.restarts()), ("78", 0));
    let told = scene.machine.journal(UNIT).matches(reason).count() - told;
    assert_eq!(told, 1, "{reason}: {}", scene.machine.journal(UNIT));
    scene.machine.succeed(&["systemctl", "reset-failed", UNIT]);
}

/// Has the source's password come from systemd.
pub(super) fn take_from_systemd(scene: &Scene) {
    let config = scene.machine.read("/etc/cynosure/config.toml");
    let config = config.replace(&format!("file = \"{SECRET}\""), "systemd = \"token_work\"");
    scene.machine.write("/etc/cynosure/config.toml", config);
}
