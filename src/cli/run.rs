//! `run`: all sources of the configuration, side by side, until there is nothing more to do.

use std::process::ExitCode;
use std::rc::Rc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::LocalSet;
use tracing::{error, info};

use crate::cli::args::{Common, RunArgs};
use crate::cli::closing;
use crate::cli::exit::Exit;
use crate::cli::logging;
use crate::cli::place::Ground;
use crate::cli::print::{fail, note, out};
use crate::cli::progress::{Screen, Wanted};
use crate::config::{Settings, SourceName};
use crate::disk::SharedFile;
use crate::worker::{
    End, Gates, Mode, Outlet, QUOTA_FILE, RealWorld, Stop, Supervision, Task, View,
    run as run_source,
};

/// The signal that asked to stop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Asked {
    Interrupt,
    Terminate,
}

pub(super) fn run(common: &Common, args: &RunArgs) -> ExitCode {
    let ground = match Ground::find(common) {
        Ok(ground) => ground,
        Err(why) => return fail(Exit::Configuration, why).into(),
    };
    let names = match chosen(&ground.loaded.settings, &args.sources) {
        Ok(names) => names,
        Err(why) => return fail(Exit::Configuration, why).into(),
    };
    let screen = Screen::new(if common.quiet { Wanted::No } else { Wanted::Yes });
    logging::start(common, &ground.environment, &screen);
    let mode = if args.once { Mode::Once } else { Mode::Keep };
    run_all(ground, names, mode, &screen).into()
}

/// The sources that were named, or all that are enabled.
fn chosen(settings: &Settings, named: &[String]) -> Result<Vec<SourceName>, String> {
    let names: Vec<SourceName> = if named.is_empty() {
        let enabled = settings.sources.iter().filter(|(_, source)| source.enabled);
        enabled.map(|(name, _)| name.clone()).collect()
    } else {
        let found = named.iter().map(|name| settings.source(name).map(|(name, _)| name.clone()));
        found.collect::<Result<_, _>>().map_err(|unknown| unknown.to_string())?
    };
    if names.is_empty() {
        return Err("there is no source to run; add a [source.NAME] table to the configuration, \
                    or enable one"
            .to_owned());
    }
    Ok(names)
}

/// Runs the sources on a runtime of their own and tells how each ended.
pub(super) fn run_all(ground: Ground, names: Vec<SourceName>, mode: Mode, screen: &Screen) -> Exit {
    // One thread: the work is waiting; what blocks has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(Exit::Other, format!("cannot start: {error}")),
    };
    let supervised = ground.environment.get("INVOCATION_ID").is_some()
        && ground.environment.get("NOTIFY_SOCKET").is_some();
    let exit = LocalSet::new().block_on(&runtime, all(ground, names, mode, supervised, screen));
    // A credential command that hangs must not hold up the end.
    runtime.shutdown_background();
    exit
}

async fn all(
    ground: Ground,
    names: Vec<SourceName>,
    mode: Mode,
    supervised: bool,
    screen: &Screen,
) -> Exit {
    let (stop, stopping) = watch::channel(Stop::No);
    let (asked, was_asked) = watch::channel(None);
    let signals = tokio::task::spawn_local(listen(stop, asked));
    let supervision =
        if supervised && names.len() == 1 { Supervision::Alone } else { Supervision::None };
    let quotas = SharedFile::new(ground.state_dir.join(QUOTA_FILE));
    let gates = Rc::new(Gates::new(Rc::new(RealWorld), quotas));
    // The sources go out by the same proxies, and learn from one another which of them work.
    let outlet = Outlet::default();
    let mut sources = Vec::new();
    for name in &names {
        let task = Task {
            name: name.clone(),
            config_file: ground.config_file.clone(),
            state_dir: ground.state_dir.clone(),
            environment: ground.environment.clone(),
            mode,
            supervision,
            gates: Rc::clone(&gates),
            outlet: outlet.clone(),
        };
        let (view, views) = watch::channel(View::unknown());
        let lines = screen.clone();
        let shown = name.to_string();
        tokio::task::spawn_local(async move { lines.follow(shown, views).await });
        let settings = ground.loaded.settings.clone();
        sources.push(tokio::task::spawn_local(run_source(task, settings, stopping.clone(), view)));
    }
    let mut exits = Vec::new();
    for (name, source) in names.iter().zip(sources) {
        let end = match source.await {
            Ok(end) => end,
            Err(panic) => {
                error!(source = %name, "the worker broke: {panic}");
                exits.push(Exit::Other);
                continue;
            }
        };
        let label = if names.len() > 1 { Some(name.as_str()) } else { None };
        exits.push(tell(screen, label, name, &end));
    }
    signals.abort();
    match *was_asked.borrow() {
        Some(_) if supervised => Exit::StartAgain,
        Some(Asked::Interrupt) => Exit::Interrupted,
        Some(Asked::Terminate) => Exit::Terminated,
        None => Exit::worst(exits),
    }
}

/// Says how a source ended, in one honest sentence.
fn tell(screen: &Screen, label: Option<&str>, name: &SourceName, end: &End) -> Exit {
    let (exit, sentence) = closing::closing(name.as_str(), end);
    let sentence = match label {
        Some(label) => format!("{label}: {sentence}"),
        None => sentence,
    };
    screen.beside(|| match exit {
        Exit::Done | Exit::SomeQuarantined | Exit::StartAgain => {
            if let Some(speed) = closing::speed(end).filter(|_| screen.is_wanted()) {
                note(speed);
            }
            out(sentence);
            exit
        }
        Exit::Other
        | Exit::Storage
        | Exit::Authentication
        | Exit::Configuration
        | Exit::Terminated
        | Exit::Interrupted => fail(exit, sentence),
    })
}

/// The first signal asks to stop; the second leaves at once.
#[expect(clippy::exit, reason = "a person who asks twice means it")]
async fn listen(stop: watch::Sender<Stop>, asked: watch::Sender<Option<Asked>>) {
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
        error!("cannot listen for signals: a stop will end the work in the middle");
        return;
    };
    loop {
        let signal = tokio::select! {
            _ = interrupt.recv() => Asked::Interrupt,
            _ = terminate.recv() => Asked::Terminate,
        };
        if asked.borrow().is_some() {
            let exit = match signal {
                Asked::Interrupt => Exit::Interrupted,
                Asked::Terminate => Exit::Terminated,
            };
            std::process::exit(i32::from(exit.number()));
        }
        info!("stopping: what is in flight may end; a second signal leaves at once");
        asked.send_replace(Some(signal));
        stop.send_replace(Stop::Asked);
    }
}
