//! Checks of the sources: heartbeat, success rate of their attempts, and connections.

use std::time::Duration;

use crate::health::watch::WorkerStatus;
use crate::health::{
    CheckKind, CounterObservation, Finding, HealthInputs, HealthLevel, HealthLimits,
    SourceObservation, Thresholds, or_healthy,
};
use crate::text::format_percent;
use crate::{Status, Timestamp, format_duration, number_with_noun};

/// Attempts needed before their success rate means anything.
const ATTEMPTS_MIN: u32 = 10;

/// Checks heartbeat, attempts and connections of the sources. If none could be collected, each
/// of the three is unknown, once.
pub(super) fn check_sources(
    inputs: &HealthInputs,
    limits: &HealthLimits,
    now: Timestamp,
) -> Vec<Finding> {
    let thresholds = &limits.thresholds;
    if let Some(reason) = &inputs.uncollected_reason {
        let kinds = [CheckKind::Heartbeat, CheckKind::Sources, CheckKind::Clients];
        return kinds.into_iter().map(|check| Finding::unknown(check, reason)).collect();
    }
    let mut findings = check_heartbeats(inputs, limits, now);
    findings.extend(check_attempts(&inputs.sources, thresholds));
    findings.extend(check_clients(&inputs.sources, thresholds));
    findings.extend(
        inputs.breakers.as_ref().err().map(|reason| Finding::unknown(CheckKind::Clients, reason)),
    );
    findings
}

/// Checks the time since each worker last wrote its state. A wait until a known deadline does not
/// count as silence.
fn check_heartbeats(inputs: &HealthInputs, limits: &HealthLimits, now: Timestamp) -> Vec<Finding> {
    let sources = &inputs.sources;
    let threshold = format!("more than {}", format_duration(limits.thresholds.heartbeat));
    let finding = |source: &SourceObservation| {
        let Some(state) = &source.state else {
            // A worker that is being started has not written a state yet.
            if inputs.is_starting(&source.name) {
                return None;
            }
            let message = "its state file is missing or unreadable";
            let finding =
                Finding::new(CheckKind::Heartbeat, "missing", HealthLevel::Warning, message);
            return Some(finding.with_subject(&source.name).with_advice("see `cynosure status`"));
        };
        let age = heartbeat_age(state, limits.clock_stable_for, now);
        (age > limits.thresholds.heartbeat).then(|| {
            let message = "its state was not written in time";
            Finding::new(CheckKind::Heartbeat, "silent", HealthLevel::Warning, message)
                .with_subject(&source.name)
                .with_measurement(format_duration(age), threshold.clone())
                .with_advice("see whether its worker still runs: `cynosure status`")
        })
    };
    or_healthy(sources.iter().filter_map(finding).collect(), || {
        let states: Vec<_> = sources.iter().filter_map(|source| source.state.as_ref()).collect();
        let longest = states
            .iter()
            .map(|state| heartbeat_age(state, limits.clock_stable_for, now))
            .max()
            .unwrap_or_default();
        let message = format!("{} written in time", number_with_noun(states.len() as u64, "state"));
        Finding::new(CheckKind::Heartbeat, "in_time", HealthLevel::Healthy, message)
            .with_measurement(format_duration(longest), threshold.clone())
    })
}

/// Returns how long an update of the state is overdue: zero for a worker that has exited; during
/// a wait, counted from its deadline.
fn heartbeat_age(state: &WorkerStatus, clock_stable_for: Duration, now: Timestamp) -> Duration {
    let deadline = match state.status {
        Status::Collecting | Status::Downloading => None,
        Status::Completed
        | Status::Idle
        | Status::Error
        | Status::RateLimited
        | Status::AuthFailed => state.until,
    };
    let due_at = deadline.map_or(state.last_updated, |until| until.max(state.last_updated));
    let age = now.since(due_at).min(clock_stable_for);
    if state.process.is_running() { age } else { Duration::ZERO }
}

/// Checks the success rate of the last attempts.
fn check_attempts(sources: &[SourceObservation], thresholds: &Thresholds) -> Vec<Finding> {
    let threshold = format!("less than {}", format_percent(thresholds.success_rate));
    let finding = |source: &SourceObservation| {
        let counters = match &source.counters {
            Ok(counters) => (*counters)?,
            Err(reason) => {
                return Some(
                    Finding::unknown(CheckKind::Sources, reason).with_subject(&source.name),
                );
            }
        };
        let rate =
            counters.reliable_success_rate().filter(|rate| *rate < thresholds.success_rate)?;
        let message = format!("few of its last {} attempts succeeded", counters.attempts);
        let finding =
            Finding::new(CheckKind::Sources, "low_success_rate", HealthLevel::Warning, message)
                .with_subject(&source.name)
                .with_measurement(format_percent(rate), threshold.clone())
                .with_advice(format!("see what fails: `cynosure failures {}`", source.name));
        Some(finding)
    };
    or_healthy(sources.iter().filter_map(finding).collect(), || {
        let rate = |source: &SourceObservation| source.known_counters()?.reliable_success_rate();
        match sources.iter().filter_map(rate).min_by(f64::total_cmp) {
            None => {
                let message = "too few attempts so far for a success rate";
                Finding::new(CheckKind::Sources, "too_few", HealthLevel::Healthy, message)
            }
            Some(lowest) => {
                let message = "the last attempts of each source mostly succeeded";
                Finding::new(CheckKind::Sources, "successful", HealthLevel::Healthy, message)
                    .with_measurement(format_percent(lowest), threshold.clone())
            }
        }
    })
}

/// Checks that the client of each source gets responses.
fn check_clients(sources: &[SourceObservation], thresholds: &Thresholds) -> Vec<Finding> {
    let limit = thresholds.connection_failures;
    let threshold = format!("{limit} or more");
    let finding = |source: &SourceObservation| {
        let counters = match &source.counters {
            Ok(counters) => counters.filter(|counters| counters.connection_failures >= limit)?,
            Err(reason) => {
                return Some(
                    Finding::unknown(CheckKind::Clients, reason).with_subject(&source.name),
                );
            }
        };
        let reconnects = number_with_noun(counters.reconnects, "time");
        let message = format!(
            "its requests get no response, and its HTTP client was recreated ({reconnects} so far)"
        );
        let finding =
            Finding::new(CheckKind::Clients, "no_connection", HealthLevel::Warning, message)
                .with_subject(&source.name)
                .with_measurement(
                    format!("{} failures in a row", counters.connection_failures),
                    &*threshold,
                )
                .with_advice("see whether its server can be reached: `cynosure doctor`");
        Some(finding)
    };
    or_healthy(sources.iter().filter_map(finding).collect(), || {
        let counters = sources.iter().filter_map(SourceObservation::known_counters);
        let most = counters.map(|counters| counters.connection_failures).max().unwrap_or_default();
        let message = "no source has lost its connection";
        Finding::new(CheckKind::Clients, "connected", HealthLevel::Healthy, message)
            .with_measurement(format!("{most} failures in a row"), &*threshold)
    })
}

impl SourceObservation {
    /// Returns the worker's counters; `None` if they are unreadable or nothing was counted.
    #[must_use]
    pub fn known_counters(&self) -> Option<CounterObservation> {
        self.counters.as_ref().ok().copied().flatten()
    }
}

impl CounterObservation {
    /// Returns the success rate if there are at least [`ATTEMPTS_MIN`] attempts.
    fn reliable_success_rate(&self) -> Option<f64> {
        self.success_rate.filter(|_| self.attempts >= ATTEMPTS_MIN)
    }
}
