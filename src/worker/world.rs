//! Time, chance and threads: what the loop takes from the world besides its source and its disk.
//!
//! The simulation has a [`World`] of its own, in which a day passes in a millisecond.

use std::time::Duration;

use crate::engine::{Draw, Moment};

/// The longest single sleep. A timer counts uptime, a deadline is wall-clock time: when the
/// clock is set or the machine was suspended, the wait is wrong by this much at most.
const NAP_MAX: Duration = Duration::from_secs(300);

/// Where the loop lives. One per process; cheap to share.
pub trait World: 'static {
    fn now(&self) -> Moment;

    fn draw(&self) -> Draw;

    /// Returns at `at` or soon after.
    fn sleep_until(&self, at: Moment) -> impl Future<Output = ()>;

    /// Runs a job that blocks, away from the loop.
    fn offload<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T>;
}

/// The world outside.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealWorld;

impl RealWorld {
    /// The time this machine has been up and awake: a clock that nobody can set.
    #[must_use]
    pub fn uptime() -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Duration::try_from(time).unwrap_or_default()
    }
}

impl World for RealWorld {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    fn now(&self) -> Moment {
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Moment(0).after(since_epoch)
    }

    fn draw(&self) -> Draw {
        Draw(fastrand::u32(..))
    }

    async fn sleep_until(&self, at: Moment) {
        loop {
            let left = at.since(self.now());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(NAP_MAX)).await;
        }
    }

    async fn offload<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        match tokio::task::spawn_blocking(job).await {
            Ok(done) => done,
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
    }
}
