//! What a scope remembers over a restart of the process.

use serde::{Deserialize, Serialize};

use crate::engine::Moment;
use crate::engine::quota::gate::{Hold, HoldReason};
use crate::engine::quota::{Family, LearnerMemory};

/// The persisted form of a quota. Every field has a default: an older or newer file still reads.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Memory {
    /// When this was written, in milliseconds since the Unix epoch, like every time here.
    pub written_at: i64,
    pub hold: Option<HoldMemory>,
    /// When the one try after the hold went out, if it is not answered.
    pub proving: Option<i64>,
    /// When the next unit is due.
    pub paced_until: Option<i64>,
    /// Units per second, as the last headers had it.
    pub told: Option<f64>,
    /// The step at which holds without a word begin, and how many came in this series.
    pub ladder_from: u32,
    pub ladder_tries: u32,
    pub learned: LearnerMemory,
}

/// A closed gate.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct HoldMemory {
    pub until: i64,
    /// Retry-After, if it said so, in milliseconds.
    pub told: Option<u64>,
    /// The reset, if nothing remained.
    pub resets: Option<i64>,
    /// How many throttles named no time.
    pub times: u32,
    pub exceeds_max_wait: bool,
}

impl From<&Hold> for HoldMemory {
    fn from(hold: &Hold) -> Self {
        let mut memory = Self {
            until: hold.until.0,
            exceeds_max_wait: hold.exceeds_max_wait,
            ..Self::default()
        };
        match hold.reason {
            HoldReason::Told(told) => memory.told = u64::try_from(told.as_millis()).ok(),
            HoldReason::Exhausted { resets, .. } => memory.resets = Some(resets.0),
            HoldReason::Unexplained { times } => memory.times = times,
        }
        memory
    }
}

impl From<&HoldMemory> for Hold {
    fn from(memory: &HoldMemory) -> Self {
        let reason = match (memory.told, memory.resets) {
            (Some(told), _) => HoldReason::Told(std::time::Duration::from_millis(told)),
            (None, Some(resets)) => {
                HoldReason::Exhausted { resets: Moment(resets), family: Family::RateLimit }
            }
            (None, None) => HoldReason::Unexplained { times: memory.times },
        };
        Self { until: Moment(memory.until), reason, exceeds_max_wait: memory.exceeds_max_wait }
    }
}
