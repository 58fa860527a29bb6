//! Documents that were named and not found.

use super::*;

fn ids(ids: &[&str]) -> Vec<DocumentId> {
    ids.iter().map(|&id| DocumentId::new(id)).collect()
}

/// FAULTS 47.
#[test]
fn what_was_named_and_not_found_is_a_row_that_says_gone() {
    let mut ledger = begun(SessionKind::Full);

    ledger.record_missing(&ids(&["a", "b"]), NOW).unwrap();
    // The page is asked for once more after a crash.
    ledger.record_missing(&ids(&["b", "c"]), NOW).unwrap();

    let tally = ledger.tally().unwrap();
    assert_eq!((tally.listed, tally.gone, tally.pending()), (3, 3, 0));
    assert!(ledger.recount().unwrap().agrees());
    let rows = ledger.failures(FailureFilter::default(), 10).unwrap();
    let found: Vec<_> = rows.iter().map(|row| (row.item.as_str(), row.status)).collect();
    let gone = |id| (id, ItemStatus::Gone);
    assert_eq!(found, [gone("missing:a"), gone("missing:b"), gone("missing:c")]);
    assert_eq!(rows[0].cause, Some(Cause::NotFound));
}

#[test]
fn of_what_was_never_found_nothing_can_be_asked_for_again() {
    let mut ledger = begun(SessionKind::Full);
    ledger.record_missing(&ids(&["a"]), NOW).unwrap();

    let item = Requeue::Item(ItemId::new("missing:a"));
    assert_eq!(ledger.requeue(&item, NOW).unwrap(), 0);
}
