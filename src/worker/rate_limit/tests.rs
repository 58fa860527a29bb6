//! Tests of the rate limiters in paused time, with files on a real disk.

use std::cell::Cell;
use std::path::Path;

use futures_util::poll;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::config::RouteWeight;
use crate::engine::rate_limit::{HeaderNames, Rate, RateLimitHeaders, RateLimitMode, ReplyOutcome};
use crate::engine::{Cause, ClockReading, Failure, RandomSample, ThrottleStrikes, Timestamp};
use crate::source::http::{AttemptKind, Permit, RequestInfo, RequestLimiter as _};
use crate::state::LIMITERS_FILE;

const SECOND: Duration = Duration::from_secs(1);

/// Environment whose time advances when every task waits.
#[derive(Debug)]
struct PausedEnv {
    started_at: Instant,
    booted_at: Cell<Timestamp>,
}

impl Env for PausedEnv {
    fn time(&self) -> ClockReading {
        let booted = self.booted_at.get();
        ClockReading { wall: booted.after(self.started_at.elapsed()), booted_at: booted }
    }

    fn random_sample(&self) -> RandomSample {
        RandomSample(0)
    }

    async fn sleep_until(&self, end: ClockReading) {
        sleep(end.wall.since(self.now())).await;
    }

    async fn spawn_blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        job()
    }
}

fn paused_env() -> Rc<PausedEnv> {
    Rc::new(PausedEnv {
        started_at: Instant::now(),
        booted_at: Cell::new(Timestamp(1_700_000_000_000)),
    })
}

fn provider() -> ProviderSettings {
    ProviderSettings {
        concurrency: 4,
        mode: RateLimitMode::Adaptive,
        cap: None,
        reserve: 0.0,
        max_wait: 3600 * SECOND,
        rate_limit_scope: RateLimitScope::Provider,
        headers: HeaderNames::default(),
        routes: Vec::new(),
        error_rules: Vec::new(),
    }
}

fn config(provider: ProviderSettings) -> RateLimitConfig {
    let policy =
        RateLimitPolicy { mode: provider.mode, cap: provider.cap, ..RateLimitPolicy::default() };
    RateLimitConfig { provider, policy }
}

/// Creates the limiter handle of a separate process.
fn handle(
    world: &Rc<PausedEnv>,
    folder: &Path,
    provider: ProviderSettings,
) -> Rc<LimiterHandle<PausedEnv>> {
    let gates = RateLimiters::new(Rc::clone(world), LockedFile::new(folder.join(LIMITERS_FILE)));
    gates.handle_for("example", "alice", config(provider))
}

async fn acquire(door: &LimiterHandle<PausedEnv>) -> Result<Box<dyn Permit>, Failure> {
    acquire_for(door, None).await
}

/// Acquires a permit for a document.
async fn acquire_for(
    door: &LimiterHandle<PausedEnv>,
    strikes: Option<ThrottleStrikes>,
) -> Result<Box<dyn Permit>, Failure> {
    door.acquire(RequestInfo { host: "example", path: "/", attempt: AttemptKind::First, strikes })
        .await
}

/// Records a throttle, with Retry-After if given.
fn throttle(passage: &mut Box<dyn Permit>, told: Option<Duration>) -> Option<Timestamp> {
    passage.record_head(
        RateLimitHeaders { retry_after: told, ..RateLimitHeaders::default() },
        Duration::from_millis(1),
    );
    passage.record_outcome(ReplyOutcome::Throttled)
}

fn accept(mut passage: Box<dyn Permit>) {
    passage.record_head(RateLimitHeaders::default(), Duration::from_millis(1));
}

#[tokio::test(start_paused = true)]
async fn late_throttle_after_the_wait_adds_no_wait() {
    let (world, home) = (paused_env(), tempfile::tempdir().unwrap());
    let door = handle(&world, home.path(), provider());
    let mut first = acquire(&door).await.unwrap();
    let mut second = acquire(&door).await.unwrap();
    let mut third = acquire(&door).await.unwrap();

    let until = throttle(&mut first, None).expect("the gate is closed");
    assert_eq!(throttle(&mut second, None), Some(until));
    world.sleep_until(ClockReading { wall: until.after(SECOND), ..world.time() }).await;

    assert_eq!(throttle(&mut third, None), Some(world.now()));
}

/// FAULTS 50.
#[tokio::test(start_paused = true)]
async fn throttle_of_one_document_does_not_block_the_scope() {
    let (world, home) = (paused_env(), tempfile::tempdir().unwrap());
    let door = handle(&world, home.path(), provider());
    let mut first = acquire_for(&door, Some(ThrottleStrikes::default())).await.unwrap();
    let until = throttle(&mut first, Some(SECOND)).expect("the first refusal is obeyed");
    let strikes = first.strikes();
    drop(first);
    world.sleep_until(ClockReading { wall: until, ..world.time() }).await;
    accept(acquire(&door).await.unwrap());

    let mut second = acquire_for(&door, strikes).await.unwrap();

    assert_eq!(throttle(&mut second, Some(3600 * SECOND)), None);
    assert!(second.strikes().is_some_and(ThrottleStrikes::is_item_specific));
    drop(second);
    let asked_at = world.now();
    accept(acquire(&door).await.unwrap());
    assert!(world.now().since(asked_at) < SECOND);
}

/// FAULTS 50: an exhausted rate limit throttles every request.
#[tokio::test(start_paused = true)]
async fn repeated_document_throttle_without_success_blocks_scope() {
    let (world, home) = (paused_env(), tempfile::tempdir().unwrap());
    let door = handle(&world, home.path(), provider());
    accept(acquire(&door).await.unwrap());
    let mut strikes = Some(ThrottleStrikes::default());

    for _ in 0..5 {
        let mut passage = acquire_for(&door, strikes).await.unwrap();
        let until = throttle(&mut passage, Some(SECOND)).expect("it is obeyed");
        strikes = passage.strikes();
        drop(passage);
        world.sleep_until(ClockReading { wall: until, ..world.time() }).await;
    }

    assert!(!strikes.is_some_and(ThrottleStrikes::is_item_specific));
}

#[tokio::test(start_paused = true)]
async fn successful_probe_unblocks_the_other_process_at_once() {
    let (world, home) = (paused_env(), tempfile::tempdir().unwrap());
    let ours = handle(&world, home.path(), provider());
    let theirs = handle(&world, home.path(), provider());
    let mut refused = acquire(&ours).await.unwrap();
    let until = throttle(&mut refused, Some(SECOND)).unwrap();
    drop(refused);
    world.sleep_until(ClockReading { wall: until, ..world.time() }).await;
    let proof = acquire(&theirs).await.unwrap();
    let mut waiting = Box::pin(acquire(&ours));
    assert!(poll!(&mut waiting).is_pending(), "one request is out to see");

    let proved_at = world.now();
    accept(proof);
    accept(waiting.await.unwrap());

    let waited = world.now().since(proved_at);
    assert!(waited <= 5 * SECOND, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn killed_waiting_process_leaves_its_wait_to_the_next() {
    let (world, home) = (paused_env(), tempfile::tempdir().unwrap());
    let slow = ProviderSettings { cap: Some(Rate::from_units(1.0, 10 * SECOND)), ..provider() };
    let killed = handle(&world, home.path(), slow.clone());
    accept(acquire(&killed).await.unwrap());
    let sent_at = world.now();
    // Kept to the end, because dropping the limiter would write its state.
    let mut waiting = Box::pin(acquire(&killed));
    assert!(poll!(&mut waiting).is_pending());

    let next = handle(&world, home.path(), slow);
    accept(acquire(&next).await.unwrap());

    let waited = world.now().since(sent_at);
    assert!(waited >= 9 * SECOND, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_waiter_takes_no_slot() {
    let (world, home) = (paused_env(), tempfile::tempdir().unwrap());
    let door = handle(&world, home.path(), ProviderSettings { concurrency: 1, ..provider() });
    let only = acquire(&door).await.unwrap();
    let mut gives_up = Box::pin(acquire(&door));
    let mut waits = Box::pin(acquire(&door));
    assert!(poll!(&mut gives_up).is_pending());
    assert!(poll!(&mut waits).is_pending());

    drop(gives_up);
    assert!(poll!(&mut waits).is_pending(), "the place is taken");
    drop(only);

    let passage = timeout(60 * SECOND, waits).await.expect("the place is free");
    assert!(passage.is_ok());
}

#[tokio::test(start_paused = true)]
async fn aborted_bodies_reduce_concurrency_not_rate() {
    let (world, home) = (paused_env(), tempfile::tempdir().unwrap());
    let door = handle(&world, home.path(), provider());
    for _ in 0..10 {
        let mut passage = acquire(&door).await.unwrap();
        passage.record_head(RateLimitHeaders::default(), Duration::from_millis(1));
        assert_eq!(passage.record_outcome(ReplyOutcome::Accepted), None);
        world.sleep_until(world.time().after(SECOND)).await;
        assert_eq!(passage.record_outcome(ReplyOutcome::Failed), None);
    }

    let only = acquire(&door).await.expect("the gate is open");
    let mut second = Box::pin(acquire(&door));
    let no_place = timeout(30 * SECOND, &mut second).await;

    assert!(no_place.is_err(), "there were four places, and one is left");
    drop(only);
    assert!(second.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_long_block_is_reported_with_its_deadline() {
    let (world, home) = (paused_env(), tempfile::tempdir().unwrap());
    let door = handle(&world, home.path(), provider());
    let mut refused = acquire(&door).await.unwrap();
    let until = throttle(&mut refused, Some(60 * SECOND));

    let failure = acquire(&door).await.unwrap_err();

    assert_eq!((failure.cause, failure.blocked_until), (Cause::RateLimit, until));
}

/// Returns the duration of ten requests in sequence.
async fn ten_requests_duration(
    door: &LimiterHandle<PausedEnv>,
    world: &PausedEnv,
    path: &str,
) -> Duration {
    let began = world.now();
    for _ in 0..10 {
        accept(
            door.acquire(RequestInfo {
                host: "example",
                path,
                attempt: AttemptKind::First,
                strikes: None,
            })
            .await
            .unwrap(),
        );
    }
    world.now().since(began)
}

fn fixed_rate(cap: f64) -> ProviderSettings {
    ProviderSettings { mode: RateLimitMode::Fixed, cap: Some(Rate::per_second(cap)), ..provider() }
}

fn route(weight: u32, budget: Option<f64>) -> Vec<RouteWeight> {
    vec![RouteWeight { path: "/get/*".to_owned(), weight, budget: budget.map(Rate::per_second) }]
}

#[tokio::test(start_paused = true)]
async fn a_route_spends_its_weight_from_the_shared_budget() {
    let (world, home) = (paused_env(), tempfile::tempdir().unwrap());
    let door = handle(
        &world,
        home.path(),
        ProviderSettings { routes: route(20, None), ..fixed_rate(10.0) },
    );

    let light = ten_requests_duration(&door, &world, "/list").await;
    let heavy = ten_requests_duration(&door, &world, "/get/17").await;

    assert!((SECOND * 8 / 10..SECOND * 2).contains(&light), "{light:?}");
    assert!((SECOND * 17..SECOND * 21).contains(&heavy), "{heavy:?}");
}

#[tokio::test(start_paused = true)]
async fn a_route_budget_is_separate_from_the_shared_one() {
    let (world, home) = (paused_env(), tempfile::tempdir().unwrap());
    let door = handle(
        &world,
        home.path(),
        ProviderSettings { routes: route(20, Some(20.0)), ..fixed_rate(10.0) },
    );

    let heavy = ten_requests_duration(&door, &world, "/get/17").await;
    let light = ten_requests_duration(&door, &world, "/list").await;

    assert!((SECOND * 8..SECOND * 11).contains(&heavy), "twenty units a second: {heavy:?}");
    assert!(light < SECOND * 2, "{light:?}");
}

#[tokio::test(start_paused = true)]
async fn accounts_share_a_limiter_unless_configured_per_account() {
    for (shared_by, is_held) in [(RateLimitScope::Provider, true), (RateLimitScope::Account, false)]
    {
        let (world, home) = (paused_env(), tempfile::tempdir().unwrap());
        let gates =
            RateLimiters::new(Rc::clone(&world), LockedFile::new(home.path().join(LIMITERS_FILE)));
        let rules = config(ProviderSettings { rate_limit_scope: shared_by, ..provider() });
        let alice = gates.handle_for("example", "alice", rules.clone());
        let bob = gates.handle_for("example", "bob", rules);

        let mut refused = acquire(&alice).await.unwrap();
        throttle(&mut refused, Some(60 * SECOND)).expect("the gate is closed");
        drop(refused);

        assert!(acquire(&alice).await.is_err());
        assert_eq!(acquire(&bob).await.is_err(), is_held, "{shared_by:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn clock_step_keeps_the_length_of_a_block() {
    let day = 86_400 * SECOND;
    for set in [Timestamp::before as fn(Timestamp, Duration) -> Timestamp, Timestamp::after] {
        let (world, home) = (paused_env(), tempfile::tempdir().unwrap());
        let door = handle(&world, home.path(), provider());
        let mut refused = acquire(&door).await.unwrap();
        let until = throttle(&mut refused, Some(60 * SECOND)).unwrap();
        drop(refused);
        world.sleep_until(world.time().after(30 * SECOND)).await;
        let left = until.since(world.now());

        world.booted_at.set(set(world.booted_at.get(), day));

        let Err(failure) = acquire(&door).await else { panic!("it is closed for long") };
        let held = failure.blocked_until.expect("it says until when");
        assert_eq!(held.since(world.now()), left);
    }
}
