//! Tests of a ledger, from the first page of a session to its end. Each implementation includes them,
//! and provides a `LedgerHome`, which opens its ledger.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use cynosure_engine::{
    BlobId, Cause, Cursor, DocumentId, DocumentLocation, Failure, ItemFailureCounts, ItemId,
    ListedDocument, NextPage, PageToken, RecheckPolicy, SessionId, Timestamp,
};

pub(super) mod copies;
pub(super) mod due;
mod expected_bytes;
pub(super) mod failures;
pub(super) mod folders;
mod labels;
pub(super) mod listed_contents;
pub(super) mod locations;
mod missing;
mod versions;

pub(super) const NOW: Timestamp = Timestamp(1_772_874_303_456);
pub(super) const LATER: Timestamp = Timestamp(NOW.0 + 86_400_000);
pub(super) const DAY: Duration = Duration::from_secs(86_400);
const DAILY_RECHECK: RecheckPolicy = RecheckPolicy { interval: DAY, max_interval: DAY };

pub(super) fn ledger_with_session(kind: SessionKind) -> Box<dyn Ledger> {
    let mut ledger = LedgerHome::new().open();
    begin_session(&mut *ledger, "session_1", kind, NOW);
    ledger
}

pub(super) fn begin_session(
    ledger: &mut dyn Ledger,
    id: &str,
    kind: SessionKind,
    started: Timestamp,
) {
    let start_cursor = (kind == SessionKind::Full).then(|| Cursor::new("pinned"));
    ledger
        .begin_session(&NewSession {
            id: SessionId::new(id),
            kind,
            started_at: started,
            start_cursor,
        })
        .unwrap();
    ledger.set_session_folder("folder").unwrap();
}

/// Parses entries: `"t/m"` is message `m` of thread `t`; its blob is `m` too, or the text after a
/// `=`. Its size is 4, or the number after a `:`; `:` without a number means no size.
pub(super) fn listing_entries(names: &[&str]) -> Vec<ListedDocument> {
    let parse = |name: &&str| {
        let (item, document) = name.split_once('/').unwrap();
        let (document, size) = document.split_once(':').unwrap_or((document, "4"));
        let (document, blob) = document.split_once('=').unwrap_or((document, document));
        let (item, document) = (ItemId::new(item), DocumentId::new(document));
        let entry = ListedDocument::new(item, document, BlobId::new(blob));
        ListedDocument { size: size.parse().ok(), ..entry }
    };
    names.iter().map(parse).collect()
}

pub(super) fn record_page(ledger: &mut dyn Ledger, names: &[&str]) -> PageCounts {
    record_entries(ledger, &listing_entries(names))
}

pub(super) fn record_entries(ledger: &mut dyn Ledger, entries: &[ListedDocument]) -> PageCounts {
    ledger.record_page(entries, &[], &NextPage::More(PageToken::new("more")), NOW).unwrap()
}

pub(super) fn location(folder: &str, uid_validity: u32, uid: u32) -> DocumentLocation {
    DocumentLocation { folder: folder.to_owned(), uid_validity, uid }
}

pub(super) fn end_listing(ledger: &mut dyn Ledger) {
    ledger.record_page(&[], &[], &NextPage::Done(None), NOW).unwrap();
}

pub(super) fn due_items(ledger: &dyn Ledger, now: Timestamp) -> Vec<DueItem> {
    ledger.due_items(now, DueLimits { untried: 100, retries: 100 }, &BTreeSet::new()).unwrap()
}

pub(super) fn describe_items(items: &[DueItem]) -> Vec<String> {
    let lines = items.iter().map(|due| {
        let documents: Vec<_> = due.documents.iter().map(|pending| pending.id.as_str()).collect();
        format!("{}: {}", due.item, documents.join(" "))
    });
    lines.collect()
}

pub(super) fn find_due(ledger: &dyn Ledger, document: &str) -> DocumentRow {
    let items = due_items(ledger, LATER);
    let mut documents = items.into_iter().flat_map(|due| due.documents);
    documents.find(|pending| pending.id.as_str() == document).unwrap()
}

pub(super) fn due_row_id(ledger: &dyn Ledger, document: &str) -> DocumentRowId {
    find_due(ledger, document).row_id
}

/// Returns the row of a document, whether it is stored or due.
pub(super) fn row_id(ledger: &dyn Ledger, document: &str) -> DocumentRowId {
    let stored = ledger.stored_files(None, 100).unwrap().into_iter();
    let mut stored = stored.filter(|file| file.document.as_str() == document);
    match stored.next().map(|file| file.row_id) {
        Some(FileRowId::Current(row_id)) => row_id,
        Some(FileRowId::Superseded(_)) | None => due_row_id(ledger, document),
    }
}

pub(super) fn facts(ledger: &dyn Ledger, document: DocumentRowId) -> DocumentFacts {
    let fetched = FetchedContent { document, identity: None };
    ledger.document_facts(&[fetched]).unwrap().remove(0)
}

pub(super) fn item_row_id(ledger: &dyn Ledger, id: &str) -> ItemRowId {
    due_items(ledger, LATER).iter().find(|due| due.item.as_str() == id).unwrap().row_id
}

pub(super) fn stored_update(pending: &DocumentRow) -> LedgerUpdate {
    stored_update_as(pending, &format!("t/{}.eml", pending.row_id.0))
}

fn stored_update_as(pending: &DocumentRow, file: &str) -> LedgerUpdate {
    LedgerUpdate::Stored {
        document: pending.row_id,
        expected_blob: pending.blob.clone(),
        fetched_blob: pending.blob.clone(),
        size: pending.size,
        file: file.to_owned(),
        length: pending.size.unwrap_or(4),
        sha256: [7; 32],
        is_identified_by_location: pending.locations.iter().any(|at| at.to_blob() == pending.blob),
        folders: Vec::new(),
    }
}

pub(super) fn gone_update(ledger: &dyn Ledger, document: &str) -> LedgerUpdate {
    let pending = find_due(ledger, document);
    LedgerUpdate::Gone {
        document: pending.row_id,
        expected_blob: pending.blob,
        tried_locations: pending.locations,
    }
}

pub(super) fn commit_updates(ledger: &mut dyn Ledger, updates: &[LedgerUpdate]) {
    ledger.commit(updates, DAILY_RECHECK, NOW).unwrap();
    assert!(ledger.check_counters().unwrap().is_consistent(), "{:?}", ledger.check_counters());
}

pub(super) fn store_documents(ledger: &mut dyn Ledger, documents: &[&str]) {
    let updates: Vec<_> = documents.iter().map(|id| stored_update(&find_due(ledger, id))).collect();
    commit_updates(ledger, &updates);
}

/// Returns the numbers of items: listed, stored, gone, quarantined.
pub(super) fn counts(ledger: &dyn Ledger) -> [u64; 4] {
    let SessionCounts { listed, stored, gone, quarantined, .. } = ledger.session_counts().unwrap();
    [listed, stored, gone, quarantined]
}

#[test]
fn a_session_goes_from_its_first_page_to_its_end() {
    let mut ledger = ledger_with_session(SessionKind::Full);

    assert_eq!(
        record_page(&mut *ledger, &["a/1", "a/2", "b/3"]),
        PageCounts { new_items: 2, new_documents: 3 }
    );
    assert_eq!(ledger.open_session().unwrap().unwrap().page_token, Some(PageToken::new("more")));
    assert_eq!(ledger.cursor().unwrap(), None, "not before the listing is complete");
    end_listing(&mut *ledger);
    assert_eq!(ledger.cursor().unwrap(), Some(Cursor::new("pinned")));
    assert_eq!(describe_items(&due_items(&*ledger, NOW)), ["a: 1 2", "b: 3"]);

    store_documents(&mut *ledger, &["1"]);
    assert_eq!(counts(&*ledger), [2, 0, 0, 0], "half an item is not stored");
    assert_eq!(describe_items(&due_items(&*ledger, NOW)), ["a: 2", "b: 3"]);
    store_documents(&mut *ledger, &["2", "3"]);

    let id = SessionId::new("session_1");
    let total = ledger.complete_session(&id, NOW).unwrap();
    assert_eq!((total.listed, total.stored, total.documents, total.bytes), (2, 2, 3, 12));
    assert_eq!(ledger.complete_session(&id, NOW).unwrap(), total, "again");
    assert_eq!(ledger.open_session().unwrap(), None);
}

#[test]
fn a_repeated_page_changes_nothing() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_page(&mut *ledger, &["a/1", "b/2"]);
    store_documents(&mut *ledger, &["1"]);

    assert_eq!(record_page(&mut *ledger, &["a/1", "b/2", "b/2"]), PageCounts::default());

    assert_eq!(counts(&*ledger), [2, 1, 0, 0]);
    assert_eq!(describe_items(&due_items(&*ledger, NOW)), ["b: 2"]);
}

#[test]
fn a_stored_item_is_reassigned_only_for_a_new_document() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_page(&mut *ledger, &["a/1", "b/2"]);
    end_listing(&mut *ledger);
    store_documents(&mut *ledger, &["1", "2"]);
    ledger.complete_session(&SessionId::new("session_1"), NOW).unwrap();
    begin_session(&mut *ledger, "session_2", SessionKind::Changes, NOW);

    assert_eq!(
        record_page(&mut *ledger, &["a/1", "b/2", "b/3"]),
        PageCounts { new_items: 1, new_documents: 1 }
    );

    assert_eq!(counts(&*ledger), [1, 0, 0, 0]);
    assert_eq!(describe_items(&due_items(&*ledger, NOW)), ["b: 3"]);
    store_documents(&mut *ledger, &["3"]);
    record_page(&mut *ledger, &["b/4"]);
    assert_eq!(counts(&*ledger), [1, 0, 0, 0], "assigned once, and pending again");
    store_documents(&mut *ledger, &["4"]);
    assert_eq!(counts(&*ledger), [1, 1, 0, 0]);
}

#[test]
fn content_stored_under_another_id_is_not_refetched() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_page(&mut *ledger, &["a/1=x"]);
    store_documents(&mut *ledger, &["1"]);

    record_page(&mut *ledger, &["merged/9=x", "merged/8"]);
    record_page(&mut *ledger, &["other/7=x"]);

    assert_eq!(describe_items(&due_items(&*ledger, NOW)), ["merged: 8"]);
    assert_eq!(counts(&*ledger), [3, 2, 0, 0], "the other one has nothing to fetch");
    let file = |item: &str, document: &str| {
        ledger.stored_file(&ItemId::new(item), &DocumentId::new(document)).unwrap().unwrap().file
    };
    assert_eq!(file("merged", "9"), file("a", "1"));
    assert_eq!(ledger.session_counts().unwrap().documents, 1, "fetched once");
}

#[test]
fn an_item_is_gone_only_when_all_its_documents_are() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_page(&mut *ledger, &["a/1", "b/2", "b/3"]);
    let updates = [
        gone_update(&*ledger, "1"),
        gone_update(&*ledger, "2"),
        stored_update(&find_due(&*ledger, "3")),
    ];
    commit_updates(&mut *ledger, &updates);
    commit_updates(&mut *ledger, &updates);

    assert_eq!(counts(&*ledger), [2, 1, 1, 0]);
    let failures = ledger.failures(FailureFilter::default(), 10).unwrap();
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0].message, "the source no longer has 1 of 1 documents");
}

#[test]
fn a_gone_document_is_refetched_when_listed_again() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_page(&mut *ledger, &["a/1"]);
    let update = gone_update(&*ledger, "1");
    commit_updates(&mut *ledger, &[update]);
    assert_eq!(record_page(&mut *ledger, &["a/1"]), PageCounts::default(), "it stays gone");
    end_listing(&mut *ledger);
    ledger.complete_session(&SessionId::new("session_1"), NOW).unwrap();
    begin_session(&mut *ledger, "session_2", SessionKind::Full, NOW);

    record_page(&mut *ledger, &["a/1"]);

    assert_eq!(describe_items(&due_items(&*ledger, NOW)), ["a: 1"]);
    assert_eq!(counts(&*ledger), [1, 0, 0, 0]);
}

#[test]
fn a_forbidden_document_quarantines_its_item_only() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_page(&mut *ledger, &["a/1", "a/2"]);
    end_listing(&mut *ledger);
    let failed = LedgerUpdate::Failed {
        document: due_row_id(&*ledger, "1"),
        failure: Failure::new(Cause::Forbidden, "403"),
    };

    commit_updates(&mut *ledger, &[failed]);
    assert_eq!(counts(&*ledger), [1, 0, 0, 0], "the other is still to come");
    store_documents(&mut *ledger, &["2"]);

    assert_eq!(counts(&*ledger), [1, 0, 0, 1]);
    assert_eq!(ledger.session_counts().unwrap().documents, 1);
    assert_eq!(ledger.next_recheck_at().unwrap(), Some(LATER));
    ledger.complete_session(&SessionId::new("session_1"), NOW).unwrap();
    begin_session(&mut *ledger, "session_2", SessionKind::Recheck, NOW);
    assert_eq!(counts(&*ledger), [0, 0, 0, 0], "not due yet");
    ledger.complete_session(&SessionId::new("session_2"), NOW).unwrap();
    begin_session(&mut *ledger, "session_3", SessionKind::Recheck, LATER);
    assert_eq!(counts(&*ledger), [1, 0, 0, 0]);
    assert_eq!(describe_items(&due_items(&*ledger, LATER)), ["a: 1"], "only what was refused");
    store_documents(&mut *ledger, &["1"]);
    assert_eq!(counts(&*ledger), [1, 1, 0, 0]);
}

#[test]
fn retries_come_when_due_and_after_untried_items() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_page(&mut *ledger, &["a/1", "b/2", "c/3"]);
    let next_at = Timestamp(NOW.0 + 10_000);
    let (item, failure) = (item_row_id(&*ledger, "b"), Failure::new(Cause::Server, "503"));
    let retried = ItemFailureCounts {
        failed_attempts: 1,
        failed_requests: 3,
        strikes: 2,
        failing_since: Some(NOW),
    };
    let retry =
        LedgerUpdate::Retry { item, failure_counts: retried, next_attempt_at: next_at, failure };

    commit_updates(&mut *ledger, &[retry]);

    assert_eq!(describe_items(&due_items(&*ledger, NOW)), ["a: 1", "c: 3"]);
    assert_eq!(describe_items(&due_items(&*ledger, next_at)), ["a: 1", "c: 3", "b: 2"]);
    let found: Vec<_> =
        due_items(&*ledger, next_at).iter().map(|due| (due.is_retry, due.failure_counts)).collect();
    let untried = (false, ItemFailureCounts::default());
    assert_eq!(found, [untried, untried, (true, retried)]);
    let one_untried = DueLimits { untried: 1, retries: 0 };
    let items = ledger.due_items(next_at, one_untried, &BTreeSet::new()).unwrap();
    assert_eq!(describe_items(&items), ["a: 1"]);
    let one_retry = DueLimits { untried: 0, retries: 1 };
    assert_eq!(ledger.due_items(next_at, one_retry, &BTreeSet::from([item])).unwrap(), []);
    assert_eq!(ledger.count_awaiting_retry().unwrap(), 1);
    store_documents(&mut *ledger, &["1", "3"]);
    assert_eq!(ledger.next_due_at(&BTreeSet::new()).unwrap(), Some(next_at));
    assert_eq!(ledger.next_due_at(&BTreeSet::from([item])).unwrap(), None);
}

fn requeue_by_cause(cause: Cause) -> RequeueFilter {
    RequeueFilter::Quarantined(FailureFilter { cause: Some(cause), since: None })
}

#[test]
fn quarantined_and_gone_items_can_be_requeued() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_page(&mut *ledger, &["a/1", "b/2", "c/3"]);
    end_listing(&mut *ledger);
    let failure = Failure::new(Cause::Timeout, "too slow");
    let quarantined = LedgerUpdate::Quarantined { item: item_row_id(&*ledger, "a"), failure };
    let gone = gone_update(&*ledger, "2");
    let stored = stored_update(&find_due(&*ledger, "3"));
    commit_updates(&mut *ledger, &[quarantined, gone, stored]);
    assert_eq!(counts(&*ledger), [3, 1, 1, 1]);
    ledger.complete_session(&SessionId::new("session_1"), NOW).unwrap();
    assert!(!ledger.has_due_rechecks(NOW).unwrap());

    assert_eq!(ledger.requeue(&requeue_by_cause(Cause::Server), NOW).unwrap(), 0);
    assert_eq!(ledger.requeue(&requeue_by_cause(Cause::Timeout), NOW).unwrap(), 1);
    assert_eq!(ledger.requeue(&RequeueFilter::Item(ItemId::new("b")), NOW).unwrap(), 1);
    assert_eq!(
        ledger.requeue(&RequeueFilter::Item(ItemId::new("c")), NOW).unwrap(),
        0,
        "it is stored"
    );

    assert!(
        ledger.has_due_rechecks(NOW).unwrap() && ledger.check_counters().unwrap().is_consistent()
    );
    begin_session(&mut *ledger, "session_2", SessionKind::Recheck, NOW);
    assert_eq!(describe_items(&due_items(&*ledger, NOW)), ["a: 1", "b: 2"]);
}

#[test]
fn a_session_with_pending_items_cannot_be_completed() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_page(&mut *ledger, &["a/1"]);
    let id = SessionId::new("session_1");

    assert!(ledger.complete_session(&id, NOW).is_err(), "not all is listed");
    end_listing(&mut *ledger);
    assert!(ledger.complete_session(&id, NOW).is_err(), "one is pending");

    let other = NewSession {
        id: SessionId::new("session_2"),
        kind: SessionKind::Full,
        started_at: NOW,
        start_cursor: None,
    };
    let failure = ledger.begin_session(&other).unwrap_err();
    assert_eq!(failure.cause, Cause::Ledger);
    let message = failure.message;
    assert!(message.starts_with("cannot begin a session in "), "{message}");
    assert!(message.ends_with(": session_1 is still open"), "{message}");
}

#[test]
fn a_lost_cursor_restarts_the_listing_in_the_same_session() {
    let mut ledger = ledger_with_session(SessionKind::Changes);
    record_page(&mut *ledger, &["a/1"]);

    ledger.restart_listing(Some(&Cursor::new("fresh"))).unwrap();

    let session = ledger.open_session().unwrap().unwrap();
    assert_eq!((session.listing, session.page_token), (ListingKind::Full, None));
    assert_eq!((session.kind, session.counts.listed), (SessionKind::Changes, 1));
    end_listing(&mut *ledger);
    assert_eq!(ledger.cursor().unwrap(), Some(Cursor::new("fresh")));
}

#[test]
fn changes_are_listed_in_the_open_session() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_page(&mut *ledger, &["a/1", "b/2"]);
    end_listing(&mut *ledger);
    let failure = Failure::new(Cause::Server, "500");
    let quarantined = LedgerUpdate::Quarantined { item: item_row_id(&*ledger, "a"), failure };
    commit_updates(&mut *ledger, &[quarantined]);

    ledger.start_changes_listing(NOW).unwrap();

    let session = ledger.open_session().unwrap().unwrap();
    let found = (session.kind, session.listing, session.is_listing_complete, session.page_token);
    assert_eq!(found, (SessionKind::Full, ListingKind::Changes, false, None));
    assert_eq!(counts(&*ledger), [2, 0, 0, 1], "it stays quarantined until it is due");
    record_page(&mut *ledger, &["c/3"]);
    let next = NextPage::Done(Some(Cursor::new("later")));
    ledger.record_page(&[], &[], &next, NOW).unwrap();
    assert_eq!(ledger.cursor().unwrap(), Some(Cursor::new("later")));
    assert_eq!(counts(&*ledger), [3, 0, 0, 1]);
    ledger.start_changes_listing(LATER).unwrap();
    assert_eq!(
        counts(&*ledger),
        [3, 0, 0, 0],
        "what was quarantined in this session is not listed twice"
    );
    assert!(ledger.check_counters().unwrap().is_consistent());
}

#[test]
fn the_history_keeps_its_newest_rows_and_latest_snapshot() {
    let mut ledger = LedgerHome::new().open();
    for at in 0..10_003 {
        let transition = TransitionRow {
            at: Timestamp(at),
            from: "idle".to_owned(),
            to: "collecting".to_owned(),
            reason: "new data".to_owned(),
            session: None,
        };
        ledger.record_transition(&transition, &at.to_string()).unwrap();
    }

    let history = ledger.transitions(20_000).unwrap();

    assert_eq!((history.len(), history[0].at), (10_000, Timestamp(10_002)));
    assert_eq!(ledger.state_snapshot().unwrap().as_deref(), Some("10002"));
}

#[test]
fn stored_documents_are_read_page_by_page() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_page(&mut *ledger, &["a/1", "b/2", "c/3"]);
    store_documents(&mut *ledger, &["1", "3"]);

    let first = ledger.stored_files(None, 1).unwrap();
    let rest = ledger.stored_files(Some(first[0].row_id), 10).unwrap();

    assert_eq!((first[0].document.as_str(), first[0].folder.as_str()), ("1", "folder"));
    assert_eq!((rest.len(), rest[0].sha256), (1, [7; 32]));
    assert_eq!(ledger.check_integrity().unwrap(), [""; 0]);
}
