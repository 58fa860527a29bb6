//! The gate: closed until a moment, then open for one until one succeeds.

use std::fmt;
use std::time::Duration;

use crate::engine::quota::Family;
use crate::engine::{ClockStep, Timestamp};

/// A try whose answer never comes gives way to another after this.
const PROVING_MAX: Duration = Duration::from_secs(60);

/// The gate is closed, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Hold {
    /// Margin and jitter included.
    pub until: Timestamp,
    pub reason: HoldReason,
    /// The user set a limit to waits, and this one is longer: someone should know.
    pub exceeds_max_wait: bool,
}

/// What closed the gate.
#[derive(Clone, Debug, PartialEq)]
pub enum HoldReason {
    /// Retry-After.
    Told(Duration),
    /// Nothing remains until the reset.
    Exhausted { resets: Timestamp, family: Family },
    /// Throttled without a time, this many times with no success between.
    Unexplained { times: u32 },
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            HoldReason::Told(told) => {
                write!(f, "the server said: retry after {} s", told.as_secs_f64().ceil())
            }
            HoldReason::Exhausted { resets, family } => {
                write!(f, "nothing remains until {resets} ({family})")
            }
            HoldReason::Unexplained { times: 1 } => {
                f.write_str("the server said: too many requests, and named no time")
            }
            HoldReason::Unexplained { times } => {
                write!(f, "the server said: too many requests, {times} times, and named no time")
            }
        }
    }
}

/// Whether a request may pass the gate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Passage {
    Open,
    Held(Timestamp),
    Proving(Timestamp),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Gate {
    /// Counts the holds: a ticket of an earlier generation proves nothing about this one.
    pub(super) generation: u32,
    hold: Option<Hold>,
    /// When the one try went out.
    proving: Option<Timestamp>,
}

impl Gate {
    /// Takes up the hold that another process knows of, and its try.
    pub(super) fn adopt(&mut self, hold: Option<Hold>, proving: Option<Timestamp>) {
        let is_other = |ours: &Hold| Some(ours.until) != hold.as_ref().map(|hold| hold.until);
        if hold.is_some() && self.hold.as_ref().is_none_or(is_other) {
            self.generation = self.generation.wrapping_add(1);
        }
        self.proving = proving.filter(|_| hold.is_some());
        self.hold = hold;
    }

    /// Returns when the one try went out that is not answered yet.
    pub(super) fn proving(&self) -> Option<Timestamp> {
        self.proving
    }

    pub(super) fn passage(&self, now: Timestamp) -> Passage {
        match (&self.hold, self.proving) {
            (None, _) => Passage::Open,
            (Some(hold), _) if now < hold.until => Passage::Held(hold.until),
            // One that is yet to be sent was sent before the clock was set back.
            (Some(_), Some(sent)) if sent <= now && now < sent.after(PROVING_MAX) => {
                Passage::Proving(sent.after(PROVING_MAX))
            }
            (Some(_), _) => Passage::Open,
        }
    }

    /// The clock was set: a hold is as long as it was.
    pub(super) fn move_by(&mut self, step: ClockStep) {
        if let Some(hold) = &mut self.hold {
            hold.until = hold.until.shifted_by(step);
        }
    }

    /// Notes that a request passes.
    pub(super) fn pass(&mut self, now: Timestamp) {
        if self.hold.is_some() {
            self.proving = Some(now);
        }
    }

    /// Closes the gate until `hold.until`, unless it is closed for longer. Returns whether it moved.
    pub(super) fn close(&mut self, hold: Hold) -> bool {
        if self.hold.as_ref().is_some_and(|held| held.until >= hold.until) {
            return false;
        }
        self.generation = self.generation.wrapping_add(1);
        self.hold = Some(hold);
        self.proving = None;
        true
    }

    /// A success of a request sent in `generation`.
    pub(super) fn succeeded(&mut self, generation: u32) {
        if generation == self.generation {
            self.hold = None;
            self.proving = None;
        }
    }

    /// The request of `generation` ended without saying anything of the rate.
    pub(super) fn inconclusive(&mut self, generation: u32) {
        if generation == self.generation {
            self.proving = None;
        }
    }

    pub(super) fn hold(&self) -> Option<&Hold> {
        self.hold.as_ref()
    }
}
