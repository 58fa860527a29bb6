//! Gates in a made-up time, on files of a real disk.

use std::cell::Cell;
use std::path::Path;

use futures_util::poll;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::config::Route;
use crate::engine::quota::{HeaderNames, Outcome, QuotaMode, Rate, Signals};
use crate::engine::{Cause, ClockReading, Failure, RandomSample, ThrottleStrikes, Timestamp};
use crate::source::http::{Attempt, Gate as _, Outgoing, Passage};
use crate::state::QUOTA_FILE;

const SECOND: Duration = Duration::from_secs(1);

/// A world whose time passes when everyone waits.
#[derive(Debug)]
struct Paused {
    began: Instant,
    booted: Cell<Timestamp>,
}

impl World for Paused {
    fn time(&self) -> ClockReading {
        let booted = self.booted.get();
        ClockReading { wall: booted.after(self.began.elapsed()), booted_at: booted }
    }

    fn draw(&self) -> RandomSample {
        RandomSample(0)
    }

    async fn sleep_until(&self, end: ClockReading) {
        sleep(end.wall.since(self.now())).await;
    }

    async fn offload<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        job()
    }
}

fn world() -> Rc<Paused> {
    Rc::new(Paused { began: Instant::now(), booted: Cell::new(Timestamp(1_700_000_000_000)) })
}

fn provider() -> Provider {
    Provider {
        concurrency: 4,
        mode: QuotaMode::Follow,
        cap: None,
        reserve: 0.0,
        max_wait: 3600 * SECOND,
        shared_by: SharedBy::Provider,
        headers: HeaderNames::default(),
        routes: Vec::new(),
        error_rules: Vec::new(),
    }
}

fn rules(provider: Provider) -> GateRules {
    let policy = QuotaPolicy { mode: provider.mode, cap: provider.cap, ..QuotaPolicy::default() };
    GateRules { provider, policy }
}

/// The gate of a process of its own.
fn door(world: &Rc<Paused>, folder: &Path, provider: Provider) -> Rc<Door<Paused>> {
    let gates = Gates::new(Rc::clone(world), SharedFile::new(folder.join(QUOTA_FILE)));
    gates.of("example", "alice", rules(provider))
}

async fn enter(door: &Door<Paused>) -> Result<Box<dyn Passage>, Failure> {
    enter_for(door, None).await
}

/// The same for a document.
async fn enter_for(
    door: &Door<Paused>,
    strikes: Option<ThrottleStrikes>,
) -> Result<Box<dyn Passage>, Failure> {
    door.enter(Outgoing { host: "example", path: "/", attempt: Attempt::First, strikes }).await
}

/// "Too many", and when to come again if that is said.
fn refuse(passage: &mut Box<dyn Passage>, told: Option<Duration>) -> Option<Timestamp> {
    passage.head(Signals { told, ..Signals::default() }, Duration::from_millis(1));
    passage.judge(Outcome::Throttled)
}

fn accept(mut passage: Box<dyn Passage>) {
    passage.head(Signals::default(), Duration::from_millis(1));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_comes_when_the_wait_is_over_asks_for_no_wait_of_its_own() {
    let (world, home) = (world(), tempfile::tempdir().unwrap());
    let door = door(&world, home.path(), provider());
    let mut first = enter(&door).await.unwrap();
    let mut second = enter(&door).await.unwrap();
    let mut third = enter(&door).await.unwrap();

    let until = refuse(&mut first, None).expect("the gate is closed");
    assert_eq!(refuse(&mut second, None), Some(until));
    world.sleep_until(ClockReading { wall: until.after(SECOND), ..world.time() }).await;

    assert_eq!(refuse(&mut third, None), Some(world.now()));
}

/// FAULTS 50.
#[tokio::test(start_paused = true)]
async fn a_document_that_alone_is_throttled_closes_no_gate() {
    let (world, home) = (world(), tempfile::tempdir().unwrap());
    let door = door(&world, home.path(), provider());
    let mut first = enter_for(&door, Some(ThrottleStrikes::default())).await.unwrap();
    let until = refuse(&mut first, Some(SECOND)).expect("the first refusal is obeyed");
    let strikes = first.strikes();
    drop(first);
    world.sleep_until(ClockReading { wall: until, ..world.time() }).await;
    accept(enter(&door).await.unwrap());

    let mut second = enter_for(&door, strikes).await.unwrap();

    assert_eq!(refuse(&mut second, Some(3600 * SECOND)), None);
    assert!(second.strikes().is_some_and(ThrottleStrikes::is_item_specific));
    drop(second);
    let asked_at = world.now();
    accept(enter(&door).await.unwrap());
    assert!(world.now().since(asked_at) < SECOND);
}

/// FAULTS 50: a quota that is used up refuses everybody.
#[tokio::test(start_paused = true)]
async fn a_document_throttled_again_with_no_success_between_closes_the_gate_again() {
    let (world, home) = (world(), tempfile::tempdir().unwrap());
    let door = door(&world, home.path(), provider());
    accept(enter(&door).await.unwrap());
    let mut strikes = Some(ThrottleStrikes::default());

    for _ in 0..5 {
        let mut passage = enter_for(&door, strikes).await.unwrap();
        let until = refuse(&mut passage, Some(SECOND)).expect("it is obeyed");
        strikes = passage.strikes();
        drop(passage);
        world.sleep_until(ClockReading { wall: until, ..world.time() }).await;
    }

    assert!(!strikes.is_some_and(ThrottleStrikes::is_item_specific));
}

#[tokio::test(start_paused = true)]
async fn the_proof_of_one_process_opens_the_gate_of_the_other_at_once() {
    let (world, home) = (world(), tempfile::tempdir().unwrap());
    let ours = door(&world, home.path(), provider());
    let theirs = door(&world, home.path(), provider());
    let mut refused = enter(&ours).await.unwrap();
    let until = refuse(&mut refused, Some(SECOND)).unwrap();
    drop(refused);
    world.sleep_until(ClockReading { wall: until, ..world.time() }).await;
    let proof = enter(&theirs).await.unwrap();
    let mut waiting = Box::pin(enter(&ours));
    assert!(poll!(&mut waiting).is_pending(), "one request is out to see");

    let proved_at = world.now();
    accept(proof);
    accept(waiting.await.unwrap());

    let waited = world.now().since(proved_at);
    assert!(waited <= 5 * SECOND, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_killed_while_it_waits_its_turn_leaves_the_wait_to_the_next() {
    let (world, home) = (world(), tempfile::tempdir().unwrap());
    let slow = Provider { cap: Some(Rate::of(1.0, 10 * SECOND)), ..provider() };
    let killed = door(&world, home.path(), slow.clone());
    accept(enter(&killed).await.unwrap());
    let sent_at = world.now();
    // Kept to the end: what a gate writes when it is let go is not written here.
    let mut waiting = Box::pin(enter(&killed));
    assert!(poll!(&mut waiting).is_pending());

    let next = door(&world, home.path(), slow);
    accept(enter(&next).await.unwrap());

    let waited = world.now().since(sent_at);
    assert!(waited >= 9 * SECOND, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_waiting_takes_no_place_and_no_turn() {
    let (world, home) = (world(), tempfile::tempdir().unwrap());
    let door = door(&world, home.path(), Provider { concurrency: 1, ..provider() });
    let only = enter(&door).await.unwrap();
    let mut gives_up = Box::pin(enter(&door));
    let mut waits = Box::pin(enter(&door));
    assert!(poll!(&mut gives_up).is_pending());
    assert!(poll!(&mut waits).is_pending());

    drop(gives_up);
    assert!(poll!(&mut waits).is_pending(), "the place is taken");
    drop(only);

    let passage = timeout(60 * SECOND, waits).await.expect("the place is free");
    assert!(passage.is_ok());
}

#[tokio::test(start_paused = true)]
async fn bodies_that_break_off_cost_places_and_no_quota() {
    let (world, home) = (world(), tempfile::tempdir().unwrap());
    let door = door(&world, home.path(), provider());
    for _ in 0..10 {
        let mut passage = enter(&door).await.unwrap();
        passage.head(Signals::default(), Duration::from_millis(1));
        assert_eq!(passage.judge(Outcome::Accepted), None);
        world.sleep_until(world.time().after(SECOND)).await;
        assert_eq!(passage.judge(Outcome::Failed), None);
    }

    let only = enter(&door).await.expect("the gate is open");
    let mut second = Box::pin(enter(&door));
    let no_place = timeout(30 * SECOND, &mut second).await;

    assert!(no_place.is_err(), "there were four places, and one is left");
    drop(only);
    assert!(second.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_stays_closed_for_long_says_until_when() {
    let (world, home) = (world(), tempfile::tempdir().unwrap());
    let door = door(&world, home.path(), provider());
    let mut refused = enter(&door).await.unwrap();
    let until = refuse(&mut refused, Some(60 * SECOND));

    let failure = enter(&door).await.unwrap_err();

    assert_eq!((failure.cause, failure.blocked_until), (Cause::RateLimit, until));
}

/// How long ten requests take, one after the other.
async fn ten(door: &Door<Paused>, world: &Paused, path: &str) -> Duration {
    let began = world.now();
    for _ in 0..10 {
        accept(
            door.enter(Outgoing { host: "example", path, attempt: Attempt::First, strikes: None })
                .await
                .unwrap(),
        );
    }
    world.now().since(began)
}

fn fixed(cap: f64) -> Provider {
    Provider { mode: QuotaMode::Fixed, cap: Some(Rate::per_second(cap)), ..provider() }
}

fn route(weight: u32, budget: Option<f64>) -> Vec<Route> {
    vec![Route { path: "/get/*".to_owned(), weight, budget: budget.map(Rate::per_second) }]
}

#[tokio::test(start_paused = true)]
async fn a_route_costs_its_weight_of_the_budget_of_all() {
    let (world, home) = (world(), tempfile::tempdir().unwrap());
    let door = door(&world, home.path(), Provider { routes: route(20, None), ..fixed(10.0) });

    let light = ten(&door, &world, "/list").await;
    let heavy = ten(&door, &world, "/get/17").await;

    assert!((SECOND * 8 / 10..SECOND * 2).contains(&light), "{light:?}");
    assert!((SECOND * 17..SECOND * 21).contains(&heavy), "{heavy:?}");
}

#[tokio::test(start_paused = true)]
async fn a_route_with_a_budget_of_its_own_leaves_that_of_the_others_alone() {
    let (world, home) = (world(), tempfile::tempdir().unwrap());
    let door = door(&world, home.path(), Provider { routes: route(20, Some(20.0)), ..fixed(10.0) });

    let heavy = ten(&door, &world, "/get/17").await;
    let light = ten(&door, &world, "/list").await;

    assert!((SECOND * 8..SECOND * 11).contains(&heavy), "twenty units a second: {heavy:?}");
    assert!(light < SECOND * 2, "{light:?}");
}

#[tokio::test(start_paused = true)]
async fn accounts_share_a_quota_unless_each_has_its_own() {
    for (shared_by, is_held) in [(SharedBy::Provider, true), (SharedBy::Account, false)] {
        let (world, home) = (world(), tempfile::tempdir().unwrap());
        let gates = Gates::new(Rc::clone(&world), SharedFile::new(home.path().join(QUOTA_FILE)));
        let rules = rules(Provider { shared_by, ..provider() });
        let alice = gates.of("example", "alice", rules.clone());
        let bob = gates.of("example", "bob", rules);

        let mut refused = enter(&alice).await.unwrap();
        refuse(&mut refused, Some(60 * SECOND)).expect("the gate is closed");
        drop(refused);

        assert!(enter(&alice).await.is_err());
        assert_eq!(enter(&bob).await.is_err(), is_held, "{shared_by:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_gate_is_closed_for_as_long_when_the_clock_is_set() {
    let day = 86_400 * SECOND;
    for set in [Timestamp::before as fn(Timestamp, Duration) -> Timestamp, Timestamp::after] {
        let (world, home) = (world(), tempfile::tempdir().unwrap());
        let door = door(&world, home.path(), provider());
        let mut refused = enter(&door).await.unwrap();
        let until = refuse(&mut refused, Some(60 * SECOND)).unwrap();
        drop(refused);
        world.sleep_until(world.time().after(30 * SECOND)).await;
        let left = until.since(world.now());

        world.booted.set(set(world.booted.get(), day));

        let Err(failure) = enter(&door).await else { panic!("it is closed for long") };
        let held = failure.blocked_until.expect("it says until when");
        assert_eq!(held.since(world.now()), left);
    }
}
