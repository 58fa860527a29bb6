//! Credentials as people get them wrong. Each is told in a sentence, and none makes a loop of restarts.

use std::time::Duration;

use crate::systemd::install::{SECRET, UNIT};
use crate::systemd::test_setup::{PASSWORD, ServiceSetup};
use crate::wait::{sleep, wait_until};

/// Where systemd takes from what it hands to the service.
pub(super) const CREDENTIALS_DIR: &str = "/etc/cynosure/credentials/work";

#[test]
fn a_systemd_credential_authenticates_the_worker() {
    let Some(scene) = ServiceSetup::new(10) else { return };
    use_systemd_credential(&scene);
    scene.machine.write_private(CREDENTIALS_DIR, "root", PASSWORD);

    scene.systemctl("start");

    wait_until("everything is stored", || scene.status()["downloaded_threads"] == 10);
}

#[test]
fn an_unusable_credential_is_named_without_a_crash_loop() {
    let Some(scene) = ServiceSetup::new(10) else { return };
    use_systemd_credential(&scene);
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
            Some(secret) => scene.machine.write_private(CREDENTIALS_DIR, "root", secret),
            None => drop(scene.machine.run(&["rm", "-f", CREDENTIALS_DIR])),
        }
        assert_fails_with(&scene, reason);
    }
}

#[test]
fn a_file_that_others_can_read_is_refused_and_named() {
    let Some(scene) = ServiceSetup::new(10) else { return };
    scene.machine.run_successfully(&["chmod", "644", SECRET]);
    assert_fails_with(&scene, "others than its owner can read or change it");

    scene.machine.run_successfully(&["rm", SECRET]);
    scene.machine.run_successfully(&["mkdir", SECRET]);
    assert_fails_with(&scene, "is not a regular file");

    // A symlink is followed, and what it leads to is judged.
    scene.machine.run_successfully(&["rmdir", SECRET]);
    scene.machine.run_successfully(&["ln", "-s", "/etc/hostname", SECRET]);
    assert_fails_with(&scene, "others than its owner can read or change it");
}

#[test]
fn a_worker_that_worked_waits_for_a_new_credential() {
    let Some(scene) = ServiceSetup::new(10) else { return };
    scene.systemctl("start");
    wait_until("everything is stored", || scene.status()["downloaded_threads"] == 10);
    scene.systemctl("stop");
    scene.demo.mailbox().deliver(5);
    scene.machine.write_private(SECRET, "cynosure", "");

    scene.start_until("auth_failed");
    let (pid, reason) = (scene.pid(), scene.status()["reason"].to_string());
    sleep(Duration::from_secs(3));

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
    let Some(scene) = ServiceSetup::with_config(10, "[restart]\nmax_retires = 3\n") else { return };

    scene.machine.run(&["systemctl", "start", UNIT]);

    wait_until("it has failed", || scene.property("ActiveState") == "failed");
    assert_eq!((scene.property("ExecMainStatus").as_str(), scene.restarts()), ("78", 0));
    assert!(scene.machine.journal(UNIT).contains("max_retries"), "it tells what was meant");
}

/// Starts the service, which must say this and stay down, without a loop of restarts.
fn assert_fails_with(scene: &ServiceSetup, reason: &str) {
    let told = scene.machine.journal(UNIT).matches(reason).count();
    scene.machine.run(&["systemctl", "start", UNIT]);
    wait_until("it has failed", || scene.property("ActiveState") == "failed");
    // Longer than systemd waits before it starts something again.
    sleep(Duration::from_secs(3));
    assert_eq!((scene.property("ExecMainStatus").as_str(), scene.restarts()), ("78", 0));
    let told = scene.machine.journal(UNIT).matches(reason).count() - told;
    assert_eq!(told, 1, "{reason}: {}", scene.machine.journal(UNIT));
    scene.machine.run_successfully(&["systemctl", "reset-failed", UNIT]);
}

/// Has the source's password come from systemd.
pub(super) fn use_systemd_credential(scene: &ServiceSetup) {
    let config = scene.machine.read("/etc/cynosure/config.toml");
    let config = config.replace(&format!("file = \"{SECRET}\""), "systemd = \"token_work\"");
    scene.machine.write("/etc/cynosure/config.toml", config);
}
