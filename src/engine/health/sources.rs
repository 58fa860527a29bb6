//! What the sources show of themselves: when they last wrote, how their attempts end, whether they reach anyone.

use std::time::Duration;

use crate::engine::degradation::{SourceFacts, Standing};
use crate::engine::health::{
    Area, Bounds, Check, CountsSeen, Facts, Report, SourceSeen, StateSeen, Thresholds, many,
    or_well, percent,
};
use crate::engine::watch::Level;
use crate::engine::{Status, Timestamp, format_duration};

/// What is found of a session that takes long.
pub(super) const TOO_LONG: &str = "too_long";

/// Attempts that must be remembered before a share of them says anything.
const ATTEMPTS_MIN: u32 = 10;

/// Heartbeat, attempts and connections of the sources; each once unknown where none could be looked at.
pub(super) fn sources(facts: &Facts, bounds: &Bounds, now: Timestamp) -> Vec<Check> {
    let thresholds = &bounds.thresholds;
    if let Some(why) = &facts.unseen {
        let areas = [Area::Heartbeat, Area::Sources, Area::Clients];
        return areas.into_iter().map(|area| Check::unknown(area, why)).collect();
    }
    let mut checks = heartbeat(facts, bounds, now);
    checks.extend(attempts(&facts.sources, thresholds));
    checks.extend(clients(&facts.sources, thresholds));
    checks.extend(facts.breakers.as_ref().err().map(|why| Check::unknown(Area::Clients, why)));
    checks
}

/// How long ago each worker last wrote its state. A wait whose end is known is no silence.
fn heartbeat(facts: &Facts, bounds: &Bounds, now: Timestamp) -> Vec<Check> {
    let sources = &facts.sources;
    let threshold = format!("more than {}", format_duration(bounds.thresholds.heartbeat));
    let check = |source: &SourceSeen| {
        let Some(state) = &source.state else {
            // It has not had the time to write one.
            if facts.is_starting(&source.name) {
                return None;
            }
            let message = "it has no state that can be read";
            let check = Check::new(Area::Heartbeat, "missing", Level::Warning, message);
            return Some(check.about(&source.name).advise("see `cynosure status`"));
        };
        let silence = silence(state, bounds.clock_kept, now);
        (silence > bounds.thresholds.heartbeat).then(|| {
            let message = "its state was not written when it should have been";
            Check::new(Area::Heartbeat, "silent", Level::Warning, message)
                .about(&source.name)
                .measured(format_duration(silence), threshold.clone())
                .advise("see whether its worker still runs: `cynosure status`")
        })
    };
    or_well(sources.iter().filter_map(check).collect(), || {
        let states: Vec<_> = sources.iter().filter_map(|source| source.state.as_ref()).collect();
        let longest = states
            .iter()
            .map(|state| silence(state, bounds.clock_kept, now))
            .max()
            .unwrap_or_default();
        let message = format!("{} written in time", many(states.len(), "state"));
        Check::new(Area::Heartbeat, "in_time", Level::Healthy, message)
            .measured(format_duration(longest), threshold.clone())
    })
}

/// How long a word has been missing. A worker that has left says nothing more, and a wait is over
/// when its deadline is.
fn silence(state: &StateSeen, clock_kept: Duration, now: Timestamp) -> Duration {
    let promised = match state.status {
        Status::Collecting | Status::Downloading => None,
        Status::Completed
        | Status::Idle
        | Status::Error
        | Status::RateLimited
        | Status::AuthFailed => state.until,
    };
    let expected = promised.map_or(state.last_updated, |until| until.max(state.last_updated));
    let silence = now.since(expected).min(clock_kept);
    if state.is_running { silence } else { Duration::ZERO }
}

/// The share of the last attempts that succeeded.
fn attempts(sources: &[SourceSeen], thresholds: &Thresholds) -> Vec<Check> {
    let threshold = format!("less than {}", percent(thresholds.success_rate));
    let rates = || {
        let known = |source: &SourceSeen| source.counted()?.rate();
        sources.iter().filter_map(known)
    };
    let check = |source: &SourceSeen| {
        let counts = match &source.counts {
            Ok(counts) => (*counts)?,
            Err(why) => return Some(Check::unknown(Area::Sources, why).about(&source.name)),
        };
        let rate = counts.rate().filter(|rate| *rate < thresholds.success_rate)?;
        let message = format!("few of its last {} attempts succeeded", counts.attempts);
        let check = Check::new(Area::Sources, "low_success_rate", Level::Warning, message)
            .about(&source.name)
            .measured(percent(rate), threshold.clone())
            .advise(format!("see what fails: `cynosure failures {}`", source.name));
        Some(check)
    };
    or_well(sources.iter().filter_map(check).collect(), || match rates().min_by(f64::total_cmp) {
        None => {
            let message = "too few attempts so far to judge them";
            Check::new(Area::Sources, "too_few", Level::Healthy, message)
        }
        Some(least) => {
            let message = "the last attempts of each source mostly succeeded";
            Check::new(Area::Sources, "successful", Level::Healthy, message)
                .measured(percent(least), threshold.clone())
        }
    })
}

/// Whether the client of each source reaches anyone.
fn clients(sources: &[SourceSeen], thresholds: &Thresholds) -> Vec<Check> {
    let limit = thresholds.connection_failures;
    let threshold = format!("{limit} or more");
    let check = |source: &SourceSeen| {
        let counts = match &source.counts {
            Ok(counts) => counts.filter(|counts| counts.connection_failures >= limit)?,
            Err(why) => return Some(Check::unknown(Area::Clients, why).about(&source.name)),
        };
        let rebuilt = many(usize::try_from(counts.clients_rebuilt).unwrap_or(usize::MAX), "time");
        let message =
            format!("nobody answers its requests, and its client was made anew ({rebuilt} so far)");
        let check = Check::new(Area::Clients, "no_connection", Level::Warning, message)
            .about(&source.name)
            .measured(format!("{} failures in a row", counts.connection_failures), &*threshold)
            .advise("see whether its server can be reached: `cynosure doctor`");
        Some(check)
    };
    or_well(sources.iter().filter_map(check).collect(), || {
        let failures = sources.iter().filter_map(SourceSeen::counted);
        let most = failures.map(|counts| counts.connection_failures).max().unwrap_or_default();
        let message = "every source reaches its server, as far as it tried";
        Check::new(Area::Clients, "connected", Level::Healthy, message)
            .measured(format!("{most} failures in a row"), &*threshold)
    })
}

/// How each source stands, as the report has it, for the judgement of its provider.
#[must_use]
pub fn standings(report: &Report, sources: &[SourceSeen]) -> Vec<SourceFacts> {
    let standing = |source: &SourceSeen| {
        let is_of_all = |check: &Check| check.about.is_empty() && check.name == Area::Sources;
        let is_of_it = |check: &&Check| check.about == source.name || is_of_all(check);
        let about = report.checks.iter().filter(is_of_it);
        // What is late may be so for this machine's sake, and a large mailbox takes its time.
        let told = about.filter(|check| check.name != Area::Heartbeat && check.finding != TOO_LONG);
        match told.map(|check| check.level).max() {
            Some(Level::Critical) => Standing::Failed,
            Some(Level::Warning | Level::Unknown) => Standing::Degraded,
            Some(Level::Healthy) | None => Standing::Well,
        }
    };
    let facts = |source: &SourceSeen| SourceFacts {
        provider: source.provider.clone(),
        standing: standing(source),
        success_rate: source.counted().and_then(|counts| counts.success_rate),
    };
    sources.iter().map(facts).collect()
}

impl SourceSeen {
    /// What its worker counts, where that is known and anything was counted.
    #[must_use]
    pub fn counted(&self) -> Option<CountsSeen> {
        self.counts.as_ref().ok().copied().flatten()
    }
}

impl CountsSeen {
    /// The share that succeeded, once there are enough attempts to speak of one.
    fn rate(&self) -> Option<f64> {
        self.success_rate.filter(|_| self.attempts >= ATTEMPTS_MIN)
    }
}
