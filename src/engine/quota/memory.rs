//! What a scope remembers over a restart of the process.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::Timestamp;
use crate::engine::quota::gate::{Hold, HoldReason};
use crate::engine::quota::{Family, LearnerMemory, Limit};

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
    /// The hold longer than all steps that last succeeded, in milliseconds.
    pub ladder_longer: Option<u64>,
    pub learned: LearnerMemory,
    /// The limits as last read, for people: the next reply tells what is in force.
    pub limits: Vec<LimitMemory>,
}

/// A limit as a server told it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct LimitMemory {
    pub name: String,
    pub family: String,
    pub quota: Option<f64>,
    pub window_seconds: Option<f64>,
    pub remaining: Option<f64>,
    pub unit: Option<String>,
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

impl From<&Limit> for LimitMemory {
    fn from(limit: &Limit) -> Self {
        Self {
            name: limit.name.clone(),
            family: limit.family.to_string(),
            quota: limit.quota,
            window_seconds: limit.window.map(|window| window.as_secs_f64()),
            remaining: limit.remaining,
            unit: limit.unit.clone(),
        }
    }
}

impl From<&LimitMemory> for Limit {
    fn from(memory: &LimitMemory) -> Self {
        let family = Family::ALL.into_iter().find(|family| family.to_string() == memory.family);
        let window = memory.window_seconds.and_then(|span| Duration::try_from_secs_f64(span).ok());
        Self {
            name: memory.name.clone(),
            family: family.unwrap_or(Family::RateLimit),
            quota: memory.quota,
            window,
            remaining: memory.remaining,
            reset: None,
            unit: memory.unit.clone(),
            partition: None,
        }
    }
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
            (Some(told), _) => HoldReason::Told(Duration::from_millis(told)),
            (None, Some(resets)) => {
                HoldReason::Exhausted { resets: Timestamp(resets), family: Family::RateLimit }
            }
            (None, None) => HoldReason::Unexplained { times: memory.times },
        };
        Self { until: Timestamp(memory.until), reason, exceeds_max_wait: memory.exceeds_max_wait }
    }
}
