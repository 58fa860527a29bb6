//! What one process leaves to the next, or to another at its side.

use crate::engine::Moment;
use crate::engine::quota::learn::Learner;
use crate::engine::quota::pace::Pace;
use crate::engine::quota::{Hold, HoldMemory, Memory, Quota, QuotaPolicy, Rate};

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
        quota
    }

    /// Goes on from what another process has written since.
    ///
    /// Its word counts as a whole: it saw ours before it spoke. What is in flight here, and the
    /// limits as last read, stay ours: the next reply tells what the other has used.
    pub fn adopt(&mut self, memory: &Memory, now: Moment) {
        let age = now.since(Moment(memory.written_at));
        self.gate.adopt(memory.hold.as_ref().map(Hold::from), memory.proving.map(Moment));
        let latest = now.after(self.policy.max_wait);
        self.pace = Pace::recall(memory.paced_until.map_or(now, |at| Moment(at).min(latest)));
        self.ladder.adopt(memory.ladder_from, memory.ladder_tries, now);
        self.learner.adopt(Learner::recall(&memory.learned, age, now));
        self.told = memory.told.map(Rate::per_second);
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
        }
    }
}
