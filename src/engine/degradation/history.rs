//! The scores of the last day, five minutes by five minutes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::Timestamp;
use crate::engine::degradation::ProviderHealth;

/// The time that one score stands for.
pub const SLOT_DURATION: Duration = Duration::from_secs(300);

/// The slots of a day.
pub const SLOTS_PER_DAY: i32 = 288;

/// Scores are kept to three digits behind the point.
const SCORE_PRECISION: f64 = 1000.0;

/// What each provider scored, slot by slot, up to the slot of the last look.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct DegradationHistory {
    /// When the first slot begins; the others follow one another by [`SLOT`].
    #[serde(rename = "first")]
    pub starts_at: Timestamp,
    /// The worst score of each slot, by provider; null where nothing was seen of it. Each list is a
    /// day long.
    pub scores: BTreeMap<String, Vec<Option<f64>>>,
}

impl DegradationHistory {
    /// Takes in what was seen, and forgets what is older than a day, or newer than now, which a
    /// clock wrote that has been set back.
    pub fn record(&mut self, providers: &[ProviderHealth], now: Timestamp) {
        let first = slot_number(now).saturating_sub(i64::from(SLOTS_PER_DAY - 1));
        let moved = first.saturating_sub(slot_number(self.starts_at));
        for scores in self.scores.values_mut() {
            let before = |slot: i32| {
                let place = usize::try_from(moved.saturating_add(i64::from(slot))).ok()?;
                scores.get(place).copied().flatten()
            };
            *scores = (0..SLOTS_PER_DAY).map(before).collect();
        }
        self.starts_at = Timestamp(first.saturating_mul(slot_ms()));
        for health in providers {
            let scores = self.scores.entry(health.provider.clone());
            let scores = scores.or_insert_with(|| (0..SLOTS_PER_DAY).map(|_| None).collect());
            if let Some(last) = scores.last_mut() {
                let score = (health.score * SCORE_PRECISION).round() / SCORE_PRECISION;
                *last = Some(last.map_or(score, |known| known.max(score)));
            }
        }
        self.scores.retain(|_, scores| scores.iter().any(Option::is_some));
    }
}

/// The number of the slot that a moment is in.
fn slot_number(at: Timestamp) -> i64 {
    at.0.div_euclid(slot_ms())
}

fn slot_ms() -> i64 {
    i64::try_from(SLOT_DURATION.as_millis()).unwrap_or(i64::MAX)
}
