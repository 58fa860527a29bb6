//! Waits of quick retries in virtual time, and chance from the seed.

use std::sync::Mutex;
use std::time::Duration;

use cynosure::engine::RandomSample;
use cynosure::retry::{BackoffConfig, RetryPolicy, RetryRegistry, Timer};
use futures_util::future::BoxFuture;

struct VirtualTimer(Mutex<fastrand::Rng>);

impl Timer for VirtualTimer {
    fn random_sample(&self) -> RandomSample {
        RandomSample(self.0.lock().unwrap().u32(..))
    }

    fn sleep(&self, delay: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(delay))
    }

    /// A call that blocks takes no time here, and so does its waiting.
    fn sleep_blocking(&self, _delay: Duration) {}
}

/// The policy of this name, as `config.toml` has it.
pub(crate) fn retry_policy(
    name: &str,
    shape: BackoffConfig,
    seed: u64,
    registry: &RetryRegistry,
) -> RetryPolicy {
    let pauses = VirtualTimer(Mutex::new(fastrand::Rng::with_seed(seed)));
    RetryPolicy::new(name, shape).with_registry(registry).with_timer(pauses)
}
