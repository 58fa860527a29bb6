//! Calls under a policy, with made-up waits, breakers and budgets.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::time::Instant;

use super::*;
use crate::engine::{Cause, Failure, RandomSample};

const SHAPE: Shape = Shape { jitter: Jitter::None, ..Shape::FAST };

fn server() -> Failure {
    Failure::new(Cause::Server, "500 from example.com")
}

/// A call that fails so often and then succeeds.
fn failing(times: u32) -> impl FnMut() -> Result<u32, Failure> {
    let mut made = 0;
    move || {
        made += 1;
        if made <= times { Err(server()) } else { Ok(made) }
    }
}

/// Time that is only written down.
#[derive(Clone, Default)]
struct Noted(Arc<Mutex<Vec<Duration>>>);

impl Pauses for Noted {
    fn draw(&self) -> RandomSample {
        RandomSample(0)
    }

    fn pass(&self, delay: Duration) -> BoxFuture<'static, ()> {
        self.block(delay);
        async {}.boxed()
    }

    fn block(&self, delay: Duration) {
        self.0.lock().unwrap().push(delay);
    }
}

impl Noted {
    fn millis(&self) -> Vec<u128> {
        self.0.lock().unwrap().iter().map(Duration::as_millis).collect()
    }
}

/// A breaker that notes what it is told.
#[derive(Default)]
struct Ward {
    is_open: AtomicBool,
    /// Opens at this failure, from 1.
    opens_at: u32,
    told: Mutex<Vec<&'static str>>,
    failures: AtomicU32,
}

impl Ward {
    fn note(&self, what: &'static str) {
        self.told.lock().unwrap().push(what);
    }

    fn told(&self) -> Vec<&'static str> {
        self.told.lock().unwrap().clone()
    }
}

impl Guard for Ward {
    fn name(&self) -> &'static str {
        "ward"
    }

    fn permits(&self) -> bool {
        !self.is_open.load(Ordering::Relaxed)
    }

    fn succeeded(&self) {
        self.note("succeeded");
    }

    fn failed(&self) {
        self.note("failed");
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 == self.opens_at {
            self.is_open.store(true, Ordering::Relaxed);
        }
    }

    fn abandoned(&self) {
        self.note("abandoned");
    }
}

#[test]
fn both_ways_of_waiting_make_the_same_attempts() {
    for times in 0..5 {
        let (noted, passed) = (Noted::default(), Noted::default());
        let blocking = Policy::new("both", SHAPE).pausing_in(noted.clone());
        let waiting = Policy::new("both", SHAPE).pausing_in(passed.clone());
        let mut call = failing(times);

        let blocked = blocking.run_blocking(failing(times));
        let waited = waiting.run(async || call()).now_or_never().unwrap();

        assert_eq!(blocked, waited);
        assert_eq!(noted.millis(), passed.millis());
        assert_eq!(blocking.statistics(), waiting.statistics());
        match blocked {
            Ok(attempts) => assert_eq!(attempts, times + 1),
            Err(gave_up) => {
                let why = Why::Attempts;
                assert_eq!(gave_up, GaveUp::Failed { failure: server(), attempts: 3, why });
                assert_eq!(noted.millis(), [500, 1000]);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_waits_of_async_calls_are_virtual_where_time_is() {
    let began = Instant::now();
    let mut call = failing(2);

    Policy::new("virtual", SHAPE).run(async || call()).await.unwrap();

    assert_eq!(began.elapsed(), Duration::from_millis(1500));
}

#[test]
fn what_was_told_is_waited_for_in_full() {
    let noted = Noted::default();
    let policy = Policy::new("told", SHAPE).pausing_in(noted.clone());
    let mut told = Some(Duration::from_secs(3600));

    let outcome =
        policy.when(|_: &Failure| true).told(|failure| failure.retry_after).run_blocking(|| {
            told.take().map_or(Ok(()), |told| Err(server().with_retry_after(Some(told))))
        });

    assert_eq!(outcome, Ok(()));
    assert_eq!(noted.millis(), [3_600_000]);
}

#[test]
fn what_stays_is_not_tried_again() {
    let policy = Policy::new("stays", SHAPE).pausing_in(Noted::default());
    let gone = || Failure::new(Cause::NotFound, "404");

    let outcome = policy.run_blocking(|| Err::<(), _>(gone()));

    let why = Why::NotRetryable;
    assert_eq!(outcome, Err(GaveUp::Failed { failure: gone(), attempts: 1, why }));
    let told = policy
        .run_blocking(|| Err::<(), _>(server().with_retry_after(Some(Duration::from_secs(1)))));
    assert!(
        matches!(told, Err(GaveUp::Failed { attempts: 1, .. })),
        "left to the engine: {told:?}"
    );
}

#[test]
fn each_retry_is_called_back_with_attempt_delay_and_failure() {
    let policy = Policy::new("seen", SHAPE).pausing_in(Noted::default());
    let mut seen = Vec::new();

    let outcome = policy
        .attempts()
        .on_retry(|retry: &Retry<'_, Failure>| {
            seen.push((retry.attempt, retry.delay.as_millis(), retry.failure.to_string()));
        })
        .run_blocking(failing(2));

    assert_eq!(outcome, Ok(3));
    let words = "500 from example.com".to_owned();
    assert_eq!(seen, [(1, 500, words.clone()), (2, 1000, words)]);
}

#[test]
fn an_open_breaker_lets_no_attempt_through() {
    let ward = Arc::new(Ward { is_open: AtomicBool::new(true), ..Ward::default() });
    let policy = Policy::new("open", SHAPE).guarded_by(ward);

    let outcome = policy.run_blocking(|| -> Result<(), Failure> { panic!("it was called") });

    assert_eq!(outcome, Err(GaveUp::Refused { guard: "ward".to_owned() }));
    assert_eq!(outcome.unwrap_err().to_string(), "the breaker ward is open");
    assert_eq!((policy.statistics().calls, policy.statistics().refused), (1, 1));
}

#[test]
fn a_breaker_that_opens_ends_the_call_and_hears_of_every_attempt() {
    let ward = Arc::new(Ward { opens_at: 2, ..Ward::default() });
    let policy = Policy::new("opens", SHAPE).guarded_by(ward.clone()).pausing_in(Noted::default());

    let outcome = policy.run_blocking(failing(9));

    let why = Why::Guard;
    assert_eq!(outcome, Err(GaveUp::Failed { failure: server(), attempts: 2, why }));
    assert_eq!(ward.told(), ["failed", "failed"]);
}

#[test]
fn a_breaker_hears_how_each_attempt_ends() {
    let ward = Arc::new(Ward::default());
    let policy = Policy::new("hears", SHAPE).guarded_by(ward.clone()).pausing_in(Noted::default());

    policy.run_blocking(failing(1)).unwrap();
    policy.run_blocking(|| Err::<(), _>(Failure::new(Cause::Forbidden, "403"))).unwrap_err();
    drop(policy.run(async || std::future::pending::<Result<(), Failure>>().await).now_or_never());

    assert_eq!(ward.told(), ["failed", "succeeded", "abandoned", "abandoned"]);
}

#[test]
fn a_spent_budget_ends_the_call_after_its_first_failure() {
    let left = AtomicU32::new(1);
    let take =
        move || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
    let policy =
        Policy::new("spent", SHAPE).within(move || take().is_ok()).pausing_in(Noted::default());

    assert_eq!(policy.run_blocking(failing(1)), Ok(2));
    let outcome = policy.run_blocking(failing(1));

    let why = Why::Budget;
    assert_eq!(outcome, Err(GaveUp::Failed { failure: server(), attempts: 1, why }));
}

#[test]
fn a_registry_counts_each_name_apart() {
    let registry = Registry::default();
    let policy = |name| Policy::new(name, SHAPE).counted_in(&registry).pausing_in(Noted::default());

    policy("one").run_blocking(failing(0)).unwrap();
    policy("one").run_blocking(failing(1)).unwrap();
    policy("two").run_blocking(failing(9)).unwrap_err();

    let snapshot = registry.snapshot();
    let one = Statistics {
        calls: 2,
        first_try: 1,
        retries: 1,
        recovered: 1,
        last_failure: Some("500 from example.com".to_owned()),
        delay: Duration::from_millis(500),
        ..Statistics::default()
    };
    assert_eq!(snapshot["one"], one);
    assert_eq!((snapshot["two"].gave_up, snapshot["two"].retries), (1, 2));
}

#[test]
fn a_call_may_move_to_another_thread() {
    fn movable<T: Send>(value: T) -> T {
        value
    }
    let policy = Policy::new("moves", SHAPE);

    let call = movable(policy.run(async || Ok::<_, Failure>(7)));

    assert_eq!(call.now_or_never(), Some(Ok(7)));
}

mod laws {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_call_makes_more_attempts_than_the_policy_allows(
            max_attempts in 0..6_u32, failures in 0..8_u32, permits in 0..8_u32
        ) {
            let left = AtomicU32::new(permits);
            let take = move || {
                left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok()
            };
            let policy = Policy::new("law", Shape { max_attempts, ..SHAPE })
                .within(take)
                .pausing_in(Noted::default());
            let mut made = 0;
            let mut call = failing(failures);

            let outcome = policy.run_blocking(|| {
                made += 1;
                call()
            });

            prop_assert!(made <= max_attempts.max(1).min(permits + 1));
            prop_assert_eq!(outcome.is_ok(), made == failures + 1);
            let counted = policy.statistics();
            prop_assert_eq!(counted.retries, u64::from(made) - 1);
            prop_assert_eq!(
                counted.calls,
                counted.first_try + counted.recovered + counted.gave_up + counted.refused
            );
        }
    }
}
