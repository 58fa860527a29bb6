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

mod effect;
mod event;
mod failed;
mod state;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::engine::{Backoff, Timestamp};

pub use self::effect::{Effect, RestartCause, Step};
pub use self::event::{Event, Extent};
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

impl Machine {
    /// Advances by one fact. The caller saves the new machine before it carries out the effects.
    pub fn step(&self, rules: &Rules, event: &Event, now: Timestamp) -> Step {
        let next = self.clone();
        match self.state {
            State::Idle { until } => next.idle(rules, until, event, now),
            State::Working(work) => next.working(rules, work, event, now),
            State::Completed => next.completed(rules, event, now),
            State::Error { until, resume, then } => next.error(until, resume, then, event, now),
            State::RateLimited { until, resume } => next.rate_limited(until, resume, event, now),
            State::AuthFailed { until, resume } => next.auth_failed(until, resume, event, now),
        }
    }

    /// When the machine must be told that it is [due](Event::Due), whatever else happens.
    #[must_use]
    pub fn deadline(&self, rules: &Rules) -> Timestamp {
        match self.state {
            State::Idle { until }
            | State::Error { until, .. }
            | State::RateLimited { until, .. }
            | State::AuthFailed { until, .. } => until,
            State::Working(_) => self.stuck_at(rules).min(self.worn_out_at(rules)),
            State::Completed => self.completed_at().after(rules.restart_delay_success),
        }
    }

    fn idle(mut self, rules: &Rules, until: Timestamp, event: &Event, now: Timestamp) -> Step {
        match event {
            Event::Due if until <= now => self.enter(Work::Looking, "looking for news", now),
            Event::Asked => self.enter(Work::Looking, "looking for news", now),
            Event::Started => {
                // A look that was cut short is begun anew at once, and one that is due earlier by
                // now is not put off.
                let due = self.last_look.map_or(now, |last| last.after(rules.poll_interval));
                self.state = State::Idle { until: until.min(due) };
                self.started(now)
            }
            Event::Due
            | Event::ReconcileDue
            | Event::FoundNews
            | Event::FoundNothing
            | Event::Progressed
            | Event::Attempted
            | Event::OnlyRetriesLeft
            | Event::NewsAsked
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

    fn working(mut self, rules: &Rules, work: Work, event: &Event, now: Timestamp) -> Step {
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
            Event::ReconcileDue if work == Work::Looking => {
                self.relisted = false;
                let reason = "listing everything once more, as reconcile_interval asks";
                self.begin(Extent::Reconcile, reason, now)
            }
            Event::FoundNews if work == Work::Looking => {
                self.relisted = false;
                self.begin(Extent::News, "something new at the source", now)
            }
            Event::FoundNothing if work == Work::Looking => {
                self.relisted = false;
                self.rest(rules, now)
            }
            Event::FoundNews if work == Work::Downloading => {
                self.relisted = false;
                self.last_look = Some(now);
                self.list_news("something new at the source, beside what waits for a retry", now)
            }
            Event::FoundNothing if work == Work::Downloading => {
                self.relisted = false;
                self.last_look = Some(now);
                self.unchanged()
            }
            Event::OnlyRetriesLeft if self.is_look_due(rules, work, now) => self.look_beside(now),
            Event::NewsAsked if work == Work::Downloading => self.look_beside(now),
            Event::Listed if work == Work::Collecting => {
                self.incomplete_listings = 0;
                self.listing_news = false;
                self.note_success(now);
                self.enter(Work::Downloading, "everything is listed", now)
            }
            Event::Settled if work == Work::Downloading => self.complete(now),
            Event::Progressed => {
                self.note_success(now);
                self.unchanged()
            }
            Event::Attempted => {
                // No progress, and no standstill either: an item has so many attempts and no more.
                self.watched_since = self.watched_since.max(now);
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
            | Event::ReconcileDue
            | Event::FoundNews
            | Event::FoundNothing
            | Event::OnlyRetriesLeft
            | Event::NewsAsked
            | Event::Listed
            | Event::Settled
            | Event::CircuitClosed => self.unchanged(),
        }
    }

    fn completed(mut self, rules: &Rules, event: &Event, now: Timestamp) -> Step {
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
            | Event::ReconcileDue
            | Event::FoundNews
            | Event::FoundNothing
            | Event::Progressed
            | Event::Attempted
            | Event::OnlyRetriesLeft
            | Event::NewsAsked
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

    fn error(
        self,
        until: Timestamp,
        resume: Work,
        then: Then,
        event: &Event,
        now: Timestamp,
    ) -> Step {
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
            | Event::ReconcileDue
            | Event::FoundNews
            | Event::FoundNothing
            | Event::Attempted
            | Event::OnlyRetriesLeft
            | Event::NewsAsked
            | Event::Listed
            | Event::Settled
            | Event::Resting { .. }
            | Event::CredentialChanged
            | Event::CredentialSame => self.unchanged(),
        }
    }

    fn rate_limited(self, until: Timestamp, resume: Work, event: &Event, now: Timestamp) -> Step {
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
            | Event::ReconcileDue
            | Event::FoundNews
            | Event::FoundNothing
            | Event::Attempted
            | Event::OnlyRetriesLeft
            | Event::NewsAsked
            | Event::Listed
            | Event::Settled
            | Event::Resting { .. }
            | Event::CredentialChanged
            | Event::CredentialSame
            | Event::CircuitOpen { .. }
            | Event::CircuitClosed => self.unchanged(),
        }
    }

    fn auth_failed(self, until: Timestamp, resume: Work, event: &Event, now: Timestamp) -> Step {
        match event {
            Event::Due if until <= now => self.restart(resume, RestartCause::Authentication, now),
            Event::CredentialChanged => self.restart(resume, RestartCause::Authentication, now),
            Event::Asked => self.resume(resume, "trying again", now),
            Event::Started => self.started(now),
            Event::Progressed => self.progressed_while_waiting(now),
            Event::Due
            | Event::ReconcileDue
            | Event::FoundNews
            | Event::FoundNothing
            | Event::Attempted
            | Event::OnlyRetriesLeft
            | Event::NewsAsked
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
    fn started(mut self, now: Timestamp) -> Step {
        self.running_since = now;
        self.stuck_rung = 0;
        self.credential = Credential::Good;
        self.unchanged()
    }

    fn begin(mut self, extent: Extent, reason: &str, now: Timestamp) -> Step {
        let session = self.next_session_id(now);
        self.session = Some(Session { id: session.clone(), started: now, completed: None });
        self.last_look = Some(now);
        self.note_success(now);
        let mut step = self.enter(Work::Collecting, reason, now);
        step.effects.insert(0, Effect::Begin { session, extent });
        step
    }

    fn is_look_due(&self, rules: &Rules, work: Work, now: Timestamp) -> bool {
        work == Work::Downloading && self.next_look(rules, now) <= now
    }

    /// Asks for news while the download goes on. One that fails is not made again at once, but
    /// after an interval in which what is left may be worked on.
    fn look_beside(mut self, now: Timestamp) -> Step {
        self.last_look = Some(now);
        self.unchanged().and(Effect::Look)
    }

    /// Lists what has come meanwhile in the same session.
    pub(super) fn list_news(mut self, reason: &str, now: Timestamp) -> Step {
        self.listing_news = true;
        self.enter(Work::Collecting, reason, now)
    }

    fn rest(mut self, rules: &Rules, now: Timestamp) -> Step {
        self.last_look = Some(now);
        self.note_success(now);
        let until = self.next_look(rules, now);
        self.go(State::Idle { until }, "nothing new; waiting for the next look", now)
            .and(Effect::Rest)
    }

    fn complete(mut self, now: Timestamp) -> Step {
        self.note_success(now);
        if let Some(session) = &mut self.session {
            session.completed = Some(now);
        }
        self.go(State::Completed, "every listed item is settled", now).and(Effect::Finish)
    }

    /// The ladder of a state without progress: begin the stage anew, then the whole worker.
    fn overdue(mut self, rules: &Rules, work: Work, now: Timestamp) -> Step {
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
    fn resume(self, work: Work, reason: &str, now: Timestamp) -> Step {
        let mut step = self.go_on(work, reason, now);
        step.effects.insert(0, Effect::Prove);
        step
    }

    /// Takes work up again after a wait for the quota: the gate lets one request out first, and a
    /// proof besides would only use up more of it.
    fn go_on(mut self, work: Work, reason: &str, now: Timestamp) -> Step {
        self.credential = Credential::Good;
        self.enter(work, reason, now)
    }

    fn restart(mut self, work: Work, cause: RestartCause, now: Timestamp) -> Step {
        self.note_restart(cause, now);
        self.retry_count = 0;
        self.watched_since = now;
        self.go(State::Working(work), cause.reason(), now).and(Effect::Restart { cause })
    }

    fn enter(mut self, work: Work, reason: &str, now: Timestamp) -> Step {
        self.watched_since = now;
        self.stuck_rung = 0;
        self.go(State::Working(work), reason, now).and(work.effect())
    }

    fn progressed_while_waiting(mut self, now: Timestamp) -> Step {
        self.last_progress = now;
        self.unchanged()
    }

    fn go(mut self, state: State, reason: impl Into<String>, now: Timestamp) -> Step {
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
