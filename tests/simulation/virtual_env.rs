//! A world in which a day passes in a moment, and which can end at any point.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use cynosure::disk::{DiskFault, MemoryDisk};
use cynosure::engine::{ClockReading, RandomSample, Timestamp};
use cynosure::worker::Env;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Where the made-up time begins.
const EPOCH: Timestamp = Timestamp(1_750_000_000_000);

/// The longest single sleep, as in the world outside: a clock that is set forward is seen then.
const SLEEP_MAX: Duration = Duration::from_secs(300);

/// More steps than any case needs: a worker that takes them runs in circles.
const STEPS_MAX: u64 = 1_000_000;

/// Virtual time, seeded chance, and a process that can be killed. Shared by server, worker and test.
#[derive(Clone)]
pub(crate) struct SimEnv {
    inner: Rc<SimEnvState>,
}

struct SimEnvState {
    started_at: Instant,
    /// How far the worker's clock is ahead of the true time, in milliseconds.
    clock_offset_ms: Cell<i64>,
    clock_steps: Cell<u64>,
    rng: RefCell<fastrand::Rng>,
    disk: MemoryDisk,
    /// Steps until the process is killed.
    steps_until_kill: Cell<Option<u64>>,
    /// Calls to the disk after which the process is killed in the middle of its work.
    kill_at_disk_call: Cell<Option<u64>>,
    /// How long the disk takes for a job, at most.
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

    /// Starts a new life of the process, killed at the `fuse`-th step if one is given.
    pub(crate) fn start_process(&self, fuse: Option<KillPoint>) {
        self.inner.killed.set(false);
        self.inner.steps_until_kill.set(None);
        self.inner.kill_at_disk_call.set(None);
        self.inner.disk.clear_fault();
        match fuse {
            Some(KillPoint::Step(step)) => self.inner.steps_until_kill.set(Some(step)),
            Some(KillPoint::DiskCall(call)) => {
                let at = self.inner.disk.operation_count() + call;
                self.inner.kill_at_disk_call.set(Some(at));
                self.inner.disk.set_fault(DiskFault::stop_at(at));
            }
            None => {}
        }
    }

    /// The time that the server and the test go by.
    pub(crate) fn server_now(&self) -> Timestamp {
        EPOCH.after(self.inner.started_at.elapsed())
    }

    /// How many days were simulated.
    pub(crate) fn days(&self) -> u64 {
        self.inner.started_at.elapsed().as_secs() / 86_400
    }

    /// Sets the worker's clock forward by `seconds`, or back.
    pub(crate) fn step_clock(&self, seconds: i64) {
        self.inner.clock_offset_ms.set(self.inner.clock_offset_ms.get() + seconds * 1000);
        self.inner.clock_steps.set(self.inner.clock_steps.get() + 1);
    }

    pub(crate) fn clock_steps(&self) -> u64 {
        self.inner.clock_steps.get()
    }

    /// Has each job on the disk take up to so long, so that others come between.
    pub(crate) fn set_disk_latency(&self, to: Duration) {
        self.inner.disk_latency_max.set(to);
    }

    /// Kills the process, wherever it is.
    pub(crate) fn kill_now(&self) {
        self.inner.killed.set(true);
        // Who is killed tidies up nothing.
        self.inner.disk.set_fault(DiskFault::stop_at(0));
        self.inner.kill_notify.notify_one();
    }

    /// Whether the process is killed, or about to be at its next step.
    pub(crate) fn is_being_killed(&self) -> bool {
        let stopped = self
            .inner
            .kill_at_disk_call
            .get()
            .is_some_and(|at| self.inner.disk.operation_count() > at);
        self.inner.killed.get() || stopped
    }

    /// Resolves when the process is killed.
    pub(crate) async fn wait_until_killed(&self) {
        while !self.inner.killed.get() {
            self.inner.kill_notify.notified().await;
        }
    }

    /// A point at which the process may be killed: it goes no further.
    pub(crate) async fn kill_point(&self) {
        self.inner.steps.set(self.inner.steps.get() + 1);
        assert!(self.inner.steps.get() < STEPS_MAX, "a loop without a wait, at {}", self.now());
        let burnt = match self.inner.steps_until_kill.get() {
            Some(0) => true,
            Some(left) => {
                self.inner.steps_until_kill.set(Some(left - 1));
                false
            }
            None => false,
        };
        if burnt || self.is_being_killed() {
            self.kill_now();
            pending::<()>().await;
        }
    }

    pub(crate) fn steps(&self) -> u64 {
        self.inner.steps.get()
    }

    /// A number below `limit`, from the seed.
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

/// When the process is killed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KillPoint {
    /// Between two effects: a request sent, an answer taken in, a transaction made.
    Step(u64),
    /// In the middle of one: at a call to the disk.
    DiskCall(u64),
}

impl Env for SimEnv {
    fn time(&self) -> ClockReading {
        let ahead = self.inner.clock_offset_ms.get();
        ClockReading {
            wall: Timestamp(self.server_now().0 + ahead),
            booted_at: Timestamp(EPOCH.0 + ahead),
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
        let done = job();
        let max = self.inner.disk_latency_max.get();
        if !max.is_zero() {
            let share = self.inner.rng.borrow_mut().f64();
            tokio::time::sleep(max.mul_f64(share)).await;
        }
        self.kill_point().await;
        done
    }
}
