//! Supervision of sources: runs each source of the configuration, and restarts it when necessary.

use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::config::{self, CredentialRef, EnvVars, Settings, SourceName, SourceSettings};
use crate::engine::{
    ClockReading, CrashLoop, Failure, RestartCause, RestartPermit, StateMachine, Timestamp,
};
use crate::source::ResponseRecorder;
use crate::systemd::RestartBudgetFile;
use crate::worker::archive_binding;
use crate::worker::breakers::Breakers;
use crate::worker::env::{Env, RealEnv};
use crate::worker::event_loop::{LoopExit, LoopResult, RunMode, StopSignal, wait_for_stop};
use crate::worker::heartbeat::Heartbeat;
use crate::worker::policies::machine_rules;
use crate::worker::proxy_pool::ProxyPoolProvider;
use crate::worker::rate_limit::RateLimiters;
use crate::worker::source_progress::SourceProgress;
use crate::worker::source_run::{LastCredential, ReloadDiff, StartReason, run_once, source_info};
use crate::worker::start_error::StartError;
use crate::worker::store::{self, SessionProgress};
use crate::worker::tracer::Tracer;
use crate::worker::watchdog::RestartRequester;

/// Times that a stuck source exits the process by itself before systemd is asked for a restart.
const PROCESS_EXITS_MAX: u32 = 1;

/// Longest wait for a restart that systemd has granted: it stops this process almost at once.
const UNIT_RESTART_TIMEOUT: Duration = Duration::from_secs(10);

/// Context in which one source runs.
#[derive(Clone, Debug)]
pub struct SourceContext {
    pub name: SourceName,
    pub config_file: PathBuf,
    pub state_dir: PathBuf,
    /// Systemd unit of the process. Watchdog and monitor count the restarts that they request under
    /// its name.
    pub unit: Option<String>,
    pub environment: EnvVars,
    pub mode: RunMode,
    pub supervision: Supervision,
    /// Absent if the process must not be restarted, or no service manager would do it.
    pub restart_requester: Option<RestartRequester>,
    /// Shared by all sources of the process.
    pub rate_limiters: Rc<RateLimiters<RealEnv>>,
    pub proxy_pools: ProxyPoolProvider,
    pub breakers: Rc<Breakers>,
    /// Receives each version of the configuration that is loaded for all sources.
    pub config_versions: watch::Receiver<ConfigVersion>,
    /// Announces the number of the configuration version that the source runs with.
    pub opened_version: watch::Sender<u64>,
    pub heartbeat: Heartbeat,
    pub last_credential: LastCredential,
    pub tracer: Tracer,
    pub recorder: ResponseRecorder,
}

/// Version of the configuration, loaded for all sources at the start and at each reload.
#[derive(Clone, Debug)]
pub struct ConfigVersion {
    /// Counts from 1.
    pub number: u64,
    pub settings: Rc<Settings>,
}

/// Supervisor that restarts the process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Supervision {
    /// None: the worker restarts the source within this process.
    InPlace,
    /// A service manager, when the process exits with the exit code for it.
    SoleSource,
    /// A service manager as well, but a restart would interrupt other sources in the process.
    SharedProcess,
}

/// Outcome of a source.
#[derive(Debug)]
pub enum SourceOutcome {
    Finished(LoopResult),
    /// A restart is due, but automatic restarts are disabled.
    RestartDisabled(LoopResult),
    /// The source could not start.
    NotStarted(StartError),
}

/// Runs one source, with all its restarts, until it ends for good.
pub async fn run_source(
    mut task: SourceContext,
    mut stop: watch::Receiver<StopSignal>,
    view: watch::Sender<SourceProgress>,
) -> SourceOutcome {
    // Boxed because it holds the whole state of a run.
    let end = Box::pin(supervise(&mut task, &mut stop, &view)).await;
    clear_pid(&task).await;
    task.heartbeat.unregister();
    end
}

async fn supervise(
    task: &mut SourceContext,
    stop: &mut watch::Receiver<StopSignal>,
    view: &watch::Sender<SourceProgress>,
) -> SourceOutcome {
    let mut reading = task.config_versions.borrow_and_update().clone();
    let mut settings = (*reading.settings).clone();
    let mut birth = StartReason::ProcessStart;
    let mut has_lived = false;
    loop {
        let Some(source) = settings.sources.get(&task.name).cloned() else {
            return SourceOutcome::NotStarted(StartError::Configuration(format!(
                "source {} is no longer in the configuration",
                task.name
            )));
        };
        let ended = match run_until_stopped(task, &settings, &source, birth, stop, view).await {
            Ok(ended) => Some(ended),
            // Waits, since no user may be there to fix a full disk or a lock at once.
            Err(StartError::StorageUnusable(failure)) => {
                match wait_for_storage(task, &settings, &source, &failure, stop, view).await {
                    StopSignal::Requested => {
                        return SourceOutcome::NotStarted(StartError::StorageUnusable(failure));
                    }
                    StopSignal::Running => None,
                }
            }
            Err(refusal @ (StartError::Failed(_) | StartError::Locked { .. }))
                if has_lived && task.mode != RunMode::Once =>
            {
                error!("cannot start anew yet: {refusal}");
                clear_pid(task).await;
                let again = RealEnv.now().after(settings.restart.retry_delay_base);
                if wait_until(task, again, stop).await == StopSignal::Requested {
                    return SourceOutcome::NotStarted(refusal);
                }
                None
            }
            Err(refusal) => return SourceOutcome::NotStarted(refusal),
        };
        has_lived |= ended.is_some();
        if task.config_versions.borrow().number != reading.number {
            reading = task.config_versions.borrow_and_update().clone();
            let before = std::mem::replace(&mut settings, (*reading.settings).clone());
            birth = StartReason::ConfigReload(ReloadDiff::between(&before, &settings));
            if ended.as_ref().is_none_or(|ended| ended.exit == LoopExit::Stopped)
                && *stop.borrow() == StopSignal::Running
            {
                continue;
            }
        } else if has_lived {
            birth = StartReason::Restart;
        }
        let Some(ended) = ended else { continue };
        let LoopExit::Restart(cause) = ended.exit else { return SourceOutcome::Finished(ended) };
        if !settings.service.enable_auto_restart {
            warn!(why = cause.reason(), "a restart is due, and auto-restart is off");
            return SourceOutcome::RestartDisabled(ended);
        }
        if cause == RestartCause::Stuck
            && wait_for_restart_permit(task, &ended, stop).await == StopSignal::Requested
        {
            return SourceOutcome::Finished(LoopResult { exit: LoopExit::Stopped, ..ended });
        }
        if should_exit_process(task, &source, cause) {
            return SourceOutcome::Finished(ended);
        }
        info!(why = cause.reason(), "starting anew in place");
        if birth == StartReason::Restart {
            settings = reload_config(task, settings);
        }
    }
}

/// Waits, in the state `error`, until the archive or the ledger is checked again. Ends at once for
/// [`RunMode::Once`], or when the process must stop.
async fn wait_for_storage(
    task: &mut SourceContext,
    settings: &Settings,
    source: &SourceSettings,
    failure: &Failure,
    stop: &mut watch::Receiver<StopSignal>,
    view: &watch::Sender<SourceProgress>,
) -> StopSignal {
    let now = RealEnv.now();
    let until = now.after(settings.restart.retry_delay_base);
    let (dir, facts) = (task.state_dir.join(task.name.as_str()), source_info(task, source));
    let waited_for = failure.clone();
    let save = move || archive_binding::save_waiting_state(&dir, &facts, &waited_for, until, now);
    let machine = match RealEnv.spawn_blocking(save).await {
        Ok(machine) => machine,
        Err(unsaved) => {
            warn!(cause = %unsaved.cause, "the state is not saved: {unsaved}");
            StateMachine::new(now).with_store_error(failure, until, now)
        }
    };
    view.send_replace(SourceProgress::new(
        &machine,
        &machine_rules(settings, source),
        &SessionProgress::default(),
    ));
    if task.mode == RunMode::Once {
        return StopSignal::Requested;
    }
    error!(cause = %failure.cause, %until, "waiting for the archive: {failure}");
    // The start counts as finished, since only a person can say how long this wait takes.
    task.opened_version.send_replace(task.config_versions.borrow().number);
    wait_until(task, until, stop).await
}

/// Removes the pid from the state file, so that readers see that no worker runs. A normal restart
/// in place keeps the pid, since the worker has not exited.
async fn clear_pid(task: &SourceContext) {
    let dir = task.state_dir.join(task.name.as_str());
    if let Err(failure) = RealEnv.spawn_blocking(move || store::clear_pid(&dir)).await {
        error!(cause = %failure.cause, "the state still names this process: {failure}");
    }
}

/// Runs the source once. The run ends early when the process must stop or the configuration is
/// reloaded.
async fn run_until_stopped(
    task: &SourceContext,
    settings: &Settings,
    source: &SourceSettings,
    birth: StartReason,
    stop: &mut watch::Receiver<StopSignal>,
    view: &watch::Sender<SourceProgress>,
) -> Result<LoopResult, StartError> {
    let (halt, halted) = watch::channel(StopSignal::Running);
    let mut readings = task.config_versions.clone();
    let mut life = pin!(run_once(task, settings, source, birth, &halted, view));
    tokio::select! {
        biased;
        ended = &mut life => return ended,
        () = wait_for_stop(stop) => {}
        Ok(()) = readings.changed() => {}
    }
    halt.send_replace(StopSignal::Requested);
    life.await
}

/// Waits until `until`. Ends early when the process must stop or the configuration is reloaded.
async fn wait_until(
    task: &mut SourceContext,
    until: Timestamp,
    stop: &mut watch::Receiver<StopSignal>,
) -> StopSignal {
    task.heartbeat.beat_within(until.since(RealEnv.now()), "waiting to start anew");
    tokio::select! {
        biased;
        () = wait_for_stop(stop) => StopSignal::Requested,
        Ok(()) = task.config_versions.changed() => StopSignal::Running,
        () = RealEnv.sleep_until(ClockReading { wall: until, ..RealEnv.time() }) => StopSignal::Running,
    }
}

/// Waits until the restart budget permits the restart of a stuck source. If exiting has not helped
/// before, asks systemd to restart the unit, which stops this process.
async fn wait_for_restart_permit(
    task: &mut SourceContext,
    ended: &LoopResult,
    stop: &mut watch::Receiver<StopSignal>,
) -> StopSignal {
    let grant = request_restart(task, ended.machine.last_progress).await;
    if wait_until(task, grant.not_before, stop).await == StopSignal::Requested {
        return StopSignal::Requested;
    }
    let Some(ask) =
        task.restart_requester.clone().filter(|_| grant.consecutive_restarts > PROCESS_EXITS_MAX)
    else {
        return StopSignal::Running;
    };
    error!("stuck: leaving has not helped; asking systemd to restart the unit");
    match RealEnv.spawn_blocking(move || ask.request()).await {
        Ok(()) => wait_until(task, RealEnv.now().after(UNIT_RESTART_TIMEOUT), stop).await,
        Err(why) => {
            error!("stuck: systemd does not restart the unit ({why}); leaving once more");
            StopSignal::Running
        }
    }
}

/// Requests a restart of a stuck source from the restart budget.
async fn request_restart(task: &SourceContext, last_progress: Timestamp) -> RestartPermit {
    let (file, now) = (RestartBudgetFile::new(&task.state_dir), RealEnv.now());
    let name = task.name.to_string();
    match RealEnv.spawn_blocking(move || file.request_restart(&name, last_progress, now)).await {
        Ok(grant) => {
            if grant.crash_loop == CrashLoop::Detected {
                error!(
                    restarts = grant.consecutive_restarts,
                    "a person is needed: restarts do not help, nothing moves between them"
                );
            }
            grant
        }
        Err(failure) => {
            warn!(cause = %failure.cause, "restarts cannot be counted: {failure}");
            RestartPermit {
                not_before: now,
                consecutive_restarts: 1,
                crash_loop: CrashLoop::NotDetected,
            }
        }
    }
}

/// Returns true if the process is to be restarted rather than the source in place: if that
/// interrupts no other source, or if a restart in place does not suffice.
fn should_exit_process(task: &SourceContext, source: &SourceSettings, cause: RestartCause) -> bool {
    match task.supervision {
        Supervision::InPlace => false,
        Supervision::SoleSource => true,
        Supervision::SharedProcess => {
            // systemd copies the credentials of a process when it starts.
            let reads_anew = cause == RestartCause::Authentication
                && matches!(source.auth.credential_ref(), CredentialRef::Systemd(_));
            reads_anew || cause == RestartCause::Stuck || task.heartbeat.is_last_active()
        }
    }
}

/// Reloads the configuration. An invalid one is reported, and the last valid one is kept.
fn reload_config(task: &SourceContext, settings: Settings) -> Settings {
    match config::load(&task.config_file, &task.environment) {
        Ok(loaded) => loaded.settings,
        Err(mistakes) => {
            warn!("going on with the last good configuration: {mistakes}");
            settings
        }
    }
}
