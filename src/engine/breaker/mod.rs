//! A circuit breaker: leaves alone what keeps failing, and finds out with care when it is well.
//!
//! ```text
//!           too many failures            its time is over
//!   Closed ───────────────────▶ Open ─────────────────────▶ HalfOpen
//!     ▲                          ▲                            │  │
//!     │                          └──────── a failure ─────────┘  │
//!     └──────────────────── enough successes in a row ───────────┘
//! ```
//!
//! Two counts open it. So many failures in a row, of *different* items, find an outage within
//! seconds: one item that always fails is its own affair. A share of the newest calls finds a
//! source that fails now and then, be it fast or slow. While it is tried, a failure of the service
//! itself opens it again, and so do two items that had not failed before: one that fails in any
//! weather must not keep the others waiting. Only what the one called is to blame for counts, see
//! [`HealthSignal`]. The states are those of M. Nygard, "Release It!" (2007), chapter 5.

mod accessors;
mod health_signal;
mod history;
mod persisted;
#[cfg(test)]
mod proptests;
mod statistics;
#[cfg(test)]
mod tests;
mod transition;
mod window;

use std::time::Duration;

pub use self::health_signal::HealthSignal;
pub use self::history::{CloseEvent, OpenPeriod, is_manual};
pub use self::persisted::{
    PersistedBreaker, PersistedBucket, PersistedFailure, PersistedLastFailure, PersistedTransition,
    PersistedWindow,
};
pub use self::statistics::BreakerStatistics;
pub use self::transition::{BreakerState, BreakerTransition, Severity};
pub use self::window::{CallSubject, FailureRate};

use self::history::{CLOSED_MANUALLY, OPENED_MANUALLY, RESET_MANUALLY};
use self::window::{CallWindow, FailureStreak};
use crate::engine::{Cause, Failure, Timestamp};

/// A clock that was set back by no more than this only makes the wait longer.
const CLOCK_STEP_TOLERANCE: Duration = Duration::from_secs(60);

/// How many different ones must have failed before that means anything: one item that is asked for
/// again and again says nothing about the others.
const DISTINCT_FAILURES_MIN: u32 = 2;

/// When a breaker opens, and how it closes again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerPolicy {
    /// Failures in a row, of different items, that open it; at least 1.
    pub failure_threshold: u32,
    /// Calls older than this say nothing any more.
    pub window: Duration,
    /// The share of failed calls in the window that opens it, in `0.0..=1.0`.
    pub failure_rate: f64,
    /// Fewer calls than this have no share.
    pub min_calls: u32,
    /// How long it stays open the first time; twice as long after each call that failed to show
    /// that all is well.
    pub recovery_timeout: Duration,
    /// It never stays open for longer by itself.
    pub max_recovery_timeout: Duration,
    /// Successes in a row that close it; at least 1.
    pub success_threshold: u32,
}

/// One breaker. Whoever calls asks it first and tells it the end.
#[derive(Clone, Debug, PartialEq)]
pub struct Breaker {
    name: String,
    policy: BreakerPolicy,
    state: StateData,
    state_since: Timestamp,
    generation: u64,
    consecutive_opens: u32,
    /// The items that have failed since it was last closed, before it opened or while it was tried.
    failed_items: FailureStreak,
    statistics: BreakerStatistics,
    statistics_since: Timestamp,
    last_failure: Option<LastFailure>,
    last_transition: Option<BreakerTransition>,
    /// The newest ones, the newest last.
    transitions: Vec<BreakerTransition>,
}

#[derive(Clone, Debug, PartialEq)]
enum StateData {
    Closed {
        failure_streak: FailureStreak,
        window: CallWindow,
    },
    Open {
        /// `None` until a person closes it.
        until: Option<Timestamp>,
    },
    HalfOpen {
        successes: u32,
        /// The failures since the last success.
        failure_streak: FailureStreak,
        /// The one call that may try is under way.
        is_probe_in_flight: bool,
    },
}

/// The answer to whoever wants to call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Admission {
    Admitted(BreakerPermit),
    /// One call is under way to see whether all is well: wait for its end.
    ProbeInFlight,
    /// Nothing goes through before then; `None` until a person closes it.
    Rejected {
        until: Option<Timestamp>,
    },
}

/// A call that was let through. It tells a late end from a new one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "a permit whose end is not told keeps a half-open breaker waiting"]
pub struct BreakerPermit {
    generation: u64,
    kind: PermitKind,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum PermitKind {
    Conditional,
    /// Did not ask for leave.
    Unconditional,
}

/// What a person wants of a breaker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ManualCommand {
    /// Let nothing through, until then or until a person closes it.
    Open { until: Option<Timestamp> },
    /// Let everything through.
    Close,
    /// The same, and forget what was counted.
    Reset,
    /// A person asks for the work now: end a wait that only the breaker chose.
    TryNow,
}

/// The last failure that counted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LastFailure {
    pub cause: Cause,
    pub message: String,
    pub at: Timestamp,
}

impl Breaker {
    /// A closed breaker that has seen nothing.
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

    /// The breaker as it was written down, by now.
    #[must_use]
    pub fn restore(
        name: &str,
        policy: BreakerPolicy,
        memory: &PersistedBreaker,
        now: Timestamp,
    ) -> Self {
        persisted::decode(name, policy, memory, now)
    }

    #[must_use]
    pub fn to_persisted(&self) -> PersistedBreaker {
        persisted::encode(self)
    }

    /// Judges by another policy from now on; what it has come to stands.
    pub fn set_policy(&mut self, policy: BreakerPolicy) {
        self.policy = policy;
    }

    /// Lets a call through, or not. An open breaker whose time is over lets one try.
    pub fn admit(&mut self, now: Timestamp) -> (Admission, Option<BreakerTransition>) {
        let change = self.half_open_if_due(now);
        let permit = BreakerPermit { generation: self.generation, kind: PermitKind::Conditional };
        let admission = match &mut self.state {
            StateData::Closed { .. } => Admission::Admitted(permit),
            StateData::HalfOpen { is_probe_in_flight: true, .. } => Admission::ProbeInFlight,
            StateData::HalfOpen { is_probe_in_flight: is_out, .. } => {
                *is_out = true;
                Admission::Admitted(permit)
            }
            StateData::Open { until } => {
                self.statistics.increment(|count| &mut count.rejected);
                Admission::Rejected { until: *until }
            }
        };
        (admission, change)
    }

    /// Notes a call that goes out whatever the breaker says, so that its end counts.
    pub fn admit_unconditionally(
        &mut self,
        now: Timestamp,
    ) -> (BreakerPermit, Option<BreakerTransition>) {
        let change = self.half_open_if_due(now);
        (BreakerPermit { generation: self.generation, kind: PermitKind::Unconditional }, change)
    }

    /// Notes that a call ended well.
    pub fn record_success(
        &mut self,
        permit: BreakerPermit,
        now: Timestamp,
    ) -> Option<BreakerTransition> {
        self.statistics.increment(|count| &mut count.calls);
        self.statistics.increment(|count| &mut count.successes);
        let is_late = self.finish_call(permit);
        let policy = self.policy;
        match &mut self.state {
            StateData::Open { .. } => None,
            StateData::Closed { .. } | StateData::HalfOpen { .. } if is_late => None,
            StateData::Closed { failure_streak: row, window } => {
                row.clear();
                window.push(policy.window, None, now);
                None
            }
            StateData::HalfOpen { successes, failure_streak: row, .. } => {
                row.clear();
                *successes += 1;
                let count = *successes;
                (count >= policy.success_threshold).then(|| {
                    let why = format!("{} in a row", pluralize(count, "success", "successes"));
                    self.transition_to(StateData::closed(), why, now)
                })
            }
        }
    }

    /// Notes that a call failed through the fault of the one called.
    pub fn record_failure(
        &mut self,
        permit: BreakerPermit,
        subject: &CallSubject,
        failure: &Failure,
        now: Timestamp,
    ) -> Option<BreakerTransition> {
        self.statistics.increment(|count| &mut count.calls);
        self.statistics.increment(|count| &mut count.failures);
        let (cause, message) = (failure.cause, failure.to_string());
        self.last_failure = Some(LastFailure { cause, message, at: now });
        let is_late = self.finish_call(permit);
        let policy = self.policy;
        let why = match &mut self.state {
            StateData::Open { .. } => None,
            StateData::Closed { .. } | StateData::HalfOpen { .. } if is_late => None,
            // It fails whatever the one called is like.
            StateData::HalfOpen { .. } if self.failed_items.contains(subject) => None,
            StateData::HalfOpen { successes, failure_streak: row, .. } => {
                *successes = 0;
                row.push(subject, now);
                self.failed_items.push(subject, now);
                let is_proof =
                    *subject == CallSubject::Service || row.len() >= DISTINCT_FAILURES_MIN;
                is_proof.then(|| format!("still failing: {failure}"))
            }
            StateData::Closed { failure_streak: row, window } => {
                row.push(subject, now);
                window.push(policy.window, Some(subject.clone()), now);
                let (row, share) = (row.len(), window.failure_rate());
                if row >= policy.failure_threshold {
                    Some(format!("{} in a row: {failure}", pluralize(row, "failure", "failures")))
                } else if policy.is_rate_exceeded(share) {
                    Some(format!("{} of {} calls failed: {failure}", share.failed, share.calls))
                } else {
                    None
                }
            }
        };
        why.map(|why| self.trip(why, now))
    }

    /// Tells beforehand whether [`failed`](Self::failed) would open it.
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

    /// Notes that the one called is well after all: what failed before did so by itself.
    pub fn clear_and_record_success(
        &mut self,
        permit: BreakerPermit,
        now: Timestamp,
    ) -> Option<BreakerTransition> {
        if let StateData::Closed { failure_streak: row, window } = &mut self.state {
            (*row, *window) = (FailureStreak::default(), CallWindow::default());
        }
        self.record_success(permit, now)
    }

    /// Notes that a call ended without a word about the one called.
    pub fn record_neutral(&mut self, permit: BreakerPermit) {
        self.statistics.increment(|count| &mut count.calls);
        self.finish_call(permit);
    }

    /// Notes that a call was given up before its end.
    pub fn record_cancelled(&mut self, permit: BreakerPermit) {
        self.finish_call(permit);
    }

    /// Does what a person wants. The word of a person stands until the next one, or its time.
    pub fn apply_command(
        &mut self,
        order: ManualCommand,
        now: Timestamp,
    ) -> Option<BreakerTransition> {
        match order {
            ManualCommand::Open { until } => {
                let is_the_same =
                    matches!(self.state, StateData::Open { until: known } if known == until);
                (!is_the_same)
                    .then(|| self.transition_to(StateData::Open { until }, OPENED_MANUALLY, now))
            }
            ManualCommand::Close => self.close_manually(CLOSED_MANUALLY, now),
            ManualCommand::Reset => {
                self.statistics = BreakerStatistics::default();
                self.statistics_since = now;
                self.last_failure = None;
                if let StateData::Closed { .. } = self.state {
                    self.state = StateData::closed();
                    // Others must notice that the counts are gone.
                    self.generation = self.generation.wrapping_add(1);
                }
                self.close_manually(RESET_MANUALLY, now)
            }
            ManualCommand::TryNow => match self.state {
                StateData::Open { until: Some(_) } => Some(self.transition_to(
                    StateData::half_open(),
                    "a person asks for the work now",
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
                    StateData::half_open(),
                    "its time is over: one call may try",
                    now,
                ))
            }
            StateData::Open { .. } | StateData::Closed { .. } | StateData::HalfOpen { .. } => None,
        }
    }

    /// A clock that was set back by a day must not keep it open for a day.
    fn is_expired(&self, until: Timestamp, now: Timestamp) -> bool {
        let longest = until.since(self.state_since).saturating_add(CLOCK_STEP_TOLERANCE);
        until <= now || until.since(now) > longest
    }

    /// Takes note that a call is back; tells whether it was let through in another state.
    fn finish_call(&mut self, permit: BreakerPermit) -> bool {
        let is_late = permit.generation != self.generation;
        if let StateData::HalfOpen { is_probe_in_flight: is_out, .. } = &mut self.state
            && !is_late
            && permit.kind == PermitKind::Conditional
        {
            *is_out = false;
        }
        is_late
    }

    fn trip(&mut self, why: String, now: Timestamp) -> BreakerTransition {
        let doublings = 2_u32.saturating_pow(self.consecutive_opens);
        let timeout = self.policy.recovery_timeout.saturating_mul(doublings);
        let until = now.after(timeout.min(self.policy.max_open_duration()));
        self.consecutive_opens = self.consecutive_opens.saturating_add(1);
        if let StateData::Closed { failure_streak: row, window } = &self.state {
            self.failed_items = window.failed_items();
            self.failed_items.extend(row);
        }
        self.transition_to(StateData::Open { until: Some(until) }, why, now)
    }

    fn close_manually(&mut self, why: &str, now: Timestamp) -> Option<BreakerTransition> {
        match self.state {
            StateData::Closed { .. } => None,
            StateData::Open { .. } | StateData::HalfOpen { .. } => {
                Some(self.transition_to(StateData::closed(), why, now))
            }
        }
    }

    fn transition_to(
        &mut self,
        state: StateData,
        why: impl Into<String>,
        now: Timestamp,
    ) -> BreakerTransition {
        let (from, to) = (self.state.kind(), state.kind());
        match to {
            BreakerState::Closed => {
                self.consecutive_opens = 0;
                self.failed_items.clear();
            }
            BreakerState::Open => self.statistics.increment(|count| &mut count.times_opened),
            BreakerState::HalfOpen => {}
        }
        self.state = state;
        self.state_since = now;
        self.generation = self.generation.wrapping_add(1);
        let (name, no, severity) = (self.name.clone(), self.generation, to.severity());
        let change = BreakerTransition {
            breaker: name,
            generation: no,
            from,
            to,
            severity,
            at: now,
            reason: why.into(),
        };
        self.last_transition = Some(change.clone());
        history::push_transition(&mut self.transitions, &change);
        change
    }
}

impl BreakerPolicy {
    /// The defaults of `[breaker]`.
    pub const DEFAULT: Self = Self {
        failure_threshold: 5,
        window: Duration::from_secs(600),
        failure_rate: 0.5,
        min_calls: 20,
        recovery_timeout: Duration::from_secs(60),
        max_recovery_timeout: Duration::from_secs(600),
        success_threshold: 3,
    };

    fn is_rate_exceeded(&self, share: FailureRate) -> bool {
        let rate = f64::from(share.failed) / f64::from(share.calls.max(1));
        share.calls >= self.min_calls
            && share.failed >= DISTINCT_FAILURES_MIN
            && rate >= self.failure_rate
    }

    fn max_open_duration(&self) -> Duration {
        self.max_recovery_timeout.max(self.recovery_timeout)
    }
}

impl StateData {
    fn closed() -> Self {
        Self::Closed { failure_streak: FailureStreak::default(), window: CallWindow::default() }
    }

    fn half_open() -> Self {
        Self::HalfOpen {
            successes: 0,
            failure_streak: FailureStreak::default(),
            is_probe_in_flight: false,
        }
    }

    fn kind(&self) -> BreakerState {
        match self {
            Self::Closed { .. } => BreakerState::Closed,
            Self::Open { .. } => BreakerState::Open,
            Self::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }
}

fn pluralize(number: u32, one: &str, several: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {several}") }
}
