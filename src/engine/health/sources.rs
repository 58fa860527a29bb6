//! What the sources show of themselves: when they last wrote, how their attempts end, whether they reach anyone.

use std::time::Duration;

use crate::engine::degradation::{SourceHealth, SourceInput};
use crate::engine::health::{
    CheckKind, CounterObservation, HealthCheck, HealthCheckReport, HealthInputs, HealthLimits,
    SourceObservation, StateObservation, Thresholds, or_healthy, percent, pluralize,
};
use crate::engine::watch::HealthLevel;
use crate::engine::{Status, Timestamp, format_duration};

/// What is found of a session that takes long.
pub(super) const SESSION_TOO_LONG: &str = "too_long";

/// Attempts that must be remembered before a share of them says anything.
const ATTEMPTS_MIN: u32 = 10;

/// Heartbeat, attempts and connections of the sources; each once unknown where none could be looked at.
pub(super) fn check_sources(
    facts: &HealthInputs,
    bounds: &HealthLimits,
    now: Timestamp,
) -> Vec<HealthCheck> {
    let thresholds = &bounds.thresholds;
    if let Some(why) = &facts.uncollected_reason {
        let areas = [CheckKind::Heartbeat, CheckKind::Sources, CheckKind::Clients];
        return areas.into_iter().map(|area| HealthCheck::unknown(area, why)).collect();
    }
    let mut checks = check_heartbeats(facts, bounds, now);
    checks.extend(check_attempts(&facts.sources, thresholds));
    checks.extend(check_clients(&facts.sources, thresholds));
    checks.extend(
        facts.breakers.as_ref().err().map(|why| HealthCheck::unknown(CheckKind::Clients, why)),
    );
    checks
}

/// How long ago each worker last wrote its state. A wait whose end is known is no silence.
fn check_heartbeats(
    facts: &HealthInputs,
    bounds: &HealthLimits,
    now: Timestamp,
) -> Vec<HealthCheck> {
    let sources = &facts.sources;
    let threshold = format!("more than {}", format_duration(bounds.thresholds.heartbeat));
    let check = |source: &SourceObservation| {
        let Some(state) = &source.state else {
            // It has not had the time to write one.
            if facts.is_starting(&source.name) {
                return None;
            }
            let message = "it has no state that can be read";
            let check =
                HealthCheck::new(CheckKind::Heartbeat, "missing", HealthLevel::Warning, message);
            return Some(check.with_subject(&source.name).with_advice("see `cynosure status`"));
        };
        let silence = heartbeat_age(state, bounds.clock_stable_for, now);
        (silence > bounds.thresholds.heartbeat).then(|| {
            let message = "its state was not written when it should have been";
            HealthCheck::new(CheckKind::Heartbeat, "silent", HealthLevel::Warning, message)
                .with_subject(&source.name)
                .with_measurement(format_duration(silence), threshold.clone())
                .with_advice("see whether its worker still runs: `cynosure status`")
        })
    };
    or_healthy(sources.iter().filter_map(check).collect(), || {
        let states: Vec<_> = sources.iter().filter_map(|source| source.state.as_ref()).collect();
        let longest = states
            .iter()
            .map(|state| heartbeat_age(state, bounds.clock_stable_for, now))
            .max()
            .unwrap_or_default();
        let message = format!("{} written in time", pluralize(states.len(), "state"));
        HealthCheck::new(CheckKind::Heartbeat, "in_time", HealthLevel::Healthy, message)
            .with_measurement(format_duration(longest), threshold.clone())
    })
}

/// How long a word has been missing. A worker that has left says nothing more, and a wait is over
/// when its deadline is.
fn heartbeat_age(state: &StateObservation, clock_kept: Duration, now: Timestamp) -> Duration {
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
fn check_attempts(sources: &[SourceObservation], thresholds: &Thresholds) -> Vec<HealthCheck> {
    let threshold = format!("less than {}", percent(thresholds.success_rate));
    let rates = || {
        let known = |source: &SourceObservation| source.known_counters()?.reliable_success_rate();
        sources.iter().filter_map(known)
    };
    let check = |source: &SourceObservation| {
        let counts = match &source.counters {
            Ok(counts) => (*counts)?,
            Err(why) => {
                return Some(
                    HealthCheck::unknown(CheckKind::Sources, why).with_subject(&source.name),
                );
            }
        };
        let rate = counts.reliable_success_rate().filter(|rate| *rate < thresholds.success_rate)?;
        let message = format!("few of its last {} attempts succeeded", counts.attempts);
        let check =
            HealthCheck::new(CheckKind::Sources, "low_success_rate", HealthLevel::Warning, message)
                .with_subject(&source.name)
                .with_measurement(percent(rate), threshold.clone())
                .with_advice(format!("see what fails: `cynosure failures {}`", source.name));
        Some(check)
    };
    or_healthy(sources.iter().filter_map(check).collect(), || {
        match rates().min_by(f64::total_cmp) {
            None => {
                let message = "too few attempts so far to judge them";
                HealthCheck::new(CheckKind::Sources, "too_few", HealthLevel::Healthy, message)
            }
            Some(least) => {
                let message = "the last attempts of each source mostly succeeded";
                HealthCheck::new(CheckKind::Sources, "successful", HealthLevel::Healthy, message)
                    .with_measurement(percent(least), threshold.clone())
            }
        }
    })
}

/// Whether the client of each source reaches anyone.
fn check_clients(sources: &[SourceObservation], thresholds: &Thresholds) -> Vec<HealthCheck> {
    let limit = thresholds.connection_failures;
    let threshold = format!("{limit} or more");
    let check = |source: &SourceObservation| {
        let counts = match &source.counters {
            Ok(counts) => counts.filter(|counts| counts.connection_failures >= limit)?,
            Err(why) => {
                return Some(
                    HealthCheck::unknown(CheckKind::Clients, why).with_subject(&source.name),
                );
            }
        };
        let rebuilt =
            pluralize(usize::try_from(counts.client_rebuilds).unwrap_or(usize::MAX), "time");
        let message =
            format!("nobody answers its requests, and its client was made anew ({rebuilt} so far)");
        let check =
            HealthCheck::new(CheckKind::Clients, "no_connection", HealthLevel::Warning, message)
                .with_subject(&source.name)
                .with_measurement(
                    format!("{} failures in a row", counts.connection_failures),
                    &*threshold,
                )
                .with_advice("see whether its server can be reached: `cynosure doctor`");
        Some(check)
    };
    or_healthy(sources.iter().filter_map(check).collect(), || {
        let failures = sources.iter().filter_map(SourceObservation::known_counters);
        let most = failures.map(|counts| counts.connection_failures).max().unwrap_or_default();
        let message = "every source reaches its server, as far as it tried";
        HealthCheck::new(CheckKind::Clients, "connected", HealthLevel::Healthy, message)
            .with_measurement(format!("{most} failures in a row"), &*threshold)
    })
}

/// How each source stands, as the report has it, for the judgement of its provider.
#[must_use]
pub fn degradation_inputs(
    report: &HealthCheckReport,
    sources: &[SourceObservation],
) -> Vec<SourceInput> {
    let standing = |source: &SourceObservation| {
        let is_of_all =
            |check: &HealthCheck| check.subject.is_empty() && check.kind == CheckKind::Sources;
        let is_of_it = |check: &&HealthCheck| check.subject == source.name || is_of_all(check);
        let about = report.checks.iter().filter(is_of_it);
        // What is late may be so for this machine's sake, and a large mailbox takes its time.
        let told = about.filter(|check| {
            check.kind != CheckKind::Heartbeat && check.finding != SESSION_TOO_LONG
        });
        match told.map(|check| check.level).max() {
            Some(HealthLevel::Critical) => SourceHealth::Failed,
            Some(HealthLevel::Warning | HealthLevel::Unknown) => SourceHealth::Degraded,
            Some(HealthLevel::Healthy) | None => SourceHealth::Healthy,
        }
    };
    let facts = |source: &SourceObservation| SourceInput {
        provider: source.provider.clone(),
        health: standing(source),
        success_rate: source.known_counters().and_then(|counts| counts.success_rate),
    };
    sources.iter().map(facts).collect()
}

impl SourceObservation {
    /// What its worker counts, where that is known and anything was counted.
    #[must_use]
    pub fn known_counters(&self) -> Option<CounterObservation> {
        self.counters.as_ref().ok().copied().flatten()
    }
}

impl CounterObservation {
    /// The share that succeeded, once there are enough attempts to speak of one.
    fn reliable_success_rate(&self) -> Option<f64> {
        self.success_rate.filter(|_| self.attempts >= ATTEMPTS_MIN)
    }
}
