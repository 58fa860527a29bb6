//! `breaker`: lists and controls the circuit breakers, with a running worker and without.

use std::time::Duration;

use cynosure::env::{Env, RealEnv};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::commands::test_home::TestHome;

/// Name of the only provider of [`TestHome::with_source_work`].
const PROVIDER: &str = "127.0.0.1";

/// Writes a breakers file in which the breaker of [`PROVIDER`] is open for another ten minutes.
fn write_open_breaker(home: &TestHome) {
    let now = RealEnv.now();
    let until = now.after(Duration::from_secs(600));
    let breaker = json!({
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
    let file = json!({ "schema": 1, "breakers": { PROVIDER: breaker } });
    home.write("state/breakers.json", &file.to_string());
}

fn breaker_list(home: &TestHome) -> Value {
    let output = home.cynosure(&["breaker", "list", "--json"]);
    assert_eq!(output.code, Some(0), "{output:?}");
    serde_json::from_str(&output.stdout).unwrap()
}

#[test]
fn every_breaker_is_closed_before_the_first_run() {
    let home = TestHome::with_source_work();

    let output = home.cynosure(&["breaker", "list"]);

    assert_eq!(output.code, Some(0));
    insta::assert_snapshot!(output.stdout, @r"
    NAME       STATE   FAILURES         NEXT  LAST FAILURE
    127.0.0.1  closed  0 of 5 in a row  –     –
    archive    closed  0 of 5 in a row  –     –
    ledger     closed  0 of 5 in a row  –     –

    A breaker opens after 5 failures in a row, or when 50 % of at least 20 calls failed within 10 min.
    It stays open for 1 min, doubling up to 10 min; then 3 successes in a row close it.
    ");
    assert!(!home.path("state").exists(), "the command creates no files");
}

#[test]
fn an_open_breaker_shows_its_end_counts_and_reason() {
    let home = TestHome::with_source_work();
    write_open_breaker(&home);

    insta::assert_snapshot!(home.cynosure(&["breaker", "list"]).cells(), @r"
    NAME | STATE | FAILURES | NEXT | LAST FAILURE
    127.0.0.1 | open | – | probe TIME (in WAIT) | TIME 503 from a\u{1b}[2Jserver
    archive | closed | 0 of 5 in a row | – | –
    ledger | closed | 0 of 5 in a row | – | –

    NAME | CALLS | FAILED | REJECTED | OPENED | COUNTED SINCE | LAST CHANGE
    127.0.0.1 | 1,204 | 12 | 3 | 2 | TIME | TIME open: 5 failures in a row: 503

    A breaker opens after 5 failures in a row, or when 50 % of at least 20 calls failed within 10 min.
    It stays open for 1 min, doubling up to 10 min; then 3 successes in a row close it.
    ");
    insta::assert_snapshot!(home.cynosure(&["status"]).cells(), @r"
    SOURCE | STATE | DONE | RATE | UNTIL | ARCHIVE | COMPLETE UNTIL | REASON
    work | never run | – | – | – | – | – | start it with `cynosure run work`; the circuit breaker 127.0.0.1 is open until TIME (in WAIT)
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
    write_open_breaker(&home);
    let run = |args: &[&str]| {
        let output = home.cynosure(&[&["breaker"], args].concat());
        assert_eq!(output.code, Some(0), "{output:?}");
        let state = breaker_list(&home)["breakers"][0]["state"].as_str().unwrap().to_owned();
        format!("{state}: {}", output.cells())
    };

    let lines = [
        run(&["close", PROVIDER]),
        run(&["close", PROVIDER]),
        run(&["open", PROVIDER]),
        run(&["open", PROVIDER, "--for", "10m"]),
        run(&["reset", PROVIDER]),
        run(&["open", "archive"]),
    ];

    insta::assert_snapshot!(lines.join("\n"), @r"
    closed: 127.0.0.1 is closed; no worker is running: the next one applies it when it starts
    closed: 127.0.0.1 was closed already; no worker is running: the next one applies it when it starts
    open: 127.0.0.1 is open until `cynosure breaker close 127.0.0.1`; no worker is running: the next one applies it when it starts
    open: 127.0.0.1 is open until TIME (in WAIT), then one request is sent as a probe; `cynosure breaker close 127.0.0.1` closes it sooner; no worker is running: the next one applies it when it starts
    closed: 127.0.0.1 is closed and its counts are cleared; no worker is running: the next one applies it when it starts
    closed: archive is open until `cynosure breaker close archive`; no worker is running: the next one applies it when it starts
    ");
    assert_eq!(breaker_list(&home)["breakers"][0]["statistics"]["calls"], 0);
}

#[test]
fn an_unknown_breaker_lists_the_known_ones() {
    let home = TestHome::with_source_work();
    for verb in ["open", "close", "reset"] {
        let output = home.cynosure(&["breaker", verb, "127.0.0.2"]);
        assert_eq!(output.code, Some(78));
        assert_eq!(
            output.stderr,
            "cynosure: there is no breaker \"127.0.0.2\"; did you mean 127.0.0.1?\n"
        );
    }
    let output = home.cynosure(&["breaker", "close", "colour"]);
    assert!(
        output.stderr.ends_with("the breakers are 127.0.0.1, archive, ledger\n"),
        "{}",
        output.stderr
    );
    let output = home.cynosure(&["breaker", "open", PROVIDER, "--for", "soon"]);
    assert_eq!(output.code, Some(2));
    assert!(output.stderr.contains("write a duration such as 90s, 10m or 2h"), "{}", output.stderr);
    assert!(!home.path("state").exists());
}

#[test]
fn an_unreadable_file_is_reported_and_quarantined_on_write() {
    let home = TestHome::with_source_work();
    home.write("state/breakers.json", "junk");

    let list = home.cynosure(&["breaker", "list"]);
    assert_eq!(list.code, Some(0));
    assert!(list.stderr.starts_with("state/breakers.json cannot be read ("), "{}", list.stderr);
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
        format!("{name} is closed; the worker of demo applies it within seconds\n")
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
        "cynosure: the circuit breaker 127.0.0.1 is open until it is closed with `cynosure \
         breaker close 127.0.0.1`; the next run continues from here"
    );
}
