//! Time, chance and threads: what the loop takes from the world besides its source and its disk.
//!
//! The simulation has a [`World`] of its own, in which a day passes in a millisecond.

use std::time::Duration;

use crate::engine::{ClockReading, RandomSample, Timestamp};

/// The longest single sleep. A timer counts uptime, a deadline is wall-clock time: that the clock
/// was set or the machine suspended is noticed so late at most. The watchdog's thread wakes as often.
const SLEEP_MAX: Duration = Duration::from_secs(15);

/// Where the loop lives. One per process; cheap to share.
pub trait Env: 'static {
    /// Looks at the clocks.
    fn time(&self) -> ClockReading;

    fn now(&self) -> Timestamp {
        self.time().wall
    }

    fn random_sample(&self) -> RandomSample;

    /// Returns then or soon after; and when the clock was set, since it is another time by now.
    fn sleep_until(&self, end: ClockReading) -> impl Future<Output = ()>;

    /// Runs a job that blocks, away from the loop.
    fn spawn_blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T>;
}

/// The world outside.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealEnv;

impl RealEnv {
    /// The time this machine has been up and awake: a clock that nobody can set.
    #[must_use]
    pub fn uptime() -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Duration::try_from(time).unwrap_or_default()
    }
}

impl Env for RealEnv {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    fn time(&self) -> ClockReading {
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        // It cannot be set, and runs on through a suspend as the wall clock does.
        let since_boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let at = Timestamp(0).after(since_epoch);
        ClockReading {
            wall: at,
            booted_at: at.before(Duration::try_from(since_boot).unwrap_or_default()),
        }
    }

    fn random_sample(&self) -> RandomSample {
        RandomSample(fastrand::u32(..))
    }

    async fn sleep_until(&self, end: ClockReading) {
        while let Some(left) = end.remaining(self.time()) {
            tokio::time::sleep(left.min(SLEEP_MAX)).await;
        }
    }

    async fn spawn_blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        match tokio::task::spawn_blocking(job).await {
            Ok(done) => done,
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
    }
}
