//! All sources of a configuration side by side, each through as many lives as it needs.

use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::config::{self, CredentialRef, Environment, Settings, Source, SourceName};
use crate::engine::{
    ClockReading, CrashLoop, Failure, RestartCause, RestartPermit, StateMachine, Timestamp,
};
use crate::source::Recorder;
use crate::systemd::RestartBudgetFile;
use crate::worker::binding;
use crate::worker::breakers::Breakers;
use crate::worker::driver::{Ended, Exit, Mode, Stop, stopped};
use crate::worker::egress::Outlet;
use crate::worker::gate::Gates;
use crate::worker::life::{Birth, Changed, LastSecret, facts, live};
use crate::worker::liveness::Seat;
use crate::worker::refusal::Refusal;
use crate::worker::rules::rules;
use crate::worker::store::{self, Progress};
use crate::worker::tracer::Tracer;
use crate::worker::view::View;
use crate::worker::watchdog::AskRestart;
use crate::worker::world::{RealWorld, World};

/// So often a source that is stuck has its process leave by itself before systemd is asked.
const LEAVES_MAX: u32 = 1;

/// A restart that is granted ends us about at once.
const STOP_SOON: Duration = Duration::from_secs(10);

/// What one source needs to know to run.
#[derive(Clone, Debug)]
pub struct Task {
    pub name: SourceName,
    pub config_file: PathBuf,
    pub state_dir: PathBuf,
    /// The unit of the process, under whose name others count the restarts that they ask for.
    pub unit: Option<String>,
    pub environment: Environment,
    pub mode: Mode,
    pub supervision: Supervision,
    /// Absent where the process may not be started anew, or nobody would do it.
    pub ask: Option<AskRestart>,
    /// Shared by all sources of the process.
    pub gates: Rc<Gates<RealWorld>>,
    pub outlet: Outlet,
    pub breakers: Rc<Breakers>,
    /// What the configuration says, each time it is read for all sources.
    pub readings: watch::Receiver<Reading>,
    /// Tells the number of the reading that the source has begun to live by.
    pub opened: watch::Sender<u64>,
    pub seat: Seat,
    pub secret: LastSecret,
    pub tracer: Tracer,
    pub recorder: Recorder,
}

/// The configuration as it was read for all sources: at the start, and whenever a person asks.
#[derive(Clone, Debug)]
pub struct Reading {
    /// From 1 on.
    pub number: u64,
    pub settings: Rc<Settings>,
}

/// Who starts the process anew.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Supervision {
    /// Nobody: the worker starts itself anew, in this process.
    None,
    /// A service manager, when the process leaves with the code for it.
    Alone,
    /// Likewise; but there are other sources in the process, which a restart would disturb.
    Shared,
}

/// How a source ended.
#[derive(Debug)]
pub enum End {
    Ended(Ended),
    /// It is due to be started anew, and must not be by itself.
    StayedDown(Ended),
    /// It could not begin.
    Refused(Refusal),
}

/// Runs one source until it is done for good.
pub async fn run(
    mut task: Task,
    mut stop: watch::Receiver<Stop>,
    view: watch::Sender<View>,
) -> End {
    // Boxed: it holds all that a life is made of.
    let end = Box::pin(lives(&mut task, &mut stop, &view)).await;
    sign_off(&task).await;
    task.seat.leave();
    end
}

async fn lives(
    task: &mut Task,
    stop: &mut watch::Receiver<Stop>,
    view: &watch::Sender<View>,
) -> End {
    let mut reading = task.readings.borrow_and_update().clone();
    let mut settings = (*reading.settings).clone();
    let mut birth = Birth::First;
    let mut has_lived = false;
    loop {
        let Some(source) = settings.sources.get(&task.name).cloned() else {
            return End::Refused(Refusal::Configuration(format!(
                "source {} is no longer in the configuration",
                task.name
            )));
        };
        let ended = match life(task, &settings, &source, birth, stop, view).await {
            Ok(ended) => Some(ended),
            // Nobody is there any more who could be told: a full disk or a lock is waited for.
            Err(Refusal::Unusable(failure)) => {
                match wait_for_archive(task, &settings, &source, &failure, stop, view).await {
                    Stop::Asked => return End::Refused(Refusal::Unusable(failure)),
                    Stop::No => None,
                }
            }
            Err(refusal @ (Refusal::Failed(_) | Refusal::Held { .. }))
                if has_lived && task.mode != Mode::Once =>
            {
                error!("cannot start anew yet: {refusal}");
                sign_off(task).await;
                let again = RealWorld.now().after(settings.restart.retry_delay_base);
                if pause(task, again, stop).await == Stop::Asked {
                    return End::Refused(refusal);
                }
                None
            }
            Err(refusal) => return End::Refused(refusal),
        };
        has_lived |= ended.is_some();
        if task.readings.borrow().number != reading.number {
            reading = task.readings.borrow_and_update().clone();
            let before = std::mem::replace(&mut settings, (*reading.settings).clone());
            let changed = if before == settings { Changed::Nothing } else { Changed::Settings };
            birth = Birth::Reread(changed);
            if ended.as_ref().is_none_or(|ended| ended.exit == Exit::Stopped)
                && *stop.borrow() == Stop::No
            {
                continue;
            }
        } else if has_lived {
            birth = Birth::Anew;
        }
        let Some(ended) = ended else { continue };
        let Exit::Restart(cause) = ended.exit else { return End::Ended(ended) };
        if !settings.service.enable_auto_restart {
            warn!(why = cause.reason(), "a restart is due, and auto-restart is off");
            return End::StayedDown(ended);
        }
        if cause == RestartCause::Stuck && try_again(task, &ended, stop).await == Stop::Asked {
            return End::Ended(Ended { exit: Exit::Stopped, ..ended });
        }
        if leaves(task, &source, cause) {
            return End::Ended(ended);
        }
        info!(why = cause.reason(), "starting anew in place");
        if birth == Birth::Anew {
            settings = reread(task, settings);
        }
    }
}

/// Waits, in the state `error`, until the archive or the ledger is to be looked at again. A run
/// that does not wait, or a stop, ends it at once.
async fn wait_for_archive(
    task: &mut Task,
    settings: &Settings,
    source: &Source,
    failure: &Failure,
    stop: &mut watch::Receiver<Stop>,
    view: &watch::Sender<View>,
) -> Stop {
    let now = RealWorld.now();
    let until = now.after(settings.restart.retry_delay_base);
    let (dir, facts) = (task.state_dir.join(task.name.as_str()), facts(task, source));
    let waited_for = failure.clone();
    let save = move || binding::save_wait(&dir, &facts, &waited_for, until, now);
    let machine = match RealWorld.offload(save).await {
        Ok(machine) => machine,
        Err(unsaved) => {
            warn!(cause = %unsaved.cause, "the state is not saved: {unsaved}");
            StateMachine::new(now).with_store_error(failure, until, now)
        }
    };
    view.send_replace(View::new(&machine, &rules(settings, source), &Progress::default()));
    if task.mode == Mode::Once {
        return Stop::Asked;
    }
    error!(cause = %failure.cause, %until, "waiting for the archive: {failure}");
    // The start is over: how long this takes is up to a person.
    task.opened.send_replace(task.readings.borrow().number);
    pause(task, until, stop).await
}

/// Lets whoever watches see that nobody is at work on the source. Between two lives in one place it
/// is the same worker, which has not left.
async fn sign_off(task: &Task) {
    let dir = task.state_dir.join(task.name.as_str());
    if let Err(failure) = RealWorld.offload(move || store::sign_off(&dir)).await {
        error!(cause = %failure.cause, "the state still names this process: {failure}");
    }
}

/// One life, which ends early when the process must stop, or when everything was read again.
async fn life(
    task: &Task,
    settings: &Settings,
    source: &Source,
    birth: Birth,
    stop: &mut watch::Receiver<Stop>,
    view: &watch::Sender<View>,
) -> Result<Ended, Refusal> {
    let (halt, halted) = watch::channel(Stop::No);
    let mut readings = task.readings.clone();
    let mut life = pin!(live(task, settings, source, birth, &halted, view));
    tokio::select! {
        biased;
        ended = &mut life => return ended,
        () = stopped(stop) => {}
        Ok(()) = readings.changed() => {}
    }
    halt.send_replace(Stop::Asked);
    life.await
}

/// Waits until then, unless it must stop; something read anew ends the wait too.
async fn pause(task: &mut Task, until: Timestamp, stop: &mut watch::Receiver<Stop>) -> Stop {
    task.seat.promise(until.since(RealWorld.now()), "waiting to start anew");
    tokio::select! {
        biased;
        () = stopped(stop) => Stop::Asked,
        Ok(()) = task.readings.changed() => Stop::No,
        () = RealWorld.sleep_until(ClockReading { wall: until, ..RealWorld.time() }) => Stop::No,
    }
}

/// Waits until the budget lets a source that was stuck start anew. Where leaving has not helped
/// before, systemd is asked for a restart of the unit: it ends us with a stop.
async fn try_again(task: &mut Task, ended: &Ended, stop: &mut watch::Receiver<Stop>) -> Stop {
    let grant = granted(task, ended.machine.last_progress).await;
    if pause(task, grant.not_before, stop).await == Stop::Asked {
        return Stop::Asked;
    }
    let Some(ask) = task.ask.clone().filter(|_| grant.consecutive_restarts > LEAVES_MAX) else {
        return Stop::No;
    };
    error!("stuck: leaving has not helped; asking systemd to restart the unit");
    match RealWorld.offload(move || ask.ask()).await {
        Ok(()) => pause(task, RealWorld.now().after(STOP_SOON), stop).await,
        Err(why) => {
            error!("stuck: systemd does not restart the unit ({why}); leaving once more");
            Stop::No
        }
    }
}

/// When the budget lets a source that was stuck start anew.
async fn granted(task: &Task, last_progress: Timestamp) -> RestartPermit {
    let (file, now) = (RestartBudgetFile::new(&task.state_dir), RealWorld.now());
    let name = task.name.to_string();
    match RealWorld.offload(move || file.request_restart(&name, last_progress, now)).await {
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

/// Whether the process is started anew, rather than the source in its place: where that disturbs
/// no other source, and where a new place is not enough.
fn leaves(task: &Task, source: &Source, cause: RestartCause) -> bool {
    match task.supervision {
        Supervision::None => false,
        Supervision::Alone => true,
        Supervision::Shared => {
            // systemd copies its credentials for a process when that starts.
            let reads_anew = cause == RestartCause::Authentication
                && matches!(source.auth.secret(), CredentialRef::Systemd(_));
            reads_anew || cause == RestartCause::Stuck || task.seat.is_last_at_work()
        }
    }
}

/// Reads the configuration again; a broken one is reported and the last good one kept.
fn reread(task: &Task, settings: Settings) -> Settings {
    match config::load(&task.config_file, &task.environment) {
        Ok(loaded) => loaded.settings,
        Err(mistakes) => {
            warn!("going on with the last good configuration: {mistakes}");
            settings
        }
    }
}
