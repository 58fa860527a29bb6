//! The breakers of one process, or of two, over one file.

use std::cell::Cell;
use std::path::Path;

use super::*;
use crate::disk::{Disk, Fault, MemoryDisk, ensure_folder};
use crate::engine::Cause;
use crate::worker::world::RealWorld;

const NOW: Timestamp = Timestamp(1_750_000_000_000);
const POLICY: BreakerPolicy = BreakerPolicy::DEFAULT;

/// A disk, a clock, and as many processes as one likes.
struct Scene {
    disk: MemoryDisk,
    clock: Rc<Cell<Timestamp>>,
}

impl Scene {
    fn new() -> Self {
        let disk = MemoryDisk::default();
        ensure_folder(&disk, Path::new("/state")).unwrap();
        Self { disk, clock: Rc::new(Cell::new(NOW)) }
    }

    fn file(&self) -> BreakersFile {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        BreakersFile::alone_on(disk, Path::new("/state"))
    }

    fn process(&self) -> Rc<Breakers> {
        let clock = Rc::clone(&self.clock);
        let (breakers, note) = Breakers::open(self.file(), POLICY, move || clock.get());
        assert_eq!(note, None);
        breakers
    }

    fn pass(&self, seconds: u64) {
        self.clock.set(self.clock.get().after(Duration::from_secs(seconds)));
    }

    fn order(&self, name: &str, wanted: ManualCommand) {
        order(&self.file(), name, wanted, POLICY, self.clock.get()).unwrap();
    }

    /// What the file says of the example.
    fn saved(&self) -> crate::engine::breaker::PersistedBreaker {
        self.file().examine().unwrap().unwrap()["example"].clone()
    }
}

fn down() -> Failure {
    Failure::new(Cause::Server, "503 from example")
}

fn open(breakers: &Breakers) {
    for _ in 0..5 {
        breakers.failed("example", &down());
    }
    assert_eq!(breakers.phase("example"), BreakerState::Open);
}

#[tokio::test]
async fn one_that_opened_is_open_for_the_next_process_and_for_its_others() {
    let scene = Scene::new();
    let (first, beside) = (scene.process(), scene.process());
    open(&first);
    first.sync(&RealWorld).await;
    scene.pass(5);
    beside.sync(&RealWorld).await;
    let next = scene.process();

    let until = NOW.after(POLICY.recovery_timeout);
    for process in [&first, &beside, &next] {
        assert_eq!(process.permits("example"), Err(until));
    }
    scene.pass(55);
    assert_eq!(next.permits("example"), Ok(()));
    assert_eq!(next.permits("example"), Err(scene.clock.get().after(BUSY_WAIT)));
}

#[tokio::test]
async fn what_opened_and_closed_before_it_was_written_down_is_in_the_file() {
    let scene = Scene::new();
    let (worker, beside) = (scene.process(), scene.process());
    open(&worker);
    scene.pass(60);
    for _ in 0..3 {
        assert_eq!(worker.permits("example"), Ok(()));
        worker.succeeded("example");
    }
    worker.sync(&RealWorld).await;
    scene.pass(5);
    beside.sync(&RealWorld).await;
    open(&beside);
    beside.sync(&RealWorld).await;

    let openings = scene.saved().open_periods();

    let (first, second) = (&openings[0], &openings[1]);
    assert_eq!(
        (openings.len(), first.opened_at, first.generation, second.generation),
        (2, NOW, 1, 4)
    );
    assert_eq!(first.reason, "5 failures in a row: 503 from example");
    let closing = first.closed.as_ref().unwrap();
    assert_eq!((closing.at, second.closed.is_some()), (NOW.after(POLICY.recovery_timeout), false));
}

#[tokio::test]
async fn an_order_is_seen_within_five_seconds() {
    let scene = Scene::new();
    let worker = scene.process();
    open(&worker);
    worker.sync(&RealWorld).await;

    scene.order("example", ManualCommand::Reset);
    scene.pass(5);
    worker.sync(&RealWorld).await;
    assert_eq!(worker.phase("example"), BreakerState::Closed);
    assert_eq!(scene.saved().statistics, Default::default());

    scene.order("example", ManualCommand::Open { until: None });
    scene.pass(5);
    worker.sync(&RealWorld).await;
    assert_eq!(worker.shut("example"), Some(None));
    worker.save(&RealWorld).await;
    assert_eq!(scene.saved().open_until, None);
    assert_eq!(scene.saved().state, "open", "the worker does not undo it");
}

#[tokio::test]
async fn an_order_that_comes_while_a_worker_counts_is_not_lost() {
    let scene = Scene::new();
    let worker = scene.process();
    worker.failed("example", &down());
    worker.save(&RealWorld).await;
    scene.order("example", ManualCommand::Open { until: None });

    worker.failed("example", &down());
    worker.save(&RealWorld).await;

    assert_eq!(worker.shut("example"), Some(None));
    assert_eq!((scene.saved().state.as_str(), scene.saved().statistics.failures), ("open", 2));
}

#[tokio::test]
async fn two_processes_count_together() {
    let scene = Scene::new();
    let (one, two) = (scene.process(), scene.process());
    for round in 1..=3 {
        one.succeeded("example");
        two.succeeded("example");
        one.save(&RealWorld).await;
        two.save(&RealWorld).await;
        assert_eq!(scene.saved().statistics.successes, 2 * round);
    }
    one.save(&RealWorld).await;
    assert_eq!(scene.saved().statistics.calls, 6, "nothing is counted twice");
}

#[tokio::test]
async fn what_is_only_counted_is_saved_once_a_minute() {
    let scene = Scene::new();
    let worker = scene.process();
    worker.succeeded("example");
    for seconds in [1, 4, 50] {
        scene.pass(seconds);
        worker.sync(&RealWorld).await;
        assert!(scene.file().examine().unwrap().unwrap().is_empty());
    }

    scene.pass(5);
    worker.sync(&RealWorld).await;

    assert_eq!(scene.saved().statistics.successes, 1);
}

#[tokio::test]
async fn a_disk_that_fails_takes_nothing_from_the_breakers_and_is_tried_again() {
    let scene = Scene::new();
    let worker = scene.process();
    scene.disk.fail(Fault::stop(scene.disk.operations()));
    open(&worker);
    worker.sync(&RealWorld).await;
    assert!(worker.shut("example").is_some());

    scene.disk.heal();
    scene.pass(5);
    worker.sync(&RealWorld).await;

    assert_eq!(scene.saved().state, "open");
}

#[test]
fn the_ledger_and_the_archive_have_their_own() {
    let scene = Scene::new();
    let breakers = scene.process();
    let circuits = Circuits::new(&breakers, "example", "work");
    for _ in 0..5 {
        circuits.not_stored(&Failure::new(Cause::Storage, "the disk is full"));
    }

    assert_eq!(breakers.phase(ARCHIVE), BreakerState::Open);
    assert_eq!([breakers.phase(LEDGER), breakers.phase("example")], [BreakerState::Closed; 2]);
    let shut = circuits.shut().unwrap();
    assert_eq!(shut.to_string(), "the circuit of archive is open until 2025-06-15 15:07:40 UTC");
    assert_eq!(circuits.shut_for(Cause::Storage, RequestScope::Item), Some(shut));
    assert_eq!(circuits.shut_for(Cause::Server, RequestScope::Item), None);
    scene.pass(60);
    assert_eq!(circuits.shut(), None);
    for _ in 0..3 {
        circuits.stored();
    }
    assert_eq!(breakers.phase(ARCHIVE), BreakerState::Closed);
}

#[test]
fn what_is_not_the_providers_fault_opens_nothing() {
    let scene = Scene::new();
    let breakers = scene.process();
    for cause in [Cause::RateLimit, Cause::Unauthorized, Cause::LocalNetwork, Cause::Storage] {
        for _ in 0..50 {
            breakers.failed("example", &Failure::new(cause, "x"));
        }
        assert_eq!(breakers.phase("example"), BreakerState::Closed, "{cause}");
    }
}

#[tokio::test]
async fn whoever_waits_for_the_probe_of_another_goes_next() {
    let scene = Scene::new();
    let breakers = scene.process();
    let [one, two] = ["one", "two"].map(|source| Circuits::new(&breakers, "example", source));
    open(&breakers);
    scene.pass(60);
    let Entry::Go(probe) = one.try_enter() else { panic!("it may try") };
    assert!(matches!(two.try_enter(), Entry::Busy));

    let waiting = two.call(RequestScope::Session, async { Ok(()) });
    let (gone, ()) = tokio::join!(waiting, async { drop(probe) });

    assert!(gone.is_ok());
    assert_eq!(breakers.phase("example"), BreakerState::HalfOpen);
}

#[test]
fn items_of_one_number_in_two_sources_are_two_items() {
    let scene = Scene::new();
    let breakers = scene.process();
    for source in ["a", "b", "c", "d", "e"] {
        let circuits = Circuits::new(&breakers, "example", source);
        let Entry::Go(pass) = circuits.try_enter() else { panic!("it is closed") };
        pass.ended(7, Some(&down()));
    }

    assert_eq!(breakers.phase("example"), BreakerState::Open);
}

#[tokio::test]
async fn each_change_is_kept_whoever_made_it() {
    let scene = Scene::new();
    let breakers = scene.process();

    open(&breakers);
    breakers.sync(&RealWorld).await;
    scene.pass(60);
    assert_eq!(breakers.permits("example"), Ok(()));
    breakers.failed("example", &down());
    breakers.sync(&RealWorld).await;
    scene.order("example", ManualCommand::Close);
    scene.pass(5);
    breakers.sync(&RealWorld).await;

    let changes = scene.saved().transitions;
    let steps: Vec<_> = changes.iter().map(|change| (&*change.from, &*change.to)).collect();
    let expected =
        [("closed", "open"), ("open", "half_open"), ("half_open", "open"), ("open", "closed")];
    assert_eq!(steps, expected);
}
