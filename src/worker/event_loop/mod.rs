//! Event loop of one source: wait for an event, decide, perform the effects.
//!
//! Work beside the loop runs in tasks, each of which returns a [`TaskResult`]. Tasks may be
//! cancelled at any time; only a commit is always waited for.

mod breakers;
mod clock;
mod dependencies;
mod fetches;
mod known_good;
mod loop_clock;
mod observers;
mod on_result;
mod perform;
mod policy;
mod progress;
mod publication;
mod publish;
mod schedule;
mod shutdown;
mod wait;
mod work;

use tokio::sync::watch;
use tracing::{Instrument, error};

pub use self::dependencies::Dependencies;
pub use self::observers::Observers;
pub use self::policy::{LoopPolicy, RunMode, StartMode};
pub use self::publication::ITERATION_SPAN;

use cynosure_engine::{
    CredentialState, Effect, Event, ItemRetryPolicy, RequestScope, RestartCause, State,
    StateMachine, SyncPhase, Timestamp,
};

use self::loop_clock::LoopClock;
use self::progress::Progress;
use self::publication::Publication;
use self::work::Work;
use crate::env::Env;
use crate::ledger::SessionCounts;
use crate::source::Source;
use crate::worker::downloads::DownloadScheduler;
use crate::worker::source_progress::SourceProgress;
use crate::worker::tasks::TaskResult;

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
    /// The sign-in server refuses the client rather than the account, as far as is known: only a
    /// correction of the configuration helps.
    pub is_client_refused: bool,
    pub machine: StateMachine,
    pub counts: SessionCounts,
}

/// Configuration of the event loop, and the state in which it starts.
#[derive(Debug)]
pub struct EventLoopConfig<S, E> {
    pub deps: Dependencies<S, E>,
    pub policy: LoopPolicy,
    pub item_policy: ItemRetryPolicy,
    pub observers: Observers,
    pub machine: StateMachine,
    /// Boot time of the host, by the wall clock at the time when the state machine was loaded.
    pub booted_at: Timestamp,
    pub counts: SessionCounts,
    /// Time at which the newest successful request for an item was sent.
    pub last_success_at: Option<Timestamp>,
    /// No listing of the source was ever completed.
    pub is_new: bool,
    pub stop: watch::Receiver<StopSignal>,
    pub source_progress: watch::Sender<SourceProgress>,
}

struct EventLoop<S, E> {
    deps: Dependencies<S, E>,
    policy: LoopPolicy,
    observers: Observers,
    machine: StateMachine,
    clock: LoopClock,
    work: Work,
    progress: Progress,
    publication: Publication,
    stop: watch::Receiver<StopSignal>,
    /// Wakes the loop when a breaker has changed.
    breaker_changes: watch::Receiver<u64>,
    exit: Option<LoopExit>,
}

/// Event for which the loop waits.
enum Wakeup {
    StopRequested,
    TaskDone(Box<TaskResult>),
    Tick,
}

/// Runs the event loop of one source until it ends.
pub async fn run_event_loop<S: Source + 'static, E: Env>(
    config: EventLoopConfig<S, E>,
) -> LoopResult {
    let (deps, policy, observers) = (config.deps, config.policy, config.observers);
    let now = deps.env.now();
    let metrics = observers.metrics.clone();
    let downloads = DownloadScheduler::new(config.item_policy, config.last_success_at, metrics);
    let needs_final_poll = policy.mode == RunMode::Once && has_open_session(&config.machine);
    let mut event_loop = EventLoop {
        breaker_changes: deps.breakers.subscribe(),
        work: Work::new(downloads, deps.breakers.open_breaker(), needs_final_poll, now),
        deps,
        policy,
        observers,
        machine: config.machine,
        clock: LoopClock::new(config.booted_at),
        progress: Progress::new(config.counts, config.is_new),
        publication: Publication::new(config.source_progress, now),
        stop: config.stop,
        exit: None,
    };
    event_loop.run().await
}

impl<S: Source + 'static, E: Env> EventLoop<S, E> {
    async fn run(&mut self) -> LoopResult {
        self.observers.on_start();
        self.read_archive_totals().await;
        self.handle_event(Event::Started).await;
        if self.policy.mode == RunMode::Once {
            self.deps.breakers.half_open_now();
        }
        if self.policy.mode == RunMode::Once || self.policy.start_mode == StartMode::RunNow {
            self.handle_event(Event::RunRequested).await;
        }
        self.watch_credential();
        while self.exit.is_none() {
            let span = self.publication.iteration_span(&self.machine);
            self.run_iteration().instrument(span).await;
        }
        self.shut_down().await;
        LoopResult {
            exit: self.exit.unwrap_or(LoopExit::Stopped),
            has_never_worked: self.progress.has_never_worked(),
            // The loop does not know the credential.
            is_client_refused: false,
            machine: self.machine.clone(),
            counts: self.progress.counts,
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

    fn is_downloading(&self) -> bool {
        self.machine.state == State::Working(SyncPhase::Downloading)
    }

    /// Returns true if documents may be fetched: not while the credential is read again.
    fn can_fetch(&self) -> bool {
        self.is_downloading() && self.machine.credential != CredentialState::Refreshing
    }

    async fn check_deadline(&mut self) {
        let now = self.deps.env.now();
        if self.exit.is_some() || now < self.machine.deadline(&self.policy.machine_config) {
            return;
        }
        // A request that is blocked until a known time is a wait, and the source is not stuck.
        if let Some(until) = self.deps.source.blocked_until().filter(|until| now < *until) {
            self.handle_event(Event::IdleUntil { until }).await;
        }
        if self.machine.deadline(&self.policy.machine_config) <= now {
            self.handle_event(Event::DeadlineReached).await;
        }
    }

    /// Passes an event to the machine, saves the new state, and performs the effects.
    async fn handle_event(&mut self, event: Event) {
        let now = self.sync_clock();
        let mut step = self.machine.step(&self.policy.machine_config, &event, now);
        // Before the save, which writes the metrics too: the next save may be hours away.
        self.observers.on_step(&self.machine, &step, now);
        if self.should_save(&step.machine) {
            if !step.effects.iter().any(|effect| matches!(effect, Effect::Restart { .. })) {
                self.log_transition(&step.machine);
            }
            if let Err(failure) = self.save_state(&step.machine).await {
                error!(cause = %failure.cause, error = %failure, "cannot save the state");
                self.publication.has_unsaved_changes = true;
                // The next run would resume from the state saved before, and reach this point at
                // once.
                step.effects.retain(|effect| !matches!(effect, Effect::Restart { .. }));
                // Work must not start in a state that is not saved; a wait may go on.
                if let State::Working(_) = step.machine.state {
                    let failed_event = Event::Failed {
                        scope: RequestScope::Session,
                        failure,
                        sample: self.deps.env.random_sample(),
                    };
                    let unsaved = step.machine;
                    step = unsaved.step(&self.policy.machine_config, &failed_event, now);
                    self.observers.on_step(&unsaved, &step, now);
                }
            }
        } else {
            self.publication.has_unsaved_changes |= step.machine != self.machine;
        }
        self.observers.on_transition(&self.machine, &step.machine, now);
        self.machine = step.machine;
        self.deps.heartbeat.update_from_machine(&self.machine);
        for effect in step.effects {
            self.perform(effect);
        }
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
