//! One round: look, judge, act, write down.

use std::time::Duration;

use crate::engine::watch::{
    Cure, Finding, Limits, Subject, Told, UnitSeen, UnitStatus, Watched, judge,
};
use crate::engine::{Failure, Grant, Moment};
use crate::monitor::lookout::{Earlier, Lookout};
use crate::monitor::record::{Count, Outcome, Record, RecordFile, Restarted};
use crate::systemd::{BusError, RestartsFile};

/// How far back starts are counted. The pauses of systemd between two are shorter, so that a loop
/// shows; sessions that end well and begin anew are further apart.
const LOOP_WINDOW: Duration = Duration::from_secs(600);

/// Watches, and acts as far as it may.
#[derive(Debug)]
pub struct Monitor {
    lookout: Lookout,
    limits: Limits,
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
    pub findings: Vec<Finding>,
    pub act: Act,
    /// What could not be written down.
    pub unrecorded: Option<Failure>,
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
    Asked { grant: Grant, why: String },
    /// The last one was so short a time ago that this one has to wait.
    Later { at: Moment, why: String },
    /// systemd refused it.
    Refused { error: BusError, why: String },
}

impl Monitor {
    #[must_use]
    pub fn new(lookout: Lookout, limits: Limits, powers: Powers) -> Self {
        let record = RecordFile::new(&lookout.state_dir);
        let budget = RestartsFile::new(&lookout.state_dir);
        Self { lookout, limits, powers, record, budget }
    }

    /// The name of the unit that is watched.
    #[must_use]
    pub fn unit(&self) -> &str {
        self.lookout.unit.as_str()
    }

    /// Looks and judges, and changes nothing.
    #[must_use]
    pub fn judge(&self, now: Moment) -> Vec<Finding> {
        self.seen(now).findings
    }

    /// What earlier rounds have left.
    ///
    /// # Errors
    /// A storage failure.
    pub fn recorded(&self) -> Result<Record, Failure> {
        self.record.look()
    }

    /// Looks, judges, restarts what needs it as far as that is allowed, and writes down what it did.
    /// It blocks, for a few times the time limit of the bus at most.
    pub fn round(&self, now: Moment) -> Round {
        let Seen { findings, sources, unit } = self.seen(now);
        let act = self.act(&findings, &sources, now);
        let unrecorded = self.write_down(&findings, &act, &unit, now).err();
        Round { findings, act, unrecorded }
    }

    fn seen(&self, now: Moment) -> Seen {
        // A record that cannot be read is a missing comparison, and no reason to look away.
        let record = self.record.look().unwrap_or_default();
        let earlier = |unit: &UnitStatus| earlier(&record, unit, now);
        let unit = self.lookout.unit(earlier, now);
        let sources = self.lookout.sources();
        let findings = judge(self.unit(), &unit, &sources, &self.limits, now);
        Seen { findings, sources, unit }
    }

    fn act(&self, findings: &[Finding], sources: &[Watched], now: Moment) -> Act {
        let Some(ill) = findings.iter().find(|finding| finding.cure == Cure::Restart) else {
            return Act::None;
        };
        let permit = match ill.about {
            Subject::Source(_) => self.powers.stuck,
            Subject::Unit(_) => self.powers.down,
        };
        if permit == Permit::Withheld {
            return Act::Withheld;
        }
        let why = format!("{}: {}", ill.about.name(), ill.what);
        let progress = last_progress(sources);
        let ready = self.ready(progress, now);
        if ready > now {
            return Act::Later { at: ready, why };
        }
        // Counted before it is done: a monitor that falls over on it must not do so for ever.
        let grant = match self.budget.ask(self.unit(), progress, now) {
            Ok(grant) => grant,
            // A budget that cannot be kept is no budget: better no restart than restarts without end.
            Err(failure) => return Act::Uncounted { failure },
        };
        match self.lookout.bus.restart_unit(&self.lookout.unit) {
            Ok(()) => Act::Asked { grant, why },
            Err(error) => Act::Refused { error, why },
        }
    }

    /// When the budget lets the unit be restarted, without counting it.
    fn ready(&self, progress: Moment, now: Moment) -> Moment {
        let counts = self.budget.look().unwrap_or_default();
        let mut count = counts.get(self.unit()).copied().unwrap_or_default();
        count.ask(progress, now).at
    }

    fn write_down(
        &self,
        findings: &[Finding],
        act: &Act,
        unit: &UnitSeen,
        now: Moment,
    ) -> Result<(), Failure> {
        let restarted = |why: &String, outcome, error| Restarted {
            at: now,
            unit: self.unit().to_owned(),
            why: why.clone(),
            outcome,
            error,
        };
        self.record.change(|record| {
            record.note(findings, self.unit(), now);
            if let UnitSeen::Known { unit, .. } = unit {
                let (unit, restarts) = (unit.name.clone(), unit.restarts);
                record.note_count(Count { at: now, unit, restarts });
            }
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
        })
    }
}

struct Seen {
    findings: Vec<Finding>,
    sources: Vec<Watched>,
    unit: UnitSeen,
}

/// The oldest count within the window. A start by hand begins the count anew, which a smaller number shows.
fn earlier(record: &Record, unit: &UnitStatus, now: Moment) -> Option<Earlier> {
    let counts = record.counts.iter().filter(|count| count.unit == unit.name);
    let mut recent: Vec<&Count> =
        counts.filter(|count| count.at <= now && now.since(count.at) <= LOOP_WINDOW).collect();
    if let Some(anew) = recent.iter().rposition(|count| count.restarts > unit.restarts) {
        recent.drain(..=anew);
    }
    recent.first().map(|count| Earlier { at: count.at, restarts: count.restarts })
}

/// The newest progress of all: what any source achieved shows that the unit worked.
fn last_progress(sources: &[Watched]) -> Moment {
    let progress = sources.iter().filter_map(|source| match &source.told {
        Told::Course(course) => Some(course.last_progress),
        Told::NeverRun | Told::Nothing { .. } => None,
    });
    progress.max().unwrap_or_default()
}
