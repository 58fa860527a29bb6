//! `doctor`, outside of systemd and with a made-up one.

use serde_json::Value;

use crate::bus::{Daemon, Manner, Systemd};
use crate::commands::home::{Home, Ran, answering};

/// The finding about something.
fn finding(ran: &Ran, what: &str) -> Value {
    let told = &ran.json_lines()[0];
    let found = told["findings"].as_array().unwrap().iter().find(|found| found["what"] == what);
    found.unwrap_or_else(|| panic!("nothing about {what} in {told}")).clone()
}

#[test]
fn it_works_without_configuration_and_without_systemd() {
    let home = Home::empty();

    let ran = home.cynosure(&["doctor", "--json"]);

    assert_eq!(finding(&ran, "systemd")["mark"], "note");
    assert_eq!(finding(&ran, "SQLite")["mark"], "ok");
    assert_eq!(finding(&ran, "clock")["mark"], "note");
    let configuration = finding(&ran, "configuration");
    assert_eq!(configuration["mark"], "note", "{configuration}");
    assert_eq!(ran.err, "");
}

#[test]
fn a_configuration_with_mistakes_is_wrong_and_the_rest_is_looked_at() {
    let home = Home::of_work();
    home.configure("[restart]", "[restrat]");

    let ran = home.cynosure(&["doctor", "--json"]);

    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(finding(&ran, "configuration")["mark"], "wrong");
    assert_eq!(finding(&ran, "SQLite")["mark"], "ok");
}

#[test]
fn a_server_that_lets_us_in_is_sound_and_no_secret_is_shown() {
    let home = Home::served(3);
    let secret = home.read("token");

    let ran = home.cynosure(&["doctor", "--json"]);

    assert_eq!(finding(&ran, "demo: server")["mark"], "ok", "{}", ran.out);
    let credential = finding(&ran, "demo: credential");
    assert!(credential["message"].as_str().unwrap().ends_with("can be read, mode 0600"));
    assert!(!ran.out.contains(secret.trim()), "{}", ran.out);
    assert!(!home.path("state").exists(), "looking makes nothing");
}

#[test]
fn an_offline_source_is_a_finding() {
    let home = Home::of_work();

    let ran = home.cynosure(&["doctor", "--json"]);

    assert_eq!(ran.code, Some(1), "{ran:?}");
    let server = finding(&ran, "work: server");
    assert_eq!(server["mark"], "wrong");
    assert!(server["remedy"].as_str().unwrap().contains("online"), "{server}");
}

#[test]
fn a_refused_credential_is_told_from_a_server_that_is_down() {
    let refusal = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let home = Home::at(&format!("http://{}/.well-known/jmap", answering(refusal)));

    let ran = home.cynosure(&["doctor", "--json"]);

    let server = finding(&ran, "work: server");
    assert_eq!(server["remedy"], "put a fresh credential in its place", "{server}");
}

#[test]
fn a_credential_that_others_can_read_is_wrong() {
    let home = Home::of_work();
    rustix::fs::chmod(home.path("token"), rustix::fs::Mode::from_raw_mode(0o644)).unwrap();

    let credential = finding(&home.cynosure(&["doctor", "--json"]), "work: credential");

    assert_eq!(credential["mark"], "wrong");
    assert!(credential["remedy"].as_str().unwrap().starts_with("run `chmod 600"), "{credential}");
}

#[test]
fn a_folder_that_is_there_is_written_to_and_left_as_it_was() {
    let home = Home::of_work();
    fs_err::create_dir_all(home.path("state")).unwrap();

    let ran = home.cynosure(&["doctor"]);

    assert!(ran.out.contains("a durable write takes"), "{}", ran.out);
    assert_eq!(fs_err::read_dir(home.path("state")).unwrap().count(), 0);
}

#[test]
fn the_unit_is_looked_at_where_there_is_one() {
    let daemon = Daemon::start();
    let systemd = Systemd::start(daemon.address(), Manner::Obliging);
    let home = Home::of_work();
    let mut command = home.command(&["doctor", "--json"]);

    let ran = home.end(command.env("DBUS_SYSTEM_BUS_ADDRESS", daemon.address()));

    assert_eq!(finding(&ran, "systemd")["message"], "257.1");
    assert_eq!(finding(&ran, "restart over D-Bus")["mark"], "ok");
    assert_eq!(finding(&ran, "watchdog")["message"], "ends it after 1 min of silence");
    let limit = finding(&ran, "start limit");
    assert_eq!(limit["mark"], "wrong");
    assert!(limit["message"].as_str().unwrap().starts_with("after 5 starts within 10 s"));
    assert_eq!(systemd.restarts(), Vec::<String>::new());
}
