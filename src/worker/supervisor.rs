//! Supervision of sources: runs each source of the configuration, and restarts it when necessary.

use std::pin::pin;
use std::time::Duration;

use cynosure_engine::{
    ClockReading, CrashLoop, Failure, RestartCause, RestartPermit, StateMachine, Timestamp,
};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::config::{self, CredentialRef, Settings, SourceSettings};
use crate::env::{Env, RealEnv};
use crate::systemd::RestartBudgetFile;
use crate::worker::archive_binding;
use crate::worker::event_loop::{LoopExit, LoopResult, RunMode, StopSignal, wait_for_stop};
use crate::worker::source_context::{SourceContext, Supervision};
use crate::worker::source_progress::SourceProgress;
use crate::worker::source_run::{ReloadDiff, StartReason, run_once, source_info};
use crate::worker::start_error::StartError;
use crate::worker::state_mapping::SessionProgress;
use crate::worker::store;

/// Times that a stuck source exits the process by itself before systemd is asked for a restart.
const PROCESS_EXITS_MAX: u32 = 1;

/// Longest wait for a restart that systemd has granted: it stops this process almost at once.
const UNIT_RESTART_TIMEOUT: Duration = Duration::from_secs(10);

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
    mut context: SourceContext,
    mut stop: watch::Receiver<StopSignal>,
    progress: watch::Sender<SourceProgress>,
) -> SourceOutcome {
    // Boxed because it holds the whole state of a run.
    let outcome = Box::pin(supervise(&mut context, &mut stop, &progress)).await;
    clear_pid(&context).await;
    context.heartbeat.unregister();
    outcome
}

async fn supervise(
    context: &mut SourceContext,
    stop: &mut watch::Receiver<StopSignal>,
    progress: &watch::Sender<SourceProgress>,
) -> SourceOutcome {
    let mut version = context.config_versions.borrow_and_update().clone();
    let mut settings = (*version.settings).clone();
    let mut start_reason = StartReason::ProcessStart;
    let mut has_run = false;
    loop {
        let Some(source) = settings.sources.get(&context.name).cloned() else {
            return SourceOutcome::NotStarted(StartError::Configuration(format!(
                "source {} is no longer in the configuration",
                context.name
            )));
        };
        let run = run_until_stopped(context, &settings, &source, start_reason, stop, progress);
        let result = match run.await {
            Ok(result) => Some(result),
            Err(error) => {
                let retry = wait_to_retry_start(
                    context, &settings, &source, error, has_run, stop, progress,
                );
                match retry.await {
                    Ok(()) => None,
                    Err(error) => return SourceOutcome::NotStarted(error),
                }
            }
        };
        has_run |= result.is_some();
        if context.config_versions.borrow().number != version.number {
            version = context.config_versions.borrow_and_update().clone();
            let before = std::mem::replace(&mut settings, (*version.settings).clone());
            start_reason = StartReason::ConfigReload(ReloadDiff::between(&before, &settings));
            if result.as_ref().is_none_or(|result| result.exit == LoopExit::Stopped)
                && *stop.borrow() == StopSignal::Running
            {
                continue;
            }
        } else if has_run {
            start_reason = StartReason::Restart;
        }
        let Some(result) = result else { continue };
        let LoopExit::Restart(cause) = result.exit else { return SourceOutcome::Finished(result) };
        if !settings.service.enable_auto_restart {
            warn!(reason = cause.reason(), "a restart is due, but automatic restarts are disabled");
            return SourceOutcome::RestartDisabled(result);
        }
        if cause == RestartCause::Stuck
            && wait_for_restart_permit(context, &result, stop).await == StopSignal::Requested
        {
            return SourceOutcome::Finished(LoopResult { exit: LoopExit::Stopped, ..result });
        }
        if should_exit_process(context, &source, cause) {
            return SourceOutcome::Finished(result);
        }
        info!(reason = cause.reason(), "restarting in place");
        if start_reason == StartReason::Restart {
            settings = reload_config(context, settings);
        }
    }
}

/// Waits until a source that could not be started is tried again.
///
/// # Errors
/// The error itself, if no retry can help or the process must stop.
async fn wait_to_retry_start(
    context: &mut SourceContext,
    settings: &Settings,
    source: &SourceSettings,
    error: StartError,
    has_run: bool,
    stop: &mut watch::Receiver<StopSignal>,
    progress: &watch::Sender<SourceProgress>,
) -> Result<(), StartError> {
    match error {
        // Waits, since no operator may be there to fix a full disk or a lock at once.
        StartError::StorageUnusable(failure) => {
            match wait_for_storage(context, settings, source, &failure, stop, progress).await {
                StopSignal::Requested => Err(StartError::StorageUnusable(failure)),
                StopSignal::Running => Ok(()),
            }
        }
        error @ (StartError::Failed(_) | StartError::Locked { .. })
            if has_run && context.process.mode != RunMode::Once =>
        {
            error!(%error, "cannot restart yet");
            clear_pid(context).await;
            let retry_at = RealEnv.now().after(settings.restart.retry_delay_base);
            match wait_until(context, retry_at, stop).await {
                StopSignal::Requested => Err(error),
                StopSignal::Running => Ok(()),
            }
        }
        error @ (StartError::Failed(_)
        | StartError::Locked { .. }
        | StartError::Configuration(_)
        | StartError::NewerFormat(_)) => Err(error),
    }
}

/// Waits, in the state `error`, until the archive or the ledger is checked again. Ends at once for
/// [`RunMode::Once`], or when the process must stop.
async fn wait_for_storage(
    context: &mut SourceContext,
    settings: &Settings,
    source: &SourceSettings,
    failure: &Failure,
    stop: &mut watch::Receiver<StopSignal>,
    progress: &watch::Sender<SourceProgress>,
) -> StopSignal {
    let now = RealEnv.now();
    let until = now.after(settings.restart.retry_delay_base);
    let (dir, info) = (context.source_state_dir(), source_info(context, source));
    let store_failure = failure.clone();
    let save = move || archive_binding::save_waiting_state(&dir, &info, &store_failure, until, now);
    let machine = match RealEnv.spawn_blocking(save).await {
        Ok(machine) => machine,
        Err(save_failure) => {
            warn!(cause = %save_failure.cause, error = %save_failure, "cannot save the state");
            StateMachine::new(now).with_store_error(failure, until, now)
        }
    };
    progress.send_replace(SourceProgress::new(
        &machine,
        &settings.machine_config(source),
        &SessionProgress::default(),
    ));
    if context.process.mode == RunMode::Once {
        return StopSignal::Requested;
    }
    error!(cause = %failure.cause, %until, error = %failure, "waiting for archive or ledger");
    // The start counts as finished, since this wait may last until an operator acts.
    context.announce_opened_version();
    wait_until(context, until, stop).await
}

/// Removes the pid from the state file, so that readers see that no worker runs. A normal restart
/// in place keeps the pid, since the worker has not exited.
async fn clear_pid(context: &SourceContext) {
    let dir = context.source_state_dir();
    if let Err(failure) = RealEnv.spawn_blocking(move || store::clear_pid(&dir)).await {
        error!(
            cause = %failure.cause, error = %failure,
            "cannot remove the process id from the state file"
        );
    }
}

/// Runs the source once. The run ends early when the process must stop or the configuration is
/// reloaded.
async fn run_until_stopped(
    context: &SourceContext,
    settings: &Settings,
    source: &SourceSettings,
    start_reason: StartReason,
    stop: &mut watch::Receiver<StopSignal>,
    progress: &watch::Sender<SourceProgress>,
) -> Result<LoopResult, StartError> {
    let (stop_run, run_stop) = watch::channel(StopSignal::Running);
    let mut config_versions = context.config_versions.clone();
    let mut run = pin!(run_once(context, settings, source, start_reason, &run_stop, progress));
    tokio::select! {
        biased;
        result = &mut run => return result,
        () = wait_for_stop(stop) => {}
        Ok(()) = config_versions.changed() => {}
    }
    stop_run.send_replace(StopSignal::Requested);
    run.await
}

/// Waits until `until`. Ends early when the process must stop or the configuration is reloaded.
async fn wait_until(
    context: &mut SourceContext,
    until: Timestamp,
    stop: &mut watch::Receiver<StopSignal>,
) -> StopSignal {
    context.heartbeat.beat_within(until.since(RealEnv.now()), "waiting to restart");
    tokio::select! {
        biased;
        () = wait_for_stop(stop) => StopSignal::Requested,
        Ok(()) = context.config_versions.changed() => StopSignal::Running,
        () = RealEnv.sleep_until(ClockReading { wall: until, ..RealEnv.time() }) => {
            StopSignal::Running
        }
    }
}

/// Waits until the restart budget permits the restart of a stuck source. If exiting has not helped
/// before, asks systemd to restart the unit, which stops this process.
async fn wait_for_restart_permit(
    context: &mut SourceContext,
    result: &LoopResult,
    stop: &mut watch::Receiver<StopSignal>,
) -> StopSignal {
    let permit = request_restart(context, result.machine.progress.last_at).await;
    if wait_until(context, permit.not_before, stop).await == StopSignal::Requested {
        return StopSignal::Requested;
    }
    let Some(requester) = context
        .process
        .restart_requester
        .clone()
        .filter(|_| permit.consecutive_restarts > PROCESS_EXITS_MAX)
    else {
        return StopSignal::Running;
    };
    error!("stuck: exiting has not helped; asking systemd to restart the unit");
    match RealEnv.spawn_blocking(move || requester.request()).await {
        Ok(()) => wait_until(context, RealEnv.now().after(UNIT_RESTART_TIMEOUT), stop).await,
        Err(reason) => {
            error!(%reason, "stuck: systemd does not restart the unit; exiting again");
            StopSignal::Running
        }
    }
}

/// Requests a restart of a stuck source from the restart budget.
async fn request_restart(context: &SourceContext, last_progress: Timestamp) -> RestartPermit {
    let (file, now) = (RestartBudgetFile::new(&context.process.state_dir), RealEnv.now());
    let name = context.name.to_string();
    match RealEnv.spawn_blocking(move || file.request_restart(&name, last_progress, now)).await {
        Ok(permit) => {
            if permit.crash_loop == CrashLoop::Detected {
                error!(
                    restarts = permit.consecutive_restarts,
                    "manual intervention required: restarts have not helped"
                );
            }
            permit
        }
        Err(failure) => {
            warn!(cause = %failure.cause, error = %failure, "cannot count the restart");
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
fn should_exit_process(
    context: &SourceContext,
    source: &SourceSettings,
    cause: RestartCause,
) -> bool {
    match context.process.supervision {
        Supervision::InPlace => false,
        Supervision::SoleSource => true,
        Supervision::SharedProcess => {
            // systemd copies the credentials of a process when it starts.
            let reloads_credential = cause == RestartCause::Authentication
                && matches!(source.auth.credential_ref(), Some(CredentialRef::Systemd(_)));
            reloads_credential || cause == RestartCause::Stuck || context.heartbeat.is_last_active()
        }
    }
}

/// Reloads the configuration. An invalid one is reported, and the last valid one is kept.
fn reload_config(context: &SourceContext, settings: Settings) -> Settings {
    match config::load(&context.process.config_file, &context.process.environment) {
        Ok(loaded) => loaded.settings,
        Err(errors) => {
            warn!(%errors, "keeping the last valid configuration");
            settings
        }
    }
}
