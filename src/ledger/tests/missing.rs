//! Documents that were listed and not found, and documents that are gone.

use super::*;

fn document_ids(ids: &[&str]) -> Vec<DocumentId> {
    ids.iter().map(|&id| DocumentId::new(id)).collect()
}

/// FAULTS 47: ids that the server lists and does not find.
#[test]
fn missing_documents_are_recorded_as_gone() {
    let mut ledger = ledger_with_session(SessionKind::Full);

    ledger.record_missing(&document_ids(&["a", "b"]), NOW).unwrap();
    // The page is requested once more after a crash.
    ledger.record_missing(&document_ids(&["b", "c"]), NOW).unwrap();

    let session_counts = ledger.session_counts().unwrap();
    assert_eq!((session_counts.listed, session_counts.gone, session_counts.pending()), (3, 3, 0));
    assert!(ledger.check_counters().unwrap().is_consistent());
    let rows = ledger.failures(FailureFilter::default(), 10).unwrap();
    let found: Vec<_> = rows.iter().map(|row| (row.item.as_str(), row.status)).collect();
    let gone = |id| (id, ItemStatus::Gone);
    assert_eq!(found, [gone("missing:a"), gone("missing:b"), gone("missing:c")]);
    assert_eq!(rows[0].cause, Some(Cause::NotFound));
}

#[test]
fn a_gone_document_is_refetched_although_its_item_is_open() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_page(&mut *ledger, &["a/1", "a/2"]);
    let updates = [gone_update(&*ledger, "1"), stored_update(&find_due(&*ledger, "2"))];
    commit_updates(&mut *ledger, &updates);
    end_listing(&mut *ledger);
    ledger.complete_session(&SessionId::new("session_1"), NOW).unwrap();
    begin_session(&mut *ledger, "session_2", SessionKind::Full, NOW);

    record_page(&mut *ledger, &["a/3", "a/1"]);

    assert_eq!(describe_items(&due_items(&*ledger, NOW)), ["a: 1 3"]);
    let gone = gone_update(&*ledger, "1");
    commit_updates(&mut *ledger, &[gone]);
    record_page(&mut *ledger, &["a/4", "a/1"]);
    assert_eq!(describe_items(&due_items(&*ledger, NOW)), ["a: 3 4"], "it was looked for now");
}

#[test]
fn a_missing_document_cannot_be_requeued() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    ledger.record_missing(&document_ids(&["a"]), NOW).unwrap();

    let item = RequeueFilter::Item(ItemId::new("missing:a"));
    assert_eq!(ledger.requeue(&item, NOW).unwrap(), 0);
}
