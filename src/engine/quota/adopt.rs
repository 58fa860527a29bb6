//! What one process leaves to the next, or to another at its side.

use std::time::Duration;

use crate::engine::quota::learn::Learner;
use crate::engine::quota::pace::Pace;
use crate::engine::quota::{
    Hold, HoldMemory, Limit, LimitMemory, Memory, Quota, QuotaPolicy, Rate,
};
use crate::engine::{ClockStep, Timestamp};

impl Quota {
    /// Takes up what an earlier process remembered. A hold goes on until its own deadline.
    #[must_use]
    pub fn recall(policy: QuotaPolicy, memory: &Memory, now: Timestamp) -> Self {
        let mut quota = Self::new(policy, now);
        // What lies between the last word of the earlier process and now was nobody's work.
        quota.active_until = Timestamp(memory.written_at).min(now);
        quota.adopt(memory, now);
        if let Some(told) = quota.told {
            // What the server told holds until it tells otherwise, with its first reply.
            quota.learner.begin_at(told);
        }
        if let Some((units, window)) = quota.learner.burst.zip(quota.learner.window) {
            // What it sent in its last window is not known: it may be all that the server grants in one.
            quota.counted.answered(units, window, Timestamp(memory.written_at).min(now));
        }
        quota
    }

    /// Goes on from what another process has written since.
    ///
    /// Its word counts as a whole: it saw ours before it spoke. What is in flight here, and the
    /// limits as last read, stay ours: the next reply tells what the other has used.
    pub fn adopt(&mut self, memory: &Memory, now: Timestamp) {
        let age = now.since(Timestamp(memory.written_at));
        // What a clock wrote that was ahead of this one is as far away as it was then.
        let back = ClockStep::inferred_backward(Timestamp(memory.written_at), now);
        self.gate.adopt(memory.hold.as_ref().map(Hold::from), memory.proving.map(Timestamp));
        let mut due = memory.paced_until.map_or(now, Timestamp);
        if let Some(back) = back {
            self.gate.move_by(back);
            due = due.shifted_by(back);
        }
        self.pace = Pace::recall(due.min(now.after(self.policy.max_wait)));
        let longer = memory.ladder_longer.map(Duration::from_millis);
        self.ladder.adopt(memory.ladder_from, longer, memory.ladder_tries, now);
        let learned =
            back.map_or_else(|| memory.learned.clone(), |back| memory.learned.moved(back));
        self.learner.adopt(Learner::recall(&learned, age, now));
        self.counted.share(now);
        self.told = memory.told.map(Rate::per_second);
        self.remembered = memory.limits.iter().map(Limit::from).collect();
        self.seen = now;
        self.active_until = self.active_until.max(Timestamp(memory.written_at).min(now));
    }

    /// Leaves a time out of what is learned in which nothing ran: the process was down, the machine
    /// suspended, or nobody asked for anything. A pause of up to `pause_max` is a part of the work,
    /// and so is a hold.
    ///
    /// The quota may have come back at any moment of that time. The earliest is taken: a rate too
    /// high is refused once more and corrected, one too low stays for days.
    pub(super) fn leave_out_rest(&mut self, pause_max: Duration, now: Timestamp) {
        let held_until = self.gate.hold().map(|hold| hold.until);
        let rest = now.since(self.active_until.max(held_until.unwrap_or(self.active_until)));
        if rest > pause_max {
            self.learner.rested(rest);
            self.ladder.rested(rest);
            self.limits.rested();
        }
        self.active_until = self.active_until.max(now);
    }

    /// Notes the time. A clock that was set back takes along what lies ahead, or a wait of a minute
    /// would become one of a day.
    pub(super) fn heed_clock(&mut self, now: Timestamp) {
        if let Some(back) = ClockStep::inferred_backward(self.seen, now) {
            self.move_by(back);
        }
        self.seen = now;
    }

    /// The clock was set by so much: what lies ahead is as far away as it was.
    pub fn move_by(&mut self, step: ClockStep) {
        self.gate.move_by(step);
        self.pace.move_by(step);
        self.counted.move_by(step);
        self.limits.move_by(step);
        self.ladder.move_by(step);
        self.learner.move_by(step);
        self.waiting_since = self.waiting_since.map(|since| since.shifted_by(step));
        self.seen = self.seen.shifted_by(step);
        self.active_until = self.active_until.shifted_by(step);
    }

    /// Returns what the next process should know.
    #[must_use]
    pub fn memory(&self, now: Timestamp) -> Memory {
        Memory {
            written_at: now.0,
            hold: self.gate.hold().map(HoldMemory::from),
            proving: self.gate.proving().map(|at| at.0),
            paced_until: Some(self.pace.due().0),
            told: self.told.map(Rate::get),
            ladder_from: self.ladder.from,
            ladder_longer: self.ladder.longer.and_then(|hold| u64::try_from(hold.as_millis()).ok()),
            ladder_tries: self.ladder.tries,
            learned: self.learner.memory(),
            limits: self.limits_known().iter().map(LimitMemory::from).collect(),
        }
    }
}
