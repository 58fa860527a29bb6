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
//! [`Bearing`]. The states are those of M. Nygard, "Release It!" (2007), chapter 5.

mod bearing;
mod change;
#[cfg(test)]
mod laws;
mod look;
mod memory;
mod opening;
mod record;
mod statistics;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use self::bearing::Bearing;
pub use self::change::{Change, Phase, Severity};
pub use self::memory::{
    ChangeMemory, FailureMemory, FaultMemory, Memory, SliceMemory, WindowMemory,
};
pub use self::opening::{Closing, Opening, is_by_hand};
pub use self::record::{Share, Subject};
pub use self::statistics::Statistics;

use self::opening::{CLOSED_BY_HAND, OPENED_BY_HAND, RESET_BY_HAND};
use self::record::{Row, Window};
use crate::engine::{Cause, Failure, Timestamp};

/// A clock that was set back by no more than this only makes the wait longer.
const CLOCK_SLIP: Duration = Duration::from_secs(60);

/// How many different ones must have failed before that means anything: one item that is asked for
/// again and again says nothing about the others.
const DIFFERENT_MIN: u32 = 2;

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
    state: State,
    since: Timestamp,
    generation: u64,
    openings: u32,
    /// The items that have failed since it was last closed, before it opened or while it was tried.
    ill: Row,
    statistics: Statistics,
    counted_since: Timestamp,
    last_failure: Option<LastFailure>,
    last_change: Option<Change>,
    /// The newest ones, the newest last.
    changes: Vec<Change>,
}

#[derive(Clone, Debug, PartialEq)]
enum State {
    Closed {
        row: Row,
        window: Window,
    },
    Open {
        /// `None` until a person closes it.
        until: Option<Timestamp>,
    },
    HalfOpen {
        successes: u32,
        /// The failures since the last success.
        row: Row,
        /// The one call that may try is under way.
        is_out: bool,
    },
}

/// The answer to whoever wants to call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Admission {
    Go(Permit),
    /// One call is under way to see whether all is well: wait for its end.
    Busy,
    /// Nothing goes through before then; `None` until a person closes it.
    Shut {
        until: Option<Timestamp>,
    },
}

/// A call that was let through. It tells a late end from a new one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "a permit whose end is not told keeps a half-open breaker waiting"]
pub struct Permit {
    generation: u64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Asked,
    /// Did not ask for leave.
    Unasked,
}

/// What a person wants of a breaker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// Let nothing through, until then or until a person closes it.
    Open { until: Option<Timestamp> },
    /// Let everything through.
    Close,
    /// The same, and forget what was counted.
    Reset,
    /// A person asks for the work now: end a wait that only the breaker chose.
    Try,
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
            state: State::closed(),
            since: now,
            generation: 0,
            openings: 0,
            ill: Row::default(),
            statistics: Statistics::default(),
            counted_since: now,
            last_failure: None,
            last_change: None,
            changes: Vec::new(),
        }
    }

    /// The breaker as it was written down, by now.
    #[must_use]
    pub fn recall(name: &str, policy: BreakerPolicy, memory: &Memory, now: Timestamp) -> Self {
        memory::read(name, policy, memory, now)
    }

    #[must_use]
    pub fn memory(&self) -> Memory {
        memory::write(self)
    }

    /// Judges by another policy from now on; what it has come to stands.
    pub fn set_policy(&mut self, policy: BreakerPolicy) {
        self.policy = policy;
    }

    /// Lets a call through, or not. An open breaker whose time is over lets one try.
    pub fn admit(&mut self, now: Timestamp) -> (Admission, Option<Change>) {
        let change = self.half_open_if_due(now);
        let permit = Permit { generation: self.generation, kind: Kind::Asked };
        let admission = match &mut self.state {
            State::Closed { .. } => Admission::Go(permit),
            State::HalfOpen { is_out: true, .. } => Admission::Busy,
            State::HalfOpen { is_out, .. } => {
                *is_out = true;
                Admission::Go(permit)
            }
            State::Open { until } => {
                self.statistics.add(|count| &mut count.rejected);
                Admission::Shut { until: *until }
            }
        };
        (admission, change)
    }

    /// Notes a call that goes out whatever the breaker says, so that its end counts.
    pub fn unasked(&mut self, now: Timestamp) -> (Permit, Option<Change>) {
        let change = self.half_open_if_due(now);
        (Permit { generation: self.generation, kind: Kind::Unasked }, change)
    }

    /// Notes that a call ended well.
    pub fn succeeded(&mut self, permit: Permit, now: Timestamp) -> Option<Change> {
        self.statistics.add(|count| &mut count.calls);
        self.statistics.add(|count| &mut count.successes);
        let is_late = self.returned(permit);
        let policy = self.policy;
        match &mut self.state {
            State::Open { .. } => None,
            State::Closed { .. } | State::HalfOpen { .. } if is_late => None,
            State::Closed { row, window } => {
                row.clear();
                window.push(policy.window, None, now);
                None
            }
            State::HalfOpen { successes, row, .. } => {
                row.clear();
                *successes += 1;
                let count = *successes;
                (count >= policy.success_threshold).then(|| {
                    let why = format!("{} in a row", many(count, "success", "successes"));
                    self.go(State::closed(), why, now)
                })
            }
        }
    }

    /// Notes that a call failed through the fault of the one called.
    pub fn failed(
        &mut self,
        permit: Permit,
        subject: &Subject,
        failure: &Failure,
        now: Timestamp,
    ) -> Option<Change> {
        self.statistics.add(|count| &mut count.calls);
        self.statistics.add(|count| &mut count.failures);
        let (cause, message) = (failure.cause, failure.to_string());
        self.last_failure = Some(LastFailure { cause, message, at: now });
        let is_late = self.returned(permit);
        let policy = self.policy;
        let why = match &mut self.state {
            State::Open { .. } => None,
            State::Closed { .. } | State::HalfOpen { .. } if is_late => None,
            // It fails whatever the one called is like.
            State::HalfOpen { .. } if self.ill.holds(subject) => None,
            State::HalfOpen { successes, row, .. } => {
                *successes = 0;
                row.push(subject, now);
                self.ill.push(subject, now);
                let is_proof = *subject == Subject::Service || row.len() >= DIFFERENT_MIN;
                is_proof.then(|| format!("still failing: {failure}"))
            }
            State::Closed { row, window } => {
                row.push(subject, now);
                window.push(policy.window, Some(subject.clone()), now);
                let (row, share) = (row.len(), window.share());
                if row >= policy.failure_threshold {
                    Some(format!("{} in a row: {failure}", many(row, "failure", "failures")))
                } else if policy.is_too_much(share) {
                    Some(format!("{} of {} calls failed: {failure}", share.failed, share.calls))
                } else {
                    None
                }
            }
        };
        why.map(|why| self.open(why, now))
    }

    /// Tells beforehand whether [`failed`](Self::failed) would open it.
    #[must_use]
    pub fn would_open(
        &self,
        permit: Permit,
        subject: &Subject,
        failure: &Failure,
        now: Timestamp,
    ) -> bool {
        self.clone().failed(permit, subject, failure, now).is_some()
    }

    /// Notes that the one called is well after all: what failed before did so by itself.
    pub fn absolved(&mut self, permit: Permit, now: Timestamp) -> Option<Change> {
        if let State::Closed { row, window } = &mut self.state {
            (*row, *window) = (Row::default(), Window::default());
        }
        self.succeeded(permit, now)
    }

    /// Notes that a call ended without a word about the one called.
    pub fn said_nothing(&mut self, permit: Permit) {
        self.statistics.add(|count| &mut count.calls);
        self.returned(permit);
    }

    /// Notes that a call was given up before its end.
    pub fn dropped(&mut self, permit: Permit) {
        self.returned(permit);
    }

    /// Does what a person wants. The word of a person stands until the next one, or its time.
    pub fn obey(&mut self, order: Order, now: Timestamp) -> Option<Change> {
        match order {
            Order::Open { until } => {
                let is_the_same =
                    matches!(self.state, State::Open { until: known } if known == until);
                (!is_the_same).then(|| self.go(State::Open { until }, OPENED_BY_HAND, now))
            }
            Order::Close => self.close_by_hand(CLOSED_BY_HAND, now),
            Order::Reset => {
                self.statistics = Statistics::default();
                self.counted_since = now;
                self.last_failure = None;
                if let State::Closed { .. } = self.state {
                    self.state = State::closed();
                    // Others must notice that the counts are gone.
                    self.generation = self.generation.wrapping_add(1);
                }
                self.close_by_hand(RESET_BY_HAND, now)
            }
            Order::Try => match self.state {
                State::Open { until: Some(_) } => {
                    Some(self.go(State::half_open(), "a person asks for the work now", now))
                }
                State::Open { until: None } | State::Closed { .. } | State::HalfOpen { .. } => None,
            },
        }
    }
}

impl Breaker {
    fn half_open_if_due(&mut self, now: Timestamp) -> Option<Change> {
        match self.state {
            State::Open { until: Some(until) } if self.is_over(until, now) => {
                Some(self.go(State::half_open(), "its time is over: one call may try", now))
            }
            State::Open { .. } | State::Closed { .. } | State::HalfOpen { .. } => None,
        }
    }

    /// A clock that was set back by a day must not keep it open for a day.
    fn is_over(&self, until: Timestamp, now: Timestamp) -> bool {
        let longest = until.since(self.since).saturating_add(CLOCK_SLIP);
        until <= now || until.since(now) > longest
    }

    /// Takes note that a call is back; tells whether it was let through in another state.
    fn returned(&mut self, permit: Permit) -> bool {
        let is_late = permit.generation != self.generation;
        if let State::HalfOpen { is_out, .. } = &mut self.state
            && !is_late
            && permit.kind == Kind::Asked
        {
            *is_out = false;
        }
        is_late
    }

    fn open(&mut self, why: String, now: Timestamp) -> Change {
        let doublings = 2_u32.saturating_pow(self.openings);
        let timeout = self.policy.recovery_timeout.saturating_mul(doublings);
        let until = now.after(timeout.min(self.policy.longest()));
        self.openings = self.openings.saturating_add(1);
        if let State::Closed { row, window } = &self.state {
            self.ill = window.ill();
            self.ill.extend(row);
        }
        self.go(State::Open { until: Some(until) }, why, now)
    }

    fn close_by_hand(&mut self, why: &str, now: Timestamp) -> Option<Change> {
        match self.state {
            State::Closed { .. } => None,
            State::Open { .. } | State::HalfOpen { .. } => Some(self.go(State::closed(), why, now)),
        }
    }

    fn go(&mut self, state: State, why: impl Into<String>, now: Timestamp) -> Change {
        let (from, to) = (self.state.phase(), state.phase());
        match to {
            Phase::Closed => {
                self.openings = 0;
                self.ill.clear();
            }
            Phase::Open => self.statistics.add(|count| &mut count.opened),
            Phase::HalfOpen => {}
        }
        self.state = state;
        self.since = now;
        self.generation = self.generation.wrapping_add(1);
        let (name, no, severity) = (self.name.clone(), self.generation, to.severity());
        let change = Change { name, no, from, to, severity, at: now, why: why.into() };
        self.last_change = Some(change.clone());
        opening::note(&mut self.changes, &change);
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

    fn is_too_much(&self, share: Share) -> bool {
        let rate = f64::from(share.failed) / f64::from(share.calls.max(1));
        share.calls >= self.min_calls && share.failed >= DIFFERENT_MIN && rate >= self.failure_rate
    }

    fn longest(&self) -> Duration {
        self.max_recovery_timeout.max(self.recovery_timeout)
    }
}

impl State {
    fn closed() -> Self {
        Self::Closed { row: Row::default(), window: Window::default() }
    }

    fn half_open() -> Self {
        Self::HalfOpen { successes: 0, row: Row::default(), is_out: false }
    }

    fn phase(&self) -> Phase {
        match self {
            Self::Closed { .. } => Phase::Closed,
            Self::Open { .. } => Phase::Open,
            Self::HalfOpen { .. } => Phase::HalfOpen,
        }
    }
}

fn many(number: u32, one: &str, several: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {several}") }
}
