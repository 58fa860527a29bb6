//! Installation and configuration of Cynosure on a test machine, as an administrator would do it.

use std::net::SocketAddr;

use fs_err as fs;
use serde_json::Value;

use crate::systemd::machine::TestMachine;
use crate::systemd::test_setup::PASSWORD;

/// Unit of the worker, which most tests use.
pub(crate) const UNIT: &str = "cynosure.service";

/// Path of the password file that the configuration names.
pub(crate) const SECRET: &str = "/etc/cynosure/password";

/// Every installed file of `systemd/`, with its destination.
pub(crate) const FILES: [(&str, &str); 7] = [
    ("cynosure.service", "/usr/lib/systemd/system/cynosure.service"),
    ("cynosure@.service", "/usr/lib/systemd/system/cynosure@.service"),
    ("cynosure-monitor.service", "/usr/lib/systemd/system/cynosure-monitor.service"),
    ("cynosure-monitor.socket", "/usr/lib/systemd/system/cynosure-monitor.socket"),
    ("cynosure.sysusers", "/usr/lib/sysusers.d/cynosure.conf"),
    ("cynosure.tmpfiles", "/usr/lib/tmpfiles.d/cynosure.conf"),
    ("cynosure.rules", "/usr/share/polkit-1/rules.d/50-cynosure.rules"),
];

/// Installs the program, its units and its user on the machine.
pub(crate) fn install(machine: &TestMachine) {
    let program = fs::read(env!("CARGO_BIN_EXE_cynosure")).expect("the program is built");
    machine.write("/usr/bin/cynosure", program);
    machine.run_successfully(&["chmod", "755", "/usr/bin/cynosure"]);
    for (name, destination) in FILES {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/").to_owned() + name;
        machine.write(destination, fs::read(file).expect("the file is in the source tree"));
    }
    machine.run_successfully(&["systemd-sysusers", "cynosure.conf"]);
    machine.run_successfully(&["systemd-tmpfiles", "--create", "cynosure.conf"]);
    machine.run_successfully(&["systemctl", "daemon-reload"]);
}

/// Configures one source, `work`, whose password is in a file of the service's user.
pub(crate) fn configure(machine: &TestMachine, service: SocketAddr, extra_config: &str) {
    let config = format!(
        r#"
[source.work]
kind = "jmap"
url = "http://{service}/.well-known/jmap"
account = "me@example.com"
auth = {{ type = "basic", username = "demo@example.com", password = {{ file = "{SECRET}" }} }}
poll_interval = "1s"

[archive]
dir = "/var/lib/cynosure/downloads"

{extra_config}"#
    );
    machine.write("/etc/cynosure/config.toml", config);
    machine.write_private(SECRET, "cynosure", PASSWORD);
}

/// Overrides settings of the service, as `systemctl edit` does.
pub(crate) fn override_service(machine: &TestMachine, lines: &str) {
    override_unit(machine, UNIT, &format!("[Service]\n{lines}"));
}

/// Overrides settings of any unit. `lines` begin with the name of their section.
pub(crate) fn override_unit(machine: &TestMachine, unit: &str, lines: &str) {
    machine.write(&format!("/etc/systemd/system/{unit}.d/edited.conf"), format!("{lines}\n"));
    machine.run_successfully(&["systemctl", "daemon-reload"]);
}

/// Runs `cynosure` as this user of the machine, and returns its standard output.
pub(crate) fn cynosure(machine: &TestMachine, user: &str, args: &[&str]) -> String {
    let as_user = ["runuser", "-u", user, "--", "cynosure"];
    let paths = ["--config", "/etc/cynosure/config.toml", "--state-dir", "/var/lib/cynosure"];
    let output = machine.run(&[&as_user[..], args, &paths[..]].concat());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Returns the status of the only source, as the program prints it.
pub(crate) fn status(machine: &TestMachine) -> Value {
    let text = machine.run_successfully(&[
        "cynosure",
        "status",
        "--json",
        "--config",
        "/etc/cynosure/config.toml",
        "--state-dir",
        "/var/lib/cynosure",
    ]);
    let mut status: Value = serde_json::from_str(&text).expect("the status is JSON");
    status["sources"][0].take()
}
