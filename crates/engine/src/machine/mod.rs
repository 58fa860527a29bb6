//! State machine of a source: one explicit state, changed by events only. It never reads a clock.
//!
//! ```text
//!           changes found          listed              all settled
//!   Idle ─────────────────▶ Collecting ──▶ Downloading ───────────▶ Completed ──▶ Idle
//!     │ ▲                      │  ▲            │  ▲
//!     ▼ │ due                  ▼  │ due        ▼  │ due
//!   RateLimited · Error · AuthFailed: each has an end, a reason and a phase to resume
//! ```
//!
//! `docs/machine.md` shows every edge; a test compares it with this code.
//! Every state has a deadline by which the machine must be called ([`StateMachine::deadline`]).
//! A late or repeated event changes nothing.

mod config;
mod effect;
mod error_history;
mod event;
mod listing_mode;
mod on_failure;
mod progress_tracker;
mod restart_history;
mod state;
mod sync_history;
#[cfg(test)]
mod tests;

use crate::Timestamp;

pub use self::config::MachineConfig;
pub use self::effect::{Effect, Step};
pub use self::error_history::{ErrorHistory, LastError};
pub use self::event::{Event, SyncScope};
pub use self::listing_mode::ListingMode;
pub use self::progress_tracker::ProgressTracker;
pub use self::restart_history::{LastRestart, RestartCause, RestartHistory};
pub use self::state::{
    AfterWait, CredentialState, Session, State, StateMachine, Status, SyncPhase,
};
pub use self::sync_history::SyncHistory;

impl StateMachine {
    /// Advances by one event. The caller saves the new machine before it performs the effects.
    pub fn step(&self, config: &MachineConfig, event: &Event, now: Timestamp) -> Step {
        let next = self.clone();
        match self.state {
            State::Idle { until } => next.step_idle(config, until, event, now),
            State::Working(phase) => next.step_working(config, phase, event, now),
            State::Completed => next.step_completed(config, event, now),
            State::Error { until, resume_phase, after_wait } => {
                next.step_error(until, resume_phase, after_wait, event, now)
            }
            State::RateLimited { until, resume_phase } => {
                next.step_rate_limited(until, resume_phase, event, now)
            }
            State::AuthFailed { until, resume_phase } => {
                next.step_auth_failed(until, resume_phase, event, now)
            }
        }
    }

    /// Returns the time at which the machine must get [`Event::DeadlineReached`] in any case.
    #[must_use]
    pub fn deadline(&self, config: &MachineConfig) -> Timestamp {
        match self.state {
            State::Idle { until }
            | State::Error { until, .. }
            | State::RateLimited { until, .. }
            | State::AuthFailed { until, .. } => until,
            State::Working(_) => self.stuck_deadline(config).min(self.execution_deadline(config)),
            State::Completed => self.completed_at().after(config.restart_delay_success),
        }
    }

    fn step_idle(
        mut self,
        config: &MachineConfig,
        until: Timestamp,
        event: &Event,
        now: Timestamp,
    ) -> Step {
        match event {
            Event::DeadlineReached if until <= now => {
                self.start_phase(SyncPhase::Polling, "checking for changes", now)
            }
            Event::RunRequested => {
                self.start_phase(SyncPhase::Polling, "checking for changes", now)
            }
            Event::Started => {
                // An interrupted poll restarts at once, and a poll that is due earlier after a
                // change of the interval is not delayed.
                let due = self.sync.last_poll.map_or(now, |last| last.after(config.poll_interval));
                self.state = State::Idle { until: until.min(due) };
                self.on_started(now)
            }
            Event::DeadlineReached
            | Event::ReconcileDue
            | Event::ChangesFound
            | Event::NoChanges
            | Event::ProgressMade
            | Event::AttemptsFailed
            | Event::OnlyRetriesLeft
            | Event::PollRequested
            | Event::ListingCompleted
            | Event::AllItemsSettled
            | Event::IdleUntil { .. }
            | Event::Failed { .. }
            | Event::CredentialChanged
            | Event::CredentialUnchanged
            | Event::CircuitOpen { .. }
            | Event::CircuitClosed => self.into_step(),
        }
    }

    fn resume_phase(mut self, phase: SyncPhase, now: Timestamp) -> Step {
        self.progress.expected_since = now;
        let was_failing = self.errors.consecutive > 0;
        let step = self.on_started(now);
        // The source may still be down, which must not count against items.
        let step = if was_failing {
            step.with_effect(Effect::RequireProbes).with_effect(Effect::Probe)
        } else {
            step
        };
        step.with_effect(phase.start_effect())
    }

    fn step_working(
        mut self,
        config: &MachineConfig,
        phase: SyncPhase,
        event: &Event,
        now: Timestamp,
    ) -> Step {
        match event {
            Event::Started => self.resume_phase(phase, now),
            Event::DeadlineReached => self.on_working_deadline(config, phase, now),
            Event::ReconcileDue | Event::ChangesFound | Event::NoChanges => {
                self.on_poll_result(config, phase, event, now)
            }
            Event::OnlyRetriesLeft if self.is_poll_due(config, phase, now) => {
                self.poll_during_download(now)
            }
            Event::PollRequested if phase == SyncPhase::Downloading => {
                self.poll_during_download(now)
            }
            Event::ListingCompleted if phase == SyncPhase::Collecting => {
                self.listing.record_completed();
                self.record_progress(now);
                self.start_phase(SyncPhase::Downloading, "everything is listed", now)
            }
            Event::AllItemsSettled if phase == SyncPhase::Downloading => self.complete_session(now),
            Event::ProgressMade => {
                self.record_progress(now);
                self.into_step()
            }
            Event::AttemptsFailed => {
                // Neither progress nor stuck, since the attempts of an item are limited.
                self.progress.postpone(now);
                self.into_step()
            }
            Event::IdleUntil { until } => {
                self.progress.postpone(*until);
                self.into_step()
            }
            Event::Failed { scope, failure, sample } => {
                self.on_failure(config, phase, *scope, failure, *sample, now)
            }
            Event::CredentialChanged => self.on_credential_changed(phase, now),
            Event::CredentialUnchanged => self.enter_auth_failed(config, phase, now),
            Event::CircuitOpen { until, reason } => {
                self.on_circuit_open(phase, *until, reason, now)
            }
            Event::RunRequested
            | Event::OnlyRetriesLeft
            | Event::PollRequested
            | Event::ListingCompleted
            | Event::AllItemsSettled
            | Event::CircuitClosed => self.into_step(),
        }
    }

    /// Handles the result of a poll, which is sent between two sessions or during a download.
    fn on_poll_result(
        mut self,
        config: &MachineConfig,
        phase: SyncPhase,
        event: &Event,
        now: Timestamp,
    ) -> Step {
        match (event, phase) {
            (Event::ReconcileDue, SyncPhase::Polling) => {
                self.listing.is_full_resync = false;
                let reason = "listing everything again, since reconcile_interval has passed";
                self.begin_session(SyncScope::Reconcile, reason, now)
            }
            (Event::ChangesFound, SyncPhase::Polling) => {
                self.listing.is_full_resync = false;
                self.begin_session(SyncScope::Incremental, "changes found at the source", now)
            }
            (Event::NoChanges, SyncPhase::Polling) => {
                self.listing.is_full_resync = false;
                self.become_idle(config, now)
            }
            (Event::ChangesFound, SyncPhase::Downloading) => {
                self.listing.is_full_resync = false;
                self.sync.last_poll = Some(now);
                self.list_changes("changes found at the source while items wait for a retry", now)
            }
            (Event::NoChanges, SyncPhase::Downloading) => {
                self.listing.is_full_resync = false;
                self.sync.record_unchanged_during_download(now);
                self.into_step()
            }
            _ => self.into_step(),
        }
    }

    fn step_completed(mut self, config: &MachineConfig, event: &Event, now: Timestamp) -> Step {
        match event {
            Event::DeadlineReached if self.deadline(config) <= now => {
                let until = self.next_poll_at(config, now);
                self.restarts.record(RestartCause::Completed, now);
                self.transition_to(State::Idle { until }, "waiting for the next poll", now)
                    .with_effect(Effect::Restart { cause: RestartCause::Completed })
            }
            Event::RunRequested => {
                self.start_phase(SyncPhase::Polling, "checking for changes", now)
            }
            Event::Started => self.on_started(now),
            Event::DeadlineReached
            | Event::ReconcileDue
            | Event::ChangesFound
            | Event::NoChanges
            | Event::ProgressMade
            | Event::AttemptsFailed
            | Event::OnlyRetriesLeft
            | Event::PollRequested
            | Event::ListingCompleted
            | Event::AllItemsSettled
            | Event::IdleUntil { .. }
            | Event::Failed { .. }
            | Event::CredentialChanged
            | Event::CredentialUnchanged
            | Event::CircuitOpen { .. }
            | Event::CircuitClosed => self.into_step(),
        }
    }

    fn step_error(
        self,
        until: Timestamp,
        resume_phase: SyncPhase,
        after_wait: AfterWait,
        event: &Event,
        now: Timestamp,
    ) -> Step {
        match event {
            Event::DeadlineReached if until <= now => match after_wait {
                AfterWait::Resume => self.resume_after_failure(resume_phase, now),
                AfterWait::Restart => self.request_restart(resume_phase, RestartCause::Errors, now),
            },
            Event::RunRequested => self.resume_after_failure(resume_phase, now),
            Event::Failed { failure, sample, .. } => {
                let extended = |until| State::Error { until, resume_phase, after_wait };
                self.on_rate_limited_while_waiting(until, extended, failure, *sample, now)
            }
            Event::CircuitOpen { until: later, .. } => {
                let until = until.max(*later);
                Self { state: State::Error { until, resume_phase, after_wait }, ..self }.into_step()
            }
            Event::CircuitClosed => {
                self.resume_with_probe(resume_phase, "the circuit breaker is closed: retrying", now)
            }
            Event::Started => self.on_started(now),
            Event::ProgressMade => self.on_progress_while_waiting(now),
            Event::DeadlineReached
            | Event::ReconcileDue
            | Event::ChangesFound
            | Event::NoChanges
            | Event::AttemptsFailed
            | Event::OnlyRetriesLeft
            | Event::PollRequested
            | Event::ListingCompleted
            | Event::AllItemsSettled
            | Event::IdleUntil { .. }
            | Event::CredentialChanged
            | Event::CredentialUnchanged => self.into_step(),
        }
    }

    fn step_rate_limited(
        self,
        until: Timestamp,
        resume_phase: SyncPhase,
        event: &Event,
        now: Timestamp,
    ) -> Step {
        match event {
            Event::DeadlineReached if until <= now => {
                self.reenter_phase(resume_phase, "the rate limit is over", now)
            }
            Event::Failed { failure, sample, .. } => {
                let extended = |until| State::RateLimited { until, resume_phase };
                self.on_rate_limited_while_waiting(until, extended, failure, *sample, now)
            }
            Event::Started => self.on_started(now),
            Event::ProgressMade => self.on_progress_while_waiting(now),
            Event::RunRequested
            | Event::DeadlineReached
            | Event::ReconcileDue
            | Event::ChangesFound
            | Event::NoChanges
            | Event::AttemptsFailed
            | Event::OnlyRetriesLeft
            | Event::PollRequested
            | Event::ListingCompleted
            | Event::AllItemsSettled
            | Event::IdleUntil { .. }
            | Event::CredentialChanged
            | Event::CredentialUnchanged
            | Event::CircuitOpen { .. }
            | Event::CircuitClosed => self.into_step(),
        }
    }

    fn step_auth_failed(
        self,
        until: Timestamp,
        resume_phase: SyncPhase,
        event: &Event,
        now: Timestamp,
    ) -> Step {
        match event {
            Event::DeadlineReached if until <= now => {
                self.request_restart(resume_phase, RestartCause::Authentication, now)
            }
            Event::CredentialChanged => {
                self.request_restart(resume_phase, RestartCause::Authentication, now)
            }
            Event::RunRequested => self.resume_after_failure(resume_phase, now),
            Event::Started => self.on_started(now),
            Event::ProgressMade => self.on_progress_while_waiting(now),
            Event::DeadlineReached
            | Event::ReconcileDue
            | Event::ChangesFound
            | Event::NoChanges
            | Event::AttemptsFailed
            | Event::OnlyRetriesLeft
            | Event::PollRequested
            | Event::ListingCompleted
            | Event::AllItemsSettled
            | Event::IdleUntil { .. }
            | Event::Failed { .. }
            | Event::CredentialUnchanged
            | Event::CircuitOpen { .. }
            | Event::CircuitClosed => self.into_step(),
        }
    }
}

/// Transitions shared by several states.
impl StateMachine {
    fn on_started(mut self, now: Timestamp) -> Step {
        self.running_since = now;
        self.progress.stuck_escalation_level = 0;
        self.credential = CredentialState::Valid;
        self.into_step()
    }

    fn begin_session(mut self, sync_scope: SyncScope, reason: &str, now: Timestamp) -> Step {
        let session = self.next_session_id(now);
        self.session = Some(Session { id: session.clone(), started_at: now, completed_at: None });
        self.sync.begin_session(now);
        self.record_progress(now);
        let mut step = self.start_phase(SyncPhase::Collecting, reason, now);
        step.effects.insert(0, Effect::OpenSession { session, sync_scope });
        step
    }

    fn is_poll_due(&self, config: &MachineConfig, phase: SyncPhase, now: Timestamp) -> bool {
        phase == SyncPhase::Downloading && self.next_poll_at(config, now) <= now
    }

    /// Polls while the download continues. A failed poll is not repeated at once, but after an
    /// interval in which the remaining items are processed.
    fn poll_during_download(mut self, now: Timestamp) -> Step {
        self.sync.start_poll_during_download(now);
        self.into_step().with_effect(Effect::Poll)
    }

    /// Lists changes that were found during the download, in the same session.
    pub(super) fn list_changes(mut self, reason: &str, now: Timestamp) -> Step {
        self.listing.is_listing_changes = true;
        self.sync.begin_listing(now);
        self.start_phase(SyncPhase::Collecting, reason, now)
    }

    fn become_idle(mut self, config: &MachineConfig, now: Timestamp) -> Step {
        self.sync.record_unchanged(now);
        self.record_progress(now);
        let until = self.next_poll_at(config, now);
        self.transition_to(State::Idle { until }, "no changes; waiting for the next poll", now)
            .with_effect(Effect::BecomeIdle)
    }

    fn complete_session(mut self, now: Timestamp) -> Step {
        self.record_progress(now);
        self.sync.record_settled();
        if let Some(session) = &mut self.session {
            session.completed_at = Some(now);
        }
        self.transition_to(State::Completed, "every listed item is settled", now)
            .with_effect(Effect::CloseSession)
    }

    /// Handles the deadline of a working state. Without progress, restarts the phase first and then
    /// the worker.
    fn on_working_deadline(
        mut self,
        config: &MachineConfig,
        phase: SyncPhase,
        now: Timestamp,
    ) -> Step {
        if self.execution_deadline(config) <= now {
            return self.request_restart(phase, RestartCause::ExecutionTime, now);
        }
        if now < self.stuck_deadline(config) {
            return self.into_step();
        }
        if self.progress.escalate(now) == 1 {
            self.credential = CredentialState::Valid;
            return self
                .into_step()
                .with_effect(Effect::RestartPhase)
                .with_effect(phase.start_effect());
        }
        let message = format!("no progress for {} s", now.since(self.progress.last_at).as_secs());
        let mut step = self.request_restart(phase, RestartCause::Stuck, now);
        step.effects.insert(0, Effect::Alert { message });
        step
    }

    /// Resumes work after a failure of the session.
    fn resume_after_failure(self, phase: SyncPhase, now: Timestamp) -> Step {
        let mut step = self.resume_with_probe(phase, "retrying", now);
        step.effects.insert(0, Effect::RequireProbes);
        step
    }

    /// Resumes work with a probe first. That is enough after a wait for a circuit breaker: it has
    /// closed after successes, or by hand.
    fn resume_with_probe(self, phase: SyncPhase, reason: &str, now: Timestamp) -> Step {
        let mut step = self.reenter_phase(phase, reason, now);
        step.effects.insert(0, Effect::Probe);
        step
    }

    /// Resumes work after a rate limit. The rate limiter admits a single request first, and a probe
    /// in addition would only use up more of the quota.
    fn reenter_phase(mut self, phase: SyncPhase, reason: &str, now: Timestamp) -> Step {
        self.credential = CredentialState::Valid;
        self.start_phase(phase, reason, now)
    }

    fn request_restart(mut self, phase: SyncPhase, cause: RestartCause, now: Timestamp) -> Step {
        self.restarts.record(cause, now);
        self.errors.retries = 0;
        self.progress.expected_since = now;
        self.transition_to(State::Working(phase), cause.reason(), now)
            .with_effect(Effect::Restart { cause })
    }

    fn start_phase(mut self, phase: SyncPhase, reason: &str, now: Timestamp) -> Step {
        self.progress.start_phase(now);
        if phase == SyncPhase::Polling {
            self.sync.start_poll(now);
        }
        self.transition_to(State::Working(phase), reason, now).with_effect(phase.start_effect())
    }

    fn on_progress_while_waiting(mut self, now: Timestamp) -> Step {
        self.progress.last_at = now;
        self.into_step()
    }

    fn transition_to(mut self, state: State, reason: impl Into<String>, now: Timestamp) -> Step {
        if state.status() != self.state.status() {
            self.state_since = now;
        }
        self.state = state;
        self.reason = reason.into();
        self.into_step()
    }

    fn into_step(self) -> Step {
        Step { machine: self, effects: Vec::new() }
    }
}
