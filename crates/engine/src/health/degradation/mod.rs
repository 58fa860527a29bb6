//! Degradation score of each provider, from its sources, its breaker and its success rate.
//!
//! ```text
//! score = 0.5 × failed sources ÷ all + 0.3 × degraded sources ÷ all
//!       + 0.2 × breaker + 0.1 × failed share of attempts
//! ```
//!
//! The breaker counts 1 if open, ½ if half-open, 0 if closed; the sum is clamped to 0..=1. Below
//! 0.1 a provider is healthy; below 0.3 the degradation is minor, below 0.6 moderate, from 0.6
//! severe.

mod history;

#[cfg(test)]
mod proptests;

pub use self::history::{DegradationHistory, SLOT_DURATION, SLOTS_PER_DAY};

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::breaker::BreakerState;

const FAILED_SOURCES_WEIGHT: f64 = 0.5;
const DEGRADED_SOURCES_WEIGHT: f64 = 0.3;
const BREAKER_WEIGHT: f64 = 0.2;
const FAILED_ATTEMPTS_WEIGHT: f64 = 0.1;

const MINOR_SCORE_MIN: f64 = 0.1;
const MODERATE_SCORE_MIN: f64 = 0.3;
const SEVERE_SCORE_MIN: f64 = 0.6;

/// Input about one source of a provider.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SourceInput {
    pub provider: String,
    pub health: SourceHealth,
    /// Share of its last attempts that succeeded, from 0 to 1; `None` before the first.
    pub success_rate: Option<f64>,
}

/// Health of a source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SourceHealth {
    Healthy,
    /// It works, but with a warning or an unknown state.
    Degraded,
    /// It does not recover by itself, or not soon.
    Failed,
}

/// Health of a provider.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ProviderHealth {
    pub provider: String,
    /// From 0 (healthy) to 1.
    pub score: f64,
    #[serde(rename = "band")]
    pub level: DegradationLevel,
    /// Status for users, such as `1 of 2 failed, circuit breaker open`.
    pub status: String,
    /// 95th percentile of its request latency, serialized in milliseconds; `None` before the first
    /// request.
    #[serde(rename = "p95_latency_ms", with = "optional_millis")]
    pub p95_latency: Option<Duration>,
    /// Mean of its sources' success rates, from 0 to 1; `None` before the first attempt.
    pub success_rate: Option<f64>,
    /// `None` while it has no breaker yet.
    pub breaker: Option<BreakerState>,
    pub sources: SourceCounts,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DegradationLevel {
    Healthy,
    Minor,
    Moderate,
    Severe,
}

/// Counts of a provider's sources.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct SourceCounts {
    pub total: u32,
    pub degraded: u32,
    pub failed: u32,
}

/// Inputs about the providers themselves, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct ProviderInputs {
    pub breaker_states: BTreeMap<String, BreakerState>,
    pub p95_latencies: BTreeMap<String, Duration>,
}

/// Evaluates every provider that has a source; sorted by name.
#[must_use]
pub(super) fn evaluate(sources: &[SourceInput], inputs: &ProviderInputs) -> Vec<ProviderHealth> {
    let mut providers: BTreeMap<&str, Vec<&SourceInput>> = BTreeMap::new();
    for source in sources {
        providers.entry(&source.provider).or_default().push(source);
    }
    providers.into_iter().map(|(name, sources)| evaluate_provider(name, &sources, inputs)).collect()
}

fn evaluate_provider(
    provider: &str,
    sources: &[&SourceInput],
    inputs: &ProviderInputs,
) -> ProviderHealth {
    let counts = count_sources(sources);
    let success_rate = mean(sources.iter().filter_map(|source| source.success_rate));
    let breaker = inputs.breaker_states.get(provider).copied();
    let score = score(counts, success_rate, breaker);
    ProviderHealth {
        provider: provider.to_owned(),
        score,
        level: DegradationLevel::from_score(score),
        status: describe_status(counts, breaker),
        p95_latency: inputs.p95_latencies.get(provider).copied(),
        success_rate,
        breaker,
        sources: counts,
    }
}

/// Returns the score. Without sources, the two shares of sources are 0.
fn score(counts: SourceCounts, success_rate: Option<f64>, breaker: Option<BreakerState>) -> f64 {
    let share = |count: u32| f64::from(count) / f64::from(counts.total.max(1));
    let breaker = match breaker {
        Some(BreakerState::Open) => 1.0,
        Some(BreakerState::HalfOpen) => 0.5,
        Some(BreakerState::Closed) | None => 0.0,
    };
    let failed_share = success_rate.map_or(0.0, |rate| 1.0 - rate.clamp(0.0, 1.0));
    let sum = FAILED_SOURCES_WEIGHT * share(counts.failed)
        + DEGRADED_SOURCES_WEIGHT * share(counts.degraded)
        + BREAKER_WEIGHT * breaker
        + FAILED_ATTEMPTS_WEIGHT * failed_share;
    sum.clamp(0.0, 1.0)
}

fn count_sources(sources: &[&SourceInput]) -> SourceCounts {
    let mut counts = SourceCounts::default();
    for source in sources {
        counts.total += 1;
        counts.degraded += u32::from(source.health == SourceHealth::Degraded);
        counts.failed += u32::from(source.health == SourceHealth::Failed);
    }
    counts
}

fn mean(rates: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = rates.fold((0.0, 0_u32), |(sum, count), rate| (sum + rate, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

fn describe_status(counts: SourceCounts, breaker: Option<BreakerState>) -> String {
    let SourceCounts { total, degraded, failed } = counts;
    let mut parts = Vec::new();
    if failed > 0 {
        parts.push(format!("{failed} of {total} failed"));
    }
    if degraded > 0 {
        parts.push(format!("{degraded} of {total} degraded"));
    }
    if parts.is_empty() {
        parts.push(if total == 1 { "healthy".to_owned() } else { format!("all {total} healthy") });
    }
    match breaker {
        Some(BreakerState::Open) => parts.push("circuit breaker open".to_owned()),
        Some(BreakerState::HalfOpen) => parts.push("circuit breaker half-open".to_owned()),
        Some(BreakerState::Closed) | None => {}
    }
    parts.join(", ")
}

impl DegradationLevel {
    pub const ALL: [Self; 4] = [Self::Healthy, Self::Minor, Self::Moderate, Self::Severe];

    /// Returns the level of a score.
    #[must_use]
    pub fn from_score(score: f64) -> Self {
        if score < MINOR_SCORE_MIN {
            Self::Healthy
        } else if score < MODERATE_SCORE_MIN {
            Self::Minor
        } else if score < SEVERE_SCORE_MIN {
            Self::Moderate
        } else {
            Self::Severe
        }
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Minor => "minor",
            Self::Moderate => "moderate",
            Self::Severe => "severe",
        }
    }
}

/// Serialization of a duration as a whole number of milliseconds, or null.
mod optional_millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "serde passes references")]
    pub(super) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        duration
            .map(|duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
            .serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(Duration::from_millis))
    }
}
