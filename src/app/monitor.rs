//! Process of the monitor, which checks units, sources and overall health at intervals.

use std::collections::BTreeMap;
use std::time::Duration;

use cynosure_engine::health::{Finding, HealthLevel};
use cynosure_engine::{ClockReading, Timestamp, number_with_noun};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use crate::app::clock_step::ClockStepMonitor;
use crate::app::context::{AppContext, ConfigLocation};
use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::app::health_task::HealthTask;
use crate::app::http_server::EndpointManager;
use crate::app::monitoring::{build_monitor, restart_action_text, restart_policy};
use crate::app::runtime::new_runtime;
use crate::app::signals::HangupSignal;
use crate::app::telemetry::MetricsExport;
use crate::config::EnvVars;
use crate::env::{Env, RealEnv};
use crate::monitor::{CycleResult, RestartAction, UnitEvaluation};
use crate::systemd::{Notifier, NotifyState, watchdog_interval};

/// Runtime of the monitor, and the SIGHUP handler, which is installed before anything else.
pub(crate) struct MonitorProcess {
    runtime: Runtime,
    hangup_signal: HangupSignal,
}

impl MonitorProcess {
    /// Creates the runtime and catches SIGHUP.
    ///
    /// # Errors
    /// If the runtime cannot be created.
    pub(crate) fn start() -> Result<Self, ProgramError> {
        let runtime = new_runtime()?;
        let hangup_signal = HangupSignal::install(&runtime);
        Ok(Self { runtime, hangup_signal })
    }

    /// Runs monitor cycles until a signal arrives. The configuration is read again from `location`
    /// before each cycle.
    ///
    /// # Errors
    /// If signals cannot be received, a thread cannot be started, or the name of the unit is
    /// invalid.
    pub(crate) fn run(
        self,
        location: ConfigLocation,
        context: AppContext,
    ) -> Result<ProgramExit, ProgramError> {
        let Self { runtime, hangup_signal } = self;
        let endpoint = EndpointManager::new(&context);
        let exit = runtime.block_on(run_loop(location, context, &endpoint, hangup_signal));
        endpoint.shut_down();
        // A cycle that waits for D-Bus must not delay the exit.
        runtime.shutdown_background();
        exit
    }
}

/// Runs monitor cycles, reports their results and waits between them, until a signal arrives.
async fn run_loop(
    location: ConfigLocation,
    mut context: AppContext,
    endpoint: &EndpointManager,
    mut hangup: HangupSignal,
) -> Result<ProgramExit, ProgramError> {
    let mut signals = TerminationSignals::new().map_err(|error| {
        ProgramError::new(ProgramExit::Other, format!("cannot listen for signals: {error}"))
    })?;
    let notifier = Notifier::new(context.environment.get("NOTIFY_SOCKET"));
    let keep_alive = keep_alive_interval(&context.environment);
    let (mut logged, clock_steps) = (LoggedFindings::default(), ClockStepMonitor::start());
    let mut health = HealthTask::start(&context)?;
    let metrics = MetricsExport::start(&context);
    loop {
        context = reload_config(&location, context);
        metrics.update_config(&context);
        let time = RealEnv.time();
        let now = time.wall;
        // Checks and restarts do not wait for the endpoint.
        drop(tokio::spawn(RealEnv.spawn_blocking(endpoint.background_task(&context, now))));
        let monitor = build_monitor(&context, restart_policy(&context.loaded.settings))?;
        let cycle_clock_steps = clock_steps.clone();
        let running = RealEnv
            .spawn_blocking(move || monitor.run_cycle(now, || cycle_clock_steps.stable_for()));
        let cycle = tokio::select! {
            cycle = running => cycle,
            exit = signals.recv() => return Ok(notify_stopping(&notifier, exit)),
        };
        logged.log_changes(&cycle, now);
        let status = status_text(&cycle, context.loaded.settings.sources.len());
        notifier.notify(&[NotifyState::Ready, NotifyState::Status(&status), NotifyState::Watchdog]);
        if health.is_due(&cycle, &context, now) {
            let evaluation = health.evaluate(&context, &cycle, clock_steps.stable_for(), now)?;
            tokio::select! {
                () = evaluation => {}
                exit = signals.recv() => return Ok(notify_stopping(&notifier, exit)),
            }
            health.deliver(&context);
        }
        let mut wait = context.loaded.settings.monitor.interval;
        for evaluation in &cycle.units {
            if let RestartAction::Delayed { not_before, .. } = evaluation.action {
                wait = wait.min(not_before.since(now).max(Duration::from_secs(1)));
            }
        }
        let next = time.after(wait);
        // A clock step ends the wait: the next cycle starts immediately.
        while next.remaining(RealEnv.time()).is_some() {
            let keep_alive_at = keep_alive.map(|interval| RealEnv.now().after(interval));
            let wall = keep_alive_at.map_or(next.wall, |at| at.min(next.wall));
            let wake_up = ClockReading { wall, ..next };
            tokio::select! {
                () = RealEnv.sleep_until(wake_up) => notifier.notify(&[NotifyState::Watchdog]),
                // Each cycle begins by reading the configuration.
                () = hangup.recv() => break,
                exit = signals.recv() => return Ok(notify_stopping(&notifier, exit)),
            }
        }
    }
}

/// Returns half of the watchdog interval of systemd; `None` without a watchdog.
fn keep_alive_interval(environment: &EnvVars) -> Option<Duration> {
    let (usec, pid) = (environment.get("WATCHDOG_USEC"), environment.get("WATCHDOG_PID"));
    watchdog_interval(usec, pid, std::process::id()).map(|interval| interval / 2)
}

fn notify_stopping(notifier: &Notifier, exit: ProgramExit) -> ProgramExit {
    info!("stopping");
    notifier.notify(&[NotifyState::Stopping]);
    // Under systemd, `systemctl stop` keeps the unit down whatever the exit code is. After any
    // other signal the unit has to be started again.
    if notifier.is_connected() { ProgramExit::Restart } else { exit }
}

/// Reads the configuration again. Logs an invalid one and keeps the last valid one.
fn reload_config(location: &ConfigLocation, context: AppContext) -> AppContext {
    match AppContext::load(location) {
        Ok(reloaded) => reloaded,
        Err(error) => {
            warn!(errors = %error.message(), "keeping the last valid configuration");
            context
        }
    }
}

/// Returns `watching 2 sources: all healthy`, or the findings of the worst level.
fn status_text(cycle: &CycleResult, sources: usize) -> String {
    let worst = UnitEvaluation::worst_level(&cycle.units);
    let findings =
        UnitEvaluation::all_findings(&cycle.units).filter(|finding| finding.level == worst);
    let summary = match worst {
        HealthLevel::Healthy => "all healthy".to_owned(),
        HealthLevel::Skipped
        | HealthLevel::Warning
        | HealthLevel::Unknown
        | HealthLevel::Critical => {
            let texts: Vec<String> = findings
                .map(|finding| format!("{}: {}", finding.subject, finding.message))
                .collect();
            format!("{}: {}", worst.name(), texts.join("; "))
        }
    };
    format!("watching {}: {summary}", number_with_noun(sources as u64, "source"))
}

/// Findings and restart actions that were logged already, so that each is logged once.
#[derive(Default)]
struct LoggedFindings {
    levels: BTreeMap<String, (HealthLevel, String)>,
    /// Last action of each unit, as text.
    actions: BTreeMap<String, String>,
    has_logged_error: bool,
}

impl LoggedFindings {
    fn log_changes(&mut self, cycle: &CycleResult, now: Timestamp) {
        let mut levels = BTreeMap::new();
        for finding in UnitEvaluation::all_findings(&cycle.units) {
            let key = (finding.level, finding.kind.clone());
            if self.levels.get(&finding.subject) != Some(&key) {
                log_finding(finding, !self.levels.contains_key(&finding.subject));
            }
            levels.insert(finding.subject.clone(), key);
        }
        self.levels = levels;
        for UnitEvaluation { unit, action, .. } in &cycle.units {
            self.log_action(unit.as_str(), action, now);
        }
        if let Some(failure) = cycle.record_failure.as_ref().filter(|_| !self.has_logged_error) {
            error!(error = %failure, "cannot record the monitor cycle");
        }
        self.has_logged_error = cycle.record_failure.is_some();
    }

    fn log_action(&mut self, unit: &str, action: &RestartAction, now: Timestamp) {
        let Some(text) = restart_action_text(action, now) else {
            self.actions.remove(unit);
            return;
        };
        let is_new = self.actions.get(unit) != Some(&text);
        match action {
            RestartAction::Requested { permit, reason } => {
                let (restarts, crash_loop) = (permit.consecutive_restarts, permit.crash_loop);
                warn!(unit, restarts, ?crash_loop, reason, "asked systemd for a restart");
            }
            RestartAction::Denied if is_new => {
                info!(unit, "a restart would help, but automatic restarts are disabled");
            }
            RestartAction::Delayed { not_before, reason } if is_new => {
                info!(unit, %not_before, reason, "restart delayed");
            }
            RestartAction::BudgetUnavailable { failure } if is_new => {
                error!(unit, error = %failure, "no restart, because the restart budget is unavailable");
            }
            RestartAction::Rejected { error, reason } if is_new => {
                let advice = error.advice();
                error!(unit, %error, advice, reason, "systemd rejected a restart");
            }
            RestartAction::None
            | RestartAction::Denied
            | RestartAction::Delayed { .. }
            | RestartAction::BudgetUnavailable { .. }
            | RestartAction::Rejected { .. } => {}
        }
        self.actions.insert(unit.to_owned(), text);
    }
}

/// Logs a finding at INFO at most: a finding that requires manual intervention is also an alert.
fn log_finding(finding: &Finding, is_first: bool) {
    let (subject, level) = (finding.subject.as_str(), finding.level.name());
    let value = finding.value.as_deref().unwrap_or_default();
    let message = &finding.message;
    if finding.level <= HealthLevel::Healthy && !is_first {
        info!(subject, level, value, finding = %message, "healthy again");
    } else {
        info!(subject, level, value, finding = %message, "new finding");
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
