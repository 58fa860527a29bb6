//! Tests of batches with equal bytes: they are stored once, whatever becomes of the batches.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cynosure_engine::{
    BlobId, DocumentId, DocumentLocation, ItemId, ListedDocument, NextPage, RecheckPolicy,
};
use proptest::prelude::*;
use rusqlite::Connection;

use super::*;
use crate::archive::layout::{FIRST_VERSION, document_path};
use crate::archive::{DocumentFormat, FileExtension, StagedBatch};
use crate::disk::MemoryDisk;
use crate::ledger::{DueLimits, FetchedContent, NewSession};
use crate::worker::commit_batch::{CommitBatch, DownloadOutcome};
use crate::worker::ledger_updates::LedgerUpdates;

const NOW: Timestamp = Timestamp(1_772_874_303_456);

/// Number of messages in the random cases; some of them have equal contents.
const MESSAGES: u32 = 8;

const LIMITS: DueLimits = DueLimits { untried: 100, retries: 100 };

/// Batch whose files are written and not yet published, and its updates.
type WrittenBatch = (Option<Box<dyn StagedBatch>>, LedgerUpdates);

/// Store of a source with one session, and the batches that are being committed.
struct StoreFixture {
    disk: MemoryDisk,
    store: Store,
    /// Byte that the content of a message consists of, by UID.
    contents: BTreeMap<u32, u8>,
    written: VecDeque<WrittenBatch>,
}

impl StoreFixture {
    /// Returns a store that has listed nothing. The message with UID 1 has the first content.
    fn new(contents: &[u8]) -> Self {
        let disk = MemoryDisk::default();
        ensure_folder(&disk, Path::new("/state")).unwrap();
        let connection = Connection::open_in_memory().unwrap();
        let ledger = SqliteLedger::from_connection(connection, Path::new("/ledger")).unwrap();
        let mut store = open_store(&disk, Box::new(ledger));
        begin_session(&mut store, "session_1");
        let contents = (1..).zip(contents.iter().copied()).collect();
        Self { disk, store, contents, written: VecDeque::new() }
    }

    /// Returns a store that has listed all messages.
    fn with_messages(contents: &[u8]) -> Self {
        let mut fixture = Self::new(contents);
        let uids: Vec<_> = fixture.contents.keys().copied().collect();
        fixture.list(&uids);
        fixture
    }

    /// Starts a new process on the same disk and ledger. Its batches are lost.
    fn restarted(self) -> Self {
        let Self { disk, store, contents, written } = self;
        drop(written);
        let Store { ledger, .. } = store;
        let store = open_store(&disk, ledger);
        Self { disk, store, contents, written: VecDeque::new() }
    }

    fn list(&mut self, uids: &[u32]) {
        let page: Vec<_> = uids.iter().map(|uid| listed_document(*uid)).collect();
        self.record_page(&page);
    }

    fn record_page(&mut self, page: &[ListedDocument]) {
        let next = NextPage::More(PageToken::new("more"));
        self.store.ledger.record_page(page, &[], &next, NOW).unwrap();
    }

    fn due_items(&self) -> Vec<DueItem> {
        self.store.ledger.due_items(NOW, LIMITS, &BTreeSet::new()).unwrap()
    }

    fn due_uids(&self) -> Vec<u32> {
        self.due_items().iter().map(|due| only_document(due).locations[0].uid).collect()
    }

    fn message_bytes(&self, uid: u32) -> Vec<u8> {
        vec![self.contents[&uid]; 10]
    }

    /// Returns a batch with the due ones of these messages, as if they had been fetched.
    fn fetch(&self, uids: &[u32]) -> CommitBatch {
        let mut batch = CommitBatch::default();
        for due in self.due_items() {
            let DocumentRow { row_id, id, blob, size, locations, .. } = only_document(&due).clone();
            let uid = locations[0].uid;
            if !uids.contains(&uid) {
                continue;
            }
            let mut spooled = self.store.archive().spool_document();
            spooled.append(&self.message_bytes(uid)).unwrap();
            let expected_blob = blob.clone();
            let fetched = Box::new(DocumentRef::new(id, blob, size).with_locations(locations));
            let outcome = DownloadOutcome::Stored {
                document: row_id,
                item_id: due.item,
                expected_blob,
                fetched,
                folders: Vec::new(),
                spooled,
            };
            batch.push(outcome, NOW);
            batch.push(DownloadOutcome::Completed { item: due.row_id }, NOW);
        }
        batch
    }

    /// Writes a batch with these messages. It is the newest in flight.
    fn write(&mut self, uids: &[u32]) {
        let batch = self.fetch(uids);
        self.write_batch(batch);
    }

    fn write_batch(&mut self, batch: CommitBatch) {
        let (documents, updates) = self.store.split_batch(batch).unwrap();
        let archive = self.store.archive();
        let staged = documents.map(|documents| archive.stage_batch(documents).unwrap());
        self.written.push_back((staged, updates));
    }

    /// Publishes and records the oldest batch in flight, if there is one.
    fn record(&mut self) {
        let Some((staged, updates)) = self.written.pop_front() else { return };
        let published = staged.map(|staged| staged.publish().unwrap());
        self.store.record_batch(updates, published, RecheckPolicy::IMMEDIATE, NOW).unwrap();
    }

    /// Publishes the oldest batch in flight, and then loses it.
    fn publish_and_lose(&mut self) {
        let Some((staged, updates)) = self.written.pop_front() else { return };
        drop(staged.map(|staged| staged.publish().unwrap()));
        drop(updates);
    }

    fn commit(&mut self, uids: &[u32]) {
        self.write(uids);
        self.record();
    }

    fn counts(&self) -> SessionCounts {
        self.store.ledger.session_counts().unwrap()
    }

    /// Returns the numbers of stored items, fetched documents and copies.
    fn stored_and_copied(&self) -> [u64; 3] {
        let SessionCounts { stored, documents, copies, .. } = self.counts();
        [stored, documents, copies]
    }

    /// Returns the bytes of the messages in the archive, by path.
    fn message_files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = self.disk.files().into_iter();
        files
            .filter(|(path, _)| path.extension().is_some_and(|extension| extension == "eml"))
            .collect()
    }

    /// Asserts that the file of each stored row exists and has the right bytes, and that no bytes
    /// have two files. Returns the number of these files.
    fn check_stored_files(&self) -> usize {
        let files = self.message_files();
        let mut paths = BTreeMap::new();
        for row in self.store.ledger.stored_files(None, 1000).unwrap() {
            let location = DocumentLocation::from_blob(&BlobId::new(row.document.as_str()));
            let bytes = self.message_bytes(location.expect("its id is a location").uid);
            let path = Path::new("/downloads").join(&row.folder).join(&row.file);
            assert_eq!(files.get(&path), Some(&bytes), "{}", path.display());
            let first = paths.entry(bytes).or_insert_with(|| path.clone());
            assert_eq!(*first, path, "the same bytes are stored twice");
        }
        let counters = self.store.ledger.check_counters().unwrap();
        assert!(counters.is_consistent(), "{counters:?}");
        paths.len()
    }
}

fn open_store(disk: &MemoryDisk, ledger: Box<dyn Ledger>) -> Store {
    let info = SourceInfo {
        source: "work".to_owned(),
        kind: "imap",
        account: "me@example.com".to_owned(),
        provider: "example".to_owned(),
    };
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let dir = Path::new("/state");
    let archive = ArchiveConfig { dir: "/downloads".into(), format: DocumentFormat::default() };
    let id = LedgerId::new("a");
    Store::open_with(disk, ledger, dir, &archive, info, &id, NOW).unwrap().store
}

fn begin_session(store: &mut Store, id: &str) {
    let session = NewSession {
        id: SessionId::new(id),
        kind: SessionKind::Full,
        started_at: NOW,
        start_cursor: None,
    };
    store.ledger.begin_session(&session).unwrap();
}

/// Returns the entry of a message that only its location identifies.
fn listed_document(uid: u32) -> ListedDocument {
    let location = DocumentLocation { folder: "INBOX".to_owned(), uid_validity: 1, uid };
    let blob = location.to_blob();
    let (item, document) = (ItemId::new(blob.as_str()), DocumentId::new(blob.as_str()));
    ListedDocument { location: Some(location), ..ListedDocument::new(item, document, blob) }
}

fn only_document(due: &DueItem) -> &DocumentRow {
    let [document] = &due.documents[..] else { panic!("{due:?}") };
    document
}

#[test]
fn equal_bytes_in_one_batch_are_stored_once() {
    let mut fixture = StoreFixture::with_messages(b"aba");

    fixture.commit(&[1, 2, 3]);

    assert_eq!(fixture.stored_and_copied(), [3, 2, 1]);
    assert_eq!((fixture.check_stored_files(), fixture.message_files().len()), (2, 2));
}

#[test]
fn equal_bytes_in_two_batches_in_flight_are_stored_once() {
    let mut fixture = StoreFixture::with_messages(b"ab ab");

    fixture.write(&[1, 2]);
    fixture.write(&[3, 4, 5]);
    fixture.record();
    fixture.record();

    assert_eq!(fixture.stored_and_copied(), [5, 3, 2]);
    assert_eq!((fixture.check_stored_files(), fixture.message_files().len()), (3, 3));
}

#[test]
fn a_session_of_copies_has_no_folder() {
    let mut fixture = StoreFixture::new(b"aa");
    fixture.list(&[1]);
    fixture.commit(&[1]);
    fixture.store.ledger.record_page(&[], &[], &NextPage::Done(None), NOW).unwrap();
    fixture.store.finish_session(&SessionId::new("session_1"), NOW).unwrap();
    begin_session(&mut fixture.store, "session_2");
    fixture.list(&[2]);

    fixture.commit(&[2]);

    assert_eq!(fixture.stored_and_copied(), [1, 0, 1]);
    assert_eq!(fixture.store.ledger.open_session().unwrap().unwrap().folder, None);
    assert_eq!((fixture.check_stored_files(), fixture.message_files().len()), (1, 1));
}

#[test]
fn a_copy_of_a_lost_document_is_fetched_again() {
    for is_published in [false, true] {
        let mut fixture = StoreFixture::with_messages(b"aa");
        fixture.write(&[1]);
        fixture.write(&[2]);
        if is_published {
            fixture.publish_and_lose();
        } else {
            drop(fixture.written.pop_front());
        }

        fixture.record();

        assert_eq!((fixture.due_uids(), fixture.stored_and_copied()), (vec![1, 2], [0, 0, 0]));
        fixture.commit(&[2]);
        fixture.commit(&[1]);
        assert_eq!(fixture.stored_and_copied(), [2, 1, 1]);
        let fixture = fixture.restarted();
        assert_eq!((fixture.check_stored_files(), fixture.message_files().len()), (1, 1));
    }
}

#[test]
fn a_copy_of_a_document_without_a_path_is_stored_itself() {
    let mut fixture = StoreFixture::with_messages(b"aab");
    fixture.commit(&[3]);
    let folder = fixture.store.ledger.open_session().unwrap().unwrap().folder.unwrap();
    let ListedDocument { item, document, .. } = listed_document(1);
    let path = Path::new("/downloads").join(folder);
    let extension = FileExtension::default();
    let path = path.join(document_path(&item, &document, FIRST_VERSION, &extension));
    // A file where the folder of the first message should be.
    drop(fixture.disk.create_file(path.parent().unwrap()).unwrap());

    fixture.commit(&[1, 2]);

    assert_eq!((fixture.due_uids(), fixture.counts().quarantined), (vec![2], 1));
    fixture.commit(&[2]);
    assert_eq!((fixture.due_uids(), fixture.counts().quarantined), (vec![], 1));
    assert_eq!(fixture.stored_and_copied(), [2, 2, 0]);
    fixture.check_stored_files();
}

#[test]
fn documents_with_content_ids_are_not_compared() {
    let mut fixture = StoreFixture::new(b"aa");
    let page = [1, 2].map(|uid| ListedDocument {
        document: DocumentId::new(format!("em:{uid}")),
        blob: BlobId::new(format!("em:{uid}")),
        ..listed_document(uid)
    });
    fixture.record_page(&page);

    fixture.commit(&[1, 2]);

    assert_eq!(fixture.stored_and_copied(), [2, 2, 0]);
    assert_eq!(fixture.message_files().len(), 2);
}

/// Returns the number of lines of the manifest that contain a text.
fn count_in_manifest(fixture: &StoreFixture, text: &str) -> usize {
    let files = fixture.disk.files();
    let manifest = files.iter().find(|(path, _)| path.ends_with("manifest.jsonl")).unwrap().1;
    String::from_utf8_lossy(manifest).lines().filter(|line| line.contains(text)).count()
}

#[test]
fn the_manifest_has_the_folders_of_the_fetch_or_the_listing() {
    let mut fixture = StoreFixture::new(b"abc");
    let page = [1, 2, 3].map(|uid| ListedDocument {
        folders: if uid == 3 { Vec::new() } else { vec!["Work".to_owned(), "Inbox".to_owned()] },
        ..listed_document(uid)
    });
    fixture.record_page(&page);
    let mut batch = fixture.fetch(&[1]);
    for outcome in &mut batch.outcomes {
        if let DownloadOutcome::Stored { document, folders, .. } = outcome {
            folders.push("Sent".to_owned());
            let fetched = FetchedContent { document: *document, identity: None };
            let known = fixture.store.ledger.document_facts(&[fetched]).unwrap();
            assert_eq!(known[0].folders, ["Inbox", "Work"]);
        }
    }

    fixture.write_batch(batch);
    fixture.record();
    fixture.commit(&[2, 3]);

    assert_eq!(count_in_manifest(&fixture, r#""folders":["Sent"]"#), 1);
    assert_eq!(count_in_manifest(&fixture, r#""folders":["Inbox","Work"]"#), 1);
    assert_eq!(count_in_manifest(&fixture, r#""folders":"#), 2);
}

#[derive(Clone, Debug)]
enum BatchOperation {
    List(Vec<u32>),
    /// Writes a batch of messages. At most two batches are in flight.
    Write(Vec<u32>),
    Record,
    Lose,
    PublishAndLose,
    /// The source no longer has a message.
    Remove(u32),
    Restart,
}

fn batch_operations() -> impl Strategy<Value = Vec<BatchOperation>> {
    let uids = || prop::collection::vec(1..=MESSAGES, 1..5);
    let operation = prop_oneof![
        3 => uids().prop_map(BatchOperation::List),
        4 => uids().prop_map(BatchOperation::Write),
        4 => Just(BatchOperation::Record),
        1 => Just(BatchOperation::Lose),
        1 => Just(BatchOperation::PublishAndLose),
        1 => (1..=MESSAGES).prop_map(BatchOperation::Remove),
        1 => Just(BatchOperation::Restart),
    ];
    prop::collection::vec(operation, 1..30)
}

impl StoreFixture {
    fn after(mut self, operation: &BatchOperation) -> Self {
        match operation {
            BatchOperation::List(uids) => self.list(uids),
            BatchOperation::Write(uids) => {
                if self.written.len() == 2 {
                    self.record();
                }
                self.write(uids);
            }
            BatchOperation::Record => self.record(),
            BatchOperation::Lose => drop(self.written.pop_front()),
            BatchOperation::PublishAndLose => self.publish_and_lose(),
            BatchOperation::Remove(uid) => self.remove(*uid),
            BatchOperation::Restart => return self.restarted(),
        }
        self
    }

    /// Records that a message is gone, unless it may be in a batch in flight.
    fn remove(&mut self, uid: u32) {
        if !self.written.is_empty() {
            return;
        }
        let mut batch = CommitBatch::default();
        for due in self.due_items() {
            let DocumentRow { row_id, blob, locations, .. } = only_document(&due).clone();
            if locations[0].uid == uid {
                let gone = DownloadOutcome::Gone {
                    document: row_id,
                    expected_blob: blob,
                    tried_locations: locations,
                };
                batch.push(gone, NOW);
            }
        }
        self.write_batch(batch);
        self.record();
    }
}

proptest! {
    #[test]
    fn every_content_has_one_file_and_every_message_is_settled(
        contents in prop::collection::vec(0..3_u8, 8),
        operations in batch_operations(),
    ) {
        let mut fixture = StoreFixture::new(&contents);
        for operation in &operations {
            fixture = fixture.after(operation);
            fixture.check_stored_files();
        }

        fixture = fixture.restarted();
        let due = fixture.due_uids();
        fixture.commit(&due);
        prop_assert_eq!(fixture.due_uids(), Vec::<u32>::new(), "one more fetch settles all");
        fixture.store.ledger.record_page(&[], &[], &NextPage::Done(None), NOW).unwrap();
        fixture.store.finish_session(&SessionId::new("session_1"), NOW).unwrap();

        let SessionCounts { listed, stored, gone, quarantined, .. } = fixture.counts();
        prop_assert_eq!(listed, stored + gone + quarantined);
        let fixture = fixture.restarted();
        let files = fixture.check_stored_files();
        prop_assert_eq!(fixture.message_files().len(), files, "no other files are left");
    }
}
