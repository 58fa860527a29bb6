//! What a person is to be told of all that was seen: one concern per cause.
//!
//! A provider that is down shows in its breaker, in the attempts and connections of its sources, and
//! in their errors: one concern, about the provider. A unit that is down takes its sources with it,
//! and a full disk is why nothing can be stored. What only follows from something else neither
//! raises an alert nor ends one. What a breaker went through between two looks it tells itself.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::alert::{AlertCondition, AlertKey, Observation, Severity};
use crate::engine::breaker::BreakerState;
use crate::engine::health::breakers;
use crate::engine::health::check::NOT_KNOWN;
use crate::engine::health::execution::CRASH_LOOP;
use crate::engine::health::sources::TOO_LONG;
use crate::engine::health::{Area, Check, Facts, Report, SourceSeen, many};
use crate::engine::watch::{Finding, Level, What};
use crate::engine::{Status, sanitize_line};

/// Who finds what no check is about.
const PROVIDER: &str = "provider";
const STORAGE: &str = "storage";
const QUARANTINE: &str = "quarantine";

/// Findings on a source that follow from a unit that is down.
const FOLLOW_THE_UNIT: [&str; 3] = ["died", "stopped", "never_run"];

/// Turns what was seen into what there is to be concerned about.
#[must_use]
pub fn concerns(facts: &Facts, report: &Report) -> Observation {
    let mut drawn = Drawn { facts, report, looked: Observation::default(), storage_is_ill: false };
    drawn.subjects();
    drawn.unseen();
    drawn.local();
    drawn.sources();
    drawn.providers();
    drawn.journal();
    drawn.looked
}

struct Drawn<'a> {
    facts: &'a Facts,
    report: &'a Report,
    looked: Observation,
    /// Nothing can be stored, for a reason that is told.
    storage_is_ill: bool,
}

impl<'a> Drawn<'a> {
    fn subjects(&mut self) {
        let sources = self.facts.sources.iter();
        let named = sources.flat_map(|source| [source.name.clone(), source.provider.clone()]);
        let checked = self.report.checks.iter().map(|check| check.about.clone());
        let breakers = self.facts.breakers.iter().flatten().map(|breaker| breaker.name.clone());
        self.looked.known_subjects = named.chain(checked).chain(breakers).collect();
    }

    /// What could not be looked at at all: whether that has ended, nobody knows.
    fn unseen(&mut self) {
        if self.facts.loops.is_err() {
            for area in [Area::Service, Area::Execution] {
                self.blind(AlertKey::new(area.name(), CRASH_LOOP).as_str(), "");
            }
        }
        let is_untold = |finding: &Finding| matches!(finding.what, What::UnitUntold { .. });
        if self.facts.findings.iter().any(is_untold) {
            // Units of single sources are not asked for any more, either.
            self.blind(Area::Service.name(), "");
            self.blind(Area::Journal.name(), "");
        }
        if matches!(self.facts.pool, Some(Ok(None))) {
            self.blind(Area::Proxies.name(), "");
        }
    }

    /// The units, the machine, the ways out.
    fn local(&mut self) {
        for check in self.amiss(Area::Service) {
            // The count of restarts could not be read, while the units themselves were seen.
            if !is_not_known(check) {
                self.tell(check, &check.finding);
            } else if self.facts.unseen.is_none() {
                self.looked.conditions.push(concern(check, &check.finding));
            } else {
                self.blind(AlertKey::new(Area::Service.name(), NOT_KNOWN).as_str(), "");
            }
        }
        for check in self.amiss(Area::System) {
            self.tell(check, &check.finding);
        }
        for check in self.amiss(Area::Proxies) {
            if self.facts.unseen.is_some() {
                self.blind(Area::Proxies.name(), "");
            } else {
                self.tell(check, &check.finding);
            }
        }
    }

    fn sources(&mut self) {
        let critical = |check: &&&Check| check.level == Level::Critical;
        let down: BTreeSet<&str> = self
            .amiss(Area::Service)
            .iter()
            .filter(critical)
            .map(|check| check.about.as_str())
            .collect();
        for check in self.amiss(Area::Execution) {
            let finding = check.finding.as_str();
            if finding != TOO_LONG && finding != CRASH_LOOP {
                // What else is found of a source covers how long its session takes.
                let too_long = AlertKey::new(Area::Execution.name(), TOO_LONG);
                self.blind(too_long.as_str(), &check.about);
            }
            if finding == "waiting" || finding == "failing" {
                // The first is waited for, the second is the provider's.
                continue;
            }
            let is_down = down.contains(self.facts.unit_of(&check.about));
            if is_down && FOLLOW_THE_UNIT.contains(&finding) {
                self.blind(Area::Execution.name(), &check.about);
                continue;
            }
            let cause =
                if finding == "stalled" || finding == "overdue" { "stuck" } else { finding };
            self.tell(check, cause);
        }
        let told: BTreeSet<&str> =
            self.amiss(Area::Execution).iter().map(|check| check.about.as_str()).collect();
        for check in self.amiss(Area::Heartbeat) {
            if is_not_known(check) || told.contains(check.about.as_str()) {
                self.blind(Area::Heartbeat.name(), &check.about);
            } else {
                self.tell(check, &check.finding);
            }
        }
        for check in self.amiss(Area::Sources).into_iter().filter(|check| is_not_known(check)) {
            self.tell(check, &check.finding);
        }
        for check in self.amiss(Area::Clients).into_iter().filter(|check| is_not_known(check)) {
            // What keeps the connections from being known keeps the attempts, but for the breakers.
            if check.about.is_empty() && self.facts.unseen.is_none() {
                self.tell(check, &check.finding);
            } else {
                self.blind(Area::Clients.name(), &check.about);
            }
        }
        self.starting();
        self.states();
    }

    /// What was amiss with a worker has not ended since its unit starts it: it has not said anything yet.
    fn starting(&mut self) {
        for source in &self.facts.sources {
            if self.facts.is_starting(&source.name) {
                self.blind(Area::Execution.name(), &source.name);
                self.blind(Area::Heartbeat.name(), &source.name);
                self.blind(PROVIDER, &source.provider);
            }
        }
    }

    /// What the states themselves tell.
    fn states(&mut self) {
        let disk_is_full = self
            .amiss(Area::System)
            .iter()
            .any(|check| matches!(check.finding.as_str(), "disk_full" | "inodes_low"));
        let mut failing = Vec::new();
        for source in &self.facts.sources {
            let Some(state) = &source.state else {
                for by in [Area::Execution.name(), STORAGE, QUARANTINE] {
                    self.blind(by, &source.name);
                }
                // What they all share cannot be said to have ended without it.
                self.blind(STORAGE, "");
                continue;
            };
            if let Some(error) = &state.storage_error {
                failing.push((source.name.as_str(), error.as_str()));
            }
            if state.quarantined > 0 {
                let items = usize::try_from(state.quarantined).unwrap_or(usize::MAX);
                self.looked.conditions.push(AlertCondition {
                    key: AlertKey::new(QUARANTINE, "items"),
                    subject: source.name.clone(),
                    severity: Severity::Warning,
                    message: format!(
                        "{} of its last session could not be fetched: quarantined",
                        many(items, "item")
                    ),
                    advice: Some(format!("see why: `cynosure failures {}`", source.name)),
                });
            } else if state.session_since.is_some() {
                // Whether the session that is under way will do better, its end tells.
                self.blind(QUARANTINE, &source.name);
            }
        }
        for (source, why) in &self.facts.archives {
            if !failing.iter().any(|(known, _)| known == source) {
                failing.push((source.as_str(), why.as_str()));
            }
        }
        self.storage_is_ill = disk_is_full || !failing.is_empty();
        let Some((first, error)) = failing.first() else { return };
        if disk_is_full {
            self.blind(STORAGE, "");
            return;
        }
        self.looked.conditions.push(AlertCondition {
            key: AlertKey::new(STORAGE, "failing"),
            subject: String::new(),
            severity: Severity::Critical,
            message: format!(
                "{} cannot store what is fetched; {first}: {}",
                many(failing.len(), "source"),
                sanitize_line(error)
            ),
            advice: Some("see whether the disk is full, read-only or failing: `dmesg`".to_owned()),
        });
    }

    /// One concern per provider, as bad as the worst that points to it.
    fn providers(&mut self) {
        let mut worst: BTreeMap<String, AlertCondition> = BTreeMap::new();
        let mut note = |concern: AlertCondition| {
            let known = worst.get(&concern.subject).map(|known| known.severity);
            if known < Some(concern.severity) {
                worst.insert(concern.subject.clone(), concern);
            }
        };
        match &self.facts.breakers {
            Ok(breakers) => {
                for breaker in breakers {
                    let is_provider =
                        self.facts.sources.iter().any(|source| source.provider == breaker.name);
                    // The breakers of ledger and archive.
                    let follows = !is_provider && self.storage_is_ill;
                    self.looked.episodes.extend(breakers::spells(breaker, follows));
                    match breaker.phase {
                        BreakerState::Closed => {}
                        BreakerState::Open | BreakerState::HalfOpen if follows => {
                            self.looked
                                .unobserved
                                .insert((PROVIDER.to_owned(), breaker.name.clone()));
                        }
                        BreakerState::Open | BreakerState::HalfOpen => {
                            note(breakers::concern(breaker))
                        }
                    }
                }
            }
            Err(_) => self.looked.unobserved.extend([(PROVIDER.to_owned(), String::new())]),
        }
        let areas = [Area::Execution, Area::Sources, Area::Clients];
        let checks = areas.into_iter().flat_map(|area| self.amiss(area));
        for check in checks.filter(|check| points_to_the_provider(check)) {
            let source = self.facts.sources.iter().find(|source| source.name == check.about);
            let Some(source) = source else { continue };
            if self.is_of_storage(&source.name) {
                continue;
            }
            note(AlertCondition {
                subject: source.provider.clone(),
                key: unwell(),
                message: format!("{}: {}", source.name, told(check)),
                ..concern(check, &check.finding)
            });
        }
        let is_unseen = |source: &&SourceSeen| source.state.is_none() || source.counts.is_err();
        for source in self.facts.sources.iter().filter(is_unseen) {
            self.looked.unobserved.insert((PROVIDER.to_owned(), source.provider.clone()));
        }
        self.looked.conditions.extend(worst.into_values());
    }

    /// Its own concern only where nothing else is: what is amiss is complained of there too.
    fn journal(&mut self) {
        let is_all = self.looked.conditions.is_empty();
        for check in self.amiss(Area::Journal) {
            if check.level == Level::Unknown {
                // One look is at the journals of all units.
                self.blind(Area::Journal.name(), "");
            }
            if is_all || check.level == Level::Unknown {
                self.tell(check, &check.finding);
            } else {
                self.blind(Area::Journal.name(), &check.about);
            }
        }
    }

    /// Whether the errors of a source are this machine's.
    fn is_of_storage(&self, name: &str) -> bool {
        let source = self.facts.sources.iter().find(|source| source.name == name);
        let state = source.and_then(|source| source.state.as_ref());
        state.is_some_and(|state| state.status == Status::Error && state.storage_error.is_some())
    }

    fn amiss(&self, area: Area) -> Vec<&'a Check> {
        let of_area = |check: &&'a Check| check.name == area && check.level > Level::Healthy;
        self.report.checks.iter().filter(of_area).collect()
    }

    fn tell(&mut self, check: &Check, finding: &str) {
        if check.level == Level::Unknown {
            self.blind(check.name.name(), &check.about);
        }
        self.looked.conditions.push(concern(check, finding));
    }

    fn blind(&mut self, by: &str, about: &str) {
        self.looked.unobserved.insert((by.to_owned(), about.to_owned()));
    }
}

pub(super) fn unwell() -> AlertKey {
    AlertKey::new(PROVIDER, "unwell")
}

/// Whether it could not be made.
fn is_not_known(check: &Check) -> bool {
    check.finding == NOT_KNOWN
}

fn points_to_the_provider(check: &Check) -> bool {
    if check.level == Level::Unknown {
        return false;
    }
    match check.name {
        Area::Execution => check.finding == "failing",
        Area::Sources | Area::Clients => true,
        Area::Service | Area::Heartbeat | Area::Proxies | Area::System | Area::Journal => false,
    }
}

fn concern(check: &Check, finding: &str) -> AlertCondition {
    let severity = match check.level {
        Level::Healthy => Severity::Info,
        Level::Warning | Level::Unknown => Severity::Warning,
        Level::Critical => Severity::Critical,
    };
    AlertCondition {
        key: AlertKey::new(check.name.name(), finding),
        subject: check.about.clone(),
        severity,
        message: told(check),
        advice: check.advice.clone(),
    }
}

fn told(check: &Check) -> String {
    match &check.figure {
        Some(figure) => format!("{} ({figure})", check.message),
        None => check.message.clone(),
    }
}
