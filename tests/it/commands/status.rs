//! Output of `status` for every state of a source, and the summary at the end of a run.

use std::collections::BTreeSet;
use std::time::Duration;

use cynosure::disk::RealDisk;
use cynosure::env::{Env, RealEnv};
use cynosure::state::{ExecutionState, RecordedRestart, save_state_file};
use cynosure_engine::{Status, Timestamp, format_bytes};
use serde_json::Value;

use crate::commands::test_home::{ProgramOutput, TestHome, dead_pid};

/// Documented keys of the state file, and those that `status` adds.
const STATUS_KEYS: [&str; 32] = [
    "schema",
    "source",
    "state_since",
    "until",
    "reason",
    "resume_to",
    "last_progress",
    "last_error",
    "restart_count",
    "last_restart",
    "gone",
    "quarantined",
    "pid",
    "version",
    "status",
    "session_id",
    "start_time",
    "completion_time",
    "error_count",
    "consecutive_errors",
    "retry_count",
    "downloaded_threads",
    "total_threads",
    "archive_documents",
    "archive_bytes",
    "complete_until",
    "rate_limited",
    "rate_limit_until",
    "last_updated",
    "configured",
    "running",
    "trouble",
];

/// State of a running worker, whose process is this test.
pub(super) fn live_state() -> ExecutionState {
    let now = RealEnv.now();
    let state = serde_json::json!({
        "schema": 1, "source": "work", "account": "me@example.com", "provider": "example.com",
        "kind": "jmap", "status": "downloading", "state_since": "2026-03-07T09:05:03Z",
        "until": null, "reason": "everything is listed", "resume_to": null,
        "restart_when_due": false, "session_id": "session_1772874303",
        "start_time": "2026-03-07T09:05:03Z", "completion_time": null,
        "last_look": null, "listing_everything": false, "total_threads": 2000,
        "downloaded_threads": 811, "gone": 1, "quarantined": 0, "waiting_for_retry": 0,
        "expected_documents": null, "rate_per_second": 14.2,
        "last_progress": "2026-03-07T09:05:03Z", "error_count": 0, "consecutive_errors": 0,
        "retry_count": 0, "restart_count": 0, "last_error": null, "rate_limited": false,
        "rate_limit_until": null, "rate_limits_in_a_row": 0,
        "last_updated": "2026-03-07T09:05:03Z", "pid": std::process::id(), "version": "0.1.0",
    });
    let state: ExecutionState = serde_json::from_value(state).unwrap();
    ExecutionState { state_until: Some(now.after(Duration::from_secs(300))), ..state }
}

/// Returns the line of `status` for a state.
fn status_line(state: &ExecutionState) -> String {
    let home = TestHome::with_source_work();
    fs_err::create_dir_all(home.path("state/work")).unwrap();
    save_state_file(&RealDisk, &home.path("state/work/execution_state.json"), state).unwrap();
    last_column(&home.cynosure(&["status"]))
}

/// Returns the table of `status`. The size of the first source's archive is masked, and so are the
/// times up to which archives are complete, which are dates if they are not of today.
pub(super) fn status_cells(home: &TestHome) -> String {
    let output = home.cynosure(&["status", "--json"]);
    let status: Value = serde_json::from_str(&output.stdout).unwrap();
    let size = format_bytes(status["sources"][0]["archive_bytes"].as_u64().unwrap());
    let cells = home.cynosure(&["status"]).cells();
    assert!(cells.contains(&format!(" | {size} | ")), "{size} is not in {cells}");
    cells.replace(&format!(" | {size} | "), " | SIZE | ").replace("DATE", "TIME")
}

fn last_column(output: &ProgramOutput) -> String {
    assert_eq!(output.code, Some(0), "{output:?}");
    output.cells().lines().last().unwrap().to_owned()
}

fn restart_of_stuck_worker(at: Timestamp) -> RecordedRestart {
    RecordedRestart { cause: "stuck".to_owned(), at }
}

#[test]
fn copies_are_shown_beside_the_progress() {
    let state = ExecutionState { copies: 3, quarantined: 1, ..live_state() };

    let line = status_line(&state);

    assert!(line.ends_with(" | 1 quarantined; 3 copies, stored once"), "{line}");
}

#[test]
fn bytes_are_shown_while_something_is_left() {
    let (fetched_bytes, expected_bytes) = (1_234_567_890, Some(3_400_000_000));
    let state = ExecutionState { fetched_bytes, expected_bytes, ..live_state() };
    let completed = ExecutionState { downloaded_threads: 1999, ..state.clone() };

    let lines = [&state, &completed].map(status_line);

    let start = "work | downloading | 812 / 2,000, 1.2 of about 3.4 GB | 14.2/s | ";
    assert!(lines[0].starts_with(start), "{}", lines[0]);
    assert!(lines[1].starts_with("work | downloading | 2,000 / 2,000 | "), "{}", lines[1]);
}

#[test]
fn size_and_completeness_of_the_archive_are_shown() {
    let state = ExecutionState {
        archive_bytes: Some(4_200_000_000),
        complete_until: Some(RealEnv.now().before(Duration::from_secs(3 * 86_400))),
        ..live_state()
    };

    let line = status_line(&state);

    assert!(line.ends_with(" | 4.2 GB | DATE | –"), "{line}");
}

#[test]
fn the_usual_table_fits_a_terminal_of_120_characters() {
    let home = TestHome::with_source_work();
    let state = ExecutionState {
        total_threads: 60_000,
        downloaded_threads: 34_579,
        fetched_bytes: 1_234_567_890,
        expected_bytes: Some(3_400_000_000),
        rate_per_second: Some(5_764.1),
        archive_bytes: Some(999_900_000_000),
        complete_until: Some(Timestamp(0)),
        ..live_state()
    };
    fs_err::create_dir_all(home.path("state/work")).unwrap();
    save_state_file(&RealDisk, &home.path("state/work/execution_state.json"), &state).unwrap();

    let output = home.cynosure(&["status"]);

    let widths = output.stdout.lines().map(|line| line.chars().count());
    assert!(widths.max() <= Some(120), "{}", output.stdout);
}

#[test]
fn every_live_state_is_shown_with_its_end_and_reason() {
    let in_status = |status| ExecutionState { status, ..live_state() };
    let states = [
        in_status(Status::Collecting),
        in_status(Status::Downloading),
        ExecutionState { waiting_for_retry: 3, quarantined: 1, ..in_status(Status::Downloading) },
        ExecutionState {
            last_restart: Some(restart_of_stuck_worker(RealEnv.now())),
            ..in_status(Status::Downloading)
        },
        ExecutionState {
            last_restart: Some(restart_of_stuck_worker(Timestamp(0))),
            ..in_status(Status::Downloading)
        },
        ExecutionState { state_until: Some(Timestamp(0)), ..in_status(Status::Downloading) },
        in_status(Status::Idle),
        ExecutionState { state_until: Some(Timestamp(0)), ..in_status(Status::Idle) },
        ExecutionState { reason: "retry 2 of 3: 503".to_owned(), ..in_status(Status::Error) },
        ExecutionState { reason: "retry after 300 s".to_owned(), ..in_status(Status::RateLimited) },
        ExecutionState {
            reason: "401 from a\u{1b}[2J".to_owned(),
            ..in_status(Status::AuthFailed)
        },
        ExecutionState { completion_time: Some(RealEnv.now()), ..in_status(Status::Completed) },
    ];

    let lines: Vec<String> = states.iter().map(status_line).collect();

    insta::assert_snapshot!(lines.join("\n"), @r"
    work | collecting | 2,000 listed | – | – | – | – | –
    work | downloading | 812 / 2,000 | 14.2/s | about 1 min 24 s | – | – | –
    work | downloading | 813 / 2,000 | 14.2/s | about 1 min 24 s | – | – | 3 waiting for a retry; 1 quarantined
    work | downloading | 812 / 2,000 | 14.2/s | about 1 min 24 s | – | – | restarted at TIME after a time without progress
    work | downloading | 812 / 2,000 | 14.2/s | about 1 min 24 s | – | – | –
    work | downloading | 812 / 2,000 | 14.2/s | about 1 min 24 s | – | – | no progress since TIME
    work | idle | 812 / 2,000 | – | TIME (in WAIT) | – | – | –
    work | idle | 812 / 2,000 | – | now | – | – | checking for changes
    work | error | 812 / 2,000 | – | TIME (in WAIT) | – | – | retry 2 of 3: 503
    work | rate limited | 812 / 2,000 | – | TIME (in WAIT) | – | – | retry after 300 s
    work | auth failed | 812 / 2,000 | – | TIME or new token | – | – | 401 from a\u{1b}[2J; put a fresh token into HOME/token
    work | completed | 812 / 2,000 | – | since TIME | – | – | –
    ");
}

#[test]
fn a_dead_worker_is_not_shown_as_running() {
    let pid = dead_pid();
    let states = [
        ExecutionState { pid: None, ..live_state() },
        ExecutionState { pid: None, status: Status::Idle, ..live_state() },
        ExecutionState { pid: None, status: Status::AuthFailed, ..live_state() },
        ExecutionState { pid: Some(pid), status: Status::RateLimited, ..live_state() },
    ];
    let downloading = status_line(&ExecutionState { pid: Some(pid), ..live_state() });

    let lines: Vec<String> = states.iter().map(status_line).collect();

    insta::assert_snapshot!(lines.join("\n"), @r"
    work | downloading (not running) | 812 / 2,000 | – | – | – | – | it was stopped; the next run continues from here
    work | idle (not running) | 812 / 2,000 | – | – | – | – | the next run checks for changes
    work | auth failed (not running) | 812 / 2,000 | – | new token | – | – | everything is listed; put a fresh token into HOME/token
    work | rate limited (not running) | 812 / 2,000 | – | TIME (in WAIT) | – | – | everything is listed
    ");
    assert_eq!(
        downloading,
        format!(
            "work | downloading (not running) | 812 / 2,000 | – | – | – | – | its worker (process \
             {pid}) has died; the next run continues from here"
        )
    );
}

#[test]
fn an_unreadable_state_is_shown_as_such() {
    let home = TestHome::with_source_work();
    let mut lines = vec![last_column(&home.cynosure(&["status"]))];
    for broken in ["", "{\"schema\": 1", "{\"schema\": 9}"] {
        home.write("state/work/execution_state.json", broken);
        lines.push(last_column(&home.cynosure(&["status"])));
    }
    fs_err::remove_file(home.path("state/work/execution_state.json")).unwrap();
    home.write("state/work/ledger.sqlite", "something");
    lines.push(last_column(&home.cynosure(&["status"])));

    insta::assert_snapshot!(lines.join("\n"), @r"
    work | never run | – | – | – | – | – | start it with `cynosure run work`
    work | unknown | – | – | – | – | – | its state file cannot be read (EOF while parsing a value at line 1 column 0); the next run rebuilds it from the ledger
    work | unknown | – | – | – | – | – | its state file cannot be read (EOF while parsing an object at line 1 column 12); the next run rebuilds it from the ledger
    work | unknown | – | – | – | – | – | a newer cynosure wrote its state file (schema 9, this one knows 1); use that version
    work | unknown | – | – | – | – | – | its state file is missing; the next run rebuilds it from the ledger
    ");
}

#[test]
fn a_removed_source_is_still_shown() {
    let home = TestHome::after_demo();
    home.configure("[source.demo]", "[source.other]\nenabled = false");

    insta::assert_snapshot!(status_cells(&home), @r"
    SOURCE | STATE | DONE | RATE | UNTIL | ARCHIVE | COMPLETE UNTIL | REASON
    demo | completed | 60 / 60 | – | since TIME | SIZE | TIME | not in the configuration; `cynosure reset demo` deletes its progress
    other | never run | – | – | – | – | – | start it with `cynosure run other`; disabled in the configuration
    ");
    assert_eq!(home.cynosure(&["history", "demo"]).code, Some(0));
}

#[test]
fn a_configuration_without_sources_says_what_to_do() {
    let home = TestHome::empty();
    home.write("config.toml", "");

    let output = home.cynosure(&["status"]);

    assert_eq!(output.stdout, "no sources yet: add a [source.NAME] table to config.toml\n");
}

#[test]
fn as_json_every_source_has_every_key() {
    let demo = TestHome::after_demo();
    let (never_run, broken) = (TestHome::with_source_work(), TestHome::with_source_work());
    broken.write("state/work/execution_state.json", "{");

    let [demo, never_run, broken] = [demo, never_run, broken].map(|home| {
        let output = home.cynosure(&["status", "--json"]);
        let value: Value = serde_json::from_str(&output.stdout).unwrap();
        value["sources"][0].clone()
    });

    let keys = |value: &Value| -> BTreeSet<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    for key in STATUS_KEYS {
        assert!(keys(&demo).contains(key), "{key} in {demo}");
    }
    assert_eq!(keys(&demo), keys(&never_run));
    assert_eq!(keys(&demo), keys(&broken));
    assert_eq!((&demo["status"], &demo["total_threads"]), (&"completed".into(), &60.into()));
    assert!(demo["expected_bytes"].as_u64() > Some(0), "{demo}");
    assert_eq!(demo["fetched_bytes"], demo["expected_bytes"], "its sizes are exact");
    assert!(demo["archive_documents"].as_u64() >= Some(60), "{demo}");
    assert_eq!(demo["archive_bytes"], demo["fetched_bytes"], "it is its first session");
    assert_eq!(demo["complete_until"], demo["start_time"], "the listing began then");
    assert_eq!(never_run["complete_until"], Value::Null);
    assert_eq!((&never_run["status"], &never_run["start_time"]), (&"idle".into(), &Value::Null));
    assert_eq!(broken["status"], Value::Null);
    assert!(broken["trouble"].as_str().unwrap().starts_with("its state file cannot be read"));
}

/// Returns the labels of the lines that begin with one of a summary.
fn summary_labels(output: &ProgramOutput) -> Vec<&str> {
    const LABELS: [&str; 7] =
        ["account", "folders", "messages", "new", "missing", "archive", "next"];
    let labels = output.stderr.lines().filter_map(|line| Some(line.split_once("  ")?.0));
    labels.filter(|label| LABELS.contains(label)).collect()
}

#[test]
fn a_completed_session_ends_with_a_summary() {
    let home = TestHome::with_demo_server(40);

    let output = home.cynosure(&["run", "--once"]);

    assert_eq!(output.code, Some(0), "{output:?}");
    let labels = summary_labels(&output);
    for label in ["account", "messages", "new", "archive", "next"] {
        assert_eq!(labels.iter().filter(|found| **found == label).count(), 1, "{output:?}");
    }
    assert!(!labels.contains(&"missing"), "{output:?}");
    assert!(output.stderr.contains("downloads, complete until "), "{output:?}");
    assert!(output.stdout.starts_with("listed 40 = "), "{output:?}");
    assert_eq!(output.stdout.lines().count(), 1, "the balance is alone on standard output");
    let unchanged = home.cynosure(&["run", "--once"]);
    assert!(unchanged.stdout.starts_with("no changes: "), "{unchanged:?}");
    assert_eq!(summary_labels(&unchanged), [""; 0], "no session was completed");
}

#[test]
fn a_quiet_run_has_no_summary() {
    let home = TestHome::with_demo_server(5);

    let output = home.cynosure(&["-q", "run", "--once"]);

    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(summary_labels(&output), [""; 0]);
}
