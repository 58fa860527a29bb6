//! Tests of the scheduler; each test supplies the due items of the ledger.

mod commits;

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cynosure_engine::{BlobId, DocumentId, ItemId, LedgerId, ThrottleStrikes};

use super::*;
use crate::archive::{ArchiveMarker, ArchiveOwner, DocumentFormat, FileArchive};
use crate::disk::MemoryDisk;
use crate::ledger::{DocumentRow, DocumentRowId};

const NOW: Timestamp = Timestamp(1_000_000);
const MID_SAMPLE: RandomSample = RandomSample(u32::MAX / 2 + 1);
const CONCURRENCY: usize = 8;
const DAY: Duration = Duration::from_secs(86_400);

struct DownloadsFixture {
    downloads: DownloadScheduler,
    archive: FileArchive,
}

impl DownloadsFixture {
    /// Returns a new scheduler whose first refill is in progress.
    fn new() -> Self {
        let item_policy = ItemRetryPolicy {
            max_attempts: 3,
            max_requests: 9,
            retry_delay: Duration::from_secs(10),
            max_retry_delay: Duration::from_secs(300),
            recheck: RecheckPolicy { interval: DAY, max_interval: 7 * DAY },
        };
        let disk = Arc::new(MemoryDisk::default());
        let marker = ArchiveMarker::new(disk, Path::new("/downloads"), "work");
        marker.create_folder().unwrap();
        let owner = ArchiveOwner::new(&LedgerId::new("a"), None, "work");
        let format = DocumentFormat::default();
        let (archive, _) = FileArchive::open(marker, owner, format, |_, _, _| Ok(false)).unwrap();
        let mut downloads = DownloadScheduler::new(item_policy, None, MetricsHandle::default());
        let request = downloads.take_refill_request(NOW).expect("a refill is due");
        assert_eq!(request.skip, BTreeSet::new());
        Self { downloads, archive }
    }

    /// Returns a scheduler with `items`, each with a number of documents, and no others due.
    fn with_items(items: &[(i64, usize)]) -> Self {
        let mut fixture = Self::new();
        fixture.downloads.enqueue(due_items(items), None, NOW);
        fixture
    }

    /// Takes all tasks that may start with `slots` in all.
    fn take_all(&mut self, slots: usize) -> Vec<FetchTask> {
        std::iter::from_fn(|| self.downloads.take_task(slots, NOW)).collect()
    }

    fn take(&mut self) -> FetchTask {
        self.downloads.take_task(CONCURRENCY, NOW).expect("there is something to fetch")
    }

    fn complete(&mut self, task: FetchTask) {
        let (spooled, now) = (self.archive.spool_document(), NOW.max(task.started_at));
        assert_eq!(self.downloads.on_downloaded(task, Ok(spooled), now, MID_SAMPLE), None);
    }

    fn fail(&mut self, task: FetchTask, cause: Cause) -> Option<Cause> {
        let failure = Failure::new(cause, "x");
        let escalated = self.downloads.on_downloaded(task, Err(failure), NOW, MID_SAMPLE);
        escalated.map(|failure| failure.cause)
    }

    /// Commits the batch and returns the names of its outcomes.
    fn commit(&mut self) -> Vec<&'static str> {
        let batch = self.downloads.take_due_batch(NOW).expect("there is a batch to commit");
        self.downloads.on_committed(&batch.items(), batch.earliest_retry());
        batch.outcomes.iter().map(outcome_name).collect()
    }

    /// Does one iteration of the loop: requests a refill, or else returns the idle reason.
    fn iterate(&mut self) -> Iteration {
        match self.downloads.take_refill_request(NOW) {
            Some(request) => Iteration::RefillRequested(request.skip),
            None => Iteration::Idle(self.downloads.idle_reason()),
        }
    }
}

#[derive(Debug, PartialEq)]
enum Iteration {
    RefillRequested(BTreeSet<ItemRowId>),
    Idle(Option<IdleReason>),
}

/// Returns a refill request that skips no items.
fn refill_without_skips() -> Iteration {
    Iteration::RefillRequested(BTreeSet::new())
}

fn due_items(items: &[(i64, usize)]) -> Vec<DueItem> {
    let document = |item: i64, index: usize| DocumentRow {
        row_id: DocumentRowId(item * 1000 + i64::try_from(index).unwrap()),
        id: DocumentId::new(format!("D{item}-{index}")),
        blob: BlobId::new(format!("B{item}-{index}")),
        size: None,
        locations: Vec::new(),
        content: None,
    };
    let due_item = |&(item, documents): &(i64, usize)| DueItem {
        row_id: ItemRowId(item),
        item: ItemId::new(format!("T{item}")),
        is_retry: false,
        failure_counts: ItemFailureCounts::default(),
        documents: (0..documents).map(|index| document(item, index)).collect(),
    };
    items.iter().map(due_item).collect()
}

/// Returns items with one document each that failed before.
fn due_retries(items: RangeInclusive<i64>) -> Vec<DueItem> {
    let items: Vec<_> = items.map(|item| (item, 1)).collect();
    let failure_counts = ItemFailureCounts {
        failed_attempts: 1,
        failed_requests: 1,
        strikes: 0,
        failing_since: Some(NOW),
    };
    due_items(&items)
        .into_iter()
        .map(|item| DueItem { is_retry: true, failure_counts, ..item })
        .collect()
}

fn outcome_name(outcome: &DownloadOutcome) -> &'static str {
    match outcome {
        DownloadOutcome::Stored { .. } => "stored",
        DownloadOutcome::Gone { .. } => "gone",
        DownloadOutcome::Failed { .. } => "failed",
        DownloadOutcome::Completed { .. } => "completed",
        DownloadOutcome::Retry { .. } => "retry",
        DownloadOutcome::Quarantined { .. } => "quarantined",
    }
}

#[test]
fn an_item_completes_with_its_last_document() {
    let mut fixture = DownloadsFixture::with_items(&[(1, 2)]);
    let (first, second) = (fixture.take(), fixture.take());

    fixture.complete(first);
    assert!(fixture.downloads.take_due_batch(NOW).is_none(), "it waits for the other one");
    fixture.complete(second);

    assert_eq!(fixture.commit(), ["stored", "stored", "completed"]);
}

#[test]
fn items_settle_only_after_the_ledger_is_read_again() {
    // The ledger returns a thread of a thousand messages in parts.
    let mut fixture = DownloadsFixture::with_items(&[(1, 1)]);
    let task = fixture.take();
    fixture.complete(task);
    fixture.commit();

    assert_eq!(fixture.downloads.idle_reason(), None);
    assert_eq!(fixture.iterate(), refill_without_skips());
    fixture.downloads.enqueue(due_items(&[(1, 1)]), None, NOW);
    let task = fixture.take();
    fixture.complete(task);
    fixture.commit();

    assert_eq!(fixture.iterate(), refill_without_skips());
    fixture.downloads.enqueue(Vec::new(), None, NOW);
    assert_eq!(fixture.iterate(), Iteration::Idle(Some(IdleReason::AllSettled)));
}

#[test]
fn skipped_items_are_requested_after_their_commit() {
    let mut fixture = DownloadsFixture::with_items(&[(1, 1)]);
    fixture.downloads.request_refill();
    assert_eq!(fixture.iterate(), Iteration::RefillRequested(BTreeSet::from([ItemRowId(1)])));
    fixture.downloads.enqueue(Vec::new(), None, NOW);
    let task = fixture.take();
    fixture.complete(task);
    assert_eq!(fixture.iterate(), Iteration::Idle(None), "it is not durable yet");
    fixture.commit();

    assert_eq!(
        fixture.iterate(),
        refill_without_skips(),
        "else the loop would sleep with work left"
    );
}

#[test]
fn a_partly_failed_partly_cancelled_item_is_requested_again() {
    let mut fixture = DownloadsFixture::with_items(&[(1, 2)]);
    let (first, second) = (fixture.take(), fixture.take());
    fixture.fail(first, Cause::TooLarge);
    assert_eq!(fixture.fail(second, Cause::RateLimit), Some(Cause::RateLimit));

    assert_eq!(fixture.commit(), ["failed", "completed"]);

    assert_eq!(fixture.iterate(), refill_without_skips());
}

#[test]
fn documents_that_fail_together_cost_their_item_one_attempt() {
    let mut fixture = DownloadsFixture::with_items(&[(1, 3)]);
    for _ in 0..3 {
        let task = fixture.take();
        assert_eq!(fixture.fail(task, Cause::Server), None, "the source has not failed");
    }

    let batch = fixture.downloads.take_due_batch(NOW).expect("the item has its result");

    assert!(
        matches!(
            batch.outcomes[..],
            [DownloadOutcome::Retry {
                failure_counts: ItemFailureCounts { failed_attempts: 1, failed_requests: 1, .. },
                ..
            }]
        ),
        "{batch:?}"
    );
    fixture.downloads.on_committed(&batch.items(), batch.earliest_retry());
    assert_eq!(fixture.iterate(), refill_without_skips());
    fixture.downloads.enqueue(Vec::new(), batch.earliest_retry(), NOW);
    let until = batch.earliest_retry().expect("it has a time");
    assert_eq!(fixture.iterate(), Iteration::Idle(Some(IdleReason::AwaitingRetry(until))));
    assert_eq!(fixture.downloads.next_refill_at(), Some(until));
}

#[test]
fn a_throttle_costs_an_item_nothing() {
    let mut fixture = DownloadsFixture::with_items(&[(1, 1)]);
    let task = fixture.take();

    assert_eq!(fixture.fail(task, Cause::RateLimit), Some(Cause::RateLimit));

    assert!(fixture.downloads.take_due_batch(NOW).is_none());
    assert_eq!(fixture.iterate(), refill_without_skips());
}

#[test]
fn forbidden_items_are_pending_until_another_succeeds() {
    let mut fixture = DownloadsFixture::with_items(&[(1, 1), (2, 1), (3, 1)]);
    let (first, second) = (fixture.take(), fixture.take());

    fixture.fail(first, Cause::Forbidden);
    assert!(fixture.downloads.take_batch().is_none());
    fixture.complete(second);

    assert_eq!(fixture.downloads.pending_forbidden.len(), 0);
    let batch = fixture.downloads.take_batch().expect("both results are known");
    assert_eq!(batch.items(), [ItemRowId(1), ItemRowId(3)]);
}

#[test]
fn ten_forbidden_items_in_a_row_are_released() {
    let items: Vec<_> = (1..=10).map(|item| (item, 1)).collect();
    let mut fixture = DownloadsFixture::with_items(&items);
    let tasks: Vec<_> =
        (0..10).map(|_| fixture.downloads.take_task(10, NOW).expect("there are ten")).collect();

    let escalated: Vec<_> =
        tasks.into_iter().filter_map(|task| fixture.fail(task, Cause::Forbidden)).collect();

    assert_eq!(escalated, [Cause::Unauthorized]);
    assert!(fixture.downloads.take_due_batch(NOW).is_none(), "none is quarantined");
    assert_eq!(fixture.iterate(), refill_without_skips(), "and all may be requested again");
}

#[test]
fn a_failed_session_is_tried_again_without_earlier_counts() {
    let mut fixture = DownloadsFixture::with_items(&[(1, 1), (2, 1), (3, 1), (4, 1)]);
    let tasks: Vec<_> = (0..4).map(|_| fixture.take()).collect();
    let mut fail = |task| fixture.fail(task, Cause::Challenge);
    let [first, second, third, fourth] = <[FetchTask; 4]>::try_from(tasks).unwrap();
    assert_eq!([fail(first), fail(second)], [None; 2]);
    assert_eq!(fail(third), Some(Cause::Challenge));

    fixture.downloads.reset_escalation();

    assert_eq!(fixture.fail(fourth, Cause::Challenge), None);
}

#[test]
fn a_cancelled_queue_frees_items_once_results_are_in() {
    let mut fixture = DownloadsFixture::with_items(&[(1, 2), (2, 1)]);
    let task = fixture.take();
    fixture.downloads.cancel_queued(NOW);
    assert_eq!(fixture.iterate(), Iteration::RefillRequested(BTreeSet::from([ItemRowId(1)])));

    fixture.complete(task);

    assert_eq!(fixture.downloads.take_batch().map(|batch| batch.items()), Some(Vec::new()));
    assert!(
        !fixture.downloads.busy_items.contains(&ItemRowId(1)),
        "its other document is requested again"
    );
}

#[test]
fn dropped_in_flight_items_are_free_but_fetched_ones_busy() {
    let mut fixture = DownloadsFixture::with_items(&[(1, 1), (2, 1)]);
    let task = fixture.take();
    fixture.complete(task);

    fixture.downloads.drop_in_flight();

    assert_eq!(fixture.downloads.in_flight(), 0);
    assert_eq!(fixture.iterate(), Iteration::RefillRequested(BTreeSet::from([ItemRowId(1)])));
}

#[test]
fn a_clock_step_requests_a_refill() {
    let mut fixture = DownloadsFixture::with_items(&[(1, 1)]);
    let task = fixture.take();
    assert_eq!(fixture.fail(task, Cause::Server), None);
    assert_eq!(fixture.commit(), ["retry"]);
    assert_eq!(fixture.iterate(), refill_without_skips());
    let later = NOW.after(Duration::from_secs(10));
    fixture.downloads.enqueue(Vec::new(), Some(later), NOW);
    assert_eq!(fixture.iterate(), Iteration::Idle(Some(IdleReason::AwaitingRetry(later))));

    fixture.downloads.request_refill();

    assert_eq!(fixture.iterate(), refill_without_skips());
}

#[test]
fn documents_are_taken_from_alternating_ends() {
    let mut fixture = DownloadsFixture::with_items(&[(1, 1), (2, 1), (3, 1), (4, 1)]);

    let taken = [fixture.take(), fixture.take(), fixture.take(), fixture.take()];

    assert_eq!(taken.map(|task| task.item.0), [1, 4, 2, 3]);
}

#[test]
fn retries_hold_at_most_half_of_the_slots() {
    for (slots, limit) in [(1, 1), (2, 1), (3, 1), (8, 4), (9, 4)] {
        let mut fixture = DownloadsFixture::new();
        fixture.downloads.enqueue(due_retries(1..=20), None, NOW);
        let mut taken = fixture.take_all(slots);
        assert_eq!(taken.len(), limit, "of {slots}");

        fixture.fail(taken.remove(0), Cause::Server);
        taken.extend(fixture.take_all(slots));
        assert_eq!(taken.len(), limit, "a failed retry frees one slot of {slots}");
        fixture.complete(taken.remove(0));
        taken.extend(fixture.take_all(slots));
        assert_eq!(taken.len(), limit, "a stored retry frees one slot of {slots}");

        fixture.downloads.drop_in_flight();
        fixture.downloads.enqueue(due_retries(1..=20), None, NOW);
        assert_eq!(fixture.take_all(slots).len(), limit, "dropped retries hold no slot of {slots}");
    }
}

#[test]
fn hanging_retries_leave_half_of_the_slots_to_untried_items() {
    for (slots, limit) in [(2, 1), (3, 1), (8, 4), (9, 4)] {
        let mut fixture = DownloadsFixture::new();
        let untried: Vec<_> = (101..=200).map(|item| (item, 1)).collect();
        fixture.downloads.enqueue([due_items(&untried), due_retries(1..=20)].concat(), None, NOW);
        let mut retries = Vec::new();
        for round in 0..10 {
            let (slow, quick): (Vec<_>, Vec<_>) =
                fixture.take_all(slots).into_iter().partition(|task| task.is_retry);
            assert_eq!(fixture.downloads.in_flight(), slots, "round {round}");
            retries.extend(slow);
            assert!(retries.len() <= limit, "{} of {slots} in round {round}", retries.len());
            quick.into_iter().for_each(|task| fixture.complete(task));
        }

        assert_eq!(retries.len(), limit, "of {slots}");
    }
}

#[test]
fn with_one_slot_each_fourth_document_is_a_retry() {
    let mut fixture = DownloadsFixture::new();
    let untried: Vec<_> = (101..=120).map(|item| (item, 1)).collect();
    fixture.downloads.enqueue([due_items(&untried), due_retries(1..=20)].concat(), None, NOW);

    let are_retries = [(); 8].map(|()| {
        let [task] = <[FetchTask; 1]>::try_from(fixture.take_all(1)).expect("one at a time");
        let is_retry = task.is_retry;
        fixture.complete(task);
        is_retry
    });

    assert_eq!(are_retries, [false, false, false, true, false, false, false, true]);
}

#[test]
fn no_items_are_loaded_while_long_contents_wait() {
    let mut fixture = DownloadsFixture::new();
    let mut items = due_items(&[(1, 2)]);
    for document in &mut items[0].documents {
        document.content = Some("x".repeat(5 << 20));
    }
    // The ledger has untried items that it left out.
    fixture.downloads.enqueue(items, Some(Timestamp(0)), NOW);

    assert_eq!(fixture.iterate(), Iteration::Idle(None));
    let first = fixture.take();

    assert_eq!(fixture.iterate(), Iteration::RefillRequested(BTreeSet::from([first.item])));
}

/// Returns a throttle with this number of strikes: other requests succeeded in between.
fn throttle_with_strikes(strikes: u32) -> Failure {
    Failure::new(Cause::RateLimit, "429").with_strikes(Some(ThrottleStrikes::restore(strikes)))
}

/// FAULTS 50: a document was throttled before a restart.
#[test]
fn strikes_of_an_earlier_process_are_continued() {
    let mut fixture = DownloadsFixture::new();
    let mut items = due_items(&[(1, 1), (2, 1)]);
    items[0].failure_counts.strikes = 2;
    fixture.downloads.enqueue(items, None, NOW);

    let taken = [fixture.take(), fixture.take()];

    let strikes = taken.map(|task| (task.item.0, task.document_ref.strikes.count()));
    assert_eq!(strikes, [(2, 0), (1, 2)], "the throttled document comes last");
}

/// FAULTS 50: the server throttles one document again and again.
#[test]
fn a_documents_own_throttle_fails_its_item() {
    let mut fixture = DownloadsFixture::with_items(&[(1, 1)]);
    let task = fixture.take();
    let is_item_specific =
        |failure: &Failure| fixture.downloads.is_item_specific_failure(&task, failure, NOW);

    assert!(!is_item_specific(&Failure::new(Cause::RateLimit, "429")));
    assert_eq!(
        [0, 1, 2, 3].map(|strikes| is_item_specific(&throttle_with_strikes(strikes))),
        [false, false, true, true]
    );

    let escalated =
        fixture.downloads.on_downloaded(task, Err(throttle_with_strikes(2)), NOW, MID_SAMPLE);
    assert_eq!(escalated, None, "the session continues");
    let batch = fixture.downloads.take_due_batch(NOW).expect("the item has its result");
    let [DownloadOutcome::Retry { failure_counts, .. }] = batch.outcomes[..] else {
        panic!("{batch:?}")
    };
    assert_eq!((failure_counts.failed_attempts, failure_counts.strikes), (0, 2));
}

#[test]
fn a_failure_is_the_items_if_others_succeeded_meanwhile() {
    let mut fixture = DownloadsFixture::with_items(&[(1, 1), (2, 1)]);
    let (task, mut other) = (fixture.take(), fixture.take());
    other.started_at = NOW.after(Duration::from_secs(10));
    fixture.complete(other);
    let failed_at = NOW.after(Duration::from_secs(30));
    let is_item_specific = |requests, seconds: u32| {
        let failing_millis = 1000 * seconds;
        let failure = Failure {
            request_count: requests,
            failing_millis,
            ..Failure::new(Cause::Server, "500")
        };
        fixture.downloads.is_item_specific_failure(&task, &failure, failed_at)
    };

    assert!(is_item_specific(3, 21), "it failed a second before the other was requested");
    assert!(!is_item_specific(3, 19), "nothing succeeded since");
    assert!(!is_item_specific(1, 21), "one failed request is no proof");
}
