//! Block of a scope: no requests until a deadline, then one probe at a time until one succeeds.

use std::fmt;
use std::time::Duration;

use crate::rate_limit::byte_budget::USED_PERCENT_MAX;
use crate::rate_limit::reported_limits::HeaderDialect;
use crate::{ClockStep, Timestamp, format_bytes};

/// A probe that gets no response within this time is given up, and another may be sent.
const PROBE_TIMEOUT: Duration = Duration::from_secs(60);

/// Block in force: its deadline and its reason.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// End of the block, including margin and jitter.
    pub until: Timestamp,
    pub reason: BlockReason,
    /// True if the wait is longer than the user's `max_wait`; worth an alert.
    pub exceeds_max_wait: bool,
}

/// Reason for a block.
#[derive(Clone, Debug, PartialEq)]
pub enum BlockReason {
    /// Retry-After of the server.
    RetryAfter(Duration),
    /// The headers report zero remaining units until the reset.
    Exhausted { reset_at: Timestamp, dialect: HeaderDialect },
    /// Throttles that name no time; `throttles` of them since the last success, or lock-outs in a
    /// row.
    NoTimeGiven { throttles: u32 },
    /// Bytes received in the last 24 hours, too many for the budget that the user configured.
    DailyBytes { received: u64, bytes_per_day: u64 },
}

impl Block {
    /// Returns the Retry-After of the server, if it is the reason.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self.reason {
            BlockReason::RetryAfter(retry_after) => Some(retry_after),
            BlockReason::Exhausted { .. }
            | BlockReason::NoTimeGiven { .. }
            | BlockReason::DailyBytes { .. } => None,
        }
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            BlockReason::RetryAfter(retry_after) => {
                write!(f, "the server said: retry after {} s", retry_after.as_secs_f64().ceil())
            }
            BlockReason::Exhausted { reset_at, dialect } => {
                write!(f, "no requests remain until {reset_at} ({dialect})")
            }
            BlockReason::NoTimeGiven { throttles: 1 } => {
                f.write_str("the server said: too many requests, without a retry time")
            }
            BlockReason::NoTimeGiven { throttles } => {
                write!(
                    f,
                    "the server said: too many requests, {throttles} times, without a retry time"
                )
            }
            BlockReason::DailyBytes { received, bytes_per_day } => {
                let [received, bytes_per_day] = [*received, *bytes_per_day].map(format_bytes);
                write!(
                    f,
                    "{received} were received in the last 24 h; requests stop at \
                     {USED_PERCENT_MAX} % of bytes_per_day, {bytes_per_day}"
                )
            }
        }
    }
}

/// Admission of requests: unblocked, blocked until a deadline, or waiting for the response to the
/// probe until a deadline.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum BlockStatus {
    Unblocked,
    Blocked(Timestamp),
    Probing(Timestamp),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct BlockTracker {
    /// Number of blocks so far. A response to a request of an earlier generation proves nothing
    /// about the current block.
    pub(super) generation: u32,
    block: Option<Block>,
    /// True if the block is not saved yet, so that no other process knows it.
    is_unsaved: bool,
    /// Send time of the probe in flight.
    probe_sent_at: Option<Timestamp>,
}

impl BlockTracker {
    /// Replaces block and probe by those of another process, which may have written them between a
    /// request and its response: a block that it does not know is kept, unless its own is longer.
    pub(super) fn merge_from_peer(
        &mut self,
        block: Option<Block>,
        probe_sent_at: Option<Timestamp>,
    ) {
        let is_longer = |own: &Block| block.as_ref().is_none_or(|block| block.until < own.until);
        if self.is_unsaved && self.block.as_ref().is_some_and(is_longer) {
            return;
        }
        self.is_unsaved = false;
        let differs = |own: &Block| Some(own.until) != block.as_ref().map(|block| block.until);
        if block.is_some() && self.block.as_ref().is_none_or(differs) {
            self.generation = self.generation.wrapping_add(1);
        }
        self.probe_sent_at = probe_sent_at.filter(|_| block.is_some());
        self.block = block;
    }

    /// Records that other processes can read the block.
    pub(super) fn record_saved(&mut self) {
        self.is_unsaved = false;
    }

    /// Returns the send time of the probe that has no response yet.
    pub(super) fn probe_sent_at(&self) -> Option<Timestamp> {
        self.probe_sent_at
    }

    pub(super) fn status(&self, now: Timestamp) -> BlockStatus {
        match (&self.block, self.probe_sent_at) {
            (None, _) => BlockStatus::Unblocked,
            (Some(block), _) if now < block.until => BlockStatus::Blocked(block.until),
            // A probe with a send time in the future was sent before the clock was set back: ignore
            // it.
            (Some(_), Some(sent_at)) if sent_at <= now && now < sent_at.after(PROBE_TIMEOUT) => {
                BlockStatus::Probing(sent_at.after(PROBE_TIMEOUT))
            }
            (Some(_), _) => BlockStatus::Unblocked,
        }
    }

    /// Shifts the deadline by a clock step, so that the remaining time stays the same.
    pub(super) fn shift_by(&mut self, step: ClockStep) {
        if let Some(block) = &mut self.block {
            block.until = block.until.shifted_by(step);
        }
    }

    /// Records that a request was sent. During a block it is the probe.
    pub(super) fn record_sent(&mut self, now: Timestamp) {
        if self.block.is_some() {
            self.probe_sent_at = Some(now);
        }
    }

    /// Blocks until `block.until`, unless a later block is in force. Returns true if the block
    /// changed.
    pub(super) fn extend_block(&mut self, block: Block) -> bool {
        if self.block.as_ref().is_some_and(|current| current.until >= block.until) {
            return false;
        }
        self.generation = self.generation.wrapping_add(1);
        self.block = Some(block);
        self.is_unsaved = true;
        self.probe_sent_at = None;
        true
    }

    /// Records the success of a request sent in `generation`, which ends the block of that
    /// generation.
    pub(super) fn record_success(&mut self, generation: u32) {
        if generation == self.generation {
            self.block = None;
            self.probe_sent_at = None;
        }
    }

    /// Records that the probe of `generation` ended without information about the rate.
    pub(super) fn record_inconclusive_probe(&mut self, generation: u32) {
        if generation == self.generation {
            self.probe_sent_at = None;
        }
    }

    pub(super) fn block(&self) -> Option<&Block> {
        self.block.as_ref()
    }
}
