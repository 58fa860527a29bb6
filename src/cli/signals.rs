//! Signals: the first that asks to stop is obeyed in good order, the second at once; SIGHUP has
//! configuration and credentials read again.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::cli::exit::ProgramExit;
use crate::cli::run::SourceSelection;
use crate::config::{EnvVars, Settings, SourceName, load};
use crate::systemd::{Notifier, NotifyState};
use crate::worker::{ConfigVersion, Env, RealEnv, StopSignal};

/// What asked to stop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ShutdownReason {
    Interrupt,
    Terminate,
    /// What was read again names other sources than those that run.
    SourcesChanged,
}

/// How other sources than those that run are begun.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ReloadStrategy {
    /// By a service manager that starts the process anew.
    RestartProcess,
    /// By a person.
    Manual,
}

/// What a signal sets in motion.
#[derive(Debug)]
pub(super) struct SignalHandler {
    pub shutdown: watch::Sender<StopSignal>,
    pub shutdown_reason: watch::Sender<Option<ShutdownReason>>,
    pub config_versions: watch::Sender<ConfigVersion>,
    pub config_file: PathBuf,
    pub environment: EnvVars,
    pub selection: SourceSelection,
    pub reload_strategy: ReloadStrategy,
    pub notifier: Arc<Notifier>,
    pub hangup_signal: HangupSignal,
}

/// SIGHUP, heard from its making on: one that comes before anyone waits for it is kept.
#[derive(Debug)]
pub(super) struct HangupSignal(Option<Signal>);

impl HangupSignal {
    /// Has the signal kept in place of ending the process.
    ///
    /// On a terminal it means that the terminal is gone, and the program goes with it.
    pub(super) fn install(runtime: &Runtime) -> Self {
        let _entered = runtime.enter();
        let is_terminal = io::stdin().is_terminal();
        Self(if is_terminal { None } else { signal(SignalKind::hangup()).ok() })
    }

    /// Waits for the next one; for ever where none is heard.
    pub(super) async fn recv(&mut self) {
        match &mut self.0 {
            Some(hangup) => {
                hangup.recv().await;
            }
            None => std::future::pending().await,
        }
    }
}

enum ReceivedSignal {
    Shutdown(ShutdownReason),
    Hangup,
}

/// Listens for ever.
#[expect(clippy::exit, reason = "a person who asks twice means it")]
pub(super) async fn handle_signals(mut ears: SignalHandler) {
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
        error!("cannot listen for signals: a stop will end the work in the middle");
        return;
    };
    loop {
        let heard = tokio::select! {
            _ = interrupt.recv() => ReceivedSignal::Shutdown(ShutdownReason::Interrupt),
            _ = terminate.recv() => ReceivedSignal::Shutdown(ShutdownReason::Terminate),
            () = ears.hangup_signal.recv() => ReceivedSignal::Hangup,
        };
        let signal = match heard {
            ReceivedSignal::Shutdown(signal) => signal,
            ReceivedSignal::Hangup => {
                reload(&ears).await;
                continue;
            }
        };
        let before = *ears.shutdown_reason.borrow();
        if matches!(before, Some(ShutdownReason::Interrupt | ShutdownReason::Terminate)) {
            let exit = if signal == ShutdownReason::Interrupt {
                ProgramExit::Interrupted
            } else {
                ProgramExit::Terminated
            };
            std::process::exit(i32::from(exit.code()));
        }
        info!("stopping: what is in flight may end; a second signal leaves at once");
        ears.shutdown_reason.send_replace(Some(signal));
        ears.shutdown.send_replace(StopSignal::Requested);
    }
}

/// Reads the configuration again and has every source begin anew in its place. One that is broken
/// is reported, and the last good one kept; credentials are read again all the same.
async fn reload(ears: &SignalHandler) {
    info!("reading configuration and credentials again");
    ears.notifier.notify(&[NotifyState::Reloading { uptime: RealEnv::uptime() }]);
    let (file, environment) = (ears.config_file.clone(), ears.environment.clone());
    let loaded = RealEnv.spawn_blocking(move || load(&file, &environment)).await;
    let before = ears.config_versions.borrow().clone();
    let settings = match loaded {
        Ok(loaded) if needs_process_restart(ears, &loaded.settings) => {
            ears.shutdown_reason.send_replace(Some(ShutdownReason::SourcesChanged));
            ears.shutdown.send_replace(StopSignal::Requested);
            return;
        }
        Ok(loaded) => Rc::new(loaded.settings),
        Err(mistakes) => {
            error!("going on with the last good configuration: {mistakes}");
            before.settings
        }
    };
    ears.config_versions.send_replace(ConfigVersion { number: before.number + 1, settings });
}

/// Whether the process is to be started anew, since all sources are to run and they are others now.
fn needs_process_restart(ears: &SignalHandler, settings: &Settings) -> bool {
    let SourceSelection::AllEnabled(running) = &ears.selection else { return false };
    let enabled: Vec<&SourceName> = settings.enabled_sources().collect();
    let begun = join_names(enabled.iter().copied().filter(|name| !running.contains(name)));
    let ended = join_names(running.iter().filter(|name| !enabled.contains(name)));
    if begun.is_empty() && ended.is_empty() {
        return false;
    }
    match ears.reload_strategy {
        ReloadStrategy::RestartProcess => {
            info!(new = begun, gone = ended, "starting anew, since there are other sources now");
            true
        }
        ReloadStrategy::Manual => {
            warn!(
                new = begun,
                gone = ended,
                "other sources are neither begun nor ended by SIGHUP: stop the program and start it"
            );
            false
        }
    }
}

fn join_names<'a>(names: impl Iterator<Item = &'a SourceName>) -> String {
    names.map(SourceName::as_str).collect::<Vec<_>>().join(", ")
}
