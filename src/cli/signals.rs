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

use crate::cli::exit::Exit;
use crate::cli::run::Chosen;
use crate::config::{EnvVars, Settings, SourceName, load};
use crate::systemd::{Notifier, NotifyState};
use crate::worker::{ConfigVersion, Env, RealEnv, StopSignal};

/// What asked to stop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Asked {
    Interrupt,
    Terminate,
    /// What was read again names other sources than those that run.
    OtherSources,
}

/// How other sources than those that run are begun.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Renewal {
    /// By a service manager that starts the process anew.
    StartAnew,
    /// By a person.
    ByHand,
}

/// What a signal sets in motion.
#[derive(Debug)]
pub(super) struct Ears {
    pub stop: watch::Sender<StopSignal>,
    pub asked: watch::Sender<Option<Asked>>,
    pub readings: watch::Sender<ConfigVersion>,
    pub config_file: PathBuf,
    pub environment: EnvVars,
    pub chosen: Chosen,
    pub renewal: Renewal,
    pub notifier: Arc<Notifier>,
    pub hangup: Hangup,
}

/// SIGHUP, heard from its making on: one that comes before anyone waits for it is kept.
#[derive(Debug)]
pub(super) struct Hangup(Option<Signal>);

impl Hangup {
    /// Has the signal kept in place of ending the process.
    ///
    /// On a terminal it means that the terminal is gone, and the program goes with it.
    pub(super) fn listen(runtime: &Runtime) -> Self {
        let _entered = runtime.enter();
        let is_terminal = io::stdin().is_terminal();
        Self(if is_terminal { None } else { signal(SignalKind::hangup()).ok() })
    }

    /// Waits for the next one; for ever where none is heard.
    pub(super) async fn heard(&mut self) {
        match &mut self.0 {
            Some(hangup) => {
                hangup.recv().await;
            }
            None => std::future::pending().await,
        }
    }
}

enum Heard {
    Asked(Asked),
    Hangup,
}

/// Listens for ever.
#[expect(clippy::exit, reason = "a person who asks twice means it")]
pub(super) async fn listen(mut ears: Ears) {
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
        error!("cannot listen for signals: a stop will end the work in the middle");
        return;
    };
    loop {
        let heard = tokio::select! {
            _ = interrupt.recv() => Heard::Asked(Asked::Interrupt),
            _ = terminate.recv() => Heard::Asked(Asked::Terminate),
            () = ears.hangup.heard() => Heard::Hangup,
        };
        let signal = match heard {
            Heard::Asked(signal) => signal,
            Heard::Hangup => {
                reread(&ears).await;
                continue;
            }
        };
        let before = *ears.asked.borrow();
        if matches!(before, Some(Asked::Interrupt | Asked::Terminate)) {
            let exit =
                if signal == Asked::Interrupt { Exit::Interrupted } else { Exit::Terminated };
            std::process::exit(i32::from(exit.number()));
        }
        info!("stopping: what is in flight may end; a second signal leaves at once");
        ears.asked.send_replace(Some(signal));
        ears.stop.send_replace(StopSignal::Requested);
    }
}

/// Reads the configuration again and has every source begin anew in its place. One that is broken
/// is reported, and the last good one kept; credentials are read again all the same.
async fn reread(ears: &Ears) {
    info!("reading configuration and credentials again");
    ears.notifier.notify(&[NotifyState::Reloading { uptime: RealEnv::uptime() }]);
    let (file, environment) = (ears.config_file.clone(), ears.environment.clone());
    let loaded = RealEnv.spawn_blocking(move || load(&file, &environment)).await;
    let before = ears.readings.borrow().clone();
    let settings = match loaded {
        Ok(loaded) if starts_anew(ears, &loaded.settings) => {
            ears.asked.send_replace(Some(Asked::OtherSources));
            ears.stop.send_replace(StopSignal::Requested);
            return;
        }
        Ok(loaded) => Rc::new(loaded.settings),
        Err(mistakes) => {
            error!("going on with the last good configuration: {mistakes}");
            before.settings
        }
    };
    ears.readings.send_replace(ConfigVersion { number: before.number + 1, settings });
}

/// Whether the process is to be started anew, since all sources are to run and they are others now.
fn starts_anew(ears: &Ears, settings: &Settings) -> bool {
    let Chosen::All(running) = &ears.chosen else { return false };
    let enabled: Vec<&SourceName> = settings.enabled_sources().collect();
    let begun = list(enabled.iter().copied().filter(|name| !running.contains(name)));
    let ended = list(running.iter().filter(|name| !enabled.contains(name)));
    if begun.is_empty() && ended.is_empty() {
        return false;
    }
    match ears.renewal {
        Renewal::StartAnew => {
            info!(new = begun, gone = ended, "starting anew, since there are other sources now");
            true
        }
        Renewal::ByHand => {
            warn!(
                new = begun,
                gone = ended,
                "other sources are neither begun nor ended by SIGHUP: stop the program and start it"
            );
            false
        }
    }
}

fn list<'a>(names: impl Iterator<Item = &'a SourceName>) -> String {
    names.map(SourceName::as_str).collect::<Vec<_>>().join(", ")
}
