//! Tests of the decisions, without a database.

use std::time::Duration;

use cynosure_engine::{
    BlobId, Cause, DocumentId, DocumentLocation, Failure, ItemFailureCounts, ItemId,
    ListedDocument, NextPage, PageToken, RecheckPolicy, RecordedResponse, Timestamp,
    VanishedMessages,
};

use super::*;
use crate::ledger::postgres::records::{
    ContentRecord, CounterRecord, DocumentCountRecord, LoadedRows, LocationRecord, ProgressRecord,
    SessionRecord, SourceRecord, SupersededRecord, WriteSet,
};
use crate::ledger::{AdoptedDocument, DocumentRowId, ItemRowId, LedgerUpdate, PageCounts};

const NOW: Timestamp = Timestamp(1_772_874_303_456);
const RECHECK: RecheckPolicy =
    RecheckPolicy { interval: Duration::from_secs(60), max_interval: Duration::from_secs(60) };
const HASH: [u8; 32] = [7; 32];
const SESSION: i64 = 3;

fn no_rows() -> LoadedRows {
    LoadedRows {
        source: Some(SourceRecord {
            cursor: None,
            reconciled_at: None,
            lists_contents: false,
            next_item: 1,
            next_document: 1,
            revision: 7,
        }),
        session: Some(SessionRecord {
            no: SESSION,
            id: "session_3".to_owned(),
            kind: 0,
            listing: 0,
            started: NOW.0,
            completed: None,
            folder: Some("folder".to_owned()),
            start_cursor: Some("pinned".to_owned()),
            page_token: None,
            is_listed: false,
            counts: CounterRecord::default(),
        }),
        ..LoadedRows::default()
    }
}

/// Returns the rows that a write set leaves in an empty ledger, as the next change loads them.
fn written(changes: &WriteSet) -> LoadedRows {
    let mut rows = no_rows();
    rows.source = changes.source.clone().or(rows.source);
    rows.items.clone_from(&changes.items);
    rows.items.iter_mut().for_each(|row| row.version += 1);
    rows.documents.clone_from(&changes.documents);
    rows.documents.iter_mut().for_each(|row| row.version += 1);
    rows.stored = rows.documents.iter().filter(|row| row.status == 1).cloned().collect();
    rows.locations.clone_from(&changes.locations);
    rows.with_content = changes.contents.iter().map(|content| content.document).collect();
    rows
}

/// Returns the entry of document `document` of item `item`, of four bytes.
fn entry(item: &str, document: &str, blob: &str) -> ListedDocument {
    let (item, document) = (ItemId::new(item), DocumentId::new(document));
    ListedDocument { size: Some(4), ..ListedDocument::new(item, document, BlobId::new(blob)) }
}

fn place(folder: &str, uid_validity: u32, uid: u32) -> DocumentLocation {
    DocumentLocation { folder: folder.to_owned(), uid_validity, uid }
}

fn entry_at(location: DocumentLocation) -> ListedDocument {
    ListedDocument { location: Some(location), ..entry("a", "1", "x") }
}

fn more() -> NextPage {
    NextPage::More(PageToken::new("more"))
}

fn list(rows: LoadedRows, entries: &[ListedDocument]) -> (WriteSet, PageCounts) {
    record_page(rows, entries, &[], &more(), NOW).unwrap()
}

fn update(rows: LoadedRows, updates: &[LedgerUpdate]) -> WriteSet {
    commit(rows, updates, RECHECK, NOW).unwrap()
}

fn stored(document: i64, blob: &str, file: &str) -> LedgerUpdate {
    LedgerUpdate::Stored {
        document: DocumentRowId(document),
        expected_blob: BlobId::new(blob),
        fetched_blob: BlobId::new(blob),
        size: Some(4),
        file: file.to_owned(),
        length: 4,
        sha256: HASH,
        is_identified_by_location: true,
        folders: Vec::new(),
    }
}

fn copied(document: i64, blob: &str) -> LedgerUpdate {
    LedgerUpdate::Copied {
        document: DocumentRowId(document),
        expected_blob: BlobId::new(blob),
        fetched_blob: BlobId::new(blob),
        size: None,
        length: 4,
        sha256: HASH,
        folders: Vec::new(),
    }
}

fn gone(document: i64, blob: &str, tried_locations: Vec<DocumentLocation>) -> LedgerUpdate {
    let expected_blob = BlobId::new(blob);
    LedgerUpdate::Gone { document: DocumentRowId(document), expected_blob, tried_locations }
}

fn failure(body: &str) -> Failure {
    let response = RecordedResponse {
        status: 503,
        headers: vec![("retry-after".to_owned(), "1".to_owned())],
        body: body.to_owned(),
        is_truncated: false,
    };
    Failure::new(Cause::Server, "503").with_response(response)
}

fn folders(locations: &[LocationRecord]) -> Vec<(i64, &str, i64, i64)> {
    let mut found = Vec::new();
    for LocationRecord { document, folder, uid_validity, uid } in locations {
        found.push((*document, folder.as_str(), *uid_validity, *uid));
    }
    found
}

#[test]
fn a_page_adds_its_items_and_documents_in_order() {
    let entries = [entry("b", "1", "x"), entry("b", "2", "y"), entry("a", "1", "z")];

    let (changes, counts) = list(no_rows(), &entries);

    assert_eq!(counts, PageCounts { new_items: 2, new_documents: 3 });
    let items: Vec<_> = changes.items.iter().map(|row| (row.no, &*row.id, row.session)).collect();
    assert_eq!(items, [(1, "b", SESSION), (2, "a", SESSION)]);
    let documents: Vec<_> =
        changes.documents.iter().map(|row| (row.no, row.item, &*row.id, row.status)).collect();
    assert_eq!(documents, [(1, 1, "1", 0), (2, 1, "2", 0), (3, 2, "1", 0)]);
    let source = changes.source.unwrap();
    assert_eq!((source.next_item, source.next_document), (3, 4));
    assert_eq!((changes.counters.listed, changes.counters.expected_bytes), (2, 12));
    let progress = ProgressRecord { page_token: Some("more".to_owned()), is_listed: false };
    assert_eq!((changes.session, changes.progress), (Some(SESSION), Some(progress)));
}

#[test]
fn a_repeated_page_writes_its_progress_only() {
    let entries = [entry("a", "1", "x"), entry_at(place("INBOX", 7, 1)), entry("b", "2", "y")];
    let (changes, _) = list(no_rows(), &entries);

    let (repeated, counts) = list(written(&changes), &entries);

    assert_eq!(counts, PageCounts::default());
    let progress = repeated.progress.clone();
    let session = Some(SESSION);
    assert_eq!(repeated, WriteSet { session, progress, ..WriteSet::default() });
}

#[test]
fn the_last_page_moves_the_cursor() {
    let (changes, _) = record_page(no_rows(), &[], &[], &NextPage::Done(None), NOW).unwrap();

    let source = changes.source.unwrap();
    assert_eq!(source.cursor.as_deref(), Some("pinned"));
    assert_eq!(source.reconciled_at, Some(NOW.0));
    assert_eq!(changes.progress, Some(ProgressRecord { page_token: None, is_listed: true }));
}

#[test]
fn a_page_needs_an_open_session_and_listing() {
    let mut rows = no_rows();
    rows.session.as_mut().unwrap().is_listed = true;
    let refused = record_page(rows, &[], &[], &more(), NOW).unwrap_err();
    assert_eq!(refused, "the listing of the session is complete");

    let mut rows = no_rows();
    rows.session.as_mut().unwrap().completed = Some(NOW.0);
    assert_eq!(record_page(rows, &[], &[], &more(), NOW).unwrap_err(), "no session is open");
    assert_eq!(commit(LoadedRows::default(), &[], RECHECK, NOW).unwrap_err(), "no session is open");
}

#[test]
fn an_empty_batch_changes_nothing() {
    assert_eq!(update(no_rows(), &[]), WriteSet::default());
}

#[test]
fn nothing_is_stored_without_a_folder() {
    let (changes, _) = list(no_rows(), &[entry("a", "1", "x")]);
    let mut rows = written(&changes);
    rows.session.as_mut().unwrap().folder = None;

    let refused = commit(rows, &[stored(1, "x", "a/1.eml")], RECHECK, NOW).unwrap_err();

    assert_eq!(refused, "the session has no folder yet");
}

#[test]
fn a_new_numbering_voids_others_of_the_same_page() {
    let page = [place("INBOX", 1, 7), place("Archive", 1, 2), place("INBOX", 2, 3)];

    let (changes, counts) = list(no_rows(), &page.clone().map(entry_at));
    assert_eq!(counts, PageCounts { new_items: 1, new_documents: 1 });
    let expected = [(1, "INBOX", 2, 3), (1, "Archive", 1, 2)];
    assert_eq!(folders(&changes.locations), expected, "by the first mention of their folders");
    assert_eq!(changes.renumbered, [], "the document is new");

    let (renumbered, _) = list(written(&changes), &[entry_at(page[0].clone())]);
    assert_eq!(folders(&renumbered.locations), [(1, "INBOX", 1, 7)]);
    assert_eq!(folders(&renumbered.renumbered), [(1, "INBOX", 1, 0)]);
}

#[test]
fn folders_without_numbers_are_replaced() {
    let with_folders = |folders: &[&str]| ListedDocument {
        folders: folders.iter().map(|&folder| folder.to_owned()).collect(),
        ..entry("a", "1", "x")
    };
    let (changes, _) = list(no_rows(), &[with_folders(&["Work", "Inbox"])]);
    assert_eq!(folders(&changes.locations), [(1, "Inbox", 0, 0), (1, "Work", 0, 0)]);

    let page = [with_folders(&["Work", "Old", ""]), with_folders(&[])];
    let (changes, _) = list(written(&changes), &page);

    assert_eq!(folders(&changes.locations), [(1, "Old", 0, 0)]);
    assert_eq!(folders(&changes.locations_deleted), [(1, "Inbox", 0, 0)]);
}

#[test]
fn vanished_messages_keep_their_order() {
    let uids = vec![5..=9, 1..=2];
    let vanished = VanishedMessages { folder: "INBOX".to_owned(), uid_validity: 7, uids };

    let (changes, _) = record_page(no_rows(), &[], &[vanished], &more(), NOW).unwrap();

    let ranges: Vec<_> = changes.vanished.iter().map(|range| (range.first, range.last)).collect();
    assert_eq!(ranges, [(5, 9), (1, 2)]);
}

#[test]
fn a_new_content_replaces_the_listed_one() {
    let with_content = |blob: &str| {
        let content = Some(format!("content {blob}"));
        ListedDocument { content, ..entry("a", "1", blob) }
    };
    let (changes, _) = list(no_rows(), &[with_content("x")]);
    assert!(changes.source.as_ref().unwrap().lists_contents);

    let (replaced, _) = list(written(&changes), &[with_content("y")]);

    assert_eq!((replaced.contents.len(), replaced.contents_deleted.len()), (1, 0));
    assert_eq!(replaced.contents[0].content, "content y");
    let settled = update(written(&changes), &[stored(1, "x", "a/1.eml")]);
    assert_eq!((settled.contents.len(), settled.contents_deleted), (0, vec![1]));
}

#[test]
fn stored_content_is_shared_and_restored() {
    let (listed, _) = list(no_rows(), &[entry("a", "1", "x")]);
    let mut rows = written(&listed);
    let source = rows.source.clone();
    let changes = update(rows, &[stored(1, "x", "a/1.eml")]);
    assert_eq!((changes.items[0].status, changes.counters.stored), (1, 1));

    rows = LoadedRows { source, ..written(&changes) };
    let (changes, counts) = list(rows, &[entry("b", "2", "x"), entry("a", "1", "y")]);
    assert_eq!(counts, PageCounts { new_items: 1, new_documents: 1 });
    let copy = &changes.documents[1];
    assert_eq!((copy.status, copy.file.as_deref()), (1, Some("a/1.eml")));
    assert_eq!((changes.superseded.len(), changes.documents[0].status), (1, 0));
    let counters = changes.counters;
    assert_eq!((counters.copies, counters.versions, counters.stored), (1, 1, 0));

    rows = written(&changes);
    rows.superseded = changes.superseded;
    rows.superseded[0].no = Some(9);
    let (changes, _) = list(rows, &[entry("a", "1", "x")]);
    assert_eq!((changes.superseded_deleted, changes.documents[0].status), (vec![9], 1));
    assert_eq!(changes.documents[0].file.as_deref(), Some("a/1.eml"));
}

#[test]
fn a_late_file_is_kept_once() {
    let (listed, _) = list(no_rows(), &[entry("a", "1", "y")]);
    let late = stored(1, "x", "a/1.eml");

    let changes = update(written(&listed), &[late.clone(), late.clone()]);

    assert_eq!((changes.superseded.len(), changes.counters.versions), (1, 1));
    assert_eq!((changes.documents[0].status, changes.documents[0].version), (0, 1));
    assert_eq!(changes.items, []);
    let mut rows = written(&listed);
    rows.superseded = vec![SupersededRecord {
        no: Some(1),
        document: 1,
        blob: "x".to_owned(),
        size: Some(4),
        content: ContentRecord {
            session: SESSION,
            file: "a/1.eml".to_owned(),
            length: 4,
            sha256: "07".repeat(32),
        },
        at: NOW.0,
    }];
    assert_eq!(update(rows, &[late]), WriteSet::default());
}

#[test]
fn a_copy_may_follow_its_original_in_a_batch() {
    let (listed, _) = list(no_rows(), &[entry("a", "1", "x"), entry("b", "2", "y")]);

    let early = update(written(&listed), &[copied(2, "y")]);
    let changes = update(written(&listed), &[stored(1, "x", "a/1.eml"), copied(2, "y")]);

    assert_eq!(early, WriteSet::default());
    assert_eq!(changes.documents[1].file.as_deref(), Some("a/1.eml"));
    let counters = changes.counters;
    assert_eq!((counters.documents, counters.copies, counters.copied_bytes), (1, 1, 4));
    assert_eq!((changes.indexed.len(), &*changes.indexed[0].sha256), (1, &*"07".repeat(32)));
}

#[test]
fn a_document_is_gone_once_all_its_locations_were_tried() {
    let places = [place("INBOX", 1, 7), place("Work", 1, 2)];
    let (listed, _) = list(no_rows(), &places.clone().map(entry_at));
    let first = gone(1, "x", vec![places[0].clone()]);
    let second = gone(1, "x", vec![places[1].clone()]);

    let changes = update(written(&listed), std::slice::from_ref(&first));
    assert_eq!(folders(&changes.locations_deleted), [(1, "INBOX", 1, 7)]);
    assert_eq!(changes.documents, []);

    let changes = update(written(&listed), &[first, second]);
    assert_eq!((changes.documents[0].status, changes.documents[0].session), (2, Some(SESSION)));
    assert_eq!((changes.items[0].status, changes.counters.gone), (2, 1));
    let message = changes.items[0].message.as_deref();
    assert_eq!(message, Some("the source no longer has 1 of 1 documents"));
}

#[test]
fn documents_that_are_not_loaded_count() {
    let (listed, _) = list(no_rows(), &[entry("a", "1", "x")]);
    let with_others = |status| {
        let mut rows = written(&listed);
        let count = |status, number| DocumentCountRecord { item: 1, status, number };
        rows.document_counts = match status {
            0 => vec![count(0, 2)],
            other => vec![count(0, 1), count(other, 1)],
        };
        update(rows, &[stored(1, "x", "a/1.eml")])
    };

    assert_eq!(with_others(0).items, []);
    let quarantined = with_others(3);
    assert_eq!((quarantined.items[0].status, quarantined.items[0].quarantines), (3, 1));
    assert_eq!(quarantined.items[0].next_at, NOW.0 + 60_000);
    assert_eq!(with_others(1).items[0].status, 1);
}

#[test]
fn an_item_has_one_response_and_its_last_counts() {
    let (listed, _) = list(no_rows(), &[entry("a", "1", "x")]);
    let retry = |attempts, body| LedgerUpdate::Retry {
        item: ItemRowId(1),
        failure_counts: ItemFailureCounts { failed_attempts: attempts, ..Default::default() },
        next_attempt_at: Timestamp(0),
        failure: failure(body),
    };
    let quarantined = LedgerUpdate::Quarantined { item: ItemRowId(1), failure: failure("last") };

    let changes = update(written(&listed), &[retry(1, "a"), retry(2, "b"), quarantined]);

    assert_eq!((changes.items[0].attempts, changes.items[0].status), (3, 3));
    assert_eq!((changes.trials.len(), changes.counters.quarantined), (1, 1));
    assert_eq!((changes.responses.len(), &*changes.responses[0].body), (1, "last"));
    assert_eq!(changes.responses[0].headers, r#"[["retry-after","1"]]"#);
    let unknown = LedgerUpdate::Quarantined { item: ItemRowId(2), failure: failure("") };
    let refused = commit(written(&listed), &[unknown], RECHECK, NOW).unwrap_err();
    assert_eq!(refused, "there is no item 2");
}

#[test]
fn keys_of_a_batch_are_sorted_and_distinct() {
    let quarantined = LedgerUpdate::Quarantined { item: ItemRowId(5), failure: failure("") };
    let updates = [
        gone(4, "x", Vec::new()),
        stored(2, "y", "a/1.eml"),
        copied(3, "z"),
        copied(3, "z"),
        quarantined,
    ];

    let keys = batch_keys(&updates);

    let hashes = vec!["07".repeat(32)];
    assert_eq!(keys, BatchKeys { documents: vec![2, 3, 4], items: vec![5], hashes, gone: vec![4] });
}

#[test]
fn adopted_documents_are_stored_and_indexed_by_location() {
    let adopted = |document: &str, sha256| AdoptedDocument {
        item: ItemId::new("a"),
        document: DocumentId::new(document),
        blob: Some(BlobId::new("INBOX;1;2")),
        size: None,
        length: 4,
        sha256,
        file: format!("a/{document}.eml"),
        labels: vec![("subject".to_owned(), "ü".repeat(2_000))],
        folders: Vec::new(),
    };
    let documents = [adopted("INBOX;1;2", HASH), adopted("2", HASH)];
    assert_eq!(adoption_entries(&documents)[0]["uid"], 2);

    let (changes, counts) = adopt_documents(no_rows(), 8, NOW, &documents);

    assert_eq!((counts.documents, counts.versions, counts.copies), (2, 0, 0));
    assert_eq!((changes.session, changes.counters), (None, CounterRecord::default()));
    let item = &changes.items[0];
    assert_eq!((item.status, item.settled_at, item.session), (1, Some(NOW.0), 8));
    assert_eq!((changes.indexed.len(), changes.indexed[0].document), (1, 1));
    assert_eq!(folders(&changes.locations), [(1, "INBOX", 1, 2)]);
    assert_eq!(changes.labels[0].value, "ü".repeat(512));
    let later = [adopted("INBOX;1;2", HASH), adopted("2", [8; 32])];
    let (changes, counts) = adopt_documents(written(&changes), 9, NOW, &later);
    assert_eq!((counts.documents, counts.versions, counts.copies), (0, 1, 1));
    assert_eq!((changes.superseded.len(), changes.documents.len()), (1, 1));
}

#[test]
fn the_character_0_is_replaced_where_rows_are_found() {
    let zero =
        ListedDocument { location: Some(place("IN\0BOX", 1, 1)), ..entry("a\0", "1\0", "x\0") };
    let key = page_entries(std::slice::from_ref(&zero));
    assert_eq!(key[0]["item"], "a\u{fffd}");
    assert_eq!(key[0]["folder"], "IN\u{fffd}BOX");

    let (changes, _) = list(no_rows(), std::slice::from_ref(&zero));

    let (repeated, counts) = list(written(&changes), &[zero]);
    assert_eq!((counts, repeated.documents), (PageCounts::default(), vec![]));
}
