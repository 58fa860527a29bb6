//! Reference model: checks disk and ledger against the messages on the server.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use cynosure::disk::MemoryDisk;
use cynosure::ledger::{ItemStatus, LedgerReports, StoredFile};
use cynosure_engine::{DocumentId, ItemId};
use rusqlite::Connection;
use sha2::{Digest, Sha256};

use crate::server::{ServerMessage, SimServer};

/// Asserts that every content that is stored according to the ledger is exactly one complete file.
pub(crate) fn check_stored_contents_exist(
    disk: &MemoryDisk,
    ledger: &dyn LedgerReports,
    server: &SimServer,
) {
    let files = disk.files();
    let mut contents = BTreeSet::new();
    for stored in all_stored_files(ledger) {
        let path = Path::new("/downloads").join(&stored.folder).join(&stored.file);
        let bytes = files.get(&path);
        let bytes = bytes.unwrap_or_else(|| panic!("{} is missing", path.display()));
        let message = &server.messages[&number(&stored.document)];
        let is_known = *bytes == message.bytes || message.previous_contents.contains(bytes);
        assert!(is_known, "{} has none of the message's contents", path.display());
        assert_eq!(stored.length, bytes.len() as u64);
        let content = (stored.document.clone(), bytes);
        assert!(contents.insert(content), "{} is stored twice", stored.document);
    }
    let counters = ledger.check_counters().unwrap();
    assert!(counters.is_consistent(), "the counters are wrong: {counters:?}");
}

pub(crate) fn all_stored_files(ledger: &dyn LedgerReports) -> Vec<StoredFile> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = ledger.stored_files(after, 100).unwrap();
        let Some(last) = page.last() else { return all };
        after = Some(last.row_id);
        all.extend(page);
    }
}

/// Returns true if the present content of a message is the stored one.
fn is_stored(ledger: &dyn LedgerReports, id: u64, message: &ServerMessage) -> bool {
    let (item, document) = (ItemId::new(&*message.item), DocumentId::new(format!("D{id}")));
    let stored = ledger.stored_file(&item, &document).unwrap();
    stored.is_some_and(|stored| stored.sha256 == *Sha256::digest(&message.bytes))
}

/// Returns true if no item is pending and every message that is not deleted is stored.
pub(crate) fn has_recovered(ledger: &dyn LedgerReports, server: &RefCell<SimServer>) -> bool {
    let server = server.borrow();
    let mut messages = server.messages.iter();
    ledger.session_counts().unwrap().pending() == 0
        && messages.all(|(id, message)| message.is_deleted || is_stored(ledger, *id, message))
}

/// Asserts that after a recovery no item is pending, every message is stored or settled otherwise,
/// and no message was fetched more often than crashes and disk faults explain.
pub(crate) fn check_everything_settled(ledger: &dyn LedgerReports, server: &SimServer, kills: u64) {
    let counts = ledger.session_counts().unwrap();
    assert_eq!(counts.pending(), 0, "a session was left open: {counts:?}");
    assert!(
        ledger.cursor().unwrap().is_some(),
        "without a cursor, every poll would list everything"
    );
    for (id, message) in &server.messages {
        assert!(
            is_stored(ledger, *id, message)
                || message.is_deleted
                || message.always_fails && is_quarantined(ledger, message)
                || is_recorded_as_gone(ledger, *id),
            "message {id} is not stored, deleted, quarantined or recorded as gone"
        );
        // A fetch is repeated only if its result was lost.
        let contents = 1 + message.previous_contents.len() as u64;
        assert!(
            u64::from(message.served_count) <= contents + kills + server.disk_faults,
            "message {id} was fetched {} times, with {kills} crashes",
            message.served_count
        );
    }
}

fn is_quarantined(ledger: &dyn LedgerReports, message: &ServerMessage) -> bool {
    let row = ledger.item_report(&ItemId::new(&*message.item)).unwrap();
    row.is_some_and(|row| row.status == ItemStatus::Quarantined)
}

/// Returns true if the ledger has a row for a message that was listed and never found.
fn is_recorded_as_gone(ledger: &dyn LedgerReports, id: u64) -> bool {
    let row = ledger.item_report(&ItemId::new(format!("missing:D{id}"))).unwrap();
    row.is_some_and(|row| row.status == ItemStatus::Gone)
}

/// Asserts that the totals of every completed session add up, and that only the last one is open.
pub(crate) fn check_session_totals(database: &Connection) {
    let unbalanced = "SELECT count(*) FROM sessions
                  WHERE completed IS NOT NULL AND listed <> stored + gone + quarantined";
    let incomplete = "SELECT count(*) FROM sessions
                      WHERE completed IS NULL AND no < (SELECT max(no) FROM sessions)";
    for sql in [unbalanced, incomplete] {
        let count: i64 = database.query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(count, 0, "{sql}");
    }
}

/// Asserts that an outage costs an item at most one attempt, the one that detects the outage.
pub(crate) fn check_no_item_blamed(database: &Connection) {
    let sql = "SELECT max(attempts) FROM items";
    let attempts: i64 = database.query_row(sql, [], |row| row.get(0)).unwrap();
    assert!(attempts <= 1, "an item failed {attempts} times in an outage");
}

/// Asserts that every transition is an edge of the diagram in `docs/machine.md`, and returns the
/// statuses that were entered.
pub(crate) fn check_transitions(ledger: &dyn LedgerReports) -> BTreeSet<String> {
    let diagram = include_str!("../../docs/machine.md");
    let edges: BTreeSet<_> = diagram
        .lines()
        .filter_map(|line| line.trim().split_once(": ")?.0.split_once(" --> "))
        .collect();
    let history = ledger.transitions(usize::MAX).unwrap();
    for transition in &history {
        let edge = (transition.from.as_str(), transition.to.as_str());
        // A restart during a phase enters the same phase again.
        let is_known = edge.0 == edge.1 || edges.contains(&edge);
        assert!(is_known, "docs/machine.md has no such edge: {transition:?}");
    }
    history.into_iter().map(|transition| transition.to).collect()
}

fn number(document: &DocumentId) -> u64 {
    document.as_str()[1..].parse().unwrap()
}
