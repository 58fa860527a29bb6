//! What one process leaves to the next, or to another at its side.

use std::time::Duration;

use crate::engine::Moment;
use crate::engine::quota::learn::Learner;
use crate::engine::quota::pace::Pace;
use crate::engine::quota::{
    Hold, HoldMemory, Limit, LimitMemory, Memory, Quota, QuotaPolicy, Rate,
};

/// Clocks are put right all the time by less than this.
const SET_BACK_MIN: Duration = Duration::from_secs(2);

impl Quota {
    /// Takes up what an earlier process remembered. A hold goes on until its own deadline.
    #[must_use]
    pub fn recall(policy: QuotaPolicy, memory: &Memory, now: Moment) -> Self {
        let mut quota = Self::new(policy, now);
        quota.adopt(memory, now);
        if let Some(told) = quota.told {
            // What the server told holds until it tells otherwise, with its first reply.
            quota.learner.begin_at(told);
        }
        if let Some((units, window)) = quota.learner.burst.zip(quota.learner.window) {
            // What it sent in its last window is not known: it may be all that the server grants in one.
            quota.counted.answered(units, window, Moment(memory.written_at).min(now));
        }
        quota
    }

    /// Goes on from what another process has written since.
    ///
    /// Its word counts as a whole: it saw ours before it spoke. What is in flight here, and the
    /// limits as last read, stay ours: the next reply tells what the other has used.
    pub fn adopt(&mut self, memory: &Memory, now: Moment) {
        let age = now.since(Moment(memory.written_at));
        // What a clock wrote that was ahead of this one is as far away as it was then.
        let back = set_back(Moment(memory.written_at), now);
        self.gate.adopt(memory.hold.as_ref().map(Hold::from), memory.proving.map(Moment));
        self.gate.set_back(back);
        let (latest, due) = (now.after(self.policy.max_wait), memory.paced_until.map(Moment));
        self.pace = Pace::recall(due.map_or(now, |due| due.before(back).min(latest)));
        self.ladder.adopt(memory.ladder_from, memory.ladder_tries, now);
        self.learner.adopt(Learner::recall(&memory.learned, age, now));
        self.counted.share(now);
        self.told = memory.told.map(Rate::per_second);
        self.remembered = memory.limits.iter().map(Limit::from).collect();
        self.seen = now;
    }

    /// Notes the time. A clock that was set back takes along what lies ahead, or a wait of a minute
    /// would become one of a day.
    pub(super) fn heed_clock(&mut self, now: Moment) {
        let back = set_back(self.seen, now);
        if !back.is_zero() {
            self.gate.set_back(back);
            self.pace.set_back(back);
            self.counted.set_back(back);
            self.limits.set_back(back);
            self.waiting_since = self.waiting_since.map(|since| since.before(back));
        }
        self.seen = now;
    }

    /// Returns what the next process should know.
    #[must_use]
    pub fn memory(&self, now: Moment) -> Memory {
        Memory {
            written_at: now.0,
            hold: self.gate.hold().map(HoldMemory::from),
            proving: self.gate.proving().map(|at| at.0),
            paced_until: Some(self.pace.due().0),
            told: self.told.map(Rate::get),
            ladder_from: self.ladder.from,
            ladder_tries: self.ladder.tries,
            learned: self.learner.memory(),
            limits: self.limits_known().iter().map(LimitMemory::from).collect(),
        }
    }
}

/// By how much the clock was set back since `seen`.
fn set_back(seen: Moment, now: Moment) -> Duration {
    let back = seen.since(now);
    if back < SET_BACK_MIN { Duration::ZERO } else { back }
}
