//! Circuit breaker with the states of M. Nygard, "Release It!" (2007), chapter 5.
//!
//! ```text
//!   Closed ── too many failures ──▶ Open ── recovery timeout over ──▶ HalfOpen
//!     ▲                              ▲                                   │  │
//!     │                              └────────── still failing ──────────┘  │
//!     └───────────────────── enough successes in a row ─────────────────────┘
//! ```
//!
//! Closed, it opens at `failure_threshold` consecutive failures of *different* items, which shows
//! an outage within seconds, or at `failure_rate` over the newest calls, which shows a source that
//! fails now and then, whether it makes many calls or few. One item that always fails says nothing
//! about the others, so it counts once. Half-open, one probe at a time is admitted; a failure of
//! the service itself or of two items that had not failed before opens it again, so that an item
//! that always fails blocks no others. Only failures caused by the called service count, see
//! [`HealthSignal`].
//!
//! After a failed session a closed breaker becomes half-open, too, see [`Breaker::require_probes`].
//! That begins no open period, and the consecutive failures count on up to `failure_threshold`:
//! other sources of the provider must not be stopped by one that fails again at once.

mod accessors;
mod health_signal;
mod history;
mod merge;
mod persisted;
mod policy;
#[cfg(test)]
mod proptests;
mod statistics;
#[cfg(test)]
mod tests;
mod transition;
mod window;

use std::time::Duration;

pub use self::health_signal::HealthSignal;
pub use self::history::{CloseEvent, OpenPeriod};
pub use self::persisted::{
    PersistedBreaker, PersistedBucket, PersistedFailure, PersistedLastFailure, PersistedTransition,
    PersistedWindow,
};
pub use self::policy::BreakerPolicy;
pub use self::statistics::BreakerStatistics;
pub use self::transition::{BreakerState, BreakerTransition, Severity, is_manual};
pub use self::window::{CallSubject, FailureRate};

use self::policy::DISTINCT_FAILURES_MIN;
use self::transition::{CLOSED_MANUALLY, OPENED_MANUALLY, RESET_MANUALLY, push_transition};
use self::window::{CallWindow, FailureStreak};
use crate::backoff::doubled_delay;
use crate::{Cause, Failure, Timestamp, number_with_noun};

/// Backward clock step that only prolongs the open period; a larger one ends it.
const CLOCK_STEP_TOLERANCE: Duration = Duration::from_secs(60);

/// One circuit breaker. A caller requests admission first and records the result afterwards.
#[derive(Clone, Debug, PartialEq)]
pub struct Breaker {
    name: String,
    policy: BreakerPolicy,
    state: StateData,
    state_since: Timestamp,
    generation: u64,
    consecutive_opens: u32,
    /// Items that failed before it opened or while it was half-open; cleared when it closes.
    failed_items: FailureStreak,
    statistics: BreakerStatistics,
    statistics_since: Timestamp,
    last_failure: Option<LastFailure>,
    last_transition: Option<BreakerTransition>,
    /// Recent transitions, newest last.
    transitions: Vec<BreakerTransition>,
}

#[derive(Clone, Debug, PartialEq)]
enum StateData {
    Closed { failure_streak: FailureStreak, window: CallWindow },
    Open { until: Option<Timestamp> },
    HalfOpen { successes: u32, failure_streak: FailureStreak, is_probe_in_flight: bool },
}

/// Decision about a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Admission {
    Admitted(BreakerPermit),
    /// The half-open breaker waits for the result of its one probe.
    ProbeInFlight,
    /// Open until this time; `None`: until a manual close.
    Rejected {
        until: Option<Timestamp>,
    },
}

/// Permit of an admitted call. Its generation shows whether the result arrives too late to count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "a permit without a recorded result keeps a half-open breaker waiting"]
pub struct BreakerPermit {
    generation: u64,
    kind: PermitKind,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum PermitKind {
    Conditional,
    Unconditional,
}

/// Manual command to a breaker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ManualCommand {
    /// Reject all calls until this time; `None`: until a manual close.
    Open {
        until: Option<Timestamp>,
    },
    Close,
    /// Close, and clear the statistics and the last failure.
    Reset,
    /// End a timed open period now, because a user requests a retry. A breaker that is open until a
    /// manual close stays open.
    TryNow,
}

/// Last failure that counted against the service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LastFailure {
    pub cause: Cause,
    pub message: String,
    pub at: Timestamp,
}

impl Breaker {
    /// Returns a closed breaker without history.
    #[must_use]
    pub fn new(name: &str, policy: BreakerPolicy, now: Timestamp) -> Self {
        Self {
            name: name.to_owned(),
            policy,
            state: StateData::closed(),
            state_since: now,
            generation: 0,
            consecutive_opens: 0,
            failed_items: FailureStreak::default(),
            statistics: BreakerStatistics::default(),
            statistics_since: now,
            last_failure: None,
            last_transition: None,
            transitions: Vec::new(),
        }
    }

    /// Restores a breaker from its persisted form; old failures decay by their age at `now`.
    #[must_use]
    pub fn restore(
        name: &str,
        policy: BreakerPolicy,
        persisted: &PersistedBreaker,
        now: Timestamp,
    ) -> Self {
        persisted::decode(name, policy, persisted, now)
    }

    #[must_use]
    pub fn to_persisted(&self) -> PersistedBreaker {
        persisted::encode(self)
    }

    /// Replaces the policy; state and counts are kept.
    pub fn set_policy(&mut self, policy: BreakerPolicy) {
        self.policy = policy;
    }

    /// Admits or rejects a call. An open breaker whose time is over becomes half-open first.
    pub fn admit(&mut self, now: Timestamp) -> (Admission, Option<BreakerTransition>) {
        let transition = self.half_open_if_due(now);
        let permit = BreakerPermit { generation: self.generation, kind: PermitKind::Conditional };
        let admission = match &mut self.state {
            StateData::Closed { .. } => Admission::Admitted(permit),
            StateData::HalfOpen { is_probe_in_flight: true, .. } => Admission::ProbeInFlight,
            StateData::HalfOpen { is_probe_in_flight, .. } => {
                *is_probe_in_flight = true;
                Admission::Admitted(permit)
            }
            StateData::Open { until } => {
                self.statistics.increment(|stats| &mut stats.rejected);
                Admission::Rejected { until: *until }
            }
        };
        (admission, transition)
    }

    /// Makes a closed breaker half-open, because a session failed. An open period does not begin.
    pub fn require_probes(&mut self, now: Timestamp) -> Option<BreakerTransition> {
        let StateData::Closed { failure_streak, .. } = &self.state else { return None };
        let half_open = StateData::half_open(failure_streak.clone());
        self.remember_failed_items();
        let reason = "a session failed: one request at a time is admitted";
        Some(self.transition_to(half_open, reason, now))
    }

    /// Returns a permit for a call that is made in any state, so that its result counts.
    pub fn admit_unconditionally(
        &mut self,
        now: Timestamp,
    ) -> (BreakerPermit, Option<BreakerTransition>) {
        let transition = self.half_open_if_due(now);
        (BreakerPermit { generation: self.generation, kind: PermitKind::Unconditional }, transition)
    }

    pub fn record_success(
        &mut self,
        permit: BreakerPermit,
        now: Timestamp,
    ) -> Option<BreakerTransition> {
        self.statistics.increment(|stats| &mut stats.calls);
        self.statistics.increment(|stats| &mut stats.successes);
        let is_late = self.finish_call(permit);
        let policy = self.policy;
        match &mut self.state {
            StateData::Open { .. } => None,
            StateData::Closed { .. } | StateData::HalfOpen { .. } if is_late => None,
            StateData::Closed { failure_streak, window } => {
                failure_streak.clear();
                window.push(policy.window, None, now);
                None
            }
            StateData::HalfOpen { successes, failure_streak, .. } => {
                failure_streak.clear();
                *successes += 1;
                let count = *successes;
                (count >= policy.success_threshold).then(|| {
                    let reason = format!("{} in a row", number_with_noun(count.into(), "success"));
                    self.transition_to(StateData::closed(), reason, now)
                })
            }
        }
    }

    /// Records a failure for which the called service is responsible.
    pub fn record_failure(
        &mut self,
        permit: BreakerPermit,
        subject: &CallSubject,
        failure: &Failure,
        now: Timestamp,
    ) -> Option<BreakerTransition> {
        self.statistics.increment(|stats| &mut stats.calls);
        self.statistics.increment(|stats| &mut stats.failures);
        let (cause, message) = (failure.cause, failure.to_string());
        self.last_failure = Some(LastFailure { cause, message, at: now });
        let is_late = self.finish_call(permit);
        let (policy, is_in_open_period) = (self.policy, self.is_in_open_period());
        let reason = match &mut self.state {
            StateData::Open { .. } => None,
            StateData::Closed { .. } | StateData::HalfOpen { .. } if is_late => None,
            // An item that failed before says nothing about the service.
            StateData::HalfOpen { .. } if self.failed_items.contains(subject) => None,
            StateData::HalfOpen { successes, failure_streak, .. } => {
                *successes = 0;
                failure_streak.push(subject, now);
                self.failed_items.push(subject, now);
                let count = failure_streak.len();
                if is_in_open_period {
                    let is_conclusive =
                        *subject == CallSubject::Service || count >= DISTINCT_FAILURES_MIN;
                    is_conclusive.then(|| format!("still failing: {failure}"))
                } else {
                    policy.reason_by_streak(count, failure)
                }
            }
            StateData::Closed { failure_streak, window } => {
                failure_streak.push(subject, now);
                window.push(policy.window, Some(subject.clone()), now);
                let (count, rate) = (failure_streak.len(), window.failure_rate());
                policy
                    .reason_by_streak(count, failure)
                    .or_else(|| policy.reason_by_rate(rate, failure))
            }
        };
        reason.map(|reason| self.trip(reason, now))
    }

    /// Returns true if [`record_failure`](Self::record_failure) would open the breaker.
    #[must_use]
    pub fn would_open(
        &self,
        permit: BreakerPermit,
        subject: &CallSubject,
        failure: &Failure,
        now: Timestamp,
    ) -> bool {
        self.clone().record_failure(permit, subject, failure, now).is_some()
    }

    /// Clears the counted failures and records the success, which showed that the service did not
    /// cause them.
    pub fn clear_and_record_success(
        &mut self,
        permit: BreakerPermit,
        now: Timestamp,
    ) -> Option<BreakerTransition> {
        if let StateData::Closed { failure_streak, window } = &mut self.state {
            (*failure_streak, *window) = (FailureStreak::default(), CallWindow::default());
        }
        self.record_success(permit, now)
    }

    /// Records a result that says nothing about the service.
    pub fn record_neutral(&mut self, permit: BreakerPermit) {
        self.statistics.increment(|stats| &mut stats.calls);
        self.finish_call(permit);
    }

    pub fn record_cancelled(&mut self, permit: BreakerPermit) {
        self.finish_call(permit);
    }

    /// Applies a manual command. It holds until the next command or its own end time.
    pub fn apply_command(
        &mut self,
        command: ManualCommand,
        now: Timestamp,
    ) -> Option<BreakerTransition> {
        match command {
            ManualCommand::Open { until } => {
                let is_unchanged =
                    matches!(self.state, StateData::Open { until: known } if known == until);
                (!is_unchanged)
                    .then(|| self.transition_to(StateData::Open { until }, OPENED_MANUALLY, now))
            }
            ManualCommand::Close => self.close_manually(CLOSED_MANUALLY, now),
            ManualCommand::Reset => {
                self.statistics = BreakerStatistics::default();
                self.statistics_since = now;
                self.last_failure = None;
                if let StateData::Closed { .. } = self.state {
                    self.state = StateData::closed();
                    // Other processes notice the reset by the changed generation.
                    self.generation = self.generation.wrapping_add(1);
                }
                self.close_manually(RESET_MANUALLY, now)
            }
            ManualCommand::TryNow => match self.state {
                StateData::Open { until: Some(_) } => Some(self.transition_to(
                    StateData::half_open(FailureStreak::default()),
                    "a manual retry was requested",
                    now,
                )),
                StateData::Open { until: None }
                | StateData::Closed { .. }
                | StateData::HalfOpen { .. } => None,
            },
        }
    }
}

impl Breaker {
    fn half_open_if_due(&mut self, now: Timestamp) -> Option<BreakerTransition> {
        match self.state {
            StateData::Open { until: Some(until) } if self.is_expired(until, now) => {
                Some(self.transition_to(
                    StateData::half_open(FailureStreak::default()),
                    "the open period is over: one probe is admitted",
                    now,
                ))
            }
            StateData::Open { .. } | StateData::Closed { .. } | StateData::HalfOpen { .. } => None,
        }
    }

    /// Returns true if the open period is over. A clock set back by a day must not keep it open.
    fn is_expired(&self, until: Timestamp, now: Timestamp) -> bool {
        let longest = until.since(self.state_since).saturating_add(CLOCK_STEP_TOLERANCE);
        until <= now || until.since(now) > longest
    }

    /// Ends a call. Returns true if it was admitted in an earlier state.
    fn finish_call(&mut self, permit: BreakerPermit) -> bool {
        let is_late = permit.generation != self.generation;
        if let StateData::HalfOpen { is_probe_in_flight, .. } = &mut self.state
            && !is_late
            && permit.kind == PermitKind::Conditional
        {
            *is_probe_in_flight = false;
        }
        is_late
    }

    fn trip(&mut self, reason: String, now: Timestamp) -> BreakerTransition {
        let (base, max) = (self.policy.recovery_timeout, self.policy.max_open_duration());
        let until = now.after(doubled_delay(base, self.consecutive_opens, max));
        self.consecutive_opens = self.consecutive_opens.saturating_add(1);
        self.remember_failed_items();
        self.transition_to(StateData::Open { until: Some(until) }, reason, now)
    }

    /// Keeps the items that failed while it was closed.
    fn remember_failed_items(&mut self) {
        if let StateData::Closed { failure_streak, window } = &self.state {
            self.failed_items = window.failed_items();
            self.failed_items.extend(failure_streak);
        }
    }

    fn close_manually(&mut self, reason: &str, now: Timestamp) -> Option<BreakerTransition> {
        match self.state {
            StateData::Closed { .. } => None,
            StateData::Open { .. } | StateData::HalfOpen { .. } => {
                Some(self.transition_to(StateData::closed(), reason, now))
            }
        }
    }

    fn transition_to(
        &mut self,
        state: StateData,
        reason: impl Into<String>,
        now: Timestamp,
    ) -> BreakerTransition {
        let (from, to) = (self.state.kind(), state.kind());
        match to {
            BreakerState::Closed => {
                self.consecutive_opens = 0;
                self.failed_items.clear();
            }
            BreakerState::Open => self.statistics.increment(|stats| &mut stats.times_opened),
            BreakerState::HalfOpen => {}
        }
        self.state = state;
        self.state_since = now;
        self.generation = self.generation.wrapping_add(1);
        let (name, generation, severity) = (self.name.clone(), self.generation, to.severity());
        let transition = BreakerTransition {
            breaker: name,
            generation,
            from,
            to,
            severity,
            at: now,
            reason: reason.into(),
        };
        self.last_transition = Some(transition.clone());
        push_transition(&mut self.transitions, &transition);
        transition
    }
}

impl StateData {
    fn closed() -> Self {
        Self::Closed { failure_streak: FailureStreak::default(), window: CallWindow::default() }
    }

    fn half_open(failure_streak: FailureStreak) -> Self {
        Self::HalfOpen { successes: 0, failure_streak, is_probe_in_flight: false }
    }

    fn kind(&self) -> BreakerState {
        match self {
            Self::Closed { .. } => BreakerState::Closed,
            Self::Open { .. } => BreakerState::Open,
            Self::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }
}
