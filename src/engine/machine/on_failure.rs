//! Transitions of the machine after a failure of the listing or the session.

use std::time::Duration;

use super::{
    AfterWait, CredentialState, Effect, LastError, MachineConfig, State, StateMachine, Status,
    Step, SyncPhase, SyncScope,
};
use crate::engine::{Cause, ErrorAction, Failure, RandomSample, RequestScope, Timestamp, backoff};

/// Shortest rate limit wait with a separate state. Users need not see a shorter one.
const VISIBLE_WAIT_MIN: Duration = Duration::from_secs(5);

/// Consecutive incomplete listings from which on an alert is sent.
const INCOMPLETE_LISTINGS_ALERT_MIN: u32 = 3;

/// Origin of a failure: only one of the source counts as a consecutive error towards a restart.
#[derive(Clone, Copy)]
enum FaultDomain {
    Source,
    /// Failure on this machine, which a restart does not repair.
    Local,
}

impl StateMachine {
    pub(super) fn on_failure(
        mut self,
        rules: &MachineConfig,
        work: SyncPhase,
        scope: RequestScope,
        failure: &Failure,
        draw: RandomSample,
        now: Timestamp,
    ) -> Step {
        self.record_failure(failure, now);
        match failure.cause.action(scope) {
            ErrorAction::WaitForRateLimit => self.on_rate_limited(rules, work, failure, draw, now),
            ErrorAction::RefreshCredential => match self.credential {
                CredentialState::Valid => {
                    self.credential = CredentialState::Refreshing;
                    self.into_step().with_effect(Effect::RefreshCredential)
                }
                CredentialState::Refreshing | CredentialState::Refreshed => {
                    self.enter_auth_failed(rules, work, now)
                }
            },
            ErrorAction::FullResync => self.on_cursor_expired(rules, work, failure, draw, now),
            ErrorAction::WaitForNetwork => {
                self.enter_error(rules, work, failure, FaultDomain::Local, draw, now)
            }
            ErrorAction::WaitForStorage => {
                let message = failure.to_string();
                let mut step =
                    self.enter_error(rules, work, failure, FaultDomain::Local, draw, now);
                step.effects.insert(0, Effect::Alert { message });
                step
            }
            ErrorAction::RetryMuchLater | ErrorAction::RetryAsChallenge => {
                let message = failure.to_string();
                let mut step =
                    self.enter_error(rules, work, failure, FaultDomain::Source, draw, now);
                step.effects.insert(0, Effect::Alert { message });
                step
            }
            ErrorAction::RestartListing => {
                self.on_incomplete_listing(rules, work, failure, draw, now)
            }
            ErrorAction::Retry
            | ErrorAction::RetryConservatively
            | ErrorAction::SwitchProxy
            | ErrorAction::MarkGone
            | ErrorAction::Quarantine => {
                self.enter_error(rules, work, failure, FaultDomain::Source, draw, now)
            }
        }
    }

    /// Waits for a circuit breaker that others opened; this is no error of the source.
    pub(super) fn on_circuit_open(
        mut self,
        work: SyncPhase,
        until: Timestamp,
        reason: &str,
        now: Timestamp,
    ) -> Step {
        self.credential = CredentialState::Valid;
        self.transition_to(
            State::Error { until, resume_phase: work, after_wait: AfterWait::Resume },
            reason,
            now,
        )
        .with_effect(Effect::Pause)
    }

    /// Repeats with the new credential the work for which the old one was refused.
    pub(super) fn on_credential_changed(mut self, work: SyncPhase, now: Timestamp) -> Step {
        if self.credential != CredentialState::Refreshing {
            return self.into_step();
        }
        self.credential = CredentialState::Refreshed;
        self.progress_expected_since = now;
        self.into_step().with_effect(work.start_effect())
    }

    /// Waits for another credential, since the current one is refused.
    pub(super) fn enter_auth_failed(
        mut self,
        rules: &MachineConfig,
        work: SyncPhase,
        now: Timestamp,
    ) -> Step {
        if self.credential == CredentialState::Valid {
            return self.into_step();
        }
        self.credential = CredentialState::Valid;
        let reason = match &self.last_error {
            Some(error) => error.message.clone(),
            None => "the credential is refused".to_owned(),
        };
        let until = now.after(rules.restart_delay_auth);
        self.transition_to(State::AuthFailed { until, resume_phase: work }, reason.clone(), now)
            .with_effect(Effect::Pause)
            .with_effect(Effect::Alert { message: reason })
    }

    /// Handles the response to a request from before the wait: only a later time given by the
    /// server extends the wait.
    pub(super) fn on_rate_limited_while_waiting(
        mut self,
        until: Timestamp,
        longer: impl FnOnce(Timestamp) -> State,
        failure: &Failure,
        draw: RandomSample,
        now: Timestamp,
    ) -> Step {
        if failure.cause != Cause::RateLimit {
            return self.into_step();
        }
        let told = || {
            failure.retry_after.map(|told| now.after(backoff::retry_after_with_margin(told, draw)))
        };
        let Some(later) = failure.blocked_until.or_else(told) else {
            return self.into_step();
        };
        if later <= until {
            return self.into_step();
        }
        self.record_failure(failure, now);
        self.transition_to(longer(later), rate_limit_reason(failure, None), now)
    }

    fn on_rate_limited(
        mut self,
        rules: &MachineConfig,
        work: SyncPhase,
        failure: &Failure,
        draw: RandomSample,
        now: Timestamp,
    ) -> Step {
        if self.active_throttle(now).is_some()
            && failure.retry_after.is_none()
            && failure.blocked_until.is_none()
        {
            // The response to a request from before the wait contains nothing new.
            return self.into_step();
        }
        self.consecutive_rate_limits = self.consecutive_rate_limits.saturating_add(1);
        self.credential = CredentialState::Valid;
        let until = failure
            .blocked_until
            .unwrap_or_else(|| now.after(self.rate_limit_delay(rules, failure, draw)));
        let wait = until.since(now);
        if wait < VISIBLE_WAIT_MIN {
            return self.throttle_in_place(work, until, now);
        }
        let reason = rate_limit_reason(failure, Some(wait));
        self.transition_to(State::RateLimited { until, resume_phase: work }, reason, now)
            .with_effect(Effect::Pause)
    }

    /// Waits without leaving the state. The work resumes once, even after several such responses.
    fn throttle_in_place(mut self, work: SyncPhase, until: Timestamp, now: Timestamp) -> Step {
        let held = self.active_throttle(now);
        let until = held.map_or(until, |held| held.max(until));
        self.throttled_until = until;
        let step = self.into_step().with_effect(Effect::Throttle { until });
        if held.is_some() { step } else { step.with_effect(work.start_effect()) }
    }

    /// Returns the end of a current wait that is too short for a separate state.
    #[must_use]
    pub fn active_throttle(&self, now: Timestamp) -> Option<Timestamp> {
        let until = self.throttled_until;
        // A wait that ends later than any can was started before the clock was set back.
        (now < until && until <= now.after(VISIBLE_WAIT_MIN)).then_some(until)
    }

    /// Returns the Retry-After with margin if there is one; else the configured wait, then backoff.
    fn rate_limit_delay(
        &self,
        rules: &MachineConfig,
        failure: &Failure,
        draw: RandomSample,
    ) -> Duration {
        match failure.retry_after {
            Some(told) => backoff::retry_after_with_margin(told, draw),
            None if self.consecutive_rate_limits <= 1 => rules.rate_limit_duration,
            None => {
                rules.backoff.delay(Cause::RateLimit, self.consecutive_rate_limits - 1, None, draw)
            }
        }
    }

    /// Handles an expired cursor: first by listing everything, a second time in a row as an error.
    fn on_cursor_expired(
        mut self,
        rules: &MachineConfig,
        work: SyncPhase,
        failure: &Failure,
        draw: RandomSample,
        now: Timestamp,
    ) -> Step {
        const REASON: &str =
            "the source has forgotten our place in its changes: listing everything";
        if self.is_full_resync {
            self.is_full_resync = false;
            return self.enter_error(rules, work, failure, FaultDomain::Source, draw, now);
        }
        match work {
            SyncPhase::Polling => {
                self.is_full_resync = true;
                self.begin_session(SyncScope::FullResync, REASON, now)
            }
            SyncPhase::Collecting => {
                self.is_full_resync = true;
                self.restart_listing(REASON, now)
            }
            SyncPhase::Downloading => {
                self.is_full_resync = true;
                self.list_changes(REASON, now)
            }
        }
    }

    /// Restarts the listing from its first page with backoff. Progress on the way there says
    /// nothing, so incomplete listings determine the delay and the used retries.
    fn on_incomplete_listing(
        mut self,
        rules: &MachineConfig,
        work: SyncPhase,
        failure: &Failure,
        draw: RandomSample,
        now: Timestamp,
    ) -> Step {
        self.retry_count = self.retry_count.max(self.incomplete_listings);
        self.incomplete_listings = self.incomplete_listings.saturating_add(1);
        let is_told = self.incomplete_listings >= INCOMPLETE_LISTINGS_ALERT_MIN;
        let mut step = self.enter_error(rules, work, failure, FaultDomain::Source, draw, now);
        if is_told {
            step.effects.insert(0, Effect::Alert { message: failure.to_string() });
        }
        step
    }

    fn restart_listing(mut self, reason: &str, now: Timestamp) -> Step {
        self.progress_expected_since = now;
        self.transition_to(State::Working(SyncPhase::Collecting), reason, now)
            .with_effect(Effect::RestartListing)
            .with_effect(Effect::ContinueListing)
    }

    fn enter_error(
        mut self,
        rules: &MachineConfig,
        work: SyncPhase,
        failure: &Failure,
        blame: FaultDomain,
        draw: RandomSample,
        now: Timestamp,
    ) -> Step {
        self.error_count = self.error_count.saturating_add(1);
        self.retry_count = self.retry_count.saturating_add(1);
        self.credential = CredentialState::Valid;
        let mut delay =
            rules.backoff.delay(failure.cause, self.retry_count, failure.retry_after, draw);
        if work == SyncPhase::Downloading {
            delay = delay.max(rules.recovery_timeout);
        }
        let (then, reason) = match blame {
            FaultDomain::Local => {
                let reason = format!("trying again later: {failure}");
                (self.decide_after_local_error(rules, failure.cause), reason)
            }
            FaultDomain::Source => {
                self.consecutive_errors = self.consecutive_errors.saturating_add(1);
                self.decide_after_source_error(rules, failure)
            }
        };
        if then == AfterWait::Restart {
            delay = rules.restart_delay_errors.max(failure.retry_after.unwrap_or_default());
        }
        let until = now.after(delay);
        self.transition_to(
            State::Error { until, resume_phase: work, after_wait: then },
            reason,
            now,
        )
        .with_effect(Effect::Pause)
    }

    /// Resumes after network and disk failures, which end by themselves; restarts after repeated
    /// ledger failures, since the ledger may have to be reopened.
    fn decide_after_local_error(&self, rules: &MachineConfig, cause: Cause) -> AfterWait {
        if cause == Cause::Ledger && self.retry_count > rules.max_retries {
            AfterWait::Restart
        } else {
            AfterWait::Resume
        }
    }

    fn decide_after_source_error(
        &self,
        rules: &MachineConfig,
        failure: &Failure,
    ) -> (AfterWait, String) {
        if self.retry_count > rules.max_retries {
            let reason = format!("{} retries used up: {failure}", rules.max_retries);
            (AfterWait::Restart, reason)
        } else if self.consecutive_errors > rules.max_consecutive_errors {
            (AfterWait::Restart, format!("{} errors in a row: {failure}", self.consecutive_errors))
        } else {
            let (retry, of) = (self.retry_count, rules.max_retries);
            (AfterWait::Resume, format!("retry {retry} of {of}: {failure}"))
        }
    }

    /// Returns the machine while its store cannot be opened, until the next attempt.
    #[must_use]
    pub fn with_store_error(mut self, failure: &Failure, until: Timestamp, now: Timestamp) -> Self {
        let resume = match self.state {
            State::Working(work) => work,
            State::Error { resume_phase: resume, .. }
            | State::RateLimited { resume_phase: resume, .. }
            | State::AuthFailed { resume_phase: resume, .. } => resume,
            State::Idle { .. } | State::Completed => SyncPhase::Polling,
        };
        if self.status() != Status::Error {
            self.state_since = now;
            self.error_count = self.error_count.saturating_add(1);
        }
        self.state = State::Error { until, resume_phase: resume, after_wait: AfterWait::Resume };
        self.reason = format!("trying again later: {failure}");
        self.record_failure(failure, now);
        self
    }

    fn record_failure(&mut self, failure: &Failure, now: Timestamp) {
        self.last_error =
            Some(LastError { cause: failure.cause, message: failure.to_string(), at: now });
    }
}

fn rate_limit_reason(failure: &Failure, own: Option<Duration>) -> String {
    match (failure.retry_after, own) {
        (Some(told), _) => format!("the server said: retry after {} s", told.as_secs_f64().ceil()),
        (None, Some(own)) if failure.blocked_until.is_none() => {
            format!("the server named no time: waiting {} s ({failure})", own.as_secs())
        }
        (None, Some(_) | None) => failure.to_string(),
    }
}
