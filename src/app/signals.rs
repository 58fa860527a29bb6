//! Signals: the first SIGINT or SIGTERM stops gracefully, the second immediately. SIGHUP reloads
//! configuration and credentials.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::app::exit::ProgramExit;
use crate::app::source_selection::SourceSelection;
use crate::config::{EnvVars, Settings, SourceName, load};
use crate::env::{Env, RealEnv};
use crate::systemd::{Notifier, NotifyState};
use crate::worker::{ConfigVersion, StopSignal};

/// Reason for the shutdown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ShutdownReason {
    Interrupt,
    Terminate,
    /// The reloaded configuration enables other sources than those that run.
    SourcesChanged,
}

/// Way in which a change of the enabled sources takes effect.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ReloadStrategy {
    /// A service manager restarts the process.
    RestartProcess,
    /// The user restarts the program.
    Manual,
}

/// Handler of signals, with everything that a signal changes.
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

/// Receiver of SIGHUP. A signal that arrives before [`HangupSignal::recv`] is called is kept.
#[derive(Debug)]
pub(super) struct HangupSignal(Option<Signal>);

impl HangupSignal {
    /// Catches the signal, which otherwise ends the process.
    ///
    /// With standard input on a terminal it is not caught: there it means that the terminal was
    /// closed, and the process has to end.
    pub(super) fn install(runtime: &Runtime) -> Self {
        let _entered = runtime.enter();
        let is_terminal = io::stdin().is_terminal();
        Self(if is_terminal { None } else { signal(SignalKind::hangup()).ok() })
    }

    /// Waits for the next signal; forever if the signal is not caught.
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

/// Handles signals; never returns, unless they cannot be received.
#[expect(clippy::exit, reason = "a second signal must end the process immediately")]
pub(super) async fn handle_signals(mut handler: SignalHandler) {
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
        error!("cannot listen for signals, so a stop interrupts requests in flight");
        return;
    };
    loop {
        let received = tokio::select! {
            _ = interrupt.recv() => ReceivedSignal::Shutdown(ShutdownReason::Interrupt),
            _ = terminate.recv() => ReceivedSignal::Shutdown(ShutdownReason::Terminate),
            () = handler.hangup_signal.recv() => ReceivedSignal::Hangup,
        };
        let reason = match received {
            ReceivedSignal::Shutdown(reason) => reason,
            ReceivedSignal::Hangup => {
                reload(&handler).await;
                continue;
            }
        };
        let previous = *handler.shutdown_reason.borrow();
        if matches!(previous, Some(ShutdownReason::Interrupt | ShutdownReason::Terminate)) {
            let exit = if reason == ShutdownReason::Interrupt {
                ProgramExit::Interrupted
            } else {
                ProgramExit::Terminated
            };
            std::process::exit(i32::from(exit.code()));
        }
        info!("stopping after the requests in flight; a second signal exits immediately");
        handler.shutdown_reason.send_replace(Some(reason));
        handler.shutdown.send_replace(StopSignal::Requested);
    }
}

/// Reads the configuration again, and restarts every source in place. Logs an invalid configuration
/// and keeps the last valid one; credentials are read again in any case.
async fn reload(handler: &SignalHandler) {
    info!("reading configuration and credentials again");
    handler.notifier.notify(&[NotifyState::Reloading { uptime: RealEnv::uptime() }]);
    let (file, environment) = (handler.config_file.clone(), handler.environment.clone());
    let loaded = RealEnv.spawn_blocking(move || load(&file, &environment)).await;
    let previous = handler.config_versions.borrow().clone();
    let settings = match loaded {
        Ok(loaded) if needs_process_restart(handler, &loaded.settings) => {
            handler.shutdown_reason.send_replace(Some(ShutdownReason::SourcesChanged));
            handler.shutdown.send_replace(StopSignal::Requested);
            return;
        }
        Ok(loaded) => Rc::new(loaded.settings),
        Err(errors) => {
            error!(%errors, "keeping the last valid configuration");
            previous.settings
        }
    };
    handler.config_versions.send_replace(ConfigVersion { number: previous.number + 1, settings });
}

/// True if the process must restart, because it runs all enabled sources and these have changed.
fn needs_process_restart(handler: &SignalHandler, settings: &Settings) -> bool {
    let SourceSelection::AllEnabled(running) = &handler.selection else { return false };
    let enabled: Vec<&SourceName> = settings.enabled_sources().collect();
    let added = join_names(enabled.iter().copied().filter(|name| !running.contains(name)));
    let removed = join_names(running.iter().filter(|name| !enabled.contains(name)));
    if added.is_empty() && removed.is_empty() {
        return false;
    }
    match handler.reload_strategy {
        ReloadStrategy::RestartProcess => {
            info!(added, removed, "restarting, because the enabled sources have changed");
            true
        }
        ReloadStrategy::Manual => {
            warn!(added, removed, "SIGHUP does not change which sources run: restart the program");
            false
        }
    }
}

fn join_names<'a>(names: impl Iterator<Item = &'a SourceName>) -> String {
    names.map(SourceName::as_str).collect::<Vec<_>>().join(", ")
}
