//! Common mistakes with credentials: each is reported in one sentence, and none causes a crash
//! loop.

use std::time::Duration;

use crate::systemd::install::{SECRET, UNIT};
use crate::systemd::test_setup::{PASSWORD, ServiceSetup};
use crate::wait::{sleep, wait_until};

/// File of the credential that systemd passes to the service.
pub(super) const CREDENTIAL_FILE: &str = "/etc/cynosure/credentials/work";

#[test]
fn a_systemd_credential_authenticates_the_worker() {
    let Some(setup) = ServiceSetup::new(10) else { return };
    use_systemd_credential(&setup);
    setup.machine.write_private(CREDENTIAL_FILE, "root", PASSWORD);

    setup.systemctl("start");

    wait_until("everything is stored", || setup.status()["downloaded_threads"] == 10);
}

#[test]
fn an_unusable_credential_is_reported_without_a_crash_loop() {
    let Some(setup) = ServiceSetup::new(10) else { return };
    use_systemd_credential(&setup);
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
            Some(secret) => setup.machine.write_private(CREDENTIAL_FILE, "root", secret),
            None => drop(setup.machine.run(&["rm", "-f", CREDENTIAL_FILE])),
        }
        assert_fails_with(&setup, reason);
    }
}

#[test]
fn an_unsafe_secret_file_is_rejected_with_its_reason() {
    let Some(setup) = ServiceSetup::new(10) else { return };
    setup.machine.run_successfully(&["chmod", "644", SECRET]);
    assert_fails_with(&setup, "users other than its owner can read or change it");

    setup.machine.run_successfully(&["rm", SECRET]);
    setup.machine.run_successfully(&["mkdir", SECRET]);
    assert_fails_with(&setup, "is not a regular file");

    // A symlink is followed, and its target is checked.
    setup.machine.run_successfully(&["rmdir", SECRET]);
    setup.machine.run_successfully(&["ln", "-s", "/etc/hostname", SECRET]);
    assert_fails_with(&setup, "users other than its owner can read or change it");
}

#[test]
fn a_worker_that_was_logged_in_waits_for_a_new_credential() {
    let Some(setup) = ServiceSetup::new(10) else { return };
    setup.systemctl("start");
    wait_until("everything is stored", || setup.status()["downloaded_threads"] == 10);
    setup.systemctl("stop");
    setup.demo.lock_mailbox().deliver(5);
    setup.machine.write_private(SECRET, "cynosure", "");

    setup.start_until("auth_failed");
    let (pid, reason) = (setup.pid(), setup.status()["reason"].to_string());
    sleep(Duration::from_secs(3));

    assert!(reason.contains("is empty"), "{reason}");
    assert_eq!((setup.pid(), setup.restarts()), (pid, 0));
    let reports = setup.machine.journal(UNIT).matches("authentication failed").count();
    assert_eq!(reports, 1, "{}", setup.machine.journal(UNIT));
    setup.machine.write_private(SECRET, "cynosure", PASSWORD);
    let served = setup.demo.counters().messages_served;
    wait_until("the new mail is stored", || {
        setup.demo.counters().messages_served > served && setup.status()["status"] == "idle"
    });
}

#[test]
fn a_wrong_configuration_is_reported_without_a_restart() {
    let Some(setup) = ServiceSetup::with_config(10, "[restart]\nmax_retires = 3\n") else { return };

    setup.machine.run(&["systemctl", "start", UNIT]);

    wait_until("the unit has failed", || setup.property("ActiveState") == "failed");
    assert_eq!((setup.property("ExecMainStatus").as_str(), setup.restarts()), ("78", 0));
    assert!(
        setup.machine.journal(UNIT).contains("max_retries"),
        "it does not suggest the right key"
    );
}

/// Starts the service, which must report this reason once and stay down, without a crash loop.
fn assert_fails_with(setup: &ServiceSetup, reason: &str) {
    let before = setup.machine.journal(UNIT).matches(reason).count();
    setup.machine.run(&["systemctl", "start", UNIT]);
    wait_until("the unit has failed", || setup.property("ActiveState") == "failed");
    // Longer than the delay after which systemd restarts a unit.
    sleep(Duration::from_secs(3));
    assert_eq!((setup.property("ExecMainStatus").as_str(), setup.restarts()), ("78", 0));
    let reports = setup.machine.journal(UNIT).matches(reason).count() - before;
    assert_eq!(reports, 1, "{reason}: {}", setup.machine.journal(UNIT));
    setup.machine.run_successfully(&["systemctl", "reset-failed", UNIT]);
}

/// Configures the source to read its password from a credential of systemd.
pub(super) fn use_systemd_credential(setup: &ServiceSetup) {
    let config = setup.machine.read("/etc/cynosure/config.toml");
    let config = config.replace(&format!("file = \"{SECRET}\""), "systemd = \"token_work\"");
    setup.machine.write("/etc/cynosure/config.toml", config);
}
