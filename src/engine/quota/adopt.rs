//! Several processes under one quota: each goes on from what the last of them knew.

use crate::engine::Moment;
use crate::engine::quota::{Memory, Quota};

impl Quota {
    /// Goes on from what another process has written since.
    ///
    /// Its word counts as a whole: it saw ours before it spoke. What is in flight here is
    /// answered as if it had been sent before.
    pub fn adopt(&mut self, memory: &Memory, now: Moment) {
        *self = Self::recall(self.policy.clone(), memory, now);
    }
}
