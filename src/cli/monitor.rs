//! `monitor`: the second process, which looks again and again.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use crate::cli::args::Common;
use crate::cli::clock::ClockWatch;
use crate::cli::exit::Exit;
use crate::cli::exporting::Metrics;
use crate::cli::health::Health;
use crate::cli::logging;
use crate::cli::place::Ground;
use crate::cli::print::fail;
use crate::cli::progress::{Screen, Wanted};
use crate::cli::serving::Serving;
use crate::cli::signals::Hangup;
use crate::cli::trouble::{Trouble, told as told_trouble};
use crate::cli::watching::{powers, told_of, watcher};
use crate::config::EnvVars;
use crate::engine::watch::{Finding, HealthLevel};
use crate::engine::{ClockReading, Timestamp};
use crate::monitor::{CycleResult, RestartAction, UnitEvaluation};
use crate::systemd::{Notifier, NotifyState, watchdog_interval};
use crate::worker::{Env, RealEnv};

pub(super) fn monitor(common: &Common) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(Exit::Other, format!("cannot start: {error}")).into(),
    };
    // Before all else: a SIGHUP must not end a process that is about to read its configuration.
    let hangup = Hangup::listen(&runtime);
    let ground = match Ground::find(common) {
        Ok(ground) => ground,
        Err(why) => return fail(Exit::Configuration, why).into(),
    };
    let screen = Screen::new(Wanted::No);
    logging::start(common, &ground.environment, &screen);
    let serving = Serving::new(&ground);
    let exit = runtime.block_on(watch(common.clone(), ground, &serving, hangup));
    serving.stop();
    // A round that waits for the bus must not hold up the end.
    runtime.shutdown_background();
    told_trouble(exit).into()
}

/// Wait, look, act, tell; until a signal.
async fn watch(
    common: Common,
    mut ground: Ground,
    serving: &Serving,
    mut hangup: Hangup,
) -> Result<Exit, Trouble> {
    let mut signals = Signals::new().map_err(|error| {
        Trouble::new(Exit::Other, format!("cannot listen for signals: {error}"))
    })?;
    let notifier = Notifier::new(ground.environment.get("NOTIFY_SOCKET"));
    let feeding = feeding(&ground.environment);
    let (mut seen, clock) = (Seen::default(), ClockWatch::start());
    let mut health = Health::start(&ground)?;
    let metrics = Metrics::open(&ground);
    loop {
        ground = reread(&common, ground);
        metrics.follow(&ground);
        let time = RealEnv.time();
        let now = time.wall;
        // Neither a look nor a restart waits for those who only want to see.
        drop(tokio::spawn(RealEnv.spawn_blocking(serving.beside(&ground, now))));
        let monitor = watcher(&ground, powers(&ground.loaded.settings))?;
        let watch = clock.clone();
        let looking = RealEnv.spawn_blocking(move || monitor.run_cycle(now, || watch.kept()));
        let round = tokio::select! {
            round = looking => round,
            exit = signals.heard() => return Ok(stopping(&notifier, exit)),
        };
        seen.tell(&round, now);
        let status = status(&round, ground.loaded.settings.sources.len());
        notifier.notify(&[NotifyState::Ready, NotifyState::Status(&status), NotifyState::Watchdog]);
        if health.is_due(&round, &ground, now) {
            let looking = health.look(&ground, &round, clock.kept(), now)?;
            tokio::select! {
                () = looking => {}
                exit = signals.heard() => return Ok(stopping(&notifier, exit)),
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
                () = hangup.heard() => break,
                exit = signals.heard() => return Ok(stopping(&notifier, exit)),
            }
        }
    }
}

/// Half of what the watchdog allows.
fn feeding(environment: &EnvVars) -> Option<Duration> {
    let (usec, of) = (environment.get("WATCHDOG_USEC"), environment.get("WATCHDOG_PID"));
    watchdog_interval(usec, of, std::process::id()).map(|interval| interval / 2)
}

fn stopping(notifier: &Notifier, exit: Exit) -> Exit {
    info!("stopping");
    notifier.notify(&[NotifyState::Stopping]);
    // Under systemd whoever stops it by `systemctl` wants it down, and any other signal does not.
    if notifier.is_connected() { Exit::StartAgain } else { exit }
}

/// Reads the configuration again; a broken one is reported and the last good one kept.
fn reread(common: &Common, ground: Ground) -> Ground {
    match Ground::find(common) {
        Ok(fresh) => fresh,
        Err(mistakes) => {
            warn!("going on with the last good configuration: {mistakes}");
            ground
        }
    }
}

/// `watching 2 sources: all healthy`, or the worst of what is not.
fn status(round: &CycleResult, sources: usize) -> String {
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
struct Seen {
    levels: BTreeMap<String, (HealthLevel, &'static str)>,
    /// What was done about each unit.
    acts: BTreeMap<String, String>,
    has_complained: bool,
}

impl Seen {
    fn tell(&mut self, round: &CycleResult, now: Timestamp) {
        let mut levels = BTreeMap::new();
        for finding in UnitEvaluation::all_findings(&round.units) {
            let key = (finding.level, finding.kind.name());
            let name = finding.subject.name().to_owned();
            if self.levels.get(&name) != Some(&key) {
                tell(finding, !self.levels.contains_key(&name));
            }
            levels.insert(name, key);
        }
        self.levels = levels;
        for UnitEvaluation { unit, action: act, .. } in &round.units {
            self.tell_act(unit.as_str(), act, now);
        }
        if let Some(failure) = round.record_failure.as_ref().filter(|_| !self.has_complained) {
            error!("cannot write down what was done: {failure}");
        }
        self.has_complained = round.record_failure.is_some();
    }

    fn tell_act(&mut self, unit: &str, act: &RestartAction, now: Timestamp) {
        let Some(told) = told_of(act, now) else {
            self.acts.remove(unit);
            return;
        };
        let is_new = self.acts.get(unit) != Some(&told);
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
        self.acts.insert(unit.to_owned(), told);
    }
}

/// What needs a person is told as an alert.
fn tell(finding: &Finding, is_first: bool) {
    let (about, message) = (finding.subject.name(), finding.kind.to_string());
    let (level, figure) = (finding.level.name(), finding.value().unwrap_or_default());
    if finding.level == HealthLevel::Healthy && !is_first {
        info!(about, level, figure, "well again: {message}");
    } else {
        info!(about, level, figure, "{message}");
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn heard(&mut self) -> Exit {
        tokio::select! {
            _ = self.interrupt.recv() => Exit::Interrupted,
            _ = self.terminate.recv() => Exit::Terminated,
        }
    }
}
