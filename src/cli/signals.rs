//! Signals: the first that asks to stop is obeyed in good order, the second at once; SIGHUP has
//! configuration and credentials read again.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::cli::exit::Exit;
use crate::config::{Environment, SourceName, load};
use crate::systemd::{Notifier, Word};
use crate::worker::{Reading, RealWorld, Stop, World};

/// The signal that asked to stop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Asked {
    Interrupt,
    Terminate,
}

/// What a signal sets in motion.
#[derive(Debug)]
pub(super) struct Ears {
    pub stop: watch::Sender<Stop>,
    pub asked: watch::Sender<Option<Asked>>,
    pub readings: watch::Sender<Reading>,
    pub config_file: PathBuf,
    pub environment: Environment,
    pub names: Vec<SourceName>,
    pub notifier: Arc<Notifier>,
}

enum Heard {
    Asked(Asked),
    Hangup,
}

/// Listens for ever.
#[expect(clippy::exit, reason = "a person who asks twice means it")]
pub(super) async fn listen(ears: Ears) {
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
        error!("cannot listen for signals: a stop will end the work in the middle");
        return;
    };
    let mut hangup = hangup();
    loop {
        let heard = tokio::select! {
            _ = interrupt.recv() => Heard::Asked(Asked::Interrupt),
            _ = terminate.recv() => Heard::Asked(Asked::Terminate),
            () = next(&mut hangup) => Heard::Hangup,
        };
        let signal = match heard {
            Heard::Asked(signal) => signal,
            Heard::Hangup => {
                reread(&ears).await;
                continue;
            }
        };
        if ears.asked.borrow().is_some() {
            let exit = match signal {
                Asked::Interrupt => Exit::Interrupted,
                Asked::Terminate => Exit::Terminated,
            };
            std::process::exit(i32::from(exit.number()));
        }
        info!("stopping: what is in flight may end; a second signal leaves at once");
        ears.asked.send_replace(Some(signal));
        ears.stop.send_replace(Stop::Asked);
    }
}

/// On a terminal the signal means that the terminal is gone, and the program goes with it.
fn hangup() -> Option<Signal> {
    if io::stdin().is_terminal() { None } else { signal(SignalKind::hangup()).ok() }
}

async fn next(hangup: &mut Option<Signal>) {
    match hangup {
        Some(hangup) => {
            hangup.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Reads the configuration again and has every source begin anew in its place. One that is broken
/// is reported, and the last good one kept; credentials are read again all the same.
async fn reread(ears: &Ears) {
    info!("reading configuration and credentials again");
    ears.notifier.tell(&[Word::Reloading { uptime: RealWorld::uptime() }]);
    let (file, environment) = (ears.config_file.clone(), ears.environment.clone());
    let loaded = RealWorld.offload(move || load(&file, &environment)).await;
    let before = ears.readings.borrow().clone();
    let settings = match loaded {
        Ok(loaded) => {
            let settings = loaded.settings;
            let is_new = |name: &SourceName| !ears.names.contains(name);
            let enabled = settings.sources.iter().filter(|(_, source)| source.enabled);
            for (name, _) in enabled.filter(|(name, _)| is_new(name)) {
                warn!(source = %name, "a new source begins when the program is started anew");
            }
            Rc::new(settings)
        }
        Err(mistakes) => {
            error!("going on with the last good configuration: {mistakes}");
            before.settings
        }
    };
    ears.readings.send_replace(Reading { number: before.number + 1, settings });
}
