//! The life of a source: one explicit state, moved by facts, never by a clock of its own.
//!
//! ```text
//!           something new          listed              all settled
//!   Idle ─────────────────▶ Collecting ──▶ Downloading ───────────▶ Completed ──▶ Idle
//!     │ ▲                      │  ▲            │  ▲
//!     ▼ │ due                  ▼  │ due        ▼  │ due
//!   RateLimited · Error · AuthFailed: each knows its end, its reason and what it returns to
//! ```
//!
//! `docs/machine.md` holds every edge of it; a test draws them from this code.
//! Whatever the state, the machine knows when it must be woken ([`Machine::deadline`]).
//! A fact that comes late or twice changes nothing.

mod failed;
mod state;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::engine::{Backoff, Draw, Failure, Moment, Scope, SessionId};

pub use self::state::{
    Credential, LastError, LastRestart, Machine, Session, State, Status, Then, Work,
};

/// What the configuration says about sessions, waits and restarts.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    pub backoff: Backoff,
    /// Retries of the session before it is started anew; 0 where retrying is switched off.
    pub max_retries: u32,
    /// Errors without progress between them, over restarts, before it is started anew.
    pub max_consecutive_errors: u32,
    /// The wait when a server names no time.
    pub rate_limit_duration: Duration,
    /// How long an active state may go without progress.
    pub stuck_threshold: Duration,
    /// How long one process works before it is started anew.
    pub max_execution_time: Duration,
    pub restart_delay_success: Duration,
    pub restart_delay_auth: Duration,
    pub restart_delay_errors: Duration,
    /// The shortest wait after the failures of items amounted to one of the session.
    pub recovery_timeout: Duration,
    pub poll_interval: Duration,
}

/// A fact about the outside world.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// The worker has started, for the first time or anew.
    Started,
    /// A person asks for it now: a wait that only we chose is over.
    Asked,
    /// A deadline has passed.
    Due,
    /// There is something new at the source.
    FoundNews,
    /// There is nothing new at the source.
    FoundNothing,
    /// Something durable was achieved: a page listed, an item settled.
    Progressed,
    /// Everything there is has been listed.
    Listed,
    /// Every listed item is settled.
    Settled,
    /// Every unsettled item waits for its own retry, the first until then.
    Resting { until: Moment },
    /// The listing or the session failed.
    Failed { scope: Scope, failure: Failure, draw: Draw },
    /// There is another credential than the one that was refused.
    CredentialChanged,
    /// The credential was read again, and is the one that was refused.
    CredentialSame,
    /// A breaker lets nothing through before then.
    CircuitOpen { until: Moment, reason: String },
    /// The breaker that was waited for lets everything through again.
    CircuitClosed,
}

/// What is to be listed in a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Extent {
    /// What has come since the last session; everything, if there was none.
    News,
    /// Everything, since the source has forgotten our place in its changes.
    Everything,
}

/// Why the worker is started anew.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RestartCause {
    Completed,
    Errors,
    Authentication,
    Stuck,
    ExecutionTime,
}

/// Something the worker must do, in the order given.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Ask the source for news.
    Look,
    /// Open a session in the ledger.
    Begin { session: SessionId, extent: Extent },
    /// List on from the saved place.
    Collect,
    /// List everything in the open session, from the beginning, pinning a new cursor first.
    ListAgain,
    /// Fetch what is listed and not settled.
    Download,
    /// Ask with one request at a time until the source has proved itself.
    Prove,
    /// Send nothing before this moment.
    Hold { until: Moment },
    /// Start nothing more; what is in flight may end.
    Pause,
    /// Drop what is in flight and read the credential again.
    Renew,
    /// Drop what is in flight and begin the stage anew.
    Rebuild,
    /// Close the session in the ledger.
    Finish,
    /// There is nothing to do until the next look.
    Rest,
    /// Tell a person.
    Alert { message: String },
    /// Leave, to be started anew.
    Restart { cause: RestartCause },
}

/// The machine after one fact, and what must be done to get there.
#[derive(Debug, PartialEq)]
#[must_use = "an effect that is dropped never happens"]
pub struct Step {
    pub machine: Machine,
    pub effects: Vec<Effect>,
}

impl Machine {
    /// Advances by one fact. The caller saves the new machine before it carries out the effects.
    pub fn step(&self, rules: &Rules, event: &Event, now: Moment) -> Step {
        let next = self.clone();
        match self.state {
            State::Idle { until } => next.idle(until, event, now),
            State::Working(work) => next.working(rules, work, event, now),
            State::Completed => next.completed(rules, event, now),
            State::Error { until, resume, then } => next.error(until, resume, then, event, now),
            State::RateLimited { until, resume } => next.rate_limited(until, resume, event, now),
            State::AuthFailed { until, resume } => next.auth_failed(until, resume, event, now),
        }
    }

    /// When the machine must be told that it is [due](Event::Due), whatever else happens.
    #[must_use]
    pub fn deadline(&self, rules: &Rules) -> Moment {
        match self.state {
            State::Idle { until }
            | State::Error { until, .. }
            | State::RateLimited { until, .. }
            | State::AuthFailed { until, .. } => until,
            State::Working(_) => self.stuck_at(rules).min(self.worn_out_at(rules)),
            State::Completed => self.completed_at().after(rules.restart_delay_success),
        }
    }

    fn idle(self, until: Moment, event: &Event, now: Moment) -> Step {
        match event {
            Event::Due if until <= now => self.enter(Work::Looking, "looking for news", now),
            Event::Asked => self.enter(Work::Looking, "looking for news", now),
            Event::Started => self.started(now),
            Event::Due
            | Event::FoundNews
            | Event::FoundNothing
            | Event::Progressed
            | Event::Listed
            | Event::Settled
            | Event::Resting { .. }
            | Event::Failed { .. }
            | Event::CredentialChanged
            | Event::CredentialSame
            | Event::CircuitOpen { .. }
            | Event::CircuitClosed => self.unchanged(),
        }
    }

    fn working(mut self, rules: &Rules, work: Work, event: &Event, now: Moment) -> Step {
        match event {
            Event::Started => {
                self.watched_since = now;
                let was_failing = self.consecutive_errors > 0;
                let step = self.started(now);
                // The source may still be down, and that is no item's fault.
                let step = if was_failing { step.and(Effect::Prove) } else { step };
                step.and(work.effect())
            }
            Event::Due => self.overdue(rules, work, now),
            Event::FoundNews if work == Work::Looking => {
                self.relisted = false;
                self.begin(Extent::News, "something new at the source", now)
            }
            Event::FoundNothing if work == Work::Looking => {
                self.relisted = false;
                self.rest(rules, now)
            }
            Event::Listed if work == Work::Collecting => {
                self.note_success(now);
                self.enter(Work::Downloading, "everything is listed", now)
            }
            Event::Settled if work == Work::Downloading => self.complete(now),
            Event::Progressed => {
                self.note_success(now);
                self.unchanged()
            }
            Event::Resting { until } => {
                self.watched_since = self.watched_since.max(*until);
                self.unchanged()
            }
            Event::Failed { scope, failure, draw } => {
                self.failed(rules, work, *scope, failure, *draw, now)
            }
            Event::CredentialChanged => self.renewed(work, now),
            Event::CredentialSame => self.refused(rules, work, now),
            Event::CircuitOpen { until, reason } => self.shut_out(work, *until, reason, now),
            Event::Asked
            | Event::FoundNews
            | Event::FoundNothing
            | Event::Listed
            | Event::Settled
            | Event::CircuitClosed => self.unchanged(),
        }
    }

    fn completed(mut self, rules: &Rules, event: &Event, now: Moment) -> Step {
        match event {
            Event::Due if self.deadline(rules) <= now => {
                let until = self.next_look(rules, now);
                self.note_restart(RestartCause::Completed, now);
                self.go(State::Idle { until }, "waiting for the next look", now)
                    .and(Effect::Restart { cause: RestartCause::Completed })
            }
            Event::Asked => self.enter(Work::Looking, "looking for news", now),
            Event::Started => self.started(now),
            Event::Due
            | Event::FoundNews
            | Event::FoundNothing
            | Event::Progressed
            | Event::Listed
            | Event::Settled
            | Event::Resting { .. }
            | Event::Failed { .. }
            | Event::CredentialChanged
            | Event::CredentialSame
            | Event::CircuitOpen { .. }
            | Event::CircuitClosed => self.unchanged(),
        }
    }

    fn error(self, until: Moment, resume: Work, then: Then, event: &Event, now: Moment) -> Step {
        match event {
            Event::Due if until <= now => match then {
                Then::Resume => self.resume(resume, "trying again", now),
                Then::Restart => self.restart(resume, RestartCause::Errors, now),
            },
            Event::Asked => self.resume(resume, "trying again", now),
            Event::Failed { failure, draw, .. } => {
                let longer = |until| State::Error { until, resume, then };
                self.throttled_while_waiting(until, longer, failure, *draw, now)
            }
            Event::CircuitOpen { until: later, .. } => {
                let until = until.max(*later);
                Self { state: State::Error { until, resume, then }, ..self }.unchanged()
            }
            Event::CircuitClosed => self.resume(resume, "the breaker is closed: trying again", now),
            Event::Started => self.started(now),
            Event::Progressed => self.progressed_while_waiting(now),
            Event::Due
            | Event::FoundNews
            | Event::FoundNothing
            | Event::Listed
            | Event::Settled
            | Event::Resting { .. }
            | Event::CredentialChanged
            | Event::CredentialSame => self.unchanged(),
        }
    }

    fn rate_limited(self, until: Moment, resume: Work, event: &Event, now: Moment) -> Step {
        match event {
            Event::Due if until <= now => self.go_on(resume, "the rate limit is over", now),
            Event::Failed { failure, draw, .. } => {
                let longer = |until| State::RateLimited { until, resume };
                self.throttled_while_waiting(until, longer, failure, *draw, now)
            }
            Event::Started => self.started(now),
            Event::Progressed => self.progressed_while_waiting(now),
            Event::Asked
            | Event::Due
            | Event::FoundNews
            | Event::FoundNothing
            | Event::Listed
            | Event::Settled
            | Event::Resting { .. }
            | Event::CredentialChanged
            | Event::CredentialSame
            | Event::CircuitOpen { .. }
            | Event::CircuitClosed => self.unchanged(),
        }
    }

    fn auth_failed(self, until: Moment, resume: Work, event: &Event, now: Moment) -> Step {
        match event {
            Event::Due if until <= now => self.restart(resume, RestartCause::Authentication, now),
            Event::CredentialChanged => self.restart(resume, RestartCause::Authentication, now),
            Event::Asked => self.resume(resume, "trying again", now),
            Event::Started => self.started(now),
            Event::Progressed => self.progressed_while_waiting(now),
            Event::Due
            | Event::FoundNews
            | Event::FoundNothing
            | Event::Listed
            | Event::Settled
            | Event::Resting { .. }
            | Event::Failed { .. }
            | Event::CredentialSame
            | Event::CircuitOpen { .. }
            | Event::CircuitClosed => self.unchanged(),
        }
    }
}

/// Moves that several states share.
impl Machine {
    fn started(mut self, now: Moment) -> Step {
        self.running_since = now;
        self.stuck_rung = 0;
        self.credential = Credential::Good;
        self.unchanged()
    }

    fn begin(mut self, extent: Extent, reason: &str, now: Moment) -> Step {
        let session = self.next_session_id(now);
        self.session = Some(Session { id: session.clone(), started: now, completed: None });
        self.last_look = Some(now);
        self.note_success(now);
        let mut step = self.enter(Work::Collecting, reason, now);
        step.effects.insert(0, Effect::Begin { session, extent });
        step
    }

    fn rest(mut self, rules: &Rules, now: Moment) -> Step {
        self.last_look = Some(now);
        self.note_success(now);
        let until = self.next_look(rules, now);
        self.go(State::Idle { until }, "nothing new; waiting for the next look", now)
            .and(Effect::Rest)
    }

    fn complete(mut self, now: Moment) -> Step {
        self.note_success(now);
        if let Some(session) = &mut self.session {
            session.completed = Some(now);
        }
        self.go(State::Completed, "every listed item is settled", now).and(Effect::Finish)
    }

    /// The ladder of a state without progress: begin the stage anew, then the whole worker.
    fn overdue(mut self, rules: &Rules, work: Work, now: Moment) -> Step {
        if self.worn_out_at(rules) <= now {
            return self.restart(work, RestartCause::ExecutionTime, now);
        }
        if now < self.stuck_at(rules) {
            return self.unchanged();
        }
        self.stuck_rung += 1;
        self.watched_since = now;
        if self.stuck_rung == 1 {
            self.credential = Credential::Good;
            return self.unchanged().and(Effect::Rebuild).and(work.effect());
        }
        let message = format!("no progress since {} s", now.since(self.last_progress).as_secs());
        let mut step = self.restart(work, RestartCause::Stuck, now);
        step.effects.insert(0, Effect::Alert { message });
        step
    }

    /// Takes work up again that the source let fall.
    fn resume(self, work: Work, reason: &str, now: Moment) -> Step {
        let mut step = self.go_on(work, reason, now);
        step.effects.insert(0, Effect::Prove);
        step
    }

    /// Takes work up again after a wait for the quota: the gate lets one request out first, and a
    /// proof besides would only use up more of it.
    fn go_on(mut self, work: Work, reason: &str, now: Moment) -> Step {
        self.credential = Credential::Good;
        self.enter(work, reason, now)
    }

    fn restart(mut self, work: Work, cause: RestartCause, now: Moment) -> Step {
        self.note_restart(cause, now);
        self.retry_count = 0;
        self.watched_since = now;
        self.go(State::Working(work), cause.reason(), now).and(Effect::Restart { cause })
    }

    fn enter(mut self, work: Work, reason: &str, now: Moment) -> Step {
        self.watched_since = now;
        self.stuck_rung = 0;
        self.go(State::Working(work), reason, now).and(work.effect())
    }

    fn progressed_while_waiting(mut self, now: Moment) -> Step {
        self.last_progress = now;
        self.unchanged()
    }

    fn go(mut self, state: State, reason: impl Into<String>, now: Moment) -> Step {
        if state.status() != self.state.status() {
            self.state_since = now;
        }
        self.state = state;
        self.reason = reason.into();
        self.unchanged()
    }

    fn unchanged(self) -> Step {
        Step { machine: self, effects: Vec::new() }
    }
}

impl Step {
    fn and(mut self, effect: Effect) -> Self {
        self.effects.push(effect);
        self
    }
}

impl Work {
    fn effect(self) -> Effect {
        match self {
            Self::Looking => Effect::Look,
            Self::Collecting => Effect::Collect,
            Self::Downloading => Effect::Download,
        }
    }
}

impl RestartCause {
    const ALL: [Self; 5] =
        [Self::Completed, Self::Errors, Self::Authentication, Self::Stuck, Self::ExecutionTime];

    /// The word in the state file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Errors => "errors",
            Self::Authentication => "authentication",
            Self::Stuck => "stuck",
            Self::ExecutionTime => "execution_time",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.name() == name)
    }

    /// Why, as a person reads it.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Completed => "the session is completed",
            Self::Errors => "starting anew after too many errors",
            Self::Authentication => "starting anew with the credential read again",
            Self::Stuck => "starting anew, since nothing moved",
            Self::ExecutionTime => "starting anew after the longest execution time",
        }
    }
}
