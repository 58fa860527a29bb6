//! `run`: all sources of the configuration, side by side, until there is nothing more to do.

use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle, LocalSet};
use tracing::{Instrument, error, error_span, warn};

use crate::cli::args::{Common, RunArgs};
use crate::cli::closing;
use crate::cli::exit::Exit;
use crate::cli::exporting::Traces;
#[cfg(debug_assertions)]
use crate::cli::failpoint;
use crate::cli::guard::{ask_restart, guard, unit};
use crate::cli::herald::{Followed, herald};
use crate::cli::logging;
use crate::cli::place::Ground;
use crate::cli::print::{fail, note, out};
use crate::cli::progress::{Screen, Wanted};
use crate::cli::recording::Recording;
use crate::cli::signals::{Asked, Ears, Hangup, Renewal, listen};
use crate::cli::trouble::{Trouble, end};
use crate::config::{Settings, SourceName};
use crate::disk::LockedFile;
use crate::source::ResponseRecorder;
use crate::systemd::{Notifier, NotifyState};
use crate::worker::{
    self, Breakers, BreakersFile, ConfigVersion, Env, HeartbeatRegistry, LIMITERS_FILE,
    LastCredential, LoopResult, ProxyPoolProvider, RateLimiters, RealEnv, RestartRequester,
    RunMode, SourceContext, SourceOutcome, SourceProgress, StopSignal, Supervision, breaker_policy,
    run_source,
};

pub(super) fn run(common: &Common, args: &RunArgs) -> ExitCode {
    // First of all: a SIGHUP must not end a process that is about to read its configuration.
    let process = match Process::begin() {
        Ok(process) => process,
        Err(exit) => return exit.into(),
    };
    let ground = match Ground::find(common) {
        Ok(ground) => ground,
        Err(why) => return fail(Exit::Configuration, why).into(),
    };
    let chosen = match chosen(&ground.loaded.settings, &args.sources) {
        Ok(chosen) => chosen,
        Err(why) => return fail(Exit::Configuration, why).into(),
    };
    let recording = match recording(args.record.as_deref(), &chosen) {
        Ok(recording) => recording,
        Err(trouble) => return end(Err(trouble)),
    };
    let screen = Screen::new(if common.quiet { Wanted::No } else { Wanted::Yes });
    logging::start(common, &ground.environment, &screen);
    let mode = if args.once { RunMode::Once } else { RunMode::Continuous };
    process.run_all(ground, chosen, mode, recording, &screen).into()
}

/// Begins the trace that was asked for. It tells of one server, as one client finds it.
fn recording(path: Option<&Path>, chosen: &Chosen) -> Result<Option<Recording>, Trouble> {
    let Some(path) = path else { return Ok(None) };
    if let [one, _, ..] = chosen.names() {
        return Err(Trouble::Usage(format!(
            "a trace is of one source, and {} would run; name one, as in `cynosure run {one} --record {}`",
            chosen.names().len(),
            path.display()
        )));
    }
    Recording::start(path).map(Some).map_err(|why| Trouble::new(Exit::Other, why))
}

/// The sources that run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Chosen {
    /// All that are enabled.
    All(Vec<SourceName>),
    Named(Vec<SourceName>),
}

impl Chosen {
    pub(super) fn names(&self) -> &[SourceName] {
        match self {
            Self::All(names) | Self::Named(names) => names,
        }
    }
}

/// The sources that were named, or all that are enabled.
fn chosen(settings: &Settings, named: &[String]) -> Result<Chosen, String> {
    let chosen = if named.is_empty() {
        Chosen::All(settings.enabled_sources().cloned().collect())
    } else {
        let found =
            named.iter().map(|name| settings.find_source(name).map(|(name, _)| name.clone()));
        Chosen::Named(found.collect::<Result<_, _>>().map_err(|unknown| unknown.to_string())?)
    };
    if chosen.names().is_empty() {
        return Err("there is no source to run; add a [source.NAME] table to the configuration, \
                    or enable one"
            .to_owned());
    }
    Ok(chosen)
}

/// The runtime that sources run on, and the signal it listens for from the beginning.
pub(super) struct Process {
    runtime: Runtime,
    hangup: Hangup,
}

impl Process {
    pub(super) fn begin() -> Result<Self, Exit> {
        // One thread: the work is waiting; what blocks has threads of its own.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|error| fail(Exit::Other, format!("cannot start: {error}")))?;
        let hangup = Hangup::listen(&runtime);
        Ok(Self { runtime, hangup })
    }

    /// Runs the sources and tells how each ended.
    pub(super) fn run_all(
        self,
        ground: Ground,
        chosen: Chosen,
        mode: RunMode,
        recording: Option<Recording>,
        screen: &Screen,
    ) -> Exit {
        let Self { runtime, hangup } = self;
        let supervised = ground.environment.get("INVOCATION_ID").is_some()
            && ground.environment.get("NOTIFY_SOCKET").is_some();
        let recorder = recording.as_ref().map(Recording::recorder).unwrap_or_default();
        let work = all(ground, chosen, mode, supervised, recorder, hangup, screen);
        let exit = LocalSet::new().block_on(&runtime, work);
        // A credential command that hangs must not hold up the end.
        runtime.shutdown_background();
        let recorded = recording.and_then(Recording::close).filter(|_| screen.is_wanted());
        recorded.into_iter().for_each(note);
        exit
    }
}

async fn all(
    ground: Ground,
    chosen: Chosen,
    mode: RunMode,
    supervised: bool,
    recorder: ResponseRecorder,
    hangup: Hangup,
    screen: &Screen,
) -> Exit {
    let names = chosen.names();
    let notifier = Arc::new(Notifier::new(ground.environment.get("NOTIFY_SOCKET")));
    let (stop, stopping) = watch::channel(StopSignal::Running);
    let (asked, was_asked) = watch::channel(None);
    let first = ConfigVersion { number: 1, settings: Rc::new(ground.loaded.settings.clone()) };
    let (readings, reading) = watch::channel(first);
    let signals = tokio::task::spawn_local(listen(Ears {
        stop: stop.clone(),
        asked,
        readings,
        config_file: ground.config_file.clone(),
        environment: ground.environment.clone(),
        renewal: if supervised { Renewal::StartAnew } else { Renewal::ByHand },
        chosen: chosen.clone(),
        notifier: Arc::clone(&notifier),
        hangup,
    }));
    let board = HeartbeatRegistry::default();
    let ask = if supervised { ask_restart(&ground) } else { None };
    if supervised {
        guard(&ground, &board, &notifier, ask.clone());
    }
    let company = Company::new(&ground, names, mode, supervised, ask, recorder, screen);
    let mut followed = Vec::new();
    let sources = FuturesUnordered::new();
    for name in names {
        let (source, shown) = company.start(name, &board, &reading, &stopping);
        sources.push(async move { (name, source.await) });
        followed.push(shown);
    }
    #[cfg(debug_assertions)]
    if let Some(shown) = followed.first() {
        let failing = failpoint::fail(ground.environment.clone(), shown.opened.clone());
        tokio::task::spawn_local(failing);
    }
    let story = herald(Arc::clone(&notifier), followed, reading, stopping);
    let telling = tokio::task::spawn_local(story);
    let exit = company.ends(sources, &stop).await;
    signals.abort();
    telling.abort();
    notifier.notify(&[NotifyState::Stopping]);
    company.traces.close();
    match *was_asked.borrow() {
        Some(Asked::OtherSources) => Exit::StartAgain,
        Some(_) if supervised => Exit::StartAgain,
        Some(Asked::Interrupt) => Exit::Interrupted,
        Some(Asked::Terminate) => Exit::Terminated,
        None => exit,
    }
}

/// What all sources of the process share.
struct Company<'a> {
    ground: &'a Ground,
    mode: RunMode,
    supervision: Supervision,
    ask: Option<RestartRequester>,
    gates: Rc<RateLimiters<RealEnv>>,
    /// The sources go out by the same proxies, and learn from one another which of them work.
    outlet: ProxyPoolProvider,
    breakers: Rc<Breakers>,
    traces: Traces,
    recorder: ResponseRecorder,
    screen: &'a Screen,
    is_alone: bool,
}

impl<'a> Company<'a> {
    fn new(
        ground: &'a Ground,
        names: &[SourceName],
        mode: RunMode,
        supervised: bool,
        ask: Option<RestartRequester>,
        recorder: ResponseRecorder,
        screen: &'a Screen,
    ) -> Self {
        let is_alone = names.len() == 1;
        let supervision = match (supervised, is_alone) {
            (false, _) => Supervision::InPlace,
            (true, true) => Supervision::SoleSource,
            (true, false) => Supervision::SharedProcess,
        };
        let quotas = LockedFile::new(ground.state_dir.join(LIMITERS_FILE));
        let gates = Rc::new(RateLimiters::new(Rc::new(RealEnv), quotas));
        let (outlet, breakers) = (ProxyPoolProvider::default(), breakers(ground));
        let traces = Traces::open(ground);
        Self {
            ground,
            mode,
            supervision,
            ask,
            gates,
            outlet,
            breakers,
            traces,
            recorder,
            screen,
            is_alone,
        }
    }

    fn start(
        &self,
        name: &SourceName,
        board: &HeartbeatRegistry,
        readings: &watch::Receiver<ConfigVersion>,
        stopping: &watch::Receiver<StopSignal>,
    ) -> (JoinHandle<SourceOutcome>, Followed) {
        let (opened, opening) = watch::channel(0);
        let task = SourceContext {
            name: name.clone(),
            config_file: self.ground.config_file.clone(),
            state_dir: self.ground.state_dir.clone(),
            unit: (self.supervision != Supervision::InPlace).then(|| unit(self.ground)),
            environment: self.ground.environment.clone(),
            mode: self.mode,
            supervision: self.supervision,
            restart_requester: self.ask.clone(),
            rate_limiters: Rc::clone(&self.gates),
            proxy_pools: self.outlet.clone(),
            breakers: Rc::clone(&self.breakers),
            config_versions: readings.clone(),
            opened_version: opened,
            heartbeat: board.register(name.as_str()),
            last_credential: LastCredential::default(),
            tracer: self.traces.of(name.as_str()),
            recorder: self.recorder.clone(),
        };
        let (view, views) = watch::channel(SourceProgress::unknown());
        let (lines, shown, seen) = (self.screen.clone(), name.to_string(), views.clone());
        tokio::task::spawn_local(async move { lines.follow(shown, seen).await });
        let span = error_span!("worker", source = %name);
        let stopping = stopping.clone();
        #[cfg(debug_assertions)]
        let stopping = failpoint::slow_to_stop(stopping, &self.ground.environment);
        let source = run_source(task, stopping, view);
        #[cfg(debug_assertions)]
        let source = {
            let environment = self.ground.environment.clone();
            failpoint::breakable(source, name.to_string(), environment, opening.clone())
        };
        let source = source.instrument(span);
        (tokio::task::spawn_local(source), Followed { views, opened: opening })
    }

    /// Tells how each source ended, whichever ends first.
    async fn ends<'n, F>(
        &self,
        mut sources: FuturesUnordered<F>,
        stop: &watch::Sender<StopSignal>,
    ) -> Exit
    where
        F: Future<Output = (&'n SourceName, Result<SourceOutcome, JoinError>)>,
    {
        let supervised = self.supervision != Supervision::InPlace;
        let (mut exits, mut again) = (Vec::new(), false);
        while let Some((name, end)) = sources.next().await {
            let end = match end {
                Ok(end) => end,
                Err(panic) => {
                    error!(source = %name, "the worker broke: {panic}");
                    exits.push(Exit::Other);
                    if supervised {
                        // A source must not go missing beside others that work for weeks.
                        stop.send_replace(StopSignal::Requested);
                    }
                    continue;
                }
            };
            if let (
                true,
                SourceOutcome::Finished(LoopResult { exit: worker::LoopExit::Restart(_), .. }),
            ) = (supervised, &end)
            {
                again = true;
                stop.send_replace(StopSignal::Requested);
            }
            let label = if self.is_alone { None } else { Some(name.as_str()) };
            exits.push(tell(self.screen, label, name, &end));
        }
        if again { Exit::StartAgain } else { Exit::worst(exits) }
    }
}

/// The breakers that all sources share.
fn breakers(ground: &Ground) -> Rc<Breakers> {
    let file = BreakersFile::new(&ground.state_dir);
    let policy = breaker_policy(&ground.loaded.settings);
    let (breakers, note) = Breakers::open(file, policy, || RealEnv.now());
    if let Some(note) = note {
        warn!("{note}");
    }
    breakers
}

/// Says how a source ended, in one honest sentence.
fn tell(screen: &Screen, label: Option<&str>, name: &SourceName, end: &SourceOutcome) -> Exit {
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
