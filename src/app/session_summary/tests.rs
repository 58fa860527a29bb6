//! Tests of the lines of a summary, and of summaries of ledgers.

use std::cell::Cell;
use std::collections::BTreeSet;

use cynosure_engine::{
    BlobId, DocumentId, Failure, ItemId, ListedDocument, NextPage, RecheckPolicy, SessionId, Status,
};

use super::*;
use crate::disk::{RealDisk, ensure_folder};
use crate::ledger::{
    DueLimits, Ledger, LedgerReader, LedgerUpdate, NewSession, SessionKind, SqliteLedger,
};
use crate::state::{SCHEMA, SourceFolder, StateFolder, save_state_file};

/// 2026-03-15 09:05:03 UTC.
const NOW: Timestamp = Timestamp(1_773_565_503_000);

fn facts() -> SummaryFacts<'static> {
    SummaryFacts {
        source: "work",
        account: Some("me@example.com at api.example.com (jmap)".to_owned()),
        noun: DocumentNoun::Message,
        folders: 12,
        archive: ArchiveTotals { documents: 81_112, bytes: 4_200_000_000 },
        transfer: Some(SessionTransfer {
            started_at: NOW,
            documents: 1_999,
            bytes: 31_800_000,
            duration: Duration::from_secs(245),
        }),
        has_new: true,
        gone: 1,
        quarantined: vec![(Some(Cause::TooLarge), 2), (Some(Cause::Forbidden), 1)],
        archive_dir: Path::new("/srv/mail/downloads"),
        complete_until: Some(NOW),
        poll_interval: Some(Duration::from_secs(300)),
    }
}

/// Returns the text of a line; empty if there is no such line.
fn line(facts: &SummaryFacts<'_>, label: &str) -> String {
    let line = summary_lines(facts).into_iter().find(|line| line.label == label);
    line.map(|line| line.text).unwrap_or_default()
}

#[test]
fn a_summary_says_what_is_there_new_missing_and_next() {
    let lines: Vec<String> = summary_lines(&facts())
        .iter()
        .filter(|line| line.label != "archive")
        .map(|line| format!("{}: {}", line.label, line.text))
        .collect();

    insta::assert_snapshot!(lines.join("\n"), @r"
    account: me@example.com at api.example.com (jmap)
    folders: 12
    messages: 81,112 in 4.2 GB
    new: 1,999 messages, 31.8 MB, in 4 min 5 s, 8.2/s
    missing: 1 gone before it was fetched; 3 quarantined (2 too large, 1 forbidden): `cynosure failures work` shows them
    next: 100 new messages take about 13 s; `cynosure run` polls every 5 min
    ");
    let archive = line(&facts(), "archive");
    let start = "/srv/mail/downloads, complete until 2026-03-";
    assert!(archive.starts_with(start), "{archive}");
    assert_eq!(archive.matches(':').count(), 1, "to the minute: {archive}");
}

#[test]
fn what_is_not_known_has_no_line() {
    let unknown = SummaryFacts {
        account: None,
        folders: 0,
        gone: 0,
        quarantined: Vec::new(),
        complete_until: None,
        poll_interval: None,
        transfer: None,
        has_new: false,
        noun: DocumentNoun::Document,
        ..facts()
    };

    let labels: Vec<_> = summary_lines(&unknown).iter().map(|line| line.label).collect();

    assert_eq!(labels, ["documents", "new", "archive"]);
    assert_eq!(line(&unknown, "new"), "none");
    assert_eq!(line(&unknown, "archive"), "/srv/mail/downloads");
}

#[test]
fn one_missing_item_is_singular() {
    let one = |gone, quarantined| SummaryFacts { gone, quarantined, ..facts() };

    assert_eq!(
        line(&one(1, Vec::new()), "missing"),
        "1 gone before it was fetched: `cynosure failures work` shows it"
    );
    assert_eq!(
        line(&one(0, vec![(None, 1)]), "missing"),
        "1 quarantined (1 other): `cynosure failures work` shows it"
    );
    assert_eq!(
        line(&one(2_000, Vec::new()), "missing"),
        "2,000 gone before they were fetched: `cynosure failures work` shows them"
    );
}

#[test]
fn few_documents_give_no_estimate() {
    let transfer = |documents, millis| SummaryFacts {
        transfer: Some(SessionTransfer {
            started_at: NOW,
            documents,
            bytes: 812,
            duration: Duration::from_millis(millis),
        }),
        ..facts()
    };

    let few = transfer(9, 4_000);
    assert_eq!(line(&few, "next"), "`cynosure run` polls every 5 min");
    assert_eq!(line(&transfer(1, 4_000), "new"), "1 message, 812 bytes, in 4.0 s, 15.0/min");
    assert_eq!(line(&transfer(10, 0), "new"), "10 messages, 812 bytes");
    assert_eq!(line(&transfer(10, 0), "next"), "`cynosure run` polls every 5 min");
    let fast = line(&transfer(1_000_000, 5), "next");
    assert!(fast.starts_with("100 new messages take about 1 s;"), "{fast}");
    let slow = SummaryFacts { poll_interval: None, ..transfer(u64::MAX, u64::MAX) };
    assert_eq!(line(&slow, "next"), "100 new messages take about 1 s");
}

#[test]
fn a_session_that_stored_nothing_names_the_last_that_did() {
    let nothing_new = SummaryFacts { has_new: false, ..facts() };

    let new = line(&nothing_new, "new");

    assert!(new.starts_with("none; last on 2026-03-1"), "{new}");
    assert!(new.ends_with(": 1,999 messages, 31.8 MB, in 4 min 5 s, 8.2/s"), "{new}");
    assert!(line(&nothing_new, "next").starts_with("100 new messages take about 13 s;"));
}

#[test]
fn a_removed_source_is_described_by_its_state() {
    let state = ExecutionState {
        account: "me\u{1b}[2J".to_owned(),
        kind: "imap".to_owned(),
        ..ExecutionState::default()
    };

    assert_eq!(account_text(None, Some(&state)).unwrap(), r"me\u{1b}[2J (imap)");
    assert_eq!(document_noun(None, Some(&state)), DocumentNoun::Message);
    assert_eq!(account_text(None, None), None);
    assert_eq!(document_noun(None, None), DocumentNoun::Document);
}

fn source_without_settings(folder: SourceFolder) -> SourceRef {
    let name = "work".parse().unwrap();
    SourceRef { name, folder, settings: None, is_config_uncertain: false }
}

/// Returns a source with one completed session of one stored and one quarantined document.
fn source_with_session(dir: &Path) -> SourceRef {
    let folder = StateFolder::new(dir).source("work");
    ensure_folder(&RealDisk, folder.path()).unwrap();
    let mut ledger = SqliteLedger::open(&folder.ledger_file()).unwrap();
    let session = NewSession {
        id: SessionId::new("session_1"),
        kind: SessionKind::Full,
        started_at: NOW,
        start_cursor: None,
    };
    ledger.begin_session(&session).unwrap();
    ledger.set_session_folder("folder").unwrap();
    let entry = |id| ListedDocument::new(ItemId::new(id), DocumentId::new(id), BlobId::new(id));
    let entries = ["a", "b"].map(entry);
    ledger.record_page(&entries, &[], &NextPage::Done(None), NOW).unwrap();
    let limits = DueLimits { untried: 9, retries: 9 };
    let due = ledger.due_items(NOW, limits, &BTreeSet::new()).unwrap();
    let stored = &due[0].documents[0];
    let updates = [
        LedgerUpdate::Stored {
            document: stored.row_id,
            expected_blob: stored.blob.clone(),
            fetched_blob: stored.blob.clone(),
            size: None,
            file: "a.eml".to_owned(),
            length: 812,
            sha256: [7; 32],
            is_identified_by_location: false,
            folders: Vec::new(),
        },
        LedgerUpdate::Failed {
            document: due[1].documents[0].row_id,
            failure: Failure::new(Cause::TooLarge, "x"),
        },
    ];
    ledger.commit(&updates, RecheckPolicy::IMMEDIATE, NOW).unwrap();
    let completed_at = NOW.after(Duration::from_secs(2));
    ledger.complete_session(&session.id, completed_at).unwrap();
    source_without_settings(folder)
}

/// Completes a session that finds nothing, and begins before a quarantined item is due.
fn complete_empty_session(ledger: &mut SqliteLedger, id: &str) {
    let session = NewSession {
        id: SessionId::new(id),
        kind: SessionKind::Full,
        started_at: NOW.before(Duration::from_secs(60)),
        start_cursor: None,
    };
    ledger.begin_session(&session).unwrap();
    ledger.record_page(&[], &[], &NextPage::Done(None), NOW).unwrap();
    ledger.complete_session(&session.id, NOW).unwrap();
}

#[test]
fn a_ledger_and_its_state_are_summarized() {
    let home = tempfile::tempdir().unwrap();
    let source = source_with_session(home.path());
    let state = ExecutionState {
        schema: SCHEMA,
        account: "me@example.com".to_owned(),
        kind: "jmap".to_owned(),
        status: Status::Completed,
        complete_until: Some(NOW),
        ..ExecutionState::default()
    };
    save_state_file(&RealDisk, &source.folder.state_file(), &state).unwrap();

    let lines = session_summary(&source, Path::new("/mail"), NOW.after(Duration::from_secs(9)));

    let lines: Vec<_> = lines.unwrap().into_iter().map(|line| line.text).collect();
    assert_eq!(
        lines[..4],
        [
            "me@example.com (jmap)",
            "1 in 812 bytes",
            "1 message, 812 bytes, in 2.0 s, 0.5/s",
            "1 quarantined (1 too large): `cynosure failures work` shows it",
        ]
    );
    assert!(lines[4].starts_with("/mail, complete until 2026-03-"), "{lines:?}");
    assert_eq!(lines.len(), 5);
}

#[test]
fn a_completed_session_without_documents_is_summarized() {
    let home = tempfile::tempdir().unwrap();
    let folder = StateFolder::new(home.path()).source("work");
    ensure_folder(&RealDisk, folder.path()).unwrap();
    let first = source_without_settings(folder);
    let mut ledger = SqliteLedger::open(&first.folder.ledger_file()).unwrap();
    complete_empty_session(&mut ledger, "session_1");
    let second_home = tempfile::tempdir().unwrap();
    let second = source_with_session(second_home.path());
    let mut ledger = SqliteLedger::open(&second.folder.ledger_file()).unwrap();
    complete_empty_session(&mut ledger, "session_2");

    let new_line = |source: &SourceRef| {
        let lines = session_summary(source, Path::new("/mail"), NOW).unwrap();
        lines.into_iter().find(|line| line.label == "new").unwrap().text
    };

    assert_eq!(new_line(&first), "none");
    let new = new_line(&second);
    assert!(new.starts_with("none; last on 2026-03-1"), "{new}");
    assert!(new.ends_with(": 1 document, 812 bytes, in 2.0 s, 0.5/s"), "{new}");
}

#[test]
fn a_source_without_a_completed_session_has_no_summary() {
    let home = tempfile::tempdir().unwrap();
    let folder = StateFolder::new(home.path()).source("work");
    let never_run = source_without_settings(folder);
    assert!(session_summary(&never_run, Path::new("/mail"), NOW).unwrap().is_empty());

    ensure_folder(&RealDisk, never_run.folder.path()).unwrap();
    drop(SqliteLedger::open(&never_run.folder.ledger_file()).unwrap());
    assert!(session_summary(&never_run, Path::new("/mail"), NOW).unwrap().is_empty());
}

#[tokio::test]
async fn each_session_completed_after_the_start_is_reported_once() {
    let (sender, receiver) = watch::channel(SourceProgress::unknown());
    let reports = Cell::new(0);
    let completed = |seconds: i64| SourceProgress {
        completed_at: Some(Timestamp(NOW.0 + 1000 * seconds)),
        ..SourceProgress::unknown()
    };
    let publish = async {
        for seconds in [-5, 1, 1, 7] {
            sender.send_replace(completed(seconds));
            tokio::task::yield_now().await;
        }
        drop(sender);
    };

    tokio::join!(watch_sessions(receiver, NOW, || reports.set(reports.get() + 1)), publish);

    assert_eq!(reports.get(), 2);
}
