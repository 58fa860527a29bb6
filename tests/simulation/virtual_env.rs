//! Runtime environment in virtual time, where a day takes a moment and the process can be killed at
//! any point.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use cynosure::disk::{DiskFault, MemoryDisk};
use cynosure::env::Env;
use cynosure_engine::{ClockReading, RandomSample, Timestamp};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Start of the virtual time.
const EPOCH: Timestamp = Timestamp(1_750_000_000_000);

/// Longest single sleep. A forward clock step is noticed at most this much later.
const SLEEP_MAX: Duration = Duration::from_secs(300);

/// Upper limit for the steps of a case. No case needs as many, so a worker that reaches it loops.
const STEPS_MAX: u64 = 1_000_000;

/// Virtual clock, seeded random generator and kill switch. Shared by server, worker and test.
#[derive(Clone)]
pub(crate) struct SimEnv {
    inner: Rc<SimEnvState>,
}

struct SimEnvState {
    started_at: Instant,
    /// Milliseconds by which the worker's clock is ahead of the true time.
    clock_offset_ms: Cell<i64>,
    clock_steps: Cell<u64>,
    rng: RefCell<fastrand::Rng>,
    disk: MemoryDisk,
    /// Remaining steps until the process is killed.
    steps_until_kill: Cell<Option<u64>>,
    /// Number of the disk call at which the process is killed.
    kill_at_disk_call: Cell<Option<u64>>,
    /// Maximum duration of a blocking job.
    disk_latency_max: Cell<Duration>,
    killed: Cell<bool>,
    kill_notify: Notify,
    steps: Cell<u64>,
}

impl SimEnv {
    pub(crate) fn new(seed: u64, disk: MemoryDisk) -> Self {
        let inner = SimEnvState {
            started_at: Instant::now(),
            clock_offset_ms: Cell::new(0),
            clock_steps: Cell::new(0),
            rng: RefCell::new(fastrand::Rng::with_seed(seed)),
            disk,
            steps_until_kill: Cell::new(None),
            kill_at_disk_call: Cell::new(None),
            disk_latency_max: Cell::new(Duration::ZERO),
            killed: Cell::new(false),
            kill_notify: Notify::new(),
            steps: Cell::new(0),
        };
        Self { inner: Rc::new(inner) }
    }

    /// Starts the process again. It is killed at `kill_point`, if one is given.
    pub(crate) fn start_process(&self, kill_point: Option<KillPoint>) {
        self.inner.killed.set(false);
        self.inner.steps_until_kill.set(None);
        self.inner.kill_at_disk_call.set(None);
        self.inner.disk.clear_fault();
        match kill_point {
            Some(KillPoint::Step(step)) => self.inner.steps_until_kill.set(Some(step)),
            Some(KillPoint::DiskCall(call)) => {
                let at = self.inner.disk.operation_count() + call;
                self.inner.kill_at_disk_call.set(Some(at));
                self.inner.disk.set_fault(DiskFault::stop_at(at));
            }
            None => {}
        }
    }

    /// Returns the true time, which server and test use.
    pub(crate) fn server_now(&self) -> Timestamp {
        EPOCH.after(self.inner.started_at.elapsed())
    }

    /// Returns the number of simulated days.
    pub(crate) fn days(&self) -> u64 {
        self.inner.started_at.elapsed().as_secs() / 86_400
    }

    /// Steps the worker's clock by `seconds`: forward if positive, backward if negative.
    pub(crate) fn step_clock(&self, seconds: i64) {
        self.inner.clock_offset_ms.set(self.inner.clock_offset_ms.get() + seconds * 1000);
        self.inner.clock_steps.set(self.inner.clock_steps.get() + 1);
    }

    pub(crate) fn clock_steps(&self) -> u64 {
        self.inner.clock_steps.get()
    }

    /// Sets the maximum duration of a blocking job, so that other tasks run in the meantime.
    pub(crate) fn set_disk_latency(&self, max: Duration) {
        self.inner.disk_latency_max.set(max);
    }

    /// Kills the process at its current point.
    pub(crate) fn kill_now(&self) {
        self.inner.killed.set(true);
        // A killed process does no cleanup, so all its disk calls fail from now on.
        self.inner.disk.set_fault(DiskFault::stop_at(0));
        self.inner.kill_notify.notify_one();
    }

    /// Returns true if the process is killed, or will be at its next step.
    pub(crate) fn is_being_killed(&self) -> bool {
        let is_past_kill = self
            .inner
            .kill_at_disk_call
            .get()
            .is_some_and(|at| self.inner.disk.operation_count() > at);
        self.inner.killed.get() || is_past_kill
    }

    /// Resolves when the process is killed.
    pub(crate) async fn wait_until_killed(&self) {
        while !self.inner.killed.get() {
            self.inner.kill_notify.notified().await;
        }
    }

    /// Counts a step, and never returns if the process is killed at it.
    pub(crate) async fn kill_point(&self) {
        self.inner.steps.set(self.inner.steps.get() + 1);
        assert!(self.inner.steps.get() < STEPS_MAX, "a loop without a wait at {}", self.now());
        let is_due = match self.inner.steps_until_kill.get() {
            Some(0) => true,
            Some(left) => {
                self.inner.steps_until_kill.set(Some(left - 1));
                false
            }
            None => false,
        };
        if is_due || self.is_being_killed() {
            self.kill_now();
            pending::<()>().await;
        }
    }

    pub(crate) fn steps(&self) -> u64 {
        self.inner.steps.get()
    }

    /// Returns a random number below `limit`.
    pub(crate) fn random_below(&self, limit: u64) -> u64 {
        self.inner.rng.borrow_mut().u64(..limit)
    }

    pub(crate) fn random_index(&self, length: usize) -> usize {
        self.inner.rng.borrow_mut().usize(..length)
    }

    pub(crate) fn chance_one_in(&self, odds: u64) -> bool {
        self.random_below(odds) == 0
    }
}

/// Point at which the process is killed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KillPoint {
    /// Step between two effects, such as a sent request, a received response or a transaction.
    Step(u64),
    /// Disk call, in the middle of an effect.
    DiskCall(u64),
}

impl Env for SimEnv {
    fn time(&self) -> ClockReading {
        let offset_ms = self.inner.clock_offset_ms.get();
        ClockReading {
            wall: Timestamp(self.server_now().0 + offset_ms),
            booted_at: Timestamp(EPOCH.0 + offset_ms),
        }
    }

    fn random_sample(&self) -> RandomSample {
        RandomSample(self.inner.rng.borrow_mut().u32(..))
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
        self.kill_point().await;
        let result = job();
        let max = self.inner.disk_latency_max.get();
        if !max.is_zero() {
            let fraction = self.inner.rng.borrow_mut().f64();
            tokio::time::sleep(max.mul_f64(fraction)).await;
        }
        self.kill_point().await;
        result
    }
}
