//! Transitions of the machine after a failure of the listing or the session.

use std::time::Duration;

use super::{
    AfterWait, CredentialState, Effect, MachineConfig, State, StateMachine, Status, Step,
    SyncPhase, SyncScope,
};
use crate::{Cause, ErrorAction, Failure, RandomSample, RequestScope, Timestamp, backoff};

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
        config: &MachineConfig,
        phase: SyncPhase,
        scope: RequestScope,
        failure: &Failure,
        sample: RandomSample,
        now: Timestamp,
    ) -> Step {
        self.errors.record_failure(failure, now);
        if failure.cause == Cause::AccountChanged {
            self.sync.forget_completeness();
        }
        match failure.cause.action(scope) {
            ErrorAction::WaitForRateLimit => {
                self.on_rate_limited(config, phase, failure, sample, now)
            }
            ErrorAction::RefreshCredential => match self.credential {
                CredentialState::Valid => {
                    self.credential = CredentialState::Refreshing;
                    self.into_step().with_effect(Effect::RefreshCredential)
                }
                CredentialState::Refreshing | CredentialState::Refreshed => {
                    self.enter_auth_failed(config, phase, now)
                }
            },
            ErrorAction::FullResync => self.on_cursor_expired(config, phase, failure, sample, now),
            ErrorAction::WaitForNetwork => {
                self.enter_error(config, phase, failure, FaultDomain::Local, sample, now)
            }
            ErrorAction::WaitForStorage => {
                let message = failure.to_string();
                let mut step =
                    self.enter_error(config, phase, failure, FaultDomain::Local, sample, now);
                step.effects.insert(0, Effect::Alert { message });
                step
            }
            ErrorAction::RetryMuchLater | ErrorAction::RetryAsChallenge => {
                let message = failure.to_string();
                let mut step =
                    self.enter_error(config, phase, failure, FaultDomain::Source, sample, now);
                step.effects.insert(0, Effect::Alert { message });
                step
            }
            ErrorAction::RestartListing => {
                self.on_incomplete_listing(config, phase, failure, sample, now)
            }
            ErrorAction::Retry
            | ErrorAction::RetryConservatively
            | ErrorAction::SwitchProxy
            | ErrorAction::MarkGone
            | ErrorAction::Quarantine => {
                self.enter_error(config, phase, failure, FaultDomain::Source, sample, now)
            }
        }
    }

    /// Waits for a circuit breaker that others opened; this is no error of the source.
    pub(super) fn on_circuit_open(
        mut self,
        phase: SyncPhase,
        until: Timestamp,
        reason: &str,
        now: Timestamp,
    ) -> Step {
        self.credential = CredentialState::Valid;
        self.transition_to(
            State::Error { until, resume_phase: phase, after_wait: AfterWait::Resume },
            reason,
            now,
        )
        .with_effect(Effect::Pause)
    }

    /// Repeats with the new credential the work for which the old one was refused.
    pub(super) fn on_credential_changed(mut self, phase: SyncPhase, now: Timestamp) -> Step {
        if self.credential != CredentialState::Refreshing {
            return self.into_step();
        }
        self.credential = CredentialState::Refreshed;
        self.progress.expected_since = now;
        self.into_step().with_effect(phase.start_effect())
    }

    /// Waits for another credential, since the current one is refused.
    pub(super) fn enter_auth_failed(
        mut self,
        config: &MachineConfig,
        phase: SyncPhase,
        now: Timestamp,
    ) -> Step {
        if self.credential == CredentialState::Valid {
            return self.into_step();
        }
        self.credential = CredentialState::Valid;
        let reason = match &self.errors.last {
            Some(error) => error.message.clone(),
            None => "the credential is refused".to_owned(),
        };
        let until = now.after(config.restart_delay_auth);
        self.transition_to(State::AuthFailed { until, resume_phase: phase }, reason.clone(), now)
            .with_effect(Effect::Pause)
            .with_effect(Effect::Alert { message: reason })
    }

    /// Handles the response to a request from before the wait: only a later time given by the
    /// server extends the wait.
    pub(super) fn on_rate_limited_while_waiting(
        mut self,
        until: Timestamp,
        extended: impl FnOnce(Timestamp) -> State,
        failure: &Failure,
        sample: RandomSample,
        now: Timestamp,
    ) -> Step {
        if failure.cause != Cause::RateLimit {
            return self.into_step();
        }
        let from_retry_after = || {
            let wait = backoff::retry_after_with_margin(failure.retry_after?, sample);
            Some(now.after(wait))
        };
        let Some(later) = failure.blocked_until.or_else(from_retry_after) else {
            return self.into_step();
        };
        if later <= until {
            return self.into_step();
        }
        self.errors.record_failure(failure, now);
        self.transition_to(extended(later), rate_limit_reason(failure, None), now)
    }

    fn on_rate_limited(
        mut self,
        config: &MachineConfig,
        phase: SyncPhase,
        failure: &Failure,
        sample: RandomSample,
        now: Timestamp,
    ) -> Step {
        if self.is_known_throttle(failure, now) {
            return self.into_step();
        }
        self.errors.consecutive_rate_limits = self.errors.consecutive_rate_limits.saturating_add(1);
        self.credential = CredentialState::Valid;
        let until = failure
            .blocked_until
            .unwrap_or_else(|| now.after(self.rate_limit_delay(config, failure, sample)));
        let wait = until.since(now);
        if wait < VISIBLE_WAIT_MIN {
            return self.throttle_in_place(phase, until, now);
        }
        let reason = rate_limit_reason(failure, Some(wait));
        self.transition_to(State::RateLimited { until, resume_phase: phase }, reason, now)
            .with_effect(Effect::Pause)
    }

    /// Waits without leaving the state. The work resumes once, even after several such responses.
    fn throttle_in_place(mut self, phase: SyncPhase, until: Timestamp, now: Timestamp) -> Step {
        let active = self.active_throttle(now);
        let until = active.map_or(until, |active| active.max(until));
        self.throttled_until = until;
        let step = self.into_step().with_effect(Effect::Throttle { until });
        if active.is_some() { step } else { step.with_effect(phase.start_effect()) }
    }

    /// Returns true if a rate limit adds nothing to the current wait, such as that of the other
    /// documents of a request, or of a request from before the wait.
    #[must_use]
    pub fn is_known_throttle(&self, failure: &Failure, now: Timestamp) -> bool {
        let Some(active) = self.active_throttle(now) else { return false };
        failure.cause == Cause::RateLimit
            && match failure.blocked_until {
                Some(until) => until <= active,
                None => failure.retry_after.is_none(),
            }
    }

    /// Returns the end of a current wait that is too short for a separate state.
    #[must_use]
    pub fn active_throttle(&self, now: Timestamp) -> Option<Timestamp> {
        let until = self.throttled_until;
        // A wait that would last longer began before the clock was set back.
        (now < until && until <= now.after(VISIBLE_WAIT_MIN)).then_some(until)
    }

    /// Returns the Retry-After with margin if there is one; else the configured wait, then backoff.
    fn rate_limit_delay(
        &self,
        config: &MachineConfig,
        failure: &Failure,
        sample: RandomSample,
    ) -> Duration {
        match failure.retry_after {
            Some(retry_after) => backoff::retry_after_with_margin(retry_after, sample),
            None if self.errors.consecutive_rate_limits <= 1 => config.rate_limit_duration,
            None => config.backoff.delay(
                Cause::RateLimit,
                self.errors.consecutive_rate_limits - 1,
                None,
                sample,
            ),
        }
    }

    /// Handles an expired cursor: first by listing everything, a second time in a row as an error.
    fn on_cursor_expired(
        mut self,
        config: &MachineConfig,
        phase: SyncPhase,
        failure: &Failure,
        sample: RandomSample,
        now: Timestamp,
    ) -> Step {
        const REASON: &str = "the source no longer accepts the cursor: listing everything";
        if self.listing.is_full_resync {
            self.listing.is_full_resync = false;
            return self.enter_error(config, phase, failure, FaultDomain::Source, sample, now);
        }
        match phase {
            SyncPhase::Polling => {
                self.listing.is_full_resync = true;
                self.begin_session(SyncScope::FullResync, REASON, now)
            }
            SyncPhase::Collecting => {
                self.listing.is_full_resync = true;
                self.restart_listing(REASON, now)
            }
            SyncPhase::Downloading => {
                self.listing.is_full_resync = true;
                self.list_changes(REASON, now)
            }
        }
    }

    /// Restarts the listing from its first page with backoff. Each listed page is progress, which
    /// resets the retries, so the number of incomplete listings determines delay and used retries.
    fn on_incomplete_listing(
        mut self,
        config: &MachineConfig,
        phase: SyncPhase,
        failure: &Failure,
        sample: RandomSample,
        now: Timestamp,
    ) -> Step {
        self.errors.retries = self.errors.retries.max(self.listing.consecutive_incomplete);
        self.listing.record_incomplete();
        let sends_alert = self.listing.consecutive_incomplete >= INCOMPLETE_LISTINGS_ALERT_MIN;
        let mut step = self.enter_error(config, phase, failure, FaultDomain::Source, sample, now);
        if sends_alert {
            step.effects.insert(0, Effect::Alert { message: failure.to_string() });
        }
        step
    }

    fn restart_listing(mut self, reason: &str, now: Timestamp) -> Step {
        self.progress.expected_since = now;
        self.transition_to(State::Working(SyncPhase::Collecting), reason, now)
            .with_effect(Effect::RestartListing)
            .with_effect(Effect::ContinueListing)
    }

    fn enter_error(
        mut self,
        config: &MachineConfig,
        phase: SyncPhase,
        failure: &Failure,
        fault_domain: FaultDomain,
        sample: RandomSample,
        now: Timestamp,
    ) -> Step {
        self.errors.count_retry();
        self.credential = CredentialState::Valid;
        let mut delay =
            config.backoff.delay(failure.cause, self.errors.retries, failure.retry_after, sample);
        if phase == SyncPhase::Downloading {
            delay = delay.max(config.recovery_timeout);
        }
        let (after_wait, reason) = match fault_domain {
            FaultDomain::Local => {
                let reason = format!("retrying later: {failure}");
                (self.decide_after_local_error(config, failure.cause), reason)
            }
            FaultDomain::Source => {
                self.errors.consecutive = self.errors.consecutive.saturating_add(1);
                self.decide_after_source_error(config, failure)
            }
        };
        if after_wait == AfterWait::Restart {
            delay = config.restart_delay_errors.max(failure.retry_after.unwrap_or_default());
        }
        let until = now.after(delay);
        self.transition_to(State::Error { until, resume_phase: phase, after_wait }, reason, now)
            .with_effect(Effect::Pause)
    }

    /// Resumes after network and disk failures, which end by themselves; restarts after repeated
    /// ledger failures, since the ledger may have to be reopened.
    fn decide_after_local_error(&self, config: &MachineConfig, cause: Cause) -> AfterWait {
        if cause == Cause::Ledger && self.errors.retries > config.max_retries {
            AfterWait::Restart
        } else {
            AfterWait::Resume
        }
    }

    fn decide_after_source_error(
        &self,
        config: &MachineConfig,
        failure: &Failure,
    ) -> (AfterWait, String) {
        if self.errors.retries > config.max_retries {
            let reason = format!("{} retries used up: {failure}", config.max_retries);
            (AfterWait::Restart, reason)
        } else if self.errors.consecutive > config.max_consecutive_errors {
            (AfterWait::Restart, format!("{} errors in a row: {failure}", self.errors.consecutive))
        } else {
            let (retry, max) = (self.errors.retries, config.max_retries);
            (AfterWait::Resume, format!("retry {retry} of {max}: {failure}"))
        }
    }

    /// Returns the machine in the error state, for a store that cannot be opened; the next attempt
    /// is at `until`.
    #[must_use]
    pub fn with_store_error(mut self, failure: &Failure, until: Timestamp, now: Timestamp) -> Self {
        let resume_phase = match self.state {
            State::Working(phase) => phase,
            State::Error { resume_phase, .. }
            | State::RateLimited { resume_phase, .. }
            | State::AuthFailed { resume_phase, .. } => resume_phase,
            State::Idle { .. } | State::Completed => SyncPhase::Polling,
        };
        if self.status() != Status::Error {
            self.state_since = now;
            self.errors.total = self.errors.total.saturating_add(1);
        }
        self.state = State::Error { until, resume_phase, after_wait: AfterWait::Resume };
        self.reason = format!("retrying later: {failure}");
        self.errors.record_failure(failure, now);
        self
    }
}

fn rate_limit_reason(failure: &Failure, wait: Option<Duration>) -> String {
    match (failure.retry_after.filter(|_| !failure.is_lock_out), wait) {
        (Some(retry_after), _) => {
            format!("the server said: retry after {} s", retry_after.as_secs_f64().ceil())
        }
        (None, Some(wait)) if failure.blocked_until.is_none() => {
            format!("the server sent no Retry-After: waiting {} s ({failure})", wait.as_secs())
        }
        (None, Some(_) | None) => failure.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_of_a_lock_out_is_not_that_of_the_server() {
        let hour = Some(Duration::from_secs(3600));
        let failure = Failure::new(Cause::RateLimit, "refused")
            .with_retry_after(hour)
            .with_blocked_until(Some(Timestamp(1)));
        assert_eq!(rate_limit_reason(&failure, hour), "the server said: retry after 3600 s");

        let lock_out = Failure { is_lock_out: true, ..failure };
        assert_eq!(rate_limit_reason(&lock_out, hour), "refused");
    }
}
