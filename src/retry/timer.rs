//! Waiting and chance: what a policy takes from the world.

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::engine::RandomSample;

/// Where the time between two attempts is spent, and where chance comes from.
pub trait Timer: Send + Sync {
    fn random_sample(&self) -> RandomSample;

    /// Lets the time pass without holding a thread.
    fn sleep(&self, delay: Duration) -> BoxFuture<'static, ()>;

    /// Lets the time pass on this thread, which must be one that may block.
    fn sleep_blocking(&self, delay: Duration);
}

/// The time of this machine. In a tokio runtime whose clock is paused, async waits are virtual.
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
