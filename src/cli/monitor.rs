//! `monitor`: the second process, which looks again and again.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use crate::cli::args::CommonArgs;
use crate::cli::clock_step::ClockStepMonitor;
use crate::cli::context::AppContext;
use crate::cli::error::{CliError, report_error as told_trouble};
use crate::cli::exit::ProgramExit;
use crate::cli::health_task::HealthTask;
use crate::cli::http_server::EndpointManager;
use crate::cli::logging;
use crate::cli::monitoring::{build_monitor, restart_action_text, restart_policy};
use crate::cli::print::print_error;
use crate::cli::progress::{ProgressBars, ShowProgress};
use crate::cli::signals::HangupSignal;
use crate::cli::telemetry::MetricsExport;
use crate::config::EnvVars;
use crate::engine::watch::{Finding, HealthLevel};
use crate::engine::{ClockReading, Timestamp};
use crate::monitor::{CycleResult, RestartAction, UnitEvaluation};
use crate::systemd::{Notifier, NotifyState, watchdog_interval};
use crate::worker::{Env, RealEnv};

pub(super) fn monitor(common: &CommonArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            return print_error(ProgramExit::Other, format!("cannot start: {error}")).into();
        }
    };
    // Before all else: a SIGHUP must not end a process that is about to read its configuration.
    let hangup = HangupSignal::install(&runtime);
    let ground = match AppContext::load(common) {
        Ok(ground) => ground,
        Err(why) => return print_error(ProgramExit::Configuration, why).into(),
    };
    let screen = ProgressBars::new(ShowProgress::No);
    logging::start(common, &ground.environment, &screen);
    let serving = EndpointManager::new(&ground);
    let exit = runtime.block_on(run_loop(common.clone(), ground, &serving, hangup));
    serving.shut_down();
    // A round that waits for the bus must not hold up the end.
    runtime.shutdown_background();
    told_trouble(exit).into()
}

/// Wait, look, act, tell; until a signal.
async fn run_loop(
    common: CommonArgs,
    mut ground: AppContext,
    serving: &EndpointManager,
    mut hangup: HangupSignal,
) -> Result<ProgramExit, CliError> {
    let mut signals = TerminationSignals::new().map_err(|error| {
        CliError::new(ProgramExit::Other, format!("cannot listen for signals: {error}"))
    })?;
    let notifier = Notifier::new(ground.environment.get("NOTIFY_SOCKET"));
    let feeding = keep_alive_interval(&ground.environment);
    let (mut seen, clock) = (LoggedFindings::default(), ClockStepMonitor::start());
    let mut health = HealthTask::start(&ground)?;
    let metrics = MetricsExport::start(&ground);
    loop {
        ground = reload_config(&common, ground);
        metrics.update_config(&ground);
        let time = RealEnv.time();
        let now = time.wall;
        // Neither a look nor a restart waits for those who only want to see.
        drop(tokio::spawn(RealEnv.spawn_blocking(serving.background_task(&ground, now))));
        let monitor = build_monitor(&ground, restart_policy(&ground.loaded.settings))?;
        let watch = clock.clone();
        let looking = RealEnv.spawn_blocking(move || monitor.run_cycle(now, || watch.stable_for()));
        let round = tokio::select! {
            round = looking => round,
            exit = signals.recv() => return Ok(notify_stopping(&notifier, exit)),
        };
        seen.log_changes(&round, now);
        let status = status_text(&round, ground.loaded.settings.sources.len());
        notifier.notify(&[NotifyState::Ready, NotifyState::Status(&status), NotifyState::Watchdog]);
        if health.is_due(&round, &ground, now) {
            let looking = health.evaluate(&ground, &round, clock.stable_for(), now)?;
            tokio::select! {
                () = looking => {}
                exit = signals.recv() => return Ok(notify_stopping(&notifier, exit)),
            }
            health.deliver(&ground);
        }
        let mut wait = ground.loaded.settings.monitor.interval;
        for judged in &round.units {
            if let RestartAction::Delayed { not_before: at, .. } = judged.action {
                wait = wait.min(at.since(now).max(Duration::from_secs(1)));
            }
        }
        let next = time.after(wait);
        // Where the clock is set, what was waited for is looked for at once.
        while next.remaining(RealEnv.time()).is_some() {
            let fed = feeding.map(|feeding| RealEnv.now().after(feeding));
            let nap =
                ClockReading { wall: fed.map_or(next.wall, |fed| fed.min(next.wall)), ..next };
            tokio::select! {
                () = RealEnv.sleep_until(nap) => notifier.notify(&[NotifyState::Watchdog]),
                // The configuration is read before each look.
                () = hangup.recv() => break,
                exit = signals.recv() => return Ok(notify_stopping(&notifier, exit)),
            }
        }
    }
}

/// Half of what the watchdog allows.
fn keep_alive_interval(environment: &EnvVars) -> Option<Duration> {
    let (usec, of) = (environment.get("WATCHDOG_USEC"), environment.get("WATCHDOG_PID"));
    watchdog_interval(usec, of, std::process::id()).map(|interval| interval / 2)
}

fn notify_stopping(notifier: &Notifier, exit: ProgramExit) -> ProgramExit {
    info!("stopping");
    notifier.notify(&[NotifyState::Stopping]);
    // Under systemd whoever stops it by `systemctl` wants it down, and any other signal does not.
    if notifier.is_connected() { ProgramExit::Restart } else { exit }
}

/// Reads the configuration again; a broken one is reported and the last good one kept.
fn reload_config(common: &CommonArgs, ground: AppContext) -> AppContext {
    match AppContext::load(common) {
        Ok(fresh) => fresh,
        Err(mistakes) => {
            warn!("going on with the last good configuration: {mistakes}");
            ground
        }
    }
}

/// `watching 2 sources: all healthy`, or the worst of what is not.
fn status_text(round: &CycleResult, sources: usize) -> String {
    let worst = UnitEvaluation::worst_level(&round.units);
    let told = UnitEvaluation::all_findings(&round.units).filter(|finding| finding.level == worst);
    let plural = if sources == 1 { "" } else { "s" };
    let sentence = match worst {
        HealthLevel::Healthy => "all healthy".to_owned(),
        HealthLevel::Warning | HealthLevel::Unknown | HealthLevel::Critical => {
            let told: Vec<String> = told
                .map(|finding| format!("{}: {}", finding.subject.name(), finding.kind))
                .collect();
            format!("{}: {}", worst.name(), told.join("; "))
        }
    };
    format!("watching {sources} source{plural}: {sentence}")
}

/// What was told already, so that a log has each thing once.
#[derive(Default)]
struct LoggedFindings {
    levels: BTreeMap<String, (HealthLevel, &'static str)>,
    /// What was done about each unit.
    actions: BTreeMap<String, String>,
    has_logged_error: bool,
}

impl LoggedFindings {
    fn log_changes(&mut self, round: &CycleResult, now: Timestamp) {
        let mut levels = BTreeMap::new();
        for finding in UnitEvaluation::all_findings(&round.units) {
            let key = (finding.level, finding.kind.name());
            let name = finding.subject.name().to_owned();
            if self.levels.get(&name) != Some(&key) {
                log_finding(finding, !self.levels.contains_key(&name));
            }
            levels.insert(name, key);
        }
        self.levels = levels;
        for UnitEvaluation { unit, action: act, .. } in &round.units {
            self.log_action(unit.as_str(), act, now);
        }
        if let Some(failure) = round.record_failure.as_ref().filter(|_| !self.has_logged_error) {
            error!("cannot write down what was done: {failure}");
        }
        self.has_logged_error = round.record_failure.is_some();
    }

    fn log_action(&mut self, unit: &str, act: &RestartAction, now: Timestamp) {
        let Some(told) = restart_action_text(act, now) else {
            self.actions.remove(unit);
            return;
        };
        let is_new = self.actions.get(unit) != Some(&told);
        match act {
            RestartAction::Requested { .. } => warn!(unit, "{told}"),
            RestartAction::None | RestartAction::Denied | RestartAction::Delayed { .. }
                if is_new =>
            {
                info!(unit, "{told}");
            }
            RestartAction::BudgetUnavailable { .. } | RestartAction::Rejected { .. } if is_new => {
                error!(unit, "{told}");
            }
            RestartAction::None
            | RestartAction::Denied
            | RestartAction::Delayed { .. }
            | RestartAction::BudgetUnavailable { .. }
            | RestartAction::Rejected { .. } => {}
        }
        self.actions.insert(unit.to_owned(), told);
    }
}

/// What needs a person is told as an alert.
fn log_finding(finding: &Finding, is_first: bool) {
    let (about, message) = (finding.subject.name(), finding.kind.to_string());
    let (level, figure) = (finding.level.name(), finding.value().unwrap_or_default());
    if finding.level == HealthLevel::Healthy && !is_first {
        info!(about, level, figure, "well again: {message}");
    } else {
        info!(about, level, figure, "{message}");
    }
}

struct TerminationSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl TerminationSignals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn recv(&mut self) -> ProgramExit {
        tokio::select! {
            _ = self.interrupt.recv() => ProgramExit::Interrupted,
            _ = self.terminate.recv() => ProgramExit::Terminated,
        }
    }
}
