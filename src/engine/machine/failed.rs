//! What a failure of the listing or the session does to the machine.

use std::time::Duration;

use super::{
    Credential, Effect, Extent, LastError, Machine, Rules, State, Status, Step, Then, Work,
};
use crate::engine::{Cause, ErrorAction, Failure, RandomSample, RequestScope, Timestamp, backoff};

/// A shorter wait is made without leaving the state: a person need not see it.
const WAIT_SHOWN_MIN: Duration = Duration::from_secs(5);

/// So many listings in a row that ended too early are told to a person.
const INCOMPLETE_LISTINGS_TOLD: u32 = 3;

/// Whether a failure speaks against the source and counts towards a restart.
#[derive(Clone, Copy)]
enum Blame {
    Source,
    /// The trouble is here: nothing gets better by starting anew.
    Local,
}

impl Machine {
    pub(super) fn failed(
        mut self,
        rules: &Rules,
        work: Work,
        scope: RequestScope,
        failure: &Failure,
        draw: RandomSample,
        now: Timestamp,
    ) -> Step {
        self.note_failure(failure, now);
        match failure.cause.action(scope) {
            ErrorAction::WaitForRateLimit => self.throttled(rules, work, failure, draw, now),
            ErrorAction::RefreshCredential => match self.credential {
                Credential::Good => {
                    self.credential = Credential::Renewing;
                    self.unchanged().and(Effect::Renew)
                }
                Credential::Renewing | Credential::Renewed => self.refused(rules, work, now),
            },
            ErrorAction::FullResync => self.lost_its_place(rules, work, failure, draw, now),
            ErrorAction::WaitForNetwork => {
                self.erred(rules, work, failure, Blame::Local, draw, now)
            }
            ErrorAction::WaitForStorage => {
                let message = failure.to_string();
                let mut step = self.erred(rules, work, failure, Blame::Local, draw, now);
                step.effects.insert(0, Effect::Alert { message });
                step
            }
            ErrorAction::RetryMuchLater | ErrorAction::RetryAsChallenge => {
                let message = failure.to_string();
                let mut step = self.erred(rules, work, failure, Blame::Source, draw, now);
                step.effects.insert(0, Effect::Alert { message });
                step
            }
            ErrorAction::RestartListing => self.listed_in_part(rules, work, failure, draw, now),
            ErrorAction::Retry
            | ErrorAction::RetryConservatively
            | ErrorAction::SwitchProxy
            | ErrorAction::MarkGone
            | ErrorAction::Quarantine => self.erred(rules, work, failure, Blame::Source, draw, now),
        }
    }

    /// Waits for a breaker that others have opened: nothing that this source did.
    pub(super) fn shut_out(
        mut self,
        work: Work,
        until: Timestamp,
        reason: &str,
        now: Timestamp,
    ) -> Step {
        self.credential = Credential::Good;
        self.go(State::Error { until, resume: work, then: Then::Resume }, reason, now)
            .and(Effect::Pause)
    }

    /// The new credential may try what the old one was refused.
    pub(super) fn renewed(mut self, work: Work, now: Timestamp) -> Step {
        if self.credential != Credential::Renewing {
            return self.unchanged();
        }
        self.credential = Credential::Renewed;
        self.watched_since = now;
        self.unchanged().and(work.effect())
    }

    /// The credential is refused, and there is no other: wait for one.
    pub(super) fn refused(mut self, rules: &Rules, work: Work, now: Timestamp) -> Step {
        if self.credential == Credential::Good {
            return self.unchanged();
        }
        self.credential = Credential::Good;
        let reason = match &self.last_error {
            Some(error) => error.message.clone(),
            None => "the credential is refused".to_owned(),
        };
        let until = now.after(rules.restart_delay_auth);
        self.go(State::AuthFailed { until, resume: work }, reason.clone(), now)
            .and(Effect::Pause)
            .and(Effect::Alert { message: reason })
    }

    /// The answer to a request from before the wait: the server's word makes it longer, if
    /// anything does.
    pub(super) fn throttled_while_waiting(
        mut self,
        until: Timestamp,
        longer: impl FnOnce(Timestamp) -> State,
        failure: &Failure,
        draw: RandomSample,
        now: Timestamp,
    ) -> Step {
        if failure.cause != Cause::RateLimit {
            return self.unchanged();
        }
        let told = || {
            failure.retry_after.map(|told| now.after(backoff::retry_after_with_margin(told, draw)))
        };
        let Some(later) = failure.blocked_until.or_else(told) else {
            return self.unchanged();
        };
        if later <= until {
            return self.unchanged();
        }
        self.note_failure(failure, now);
        self.go(longer(later), said(failure, None), now)
    }

    fn throttled(
        mut self,
        rules: &Rules,
        work: Work,
        failure: &Failure,
        draw: RandomSample,
        now: Timestamp,
    ) -> Step {
        if self.held(now).is_some()
            && failure.retry_after.is_none()
            && failure.blocked_until.is_none()
        {
            // The answer to a request from before the wait: it says nothing new.
            return self.unchanged();
        }
        self.throttles = self.throttles.saturating_add(1);
        self.credential = Credential::Good;
        let until =
            failure.blocked_until.unwrap_or_else(|| now.after(self.hold(rules, failure, draw)));
        let wait = until.since(now);
        if wait < WAIT_SHOWN_MIN {
            return self.hold_back(work, until, now);
        }
        let reason = said(failure, Some(wait));
        self.go(State::RateLimited { until, resume: work }, reason, now).and(Effect::Pause)
    }

    /// Waits without leaving the state. The work is taken up again once, however many answers say so.
    fn hold_back(mut self, work: Work, until: Timestamp, now: Timestamp) -> Step {
        let held = self.held(now);
        let until = held.map_or(until, |held| held.max(until));
        self.held_until = until;
        let step = self.unchanged().and(Effect::Hold { until });
        if held.is_some() { step } else { step.and(work.effect()) }
    }

    /// Until when nothing is sent, in a wait too short to be a state of its own.
    #[must_use]
    pub fn held(&self, now: Timestamp) -> Option<Timestamp> {
        let until = self.held_until;
        // One that ends later than any can was begun before the clock was set back.
        (now < until && until <= now.after(WAIT_SHOWN_MIN)).then_some(until)
    }

    /// The server's word where there is one; else the configured wait, then growing ones.
    fn hold(&self, rules: &Rules, failure: &Failure, draw: RandomSample) -> Duration {
        match failure.retry_after {
            Some(told) => backoff::retry_after_with_margin(told, draw),
            None if self.throttles <= 1 => rules.rate_limit_duration,
            None => rules.backoff.delay(Cause::RateLimit, self.throttles - 1, None, draw),
        }
    }

    /// The source has forgotten where we were: once, list everything; again, it is a failure.
    fn lost_its_place(
        mut self,
        rules: &Rules,
        work: Work,
        failure: &Failure,
        draw: RandomSample,
        now: Timestamp,
    ) -> Step {
        const REASON: &str =
            "the source has forgotten our place in its changes: listing everything";
        if self.relisted {
            self.relisted = false;
            return self.erred(rules, work, failure, Blame::Source, draw, now);
        }
        match work {
            Work::Looking => {
                self.relisted = true;
                self.begin(Extent::Everything, REASON, now)
            }
            Work::Collecting => {
                self.relisted = true;
                self.enter_again(REASON, now)
            }
            Work::Downloading => {
                self.relisted = true;
                self.list_news(REASON, now)
            }
        }
    }

    /// The listing begins again from its first page, so that progress on the way there says nothing:
    /// the delay grows, and retries are used up, by the listings that ended too early.
    fn listed_in_part(
        mut self,
        rules: &Rules,
        work: Work,
        failure: &Failure,
        draw: RandomSample,
        now: Timestamp,
    ) -> Step {
        self.retry_count = self.retry_count.max(self.incomplete_listings);
        self.incomplete_listings = self.incomplete_listings.saturating_add(1);
        let is_told = self.incomplete_listings >= INCOMPLETE_LISTINGS_TOLD;
        let mut step = self.erred(rules, work, failure, Blame::Source, draw, now);
        if is_told {
            step.effects.insert(0, Effect::Alert { message: failure.to_string() });
        }
        step
    }

    fn enter_again(mut self, reason: &str, now: Timestamp) -> Step {
        self.watched_since = now;
        self.go(State::Working(Work::Collecting), reason, now)
            .and(Effect::ListAgain)
            .and(Effect::Collect)
    }

    fn erred(
        mut self,
        rules: &Rules,
        work: Work,
        failure: &Failure,
        blame: Blame,
        draw: RandomSample,
        now: Timestamp,
    ) -> Step {
        self.error_count = self.error_count.saturating_add(1);
        self.retry_count = self.retry_count.saturating_add(1);
        self.credential = Credential::Good;
        let mut delay =
            rules.backoff.delay(failure.cause, self.retry_count, failure.retry_after, draw);
        if work == Work::Downloading {
            delay = delay.max(rules.recovery_timeout);
        }
        let (then, reason) = match blame {
            Blame::Local => {
                let reason = format!("trying again later: {failure}");
                (self.after_local_trouble(rules, failure.cause), reason)
            }
            Blame::Source => {
                self.consecutive_errors = self.consecutive_errors.saturating_add(1);
                self.after_error(rules, failure)
            }
        };
        if then == Then::Restart {
            delay = rules.restart_delay_errors.max(failure.retry_after.unwrap_or_default());
        }
        let until = now.after(delay);
        self.go(State::Error { until, resume: work, then }, reason, now).and(Effect::Pause)
    }

    /// The network and the disk come back by themselves; a ledger may have to be opened anew.
    fn after_local_trouble(&self, rules: &Rules, cause: Cause) -> Then {
        if cause == Cause::Ledger && self.retry_count > rules.max_retries {
            Then::Restart
        } else {
            Then::Resume
        }
    }

    fn after_error(&self, rules: &Rules, failure: &Failure) -> (Then, String) {
        if self.retry_count > rules.max_retries {
            let reason = format!("{} retries used up: {failure}", rules.max_retries);
            (Then::Restart, reason)
        } else if self.consecutive_errors > rules.max_consecutive_errors {
            (Then::Restart, format!("{} errors in a row: {failure}", self.consecutive_errors))
        } else {
            let (retry, of) = (self.retry_count, rules.max_retries);
            (Then::Resume, format!("retry {retry} of {of}: {failure}"))
        }
    }

    /// The machine while its store cannot be opened, until the next attempt.
    #[must_use]
    pub fn awaits(mut self, failure: &Failure, until: Timestamp, now: Timestamp) -> Self {
        let resume = match self.state {
            State::Working(work) => work,
            State::Error { resume, .. }
            | State::RateLimited { resume, .. }
            | State::AuthFailed { resume, .. } => resume,
            State::Idle { .. } | State::Completed => Work::Looking,
        };
        if self.status() != Status::Error {
            self.state_since = now;
            self.error_count = self.error_count.saturating_add(1);
        }
        self.state = State::Error { until, resume, then: Then::Resume };
        self.reason = format!("trying again later: {failure}");
        self.note_failure(failure, now);
        self
    }

    fn note_failure(&mut self, failure: &Failure, now: Timestamp) {
        self.last_error =
            Some(LastError { cause: failure.cause, message: failure.to_string(), at: now });
    }
}

fn said(failure: &Failure, own: Option<Duration>) -> String {
    match (failure.retry_after, own) {
        (Some(told), _) => format!("the server said: retry after {} s", told.as_secs_f64().ceil()),
        (None, Some(own)) if failure.blocked_until.is_none() => {
            format!("the server named no time: waiting {} s ({failure})", own.as_secs())
        }
        (None, Some(_) | None) => failure.to_string(),
    }
}
