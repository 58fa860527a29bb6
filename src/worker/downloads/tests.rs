//! Tests of the scheduler; each test supplies the answers of the ledger.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::archive::{Archive, ArchiveMarker, ArchiveOwner};
use crate::disk::MemoryDisk;
use crate::engine::{BlobId, DocumentId, ItemId, LedgerId, ThrottleStrikes};
use crate::ledger::{DocumentRowId, PendingDocument};

const NOW: Timestamp = Timestamp(1_000_000);
const MID_SAMPLE: RandomSample = RandomSample(u32::MAX / 2 + 1);
const CONCURRENCY: usize = 8;
const DAY: Duration = Duration::from_secs(86_400);

struct DownloadsFixture {
    downloads: DownloadScheduler,
    archive: Archive,
}

impl DownloadsFixture {
    /// Returns a new scheduler whose first refill is in progress.
    fn new() -> Self {
        let item = ItemRetryPolicy {
            max_attempts: 3,
            max_requests: 9,
            retry_delay: Duration::from_secs(10),
            max_retry_delay: Duration::from_secs(300),
            recheck: RecheckPolicy { interval: DAY, max_interval: 7 * DAY },
        };
        let bridge = EscalationPolicy { failure_threshold: 5, success_threshold: 3 };
        let disk = Arc::new(MemoryDisk::default());
        let marker = ArchiveMarker::new(disk, Path::new("/downloads"), "work");
        marker.create_folder().unwrap();
        let owner = ArchiveOwner::new(&LedgerId::new("a"), None, "work");
        let (archive, _) = Archive::open(marker, owner, |_, _, _| Ok(false)).unwrap();
        let mut downloads = DownloadScheduler::new(
            DownloadPolicies { item, escalation: bridge },
            None,
            MetricsHandle::default(),
        );
        assert_eq!(downloads.take_refill_request(NOW).map(|wish| wish.skip), Some(BTreeSet::new()));
        Self { downloads, archive }
    }

    /// Returns a scheduler with `items`, each with a number of documents, and no others due.
    fn with_items(items: &[(i64, usize)]) -> Self {
        let mut scene = Self::new();
        scene.downloads.enqueue(due_items(items), None, NOW);
        scene
    }

    /// Takes all tasks that may start with `slots` in all.
    fn take_all(&mut self, slots: usize) -> Vec<FetchTask> {
        std::iter::from_fn(|| self.downloads.take_task(slots, NOW)).collect()
    }

    fn take(&mut self) -> FetchTask {
        self.downloads.take_task(CONCURRENCY, NOW).expect("there is something to fetch")
    }

    fn complete(&mut self, errand: FetchTask) {
        let draft = self.archive.spool_document();
        assert_eq!(self.downloads.on_downloaded(errand, Ok(draft), NOW, MID_SAMPLE), None);
    }

    fn fail(&mut self, errand: FetchTask, cause: Cause) -> Option<Cause> {
        let failure = Failure::new(cause, "x");
        let escalated = self.downloads.on_downloaded(errand, Err(failure), NOW, MID_SAMPLE);
        escalated.map(|failure| failure.cause)
    }

    /// Commits the batch and returns the names of its outcomes.
    fn commit(&mut self) -> Vec<&'static str> {
        let group = self.downloads.take_due_batch(NOW).expect("there is something to make durable");
        self.downloads.on_committed(&group.items(), group.earliest_retry());
        group.outcomes.iter().map(outcome_name).collect()
    }

    /// Does one poll of the loop: requests a refill, or else returns the idle reason.
    fn poll(&mut self) -> PollOutcome {
        match self.downloads.take_refill_request(NOW) {
            Some(wish) => PollOutcome::RefillWanted(wish.skip),
            None => PollOutcome::Idle(self.downloads.idle_reason()),
        }
    }
}

#[derive(Debug, PartialEq)]
enum PollOutcome {
    RefillWanted(BTreeSet<ItemRowId>),
    Idle(Option<IdleReason>),
}

/// Refill request that skips no items.
fn refill_wanted() -> PollOutcome {
    PollOutcome::RefillWanted(BTreeSet::new())
}

fn due_items(items: &[(i64, usize)]) -> Vec<DueItem> {
    let document = |item: i64, index: usize| PendingDocument {
        row_id: DocumentRowId(item * 1000 + i64::try_from(index).unwrap()),
        id: DocumentId::new(format!("D{item}-{index}")),
        blob: BlobId::new(format!("B{item}-{index}")),
        size: None,
    };
    let work = |&(item, documents): &(i64, usize)| DueItem {
        row_id: ItemRowId(item),
        item: ItemId::new(format!("T{item}")),
        is_retry: false,
        failure_counts: ItemFailureCounts::default(),
        documents: (0..documents).map(|index| document(item, index)).collect(),
    };
    items.iter().map(work).collect()
}

/// Returns items with one document each that failed before.
fn due_retries(items: RangeInclusive<i64>) -> Vec<DueItem> {
    let items: Vec<_> = items.map(|item| (item, 1)).collect();
    let trial = ItemFailureCounts {
        failed_attempts: 1,
        failed_requests: 1,
        strikes: 0,
        failing_since: Some(NOW),
    };
    due_items(&items)
        .into_iter()
        .map(|work| DueItem { is_retry: true, failure_counts: trial, ..work })
        .collect()
}

fn outcome_name(outcome: &DownloadOutcome) -> &'static str {
    match outcome {
        DownloadOutcome::Stored { .. } => "stored",
        DownloadOutcome::Gone { .. } => "gone",
        DownloadOutcome::Failed { .. } => "refused",
        DownloadOutcome::Completed { .. } => "answered",
        DownloadOutcome::Retry { .. } => "retry",
        DownloadOutcome::Quarantined { .. } => "quarantined",
    }
}

#[test]
fn an_item_completes_with_its_last_document() {
    let mut scene = DownloadsFixture::with_items(&[(1, 2)]);
    let (first, second) = (scene.take(), scene.take());

    scene.complete(first);
    assert!(scene.downloads.take_due_batch(NOW).is_none(), "the group waits for the other one");
    scene.complete(second);

    assert_eq!(scene.commit(), ["stored", "stored", "answered"]);
}

#[test]
fn items_settle_only_after_the_ledger_reread() {
    // The ledger returns a thread of a thousand messages in parts.
    let mut scene = DownloadsFixture::with_items(&[(1, 1)]);
    let errand = scene.take();
    scene.complete(errand);
    scene.commit();

    assert_eq!(scene.downloads.idle_reason(), None);
    assert_eq!(scene.poll(), refill_wanted());
    scene.downloads.enqueue(due_items(&[(1, 1)]), None, NOW);
    let errand = scene.take();
    scene.complete(errand);
    scene.commit();

    assert_eq!(scene.poll(), refill_wanted());
    scene.downloads.enqueue(Vec::new(), None, NOW);
    assert_eq!(scene.poll(), PollOutcome::Idle(Some(IdleReason::AllSettled)));
}

#[test]
fn skipped_items_are_requested_in_the_same_poll() {
    let mut scene = DownloadsFixture::with_items(&[(1, 1)]);
    scene.downloads.request_refill();
    assert_eq!(scene.poll(), PollOutcome::RefillWanted(BTreeSet::from([ItemRowId(1)])));
    scene.downloads.enqueue(Vec::new(), None, NOW);
    let errand = scene.take();
    scene.complete(errand);
    assert_eq!(scene.poll(), PollOutcome::Idle(None), "it is not durable yet");
    scene.commit();

    assert_eq!(scene.poll(), refill_wanted(), "else the loop would sleep with work left");
}

#[test]
fn a_partly_refused_partly_cancelled_item_is_requeued() {
    let mut scene = DownloadsFixture::with_items(&[(1, 2)]);
    let (first, second) = (scene.take(), scene.take());
    scene.fail(first, Cause::TooLarge);
    assert_eq!(scene.fail(second, Cause::RateLimit), Some(Cause::RateLimit));

    assert_eq!(scene.commit(), ["refused", "answered"]);

    assert_eq!(scene.poll(), refill_wanted());
}

#[test]
fn two_batches_commit_at_a_time_and_a_third_waits() {
    let mut scene = DownloadsFixture::with_items(&[(1, 1), (2, 1), (3, 1)]);
    let mut groups = Vec::new();
    for _ in 0..2 {
        let errand = scene.take();
        scene.complete(errand);
        groups.push(scene.downloads.take_batch().expect("there is something in it"));
    }
    let errand = scene.take();
    scene.complete(errand);
    assert!(scene.downloads.take_due_batch(NOW).is_none(), "two are under way");
    assert_eq!(scene.downloads.batch_due_at(), None, "and nothing is to be woken for");

    scene.downloads.drop_in_flight();
    let all = BTreeSet::from([1, 2, 3].map(ItemRowId));
    assert_eq!(scene.downloads.busy_items, all, "none of them is asked for again");
    scene.downloads.on_committed(&groups[0].items(), groups[0].earliest_retry());

    let third = scene.downloads.take_due_batch(NOW).expect("the first has made room");
    assert_eq!(third.items(), [ItemRowId(2)]);
    scene.downloads.drop_in_flight();
    assert_eq!(scene.downloads.busy_items, BTreeSet::from([2, 3].map(ItemRowId)));
    for group in [&groups[1], &third] {
        assert!(!scene.downloads.is_drained());
        scene.downloads.on_committed(&group.items(), group.earliest_retry());
    }
    assert!(scene.downloads.is_drained());
}

#[test]
fn documents_that_fail_together_cost_their_item_one_attempt() {
    let mut scene = DownloadsFixture::with_items(&[(1, 3)]);
    for _ in 0..3 {
        let errand = scene.take();
        assert_eq!(scene.fail(errand, Cause::Server), None, "one item is not the source");
    }

    let group = scene.downloads.take_due_batch(NOW).expect("the item is answered");

    assert!(
        matches!(
            group.outcomes[..],
            [DownloadOutcome::Retry {
                failure_counts: ItemFailureCounts { failed_attempts: 1, failed_requests: 1, .. },
                ..
            }]
        ),
        "{group:?}"
    );
    scene.downloads.on_committed(&group.items(), group.earliest_retry());
    assert_eq!(scene.poll(), refill_wanted());
    scene.downloads.enqueue(Vec::new(), group.earliest_retry(), NOW);
    let until = group.earliest_retry().expect("it has a time");
    assert_eq!(scene.poll(), PollOutcome::Idle(Some(IdleReason::AwaitingRetry(until))));
    assert_eq!(scene.downloads.next_refill_at(), Some(until));
}

#[test]
fn a_throttle_costs_an_item_nothing() {
    let mut scene = DownloadsFixture::with_items(&[(1, 1)]);
    let errand = scene.take();

    assert_eq!(scene.fail(errand, Cause::RateLimit), Some(Cause::RateLimit));

    assert!(scene.downloads.take_due_batch(NOW).is_none());
    assert_eq!(scene.poll(), refill_wanted());
}

#[test]
fn forbidden_items_are_pending_until_another_succeeds() {
    let mut scene = DownloadsFixture::with_items(&[(1, 1), (2, 1), (3, 1)]);
    let (first, second) = (scene.take(), scene.take());

    scene.fail(first, Cause::Forbidden);
    assert!(scene.downloads.take_batch().is_none());
    scene.complete(second);

    assert_eq!(scene.downloads.pending_forbidden.len(), 0);
    let group = scene.downloads.take_batch().expect("both are known now");
    assert_eq!(group.items(), [ItemRowId(1), ItemRowId(3)]);
}

#[test]
fn ten_forbidden_items_in_a_row_are_released() {
    let items: Vec<_> = (1..=10).map(|item| (item, 1)).collect();
    let mut scene = DownloadsFixture::with_items(&items);
    let errands: Vec<_> =
        (0..10).map(|_| scene.downloads.take_task(10, NOW).expect("there are ten")).collect();

    let escalated: Vec<_> =
        errands.into_iter().filter_map(|errand| scene.fail(errand, Cause::Forbidden)).collect();

    assert_eq!(escalated, [Cause::Unauthorized]);
    assert!(scene.downloads.take_due_batch(NOW).is_none(), "none is set aside");
    assert_eq!(scene.poll(), refill_wanted(), "and all may be asked for again");
}

#[test]
fn a_cancelled_queue_frees_items_once_results_are_in() {
    let mut scene = DownloadsFixture::with_items(&[(1, 2), (2, 1)]);
    let errand = scene.take();
    scene.downloads.cancel_queued(NOW);
    assert_eq!(scene.poll(), PollOutcome::RefillWanted(BTreeSet::from([ItemRowId(1)])));

    scene.complete(errand);

    assert_eq!(scene.downloads.take_batch().map(|group| group.items()), Some(Vec::new()));
    assert!(
        !scene.downloads.busy_items.contains(&ItemRowId(1)),
        "its other document is asked for again"
    );
}

#[test]
fn dropped_in_flight_items_are_free_but_fetched_ones_busy() {
    let mut scene = DownloadsFixture::with_items(&[(1, 1), (2, 1)]);
    let errand = scene.take();
    scene.complete(errand);

    scene.downloads.drop_in_flight();

    assert_eq!(scene.downloads.in_flight(), 0);
    assert_eq!(scene.poll(), PollOutcome::RefillWanted(BTreeSet::from([ItemRowId(1)])));
}

#[test]
fn after_a_session_failure_concurrency_is_one() {
    let mut scene = DownloadsFixture::with_items(&[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)]);
    scene.downloads.enter_half_open();

    for _ in 0..3 {
        let errand = scene.take();
        assert!(scene.downloads.take_task(CONCURRENCY, NOW).is_none());
        scene.complete(errand);
    }

    assert!(scene.downloads.take_task(CONCURRENCY, NOW).is_some());
    assert!(scene.downloads.take_task(CONCURRENCY, NOW).is_some());
}

#[test]
fn a_clock_step_requests_a_refill() {
    let mut scene = DownloadsFixture::with_items(&[(1, 1)]);
    let errand = scene.take();
    assert_eq!(scene.fail(errand, Cause::Server), None);
    assert_eq!(scene.commit(), ["retry"]);
    assert_eq!(scene.poll(), refill_wanted());
    let later = NOW.after(Duration::from_secs(10));
    scene.downloads.enqueue(Vec::new(), Some(later), NOW);
    assert_eq!(scene.poll(), PollOutcome::Idle(Some(IdleReason::AwaitingRetry(later))));

    scene.downloads.request_refill();

    assert_eq!(scene.poll(), refill_wanted());
}

#[test]
fn documents_are_taken_from_alternating_ends() {
    let mut scene = DownloadsFixture::with_items(&[(1, 1), (2, 1), (3, 1), (4, 1)]);

    let taken = [scene.take(), scene.take(), scene.take(), scene.take()];

    assert_eq!(taken.map(|errand| errand.item.0), [1, 4, 2, 3]);
}

#[test]
fn retries_hold_at_most_half_of_the_slots() {
    for (slots, most) in [(1, 1), (2, 1), (3, 1), (8, 4), (9, 4)] {
        let mut scene = DownloadsFixture::new();
        scene.downloads.enqueue(due_retries(1..=20), None, NOW);
        let mut taken = scene.take_all(slots);
        assert_eq!(taken.len(), most, "of {slots}");

        scene.fail(taken.remove(0), Cause::Server);
        taken.extend(scene.take_all(slots));
        assert_eq!(taken.len(), most, "one for the one that failed, of {slots}");
        scene.complete(taken.remove(0));
        taken.extend(scene.take_all(slots));
        assert_eq!(taken.len(), most, "one for the one that is stored, of {slots}");

        scene.downloads.drop_in_flight();
        scene.downloads.enqueue(due_retries(1..=20), None, NOW);
        assert_eq!(scene.take_all(slots).len(), most, "what is dropped holds none of {slots}");
    }
}

#[test]
fn hanging_retries_leave_half_of_the_slots_to_untried_items() {
    for (slots, most) in [(2, 1), (3, 1), (8, 4), (9, 4)] {
        let mut scene = DownloadsFixture::new();
        let untried: Vec<_> = (101..=200).map(|item| (item, 1)).collect();
        scene.downloads.enqueue([due_items(&untried), due_retries(1..=20)].concat(), None, NOW);
        let mut held = Vec::new();
        for round in 0..10 {
            let (slow, quick): (Vec<_>, Vec<_>) =
                scene.take_all(slots).into_iter().partition(|errand| errand.is_retry);
            assert_eq!(scene.downloads.in_flight(), slots, "round {round}");
            held.extend(slow);
            assert!(held.len() <= most, "{} of {slots} in round {round}", held.len());
            quick.into_iter().for_each(|errand| scene.complete(errand));
        }

        assert_eq!(held.len(), most, "of {slots}");
    }
}

#[test]
fn with_one_slot_each_fourth_document_is_a_retry() {
    let mut scene = DownloadsFixture::new();
    let untried: Vec<_> = (101..=120).map(|item| (item, 1)).collect();
    scene.downloads.enqueue([due_items(&untried), due_retries(1..=20)].concat(), None, NOW);

    let turns = [(); 8].map(|()| {
        let [errand] = <[FetchTask; 1]>::try_from(scene.take_all(1)).expect("one at a time");
        let is_retry = errand.is_retry;
        scene.complete(errand);
        is_retry
    });

    assert_eq!(turns, [false, false, false, true, false, false, false, true]);
}

/// Returns a throttle with this number of strikes: other requests succeeded in between.
fn throttle_with_strikes(strikes: u32) -> Failure {
    Failure::new(Cause::RateLimit, "429").with_strikes(Some(ThrottleStrikes::restore(strikes)))
}

/// FAULTS 50.
#[test]
fn strikes_of_an_earlier_process_are_continued() {
    let mut scene = DownloadsFixture::new();
    let mut work = due_items(&[(1, 1), (2, 1)]);
    work[0].failure_counts.strikes = 2;
    scene.downloads.enqueue(work, None, NOW);

    let taken = [scene.take(), scene.take()];

    let strikes = taken.map(|errand| (errand.item.0, errand.document_ref.strikes.count()));
    assert_eq!(strikes, [(2, 0), (1, 2)], "what was throttled comes last");
}

/// FAULTS 50.
#[test]
fn a_documents_own_throttle_fails_its_item() {
    let mut scene = DownloadsFixture::with_items(&[(1, 1)]);
    let errand = scene.take();
    let is_own =
        |failure: &Failure| scene.downloads.is_item_specific_failure(&errand, failure, NOW);

    assert!(!is_own(&Failure::new(Cause::RateLimit, "429")));
    assert_eq!(
        [0, 1, 2, 3].map(|strikes| is_own(&throttle_with_strikes(strikes))),
        [false, false, true, true]
    );

    let escalated =
        scene.downloads.on_downloaded(errand, Err(throttle_with_strikes(2)), NOW, MID_SAMPLE);
    assert_eq!(escalated, None, "the session goes on");
    let group = scene.downloads.take_due_batch(NOW).expect("the item is answered");
    let [DownloadOutcome::Retry { failure_counts: trial, .. }] = group.outcomes[..] else {
        panic!("{group:?}")
    };
    assert_eq!((trial.failed_attempts, trial.strikes), (0, 2), "the ledger keeps them");
}

#[test]
fn a_failure_is_the_items_if_others_succeeded_meanwhile() {
    let mut scene = DownloadsFixture::with_items(&[(1, 1), (2, 1)]);
    let (errand, mut other) = (scene.take(), scene.take());
    other.started_at = NOW.after(Duration::from_secs(10));
    scene.complete(other);
    let failed_at = NOW.after(Duration::from_secs(30));
    let is_own = |requests, seconds: u32| {
        let failing_millis = 1000 * seconds;
        let failure = Failure {
            request_count: requests,
            failing_millis,
            ..Failure::new(Cause::Server, "500")
        };
        scene.downloads.is_item_specific_failure(&errand, &failure, failed_at)
    };

    assert!(is_own(3, 21), "it failed a second before the other was asked for");
    assert!(!is_own(3, 19), "nothing succeeded since");
    assert!(!is_own(1, 21), "once is no proof");
}
