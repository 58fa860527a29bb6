//! One round: look, judge, act, write down.

use std::time::Duration;

use crate::engine::watch::{
    Finding, HealthLevel, Remedy, StateFileContent, Subject, UnitObservation, UnitStatus,
    WatchLimits, WatchedSource, evaluate, worst_level,
};
use crate::engine::{Failure, RestartPermit, Timestamp};
use crate::monitor::lookout::{Earlier, Group, Lookout};
use crate::monitor::record::{Count, Outcome, Record, RecordFile, Restarted};
use crate::systemd::{BusError, RestartsFile, UnitName};

/// How far back starts are counted. The pauses of systemd between two are shorter, so that a loop
/// shows; sessions that end well and begin anew are further apart.
const LOOP_WINDOW: Duration = Duration::from_secs(600);

/// Watches, and acts as far as it may.
#[derive(Debug)]
pub struct Monitor {
    lookout: Lookout,
    limits: WatchLimits,
    powers: Powers,
    record: RecordFile,
    budget: RestartsFile,
}

/// What may be restarted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Powers {
    /// What is there and decides nothing.
    pub stuck: Permit,
    /// What has failed, or hangs in its start.
    pub down: Permit,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Permit {
    Granted,
    #[default]
    Withheld,
}

/// What came of a round.
#[derive(Debug)]
pub struct Round {
    pub units: Vec<Judged>,
    /// What could not be written down.
    pub unrecorded: Option<Failure>,
}

/// One unit with its sources.
#[derive(Debug)]
pub struct Judged {
    pub unit: UnitName,
    /// The first is about the unit, the others are about its sources.
    pub findings: Vec<Finding>,
    pub act: Act,
}

/// What was done about it.
#[derive(Debug)]
pub enum Act {
    /// Nothing needed a restart.
    None,
    /// A restart would help, and is not allowed here.
    Withheld,
    /// A restart would help, and cannot be counted.
    Uncounted { failure: Failure },
    /// One was asked for.
    Asked { grant: RestartPermit, why: String },
    /// The last one was so short a time ago that this one has to wait.
    Later { at: Timestamp, why: String },
    /// systemd refused it.
    Refused { error: BusError, why: String },
}

impl Monitor {
    #[must_use]
    pub fn new(lookout: Lookout, limits: WatchLimits, powers: Powers) -> Self {
        let record = RecordFile::new(&lookout.state_dir);
        let budget = RestartsFile::new(&lookout.state_dir);
        Self { lookout, limits, powers, record, budget }
    }

    /// Looks and judges, and changes nothing.
    #[must_use]
    pub fn judge(&self, now: Timestamp) -> Vec<Judged> {
        let groups = self.groups(now).into_iter();
        groups.map(|group| judged(group, &self.limits, now, |_, _| Act::None).0).collect()
    }

    /// What earlier rounds have left.
    ///
    /// # Errors
    /// A storage failure.
    pub fn recorded(&self) -> Result<Record, Failure> {
        self.record.look()
    }

    /// Looks, judges, restarts what needs it as far as that is allowed, and writes down what it did.
    /// It blocks, for a few times the time limit of the bus at most. `clock_kept` says for how long
    /// the clock was not set, as far as is known, and is asked once all is read.
    pub fn round(&self, now: Timestamp, clock_kept: impl FnOnce() -> Duration) -> Round {
        let (mut units, mut counts) = (Vec::new(), Vec::new());
        let groups = self.groups(now);
        let limits = WatchLimits { clock_stable_for: clock_kept(), ..self.limits };
        for group in groups {
            let act = |findings: &[Finding], group: &Group| self.act(findings, group, now);
            let (judged, count) = judged(group, &limits, now, act);
            units.push(judged);
            counts.extend(count);
        }
        let unrecorded = self.write_down(&units, counts, now).err();
        Round { units, unrecorded }
    }

    fn groups(&self, now: Timestamp) -> Vec<Group> {
        // A record that cannot be read is a missing comparison, and no reason to look away.
        let record = self.record.look().unwrap_or_default();
        self.lookout.look(|unit| earlier(&record, unit, now), now)
    }

    fn act(&self, findings: &[Finding], group: &Group, now: Timestamp) -> Act {
        let Some(ill) = findings.iter().find(|finding| finding.remedy == Remedy::Restart) else {
            return Act::None;
        };
        let permit = match ill.subject {
            Subject::Source(_) => self.powers.stuck,
            Subject::Unit(_) => self.powers.down,
        };
        if permit == Permit::Withheld {
            return Act::Withheld;
        }
        let why = format!("{}: {}", ill.subject.name(), ill.kind);
        let (unit, progress) = (&group.unit, last_progress(&group.sources));
        let ready = self.ready(unit, progress, now);
        if ready > now {
            return Act::Later { at: ready, why };
        }
        // Counted before it is done: a monitor that falls over on it must not do so for ever.
        let grant = match self.budget.ask(unit.as_str(), progress, now) {
            Ok(grant) => grant,
            // A budget that cannot be kept is no budget: better no restart than restarts without end.
            Err(failure) => return Act::Uncounted { failure },
        };
        match self.lookout.bus.restart_unit(unit) {
            Ok(()) => Act::Asked { grant, why },
            Err(error) => Act::Refused { error, why },
        }
    }

    /// When the budget lets the unit be restarted, without counting it.
    fn ready(&self, unit: &UnitName, progress: Timestamp, now: Timestamp) -> Timestamp {
        let counts = self.budget.look().unwrap_or_default();
        let mut count = counts.get(unit.as_str()).copied().unwrap_or_default();
        count.request_restart(progress, now).not_before
    }

    fn write_down(
        &self,
        units: &[Judged],
        counts: Vec<Count>,
        now: Timestamp,
    ) -> Result<(), Failure> {
        self.record.change(|record| {
            record.note(units, now);
            counts.into_iter().for_each(|count| record.note_count(count));
            for Judged { unit, act, .. } in units {
                let restarted = |why: &String, outcome, error| Restarted {
                    at: now,
                    unit: unit.to_string(),
                    why: why.clone(),
                    outcome,
                    error,
                };
                match act {
                    Act::None | Act::Withheld | Act::Uncounted { .. } | Act::Later { .. } => {}
                    Act::Asked { why, .. } => {
                        record.note_restart(restarted(why, Outcome::Accepted, None));
                    }
                    Act::Refused { error, why } => {
                        let error = Some(error.to_string());
                        record.note_restart(restarted(why, Outcome::Refused, error));
                    }
                }
            }
        })
    }
}

impl Judged {
    /// What was found, of all units.
    pub fn findings(units: &[Self]) -> impl Iterator<Item = &Finding> {
        units.iter().flat_map(|judged| &judged.findings)
    }

    /// The worst of all units.
    #[must_use]
    pub fn worst(units: &[Self]) -> HealthLevel {
        let levels = units.iter().map(|judged| worst_level(&judged.findings));
        levels.max().unwrap_or(HealthLevel::Unknown)
    }
}

fn judged(
    group: Group,
    limits: &WatchLimits,
    now: Timestamp,
    act: impl FnOnce(&[Finding], &Group) -> Act,
) -> (Judged, Option<Count>) {
    let findings = evaluate(group.unit.as_str(), &group.seen, &group.sources, limits, now);
    let act = act(&findings, &group);
    let count = match group.seen {
        UnitObservation::Observed { unit, .. } => {
            Some(Count { at: now, unit: unit.name, restarts: unit.restarts })
        }
        UnitObservation::NoSystemd { .. } | UnitObservation::Unavailable { .. } => None,
    };
    (Judged { unit: group.unit, findings, act }, count)
}

/// The oldest count within the window. A start by hand begins the count anew, which a smaller number shows.
fn earlier(record: &Record, unit: &UnitStatus, now: Timestamp) -> Option<Earlier> {
    let counts = record.counts.iter().filter(|count| count.unit == unit.name);
    let mut recent: Vec<&Count> =
        counts.filter(|count| count.at <= now && now.since(count.at) <= LOOP_WINDOW).collect();
    if let Some(anew) = recent.iter().rposition(|count| count.restarts > unit.restarts) {
        recent.drain(..=anew);
    }
    recent.first().map(|count| Earlier { at: count.at, restarts: count.restarts })
}

/// The newest progress of all: what any source achieved shows that its unit worked.
fn last_progress(sources: &[WatchedSource]) -> Timestamp {
    let progress = sources.iter().filter_map(|source| match &source.state_file {
        StateFileContent::Status(course) => Some(course.last_progress),
        StateFileContent::NeverRun | StateFileContent::Unreadable { .. } => None,
    });
    progress.max().unwrap_or_default()
}
