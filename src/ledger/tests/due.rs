//! Order of due items, their deadlines, and choice of known-good documents.

use cynosure_engine::ClockStep;

use super::*;

/// Ledger with a session of `count` items with one document each: "t0/0", "t1/1" and so on.
fn ledger_with_items(count: usize) -> Box<dyn Ledger> {
    let mut ledger = ledger_with_session(SessionKind::Full);
    let names: Vec<_> = (0..count).map(|number| format!("t{number}/{number}")).collect();
    record_page(&mut *ledger, &names.iter().map(String::as_str).collect::<Vec<_>>());
    ledger
}

fn untried_ids(ledger: &dyn Ledger, limit: usize, skip: &[ItemRowId]) -> Vec<String> {
    let limits = DueLimits { untried: limit, retries: 0 };
    let items = ledger.due_items(NOW, limits, &skip.iter().copied().collect()).unwrap();
    items.into_iter().map(|due| due.item.to_string()).collect()
}

#[test]
fn half_of_the_untried_items_come_from_either_end() {
    let ledger = ledger_with_items(10);

    assert_eq!(untried_ids(&*ledger, 4, &[]), ["t0", "t1", "t8", "t9"]);
    assert_eq!(untried_ids(&*ledger, 5, &[]), ["t0", "t1", "t2", "t8", "t9"]);
    assert_eq!(untried_ids(&*ledger, 1, &[]), ["t0"]);
    assert_eq!(untried_ids(&*ledger, 0, &[]), [""; 0]);
    let busy = ["t0", "t9"].map(|id| item_row_id(&*ledger, id));
    assert_eq!(
        untried_ids(&*ledger, 4, &busy),
        ["t1", "t2", "t7", "t8"],
        "items in progress are skipped"
    );
}

#[test]
fn a_limit_above_the_item_count_returns_each_once() {
    let ledger = ledger_with_items(10);
    let all: Vec<_> = (0..10).map(|number| format!("t{number}")).collect();

    for limit in [10, 11, 12, 19, 20, 100] {
        assert_eq!(untried_ids(&*ledger, limit, &[]), all, "{limit}");
    }
}

pub(in crate::ledger) fn known_good_ids(ledger: &dyn Ledger, limit: usize) -> Vec<String> {
    let found = ledger.known_good_documents(limit).unwrap();
    found.into_iter().map(|document| document.id.to_string()).collect()
}

#[test]
fn known_good_documents_are_small_stored_ones() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    assert_eq!(known_good_ids(&*ledger, 9), [""; 0]);
    let names = ["a/1:300", "b/2:5", "c/3:20", "d/4:5", "e/5:1", "f/6:1", "g/7:1", "h/8:1"];
    record_page(&mut *ledger, &names);
    end_listing(&mut *ledger);
    assert_eq!(known_good_ids(&*ledger, 9), [""; 0], "they are only listed");

    let failure = || Failure::new(Cause::Forbidden, "403");
    let failed = LedgerUpdate::Failed { document: due_row_id(&*ledger, "5"), failure: failure() };
    let quarantined =
        LedgerUpdate::Quarantined { item: item_row_id(&*ledger, "g"), failure: failure() };
    let gone = gone_update(&*ledger, "6");
    commit_updates(&mut *ledger, &[failed, quarantined, gone]);
    let expected = find_due(&*ledger, "2");
    store_documents(&mut *ledger, &["1", "2", "3", "4"]);

    assert_eq!(known_good_ids(&*ledger, 9), ["4", "2", "3", "1"], "the newer of two of equal size");
    assert_eq!(known_good_ids(&*ledger, 2), ["4", "2"]);
    assert_eq!(known_good_ids(&*ledger, 0), [""; 0]);
    assert_eq!(
        ledger.known_good_documents(2).unwrap()[1],
        expected,
        "the same as the due document"
    );
}

#[test]
fn a_clock_step_shifts_only_pending_deadlines() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_page(&mut *ledger, &["a/1", "b/2", "c/3"]);
    end_listing(&mut *ledger);
    let failure = || Failure::new(Cause::Server, "x");
    let (tried, next_at) = (item_row_id(&*ledger, "a"), NOW.after(DAY));
    let quarantined = item_row_id(&*ledger, "b");
    commit_updates(
        &mut *ledger,
        &[
            LedgerUpdate::Retry {
                item: tried,
                failure_counts: ItemFailureCounts {
                    failing_since: Some(NOW),
                    ..ItemFailureCounts::default()
                },
                next_attempt_at: next_at,
                failure: failure(),
            },
            LedgerUpdate::Quarantined { item: quarantined, failure: failure() },
        ],
    );

    ledger.shift_deadlines(ClockStep::between(NOW, NOW.before(DAY)).unwrap()).unwrap();

    assert_eq!(describe_items(&due_items(&*ledger, Timestamp(NOW.0 - 1))), ["c: 3"]);
    let due = due_items(&*ledger, NOW);
    assert_eq!(describe_items(&due), ["c: 3", "a: 1"]);
    assert_eq!(due[1].failure_counts.failing_since, Some(NOW.before(DAY)));
    assert!(!ledger.has_due_rechecks(Timestamp(NOW.0 - 1)).unwrap());
    assert!(ledger.has_due_rechecks(NOW).unwrap());

    // Back to before 1970: due at once, and still marked as tried.
    ledger.shift_deadlines(ClockStep::between(NOW, Timestamp(-NOW.0)).unwrap()).unwrap();
    assert_eq!(describe_items(&due_items(&*ledger, Timestamp(1))), ["c: 3", "a: 1"]);
    assert_eq!(ledger.count_awaiting_retry().unwrap(), 1);
}
