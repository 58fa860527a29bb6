//! `monitor`: the second process, which looks again and again.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use crate::cli::args::Common;
use crate::cli::exit::Exit;
use crate::cli::exporting::Metrics;
use crate::cli::logging;
use crate::cli::place::Ground;
use crate::cli::print::fail;
use crate::cli::progress::{Screen, Wanted};
use crate::cli::serving::Serving;
use crate::cli::trouble::{Trouble, told as told_trouble};
use crate::cli::watching::{look, post, powers, told, watcher};
use crate::config::Environment;
use crate::engine::Moment;
use crate::engine::watch::{Finding, Level, worst};
use crate::monitor::{Act, Gatherers, Postman, Round};
use crate::systemd::{Notifier, Word, watchdog_interval};
use crate::worker::{RealWorld, World};

pub(super) fn monitor(common: &Common) -> ExitCode {
    let ground = match Ground::find(common) {
        Ok(ground) => ground,
        Err(why) => return fail(Exit::Configuration, why).into(),
    };
    let screen = Screen::new(Wanted::No);
    logging::start(common, &ground.environment, &screen);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(Exit::Other, format!("cannot start: {error}")).into(),
    };
    let serving = Serving::new(&ground);
    let exit = runtime.block_on(watch(common.clone(), ground, &serving));
    serving.stop();
    // A round that waits for the bus must not hold up the end.
    runtime.shutdown_background();
    told_trouble(exit).into()
}

/// Wait, look, act, tell; until a signal.
async fn watch(common: Common, mut ground: Ground, serving: &Serving) -> Result<Exit, Trouble> {
    let mut signals = Signals::new().map_err(|error| {
        Trouble::new(Exit::Other, format!("cannot listen for signals: {error}"))
    })?;
    let notifier = Notifier::new(ground.environment.get("NOTIFY_SOCKET"));
    let feeding = feeding(&ground.environment);
    let mut seen = Seen::default();
    let mut health = Health::start(&ground)?;
    let metrics = Metrics::open(&ground);
    loop {
        ground = reread(&common, ground);
        metrics.follow(&ground);
        tokio::select! {
            () = RealWorld.offload(serving.following(&ground)) => {}
            exit = signals.heard() => return Ok(stopping(&notifier, exit)),
        };
        let now = RealWorld.now();
        let monitor = watcher(&ground, powers(&ground.loaded.settings))?;
        let looking = RealWorld.offload(move || monitor.round(now));
        let round = tokio::select! {
            round = looking => round,
            exit = signals.heard() => return Ok(stopping(&notifier, exit)),
        };
        serving.note_day(now);
        seen.tell(&round, now);
        if health.is_due(&round, &ground, now) {
            let looking = health.look(&ground, &round, now)?;
            tokio::select! {
                () = looking => {}
                exit = signals.heard() => return Ok(stopping(&notifier, exit)),
            }
            health.deliver(&ground);
        }
        let status = status(&round, ground.loaded.settings.sources.len());
        notifier.tell(&[Word::Ready, Word::Status(&status), Word::Alive]);
        let mut next = now.after(ground.loaded.settings.monitor.interval);
        if let Act::Later { at, .. } = round.act {
            next = next.min(at.max(now.after(Duration::from_secs(1))));
        }
        while RealWorld.now() < next {
            let nap = feeding.map_or(next, |feeding| next.min(RealWorld.now().after(feeding)));
            tokio::select! {
                () = RealWorld.sleep_until(nap) => notifier.tell(&[Word::Alive]),
                exit = signals.heard() => return Ok(stopping(&notifier, exit)),
            }
            // A clock that was set back must not make the wait longer than it was to be.
            let longest = RealWorld.now().after(ground.loaded.settings.monitor.interval);
            next = next.min(longest);
        }
    }
}

/// Half of what the watchdog allows.
fn feeding(environment: &Environment) -> Option<Duration> {
    let (usec, of) = (environment.get("WATCHDOG_USEC"), environment.get("WATCHDOG_PID"));
    watchdog_interval(usec, of, std::process::id()).map(|interval| interval / 2)
}

fn stopping(notifier: &Notifier, exit: Exit) -> Exit {
    info!("stopping");
    notifier.tell(&[Word::Stopping]);
    // Under systemd whoever stops it by `systemctl` wants it down, and any other signal does not.
    if notifier.has_listener() { Exit::StartAgain } else { exit }
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
fn status(round: &Round, sources: usize) -> String {
    let worst = worst(&round.findings);
    let told = round.findings.iter().filter(|finding| finding.level == worst);
    let plural = if sources == 1 { "" } else { "s" };
    let sentence = match worst {
        Level::Healthy => "all healthy".to_owned(),
        Level::Warning | Level::Unknown | Level::Critical => {
            let told: Vec<String> =
                told.map(|finding| format!("{}: {}", finding.about.name(), finding.what)).collect();
            format!("{}: {}", worst.name(), told.join("; "))
        }
    };
    format!("watching {sources} source{plural}: {sentence}")
}

/// What was told already, so that a log has each thing once.
#[derive(Default)]
struct Seen {
    levels: BTreeMap<String, (Level, &'static str)>,
    act: String,
    has_complained: bool,
}

impl Seen {
    fn tell(&mut self, round: &Round, now: Moment) {
        let mut levels = BTreeMap::new();
        for finding in &round.findings {
            let key = (finding.level, finding.what.name());
            let name = finding.about.name().to_owned();
            if self.levels.get(&name) != Some(&key) {
                tell(finding, !self.levels.contains_key(&name));
            }
            levels.insert(name, key);
        }
        self.levels = levels;
        self.tell_act(&round.act, now);
        if let Some(failure) = round.unrecorded.as_ref().filter(|_| !self.has_complained) {
            error!("cannot write down what was done: {failure}");
        }
        self.has_complained = round.unrecorded.is_some();
    }

    fn tell_act(&mut self, act: &Act, now: Moment) {
        let Some(told) = told(act, now) else {
            self.act.clear();
            return;
        };
        match act {
            Act::Asked { .. } => warn!("{told}"),
            Act::None | Act::Withheld | Act::Later { .. } if told != self.act => info!("{told}"),
            Act::Uncounted { .. } | Act::Refused { .. } if told != self.act => error!("{told}"),
            Act::None
            | Act::Withheld
            | Act::Later { .. }
            | Act::Uncounted { .. }
            | Act::Refused { .. } => {}
        }
        self.act = told;
    }
}

/// What needs a person is told as an alert.
fn tell(finding: &Finding, is_first: bool) {
    let (about, message) = (finding.about.name(), finding.what.to_string());
    let (level, figure) = (finding.level.name(), finding.figure().unwrap_or_default());
    if finding.level == Level::Healthy && !is_first {
        info!(about, level, figure, "well again: {message}");
    } else {
        info!(about, level, figure, "{message}");
    }
}

/// Looks at the health of everything, less often than at unit and sources.
struct Health {
    gatherers: Arc<Gatherers>,
    postman: Postman,
    last: Option<Moment>,
    /// What was found of unit and sources at the last look.
    known: Vec<(String, Level, &'static str)>,
}

impl Health {
    fn start(ground: &Ground) -> Result<Self, Trouble> {
        let postman = Postman::start(post(ground), || RealWorld.now());
        let postman = postman.map_err(|error| {
            Trouble::new(Exit::Other, format!("cannot start to deliver alerts: {error}"))
        })?;
        Ok(Self { gatherers: Arc::default(), postman, last: None, known: Vec::new() })
    }

    /// When its time has come, and when something about unit or sources is new.
    fn is_due(&self, round: &Round, ground: &Ground, now: Moment) -> bool {
        let interval = ground.loaded.settings.restart.health_check_interval;
        let is_time = self.last.is_none_or(|last| now < last || now >= last.after(interval));
        is_time || self.known != known(round)
    }

    fn look(
        &mut self,
        ground: &Ground,
        round: &Round,
        now: Moment,
    ) -> Result<impl Future<Output = ()> + use<>, Trouble> {
        (self.last, self.known) = (Some(now), known(round));
        let (look, post) = (look(ground)?, post(ground));
        let (gatherers, findings) = (Arc::clone(&self.gatherers), round.findings.clone());
        Ok(RealWorld.offload(move || {
            let seen = look.look(&gatherers, findings, now);
            let published = look.publish(&seen, now);
            // People are told even where it cannot be published.
            let told = look.tell(&seen, &post, now).map(drop);
            if let Err(failure) = published.and(told) {
                error!(cause = %failure.cause, "cannot write down how everything is: {failure}");
            }
        }))
    }

    fn deliver(&self, ground: &Ground) {
        self.postman.deliver(post(ground));
    }
}

fn known(round: &Round) -> Vec<(String, Level, &'static str)> {
    let known =
        |finding: &Finding| (finding.about.name().to_owned(), finding.level, finding.what.name());
    round.findings.iter().map(known).collect()
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
