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

use crate::cli::args::{CommonArgs, RunArgs};
use crate::cli::context::AppContext;
use crate::cli::error::{CliError, to_exit_code};
use crate::cli::exit::ProgramExit;
#[cfg(debug_assertions)]
use crate::cli::failpoint;
use crate::cli::logging;
use crate::cli::print::{print_best_effort, print_error, print_note};
use crate::cli::progress::{ProgressBars, ShowProgress};
use crate::cli::run_summary;
use crate::cli::signals::{
    HangupSignal, ReloadStrategy, ShutdownReason, SignalHandler, handle_signals,
};
use crate::cli::systemd_status::{SourceWatch, run_status_task};
use crate::cli::telemetry::TraceExport;
use crate::cli::trace_writer::TraceWriter;
use crate::cli::watchdog::{own_unit_name, restart_requester, start_watchdog};
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

pub(super) fn run(common: &CommonArgs, args: &RunArgs) -> ExitCode {
    // First of all: a SIGHUP must not end a process that is about to read its configuration.
    let process = match WorkerProcess::start() {
        Ok(process) => process,
        Err(exit) => return exit.into(),
    };
    let ground = match AppContext::load(common) {
        Ok(ground) => ground,
        Err(why) => return print_error(ProgramExit::Configuration, why).into(),
    };
    let chosen = match select_sources(&ground.loaded.settings, &args.sources) {
        Ok(chosen) => chosen,
        Err(why) => return print_error(ProgramExit::Configuration, why).into(),
    };
    let recording = match start_trace_writer(args.record.as_deref(), &chosen) {
        Ok(recording) => recording,
        Err(trouble) => return to_exit_code(Err(trouble)),
    };
    let screen = ProgressBars::new(if common.quiet { ShowProgress::No } else { ShowProgress::Yes });
    logging::start(common, &ground.environment, &screen);
    let mode = if args.once { RunMode::Once } else { RunMode::Continuous };
    process.run_sources(ground, chosen, mode, recording, &screen).into()
}

/// Begins the trace that was asked for. It tells of one server, as one client finds it.
fn start_trace_writer(
    path: Option<&Path>,
    chosen: &SourceSelection,
) -> Result<Option<TraceWriter>, CliError> {
    let Some(path) = path else { return Ok(None) };
    if let [one, _, ..] = chosen.names() {
        return Err(CliError::Usage(format!(
            "a trace is of one source, and {} would run; name one, as in `cynosure run {one} --record {}`",
            chosen.names().len(),
            path.display()
        )));
    }
    TraceWriter::start(path).map(Some).map_err(|why| CliError::new(ProgramExit::Other, why))
}

/// The sources that run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum SourceSelection {
    /// All that are enabled.
    AllEnabled(Vec<SourceName>),
    Named(Vec<SourceName>),
}

impl SourceSelection {
    pub(super) fn names(&self) -> &[SourceName] {
        match self {
            Self::AllEnabled(names) | Self::Named(names) => names,
        }
    }
}

/// The sources that were named, or all that are enabled.
fn select_sources(settings: &Settings, named: &[String]) -> Result<SourceSelection, String> {
    let chosen = if named.is_empty() {
        SourceSelection::AllEnabled(settings.enabled_sources().cloned().collect())
    } else {
        let found =
            named.iter().map(|name| settings.find_source(name).map(|(name, _)| name.clone()));
        SourceSelection::Named(
            found.collect::<Result<_, _>>().map_err(|unknown| unknown.to_string())?,
        )
    };
    if chosen.names().is_empty() {
        return Err("there is no source to run; add a [source.NAME] table to the configuration, \
                    or enable one"
            .to_owned());
    }
    Ok(chosen)
}

/// The runtime that sources run on, and the signal it listens for from the beginning.
pub(super) struct WorkerProcess {
    runtime: Runtime,
    hangup_signal: HangupSignal,
}

impl WorkerProcess {
    pub(super) fn start() -> Result<Self, ProgramExit> {
        // One thread: the work is waiting; what blocks has threads of its own.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime
            .map_err(|error| print_error(ProgramExit::Other, format!("cannot start: {error}")))?;
        let hangup = HangupSignal::install(&runtime);
        Ok(Self { runtime, hangup_signal: hangup })
    }

    /// Runs the sources and tells how each ended.
    pub(super) fn run_sources(
        self,
        ground: AppContext,
        chosen: SourceSelection,
        mode: RunMode,
        recording: Option<TraceWriter>,
        screen: &ProgressBars,
    ) -> ProgramExit {
        let Self { runtime, hangup_signal: hangup } = self;
        let supervised = ground.environment.get("INVOCATION_ID").is_some()
            && ground.environment.get("NOTIFY_SOCKET").is_some();
        let recorder = recording.as_ref().map(TraceWriter::recorder).unwrap_or_default();
        let work = run_until_done(ground, chosen, mode, supervised, recorder, hangup, screen);
        let exit = LocalSet::new().block_on(&runtime, work);
        // A credential command that hangs must not hold up the end.
        runtime.shutdown_background();
        let recorded = recording.and_then(TraceWriter::finish).filter(|_| screen.is_enabled());
        recorded.into_iter().for_each(print_note);
        exit
    }
}

async fn run_until_done(
    ground: AppContext,
    chosen: SourceSelection,
    mode: RunMode,
    supervised: bool,
    recorder: ResponseRecorder,
    hangup: HangupSignal,
    screen: &ProgressBars,
) -> ProgramExit {
    let names = chosen.names();
    let notifier = Arc::new(Notifier::new(ground.environment.get("NOTIFY_SOCKET")));
    let (stop, stopping) = watch::channel(StopSignal::Running);
    let (asked, was_asked) = watch::channel(None);
    let first = ConfigVersion { number: 1, settings: Rc::new(ground.loaded.settings.clone()) };
    let (readings, reading) = watch::channel(first);
    let signals = tokio::task::spawn_local(handle_signals(SignalHandler {
        shutdown: stop.clone(),
        shutdown_reason: asked,
        config_versions: readings,
        config_file: ground.config_file.clone(),
        environment: ground.environment.clone(),
        reload_strategy: if supervised {
            ReloadStrategy::RestartProcess
        } else {
            ReloadStrategy::Manual
        },
        selection: chosen.clone(),
        notifier: Arc::clone(&notifier),
        hangup_signal: hangup,
    }));
    let board = HeartbeatRegistry::default();
    let ask = if supervised { restart_requester(&ground) } else { None };
    if supervised {
        start_watchdog(&ground, &board, &notifier, ask.clone());
    }
    let company = RunContext::new(&ground, names, mode, supervised, ask, recorder, screen);
    let mut followed = Vec::new();
    let sources = FuturesUnordered::new();
    for name in names {
        let (source, shown) = company.start_source(name, &board, &reading, &stopping);
        sources.push(async move { (name, source.await) });
        followed.push(shown);
    }
    #[cfg(debug_assertions)]
    if let Some(shown) = followed.first() {
        let failing = failpoint::inject_process_fault(
            ground.environment.clone(),
            shown.opened_version.clone(),
        );
        tokio::task::spawn_local(failing);
    }
    let story = run_status_task(Arc::clone(&notifier), followed, reading, stopping);
    let telling = tokio::task::spawn_local(story);
    let exit = company.join_all(sources, &stop).await;
    signals.abort();
    telling.abort();
    notifier.notify(&[NotifyState::Stopping]);
    company.trace_export.flush();
    match *was_asked.borrow() {
        Some(ShutdownReason::SourcesChanged) => ProgramExit::Restart,
        Some(_) if supervised => ProgramExit::Restart,
        Some(ShutdownReason::Interrupt) => ProgramExit::Interrupted,
        Some(ShutdownReason::Terminate) => ProgramExit::Terminated,
        None => exit,
    }
}

/// What all sources of the process share.
struct RunContext<'a> {
    context: &'a AppContext,
    mode: RunMode,
    supervision: Supervision,
    restart_requester: Option<RestartRequester>,
    rate_limiters: Rc<RateLimiters<RealEnv>>,
    /// The sources go out by the same proxies, and learn from one another which of them work.
    proxy_pools: ProxyPoolProvider,
    breakers: Rc<Breakers>,
    trace_export: TraceExport,
    recorder: ResponseRecorder,
    progress_bars: &'a ProgressBars,
    is_only_source: bool,
}

impl<'a> RunContext<'a> {
    fn new(
        ground: &'a AppContext,
        names: &[SourceName],
        mode: RunMode,
        supervised: bool,
        ask: Option<RestartRequester>,
        recorder: ResponseRecorder,
        screen: &'a ProgressBars,
    ) -> Self {
        let is_alone = names.len() == 1;
        let supervision = match (supervised, is_alone) {
            (false, _) => Supervision::InPlace,
            (true, true) => Supervision::SoleSource,
            (true, false) => Supervision::SharedProcess,
        };
        let quotas = LockedFile::new(ground.state_dir.join(LIMITERS_FILE));
        let gates = Rc::new(RateLimiters::new(Rc::new(RealEnv), quotas));
        let (outlet, breakers) = (ProxyPoolProvider::default(), open_breakers(ground));
        let traces = TraceExport::start(ground);
        Self {
            context: ground,
            mode,
            supervision,
            restart_requester: ask,
            rate_limiters: gates,
            proxy_pools: outlet,
            breakers,
            trace_export: traces,
            recorder,
            progress_bars: screen,
            is_only_source: is_alone,
        }
    }

    fn start_source(
        &self,
        name: &SourceName,
        board: &HeartbeatRegistry,
        readings: &watch::Receiver<ConfigVersion>,
        stopping: &watch::Receiver<StopSignal>,
    ) -> (JoinHandle<SourceOutcome>, SourceWatch) {
        let (opened, opening) = watch::channel(0);
        let task = SourceContext {
            name: name.clone(),
            config_file: self.context.config_file.clone(),
            state_dir: self.context.state_dir.clone(),
            unit: (self.supervision != Supervision::InPlace).then(|| own_unit_name(self.context)),
            environment: self.context.environment.clone(),
            mode: self.mode,
            supervision: self.supervision,
            restart_requester: self.restart_requester.clone(),
            rate_limiters: Rc::clone(&self.rate_limiters),
            proxy_pools: self.proxy_pools.clone(),
            breakers: Rc::clone(&self.breakers),
            config_versions: readings.clone(),
            opened_version: opened,
            heartbeat: board.register(name.as_str()),
            last_credential: LastCredential::default(),
            tracer: self.trace_export.tracer(name.as_str()),
            recorder: self.recorder.clone(),
        };
        let (view, views) = watch::channel(SourceProgress::unknown());
        let (lines, shown, seen) = (self.progress_bars.clone(), name.to_string(), views.clone());
        tokio::task::spawn_local(async move { lines.track(shown, seen).await });
        let span = error_span!("worker", source = %name);
        let stopping = stopping.clone();
        #[cfg(debug_assertions)]
        let stopping = failpoint::with_slow_shutdown(stopping, &self.context.environment);
        let source = run_source(task, stopping, view);
        #[cfg(debug_assertions)]
        let source = {
            let environment = self.context.environment.clone();
            failpoint::with_source_fault(source, name.to_string(), environment, opening.clone())
        };
        let source = source.instrument(span);
        (tokio::task::spawn_local(source), SourceWatch { progress: views, opened_version: opening })
    }

    /// Tells how each source ended, whichever ends first.
    async fn join_all<'n, F>(
        &self,
        mut sources: FuturesUnordered<F>,
        stop: &watch::Sender<StopSignal>,
    ) -> ProgramExit
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
                    exits.push(ProgramExit::Other);
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
            let label = if self.is_only_source { None } else { Some(name.as_str()) };
            exits.push(report_outcome(self.progress_bars, label, name, &end));
        }
        if again { ProgramExit::Restart } else { ProgramExit::most_severe(exits) }
    }
}

/// The breakers that all sources share.
fn open_breakers(ground: &AppContext) -> Rc<Breakers> {
    let file = BreakersFile::new(&ground.state_dir);
    let policy = breaker_policy(&ground.loaded.settings);
    let (breakers, note) = Breakers::open(file, policy, || RealEnv.now());
    if let Some(note) = note {
        warn!("{note}");
    }
    breakers
}

/// Says how a source ended, in one honest sentence.
fn report_outcome(
    screen: &ProgressBars,
    label: Option<&str>,
    name: &SourceName,
    end: &SourceOutcome,
) -> ProgramExit {
    let (exit, sentence) = run_summary::run_summary(name.as_str(), end);
    let sentence = match label {
        Some(label) => format!("{label}: {sentence}"),
        None => sentence,
    };
    screen.suspend(|| match exit {
        ProgramExit::Success | ProgramExit::SomeQuarantined | ProgramExit::Restart => {
            if let Some(speed) = run_summary::transfer_summary(end).filter(|_| screen.is_enabled())
            {
                print_note(speed);
            }
            print_best_effort(sentence);
            exit
        }
        ProgramExit::Other
        | ProgramExit::Storage
        | ProgramExit::Authentication
        | ProgramExit::Configuration
        | ProgramExit::Terminated
        | ProgramExit::Interrupted => print_error(exit, sentence),
    })
}
