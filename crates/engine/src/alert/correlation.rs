//! Correlation of the findings: one finding to alert about per cause.
//!
//! A provider outage shows in its breaker, in the attempts and connections of its sources, and in
//! their errors: it yields one finding, about the provider. A unit that is down inhibits the
//! findings about its sources, and a full disk those about storage. A finding that only follows
//! from another one neither fires an alert nor resolves one. The open periods of a breaker between
//! two cycles come from the breaker's own history.

use std::collections::{BTreeMap, BTreeSet};

use crate::alert::breakers::{DEGRADED, breaker_episodes, breaker_finding};
use crate::alert::{AlertKey, Observation, Severity};
use crate::health::{
    CRASH_LOOP, CheckKind, Finding, HealthCheckReport, HealthInputs, HealthLevel, SESSION_TOO_LONG,
    SourceObservation, UNIT_STATE_UNKNOWN, UNKNOWN,
};
use crate::{Status, number_with_noun, sanitize_line};

/// Kinds of findings about a source that follow from a unit that is down.
const UNIT_DOWN_KINDS: [&str; 3] = ["died", "stopped", "never_run"];

/// Selects what to alert about, from the inputs and their report.
#[must_use]
pub fn correlate(inputs: &HealthInputs, report: &HealthCheckReport) -> Observation {
    let mut builder = ObservationBuilder {
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

struct ObservationBuilder<'a> {
    inputs: &'a HealthInputs,
    report: &'a HealthCheckReport,
    observation: Observation,
    /// True if nothing can be stored, for a reason that has a finding.
    is_storage_failing: bool,
}

impl<'a> ObservationBuilder<'a> {
    fn collect_subjects(&mut self) {
        let sources = self.inputs.sources.iter();
        let configured = sources.flat_map(|source| [source.name.clone(), source.provider.clone()]);
        let checked = self.report.findings.iter().map(|finding| finding.subject.clone());
        let breakers = self.inputs.breakers.iter().flatten().map(|breaker| breaker.name.clone());
        self.observation.known_subjects = configured.chain(checked).chain(breakers).collect();
    }

    /// Marks checks that could not be made at all: their findings may still hold.
    fn mark_uncollected(&mut self) {
        if self.inputs.crash_loops.is_err() {
            for check in [CheckKind::Service, CheckKind::Execution] {
                self.mark_unobserved(AlertKey::new(check, CRASH_LOOP).as_str(), "");
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

    /// Adds the findings about the units, the host and the proxies.
    fn add_units_and_host(&mut self) {
        for finding in self.failing(CheckKind::Service) {
            // Unknown here means that the restart counts could not be read. The units were
            // observed.
            if !is_unknown(finding) {
                self.raise(finding, &finding.kind);
            } else if self.inputs.uncollected_reason.is_none() {
                self.observation.findings.push(finding.clone());
            } else {
                self.mark_unobserved(AlertKey::new(CheckKind::Service, UNKNOWN).as_str(), "");
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
                let too_long = AlertKey::new(CheckKind::Execution, SESSION_TOO_LONG);
                self.mark_unobserved(too_long.as_str(), &finding.subject);
            }
            if kind == "waiting" || kind == "failing" {
                // A wait ends by itself, and `failing` is part of the provider's finding.
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
                self.mark_unobserved(CheckKind::Provider.name(), &source.provider);
            }
        }
    }

    /// Adds the findings that the state files show: quarantined items and storage errors.
    fn add_quarantine_and_storage(&mut self) {
        let disk_is_full = self
            .failing(CheckKind::System)
            .iter()
            .any(|finding| matches!(finding.kind.as_str(), "disk_full" | "inodes_low"));
        let mut failing = Vec::new();
        for source in &self.inputs.sources {
            let Some(state) = &source.state else {
                for check in [CheckKind::Execution, CheckKind::Storage, CheckKind::Quarantine] {
                    self.mark_unobserved(check.name(), &source.name);
                }
                // The shared finding about storage cannot resolve without it, either.
                self.mark_unobserved(CheckKind::Storage.name(), "");
                continue;
            };
            if let Some(error) = &state.storage_error {
                failing.push((source.name.as_str(), error.as_str()));
            }
            if state.quarantined > 0 {
                let message = format!(
                    "{} of its last session could not be fetched: quarantined",
                    number_with_noun(state.quarantined, "item")
                );
                let level = HealthLevel::Warning;
                self.observation.findings.push(
                    Finding::new(CheckKind::Quarantine, "items", level, message)
                        .with_subject(&source.name)
                        .with_advice(format!("see why: `cynosure failures {}`", source.name)),
                );
            } else if state.session_started_at.is_some() {
                // Only the end of the running session shows whether items are quarantined again.
                self.mark_unobserved(CheckKind::Quarantine.name(), &source.name);
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
            self.mark_unobserved(CheckKind::Storage.name(), "");
            return;
        }
        let message = format!(
            "{} cannot store documents; {first}: {}",
            number_with_noun(failing.len() as u64, "source"),
            sanitize_line(error)
        );
        self.observation.findings.push(
            Finding::new(CheckKind::Storage, "failing", HealthLevel::Critical, message)
                .with_advice("see whether the disk is full, read-only or failing: `dmesg`"),
        );
    }

    /// Adds one finding per provider, the most severe of its breaker and its sources' checks, and
    /// one per breaker of storage.
    fn add_providers(&mut self) {
        let mut worst: BTreeMap<String, Finding> = BTreeMap::new();
        let mut add = |finding: Finding| {
            let known = worst.get(&finding.subject).map(|known| Severity::from(known.level));
            if known < Some(Severity::from(finding.level)) {
                worst.insert(finding.subject.clone(), finding);
            }
        };
        match &self.inputs.breakers {
            Ok(breakers) => {
                for breaker in breakers {
                    let is_provider =
                        self.inputs.sources.iter().any(|source| source.provider == breaker.name);
                    // The breakers of ledger and archive open because of a storage failure.
                    let is_inhibited = !is_provider && self.is_storage_failing;
                    self.observation.episodes.extend(breaker_episodes(breaker, is_inhibited));
                    if !breaker.is_in_open_period() {
                        continue;
                    }
                    if is_inhibited {
                        let subject = (provider_check(), breaker.name.clone());
                        self.observation.unobserved.insert(subject);
                    } else {
                        add(breaker_finding(breaker));
                    }
                }
            }
            Err(_) => self.observation.unobserved.extend([(provider_check(), String::new())]),
        }
        let checks = [CheckKind::Execution, CheckKind::Sources, CheckKind::Clients];
        let findings = checks.into_iter().flat_map(|check| self.failing(check));
        for finding in findings.filter(|finding| indicates_provider_failure(finding)) {
            let source = self.inputs.sources.iter().find(|source| source.name == finding.subject);
            let Some(source) = source else { continue };
            if self.has_storage_error(&source.name) {
                continue;
            }
            add(Finding {
                check: CheckKind::Provider,
                kind: DEGRADED.to_owned(),
                subject: source.provider.clone(),
                message: format!("{}: {}", source.name, finding.message_with_value()),
                value: None,
                ..finding.clone()
            });
        }
        let is_unobserved =
            |source: &&SourceObservation| source.state.is_none() || source.counters.is_err();
        for source in self.inputs.sources.iter().filter(is_unobserved) {
            self.observation.unobserved.insert((provider_check(), source.provider.clone()));
        }
        self.observation.findings.extend(worst.into_values());
    }

    /// Adds the findings about the journals only if there is no other finding, because every other
    /// problem also logs errors.
    fn add_journal(&mut self) {
        let is_only_problem = self.observation.findings.is_empty();
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
        self.observation.findings.push(Finding { kind: kind.to_owned(), ..finding.clone() });
    }

    /// Keeps the alerts of a check, or of a full alert key, unchanged.
    fn mark_unobserved(&mut self, check_or_key: &str, subject: &str) {
        self.observation.unobserved.insert((check_or_key.to_owned(), subject.to_owned()));
    }
}

fn provider_check() -> String {
    CheckKind::Provider.name().to_owned()
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
        | CheckKind::Journal
        | CheckKind::Provider
        | CheckKind::Storage
        | CheckKind::Quarantine
        | CheckKind::Channel
        | CheckKind::Monitor => false,
    }
}
