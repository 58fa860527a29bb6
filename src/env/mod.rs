//! Runtime environment of the event loop: clock, randomness, sleep and blocking threads.
//!
//! The simulation implements [`Env`] in virtual time, where a day passes in a millisecond.

use std::time::Duration;

use cynosure_engine::{ClockReading, RandomSample, Timestamp};

/// Longest single sleep. A timer counts uptime, a deadline is wall-clock time: a clock step or a
/// suspend is noticed at most this much later. The watchdog thread wakes up as often.
const SLEEP_MAX: Duration = Duration::from_secs(15);

/// Clock, randomness, sleep and blocking threads of a process. One per process; cheap to share.
pub trait Env: 'static {
    /// Reads the clocks.
    fn time(&self) -> ClockReading;

    fn now(&self) -> Timestamp {
        self.time().wall
    }

    fn random_sample(&self) -> RandomSample;

    /// Returns at `end` or soon after. Also returns after a clock step, because the wall-clock time
    /// has changed.
    fn sleep_until(&self, end: ClockReading) -> impl Future<Output = ()>;

    /// Runs a blocking job on another thread.
    fn spawn_blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T>;
}

/// Environment of a real process: system clock, random generator and tokio.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealEnv;

impl RealEnv {
    /// Returns the time for which this machine has been up and awake. This clock cannot be set.
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
        // This clock cannot be set, and it advances during a suspend, as the wall clock does.
        let since_boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let wall = Timestamp(0).after(since_epoch);
        ClockReading {
            wall,
            booted_at: wall.before(Duration::try_from(since_boot).unwrap_or_default()),
        }
    }

    fn random_sample(&self) -> RandomSample {
        RandomSample(fastrand::u32(..))
    }

    async fn sleep_until(&self, end: ClockReading) {
        while let Some(remaining) = end.remaining(self.time()) {
            tokio::time::sleep(remaining.min(SLEEP_MAX)).await;
        }
    }

    async fn spawn_blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        match tokio::task::spawn_blocking(job).await {
            Ok(output) => output,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}
