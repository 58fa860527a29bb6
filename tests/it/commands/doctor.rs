//! `doctor`, without systemd and with a fake one.

use serde_json::Value;

use crate::bus::{BusDaemon, FakeSystemd, SystemdBehaviour};
use crate::commands::test_home::{ProgramOutput, TestHome, fixed_response_server};

/// Returns the finding about a subject.
fn finding(output: &ProgramOutput, subject: &str) -> Value {
    let report = &output.json_lines()[0];
    let mut findings = report["findings"].as_array().unwrap().iter();
    let found = findings.find(|finding| finding["what"] == subject);
    found.unwrap_or_else(|| panic!("no finding about {subject} in {report}")).clone()
}

#[test]
fn doctor_works_without_configuration_or_systemd() {
    let home = TestHome::empty();

    let output = home.cynosure(&["doctor", "--json"]);

    assert_eq!(finding(&output, "systemd")["mark"], "note");
    assert_eq!(finding(&output, "SQLite")["mark"], "ok");
    assert_eq!(finding(&output, "clock")["mark"], "note");
    let configuration = finding(&output, "configuration");
    assert_eq!(configuration["mark"], "note", "{configuration}");
    assert_eq!(output.stderr, "");
}

#[test]
fn an_invalid_configuration_fails_and_the_rest_is_checked() {
    let home = TestHome::with_source_work();
    home.configure("[restart]", "[restrat]");

    let output = home.cynosure(&["doctor", "--json"]);

    assert_eq!(output.code, Some(1), "{output:?}");
    assert_eq!(finding(&output, "configuration")["mark"], "failed");
    assert_eq!(finding(&output, "SQLite")["mark"], "ok");
}

#[test]
fn an_accepting_server_is_ok_and_no_secret_is_shown() {
    let home = TestHome::with_demo_server(3);
    let secret = home.read("token");

    let output = home.cynosure(&["doctor", "--json"]);

    assert_eq!(finding(&output, "demo: server")["mark"], "ok", "{}", output.stdout);
    let credential = finding(&output, "demo: credential");
    assert!(credential["message"].as_str().unwrap().ends_with("can be read, mode 0600"));
    assert!(!output.stdout.contains(secret.trim()), "{}", output.stdout);
    assert!(!home.path("state").exists(), "the command creates no files");
}

#[test]
fn an_offline_source_is_a_finding() {
    let home = TestHome::with_source_work();

    let output = home.cynosure(&["doctor", "--json"]);

    assert_eq!(output.code, Some(1), "{output:?}");
    let server = finding(&output, "work: server");
    assert_eq!(server["mark"], "failed");
    assert!(server["remedy"].as_str().unwrap().contains("online"), "{server}");
}

#[test]
fn a_rejected_credential_differs_from_a_down_server() {
    let response = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let home = TestHome::with_source_at(&format!(
        "http://{}/.well-known/jmap",
        fixed_response_server(response)
    ));

    let output = home.cynosure(&["doctor", "--json"]);

    let server = finding(&output, "work: server");
    assert_eq!(server["remedy"], "replace the credential", "{server}");
}

#[test]
fn a_credential_that_others_can_read_is_wrong() {
    let home = TestHome::with_source_work();
    rustix::fs::chmod(home.path("token"), rustix::fs::Mode::from_raw_mode(0o644)).unwrap();

    let credential = finding(&home.cynosure(&["doctor", "--json"]), "work: credential");

    assert_eq!(credential["mark"], "failed");
    assert!(credential["remedy"].as_str().unwrap().starts_with("run `chmod 600"), "{credential}");
}

#[test]
fn an_existing_folder_is_probed_and_left_unchanged() {
    let home = TestHome::with_source_work();
    fs_err::create_dir_all(home.path("state")).unwrap();

    let output = home.cynosure(&["doctor"]);

    assert!(output.stdout.contains("a durable write takes"), "{}", output.stdout);
    assert_eq!(fs_err::read_dir(home.path("state")).unwrap().count(), 0);
}

#[test]
fn an_installed_unit_is_checked() {
    let daemon = BusDaemon::start();
    let systemd = FakeSystemd::start(daemon.address(), SystemdBehaviour::Allow);
    let home = TestHome::with_source_work();
    let mut command = home.command(&["doctor", "--json"]);

    let output = home.run_to_end(command.env("DBUS_SYSTEM_BUS_ADDRESS", daemon.address()));

    assert_eq!(finding(&output, "systemd")["message"], "257.1");
    assert_eq!(finding(&output, "restart over D-Bus")["mark"], "ok");
    assert_eq!(
        finding(&output, "watchdog")["message"],
        "kills it after 1 min without a keep-alive"
    );
    let limit = finding(&output, "start limit");
    assert_eq!(limit["mark"], "failed");
    assert!(limit["message"].as_str().unwrap().starts_with("after 5 starts within 10 s, systemd"));
    assert_eq!(systemd.restarts(), Vec::<String>::new());
}
