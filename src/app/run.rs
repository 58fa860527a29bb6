//! Process of the worker: runs the selected sources in parallel, until nothing is left to do.

use std::rc::Rc;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle, LocalSet};
use tracing::{Instrument, error, error_span, warn};

use crate::app::context::AppContext;
use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
#[cfg(debug_assertions)]
use crate::app::failpoint;
use crate::app::progress::ProgressBars;
use crate::app::runtime::new_runtime;
use crate::app::session_summary::watch_sessions;
use crate::app::signals::{
    HangupSignal, ReloadStrategy, ShutdownReason, SignalHandler, handle_signals,
};
use crate::app::source_selection::SourceSelection;
use crate::app::systemd_status::{SourceWatch, run_status_task};
use crate::app::telemetry::TraceExport;
use crate::app::watchdog::{own_unit_name, restart_requester, start_watchdog};
use crate::config::SourceName;
use crate::env::{Env, RealEnv};
use crate::limiter::RateLimiters;
use crate::oauth::RefreshesInFlight;
use crate::source::ResponseRecorder;
use crate::systemd::{Notifier, NotifyState};
use crate::worker::{
    self, Breakers, ConfigVersion, HeartbeatRegistry, LastCredential, LoopResult, ProcessContext,
    ProxyPoolProvider, RestartRequester, RunMode, SourceContext, SourceOutcome, SourceProgress,
    StopSignal, Supervision, run_source,
};

/// Receiver of what happens to the sources of a run.
pub(crate) trait SourceReporter {
    /// Reports that a source has completed a session. It may go on.
    fn on_session_completed(&self, source: &SourceName);

    /// Reports the outcome of a source that has ended, and returns its exit.
    fn on_end(&self, source: &SourceName, outcome: &SourceOutcome) -> ProgramExit;
}

/// Runtime of the sources, and the SIGHUP handler, which is installed before anything else.
pub(crate) struct WorkerProcess {
    runtime: Runtime,
    hangup_signal: HangupSignal,
}

impl WorkerProcess {
    /// Creates the runtime and catches SIGHUP.
    ///
    /// # Errors
    /// If the runtime cannot be created.
    pub(crate) fn start() -> Result<Self, ProgramError> {
        let runtime = new_runtime()?;
        let hangup_signal = HangupSignal::install(&runtime);
        Ok(Self { runtime, hangup_signal })
    }

    /// Runs the sources. `reporter` gets each completed session, and the outcome of each source as
    /// soon as it ends.
    pub(crate) fn run_sources(
        self,
        context: AppContext,
        selection: SourceSelection,
        mode: RunMode,
        recorder: ResponseRecorder,
        progress_bars: &ProgressBars,
        reporter: &impl SourceReporter,
    ) -> ProgramExit {
        let Self { runtime, hangup_signal } = self;
        let work = run_until_done(
            context,
            selection,
            mode,
            recorder,
            hangup_signal,
            progress_bars,
            reporter,
        );
        let exit = LocalSet::new().block_on(&runtime, work);
        // Does not wait for blocking threads: a hanging credential command must not delay the exit.
        runtime.shutdown_background();
        exit
    }
}

async fn run_until_done(
    context: AppContext,
    selection: SourceSelection,
    mode: RunMode,
    recorder: ResponseRecorder,
    hangup_signal: HangupSignal,
    progress_bars: &ProgressBars,
    reporter: &impl SourceReporter,
) -> ProgramExit {
    let names = selection.names();
    let is_supervised = context.environment.get("INVOCATION_ID").is_some()
        && context.environment.get("NOTIFY_SOCKET").is_some();
    let notifier = Arc::new(Notifier::new(context.environment.get("NOTIFY_SOCKET")));
    let (stop_sender, stop_receiver) = watch::channel(StopSignal::Running);
    let (reason_sender, shutdown_reason) = watch::channel(None);
    let initial_config =
        ConfigVersion { number: 1, settings: Rc::new(context.loaded.settings.clone()) };
    let (version_sender, config_versions) = watch::channel(initial_config);
    let signal_task = tokio::task::spawn_local(handle_signals(SignalHandler {
        shutdown: stop_sender.clone(),
        shutdown_reason: reason_sender,
        config_versions: version_sender,
        config_file: context.config_file.clone(),
        environment: context.environment.clone(),
        reload_strategy: if is_supervised {
            ReloadStrategy::RestartProcess
        } else {
            ReloadStrategy::Manual
        },
        selection: selection.clone(),
        notifier: Arc::clone(&notifier),
        hangup_signal,
    }));
    let heartbeats = HeartbeatRegistry::default();
    let requester = if is_supervised { restart_requester(&context) } else { None };
    if is_supervised {
        start_watchdog(&context, &heartbeats, &notifier, requester.clone());
    }
    let run_context =
        RunContext::new(&context, names, mode, is_supervised, requester, recorder, progress_bars);
    let mut source_watches = Vec::new();
    let sources = FuturesUnordered::new();
    for name in names {
        let (source, source_watch) =
            run_context.start_source(name, &heartbeats, &config_versions, &stop_receiver);
        let sessions = watch_sessions(source_watch.progress.clone(), RealEnv.now(), move || {
            reporter.on_session_completed(name);
        });
        sources.push(async move {
            let (result, ()) = tokio::join!(source, sessions);
            (name, result)
        });
        source_watches.push(source_watch);
    }
    #[cfg(debug_assertions)]
    if let Some(source_watch) = source_watches.first() {
        failpoint::spawn_process_fault(&context.environment, &source_watch.opened_version);
    }
    let status_task =
        run_status_task(Arc::clone(&notifier), source_watches, config_versions, stop_receiver);
    let status_task = tokio::task::spawn_local(status_task);
    let exit = run_context.join_all(sources, &stop_sender, reporter).await;
    // The end of the runtime would drop the answer, which may hold the only valid refresh token. A
    // second signal still exits immediately.
    run_context.process.refreshes.wait().await;
    signal_task.abort();
    status_task.abort();
    notifier.notify(&[NotifyState::Stopping]);
    run_context.trace_export.flush();
    match *shutdown_reason.borrow() {
        Some(ShutdownReason::SourcesChanged) => ProgramExit::Restart,
        Some(_) if is_supervised => ProgramExit::Restart,
        Some(ShutdownReason::Interrupt) => ProgramExit::Interrupted,
        Some(ShutdownReason::Terminate) => ProgramExit::Terminated,
        None => exit,
    }
}

/// Context with which each source of the process is started.
struct RunContext<'a> {
    process: Rc<ProcessContext>,
    trace_export: TraceExport,
    progress_bars: &'a ProgressBars,
}

impl<'a> RunContext<'a> {
    fn new(
        context: &AppContext,
        names: &[SourceName],
        mode: RunMode,
        is_supervised: bool,
        requester: Option<RestartRequester>,
        recorder: ResponseRecorder,
        progress_bars: &'a ProgressBars,
    ) -> Self {
        let supervision = match (is_supervised, names.len()) {
            (false, _) => Supervision::InPlace,
            (true, 1) => Supervision::SoleSource,
            (true, _) => Supervision::SharedProcess,
        };
        let limiters_file = context.state_folder().limiters_file();
        let rate_limiters = Rc::new(RateLimiters::new(Rc::new(RealEnv), limiters_file));
        let process = ProcessContext {
            config_file: context.config_file.clone(),
            state_dir: context.state_dir.clone(),
            unit: is_supervised.then(|| own_unit_name(context)),
            environment: context.environment.clone(),
            mode,
            supervision,
            restart_requester: requester,
            rate_limiters,
            proxy_pools: ProxyPoolProvider::default(),
            breakers: open_breakers(context),
            refreshes: RefreshesInFlight::default(),
            recorder,
        };
        Self { process: Rc::new(process), trace_export: TraceExport::start(context), progress_bars }
    }

    fn start_source(
        &self,
        name: &SourceName,
        heartbeats: &HeartbeatRegistry,
        config_versions: &watch::Receiver<ConfigVersion>,
        stop_receiver: &watch::Receiver<StopSignal>,
    ) -> (JoinHandle<SourceOutcome>, SourceWatch) {
        let (opened_sender, opened_version) = watch::channel(0);
        let source_context = SourceContext {
            name: name.clone(),
            process: Rc::clone(&self.process),
            config_versions: config_versions.clone(),
            opened_version: opened_sender,
            heartbeat: heartbeats.register(name.as_str()),
            last_credential: LastCredential::default(),
            tracer: self.trace_export.tracer(name.as_str()),
        };
        let (progress_sender, progress) = watch::channel(SourceProgress::unknown());
        let (bars, label) = (self.progress_bars.clone(), name.to_string());
        let bar_progress = progress.clone();
        tokio::task::spawn_local(async move { bars.track(label, bar_progress).await });
        let span = error_span!("worker", source = %name);
        let stop_receiver = stop_receiver.clone();
        #[cfg(debug_assertions)]
        let stop_receiver = failpoint::with_slow_shutdown(stop_receiver, &self.process.environment);
        let work = run_source(source_context, stop_receiver, progress_sender);
        #[cfg(debug_assertions)]
        let work = {
            let environment = self.process.environment.clone();
            let opened_version = opened_version.clone();
            failpoint::with_source_fault(work, name.to_string(), environment, opened_version)
        };
        let work = work.instrument(span);
        (tokio::task::spawn_local(work), SourceWatch { progress, opened_version })
    }

    /// Reports the outcome of each source as soon as it ends, and returns the exit of the process.
    async fn join_all<'n, F>(
        &self,
        mut sources: FuturesUnordered<F>,
        stop_sender: &watch::Sender<StopSignal>,
        reporter: &impl SourceReporter,
    ) -> ProgramExit
    where
        F: Future<Output = (&'n SourceName, Result<SourceOutcome, JoinError>)>,
    {
        let is_supervised = self.process.supervision != Supervision::InPlace;
        let (mut exits, mut should_restart) = (Vec::new(), false);
        while let Some((name, result)) = sources.next().await {
            let outcome = match result {
                Ok(outcome) => outcome,
                Err(error) => {
                    error!(source = %name, %error, "worker panicked");
                    exits.push(ProgramExit::Other);
                    if is_supervised {
                        // Otherwise the other sources could run on for weeks without this one.
                        stop_sender.send_replace(StopSignal::Requested);
                    }
                    continue;
                }
            };
            if let (
                true,
                SourceOutcome::Finished(LoopResult { exit: worker::LoopExit::Restart(_), .. }),
            ) = (is_supervised, &outcome)
            {
                should_restart = true;
                stop_sender.send_replace(StopSignal::Requested);
            }
            exits.push(reporter.on_end(name, &outcome));
        }
        if should_restart { ProgramExit::Restart } else { ProgramExit::most_severe(exits) }
    }
}

/// Opens the circuit breakers that all sources share.
fn open_breakers(context: &AppContext) -> Rc<Breakers> {
    let file = context.state_folder().breakers_file();
    let policy = context.loaded.settings.breaker;
    let (breakers, warning) = Breakers::open(file, policy, || RealEnv.now());
    if let Some(warning) = warning {
        warn!(%warning, "cannot load the saved circuit breakers");
    }
    breakers
}
