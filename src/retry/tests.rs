//! Tests of calls under a policy, with simulated delays, breakers and budgets.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cynosure_engine::{Cause, Failure, RandomSample};
use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::time::Instant;

use super::*;

const BACKOFF: BackoffConfig = BackoffConfig { jitter: Jitter::None, ..BackoffConfig::FAST };

fn server_failure() -> Failure {
    Failure::new(Cause::Server, "500 from example.com")
}

/// Returns a call that fails this many times and then succeeds.
fn failing(times: u32) -> impl FnMut() -> Result<u32, Failure> {
    let mut attempts = 0;
    move || {
        attempts += 1;
        if attempts <= times { Err(server_failure()) } else { Ok(attempts) }
    }
}

/// Timer that records its delays and returns at once.
#[derive(Clone, Default)]
struct RecordingTimer(Arc<Mutex<Vec<Duration>>>);

impl Timer for RecordingTimer {
    fn random_sample(&self) -> RandomSample {
        RandomSample(0)
    }

    fn sleep(&self, delay: Duration) -> BoxFuture<'static, ()> {
        self.sleep_blocking(delay);
        async {}.boxed()
    }

    fn sleep_blocking(&self, delay: Duration) {
        self.0.lock().unwrap().push(delay);
    }
}

impl RecordingTimer {
    fn millis(&self) -> Vec<u128> {
        self.0.lock().unwrap().iter().map(Duration::as_millis).collect()
    }
}

/// Circuit breaker that records the calls it receives.
#[derive(Default)]
struct RecordingBreaker {
    is_open: AtomicBool,
    /// Number of the failure that opens it, from 1.
    opens_at: u32,
    events: Mutex<Vec<&'static str>>,
    failures: AtomicU32,
}

impl RecordingBreaker {
    fn record(&self, event: &'static str) {
        self.events.lock().unwrap().push(event);
    }

    fn events(&self) -> Vec<&'static str> {
        self.events.lock().unwrap().clone()
    }
}

impl CircuitBreaker for RecordingBreaker {
    fn name(&self) -> &'static str {
        "test"
    }

    fn try_acquire(&self) -> bool {
        !self.is_open.load(Ordering::Relaxed)
    }

    fn record_success(&self) {
        self.record("succeeded");
    }

    fn record_failure(&self) {
        self.record("failed");
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 == self.opens_at {
            self.is_open.store(true, Ordering::Relaxed);
        }
    }

    fn record_abandoned(&self) {
        self.record("abandoned");
    }
}

#[test]
fn async_and_blocking_calls_make_the_same_attempts() {
    for times in 0..5 {
        let (blocking_timer, async_timer) = (RecordingTimer::default(), RecordingTimer::default());
        let blocking_policy = RetryPolicy::new("both", BACKOFF).with_timer(blocking_timer.clone());
        let async_policy = RetryPolicy::new("both", BACKOFF).with_timer(async_timer.clone());
        let mut call = failing(times);

        let blocking_result = blocking_policy.run_blocking(failing(times));
        let async_result = async_policy.run(async || call()).now_or_never().unwrap();

        assert_eq!(blocking_result, async_result);
        assert_eq!(blocking_timer.millis(), async_timer.millis());
        assert_eq!(blocking_policy.statistics(), async_policy.statistics());
        match blocking_result {
            Ok(attempts) => assert_eq!(attempts, times + 1),
            Err(error) => {
                let reason = StopReason::AttemptsExhausted;
                assert_eq!(
                    error,
                    RetryError::Failed { failure: server_failure(), attempts: 3, reason }
                );
                assert_eq!(blocking_timer.millis(), [500, 1000]);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn async_delays_use_virtual_time() {
    let started = Instant::now();
    let mut call = failing(2);

    RetryPolicy::new("virtual", BACKOFF).run(async || call()).await.unwrap();

    assert_eq!(started.elapsed(), Duration::from_millis(1500));
}

#[test]
fn retry_after_is_waited_for_in_full() {
    let timer = RecordingTimer::default();
    let policy = RetryPolicy::new("retry-after", BACKOFF).with_timer(timer.clone());
    let mut retry_after = Some(Duration::from_secs(3600));

    let result = policy
        .when(|_: &Failure| true)
        .retry_after(|failure| failure.retry_after)
        .run_blocking(|| {
            retry_after
                .take()
                .map_or(Ok(()), |delay| Err(server_failure().with_retry_after(Some(delay))))
        });

    assert_eq!(result, Ok(()));
    assert_eq!(timer.millis(), [3_600_000]);
}

#[test]
fn permanent_failures_are_not_retried() {
    let policy = RetryPolicy::new("permanent", BACKOFF).with_timer(RecordingTimer::default());
    let not_found = || Failure::new(Cause::NotFound, "404");

    let result = policy.run_blocking(|| Err::<(), _>(not_found()));

    let reason = StopReason::NotRetryable;
    assert_eq!(result, Err(RetryError::Failed { failure: not_found(), attempts: 1, reason }));
    let result_with_retry_after = policy.run_blocking(|| {
        Err::<(), _>(server_failure().with_retry_after(Some(Duration::from_secs(1))))
    });
    assert!(
        matches!(result_with_retry_after, Err(RetryError::Failed { attempts: 1, .. })),
        "left to the engine: {result_with_retry_after:?}"
    );
}

#[test]
fn on_retry_receives_attempt_delay_and_failure() {
    let policy = RetryPolicy::new("observed", BACKOFF).with_timer(RecordingTimer::default());
    let mut events = Vec::new();

    let result = policy
        .builder()
        .on_retry(|retry: &RetryEvent<'_, Failure>| {
            events.push((retry.attempt, retry.delay.as_millis(), retry.failure.to_string()));
        })
        .run_blocking(failing(2));

    assert_eq!(result, Ok(3));
    let message = "500 from example.com".to_owned();
    assert_eq!(events, [(1, 500, message.clone()), (2, 1000, message)]);
}

#[test]
fn an_open_breaker_rejects_every_attempt() {
    let breaker = Arc::new(RecordingBreaker {
        is_open: AtomicBool::new(true),
        ..RecordingBreaker::default()
    });
    let policy = RetryPolicy::new("open", BACKOFF).with_breaker(breaker);

    let result = policy.run_blocking(|| -> Result<(), Failure> { panic!("it was called") });

    assert_eq!(result, Err(RetryError::Rejected { breaker: "test".to_owned() }));
    assert_eq!(result.unwrap_err().to_string(), "the circuit breaker test is open");
    assert_eq!((policy.statistics().calls, policy.statistics().rejected_calls), (1, 1));
}

#[test]
fn an_opening_breaker_ends_the_call_and_records_each_failure() {
    let breaker = Arc::new(RecordingBreaker { opens_at: 2, ..RecordingBreaker::default() });
    let policy = RetryPolicy::new("opens", BACKOFF)
        .with_breaker(breaker.clone())
        .with_timer(RecordingTimer::default());

    let result = policy.run_blocking(failing(9));

    let reason = StopReason::BreakerOpen;
    assert_eq!(result, Err(RetryError::Failed { failure: server_failure(), attempts: 2, reason }));
    assert_eq!(breaker.events(), ["failed", "failed"]);
}

#[test]
fn the_result_of_each_attempt_is_recorded_at_the_breaker() {
    let breaker = Arc::new(RecordingBreaker::default());
    let policy = RetryPolicy::new("recorded", BACKOFF)
        .with_breaker(breaker.clone())
        .with_timer(RecordingTimer::default());

    policy.run_blocking(failing(1)).unwrap();
    policy.run_blocking(|| Err::<(), _>(Failure::new(Cause::Forbidden, "403"))).unwrap_err();
    drop(policy.run(async || std::future::pending::<Result<(), Failure>>().await).now_or_never());

    assert_eq!(breaker.events(), ["failed", "succeeded", "abandoned", "abandoned"]);
}

#[test]
fn an_exhausted_budget_ends_the_call_at_the_next_failure() {
    let remaining = AtomicU32::new(1);
    let withdraw =
        move || remaining.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
    let policy = RetryPolicy::new("exhausted", BACKOFF)
        .with_budget(move || withdraw().is_ok())
        .with_timer(RecordingTimer::default());

    assert_eq!(policy.run_blocking(failing(1)), Ok(2));
    let result = policy.run_blocking(failing(1));

    let reason = StopReason::BudgetExhausted;
    assert_eq!(result, Err(RetryError::Failed { failure: server_failure(), attempts: 1, reason }));
}

#[test]
fn the_registry_counts_each_policy_separately() {
    let registry = RetryRegistry::default();
    let policy = |name| {
        RetryPolicy::new(name, BACKOFF)
            .with_registry(&registry)
            .with_timer(RecordingTimer::default())
    };

    policy("one").run_blocking(failing(0)).unwrap();
    policy("one").run_blocking(failing(1)).unwrap();
    policy("two").run_blocking(failing(9)).unwrap_err();

    let snapshot = registry.snapshot();
    let one = RetryStatistics {
        calls: 2,
        first_attempt_successes: 1,
        retries: 1,
        successes_after_retry: 1,
        last_failure: Some("500 from example.com".to_owned()),
        total_delay: Duration::from_millis(500),
        ..RetryStatistics::default()
    };
    assert_eq!(snapshot["one"], one);
    assert_eq!((snapshot["two"].failed_calls, snapshot["two"].retries), (1, 2));
}

#[test]
fn a_call_may_move_to_another_thread() {
    fn movable<T: Send>(value: T) -> T {
        value
    }
    let policy = RetryPolicy::new("moves", BACKOFF);

    let call = movable(policy.run(async || Ok::<_, Failure>(7)));

    assert_eq!(call.now_or_never(), Some(Ok(7)));
}

mod proptests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_call_makes_more_attempts_than_the_policy_allows(
            max_attempts in 0..6_u32, failures in 0..8_u32, permits in 0..8_u32
        ) {
            let remaining = AtomicU32::new(permits);
            let try_withdraw = move || {
                remaining.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok()
            };
            let policy = RetryPolicy::new("proptest", BackoffConfig { max_attempts, ..BACKOFF })
                .with_budget(try_withdraw)
                .with_timer(RecordingTimer::default());
            let mut attempts = 0;
            let mut call = failing(failures);

            let result = policy.run_blocking(|| {
                attempts += 1;
                call()
            });

            prop_assert!(attempts <= max_attempts.max(1).min(permits + 1));
            prop_assert_eq!(result.is_ok(), attempts == failures + 1);
            let statistics = policy.statistics();
            prop_assert_eq!(statistics.retries, u64::from(attempts) - 1);
            prop_assert_eq!(
                statistics.calls,
                statistics.first_attempt_successes + statistics.successes_after_retry + statistics.failed_calls + statistics.rejected_calls
            );
        }
    }
}
