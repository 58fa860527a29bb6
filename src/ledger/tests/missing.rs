//! Documents that were listed and not found.

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
fn a_missing_document_cannot_be_requeued() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    ledger.record_missing(&document_ids(&["a"]), NOW).unwrap();

    let item = RequeueFilter::Item(ItemId::new("missing:a"));
    assert_eq!(ledger.requeue(&item, NOW).unwrap(), 0);
}
