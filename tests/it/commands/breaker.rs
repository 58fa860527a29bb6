//! `breaker`: what a person sees of the breakers and does with them, with a worker and without.

use std::time::Duration;

use cynosure::worker::{Env, RealEnv};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::commands::test_home::TestHome;

/// The name of the one provider of [`TestHome::of_work`].
const PROVIDER: &str = "127.0.0.1";

/// A file in which a worker has left a breaker open for another ten minutes.
fn open_breaker_file(home: &TestHome) {
    let now = RealEnv.now();
    let until = now.after(Duration::from_secs(600));
    let memory = json!({
        "state": "open", "generation": 7, "since": now.0, "until": until.0, "openings": 1,
        "statistics": {
            "calls": 1204, "successes": 1192, "failures": 12, "rejected": 3, "opened": 2,
        },
        "counted_since": now.0,
        "last_failure": {
            "cause": "server", "message": "503 from a\u{1b}[2Jserver", "at": now.0,
        },
        "last_change": {
            "from": "closed", "to": "open", "at": now.0, "why": "5 failures in a row: 503",
        },
    });
    let file = json!({ "schema": 1, "breakers": { PROVIDER: memory } });
    home.write("state/breakers.json", &file.to_string());
}

fn breaker_list(home: &TestHome) -> Value {
    let ran = home.cynosure(&["breaker", "list", "--json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    serde_json::from_str(&ran.stdout).unwrap()
}

#[test]
fn every_breaker_is_closed_before_the_first_run() {
    let home = TestHome::with_source_work();

    let ran = home.cynosure(&["breaker", "list"]);

    assert_eq!(ran.code, Some(0));
    insta::assert_snapshot!(ran.stdout, @r"
    NAME       STATE   FAILURES         NEXT  LAST FAILURE
    127.0.0.1  closed  0 of 5 in a row  –     –
    archive    closed  0 of 5 in a row  –     –
    ledger     closed  0 of 5 in a row  –     –

    Each opens after 5 failures in a row, or when 50 % of 20 calls or more failed in 10 min.
    It stays open for 1 min, doubling to 10 min; then 3 successes in a row close it.
    ");
    assert!(!home.path("state").exists(), "looking makes nothing");
}

#[test]
fn an_open_breaker_shows_its_end_counts_and_reason() {
    let home = TestHome::with_source_work();
    open_breaker_file(&home);

    insta::assert_snapshot!(home.cynosure(&["breaker", "list"]).cells(), @r"
    NAME | STATE | FAILURES | NEXT | LAST FAILURE
    127.0.0.1 | open | – | one may try TIME (in WAIT) | TIME 503 from a\u{1b}[2Jserver
    archive | closed | 0 of 5 in a row | – | –
    ledger | closed | 0 of 5 in a row | – | –

    NAME | CALLS | FAILED | REJECTED | OPENED | COUNTED SINCE | LAST CHANGE
    127.0.0.1 | 1,204 | 12 | 3 | 2 | TIME | TIME open: 5 failures in a row: 503

    Each opens after 5 failures in a row, or when 50 % of 20 calls or more failed in 10 min.
    It stays open for 1 min, doubling to 10 min; then 3 successes in a row close it.
    ");
    insta::assert_snapshot!(home.cynosure(&["status"]).cells(), @r"
    SOURCE | STATE | DONE | RATE | UNTIL | WHY
    work | never run | – | – | – | `cynosure run work` begins; the circuit of 127.0.0.1 is open until TIME (in WAIT)
    ");
    let list = breaker_list(&home);
    assert_eq!(list["breakers"][0]["state"], "open");
    assert_eq!(list["breakers"][0]["statistics"]["failures"], 12);
    assert_eq!(list["breakers"][0]["last_change"]["severity"], "critical");
    assert_eq!(list["configuration"]["max_recovery_timeout"], 600.0);
}

#[test]
fn breakers_are_controlled_manually_without_a_worker() {
    let home = TestHome::with_source_work();
    open_breaker_file(&home);
    let said = |args: &[&str]| {
        let ran = home.cynosure(&[&["breaker"], args].concat());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let state = breaker_list(&home)["breakers"][0]["state"].as_str().unwrap().to_owned();
        format!("{state}: {}", ran.cells())
    };

    let lines = [
        said(&["close", PROVIDER]),
        said(&["close", PROVIDER]),
        said(&["open", PROVIDER]),
        said(&["open", PROVIDER, "--for", "10m"]),
        said(&["reset", PROVIDER]),
        said(&["open", "archive"]),
    ];

    insta::assert_snapshot!(lines.join("\n"), @r"
    closed: 127.0.0.1 is closed; no worker is running: the next one begins with it
    closed: 127.0.0.1 was closed already; no worker is running: the next one begins with it
    open: 127.0.0.1 is open until `cynosure breaker close 127.0.0.1`; no worker is running: the next one begins with it
    open: 127.0.0.1 is open until TIME (in WAIT), then one request may try; `cynosure breaker close 127.0.0.1` ends it sooner; no worker is running: the next one begins with it
    closed: 127.0.0.1 is closed, and its counts are forgotten; no worker is running: the next one begins with it
    closed: archive is open until `cynosure breaker close archive`; no worker is running: the next one begins with it
    ");
    assert_eq!(breaker_list(&home)["breakers"][0]["statistics"]["calls"], 0);
}

#[test]
fn an_unknown_breaker_lists_the_known_ones() {
    let home = TestHome::with_source_work();
    for verb in ["open", "close", "reset"] {
        let ran = home.cynosure(&["breaker", verb, "127.0.0.2"]);
        assert_eq!(ran.code, Some(78));
        assert_eq!(
            ran.stderr,
            "cynosure: there is no breaker \"127.0.0.2\"; did you mean 127.0.0.1?\n"
        );
    }
    let ran = home.cynosure(&["breaker", "close", "colour"]);
    assert!(ran.stderr.ends_with("there are 127.0.0.1, archive, ledger\n"), "{}", ran.stderr);
    let ran = home.cynosure(&["breaker", "open", PROVIDER, "--for", "soon"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("write a time such as 90s, 10m or 2h"), "{}", ran.stderr);
    assert!(!home.path("state").exists());
}

#[test]
fn an_unreadable_file_is_reported_and_quarantined_on_write() {
    let home = TestHome::with_source_work();
    home.write("state/breakers.json", "junk");

    let looked = home.cynosure(&["breaker", "list"]);
    assert_eq!(looked.code, Some(0));
    assert!(looked.stderr.starts_with("state/breakers.json cannot be read ("), "{}", looked.stderr);
    assert_eq!(home.read("state/breakers.json"), "junk");
    let opened = home.cynosure(&["breaker", "open", "ledger"]);
    assert_eq!(opened.code, Some(0));
    assert!(
        opened.stderr.contains("kept as state/breakers.json.unreadable-1"),
        "{}",
        opened.stderr
    );
    assert_eq!(home.read("state/breakers.json.unreadable-1"), "junk");
}

#[test]
fn a_running_worker_applies_a_command_within_seconds() {
    let home = TestHome::with_demo_server(20);
    let name = breaker_list(&home)["breakers"][0]["name"].as_str().unwrap().to_owned();
    assert_eq!(home.cynosure(&["breaker", "open", &name]).code, Some(0));
    let mut running = home.start(&["run"]);
    running.log_until("scheduling retry");

    let closed = home.cynosure(&["breaker", "close", &name]);

    assert_eq!(
        closed.stdout,
        format!("{name} is closed; the worker of demo heeds it within seconds\n")
    );
    running.log_until("execution completed");
    running.signal(Signal::TERM);
    assert_eq!(running.0.wait().unwrap().code(), Some(143));
    assert_eq!(breaker_list(&home)["breakers"][0]["state"], "closed");
    assert_ne!(breaker_list(&home)["breakers"][0]["statistics"]["successes"], 0);
}

#[test]
fn once_mode_ends_at_a_manually_opened_breaker() {
    let home = TestHome::with_source_work();
    assert_eq!(home.cynosure(&["breaker", "open", PROVIDER]).code, Some(0));

    let once = home.cynosure(&["run", "--once"]);

    assert_eq!(once.code, Some(1), "{once:?}");
    let last = once.stderr.lines().last().unwrap();
    assert_eq!(
        last,
        "cynosure: the circuit of 127.0.0.1 is open until a person closes it with `cynosure \
         breaker close 127.0.0.1`; the next run goes on from here"
    );
}
