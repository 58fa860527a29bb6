//! Source of delays and randomness for a retry policy.

use std::time::Duration;

use cynosure_engine::RandomSample;
use futures_util::future::BoxFuture;

/// Delays between two attempts, and random samples for the jitter.
pub trait Timer: Send + Sync {
    fn random_sample(&self) -> RandomSample;

    /// Waits without blocking a thread.
    fn sleep(&self, delay: Duration) -> BoxFuture<'static, ()>;

    /// Blocks the current thread, which must be one that may block.
    fn sleep_blocking(&self, delay: Duration);
}

/// Timer on the system clock. In a tokio runtime with a paused clock, async delays are virtual.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealTimer;

impl Timer for RealTimer {
    fn random_sample(&self) -> RandomSample {
        RandomSample(fastrand::u32(..))
    }

    fn sleep(&self, delay: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(delay))
    }

    #[expect(clippy::disallowed_methods, reason = "the one place where a blocking call waits")]
    fn sleep_blocking(&self, delay: Duration) {
        std::thread::sleep(delay);
    }
}
