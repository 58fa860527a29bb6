//! `service install` and `service uninstall` on a real systemd, without the package.

use cynosure_lab::demo::{self, DemoServer};
use fs_err as fs;
use serde_json::Value;

use crate::systemd::machine::TestMachine;
use crate::systemd::test_setup::PASSWORD;
use crate::wait::wait_until;

const PROGRAM: &str = "/usr/local/bin/cynosure";

/// Folder of the user who owns the mail, with the configuration.
const FOLDER: &str = "/var/lib/reader";
const CONFIG: &str = "/var/lib/reader/config.toml";

/// User who owns the mail.
const USER: &str = "reader";

const WORKER: &str = "cynosure.service";
const MONITOR: &str = "cynosure-monitor.service";

/// Files that `service install` writes.
const FILES: [&str; 3] = [
    "/etc/systemd/system/cynosure.service",
    "/etc/systemd/system/cynosure-monitor.service",
    "/etc/polkit-1/rules.d/50-cynosure.rules",
];

#[test]
fn a_service_without_the_package_runs_and_is_removed() {
    let Some((machine, demo)) = machine_with_program() else { return };

    let report = machine.run_successfully(&[PROGRAM, "--config", CONFIG, "service", "install"]);

    assert!(report.contains("cynosure.service: enabled, started, "), "{report}");
    assert!(report.contains("The service runs as the user reader.\n"), "{report}");
    wait_until_idle(&machine);
    for unit in [WORKER, MONITOR] {
        assert_eq!(machine.property(unit, "ActiveState"), "active", "{unit}");
        assert_eq!(machine.property(unit, "UnitFileState"), "enabled", "{unit}");
        let pid = machine.property(unit, "MainPID");
        let user = machine.run_successfully(&["ps", "-o", "user=", "-p", &pid]);
        assert_eq!(user.trim(), USER, "{unit}");
    }
    verify_units(&machine);
    let folders = machine.property(WORKER, "RequiresMountsFor");
    assert!(folders.contains("/var/lib/reader/downloads"), "{folders}");
    restart_as_user(&machine);

    let report = machine.run_successfully(&[PROGRAM, "--config", CONFIG, "service", "uninstall"]);

    assert!(report.contains("removed /etc/systemd/system/cynosure.service\n"), "{report}");
    for file in FILES {
        assert!(!machine.path(file).exists(), "{file} is left");
    }
    for unit in [WORKER, MONITOR] {
        assert_eq!(machine.property(unit, "LoadState"), "not-found", "{unit}");
    }
    assert_eq!(machine.run(&["pgrep", "-u", USER]).stdout, b"", "a process is left");
    let wants = machine.run(&["find", "/etc/systemd/system", "-name", "cynosure*"]);
    assert_eq!(wants.stdout, b"", "a link is left");
    let mail = machine.run_successfully(&["find", FOLDER, "-name", "*.eml"]);
    let stored = u32::try_from(mail.lines().count()).expect("a small mailbox");
    assert_eq!(stored, demo.counters().messages_served, "the mail is kept");
}

#[test]
fn another_installation_restarts_the_service() {
    let Some((machine, demo)) = machine_with_program() else { return };
    let install = || machine.run_successfully(&[PROGRAM, "--config", CONFIG, "service", "install"]);
    install();
    wait_until_idle(&machine);
    let pid = machine.property(WORKER, "MainPID");

    let report = install();

    assert!(report.contains("unchanged /etc/systemd/system/cynosure.service\n"), "{report}");
    assert!(report.contains("cynosure.service: enabled, restarted, "), "{report}");
    assert!(!["0", &pid].contains(&&*machine.property(WORKER, "MainPID")));
    demo.lock_mailbox().deliver(5);
    let messages = demo.lock_mailbox().message_count();
    wait_until("the new mail is stored", || status(&machine)["archive_documents"] == messages);
    assert_eq!(demo.counters().messages_served_repeatedly, 0);
}

#[test]
fn a_service_of_root_runs_from_a_home_folder() {
    let Some((machine, _demo)) = machine_with_program() else { return };
    machine.run_successfully(&["chown", "-R", "root:root", FOLDER]);
    // The other folders of the machine belong to the host, and cannot be written to.
    machine.run_successfully(&["mount", "-t", "tmpfs", "-o", "mode=0700", "tmpfs", "/root"]);
    machine.run_successfully(&["cp", "-a", FOLDER, "/root/mail"]);
    let config = machine.read(CONFIG).replace(FOLDER, "/root/mail");
    machine.write("/root/mail/config.toml", config);
    let install = [PROGRAM, "--config", "/root/mail/config.toml", "service", "install"];
    machine.write(FILES[2], "// Written by `cynosure service install`, for another user.\n");

    let report = machine.run_successfully(&install);

    assert!(report.contains("The service runs as the user root.\n"), "{report}");
    assert!(!machine.path(FILES[2]).exists(), "root needs no polkit rule");
    verify_units(&machine);
    wait_until("mail is stored", || {
        !machine.run(&["find", "/root/mail", "-name", "*.eml"]).stdout.is_empty()
    });
    // Between two sessions there is no process, or one that has not begun the program.
    wait_until("the worker runs without capabilities", || {
        let process = format!("/proc/{}/status", machine.property(WORKER, "MainPID"));
        machine.run(&["grep", "CapEff", &process]).stdout.ends_with(b"0000000000000000\n")
    });
}

#[test]
fn the_units_of_the_package_are_not_shadowed() {
    let Some((machine, _demo)) = machine_with_program() else { return };
    machine.write("/usr/lib/systemd/system/cynosure.service", "[Service]\nExecStart=/bin/true\n");

    let output = machine.run(&[PROGRAM, "--config", CONFIG, "service", "install"]);

    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("`systemctl enable --now cynosure cynosure-monitor`"), "{stderr}");
    assert!(!machine.path(FILES[0]).exists());
}

/// Boots a machine with the program, a user and a configuration of that user, and no unit.
fn machine_with_program() -> Option<(TestMachine, DemoServer)> {
    let machine = TestMachine::boot()?;
    let options = demo::DemoOptions { items: 10, ..demo::DemoOptions::default() };
    let demo = demo::start(options).expect("loopback has ports");
    let program = fs::read(env!("CARGO_BIN_EXE_cynosure")).expect("the program is built");
    machine.write(PROGRAM, program);
    machine.run_successfully(&["chmod", "755", PROGRAM]);
    machine.write("/etc/sysusers.d/reader.conf", format!("u {USER} - \"Reader\" {FOLDER}\n"));
    machine.run_successfully(&["systemd-sysusers", "reader.conf"]);
    let config = format!(
        r#"
[source.work]
kind = "jmap"
url = "http://{}/.well-known/jmap"
account = "me@example.com"
poll_interval = "1s"

[source.work.auth]
type = "basic"
username = "demo@example.com"
password = {{ file = "{FOLDER}/password" }}

[archive]
dir = "{FOLDER}/downloads"
"#,
        demo.address()
    );
    machine.write(CONFIG, config);
    machine.write_private(&format!("{FOLDER}/password"), USER, PASSWORD);
    machine.run_successfully(&["chown", "-R", &format!("{USER}:{USER}"), FOLDER]);
    Some((machine, demo))
}

/// Asserts that systemd reads the generated units without an error or a warning.
fn verify_units(machine: &TestMachine) {
    for path in &FILES[..2] {
        let output = machine.run(&["systemd-analyze", "verify", "--man=no", path]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && stderr.is_empty(), "{path}: {stderr}");
    }
}

/// Restarts the worker over D-Bus as the user of the service, which the generated rule allows.
fn restart_as_user(machine: &TestMachine) {
    let restart = |unit| {
        machine.run(&[
            "runuser",
            "-u",
            USER,
            "--",
            "busctl",
            "--allow-interactive-authorization=no",
            "call",
            "org.freedesktop.systemd1",
            "/org/freedesktop/systemd1",
            "org.freedesktop.systemd1.Manager",
            "RestartUnit",
            "ss",
            unit,
            "replace",
        ])
    };
    let pid = machine.property(WORKER, "MainPID");
    let output = restart(WORKER);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    wait_until("there is another worker", || {
        !["0", &pid].contains(&&*machine.property(WORKER, "MainPID"))
    });
    assert!(!restart("dbus.service").status.success(), "the rule allows another unit");
}

/// Waits until everything is stored and the worker has restarted, as it does after each session.
fn wait_until_idle(machine: &TestMachine) {
    wait_until("everything is stored, and the worker waits for new mail", || {
        let state = status(machine);
        let is_stored = state["downloaded_threads"] == 10 && state["status"] == "idle";
        is_stored
            && machine.property(WORKER, "NRestarts") == "1"
            && machine.property(WORKER, "ActiveState") == "active"
    });
}

fn status(machine: &TestMachine) -> Value {
    let status = ["--config", CONFIG, "status", "--json"];
    let text = machine.run_successfully(&[&[PROGRAM][..], &status].concat());
    let mut status: Value = serde_json::from_str(&text).expect("the status is JSON");
    status["sources"][0].take()
}
