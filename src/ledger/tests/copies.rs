//! Documents with equal bytes, of which only one has a file.

use super::*;

pub(in crate::ledger) const HASH: [u8; 32] = [7; 32];
pub(in crate::ledger) const LENGTH: u64 = 4;

/// Returns the id of a document that only its location identifies: message `uid` of a folder.
pub(in crate::ledger) fn document_id(uid: u32) -> String {
    location("INBOX", 1, uid).to_blob().to_string()
}

/// Returns the entries of documents that only their locations identify.
pub(in crate::ledger) fn listed_by_location(uids: &[u32]) -> Vec<ListedDocument> {
    let entries = uids.iter().map(|uid| {
        let id = document_id(*uid);
        let entry =
            ListedDocument::new(ItemId::new(&*id), DocumentId::new(&*id), BlobId::new(&*id));
        ListedDocument { location: Some(location("INBOX", 1, *uid)), ..entry }
    });
    entries.collect()
}

fn ledger_with_documents(uids: &[u32]) -> Box<dyn Ledger> {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_entries(&mut *ledger, &listed_by_location(uids));
    ledger
}

fn stored(ledger: &dyn Ledger, uid: u32) -> LedgerUpdate {
    stored_update(&find_due(ledger, &document_id(uid)))
}

fn copied(ledger: &dyn Ledger, uid: u32) -> LedgerUpdate {
    let pending = find_due(ledger, &document_id(uid));
    LedgerUpdate::Copied {
        document: pending.row_id,
        expected_blob: pending.blob.clone(),
        fetched_blob: pending.blob,
        size: None,
        length: LENGTH,
        sha256: HASH,
        folders: Vec::new(),
    }
}

fn file_of(ledger: &dyn Ledger, uid: u32) -> Option<String> {
    let (item, document) = (ItemId::new(document_id(uid)), DocumentId::new(document_id(uid)));
    ledger.stored_file(&item, &document).unwrap().map(|stored| stored.file)
}

/// True if a document with these bytes is stored and in the index.
fn has_content(ledger: &dyn Ledger, sha256: [u8; 32], length: u64) -> bool {
    let fetched = FetchedContent { document: DocumentRowId(0), identity: Some((sha256, length)) };
    ledger.document_facts(&[fetched]).unwrap()[0].is_content_stored
}

/// Returns the session's counts of documents, bytes and copies.
fn content_counts(ledger: &dyn Ledger) -> [u64; 3] {
    let SessionCounts { documents, bytes, copies, .. } = ledger.session_counts().unwrap();
    [documents, bytes, copies]
}

#[test]
fn a_copy_names_the_file_of_the_first_document() {
    let mut ledger = ledger_with_documents(&[1, 2, 3]);
    assert!(!has_content(&*ledger, HASH, LENGTH));
    let updates = [stored(&*ledger, 1), copied(&*ledger, 2)];

    commit_updates(&mut *ledger, &updates);
    commit_updates(&mut *ledger, &updates);
    let later = copied(&*ledger, 3);
    commit_updates(&mut *ledger, &[later]);

    assert_eq!((counts(&*ledger), content_counts(&*ledger)), ([3, 3, 0, 0], [1, LENGTH, 2]));
    assert_eq!(ledger.session_counts().unwrap().fetched_bytes(), 3 * LENGTH);
    let file = file_of(&*ledger, 1);
    assert!(file.is_some() && file_of(&*ledger, 2) == file && file_of(&*ledger, 3) == file);
    assert!(has_content(&*ledger, HASH, LENGTH));
    assert!(!has_content(&*ledger, HASH, LENGTH + 1), "another length");
    assert!(!has_content(&*ledger, [8; 32], LENGTH), "another hash");
}

#[test]
fn a_copy_of_an_unstored_document_stays_pending() {
    let mut ledger = ledger_with_documents(&[1, 2]);
    let failure = Failure::new(Cause::Storage, "a folder is in the way");
    let failed = LedgerUpdate::Failed { document: due_row_id(&*ledger, &document_id(1)), failure };
    let updates = [failed, copied(&*ledger, 2)];

    commit_updates(&mut *ledger, &updates);

    assert_eq!((counts(&*ledger), content_counts(&*ledger)), ([2, 0, 0, 1], [0, 0, 0]));
    assert_eq!(due_items(&*ledger, NOW).len(), 1, "it is due at once");
    let second = stored(&*ledger, 2);
    commit_updates(&mut *ledger, &[second]);
    assert_eq!(counts(&*ledger), [2, 1, 0, 1]);
}

#[test]
fn a_damaged_file_is_no_longer_copied() {
    let mut ledger = ledger_with_documents(&[1, 2, 3]);
    let updates = [stored(&*ledger, 1), copied(&*ledger, 2)];
    commit_updates(&mut *ledger, &updates);

    for stored_file in ledger.stored_files(None, 10).unwrap() {
        let FileRowId::Current(document) = stored_file.row_id else { panic!("{stored_file:?}") };
        assert!(ledger.requeue_damaged(document, "missing", NOW).unwrap());
        assert!(!has_content(&*ledger, HASH, LENGTH));
    }

    assert_eq!(counts(&*ledger), [3, 0, 0, 2], "each document of the file is requeued");
    let third = copied(&*ledger, 3);
    commit_updates(&mut *ledger, &[third]);
    assert_eq!(file_of(&*ledger, 3), None);
    let third = stored(&*ledger, 3);
    commit_updates(&mut *ledger, &[third]);
    end_listing(&mut *ledger);
    ledger.complete_session(&SessionId::new("session_1"), NOW).unwrap();
    begin_session(&mut *ledger, "session_2", SessionKind::Recheck, NOW);
    let updates = [copied(&*ledger, 1), copied(&*ledger, 2)];
    commit_updates(&mut *ledger, &updates);
    assert_eq!((counts(&*ledger), content_counts(&*ledger)), ([2, 2, 0, 0], [0, 0, 2]));
    assert_eq!(file_of(&*ledger, 1), file_of(&*ledger, 3));
}

#[test]
fn documents_with_content_ids_are_not_indexed() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_page(&mut *ledger, &["a/1"]);
    store_documents(&mut *ledger, &["1"]);

    assert!(!has_content(&*ledger, HASH, LENGTH));
}

#[test]
fn adopted_documents_are_indexed_by_their_locations() {
    let mut ledger = LedgerHome::new().open();
    let adopted = |id: &str, blob: &str, sha256| AdoptedDocument {
        item: ItemId::new(id),
        document: DocumentId::new(id),
        blob: Some(BlobId::new(blob)),
        size: None,
        length: LENGTH,
        sha256,
        file: format!("{id}/{id}.eml"),
        labels: Vec::new(),
        folders: Vec::new(),
    };
    let documents = [
        adopted(&document_id(1), &document_id(1), HASH),
        adopted("em:M2", "em:M2", [8; 32]),
        adopted("M3", &document_id(3), [9; 32]),
    ];

    ledger.adopt_folder("folder", NOW, &documents).unwrap();

    let indexed = [HASH, [8; 32], [9; 32]].map(|hash| has_content(&*ledger, hash, LENGTH));
    assert_eq!(indexed, [true, false, false]);
    let known = ledger.known_good_documents(3).unwrap();
    let located: Vec<_> = known.iter().filter(|document| !document.locations.is_empty()).collect();
    assert_eq!(located.len(), 1);
    assert_eq!(located[0].locations, [location("INBOX", 1, 1)]);
}

#[test]
fn a_document_adopted_without_its_blob_is_known_by_its_id() {
    let mut ledger = LedgerHome::new().open();
    let adopted = |id: &str| AdoptedDocument {
        item: ItemId::new("thread:T1"),
        document: DocumentId::new(id),
        blob: None,
        size: None,
        length: LENGTH,
        sha256: HASH,
        file: format!("{id}.eml"),
        labels: Vec::new(),
        folders: Vec::new(),
    };
    ledger.adopt_folder("folder", NOW, &[adopted("em:M1"), adopted("E2")]).unwrap();
    begin_session(&mut *ledger, "session_2", SessionKind::Full, NOW);
    let entry = |id: &str, blob: &str| {
        let item = ItemId::new("thread:T1");
        ListedDocument::new(item, DocumentId::new(id), BlobId::new(blob))
    };

    record_entries(&mut *ledger, &[entry("em:M1", "em:M1"), entry("E2", "B2")]);

    let due = due_items(&*ledger, NOW);
    assert_eq!(describe_items(&due), ["thread:T1: E2"], "its blob shows nothing without a size");
}
