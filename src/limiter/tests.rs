//! Tests of the rate limiters in paused time, with files on a real disk.

use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

use cynosure_engine::rate_limit::{
    Rate, RateLimitMode, RateLimitPolicy, ReportedLimits, ResponseOutcome,
};
use cynosure_engine::{Cause, ClockReading, Failure, RandomSample, ThrottleStrikes, Timestamp};
use futures_util::poll;
use tokio::time::{Instant, sleep, timeout};

use super::*;
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

fn config() -> LimiterConfig {
    LimiterConfig {
        policy: RateLimitPolicy::default(),
        concurrency: 4,
        is_per_account: false,
        route_budgets: BTreeMap::new(),
    }
}

/// Creates the limiter handle of a separate process.
fn handle(
    env: &Rc<PausedEnv>,
    folder: &Path,
    config: LimiterConfig,
) -> Rc<LimiterHandle<PausedEnv>> {
    let limiters = RateLimiters::new(Rc::clone(env), LockedFile::new(folder.join(LIMITERS_FILE)));
    limiters.handle_for("example", "alice", config)
}

async fn acquire(limiter: &LimiterHandle<PausedEnv>) -> Result<Box<dyn Permit>, Failure> {
    acquire_for(limiter, None).await
}

/// Acquires a permit for a document.
async fn acquire_for(
    limiter: &LimiterHandle<PausedEnv>,
    strikes: Option<ThrottleStrikes>,
) -> Result<Box<dyn Permit>, Failure> {
    let scope = QuotaScope { server: "example", route: None };
    limiter.acquire(PermitRequest { scope, cost: 1, attempt: AttemptKind::First, strikes }).await
}

/// Records a throttle, with Retry-After if given.
fn throttle(permit: &mut Box<dyn Permit>, retry_after: Option<Duration>) -> Option<Timestamp> {
    permit.record_response_start(
        ReportedLimits { retry_after, ..ReportedLimits::default() },
        Duration::from_millis(1),
    );
    permit.record_outcome(ResponseOutcome::Throttled)
}

fn accept(mut permit: Box<dyn Permit>) {
    permit.record_response_start(ReportedLimits::default(), Duration::from_millis(1));
}

#[tokio::test(start_paused = true)]
async fn late_throttle_after_the_wait_adds_no_wait() {
    let (env, folder) = (paused_env(), tempfile::tempdir().unwrap());
    let limiter = handle(&env, folder.path(), config());
    let mut first = acquire(&limiter).await.unwrap();
    let mut second = acquire(&limiter).await.unwrap();
    let mut third = acquire(&limiter).await.unwrap();

    let until = throttle(&mut first, None).expect("the limiter is blocked");
    assert_eq!(throttle(&mut second, None), Some(until));
    env.sleep_until(ClockReading { wall: until.after(SECOND), ..env.time() }).await;

    assert_eq!(throttle(&mut third, None), Some(env.now()));
}

/// FAULTS 50: the server throttles one document again and again.
#[tokio::test(start_paused = true)]
async fn throttle_of_one_document_does_not_block_the_scope() {
    let (env, folder) = (paused_env(), tempfile::tempdir().unwrap());
    let limiter = handle(&env, folder.path(), config());
    let mut first = acquire_for(&limiter, Some(ThrottleStrikes::default())).await.unwrap();
    let until = throttle(&mut first, Some(SECOND)).expect("the first throttle blocks the limiter");
    let strikes = first.strikes();
    drop(first);
    env.sleep_until(ClockReading { wall: until, ..env.time() }).await;
    accept(acquire(&limiter).await.unwrap());

    let mut second = acquire_for(&limiter, strikes).await.unwrap();

    assert_eq!(throttle(&mut second, Some(3600 * SECOND)), None);
    assert!(second.strikes().is_some_and(ThrottleStrikes::is_item_specific));
    drop(second);
    let requested_at = env.now();
    accept(acquire(&limiter).await.unwrap());
    assert!(env.now().since(requested_at) < SECOND);
}

/// FAULTS 50: an exhausted rate limit throttles every request.
#[tokio::test(start_paused = true)]
async fn repeated_document_throttle_without_success_blocks_scope() {
    let (env, folder) = (paused_env(), tempfile::tempdir().unwrap());
    let limiter = handle(&env, folder.path(), config());
    accept(acquire(&limiter).await.unwrap());
    let mut strikes = Some(ThrottleStrikes::default());

    for _ in 0..5 {
        let mut permit = acquire_for(&limiter, strikes).await.unwrap();
        let until = throttle(&mut permit, Some(SECOND)).expect("the limiter is blocked");
        strikes = permit.strikes();
        drop(permit);
        env.sleep_until(ClockReading { wall: until, ..env.time() }).await;
    }

    assert!(!strikes.is_some_and(ThrottleStrikes::is_item_specific));
}

#[tokio::test(start_paused = true)]
async fn successful_probe_unblocks_the_other_process_at_once() {
    let (env, folder) = (paused_env(), tempfile::tempdir().unwrap());
    let ours = handle(&env, folder.path(), config());
    let theirs = handle(&env, folder.path(), config());
    let mut throttled = acquire(&ours).await.unwrap();
    let until = throttle(&mut throttled, Some(SECOND)).unwrap();
    drop(throttled);
    env.sleep_until(ClockReading { wall: until, ..env.time() }).await;
    let probe = acquire(&theirs).await.unwrap();
    let mut waiting = Box::pin(acquire(&ours));
    assert!(poll!(&mut waiting).is_pending(), "a probe is in flight");

    let probed_at = env.now();
    accept(probe);
    accept(waiting.await.unwrap());

    let waited = env.now().since(probed_at);
    assert!(waited <= 5 * SECOND, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn killed_waiting_process_leaves_its_wait_to_the_next() {
    let (env, folder) = (paused_env(), tempfile::tempdir().unwrap());
    let mut slow = config();
    slow.policy.cap = Some(Rate::from_units(1.0, 10 * SECOND));
    let killed = handle(&env, folder.path(), slow.clone());
    accept(acquire(&killed).await.unwrap());
    let sent_at = env.now();
    // Kept to the end, because dropping the limiter would write its state.
    let mut waiting = Box::pin(acquire(&killed));
    assert!(poll!(&mut waiting).is_pending());

    let next = handle(&env, folder.path(), slow);
    accept(acquire(&next).await.unwrap());

    let waited = env.now().since(sent_at);
    assert!(waited >= 9 * SECOND, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_waiter_takes_no_slot() {
    let (env, folder) = (paused_env(), tempfile::tempdir().unwrap());
    let limiter = handle(&env, folder.path(), LimiterConfig { concurrency: 1, ..config() });
    let only = acquire(&limiter).await.unwrap();
    let mut cancelled = Box::pin(acquire(&limiter));
    let mut waiting = Box::pin(acquire(&limiter));
    assert!(poll!(&mut cancelled).is_pending());
    assert!(poll!(&mut waiting).is_pending());

    drop(cancelled);
    assert!(poll!(&mut waiting).is_pending(), "the slot is taken");
    drop(only);

    let permit = timeout(60 * SECOND, waiting).await.expect("the slot is free");
    assert!(permit.is_ok());
}

#[tokio::test(start_paused = true)]
async fn aborted_bodies_reduce_concurrency_not_rate() {
    let (env, folder) = (paused_env(), tempfile::tempdir().unwrap());
    let limiter = handle(&env, folder.path(), config());
    for _ in 0..10 {
        let mut permit = acquire(&limiter).await.unwrap();
        permit.record_response_start(ReportedLimits::default(), Duration::from_millis(1));
        assert_eq!(permit.record_outcome(ResponseOutcome::Accepted), None);
        env.sleep_until(env.time().after(SECOND)).await;
        assert_eq!(permit.record_outcome(ResponseOutcome::Failed), None);
    }

    let only = acquire(&limiter).await.expect("the limiter is not blocked");
    let mut second = Box::pin(acquire(&limiter));
    let no_slot = timeout(30 * SECOND, &mut second).await;

    assert!(no_slot.is_err(), "one of four slots remains");
    drop(only);
    assert!(second.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_long_block_is_reported_with_its_deadline() {
    let (env, folder) = (paused_env(), tempfile::tempdir().unwrap());
    let limiter = handle(&env, folder.path(), config());
    let mut throttled = acquire(&limiter).await.unwrap();
    let until = throttle(&mut throttled, Some(60 * SECOND));

    let failure = acquire(&limiter).await.unwrap_err();

    assert_eq!((failure.cause, failure.blocked_until), (Cause::RateLimit, until));
}

/// Returns the duration of ten requests in sequence, each of `cost` units.
async fn ten_requests_duration(
    limiter: &LimiterHandle<PausedEnv>,
    env: &PausedEnv,
    route: Option<&str>,
    cost: u32,
) -> Duration {
    let started_at = env.now();
    let scope = QuotaScope { server: "example", route };
    for _ in 0..10 {
        let request = PermitRequest { scope, cost, attempt: AttemptKind::First, strikes: None };
        accept(limiter.acquire(request).await.unwrap());
    }
    env.now().since(started_at)
}

fn fixed_rate(cap: f64) -> LimiterConfig {
    let policy = RateLimitPolicy {
        mode: RateLimitMode::Fixed,
        cap: Some(Rate::per_second(cap)),
        ..config().policy
    };
    LimiterConfig { policy, ..config() }
}

#[tokio::test(start_paused = true)]
async fn a_route_spends_its_cost_from_the_shared_budget() {
    let (env, folder) = (paused_env(), tempfile::tempdir().unwrap());
    let limiter = handle(&env, folder.path(), fixed_rate(10.0));

    let light = ten_requests_duration(&limiter, &env, None, 1).await;
    let heavy = ten_requests_duration(&limiter, &env, Some("/get/*"), 20).await;

    assert!((SECOND * 8 / 10..SECOND * 2).contains(&light), "{light:?}");
    assert!((SECOND * 17..SECOND * 21).contains(&heavy), "{heavy:?}");
}

#[tokio::test(start_paused = true)]
async fn a_route_budget_is_separate_from_the_shared_one() {
    let (env, folder) = (paused_env(), tempfile::tempdir().unwrap());
    let route_budgets = BTreeMap::from([("/get/*".to_owned(), Rate::per_second(20.0))]);
    let limiter = handle(&env, folder.path(), LimiterConfig { route_budgets, ..fixed_rate(10.0) });

    let heavy = ten_requests_duration(&limiter, &env, Some("/get/*"), 20).await;
    let light = ten_requests_duration(&limiter, &env, None, 1).await;

    assert!((SECOND * 8..SECOND * 11).contains(&heavy), "twenty units a second: {heavy:?}");
    assert!(light < SECOND * 2, "{light:?}");
}

#[tokio::test(start_paused = true)]
async fn accounts_share_a_limiter_unless_configured_per_account() {
    for is_per_account in [false, true] {
        let (env, folder) = (paused_env(), tempfile::tempdir().unwrap());
        let limiters =
            RateLimiters::new(Rc::clone(&env), LockedFile::new(folder.path().join(LIMITERS_FILE)));
        let limiter_config = LimiterConfig { is_per_account, ..config() };
        let alice = limiters.handle_for("example", "alice", limiter_config.clone());
        let bob = limiters.handle_for("example", "bob", limiter_config);

        let mut throttled = acquire(&alice).await.unwrap();
        throttle(&mut throttled, Some(60 * SECOND)).expect("the limiter is blocked");
        drop(throttled);

        assert!(acquire(&alice).await.is_err());
        assert_eq!(acquire(&bob).await.is_err(), !is_per_account);
    }
}

#[tokio::test(start_paused = true)]
async fn clock_step_keeps_the_length_of_a_block() {
    let day = 86_400 * SECOND;
    for shift in [Timestamp::before as fn(Timestamp, Duration) -> Timestamp, Timestamp::after] {
        let (env, folder) = (paused_env(), tempfile::tempdir().unwrap());
        let limiter = handle(&env, folder.path(), config());
        let mut throttled = acquire(&limiter).await.unwrap();
        let until = throttle(&mut throttled, Some(60 * SECOND)).unwrap();
        drop(throttled);
        env.sleep_until(env.time().after(30 * SECOND)).await;
        let remaining = until.since(env.now());

        env.booted_at.set(shift(env.booted_at.get(), day));

        let Err(failure) = acquire(&limiter).await else { panic!("the limiter is blocked") };
        let blocked_until = failure.blocked_until.expect("the failure has a deadline");
        assert_eq!(blocked_until.since(env.now()), remaining);
    }
}

const BYTES_PER_DAY: u64 = 1_000_000;

fn limited_bytes() -> LimiterConfig {
    let policy = RateLimitPolicy { bytes_per_day: Some(BYTES_PER_DAY), ..config().policy };
    LimiterConfig { policy, ..config() }
}

async fn receive(limiter: &LimiterHandle<PausedEnv>, bytes: u64) {
    let mut permit = acquire(limiter).await.unwrap();
    permit.record_bytes(bytes);
    accept(permit);
}

#[tokio::test(start_paused = true)]
async fn used_up_bytes_block_until_they_are_a_day_old() {
    let (env, folder) = (paused_env(), tempfile::tempdir().unwrap());
    let limiter = handle(&env, folder.path(), limited_bytes());
    receive(&limiter, BYTES_PER_DAY).await;
    drop(limiter);
    let next = handle(&env, folder.path(), limited_bytes());

    let failure = acquire(&next).await.unwrap_err();

    assert_eq!(failure.cause, Cause::RateLimit);
    assert!(failure.to_string().contains("90 % of bytes_per_day"), "{failure}");
    let until = failure.blocked_until.expect("the failure has a deadline");
    let day = 86_400 * SECOND;
    assert!((day..day + 900 * SECOND).contains(&until.since(env.now())), "{until}");
    env.sleep_until(ClockReading { wall: until, ..env.time() }).await;
    assert!(acquire(&next).await.is_ok());
}

/// Records a refusal because of a lock-out. Returns the end of the block.
fn lock_out(permit: &mut Box<dyn Permit>) -> Timestamp {
    permit.record_lock_out(3600 * SECOND);
    permit.record_outcome(ResponseOutcome::Throttled).expect("the limiter is blocked")
}

/// FAULTS 67: Gmail accepts a login, and refuses to send messages.
#[tokio::test(start_paused = true)]
async fn lock_outs_in_a_row_are_longer_in_the_next_process() {
    let (env, folder) = (paused_env(), tempfile::tempdir().unwrap());
    let limiter = handle(&env, folder.path(), config());
    let until = lock_out(&mut acquire(&limiter).await.unwrap());
    drop(limiter);
    let next = handle(&env, folder.path(), config());
    assert!(acquire(&next).await.is_err(), "it is still blocked");

    env.sleep_until(ClockReading { wall: until, ..env.time() }).await;
    accept(acquire(&next).await.unwrap());
    let until = lock_out(&mut acquire(&next).await.unwrap());

    let waited = until.since(env.now());
    assert!((7200 * SECOND..7210 * SECOND).contains(&waited), "{waited:?}");
}

/// FAULTS 67: the document that is refused is not the reason, although a login succeeded.
#[tokio::test(start_paused = true)]
async fn a_lock_out_is_never_that_of_one_document() {
    let (env, folder) = (paused_env(), tempfile::tempdir().unwrap());
    let limiter = handle(&env, folder.path(), config());
    accept(acquire(&limiter).await.unwrap());
    let throttled_before = Some(ThrottleStrikes::restore(1));
    let mut permit = acquire_for(&limiter, throttled_before).await.unwrap();

    let until = lock_out(&mut permit);

    assert!(3600 * SECOND < until.since(env.now()), "{until}");
    assert_eq!(permit.strikes(), None);
}

/// FAULTS 67: the other process writes its state between a request and its response.
#[tokio::test(start_paused = true)]
async fn a_block_is_kept_beside_what_another_process_wrote() {
    let (env, folder) = (paused_env(), tempfile::tempdir().unwrap());
    let ours = handle(&env, folder.path(), config());
    let theirs = handle(&env, folder.path(), config());
    let mut refused = acquire(&ours).await.unwrap();
    accept(acquire(&theirs).await.unwrap());

    let until = lock_out(&mut refused);

    for limiter in [&ours, &theirs] {
        let failure = acquire(limiter).await.unwrap_err();
        assert_eq!(failure.blocked_until, Some(until));
    }
}

#[tokio::test(start_paused = true)]
async fn processes_share_the_bytes_of_a_day() {
    let (env, folder) = (paused_env(), tempfile::tempdir().unwrap());
    let ours = handle(&env, folder.path(), limited_bytes());
    let theirs = handle(&env, folder.path(), limited_bytes());

    receive(&ours, 300_000).await;
    receive(&theirs, 300_000).await;
    receive(&ours, 300_000).await;

    assert!(acquire(&theirs).await.is_err());
    assert!(acquire(&ours).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn bytes_of_a_long_response_survive_a_crash() {
    let (env, folder) = (paused_env(), tempfile::tempdir().unwrap());
    let killed = handle(&env, folder.path(), limited_bytes());
    let mut permit = acquire(&killed).await.unwrap();
    env.sleep_until(env.time().after(2 * SECOND)).await;

    permit.record_bytes(BYTES_PER_DAY);

    // The permit is kept, because dropping the limiter would write its state.
    let next = handle(&env, folder.path(), limited_bytes());
    assert!(acquire(&next).await.is_err());
    drop(permit);
}
