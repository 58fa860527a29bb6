//! The bookkeeping against a ledger that is played by hand.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::archive::{Archive, Marker, Owner};
use crate::disk::MemoryDisk;
use crate::engine::{BlobId, DocumentId, ItemId, LedgerId, ThrottleStrikes};
use crate::ledger::{DocumentNo, WantedDocument};

const NOW: Timestamp = Timestamp(1_000_000);
const MIDDLE: RandomSample = RandomSample(u32::MAX / 2 + 1);
const CONCURRENCY: usize = 8;
const DAY: Duration = Duration::from_secs(86_400);

struct Scene {
    downloads: Downloads,
    archive: Archive,
}

impl Scene {
    /// A download that was just begun, with the first answer of the ledger on its way.
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
        let marker = Marker::new(disk, Path::new("/downloads"), "work");
        marker.prepare().unwrap();
        let owner = Owner::new(&LedgerId::new("a"), None, "work");
        let (archive, _) = Archive::open(marker, owner, |_, _, _| Ok(false)).unwrap();
        let mut downloads = Downloads::new(Policies { item, bridge }, None, Meter::default());
        assert_eq!(downloads.wants_more(NOW).map(|wish| wish.skip), Some(BTreeSet::new()));
        Self { downloads, archive }
    }

    /// A download of `items`, each with so many documents, and of nothing else.
    fn of(items: &[(i64, usize)]) -> Self {
        let mut scene = Self::new();
        scene.downloads.admit(work(items), None, NOW);
        scene
    }

    /// Takes all that may be taken with so many slots.
    fn take_all(&mut self, slots: usize) -> Vec<Errand> {
        std::iter::from_fn(|| self.downloads.take(slots, NOW)).collect()
    }

    fn take(&mut self) -> Errand {
        self.downloads.take(CONCURRENCY, NOW).expect("there is something to fetch")
    }

    fn stored(&mut self, errand: Errand) {
        let draft = self.archive.draft();
        assert_eq!(self.downloads.answered(errand, Ok(draft), NOW, MIDDLE), None);
    }

    fn failed(&mut self, errand: Errand, cause: Cause) -> Option<Cause> {
        let failure = Failure::new(cause, "x");
        let escalated = self.downloads.answered(errand, Err(failure), NOW, MIDDLE);
        escalated.map(|failure| failure.cause)
    }

    /// Makes the group durable and returns what was in it.
    fn commit(&mut self) -> Vec<&'static str> {
        let group = self.downloads.take_group(NOW).expect("there is something to make durable");
        self.downloads.committed(&group.items(), group.retry_at());
        group.outcomes.iter().map(name).collect()
    }

    /// What the loop does when it comes round: ask the ledger, else see whether all is done.
    fn round(&mut self) -> Round {
        match self.downloads.wants_more(NOW) {
            Some(wish) => Round::Asks(wish.skip),
            None => Round::Lull(self.downloads.lull()),
        }
    }
}

#[derive(Debug, PartialEq)]
enum Round {
    Asks(BTreeSet<ItemNo>),
    Lull(Option<Lull>),
}

/// Asks the ledger, and passes over nothing.
fn asks() -> Round {
    Round::Asks(BTreeSet::new())
}

fn work(items: &[(i64, usize)]) -> Vec<Work> {
    let document = |item: i64, index: usize| WantedDocument {
        no: DocumentNo(item * 1000 + i64::try_from(index).unwrap()),
        id: DocumentId::new(format!("D{item}-{index}")),
        blob: BlobId::new(format!("B{item}-{index}")),
        size: None,
    };
    let work = |&(item, documents): &(i64, usize)| Work {
        no: ItemNo(item),
        item: ItemId::new(format!("T{item}")),
        is_retry: false,
        trial: ItemFailureCounts::default(),
        documents: (0..documents).map(|index| document(item, index)).collect(),
    };
    items.iter().map(work).collect()
}

/// Items with one document each that failed before.
fn retries(items: RangeInclusive<i64>) -> Vec<Work> {
    let items: Vec<_> = items.map(|item| (item, 1)).collect();
    let trial = ItemFailureCounts {
        failed_attempts: 1,
        failed_requests: 1,
        strikes: 0,
        failing_since: Some(NOW),
    };
    work(&items).into_iter().map(|work| Work { is_retry: true, trial, ..work }).collect()
}

fn name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Stored { .. } => "stored",
        Outcome::Gone { .. } => "gone",
        Outcome::Refused { .. } => "refused",
        Outcome::Answered { .. } => "answered",
        Outcome::Retry { .. } => "retry",
        Outcome::Quarantined { .. } => "quarantined",
    }
}

#[test]
fn an_item_is_answered_with_its_last_document() {
    let mut scene = Scene::of(&[(1, 2)]);
    let (first, second) = (scene.take(), scene.take());

    scene.stored(first);
    assert!(scene.downloads.take_group(NOW).is_none(), "the group waits for the other one");
    scene.stored(second);

    assert_eq!(scene.commit(), ["stored", "stored", "answered"]);
}

#[test]
fn nothing_is_settled_before_the_ledger_has_said_so_after_the_last_group() {
    // The ledger hands out a thread of a thousand messages bit by bit.
    let mut scene = Scene::of(&[(1, 1)]);
    let errand = scene.take();
    scene.stored(errand);
    scene.commit();

    assert_eq!(scene.downloads.lull(), None);
    assert_eq!(scene.round(), asks());
    scene.downloads.admit(work(&[(1, 1)]), None, NOW);
    let errand = scene.take();
    scene.stored(errand);
    scene.commit();

    assert_eq!(scene.round(), asks());
    scene.downloads.admit(Vec::new(), None, NOW);
    assert_eq!(scene.round(), Round::Lull(Some(Lull::AllSettled)));
}

#[test]
fn what_was_passed_over_is_asked_for_in_the_same_round() {
    let mut scene = Scene::of(&[(1, 1)]);
    scene.downloads.ask_again();
    assert_eq!(scene.round(), Round::Asks(BTreeSet::from([ItemNo(1)])));
    scene.downloads.admit(Vec::new(), None, NOW);
    let errand = scene.take();
    scene.stored(errand);
    assert_eq!(scene.round(), Round::Lull(None), "it is not durable yet");
    scene.commit();

    assert_eq!(scene.round(), asks(), "else the loop would sleep with work left");
}

#[test]
fn an_item_that_is_partly_refused_and_partly_not_asked_for_is_asked_for_again() {
    let mut scene = Scene::of(&[(1, 2)]);
    let (first, second) = (scene.take(), scene.take());
    scene.failed(first, Cause::TooLarge);
    assert_eq!(scene.failed(second, Cause::RateLimit), Some(Cause::RateLimit));

    assert_eq!(scene.commit(), ["refused", "answered"]);

    assert_eq!(scene.round(), asks());
}

#[test]
fn two_groups_become_durable_at_a_time_and_a_third_waits_for_the_first() {
    let mut scene = Scene::of(&[(1, 1), (2, 1), (3, 1)]);
    let mut groups = Vec::new();
    for _ in 0..2 {
        let errand = scene.take();
        scene.stored(errand);
        groups.push(scene.downloads.take_last_group().expect("there is something in it"));
    }
    let errand = scene.take();
    scene.stored(errand);
    assert!(scene.downloads.take_group(NOW).is_none(), "two are under way");
    assert_eq!(scene.downloads.group_closes_at(), None, "and nothing is to be woken for");

    scene.downloads.drop_in_flight();
    let all = BTreeSet::from([1, 2, 3].map(ItemNo));
    assert_eq!(scene.downloads.busy, all, "none of them is asked for again");
    scene.downloads.committed(&groups[0].items(), groups[0].retry_at());

    let third = scene.downloads.take_group(NOW).expect("the first has made room");
    assert_eq!(third.items(), [ItemNo(2)]);
    scene.downloads.drop_in_flight();
    assert_eq!(scene.downloads.busy, BTreeSet::from([2, 3].map(ItemNo)));
    for group in [&groups[1], &third] {
        assert!(!scene.downloads.is_quiet());
        scene.downloads.committed(&group.items(), group.retry_at());
    }
    assert!(scene.downloads.is_quiet());
}

#[test]
fn documents_that_fail_together_cost_their_item_one_attempt() {
    let mut scene = Scene::of(&[(1, 3)]);
    for _ in 0..3 {
        let errand = scene.take();
        assert_eq!(scene.failed(errand, Cause::Server), None, "one item is not the source");
    }

    let group = scene.downloads.take_group(NOW).expect("the item is answered");

    assert!(
        matches!(
            group.outcomes[..],
            [Outcome::Retry {
                trial: ItemFailureCounts { failed_attempts: 1, failed_requests: 1, .. },
                ..
            }]
        ),
        "{group:?}"
    );
    scene.downloads.committed(&group.items(), group.retry_at());
    assert_eq!(scene.round(), asks());
    scene.downloads.admit(Vec::new(), group.retry_at(), NOW);
    let until = group.retry_at().expect("it has a time");
    assert_eq!(scene.round(), Round::Lull(Some(Lull::Resting(until))));
    assert_eq!(scene.downloads.refills_at(), Some(until));
}

#[test]
fn a_throttle_costs_an_item_nothing() {
    let mut scene = Scene::of(&[(1, 1)]);
    let errand = scene.take();

    assert_eq!(scene.failed(errand, Cause::RateLimit), Some(Cause::RateLimit));

    assert!(scene.downloads.take_group(NOW).is_none());
    assert_eq!(scene.round(), asks());
}

#[test]
fn forbidden_items_are_held_back_until_another_one_succeeds() {
    let mut scene = Scene::of(&[(1, 1), (2, 1), (3, 1)]);
    let (first, second) = (scene.take(), scene.take());

    scene.failed(first, Cause::Forbidden);
    assert!(scene.downloads.take_last_group().is_none());
    scene.stored(second);

    assert_eq!(scene.downloads.withheld.len(), 0);
    let group = scene.downloads.take_last_group().expect("both are known now");
    assert_eq!(group.items(), [ItemNo(1), ItemNo(3)]);
}

#[test]
fn ten_forbidden_items_in_a_row_are_let_off() {
    let items: Vec<_> = (1..=10).map(|item| (item, 1)).collect();
    let mut scene = Scene::of(&items);
    let errands: Vec<_> =
        (0..10).map(|_| scene.downloads.take(10, NOW).expect("there are ten")).collect();

    let escalated: Vec<_> =
        errands.into_iter().filter_map(|errand| scene.failed(errand, Cause::Forbidden)).collect();

    assert_eq!(escalated, [Cause::Unauthorized]);
    assert!(scene.downloads.take_group(NOW).is_none(), "none is set aside");
    assert_eq!(scene.round(), asks(), "and all may be asked for again");
}

#[test]
fn a_queue_that_is_dropped_frees_its_items_when_their_answers_are_in() {
    let mut scene = Scene::of(&[(1, 2), (2, 1)]);
    let errand = scene.take();
    scene.downloads.drop_queue(NOW);
    assert_eq!(scene.round(), Round::Asks(BTreeSet::from([ItemNo(1)])));

    scene.stored(errand);

    assert_eq!(scene.downloads.take_last_group().map(|group| group.items()), Some(Vec::new()));
    assert!(!scene.downloads.busy.contains(&ItemNo(1)), "its other document is asked for again");
}

#[test]
fn what_is_dropped_in_flight_is_free_and_what_is_answered_is_not() {
    let mut scene = Scene::of(&[(1, 1), (2, 1)]);
    let errand = scene.take();
    scene.stored(errand);

    scene.downloads.drop_in_flight();

    assert_eq!(scene.downloads.in_flight(), 0);
    assert_eq!(scene.round(), Round::Asks(BTreeSet::from([ItemNo(1)])));
}

#[test]
fn after_a_failure_of_the_session_one_request_is_made_at_a_time() {
    let mut scene = Scene::of(&[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)]);
    scene.downloads.half_open();

    for _ in 0..3 {
        let errand = scene.take();
        assert!(scene.downloads.take(CONCURRENCY, NOW).is_none());
        scene.stored(errand);
    }

    assert!(scene.downloads.take(CONCURRENCY, NOW).is_some());
    assert!(scene.downloads.take(CONCURRENCY, NOW).is_some());
}

#[test]
fn the_ledger_is_asked_again_when_the_clock_was_set() {
    let mut scene = Scene::of(&[(1, 1)]);
    let errand = scene.take();
    assert_eq!(scene.failed(errand, Cause::Server), None);
    assert_eq!(scene.commit(), ["retry"]);
    assert_eq!(scene.round(), asks());
    let later = NOW.after(Duration::from_secs(10));
    scene.downloads.admit(Vec::new(), Some(later), NOW);
    assert_eq!(scene.round(), Round::Lull(Some(Lull::Resting(later))));

    scene.downloads.ask_again();

    assert_eq!(scene.round(), asks());
}

#[test]
fn documents_are_taken_from_both_ends_in_turn() {
    let mut scene = Scene::of(&[(1, 1), (2, 1), (3, 1), (4, 1)]);

    let taken = [scene.take(), scene.take(), scene.take(), scene.take()];

    assert_eq!(taken.map(|errand| errand.item.0), [1, 4, 2, 3]);
}

#[test]
fn retries_hold_at_most_half_of_the_slots() {
    for (slots, most) in [(1, 1), (2, 1), (3, 1), (8, 4), (9, 4)] {
        let mut scene = Scene::new();
        scene.downloads.admit(retries(1..=20), None, NOW);
        let mut taken = scene.take_all(slots);
        assert_eq!(taken.len(), most, "of {slots}");

        scene.failed(taken.remove(0), Cause::Server);
        taken.extend(scene.take_all(slots));
        assert_eq!(taken.len(), most, "one for the one that failed, of {slots}");
        scene.stored(taken.remove(0));
        taken.extend(scene.take_all(slots));
        assert_eq!(taken.len(), most, "one for the one that is stored, of {slots}");

        scene.downloads.drop_in_flight();
        scene.downloads.admit(retries(1..=20), None, NOW);
        assert_eq!(scene.take_all(slots).len(), most, "what is dropped holds none of {slots}");
    }
}

#[test]
fn retries_without_an_answer_leave_half_to_untried_items() {
    for (slots, most) in [(2, 1), (3, 1), (8, 4), (9, 4)] {
        let mut scene = Scene::new();
        let untried: Vec<_> = (101..=200).map(|item| (item, 1)).collect();
        scene.downloads.admit([work(&untried), retries(1..=20)].concat(), None, NOW);
        let mut held = Vec::new();
        for round in 0..10 {
            let (slow, quick): (Vec<_>, Vec<_>) =
                scene.take_all(slots).into_iter().partition(|errand| errand.is_retry);
            assert_eq!(scene.downloads.in_flight(), slots, "round {round}");
            held.extend(slow);
            assert!(held.len() <= most, "{} of {slots} in round {round}", held.len());
            quick.into_iter().for_each(|errand| scene.stored(errand));
        }

        assert_eq!(held.len(), most, "of {slots}");
    }
}

#[test]
fn with_one_slot_each_fourth_document_is_a_retry() {
    let mut scene = Scene::new();
    let untried: Vec<_> = (101..=120).map(|item| (item, 1)).collect();
    scene.downloads.admit([work(&untried), retries(1..=20)].concat(), None, NOW);

    let turns = [(); 8].map(|()| {
        let [errand] = <[Errand; 1]>::try_from(scene.take_all(1)).expect("one at a time");
        let is_retry = errand.is_retry;
        scene.stored(errand);
        is_retry
    });

    assert_eq!(turns, [false, false, false, true, false, false, false, true]);
}

/// A throttle of a document that others were let through between so often.
fn throttle(strikes: u32) -> Failure {
    Failure::new(Cause::RateLimit, "429").with_strikes(Some(ThrottleStrikes::restore(strikes)))
}

/// FAULTS 50.
#[test]
fn strikes_of_an_earlier_process_go_on() {
    let mut scene = Scene::new();
    let mut work = work(&[(1, 1), (2, 1)]);
    work[0].trial.strikes = 2;
    scene.downloads.admit(work, None, NOW);

    let taken = [scene.take(), scene.take()];

    let strikes = taken.map(|errand| (errand.item.0, errand.wanted.strikes.count()));
    assert_eq!(strikes, [(2, 0), (1, 2)], "what was throttled comes last");
}

/// FAULTS 50.
#[test]
fn a_throttle_of_its_own_is_its_items_failure() {
    let mut scene = Scene::of(&[(1, 1)]);
    let errand = scene.take();
    let is_own = |failure: &Failure| scene.downloads.is_own_failure(&errand, failure, NOW);

    assert!(!is_own(&Failure::new(Cause::RateLimit, "429")));
    assert_eq!([0, 1, 2, 3].map(|strikes| is_own(&throttle(strikes))), [false, false, true, true]);

    let escalated = scene.downloads.answered(errand, Err(throttle(2)), NOW, MIDDLE);
    assert_eq!(escalated, None, "the session goes on");
    let group = scene.downloads.take_group(NOW).expect("the item is answered");
    let [Outcome::Retry { trial, .. }] = group.outcomes[..] else { panic!("{group:?}") };
    assert_eq!((trial.failed_attempts, trial.strikes), (0, 2), "the ledger keeps them");
}

#[test]
fn a_failure_is_its_items_own_if_others_succeeded_meanwhile() {
    let mut scene = Scene::of(&[(1, 1), (2, 1)]);
    let (errand, mut other) = (scene.take(), scene.take());
    other.asked_at = NOW.after(Duration::from_secs(10));
    scene.stored(other);
    let failed_at = NOW.after(Duration::from_secs(30));
    let is_own = |requests, seconds: u32| {
        let failing_millis = 1000 * seconds;
        let failure = Failure {
            request_count: requests,
            failing_millis,
            ..Failure::new(Cause::Server, "500")
        };
        scene.downloads.is_own_failure(&errand, &failure, failed_at)
    };

    assert!(is_own(3, 21), "it failed a second before the other was asked for");
    assert!(!is_own(3, 19), "nothing succeeded since");
    assert!(!is_own(1, 21), "once is no proof");
}
