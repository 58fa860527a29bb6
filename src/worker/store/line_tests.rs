//! Tests of batches of lines whose commit fails: no row names a line that is not there, and no line
//! is without a row.

use std::collections::BTreeSet;

use cynosure_engine::{BlobId, DocumentId, ItemId, ListedDocument, NextPage, RecheckPolicy};
use rusqlite::Connection;

use super::*;
use crate::archive::{DocumentFormat, RecordLayout, StagedBatch};
use crate::disk::MemoryDisk;
use crate::ledger::{DueLimits, NewSession};
use crate::worker::commit_batch::{CommitBatch, DownloadOutcome};
use crate::worker::ledger_updates::LedgerUpdates;

const NOW: Timestamp = Timestamp(1_772_874_303_456);

const LIMITS: DueLimits = DueLimits { untried: 10, retries: 10 };

/// Store of a source with two records that are listed, and another connection to its ledger.
struct LineFixture {
    disk: MemoryDisk,
    store: Store,
    connection: Connection,
}

impl LineFixture {
    fn new(database: &str) -> Self {
        let disk = MemoryDisk::default();
        ensure_folder(&disk, Path::new("/state")).unwrap();
        let connect =
            || Connection::open(format!("file:{database}?mode=memory&cache=shared")).unwrap();
        let connection = connect();
        let ledger = SqliteLedger::from_connection(connect(), Path::new("/ledger")).unwrap();
        let mut store = open_store(&disk, Box::new(ledger));
        let session = NewSession {
            id: SessionId::new("session_1"),
            kind: SessionKind::Full,
            started_at: NOW,
            start_cursor: None,
        };
        store.ledger.begin_session(&session).unwrap();
        let page = ["1", "2"]
            .map(|id| ListedDocument::new(ItemId::new(id), DocumentId::new(id), BlobId::new(id)));
        let next = NextPage::More(PageToken::new("more"));
        store.ledger.record_page(&page, &[], &next, NOW).unwrap();
        Self { disk, store, connection }
    }

    /// Starts a new process on the same disk and ledger.
    fn restarted(self) -> Self {
        let Self { disk, store, connection } = self;
        let Store { ledger, .. } = store;
        let store = open_store(&disk, ledger);
        Self { disk, store, connection }
    }

    /// Returns a batch with this record, as if it had been fetched.
    fn stage(&mut self, id: &str) -> (Box<dyn StagedBatch>, LedgerUpdates) {
        let mut batch = CommitBatch::default();
        let due_items = self.store.ledger.due_items(NOW, LIMITS, &BTreeSet::new()).unwrap();
        for due in due_items.into_iter().filter(|due| due.item.as_str() == id) {
            let [document] = &due.documents[..] else { panic!("{due:?}") };
            let DocumentRow { row_id, id, blob, size, .. } = document.clone();
            let mut spooled = self.store.archive().spool_document();
            spooled.append(format!("[{}]", id.as_str()).as_bytes()).unwrap();
            let outcome = DownloadOutcome::Stored {
                document: row_id,
                item_id: due.item,
                expected_blob: blob.clone(),
                fetched: Box::new(DocumentRef::new(id, blob, size)),
                folders: Vec::new(),
                spooled,
            };
            batch.push(outcome, NOW);
            batch.push(DownloadOutcome::Completed { item: due.row_id }, NOW);
        }
        let (documents, updates) = self.store.split_batch(batch).unwrap();
        (self.store.archive().stage_batch(documents.unwrap()).unwrap(), updates)
    }

    fn commit(
        &mut self,
        (staged, updates): (Box<dyn StagedBatch>, LedgerUpdates),
    ) -> Result<SessionCounts, Failure> {
        let published = staged.publish()?;
        self.store.record_batch(updates, Some(published), RecheckPolicy::IMMEDIATE, NOW)
    }

    fn execute(&self, sql: &str) {
        self.connection.execute_batch(sql).unwrap();
    }

    /// Returns the content of the file of lines.
    fn lines(&self) -> String {
        let files = self.disk.files().into_iter();
        let mut files = files.filter(|(path, _)| path.ends_with("records.jsonl"));
        let bytes = files.next().map(|(_, bytes)| bytes).unwrap_or_default();
        String::from_utf8(bytes).unwrap()
    }

    /// Returns the place of each stored record in the ledger.
    fn places(&self) -> Vec<String> {
        let stored = self.store.ledger.stored_files(None, 10).unwrap().into_iter();
        stored.map(|stored| format!("{} {}", stored.document, stored.file)).collect()
    }
}

fn open_store(disk: &MemoryDisk, ledger: Box<dyn Ledger>) -> Store {
    let info = SourceInfo {
        source: "work".to_owned(),
        kind: "rest",
        account: "me@example.com".to_owned(),
        provider: "example".to_owned(),
    };
    let format = DocumentFormat { layout: RecordLayout::Lines, ..DocumentFormat::default() };
    let archive = ArchiveConfig { dir: "/downloads".into(), format };
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let id = LedgerId::new("a");
    Store::open_with(disk, ledger, Path::new("/state"), &archive, info, &id, NOW).unwrap().store
}

#[test]
fn the_lines_of_a_failed_commit_are_cut_off() {
    let mut fixture = LineFixture::new("failed_commit");
    let (first, second) = (fixture.stage("1"), fixture.stage("2"));
    fixture.execute(
        "CREATE TRIGGER failure BEFORE UPDATE ON documents BEGIN SELECT RAISE(ABORT, 'full'); END",
    );
    fixture.commit(first).unwrap_err();
    fixture.execute("DROP TRIGGER failure");
    assert_eq!((fixture.lines().as_str(), fixture.places()), ("", vec![]));

    fixture.commit(second).unwrap();
    let first = fixture.stage("1");
    fixture.commit(first).unwrap();

    assert_eq!(fixture.lines(), "[2]\n[1]\n");
    assert_eq!(fixture.places(), ["1 records.jsonl@4", "2 records.jsonl@0"]);
}

#[test]
fn no_line_follows_one_that_cannot_be_cut_off() {
    let mut fixture = LineFixture::new("failed_cut");
    let (first, second) = (fixture.stage("1"), fixture.stage("2"));
    // No commit succeeds while another program writes, so that none can show that the first one
    // has failed for good.
    fixture.execute("BEGIN IMMEDIATE");

    fixture.commit(first).unwrap_err();
    fixture.commit(second).unwrap_err();

    fixture.execute("ROLLBACK");
    assert_eq!((fixture.lines().as_str(), fixture.places()), ("[1]\n", vec![]));
    let second = fixture.stage("2");
    assert_eq!(fixture.lines(), "");
    fixture.commit(second).unwrap();
    assert_eq!(fixture.lines(), "[2]\n");
}

#[test]
fn the_next_start_cuts_off_lines_without_rows() {
    let mut fixture = LineFixture::new("lost_commit");
    let first = fixture.stage("1");
    fixture.commit(first).unwrap();
    let (second, updates) = fixture.stage("2");
    drop((second.publish().unwrap(), updates));
    assert_eq!(fixture.lines(), "[1]\n[2]\n");

    let mut fixture = fixture.restarted();

    assert_eq!(fixture.lines(), "[1]\n");
    let second = fixture.stage("2");
    fixture.commit(second).unwrap();
    assert_eq!(fixture.lines(), "[1]\n[2]\n");
    assert_eq!(fixture.places(), ["1 records.jsonl@0", "2 records.jsonl@4"]);
}
