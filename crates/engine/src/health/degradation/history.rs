//! Scores of the last day, in slots of five minutes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::health::degradation::ProviderHealth;

/// Duration of a slot, which holds one score.
pub const SLOT_DURATION: Duration = Duration::from_secs(300);

/// Slots per day.
pub const SLOTS_PER_DAY: i32 = 288;

/// Scores are rounded to three decimal places.
const SCORE_PRECISION: f64 = 1000.0;

/// Scores of each provider, up to the slot of the newest one.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct DegradationHistory {
    /// Start of the first slot; the others follow at intervals of [`SLOT_DURATION`].
    #[serde(rename = "first")]
    pub starts_at: Timestamp,
    /// Worst score of each slot, by provider; null if the provider was not observed. Each list
    /// covers one day.
    pub scores: BTreeMap<String, Vec<Option<f64>>>,
}

impl DegradationHistory {
    /// Records scores. Drops slots older than a day, and slots in the future, which exist after a
    /// backward clock step.
    pub fn record(&mut self, providers: &[ProviderHealth], now: Timestamp) {
        let first = slot_number(now).saturating_sub(i64::from(SLOTS_PER_DAY - 1));
        let shift = first.saturating_sub(slot_number(self.starts_at));
        for scores in self.scores.values_mut() {
            let previous_score = |slot: i32| {
                let index = usize::try_from(shift.saturating_add(i64::from(slot))).ok()?;
                scores.get(index).copied().flatten()
            };
            *scores = (0..SLOTS_PER_DAY).map(previous_score).collect();
        }
        self.starts_at = Timestamp(first.saturating_mul(slot_ms()));
        for health in providers {
            let scores = self.scores.entry(health.provider.clone());
            let scores = scores.or_insert_with(|| (0..SLOTS_PER_DAY).map(|_| None).collect());
            if let Some(last) = scores.last_mut() {
                let score = (health.score * SCORE_PRECISION).round() / SCORE_PRECISION;
                *last = Some(last.map_or(score, |previous| previous.max(score)));
            }
        }
        self.scores.retain(|_, scores| scores.iter().any(Option::is_some));
    }
}

/// Returns the number of the slot that contains a time.
fn slot_number(at: Timestamp) -> i64 {
    at.0.div_euclid(slot_ms())
}

fn slot_ms() -> i64 {
    i64::try_from(SLOT_DURATION.as_millis()).unwrap_or(i64::MAX)
}
