//! `failures`, `requeue` and `reset`: listing failed items, retrying them, deleting progress.

use std::collections::BTreeSet;
use std::path::Path;

use cynosure::ledger::{
    DueLimits, Ledger, LedgerReader, LedgerUpdate, NewSession, SessionKind, SqliteLedger,
};
use cynosure_engine::{
    BlobId, Cause, DocumentId, Failure, ItemFailureCounts, ItemId, ListedDocument, NextPage,
    RecheckPolicy, SessionId, Timestamp,
};

use crate::commands::test_home::{TestHome, silent_server};

const NOW: Timestamp = Timestamp(1_772_874_303_456);

/// 2100-01-01 00:00 UTC.
const FAR_FUTURE: Timestamp = Timestamp(4_102_444_800_000);

/// Home with a source that has one forbidden, one broken, one gone and one waiting item.
fn home_with_failures() -> TestHome {
    let home = TestHome::with_source_work();
    let dir = home.path("state/work");
    fs_err::create_dir_all(&dir).unwrap();
    fill_ledger(&dir.join("ledger.sqlite"));
    home
}

fn fill_ledger(path: &Path) {
    let mut ledger = SqliteLedger::open(path).unwrap();
    let (id, kind) = (SessionId::from_unix_seconds(NOW.unix_seconds()), SessionKind::Full);
    ledger.begin_session(&NewSession { id, kind, started_at: NOW, start_cursor: None }).unwrap();
    let mut page = ["forbidden", "broken", "gone", "waiting"].map(|name| {
        ListedDocument::new(ItemId::new(name), DocumentId::new(name), BlobId::new(name))
    });
    page[3].labels = vec![("subject".to_owned(), "\u{1b}[2Jhello".to_owned())];
    ledger.record_page(&page, &[], &NextPage::Done(None), NOW).unwrap();
    let due_items = ledger
        .due_items(NOW, DueLimits { untried: page.len(), retries: 0 }, &BTreeSet::new())
        .unwrap();
    let [forbidden, broken, gone, waiting] = &due_items[..] else { panic!("{due_items:?}") };
    let updates = [
        LedgerUpdate::Failed {
            document: forbidden.documents[0].row_id,
            failure: Failure::new(Cause::Forbidden, "403 from mail.example.com"),
        },
        LedgerUpdate::Quarantined {
            item: broken.row_id,
            failure: Failure::new(Cause::Server, "500 from mail.example.com: \"\u{202e}oops\""),
        },
        LedgerUpdate::Gone {
            document: gone.documents[0].row_id,
            expected_blob: BlobId::new("gone"),
            tried_locations: Vec::new(),
        },
        LedgerUpdate::Retry {
            item: waiting.row_id,
            failure_counts: ItemFailureCounts {
                failed_attempts: 2,
                ..ItemFailureCounts::default()
            },
            next_attempt_at: FAR_FUTURE,
            failure: Failure::new(Cause::Timeout, "no response"),
        },
    ];
    let interval = FAR_FUTURE.since(NOW);
    ledger.commit(&updates, RecheckPolicy { interval, max_interval: interval }, NOW).unwrap();
}

#[test]
fn failures_are_listed_with_their_next_step() {
    let output = home_with_failures().cynosure(&["failures"]);

    assert_eq!(output.code, Some(0));
    insta::assert_snapshot!(output.cells(), @r#"
    ITEM | STATE | ATTEMPTS | NEXT ATTEMPT | CAUSE | MESSAGE
    forbidden | quarantined | 1 | TIME (in WAIT) | forbidden | 403 from mail.example.com
    broken | quarantined | 1 | TIME (in WAIT) | server | 500 from mail.example.com: "\u{202e}oops"
    waiting | waiting | 2 | TIME (in WAIT) | timeout | no response
    gone | gone | 0 | – | not_found | the source no longer has 1 of 1 documents

    2 quarantined, 1 waiting for a retry, 1 gone from the source. `cynosure requeue --source work` fetches the quarantined items again.
    "#);
}

#[test]
fn failures_are_filtered_by_cause_and_limit() {
    let home = home_with_failures();

    insta::assert_snapshot!(home.cynosure(&["failures", "work", "--cause", "server"]).cells(), @r#"
    ITEM | STATE | ATTEMPTS | NEXT ATTEMPT | CAUSE | MESSAGE
    broken | quarantined | 1 | TIME (in WAIT) | server | 500 from mail.example.com: "\u{202e}oops"

    1 quarantined. `cynosure requeue --source work` fetches the quarantined items again.
    "#);
    insta::assert_snapshot!(home.cynosure(&["failures", "-n", "1"]).cells(), @r"
    ITEM | STATE | ATTEMPTS | NEXT ATTEMPT | CAUSE | MESSAGE
    forbidden | quarantined | 1 | TIME (in WAIT) | forbidden | 403 from mail.example.com

    1 quarantined. `cynosure requeue --source work` fetches the quarantined items again.
    There are more: -n 10 shows them.
    ");
    assert_eq!(
        home.cynosure(&["failures", "--cause", "tls"]).stdout,
        "no failed items with the cause tls\n"
    );
}

#[test]
fn failures_as_json_are_a_line_each() {
    let lines = home_with_failures().cynosure(&["failures", "--json"]).json_lines();

    let items: Vec<_> = lines.iter().map(|line| line["item"].as_str().unwrap()).collect();
    assert_eq!(items, ["forbidden", "broken", "waiting", "gone"]);
    assert_eq!(lines[2]["next_at"], "2100-01-01T00:00:00.000Z");
    assert_eq!(lines[2]["attempts"], 2);
}

#[test]
fn the_labels_of_an_item_are_shown() {
    let home = home_with_failures();

    let shown = home.cynosure(&["failures", "--item", "waiting"]);
    let json = home.cynosure(&["failures", "--item", "waiting", "--json"]).json_lines();

    assert!(shown.cells().contains("labels | subject: \\u{1b}[2Jhello"), "{shown:?}");
    assert_eq!(json[0]["documents"][0]["id"], "waiting");
    assert_eq!(json[0]["documents"][0]["labels"]["subject"], "\u{1b}[2Jhello");
}

#[test]
fn an_unknown_cause_lists_the_known_ones() {
    for command in ["failures", "requeue"] {
        let output = home_with_failures().cynosure(&[command, "--cause", "weather"]);

        assert_eq!(output.code, Some(2));
        assert!(output.stderr.contains("invalid value 'weather'"), "{}", output.stderr);
        assert!(output.stderr.contains("rate_limit, unauthorized, forbidden"), "{}", output.stderr);
    }
}

#[test]
fn quarantined_items_are_requeued_all_by_cause_or_by_item() {
    let requeue = |args: &[&str]| {
        let home = home_with_failures();
        let output = home.cynosure(args);
        assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""));
        let due_at_next_poll = home.cynosure(&["failures"]).cells().matches("next poll").count();
        format!("{} {due_at_next_poll}", output.stdout.trim())
    };

    insta::assert_snapshot!(requeue(&["requeue"]), @r"
    2 items of work: fetched again by the next `cynosure run work` 2
    ");
    insta::assert_snapshot!(requeue(&["requeue", "--cause", "server"]), @r"
    1 item of work: fetched again by the next `cynosure run work` 1
    ");
    insta::assert_snapshot!(requeue(&["requeue", "gone", "forbidden"]), @r"
    2 items of work: fetched again by the next `cynosure run work` 2
    ");
}

#[test]
fn since_filters_failures_and_requeue() {
    let home = home_with_failures();
    let failure_count = |since: &str| {
        let output = home.cynosure(&["failures", "--since", since, "--json"]);
        assert_eq!(output.code, Some(0), "{output:?}");
        output.stdout.lines().count()
    };

    // At 2026-03-07T09:05:03.456Z, three items failed and one was found to be gone.
    assert_eq!(failure_count("2026-03-07"), 4);
    assert_eq!(failure_count("2026-03-07T09:05:04Z"), 0);
    let late = home.cynosure(&["requeue", "--cause", "server", "--since", "2026-03-07T09:05:04Z"]);
    assert_eq!(late.code, Some(1));
    assert_eq!(
        late.stderr,
        "cynosure: work has no quarantined items with the cause server that failed since then; \
         `cynosure failures work` shows the failed items\n"
    );
    let output =
        home.cynosure(&["requeue", "--cause", "server", "--since", "2026-03-07T09:05:03Z"]);
    assert_eq!(output.stdout, "1 item of work: fetched again by the next `cynosure run work`\n");
    for command in ["failures", "requeue"] {
        let output = home.cynosure(&[command, "--since", "soon"]);
        assert_eq!(output.code, Some(2));
        assert!(
            output
                .stderr
                .contains("--since 'soon' is not a valid time: write '2h' for two hours ago"),
            "{output:?}"
        );
    }
}

#[test]
fn requeuing_unknown_items_changes_nothing_and_says_so() {
    let home = home_with_failures();

    let unknown = home.cynosure(&["requeue", "nope"]);
    let partly_unknown = home.cynosure(&["requeue", "broken", "nope"]);
    let unused_cause = home.cynosure(&["requeue", "--cause", "tls"]);
    let never_run = TestHome::with_source_work().cynosure(&["requeue"]);

    for output in [&unknown, &partly_unknown, &unused_cause, &never_run] {
        assert_eq!(output.code, Some(1));
    }
    let printed = [
        unknown.stderr,
        partly_unknown.stdout,
        partly_unknown.stderr,
        unused_cause.stderr,
        never_run.stderr,
    ];
    insta::assert_snapshot!(printed.concat(), @r"
    cynosure: no item nope of work is quarantined or gone
    cynosure: nothing was changed; `cynosure failures work` shows the failed items
    1 item of work: fetched again by the next `cynosure run work`
    cynosure: no item nope of work is quarantined or gone
    cynosure: work has no quarantined items with the cause tls; `cynosure failures work` shows the failed items
    cynosure: work has never run: there is nothing to requeue
    ");
}

#[test]
fn requeue_requires_a_source_if_there_are_several() {
    let home = home_with_failures();
    let other = "[source.other]\nkind = \"jmap\"\nurl = \"https://example.com\"\naccount = \"me\"\n\
         auth = { type = \"bearer\", token = { env = \"TOKEN\" } }\n[restart]";
    home.configure("[restart]", other);

    assert_eq!(home.cynosure(&["requeue"]).code, Some(2));
    assert_eq!(home.cynosure(&["requeue", "--source", "work"]).code, Some(0));
}

#[test]
fn requeue_works_beside_a_worker_and_says_when_it_applies() {
    let home = home_with_failures();
    let mut worker = home.start(&["run"]);
    worker.log_until("started downloading");
    // The worker writes the state file just after this log line.
    crate::endpoint::wait_until(|| home.path("state/work/execution_state.json").exists());

    let output = home.cynosure(&["requeue"]);

    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(output.stdout, "2 items of work: fetched again at the worker's next poll\n");
}

#[test]
fn a_reset_shows_its_plan_and_needs_confirmation() {
    let home = TestHome::with_demo_server(30);
    assert_eq!(home.cynosure(&["run", "--once"]).code, Some(0));
    home.write("state/demo/execution_state.json.unreadable-1", "old");

    let plan = home.cynosure(&["reset", "demo"]);
    assert_eq!(plan.code, Some(0));
    insta::assert_snapshot!(plan.cells(), @r"
    DELETED FROM state/demo | CONTENT
    execution_state.json | the current state and its reason
    execution_state.json.unreadable-1 | an unreadable state file
    figures.json | metrics of requests, items and durations
    ledger.sqlite-wal | the last changes of the ledger
    ledger.sqlite-shm | an index of these changes
    ledger.sqlite | the listed, stored and failed items, and the history
    HOME/downloads/.cynosure/demo/owner.json | the link between the archive and its ledger

    The documents in the archive HOME/downloads are kept.
    The next run lists and fetches everything again, into a new folder.
    Nothing was deleted. Run `cynosure reset demo --yes` to delete it.
    ");
    assert!(home.path("state/demo/ledger.sqlite").exists());

    let done = home.cynosure(&["reset", "demo", "--yes"]);
    assert_eq!(done.code, Some(0));
    assert!(done.stdout.ends_with("The progress of demo is deleted.\n"), "{}", done.stdout);
    let left: Vec<_> = fs_err::read_dir(home.path("state/demo")).unwrap().collect();
    assert_eq!(left.len(), 1, "only the lock remains: {left:?}");
    let again = home.cynosure(&["reset", "demo", "--yes"]);
    assert_eq!(again.stdout, "demo has no progress: there is nothing to delete\n");
}

#[test]
fn after_a_reset_everything_is_refetched_into_a_new_folder() {
    let home = TestHome::with_demo_server(30);
    let first = home.cynosure(&["run", "--once"]);
    let before = home.messages().len();

    home.cynosure(&["reset", "demo", "--yes"]);
    let second = home.cynosure(&["run", "--once"]);

    assert_eq!(second.code, Some(0), "{second:?}");
    assert_eq!(second.stdout, first.stdout);
    assert_eq!(home.sessions().len(), 2);
    assert_eq!(home.messages().len(), 2 * before);
    assert_eq!(home.cynosure(&["verify"]).code, Some(0));
}

#[test]
fn a_reset_is_rejected_beside_a_worker() {
    let listener = silent_server();
    let home = TestHome::with_source_at(&format!("http://{}/", listener.local_addr().unwrap()));
    let worker = home.start(&["run"]);
    drop(listener.accept().unwrap());

    let output = home.cynosure(&["reset", "work", "--yes"]);

    assert_eq!(output.code, Some(1));
    assert!(output.stderr.contains(&format!("process {}", worker.0.id())), "{}", output.stderr);
    assert!(home.path("state/work/ledger.sqlite").exists());
}

#[test]
fn a_demo_runs_again_after_a_reset() {
    let home = TestHome::after_demo();
    home.cynosure(&["reset", "demo", "--yes"]);
    let dir = home.path("").display().to_string();

    let output = home.cynosure(&["demo", "--items", "60", "--faults", "none", "--dir", &dir]);

    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(
        output.stdout.starts_with("listed 60 = stored 60 + gone 0 + quarantined 0\n"),
        "{}",
        output.stdout
    );
}
