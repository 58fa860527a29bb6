//! Timer of the quick retries: delays in virtual time, jitter from the seed.

use std::sync::Mutex;
use std::time::Duration;

use cynosure::retry::{BackoffConfig, RetryPolicy, RetryRegistry, Timer};
use cynosure_engine::RandomSample;
use futures_util::future::BoxFuture;

struct VirtualTimer(Mutex<fastrand::Rng>);

impl Timer for VirtualTimer {
    fn random_sample(&self) -> RandomSample {
        RandomSample(self.0.lock().unwrap().u32(..))
    }

    fn sleep(&self, delay: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(delay))
    }

    /// Returns at once, because a blocking call takes no virtual time.
    fn sleep_blocking(&self, _delay: Duration) {}
}

/// Creates the retry policy of this name, with a timer in virtual time.
pub(crate) fn retry_policy(
    name: &str,
    backoff: BackoffConfig,
    seed: u64,
    registry: &RetryRegistry,
) -> RetryPolicy {
    let timer = VirtualTimer(Mutex::new(fastrand::Rng::with_seed(seed)));
    RetryPolicy::new(name, backoff).with_registry(registry).with_timer(timer)
}
