//! Tests of the breakers of one or two processes that share a file.

use std::cell::Cell;
use std::path::Path;

use cynosure_engine::Cause;

use super::*;
use crate::disk::{Disk, DiskFault, MemoryDisk, ensure_folder};
use crate::env::RealEnv;

const NOW: Timestamp = Timestamp(1_750_000_000_000);
const POLICY: BreakerPolicy = BreakerPolicy::DEFAULT;

/// A disk, a clock, and any number of processes.
struct BreakersFixture {
    disk: MemoryDisk,
    clock: Rc<Cell<Timestamp>>,
}

impl BreakersFixture {
    fn new() -> Self {
        let disk = MemoryDisk::default();
        ensure_folder(&disk, Path::new("/state")).unwrap();
        Self { disk, clock: Rc::new(Cell::new(NOW)) }
    }

    fn file(&self) -> BreakersFile {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        BreakersFile::without_lock(disk, Path::new("/state"))
    }

    fn process(&self) -> Rc<Breakers> {
        let clock = Rc::clone(&self.clock);
        let (breakers, warning) = Breakers::open(self.file(), POLICY, move || clock.get());
        assert_eq!(warning, None);
        breakers
    }

    fn advance(&self, seconds: u64) {
        self.clock.set(self.clock.get().after(Duration::from_secs(seconds)));
    }

    fn apply(&self, name: &str, command: ManualCommand) {
        apply_command(&self.file(), name, command, POLICY, self.clock.get()).unwrap();
    }

    /// Returns the state of the example breaker in the file.
    fn saved_state(&self) -> cynosure_engine::breaker::PersistedBreaker {
        self.file().read().unwrap().unwrap()["example"].clone()
    }
}

fn provider_down() -> Failure {
    Failure::new(Cause::Server, "503 from example")
}

fn open_breaker(breakers: &Breakers) {
    for _ in 0..5 {
        breakers.record_failure("example", &provider_down());
    }
    assert_eq!(breakers.state("example"), BreakerState::Open);
}

#[tokio::test]
async fn an_open_breaker_is_open_for_later_and_other_processes() {
    let fixture = BreakersFixture::new();
    let (first, other) = (fixture.process(), fixture.process());
    open_breaker(&first);
    first.sync(&RealEnv).await;
    fixture.advance(5);
    other.sync(&RealEnv).await;
    let next = fixture.process();

    let until = NOW.after(POLICY.recovery_timeout);
    for process in [&first, &other, &next] {
        assert_eq!(process.try_acquire("example"), Err(until));
    }
    fixture.advance(55);
    assert_eq!(next.try_acquire("example"), Ok(()));
    assert_eq!(next.try_acquire("example"), Err(fixture.clock.get().after(PROBE_RETRY_DELAY)));
}

#[tokio::test]
async fn changes_before_the_first_save_are_in_the_file() {
    let fixture = BreakersFixture::new();
    let (worker, other) = (fixture.process(), fixture.process());
    open_breaker(&worker);
    fixture.advance(60);
    for _ in 0..3 {
        assert_eq!(worker.try_acquire("example"), Ok(()));
        worker.record_success("example");
    }
    worker.sync(&RealEnv).await;
    fixture.advance(5);
    other.sync(&RealEnv).await;
    open_breaker(&other);
    other.sync(&RealEnv).await;

    let open_periods = fixture.saved_state().open_periods();

    let (first, second) = (&open_periods[0], &open_periods[1]);
    assert_eq!(
        (open_periods.len(), first.opened_at, first.generation, second.generation),
        (2, NOW, 1, 4)
    );
    assert_eq!(first.reason, "5 failures in a row: 503 from example");
    let closing = first.closed.as_ref().unwrap();
    assert_eq!((closing.at, second.closed.is_some()), (NOW.after(POLICY.recovery_timeout), false));
}

#[tokio::test]
async fn a_command_is_seen_within_five_seconds() {
    let fixture = BreakersFixture::new();
    let worker = fixture.process();
    open_breaker(&worker);
    worker.sync(&RealEnv).await;

    fixture.apply("example", ManualCommand::Reset);
    fixture.advance(5);
    worker.sync(&RealEnv).await;
    assert_eq!(worker.state("example"), BreakerState::Closed);
    assert_eq!(fixture.saved_state().statistics, Default::default());

    fixture.apply("example", ManualCommand::Open { until: None });
    fixture.advance(5);
    worker.sync(&RealEnv).await;
    assert_eq!(worker.open_until("example"), Some(None));
    worker.save(&RealEnv).await;
    assert_eq!(fixture.saved_state().open_until, None);
    assert_eq!(fixture.saved_state().state, "open", "the worker does not undo it");
}

#[tokio::test]
async fn a_command_during_counting_is_not_lost() {
    let fixture = BreakersFixture::new();
    let worker = fixture.process();
    worker.record_failure("example", &provider_down());
    worker.save(&RealEnv).await;
    fixture.apply("example", ManualCommand::Open { until: None });

    worker.record_failure("example", &provider_down());
    worker.save(&RealEnv).await;

    assert_eq!(worker.open_until("example"), Some(None));
    assert_eq!(
        (fixture.saved_state().state.as_str(), fixture.saved_state().statistics.failures),
        ("open", 2)
    );
}

#[tokio::test]
async fn counts_of_two_processes_are_added() {
    let fixture = BreakersFixture::new();
    let (one, two) = (fixture.process(), fixture.process());
    for round in 1..=3 {
        one.record_success("example");
        two.record_success("example");
        one.save(&RealEnv).await;
        two.save(&RealEnv).await;
        assert_eq!(fixture.saved_state().statistics.successes, 2 * round);
    }
    one.save(&RealEnv).await;
    assert_eq!(fixture.saved_state().statistics.calls, 6, "nothing is counted twice");
}

#[tokio::test]
async fn results_during_an_exchange_are_not_lost() {
    let fixture = BreakersFixture::new();
    let breakers = fixture.process();
    open_breaker(&breakers);

    tokio::join!(breakers.sync(&RealEnv), async {
        fixture.advance(60);
        assert_eq!(breakers.try_acquire("example"), Ok(()));
        breakers.record_success("example");
        breakers.save(&RealEnv).await;
    });

    let saved_state = fixture.saved_state();
    assert_eq!((&*saved_state.state, saved_state.successes), ("half_open", 1));
    let statistics = saved_state.statistics;
    assert_eq!((statistics.calls, statistics.failures, statistics.successes), (6, 5, 1));
    breakers.save(&RealEnv).await;
    assert_eq!(fixture.saved_state(), saved_state, "nothing is counted twice");
}

#[tokio::test]
async fn of_two_changes_at_once_the_first_saved_holds() {
    let fixture = BreakersFixture::new();
    let (first, second) = (fixture.process(), fixture.process());
    first.record_success("example");
    first.save(&RealEnv).await;
    fixture.advance(5);
    second.sync(&RealEnv).await;
    open_breaker(&second);
    SourceBreakers::new(&first, "example", "work").require_probes();
    first.sync(&RealEnv).await;

    second.sync(&RealEnv).await;

    for process in [&first, &second] {
        assert_eq!(process.state("example"), BreakerState::HalfOpen);
    }
    let saved_state = fixture.saved_state();
    assert_eq!((&*saved_state.state, saved_state.generation), ("half_open", 1));
    assert_eq!((saved_state.statistics.calls, saved_state.statistics.failures), (6, 5));
}

#[tokio::test]
async fn counts_without_state_change_are_saved_once_a_minute() {
    let fixture = BreakersFixture::new();
    let worker = fixture.process();
    worker.record_success("example");
    for seconds in [1, 4, 50] {
        fixture.advance(seconds);
        worker.sync(&RealEnv).await;
        assert!(fixture.file().read().unwrap().unwrap().is_empty());
    }

    fixture.advance(5);
    worker.sync(&RealEnv).await;

    assert_eq!(fixture.saved_state().statistics.successes, 1);
}

#[tokio::test]
async fn breakers_survive_disk_failure_and_retry_the_save() {
    let fixture = BreakersFixture::new();
    let worker = fixture.process();
    fixture.disk.set_fault(DiskFault::stop_at(fixture.disk.operation_count()));
    open_breaker(&worker);
    worker.sync(&RealEnv).await;
    assert!(worker.open_until("example").is_some());

    fixture.disk.clear_fault();
    fixture.advance(5);
    worker.sync(&RealEnv).await;

    assert_eq!(fixture.saved_state().state, "open");
}

#[test]
fn ledger_and_archive_have_their_own_breakers() {
    let fixture = BreakersFixture::new();
    let breakers = fixture.process();
    let source_breakers = SourceBreakers::new(&breakers, "example", "work");
    for _ in 0..5 {
        source_breakers.record_storage_failure(&Failure::new(Cause::Storage, "the disk is full"));
    }

    assert_eq!(breakers.state(ARCHIVE), BreakerState::Open);
    assert_eq!([breakers.state(LEDGER), breakers.state("example")], [BreakerState::Closed; 2]);
    let breaker = source_breakers.open_breaker().unwrap();
    assert_eq!(
        breaker.to_string(),
        "the circuit breaker archive is open until 2025-06-15 15:07:40 UTC"
    );
    assert_eq!(source_breakers.open_breaker_for(Cause::Storage, RequestScope::Item), Some(breaker));
    assert_eq!(source_breakers.open_breaker_for(Cause::Server, RequestScope::Item), None);
    fixture.advance(60);
    assert_eq!(source_breakers.open_breaker(), None);
    for _ in 0..3 {
        source_breakers.record_storage_success();
    }
    assert_eq!(breakers.state(ARCHIVE), BreakerState::Closed);
}

#[test]
fn neutral_failures_do_not_open_the_provider_breaker() {
    let fixture = BreakersFixture::new();
    let breakers = fixture.process();
    for cause in [Cause::RateLimit, Cause::Unauthorized, Cause::LocalNetwork, Cause::Storage] {
        for _ in 0..50 {
            breakers.record_failure("example", &Failure::new(cause, "x"));
        }
        assert_eq!(breakers.state("example"), BreakerState::Closed, "{cause}");
    }
}

#[tokio::test]
async fn a_waiter_proceeds_after_the_probe_of_another() {
    let fixture = BreakersFixture::new();
    let breakers = fixture.process();
    let [one, two] = ["one", "two"].map(|source| SourceBreakers::new(&breakers, "example", source));
    open_breaker(&breakers);
    fixture.advance(60);
    let CallDecision::Admitted(probe) = one.try_acquire() else { panic!("a probe is due") };
    assert!(matches!(two.try_acquire(), CallDecision::ProbeInFlight));

    let waiting = two.call(RequestScope::Session, async { Ok(()) });
    let (result, ()) = tokio::join!(waiting, async { drop(probe) });

    assert!(result.is_ok());
    assert_eq!(breakers.state("example"), BreakerState::HalfOpen);
}

#[tokio::test]
async fn a_failed_session_makes_all_sources_go_one_at_a_time() {
    let fixture = BreakersFixture::new();
    let (breakers, other) = (fixture.process(), fixture.process());
    let [one, two] = ["one", "two"].map(|source| SourceBreakers::new(&breakers, "example", source));
    let mut changes = two.subscribe();
    one.require_probes();

    assert!(changes.has_changed().unwrap());
    drop(changes.borrow_and_update());
    assert_eq!((one.open_breaker(), one.is_in_open_period("example")), (None, false));
    let CallDecision::Admitted(probe) = one.try_acquire() else { panic!("it is half-open") };
    assert!(matches!(two.try_acquire(), CallDecision::ProbeInFlight));
    drop(probe);
    assert!(changes.has_changed().unwrap(), "the next one is admitted");
    breakers.sync(&RealEnv).await;
    fixture.advance(5);
    other.sync(&RealEnv).await;
    for process in [&breakers, &other, &fixture.process()] {
        assert_eq!(process.state("example"), BreakerState::HalfOpen);
        assert!(!process.is_in_open_period("example"));
    }
    for source in [&two, &one, &two] {
        assert!(source.call(RequestScope::Session, async { Ok(()) }).await.is_ok());
    }
    assert_eq!(breakers.state("example"), BreakerState::Closed);
}

#[test]
fn same_item_number_in_two_sources_counts_as_two_items() {
    let fixture = BreakersFixture::new();
    let breakers = fixture.process();
    for source in ["a", "b", "c", "d", "e"] {
        let source_breakers = SourceBreakers::new(&breakers, "example", source);
        let CallDecision::Admitted(permit) = source_breakers.try_acquire() else {
            panic!("the breaker is closed")
        };
        permit.record_item_result(7, Some(&provider_down()));
    }

    assert_eq!(breakers.state("example"), BreakerState::Open);
}

#[tokio::test]
async fn changes_of_all_processes_are_kept() {
    let fixture = BreakersFixture::new();
    let breakers = fixture.process();

    open_breaker(&breakers);
    breakers.sync(&RealEnv).await;
    fixture.advance(60);
    assert_eq!(breakers.try_acquire("example"), Ok(()));
    breakers.record_failure("example", &provider_down());
    breakers.sync(&RealEnv).await;
    fixture.apply("example", ManualCommand::Close);
    fixture.advance(5);
    breakers.sync(&RealEnv).await;

    let changes = fixture.saved_state().transitions;
    let steps: Vec<_> = changes.iter().map(|change| (&*change.from, &*change.to)).collect();
    let expected =
        [("closed", "open"), ("open", "half_open"), ("half_open", "open"), ("open", "closed")];
    assert_eq!(steps, expected);
}
