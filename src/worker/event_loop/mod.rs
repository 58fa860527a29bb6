//! Event loop of one source: wait for an event, decide, perform the effects.
//!
//! Work beside the loop runs in tasks, each of which returns a [`TaskResult`]. Tasks may be
//! cancelled at any time; only a commit is always waited for.

mod breakers;
mod clock;
mod known_good;
mod metrics;
mod on_result;
mod perform;
mod publish;
mod shutdown;
mod trace;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tracing::{Instrument, Span, error};

use crate::engine::metrics::SourceMetrics;
use crate::engine::{
    CredentialState, Effect, Event, Failure, MachineConfig, RequestScope, RestartCause, SessionId,
    State, StateMachine, Status, SyncPhase, Timestamp,
};
use crate::ledger::SessionCounts;
use crate::retry::RetryPolicy;
use crate::source::http::ProxyPoolHealth;
use crate::source::{MetricsHandle, Source};
use crate::worker::breakers::{OpenBreaker, SourceBreakers};
use crate::worker::downloads::{DownloadPolicies, DownloadScheduler};
use crate::worker::env::Env;
use crate::worker::heartbeat::Heartbeat;
use crate::worker::source_progress::SourceProgress;
use crate::worker::tasks::{StoreHandle, TaskResult};
use crate::worker::throughput::Throughput;
use crate::worker::tracer::Tracer;

use self::known_good::KnownGoodCheck;
use self::publish::{MetricsPublication, PUBLISH_INTERVAL};

/// Name of the log span of one iteration. Its fields are `session` and `state`.
pub const ITERATION_SPAN: &str = "iteration";

/// Condition on which the worker ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RunMode {
    /// Runs until it is stopped.
    Continuous,
    /// Runs one session, however long its waits are.
    UntilComplete,
    /// Runs one session now. Waits that the worker itself chose are skipped, and the run ends if
    /// manual intervention is required.
    Once,
}

/// Mode in which a run starts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StartMode {
    /// Continues in the state in which the last run ended.
    Resume,
    /// The wait of the last run is over, because the user has changed what it waited for.
    RunNow,
}

/// Stop request to the worker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StopSignal {
    Running,
    Requested,
}

/// Reason for which the loop ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LoopExit {
    /// The session is completed.
    Completed,
    /// There was nothing to do.
    NothingToDo,
    Stopped,
    /// Manual intervention, or time, is required, and [`RunMode::Once`] does not wait for it.
    GaveUp,
    Restart(RestartCause),
}

/// Result of the event loop.
#[derive(Clone, Debug)]
pub struct LoopResult {
    pub exit: LoopExit,
    /// No item of the source was ever listed.
    pub has_never_worked: bool,
    pub machine: StateMachine,
    pub counts: SessionCounts,
}

/// Configuration and dependencies of the event loop.
#[derive(Debug)]
pub struct EventLoopConfig<S, E> {
    pub source: S,
    pub env: Rc<E>,
    pub store: StoreHandle<E>,
    pub machine: StateMachine,
    /// Boot time of the host, by the wall clock at the time when the state machine was loaded.
    pub booted_at: Timestamp,
    pub counts: SessionCounts,
    /// Time at which the newest successful request for an item was sent.
    pub last_success_at: Option<Timestamp>,
    /// No listing of the source was ever completed.
    pub is_new: bool,
    pub machine_config: MachineConfig,
    pub policies: DownloadPolicies,
    /// Retry policy for a page of the listing, before its failure becomes one of the session.
    pub listing_retry: RetryPolicy,
    /// Metrics of the loop and of the source.
    pub metrics: MetricsHandle,
    pub tracer: Tracer,
    /// Proxies that the source uses.
    pub proxies: Option<Arc<ProxyPoolHealth>>,
    pub breakers: SourceBreakers,
    pub concurrency: usize,
    pub mode: RunMode,
    pub stop: watch::Receiver<StopSignal>,
    pub source_progress: watch::Sender<SourceProgress>,
    pub heartbeat: Heartbeat,
    pub start_mode: StartMode,
}

type TaskSet = FuturesUnordered<LocalBoxFuture<'static, TaskResult>>;

#[expect(clippy::struct_excessive_bools, reason = "the flags are independent of each other")]
struct EventLoop<S, E> {
    source: Rc<S>,
    env: Rc<E>,
    store: StoreHandle<E>,
    machine_config: MachineConfig,
    listing_retry: RetryPolicy,
    metrics: MetricsHandle,
    tracer: Tracer,
    proxies: Option<Arc<ProxyPoolHealth>>,
    breakers: SourceBreakers,
    /// Wakes the loop when a breaker has changed.
    breaker_changes: watch::Receiver<u64>,
    /// Breaker that the loop waits for.
    open_breaker: Option<OpenBreaker>,
    concurrency: usize,
    mode: RunMode,
    stop: watch::Receiver<StopSignal>,
    source_progress: watch::Sender<SourceProgress>,
    heartbeat: Heartbeat,
    start_mode: StartMode,
    machine: StateMachine,
    counts: SessionCounts,
    is_new: bool,
    waiting_items: u64,
    expected_documents: Option<u64>,
    throughput: Throughput,
    downloads: DownloadScheduler,
    known_good_check: KnownGoodCheck,
    /// Tasks that may be cancelled.
    tasks: TaskSet,
    /// Commits, which must be waited for.
    commits: TaskSet,
    probe: ProbeState,
    is_finishing: bool,
    /// [`RunMode::Once`] has found an open session. Before that ends, the source is polled once.
    needs_final_poll: bool,
    is_polling: bool,
    /// Boot time of the host, by the wall clock that all timestamps here are of.
    booted_at: Timestamp,
    /// Boot time of the host, by the wall clock that the timestamps in the ledger are of.
    ledger_booted_at: Timestamp,
    /// Last failure with a response, until the response is stored.
    unsaved_error_response: Option<Failure>,
    /// Time of the last request that was not for an item: a poll, a page or a probe.
    last_request_at: Timestamp,
    state_saved_at: Timestamp,
    metrics_publication: MetricsPublication,
    progress_logged_at: Timestamp,
    has_unsaved_changes: bool,
    /// Log span for the current status and session.
    log_span: Option<(Status, Option<SessionId>, Span)>,
    exit: Option<LoopExit>,
}

/// State of the probe: one request that changes nothing and must succeed before downloads resume.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ProbeState {
    NotNeeded,
    Needed,
    InFlight,
}

enum Wakeup {
    StopRequested,
    TaskDone(Box<TaskResult>),
    Tick,
}

/// Runs the event loop of one source until it ends.
pub async fn run_event_loop<S: Source + 'static, E: Env>(
    config: EventLoopConfig<S, E>,
) -> LoopResult {
    let now = config.env.now();
    let needs_final_poll = config.mode == RunMode::Once && has_open_session(&config.machine);
    let mut event_loop = EventLoop {
        source: Rc::new(config.source),
        env: config.env,
        store: config.store,
        machine_config: config.machine_config,
        listing_retry: config.listing_retry,
        tracer: config.tracer,
        proxies: config.proxies,
        breaker_changes: config.breakers.subscribe(),
        breakers: config.breakers,
        open_breaker: None,
        concurrency: config.concurrency,
        mode: config.mode,
        stop: config.stop,
        source_progress: config.source_progress,
        heartbeat: config.heartbeat,
        start_mode: config.start_mode,
        machine: config.machine,
        counts: config.counts,
        is_new: config.is_new,
        waiting_items: 0,
        expected_documents: None,
        throughput: Throughput::default(),
        downloads: DownloadScheduler::new(
            config.policies,
            config.last_success_at,
            config.metrics.clone(),
        ),
        metrics: config.metrics,
        tasks: TaskSet::new(),
        commits: TaskSet::new(),
        known_good_check: KnownGoodCheck::default(),
        probe: ProbeState::NotNeeded,
        is_finishing: false,
        needs_final_poll,
        is_polling: false,
        booted_at: config.booted_at,
        ledger_booted_at: config.booted_at,
        unsaved_error_response: None,
        last_request_at: now,
        // Saved at once, so that readers see that a worker runs again.
        state_saved_at: Timestamp::default(),
        metrics_publication: MetricsPublication::default(),
        progress_logged_at: now,
        has_unsaved_changes: true,
        log_span: None,
        exit: None,
    };
    event_loop.run().await
}

impl<S: Source + 'static, E: Env> EventLoop<S, E> {
    async fn run(&mut self) -> LoopResult {
        self.open_breaker = self.breakers.open_breaker();
        self.metrics.update(SourceMetrics::record_start);
        self.handle_event(Event::Started).await;
        if self.mode == RunMode::Once {
            self.breakers.half_open_now();
        }
        if self.mode == RunMode::Once || self.start_mode == StartMode::RunNow {
            self.handle_event(Event::RunRequested).await;
        }
        self.watch_credential();
        while self.exit.is_none() {
            let span = self.iteration_span();
            self.run_iteration().instrument(span).await;
        }
        self.shut_down().await;
        LoopResult {
            exit: self.exit.unwrap_or(LoopExit::Stopped),
            has_never_worked: self.has_never_worked(),
            machine: self.machine.clone(),
            counts: self.counts,
        }
    }

    async fn run_iteration(&mut self) {
        self.schedule().await;
        let wakeup = self.wait_for_wakeup().await;
        // Before the event is handled, so that it uses the current clock.
        self.sync_clock();
        match wakeup {
            Wakeup::StopRequested => self.exit = Some(LoopExit::Stopped),
            Wakeup::TaskDone(result) => self.on_task_result(*result).await,
            Wakeup::Tick => {}
        }
        self.check_deadline().await;
        self.exit_if_once_and_blocked();
        self.shift_ledger_deadlines().await;
        self.publish_progress().await;
    }

    /// Waits for a task result, a deadline, or the request to stop.
    async fn wait_for_wakeup(&mut self) -> Wakeup {
        let wakeup_at = self.as_clock_reading(self.next_wakeup_at());
        self.heartbeat
            .beat_within(wakeup_at.wall.since(self.env.now()), self.machine.status().name());
        let wakeup = tokio::select! {
            biased;
            () = wait_for_stop(&mut self.stop) => Wakeup::StopRequested,
            Some(result) = self.commits.next(), if !self.commits.is_empty() => {
                Wakeup::TaskDone(Box::new(result))
            }
            Some(result) = self.tasks.next(), if !self.tasks.is_empty() => {
                Wakeup::TaskDone(Box::new(result))
            }
            Ok(()) = self.breaker_changes.changed() => Wakeup::Tick,
            () = self.env.sleep_until(wakeup_at) => Wakeup::Tick,
        };
        // The work until the next wait is short, however long this wait might have been.
        self.heartbeat.beat_within(Duration::ZERO, self.machine.status().name());
        wakeup
    }

    fn next_wakeup_at(&self) -> Timestamp {
        let publish_at =
            self.has_unsaved_changes.then(|| self.state_saved_at.after(PUBLISH_INTERVAL));
        let fetch_at = if self.can_fetch() {
            self.machine.active_throttle(self.env.now()).or_else(|| {
                // Due items are not loaded before the probe has succeeded.
                self.downloads.next_refill_at().filter(|_| self.probe == ProbeState::NotNeeded)
            })
        } else {
            None
        };
        let poll_at = (self.can_fetch() && !self.is_polling && self.downloads.has_only_retries())
            .then(|| self.machine.next_poll_at(&self.machine_config, self.env.now()));
        let times = [
            publish_at,
            fetch_at,
            self.downloads.batch_due_at(),
            self.next_breaker_check(),
            poll_at,
        ];
        times
            .into_iter()
            .flatten()
            .fold(self.machine.deadline(&self.machine_config), Timestamp::min)
    }

    fn is_downloading(&self) -> bool {
        self.machine.state == State::Working(SyncPhase::Downloading)
    }

    /// Returns true if documents may be fetched: not while the credential is read again.
    fn can_fetch(&self) -> bool {
        self.is_downloading() && self.machine.credential != CredentialState::Refreshing
    }

    async fn check_deadline(&mut self) {
        let now = self.env.now();
        if self.exit.is_some() || now < self.machine.deadline(&self.machine_config) {
            return;
        }
        // A request that is blocked until a known time is a wait, and the source is not stuck.
        if let Some(until) = self.source.blocked_until().filter(|until| now < *until) {
            self.handle_event(Event::IdleUntil { until }).await;
        }
        if self.machine.deadline(&self.machine_config) <= now {
            self.handle_event(Event::DeadlineReached).await;
        }
    }

    /// Passes an event to the machine, saves the new state, and performs the effects.
    async fn handle_event(&mut self, event: Event) {
        let now = self.sync_clock();
        let mut step = self.machine.step(&self.machine_config, &event, now);
        // Before the save, which writes the metrics too: the next save may be hours away.
        self.record_step(&self.machine, &step, now);
        if self.should_save(&step.machine) {
            if !step.effects.iter().any(|effect| matches!(effect, Effect::Restart { .. })) {
                self.log_transition(&step.machine);
            }
            if let Err(failure) = self.save_state(&step.machine).await {
                error!(cause = %failure.cause, error = %failure, "cannot save the state");
                self.has_unsaved_changes = true;
                // The next run would resume from the state saved before, and reach this point at
                // once.
                step.effects.retain(|effect| !matches!(effect, Effect::Restart { .. }));
                // Work must not start in a state that is not saved; a wait may go on.
                if let State::Working(_) = step.machine.state {
                    let failed_event = Event::Failed {
                        scope: RequestScope::Session,
                        failure,
                        sample: self.env.random_sample(),
                    };
                    let unsaved = step.machine;
                    step = unsaved.step(&self.machine_config, &failed_event, now);
                    self.record_step(&unsaved, &step, now);
                }
            }
        } else {
            self.has_unsaved_changes |= step.machine != self.machine;
        }
        self.tracer.on_transition(&self.machine, &step.machine, now);
        self.machine = step.machine;
        self.heartbeat.update_from_machine(&self.machine);
        for effect in step.effects {
            self.perform(effect);
        }
    }

    /// Returns true if no item was ever listed: then the configuration is probably wrong.
    fn has_never_worked(&self) -> bool {
        self.is_new && self.counts.listed == 0
    }
}

fn has_open_session(machine: &StateMachine) -> bool {
    machine.session.as_ref().is_some_and(|session| session.completed_at.is_none())
}

/// Returns when the worker is asked to stop.
pub(super) async fn wait_for_stop(stop: &mut watch::Receiver<StopSignal>) {
    // A closed channel means that no sender is left that could request a stop.
    if stop.wait_for(|stop| *stop == StopSignal::Requested).await.is_err() {
        std::future::pending::<()>().await;
    }
}
