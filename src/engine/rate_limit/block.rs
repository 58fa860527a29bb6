//! The gate: closed until a moment, then open for one until one succeeds.

use std::fmt;
use std::time::Duration;

use crate::engine::rate_limit::HeaderDialect;
use crate::engine::{ClockStep, Timestamp};

/// A try whose answer never comes gives way to another after this.
const PROBE_TIMEOUT: Duration = Duration::from_secs(60);

/// The gate is closed, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// Margin and jitter included.
    pub until: Timestamp,
    pub reason: BlockReason,
    /// The user set a limit to waits, and this one is longer: someone should know.
    pub exceeds_max_wait: bool,
}

/// What closed the gate.
#[derive(Clone, Debug, PartialEq)]
pub enum BlockReason {
    /// Retry-After.
    RetryAfter(Duration),
    /// Nothing remains until the reset.
    Exhausted { reset_at: Timestamp, dialect: HeaderDialect },
    /// Throttled without a time, this many times with no success between.
    NoTimeGiven { throttles: u32 },
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            BlockReason::RetryAfter(told) => {
                write!(f, "the server said: retry after {} s", told.as_secs_f64().ceil())
            }
            BlockReason::Exhausted { reset_at: resets, dialect: family } => {
                write!(f, "nothing remains until {resets} ({family})")
            }
            BlockReason::NoTimeGiven { throttles: 1 } => {
                f.write_str("the server said: too many requests, and named no time")
            }
            BlockReason::NoTimeGiven { throttles: times } => {
                write!(f, "the server said: too many requests, {times} times, and named no time")
            }
        }
    }
}

/// Whether a request may pass the gate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum BlockStatus {
    Open,
    Blocked(Timestamp),
    Probing(Timestamp),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct BlockTracker {
    /// Counts the holds: a ticket of an earlier generation proves nothing about this one.
    pub(super) generation: u32,
    block: Option<Block>,
    /// When the one try went out.
    probe_sent_at: Option<Timestamp>,
}

impl BlockTracker {
    /// Takes up the hold that another process knows of, and its try.
    pub(super) fn merge_from_peer(&mut self, hold: Option<Block>, proving: Option<Timestamp>) {
        let is_other = |ours: &Block| Some(ours.until) != hold.as_ref().map(|hold| hold.until);
        if hold.is_some() && self.block.as_ref().is_none_or(is_other) {
            self.generation = self.generation.wrapping_add(1);
        }
        self.probe_sent_at = proving.filter(|_| hold.is_some());
        self.block = hold;
    }

    /// Returns when the one try went out that is not answered yet.
    pub(super) fn probe_sent_at(&self) -> Option<Timestamp> {
        self.probe_sent_at
    }

    pub(super) fn status(&self, now: Timestamp) -> BlockStatus {
        match (&self.block, self.probe_sent_at) {
            (None, _) => BlockStatus::Open,
            (Some(hold), _) if now < hold.until => BlockStatus::Blocked(hold.until),
            // One that is yet to be sent was sent before the clock was set back.
            (Some(_), Some(sent)) if sent <= now && now < sent.after(PROBE_TIMEOUT) => {
                BlockStatus::Probing(sent.after(PROBE_TIMEOUT))
            }
            (Some(_), _) => BlockStatus::Open,
        }
    }

    /// The clock was set: a hold is as long as it was.
    pub(super) fn shift_by(&mut self, step: ClockStep) {
        if let Some(hold) = &mut self.block {
            hold.until = hold.until.shifted_by(step);
        }
    }

    /// Notes that a request passes.
    pub(super) fn record_sent(&mut self, now: Timestamp) {
        if self.block.is_some() {
            self.probe_sent_at = Some(now);
        }
    }

    /// Closes the gate until `hold.until`, unless it is closed for longer. Returns whether it moved.
    pub(super) fn extend_block(&mut self, hold: Block) -> bool {
        if self.block.as_ref().is_some_and(|held| held.until >= hold.until) {
            return false;
        }
        self.generation = self.generation.wrapping_add(1);
        self.block = Some(hold);
        self.probe_sent_at = None;
        true
    }

    /// A success of a request sent in `generation`.
    pub(super) fn record_success(&mut self, generation: u32) {
        if generation == self.generation {
            self.block = None;
            self.probe_sent_at = None;
        }
    }

    /// The request of `generation` ended without saying anything of the rate.
    pub(super) fn probe_inconclusive(&mut self, generation: u32) {
        if generation == self.generation {
            self.probe_sent_at = None;
        }
    }

    pub(super) fn block(&self) -> Option<&Block> {
        self.block.as_ref()
    }
}
