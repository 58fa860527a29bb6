//! `failures`, `requeue` and `reset`: what went wrong, and another try.

use std::collections::BTreeSet;
use std::path::Path;

use cynosure::engine::{
    BlobId, Cause, DocumentId, Failure, ItemFailureCounts, ItemId, RecheckPolicy, SessionId,
    Timestamp,
};
use cynosure::ledger::{
    DueLimits, Ledger, LedgerUpdate, ListingEntry, ListingProgress, NewSession, SessionKind,
};

use crate::commands::home::{Home, silent};

const NOW: Timestamp = Timestamp(1_772_874_303_456);

/// The first of January 2100.
const LATER: Timestamp = Timestamp(4_102_444_800_000);

/// A source one item of which is forbidden, one broken, one gone, and one waits.
fn with_failures() -> Home {
    let home = Home::of_work();
    let dir = home.path("state/work");
    fs_err::create_dir_all(&dir).unwrap();
    fill(&dir.join("ledger.sqlite"));
    home
}

fn fill(path: &Path) {
    let mut ledger = Ledger::open(path).unwrap();
    let (id, kind) = (SessionId::from_unix_seconds(NOW.unix_seconds()), SessionKind::Full);
    ledger.begin_session(&NewSession { id, kind, started_at: NOW, start_cursor: None }).unwrap();
    let page = ["forbidden", "broken", "gone", "waiting"].map(|name| ListingEntry {
        item: ItemId::new(name),
        document: DocumentId::new(name),
        blob: BlobId::new(name),
        size: None,
    });
    ledger.record_page(&page, &ListingProgress::Done(None), NOW).unwrap();
    let work = ledger
        .due_items(NOW, DueLimits { untried: page.len(), retries: 0 }, &BTreeSet::new())
        .unwrap();
    let [forbidden, broken, gone, waiting] = &work[..] else { panic!("{work:?}") };
    let outcomes = [
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
        },
        LedgerUpdate::Retry {
            item: waiting.row_id,
            failure_counts: ItemFailureCounts {
                failed_attempts: 2,
                ..ItemFailureCounts::default()
            },
            next_attempt_at: LATER,
            failure: Failure::new(Cause::Timeout, "no answer"),
        },
    ];
    let rest = LATER.since(NOW);
    ledger.commit(&outcomes, RecheckPolicy { interval: rest, max_interval: rest }, NOW).unwrap();
}

#[test]
fn failures_are_told_with_what_becomes_of_them() {
    let ran = with_failures().cynosure(&["failures"]);

    assert_eq!(ran.code, Some(0));
    insta::assert_snapshot!(ran.cells(), @r#"
    ITEM | STATE | ATTEMPTS | NEXT | CAUSE | WHY
    forbidden | quarantined | 1 | TIME (in WAIT) | forbidden | 403 from mail.example.com
    broken | quarantined | 1 | TIME (in WAIT) | server | 500 from mail.example.com: "\u{202e}oops"
    waiting | waiting | 2 | TIME (in WAIT) | timeout | no answer
    gone | gone | 0 | – | not_found | the source no longer has 1 of 1 documents

    2 quarantined, 1 waiting for a retry, 1 gone from the source. `cynosure requeue --source work` has what is quarantined fetched again.
    "#);
}

#[test]
fn failures_of_one_cause_and_the_first_of_many_can_be_asked_for() {
    let home = with_failures();

    insta::assert_snapshot!(home.cynosure(&["failures", "work", "--cause", "server"]).cells(), @r#"
    ITEM | STATE | ATTEMPTS | NEXT | CAUSE | WHY
    broken | quarantined | 1 | TIME (in WAIT) | server | 500 from mail.example.com: "\u{202e}oops"

    1 quarantined. `cynosure requeue --source work` has what is quarantined fetched again.
    "#);
    insta::assert_snapshot!(home.cynosure(&["failures", "-n", "1"]).cells(), @r"
    ITEM | STATE | ATTEMPTS | NEXT | CAUSE | WHY
    forbidden | quarantined | 1 | TIME (in WAIT) | forbidden | 403 from mail.example.com

    1 quarantined. `cynosure requeue --source work` has what is quarantined fetched again.
    There are more: -n 10 shows them.
    ");
    assert_eq!(
        home.cynosure(&["failures", "--cause", "tls"]).out,
        "nothing has failed for the cause tls\n"
    );
}

#[test]
fn failures_as_json_are_a_line_each() {
    let lines = with_failures().cynosure(&["failures", "--json"]).json_lines();

    let items: Vec<_> = lines.iter().map(|line| line["item"].as_str().unwrap()).collect();
    assert_eq!(items, ["forbidden", "broken", "waiting", "gone"]);
    assert_eq!(lines[2]["next_at"], "2100-01-01T00:00:00.000Z");
    assert_eq!(lines[2]["attempts"], 2);
}

#[test]
fn a_cause_that_does_not_exist_is_answered_with_those_that_do() {
    for command in ["failures", "requeue"] {
        let ran = with_failures().cynosure(&[command, "--cause", "weather"]);

        assert_eq!(ran.code, Some(2));
        assert!(ran.err.contains("invalid value 'weather'"), "{}", ran.err);
        assert!(ran.err.contains("rate_limit, unauthorized, forbidden"), "{}", ran.err);
    }
}

#[test]
fn what_is_quarantined_is_requeued_all_at_once_by_cause_or_by_item() {
    let requeued = |args: &[&str]| {
        let home = with_failures();
        let ran = home.cynosure(args);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
        let left = home.cynosure(&["failures"]).cells().matches("next look").count();
        format!("{} {left}", ran.out.trim())
    };

    insta::assert_snapshot!(requeued(&["requeue"]), @r"
    2 items of work: fetched again by the next `cynosure run work` 2
    ");
    insta::assert_snapshot!(requeued(&["requeue", "--cause", "server"]), @r"
    1 item of work: fetched again by the next `cynosure run work` 1
    ");
    insta::assert_snapshot!(requeued(&["requeue", "gone", "forbidden"]), @r"
    2 items of work: fetched again by the next `cynosure run work` 2
    ");
}

#[test]
fn what_failed_since_a_time_is_shown_and_requeued_alone() {
    let home = with_failures();
    let shown = |since: &str| {
        let ran = home.cynosure(&["failures", "--since", since, "--json"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.out.lines().count()
    };

    // Three failed at 2026-03-07T09:05:03.456Z, when one was found to be gone.
    assert_eq!(shown("2026-03-07"), 4);
    assert_eq!(shown("2026-03-07T09:05:04Z"), 0);
    let late = home.cynosure(&["requeue", "--cause", "server", "--since", "2026-03-07T09:05:04Z"]);
    assert_eq!(late.code, Some(1));
    assert_eq!(
        late.err,
        "cynosure: nothing of work that failed since then is quarantined for the cause server; \
         `cynosure failures work` shows what has failed\n"
    );
    let ran = home.cynosure(&["requeue", "--cause", "server", "--since", "2026-03-07T09:05:03Z"]);
    assert_eq!(ran.out, "1 item of work: fetched again by the next `cynosure run work`\n");
    for command in ["failures", "requeue"] {
        let ran = home.cynosure(&[command, "--since", "soon"]);
        assert_eq!(ran.code, Some(2));
        assert!(
            ran.err.contains("--since 'soon' is no time: write '2h' for two hours ago"),
            "{ran:?}"
        );
    }
}

#[test]
fn requeuing_what_is_not_there_changes_nothing_and_says_so() {
    let home = with_failures();

    let unknown = home.cynosure(&["requeue", "nope"]);
    let some = home.cynosure(&["requeue", "broken", "nope"]);
    let cause = home.cynosure(&["requeue", "--cause", "tls"]);
    let never = Home::of_work().cynosure(&["requeue"]);

    for ran in [&unknown, &some, &cause, &never] {
        assert_eq!(ran.code, Some(1));
    }
    insta::assert_snapshot!([unknown.err, some.out, some.err, cause.err, never.err].concat(), @r"
    cynosure: no item nope of work is quarantined or gone
    cynosure: nothing was changed; `cynosure failures work` shows what has failed
    1 item of work: fetched again by the next `cynosure run work`
    cynosure: no item nope of work is quarantined or gone
    cynosure: nothing of work is quarantined for the cause tls; `cynosure failures work` shows what has failed
    cynosure: work has never run: there is nothing to requeue
    ");
}

#[test]
fn requeue_wants_to_know_which_of_several_sources() {
    let home = with_failures();
    let other = "[source.other]\nkind = \"jmap\"\nurl = \"https://example.com\"\naccount = \"me\"\n\
         auth = { type = \"bearer\", token = { env = \"TOKEN\" } }\n[restart]";
    home.configure("[restart]", other);

    assert_eq!(home.cynosure(&["requeue"]).code, Some(2));
    assert_eq!(home.cynosure(&["requeue", "--source", "work"]).code, Some(0));
}

#[test]
fn requeue_works_beside_a_worker_and_says_when_it_is_heard() {
    let home = with_failures();
    let mut worker = home.start(&["run"]);
    worker.log_until("started downloading");
    // It is written just after it is logged.
    crate::endpoint::until(|| home.path("state/work/execution_state.json").exists());

    let ran = home.cynosure(&["requeue"]);

    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.out, "2 items of work: fetched again at the worker's next look\n");
}

#[test]
fn a_reset_shows_what_goes_and_does_it_only_when_told() {
    let home = Home::served(30);
    assert_eq!(home.cynosure(&["run", "--once"]).code, Some(0));
    home.write("state/demo/execution_state.json.unreadable-1", "old");

    let shown = home.cynosure(&["reset", "demo"]);
    assert_eq!(shown.code, Some(0));
    insta::assert_snapshot!(shown.cells(), @r"
    REMOVED FROM state/demo | WITH IT GOES
    execution_state.json | what it was doing, and why
    execution_state.json.unreadable-1 | a broken state file that was kept
    figures.json | its counts of requests, items and durations
    ledger.sqlite | what is listed, stored and failed, and the history
    HOME/downloads/.cynosure/demo/owner.json | the bond between the archive and its ledger

    The documents in the archive HOME/downloads are kept.
    The next run lists and fetches everything anew, into a new folder.
    Nothing is changed yet: `cynosure reset demo --yes` does it.
    ");
    assert!(home.path("state/demo/ledger.sqlite").exists());

    let done = home.cynosure(&["reset", "demo", "--yes"]);
    assert_eq!(done.code, Some(0));
    assert!(done.out.ends_with("demo is forgotten.\n"), "{}", done.out);
    let left: Vec<_> = fs_err::read_dir(home.path("state/demo")).unwrap().collect();
    assert_eq!(left.len(), 1, "only the lock stays: {left:?}");
    let again = home.cynosure(&["reset", "demo", "--yes"]);
    assert_eq!(again.out, "demo is as if it had never run: there is nothing to forget\n");
}

#[test]
fn after_a_reset_everything_is_fetched_anew_into_a_new_folder() {
    let home = Home::served(30);
    let first = home.cynosure(&["run", "--once"]);
    let before = home.messages().len();

    home.cynosure(&["reset", "demo", "--yes"]);
    let second = home.cynosure(&["run", "--once"]);

    assert_eq!(second.code, Some(0), "{second:?}");
    assert_eq!(second.out, first.out);
    assert_eq!(home.sessions().len(), 2);
    assert_eq!(home.messages().len(), 2 * before);
    assert_eq!(home.cynosure(&["verify"]).code, Some(0));
}

#[test]
fn a_reset_waits_for_no_worker_and_disturbs_none() {
    let listener = silent();
    let home = Home::at(&format!("http://{}/", listener.local_addr().unwrap()));
    let worker = home.start(&["run"]);
    drop(listener.accept().unwrap());

    let ran = home.cynosure(&["reset", "work", "--yes"]);

    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains(&format!("process {}", worker.0.id())), "{}", ran.err);
    assert!(home.path("state/work/ledger.sqlite").exists());
}

#[test]
fn a_demo_runs_again_after_a_reset() {
    let home = Home::after_demo();
    home.cynosure(&["reset", "demo", "--yes"]);
    let dir = home.path("").display().to_string();

    let ran = home.cynosure(&["demo", "--items", "60", "--faults", "none", "--dir", &dir]);

    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.starts_with("listed 60 = stored 60 + gone 0 + quarantined 0\n"), "{}", ran.out);
}
