//! Tests of the batches that are being committed.

use super::*;

#[test]
fn two_batches_commit_at_a_time_and_a_third_waits() {
    let mut fixture = DownloadsFixture::with_items(&[(1, 1), (2, 1), (3, 1)]);
    let mut batches = Vec::new();
    for _ in 0..2 {
        let task = fixture.take();
        fixture.complete(task);
        batches.push(fixture.downloads.take_batch().expect("there is something in it"));
    }
    let task = fixture.take();
    fixture.complete(task);
    assert!(fixture.downloads.take_due_batch(NOW).is_none(), "two are committing");
    assert_eq!(fixture.downloads.batch_due_at(), None, "and no wake-up is needed");

    fixture.downloads.drop_in_flight();
    let all = BTreeSet::from([1, 2, 3].map(ItemRowId));
    assert_eq!(fixture.downloads.busy_items, all, "none of them is requested again");
    fixture.downloads.on_committed(&batches[0].items(), batches[0].earliest_retry());

    let third = fixture.downloads.take_due_batch(NOW).expect("the first has made room");
    assert_eq!(third.items(), [ItemRowId(2)]);
    fixture.downloads.drop_in_flight();
    assert_eq!(fixture.downloads.busy_items, BTreeSet::from([2, 3].map(ItemRowId)));
    for batch in [&batches[1], &third] {
        assert!(!fixture.downloads.is_drained());
        fixture.downloads.on_committed(&batch.items(), batch.earliest_retry());
    }
    assert!(fixture.downloads.is_drained());
}

#[test]
fn a_crash_costs_at_most_512_documents() {
    const SLOTS: usize = 1_000;
    let items: Vec<(i64, usize)> = (1..=1_000).map(|item| (item, 1)).collect();
    let mut fixture = DownloadsFixture::with_items(&items);

    let requested = fixture.take_all(SLOTS);
    assert_eq!(requested.len(), UNCOMMITTED_DOCUMENTS_MAX);
    for task in requested {
        fixture.complete(task);
    }
    let batch = fixture.downloads.take_due_batch(NOW).expect("it is full");
    assert_eq!(fixture.take_all(SLOTS).len(), 0, "all of them may be lost");

    fixture.downloads.on_committed(&batch.items(), None);
    assert_eq!(fixture.take_all(SLOTS).len(), 1_000 - UNCOMMITTED_DOCUMENTS_MAX);
}
