//! The reference: what must be true of disk and ledger, given what the server holds.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use cynosure::disk::MemoryDisk;
use cynosure::engine::{DocumentId, ItemId};
use cynosure::ledger::{ItemStatus, LedgerReader, StoredFile};
use rusqlite::Connection;
use sha2::{Digest, Sha256};

use crate::server::{ServerMessage, SimServer};

/// Every content that the ledger calls stored is a whole file, and there once.
pub(crate) fn check_stored_contents_exist(
    disk: &MemoryDisk,
    ledger: &LedgerReader,
    server: &SimServer,
) {
    let files = disk.files();
    let mut seen = BTreeSet::new();
    for stored in all_items_stored(ledger) {
        let path = Path::new("/downloads").join(&stored.folder).join(&stored.file);
        let bytes = files.get(&path);
        let bytes = bytes.unwrap_or_else(|| panic!("{} is missing", path.display()));
        let mail = &server.messages[&number(&stored.document)];
        let is_whole = *bytes == mail.bytes || mail.previous_contents.contains(bytes);
        assert!(is_whole, "{} is torn", path.display());
        assert_eq!(stored.length, bytes.len() as u64);
        let content = (stored.document.clone(), bytes);
        assert!(seen.insert(content), "{} is there twice", stored.document);
    }
    let recount = ledger.check_counters().unwrap();
    assert!(recount.is_consistent(), "the counters are wrong: {recount:?}");
}

pub(crate) fn all_items_stored(ledger: &LedgerReader) -> Vec<StoredFile> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = ledger.stored_files(after, 100).unwrap();
        let Some(last) = page.last() else { return all };
        after = Some(last.row_id);
        all.extend(page);
    }
}

/// Whether the content that the server has of a mail now is the one that is stored.
fn is_stored(ledger: &LedgerReader, no: u64, mail: &ServerMessage) -> bool {
    let (item, document) = (ItemId::new(&*mail.item), DocumentId::new(format!("D{no}")));
    let stored = ledger.stored_file(&item, &document).unwrap();
    stored.is_some_and(|stored| stored.sha256 == *Sha256::digest(&mail.bytes))
}

/// Whether the worker has made up for all that went wrong.
pub(crate) fn has_recovered(ledger: &LedgerReader, server: &RefCell<SimServer>) -> bool {
    let server = server.borrow();
    let mut mails = server.messages.iter();
    ledger.session_counts().unwrap().pending() == 0
        && mails.all(|(no, mail)| mail.is_deleted || is_stored(ledger, *no, mail))
}

/// Once all is well again, every content that the server holds is stored, and the account is even.
pub(crate) fn check_everything_settled(ledger: &LedgerReader, server: &SimServer, kills: u64) {
    let tally = ledger.session_counts().unwrap();
    assert_eq!(tally.pending(), 0, "a session was left open: {tally:?}");
    assert!(ledger.cursor().unwrap().is_some(), "everything would be listed again at each look");
    for (no, mail) in &server.messages {
        assert!(
            is_stored(ledger, *no, mail)
                || mail.is_deleted
                || mail.always_fails && is_quarantined(ledger, mail)
                || is_recorded_as_gone(ledger, *no),
            "mail {no} is neither stored nor deleted, nor poison in quarantine, nor called gone"
        );
        // A fetch is repeated only where its result was lost.
        let contents = 1 + mail.previous_contents.len() as u64;
        assert!(
            u64::from(mail.served_count) <= contents + kills + server.disk_faults,
            "mail {no} was fetched {} times in {kills} crashes",
            mail.served_count
        );
    }
}

fn is_quarantined(ledger: &LedgerReader, mail: &ServerMessage) -> bool {
    let row = ledger.item_failure(&ItemId::new(&*mail.item)).unwrap();
    row.is_some_and(|row| row.status == ItemStatus::Quarantined)
}

/// Whether the account has a row for a mail that was named and never found.
fn is_recorded_as_gone(ledger: &LedgerReader, no: u64) -> bool {
    let row = ledger.item_failure(&ItemId::new(format!("missing:D{no}"))).unwrap();
    row.is_some_and(|row| row.status == ItemStatus::Gone)
}

/// Every session that is completed accounts for each item it took on.
pub(crate) fn check_session_totals(database: &Connection) {
    let uneven = "SELECT count(*) FROM sessions
                  WHERE completed IS NOT NULL AND listed <> stored + gone + quarantined";
    let open = "SELECT count(*) FROM sessions WHERE completed IS NULL AND no < (SELECT max(no) FROM sessions)";
    for sql in [uneven, open] {
        let wrong: i64 = database.query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(wrong, 0, "{sql}");
    }
}

/// An outage costs an item one attempt at most: the one by which it was noticed.
pub(crate) fn check_no_item_blamed(database: &Connection) {
    let sql = "SELECT max(attempts) FROM items";
    let attempts: i64 = database.query_row(sql, [], |row| row.get(0)).unwrap();
    assert!(attempts <= 1, "an item failed {attempts} times in an outage");
}

/// Every transition is an edge of the drawing in the docs. Returns the statuses passed through.
pub(crate) fn check_transitions(ledger: &LedgerReader) -> BTreeSet<String> {
    let drawing = include_str!("../../docs/machine.md");
    let edges: BTreeSet<_> = drawing
        .lines()
        .filter_map(|line| line.trim().split_once(": ")?.0.split_once(" --> "))
        .collect();
    let history = ledger.transitions(usize::MAX).unwrap();
    for step in &history {
        let edge = (step.from.as_str(), step.to.as_str());
        // A restart in the midst of work comes back to the same work.
        let is_known = edge.0 == edge.1 || edges.contains(&edge);
        assert!(is_known, "docs/machine.md has no such edge: {step:?}");
    }
    history.into_iter().map(|step| step.to).collect()
}

fn number(document: &DocumentId) -> u64 {
    document.as_str()[1..].parse().unwrap()
}
