//! Correlation of the checks into alert conditions: one condition per cause.
//!
//! A provider outage shows in its breaker, in the attempts and connections of its sources, and in
//! their errors: it yields one condition, about the provider. A unit that is down inhibits the
//! conditions of its sources, and a full disk those of storage. A condition that only follows from
//! another one neither fires an alert nor resolves one. The open periods of a breaker between two
//! cycles come from the breaker's own history.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::alert::{AlertCondition, AlertKey, Observation, Severity};
use crate::engine::breaker::BreakerState;
use crate::engine::health::breakers::{self, PROVIDER, provider_degraded_key};
use crate::engine::health::finding::{CRASH_LOOP, SESSION_TOO_LONG, UNIT_STATE_UNKNOWN, UNKNOWN};
use crate::engine::health::{
    CheckKind, Finding, HealthCheckReport, HealthInputs, HealthLevel, SourceObservation,
};
use crate::engine::{Status, number_with_noun, sanitize_line};

/// Components of alert keys that belong to no check.
const STORAGE: &str = "storage";
const QUARANTINE: &str = "quarantine";

/// Kinds of findings about a source that follow from a unit that is down.
const UNIT_DOWN_KINDS: [&str; 3] = ["died", "stopped", "never_run"];

/// Derives the alert conditions from the inputs and their report.
#[must_use]
pub fn correlate(inputs: &HealthInputs, report: &HealthCheckReport) -> Observation {
    let mut builder = ConditionBuilder {
        inputs,
        report,
        observation: Observation::default(),
        is_storage_failing: false,
    };
    builder.collect_subjects();
    builder.mark_uncollected();
    builder.add_units_and_host();
    builder.add_sources();
    builder.add_providers();
    builder.add_journal();
    builder.observation
}

struct ConditionBuilder<'a> {
    inputs: &'a HealthInputs,
    report: &'a HealthCheckReport,
    observation: Observation,
    /// True if nothing can be stored, for a reason that has a condition.
    is_storage_failing: bool,
}

impl<'a> ConditionBuilder<'a> {
    fn collect_subjects(&mut self) {
        let sources = self.inputs.sources.iter();
        let configured = sources.flat_map(|source| [source.name.clone(), source.provider.clone()]);
        let checked = self.report.findings.iter().map(|finding| finding.subject.clone());
        let breakers = self.inputs.breakers.iter().flatten().map(|breaker| breaker.name.clone());
        self.observation.known_subjects = configured.chain(checked).chain(breakers).collect();
    }

    /// Marks components that could not be observed at all: their conditions may still hold.
    fn mark_uncollected(&mut self) {
        if self.inputs.crash_loops.is_err() {
            for check in [CheckKind::Service, CheckKind::Execution] {
                self.mark_unobserved(AlertKey::new(check.name(), CRASH_LOOP).as_str(), "");
            }
        }
        if self.inputs.findings.iter().any(|finding| finding.kind == UNIT_STATE_UNKNOWN) {
            // The units of single sources are not queried in this case, either.
            self.mark_unobserved(CheckKind::Service.name(), "");
            self.mark_unobserved(CheckKind::Journal.name(), "");
        }
        if matches!(self.inputs.proxy_pool, Some(Ok(None))) {
            self.mark_unobserved(CheckKind::Proxies.name(), "");
        }
    }

    /// Adds the conditions of the units, the host and the proxies.
    fn add_units_and_host(&mut self) {
        for finding in self.failing(CheckKind::Service) {
            // Unknown here means that the restart counts could not be read. The units were
            // observed.
            if !is_unknown(finding) {
                self.raise(finding, &finding.kind);
            } else if self.inputs.uncollected_reason.is_none() {
                self.observation.conditions.push(to_condition(finding, &finding.kind));
            } else {
                self.mark_unobserved(
                    AlertKey::new(CheckKind::Service.name(), UNKNOWN).as_str(),
                    "",
                );
            }
        }
        for finding in self.failing(CheckKind::System) {
            self.raise(finding, &finding.kind);
        }
        for finding in self.failing(CheckKind::Proxies) {
            if self.inputs.uncollected_reason.is_some() {
                self.mark_unobserved(CheckKind::Proxies.name(), "");
            } else {
                self.raise(finding, &finding.kind);
            }
        }
    }

    fn add_sources(&mut self) {
        let is_critical = |finding: &&&Finding| finding.level == HealthLevel::Critical;
        let down_units: BTreeSet<&str> = self
            .failing(CheckKind::Service)
            .iter()
            .filter(is_critical)
            .map(|finding| finding.subject.as_str())
            .collect();
        for finding in self.failing(CheckKind::Execution) {
            let kind = finding.kind.as_str();
            if kind != SESSION_TOO_LONG && kind != CRASH_LOOP {
                // Any other finding about a source hides the age of its session.
                let too_long = AlertKey::new(CheckKind::Execution.name(), SESSION_TOO_LONG);
                self.mark_unobserved(too_long.as_str(), &finding.subject);
            }
            if kind == "waiting" || kind == "failing" {
                // A wait ends by itself, and `failing` is part of the provider's condition.
                continue;
            }
            let is_down = down_units.contains(self.inputs.unit_of_source(&finding.subject));
            if is_down && UNIT_DOWN_KINDS.contains(&kind) {
                self.mark_unobserved(CheckKind::Execution.name(), &finding.subject);
                continue;
            }
            let kind = if kind == "stalled" || kind == "overdue" { "stuck" } else { kind };
            self.raise(finding, kind);
        }
        let failing_sources: BTreeSet<&str> = self
            .failing(CheckKind::Execution)
            .iter()
            .map(|finding| finding.subject.as_str())
            .collect();
        for finding in self.failing(CheckKind::Heartbeat) {
            if is_unknown(finding) || failing_sources.contains(finding.subject.as_str()) {
                self.mark_unobserved(CheckKind::Heartbeat.name(), &finding.subject);
            } else {
                self.raise(finding, &finding.kind);
            }
        }
        for finding in
            self.failing(CheckKind::Sources).into_iter().filter(|finding| is_unknown(finding))
        {
            self.raise(finding, &finding.kind);
        }
        for finding in
            self.failing(CheckKind::Clients).into_iter().filter(|finding| is_unknown(finding))
        {
            // The unknown finding about the attempts has already raised the same reason, except
            // for unreadable breakers, whose finding has no subject.
            if finding.subject.is_empty() && self.inputs.uncollected_reason.is_none() {
                self.raise(finding, &finding.kind);
            } else {
                self.mark_unobserved(CheckKind::Clients.name(), &finding.subject);
            }
        }
        self.mark_starting_sources();
        self.add_quarantine_and_storage();
    }

    /// Keeps the alerts of workers that are being started, because they have not reported yet.
    fn mark_starting_sources(&mut self) {
        for source in &self.inputs.sources {
            if self.inputs.is_starting(&source.name) {
                self.mark_unobserved(CheckKind::Execution.name(), &source.name);
                self.mark_unobserved(CheckKind::Heartbeat.name(), &source.name);
                self.mark_unobserved(PROVIDER, &source.provider);
            }
        }
    }

    /// Adds the conditions that the state files show: quarantined items and storage errors.
    fn add_quarantine_and_storage(&mut self) {
        let disk_is_full = self
            .failing(CheckKind::System)
            .iter()
            .any(|finding| matches!(finding.kind.as_str(), "disk_full" | "inodes_low"));
        let mut failing = Vec::new();
        for source in &self.inputs.sources {
            let Some(state) = &source.state else {
                for component in [CheckKind::Execution.name(), STORAGE, QUARANTINE] {
                    self.mark_unobserved(component, &source.name);
                }
                // The shared storage condition cannot resolve without it, either.
                self.mark_unobserved(STORAGE, "");
                continue;
            };
            if let Some(error) = &state.storage_error {
                failing.push((source.name.as_str(), error.as_str()));
            }
            if state.quarantined > 0 {
                self.observation.conditions.push(AlertCondition {
                    key: AlertKey::new(QUARANTINE, "items"),
                    subject: source.name.clone(),
                    severity: Severity::Warning,
                    message: format!(
                        "{} of its last session could not be fetched: quarantined",
                        number_with_noun(state.quarantined, "item")
                    ),
                    advice: Some(format!("see why: `cynosure failures {}`", source.name)),
                });
            } else if state.session_started_at.is_some() {
                // Only the end of the running session shows whether items are quarantined again.
                self.mark_unobserved(QUARANTINE, &source.name);
            }
        }
        for (source, reason) in &self.inputs.archive_mismatches {
            if !failing.iter().any(|(known, _)| known == source) {
                failing.push((source.as_str(), reason.as_str()));
            }
        }
        self.is_storage_failing = disk_is_full || !failing.is_empty();
        let Some((first, error)) = failing.first() else { return };
        if disk_is_full {
            self.mark_unobserved(STORAGE, "");
            return;
        }
        self.observation.conditions.push(AlertCondition {
            key: AlertKey::new(STORAGE, "failing"),
            subject: String::new(),
            severity: Severity::Critical,
            message: format!(
                "{} cannot store documents; {first}: {}",
                number_with_noun(failing.len() as u64, "source"),
                sanitize_line(error)
            ),
            advice: Some("see whether the disk is full, read-only or failing: `dmesg`".to_owned()),
        });
    }

    /// Adds one condition per provider, the most severe of its breaker and its sources' checks, and
    /// one per breaker of storage.
    fn add_providers(&mut self) {
        let mut worst: BTreeMap<String, AlertCondition> = BTreeMap::new();
        let mut add = |condition: AlertCondition| {
            let known = worst.get(&condition.subject).map(|known| known.severity);
            if known < Some(condition.severity) {
                worst.insert(condition.subject.clone(), condition);
            }
        };
        match &self.inputs.breakers {
            Ok(breakers) => {
                for breaker in breakers {
                    let is_provider =
                        self.inputs.sources.iter().any(|source| source.provider == breaker.name);
                    // The breakers of ledger and archive open because of a storage failure.
                    let is_inhibited = !is_provider && self.is_storage_failing;
                    self.observation
                        .episodes
                        .extend(breakers::breaker_episodes(breaker, is_inhibited));
                    match breaker.state {
                        BreakerState::Closed => {}
                        BreakerState::Open | BreakerState::HalfOpen if is_inhibited => {
                            self.observation
                                .unobserved
                                .insert((PROVIDER.to_owned(), breaker.name.clone()));
                        }
                        BreakerState::Open | BreakerState::HalfOpen => {
                            add(breakers::breaker_condition(breaker));
                        }
                    }
                }
            }
            Err(_) => self.observation.unobserved.extend([(PROVIDER.to_owned(), String::new())]),
        }
        let checks = [CheckKind::Execution, CheckKind::Sources, CheckKind::Clients];
        let findings = checks.into_iter().flat_map(|check| self.failing(check));
        for finding in findings.filter(|finding| indicates_provider_failure(finding)) {
            let source = self.inputs.sources.iter().find(|source| source.name == finding.subject);
            let Some(source) = source else { continue };
            if self.has_storage_error(&source.name) {
                continue;
            }
            add(AlertCondition {
                subject: source.provider.clone(),
                key: provider_degraded_key(),
                message: format!("{}: {}", source.name, message_with_value(finding)),
                ..to_condition(finding, &finding.kind)
            });
        }
        let is_unobserved =
            |source: &&SourceObservation| source.state.is_none() || source.counters.is_err();
        for source in self.inputs.sources.iter().filter(is_unobserved) {
            self.observation.unobserved.insert((PROVIDER.to_owned(), source.provider.clone()));
        }
        self.observation.conditions.extend(worst.into_values());
    }

    /// Adds the conditions of the journals only if there is no other condition, because every other
    /// problem also logs errors.
    fn add_journal(&mut self) {
        let is_only_problem = self.observation.conditions.is_empty();
        for finding in self.failing(CheckKind::Journal) {
            if finding.level == HealthLevel::Unknown {
                // One query reads the journals of all units.
                self.mark_unobserved(CheckKind::Journal.name(), "");
            }
            if is_only_problem || finding.level == HealthLevel::Unknown {
                self.raise(finding, &finding.kind);
            } else {
                self.mark_unobserved(CheckKind::Journal.name(), &finding.subject);
            }
        }
    }

    /// Returns true if a source waits after a storage error of this host.
    fn has_storage_error(&self, name: &str) -> bool {
        let source = self.inputs.sources.iter().find(|source| source.name == name);
        let state = source.and_then(|source| source.state.as_ref());
        state.is_some_and(|state| state.status == Status::Error && state.storage_error.is_some())
    }

    /// Returns the findings of a check that are not healthy.
    fn failing(&self, check: CheckKind) -> Vec<&'a Finding> {
        let is_failing =
            |finding: &&'a Finding| finding.check == check && finding.level > HealthLevel::Healthy;
        self.report.findings.iter().filter(is_failing).collect()
    }

    fn raise(&mut self, finding: &Finding, kind: &str) {
        if finding.level == HealthLevel::Unknown {
            self.mark_unobserved(finding.check.name(), &finding.subject);
        }
        self.observation.conditions.push(to_condition(finding, kind));
    }

    fn mark_unobserved(&mut self, component: &str, subject: &str) {
        self.observation.unobserved.insert((component.to_owned(), subject.to_owned()));
    }
}

/// Returns true if the check could not be made.
fn is_unknown(finding: &Finding) -> bool {
    finding.kind == UNKNOWN
}

fn indicates_provider_failure(finding: &Finding) -> bool {
    if finding.level == HealthLevel::Unknown {
        return false;
    }
    match finding.check {
        CheckKind::Execution => finding.kind == "failing",
        CheckKind::Sources | CheckKind::Clients => true,
        CheckKind::Service
        | CheckKind::Heartbeat
        | CheckKind::Proxies
        | CheckKind::System
        | CheckKind::Journal => false,
    }
}

fn to_condition(finding: &Finding, kind: &str) -> AlertCondition {
    let severity = match finding.level {
        HealthLevel::Skipped | HealthLevel::Healthy => Severity::Info,
        HealthLevel::Warning | HealthLevel::Unknown => Severity::Warning,
        HealthLevel::Critical => Severity::Critical,
    };
    AlertCondition {
        key: AlertKey::new(finding.check.name(), kind),
        subject: finding.subject.clone(),
        severity,
        message: message_with_value(finding),
        advice: finding.advice.clone(),
    }
}

fn message_with_value(finding: &Finding) -> String {
    match &finding.value {
        Some(value) => format!("{} ({value})", finding.message),
        None => finding.message.clone(),
    }
}
