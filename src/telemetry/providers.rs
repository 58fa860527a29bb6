//! Metrics of each provider: degradation, circuit breaker and rate limiters.

use crate::engine::Timestamp;
use crate::engine::breaker::BreakerState;
use crate::engine::rate_limit::{AdvertisedLimit, Block, BlockReason};
use crate::telemetry::{
    BreakerSnapshot, MetricFamily, MetricValue, MetricsSnapshot, RateLimitSnapshot,
};

pub(super) fn families(input: &MetricsSnapshot) -> Vec<MetricFamily> {
    let mut families = degradation(input);
    families.extend(breakers(&input.breakers));
    families.extend(rate_limit_blocks(&input.rate_limits, input.taken_at));
    families.extend(rate_limits(&input.rate_limits));
    families
}

fn degradation(input: &MetricsSnapshot) -> Vec<MetricFamily> {
    let mut score = MetricFamily::gauge(
        "cynosure_provider_degradation_score",
        "How degraded a provider is, from 0, all well, to 1.",
    );
    let mut rate = MetricFamily::gauge(
        "cynosure_provider_success_ratio",
        "Mean share of the last attempts that succeeded, over the sources of a provider.",
    );
    let mut sources =
        MetricFamily::gauge("cynosure_provider_sources", "Sources of a provider, by how they are.");
    for health in &input.providers {
        let provider = ("provider", health.provider.as_str());
        score.push(&[provider], health.score.into());
        if let Some(success) = health.success_rate {
            rate.push(&[provider], success.into());
        }
        let counts = health.sources;
        let well = counts.total.saturating_sub(counts.degraded).saturating_sub(counts.failed);
        let standings = [("well", well), ("degraded", counts.degraded), ("failed", counts.failed)];
        for (standing, count) in standings {
            sources.push(&[provider, ("standing", standing)], count.into());
        }
    }
    vec![score, rate, sources]
}

fn breakers(breakers: &[BreakerSnapshot]) -> [MetricFamily; 4] {
    let mut state = MetricFamily::gauge(
        "cynosure_breaker_state",
        "1 for the state that a circuit breaker is in, 0 for the others.",
    );
    let mut until = MetricFamily::gauge(
        "cynosure_breaker_until_timestamp_seconds",
        "When an open breaker lets a call try, as Unix time; absent where a person must close it.",
    );
    let mut opened =
        MetricFamily::counter("cynosure_breaker_opened_total", "Times that a breaker has opened.");
    let mut rejected = MetricFamily::counter(
        "cynosure_breaker_rejected_total",
        "Calls that a breaker has not let through.",
    );
    for breaker in breakers {
        let name = ("breaker", breaker.name.as_str());
        let words = [BreakerState::Closed, BreakerState::Open, BreakerState::HalfOpen]
            .into_iter()
            .map(BreakerState::name);
        state.push_state_set(&[name], "state", words, breaker.state.name());
        if let (BreakerState::Open, Some(at)) = (breaker.state, breaker.until) {
            until.push(&[name], at.into());
        }
        opened.push(&[name], breaker.statistics.times_opened.into());
        rejected.push(&[name], breaker.statistics.rejected.into());
    }
    [state, until, opened, rejected]
}

fn rate_limit_blocks(quotas: &[RateLimitSnapshot], now: Timestamp) -> [MetricFamily; 2] {
    let mut closed = MetricFamily::gauge(
        "cynosure_gate_closed",
        "1 while no request may go out to a provider, since it said so or its quota is used up.",
    );
    let mut until = MetricFamily::gauge(
        "cynosure_gate_closed_until_timestamp_seconds",
        "Until when a gate is closed, as Unix time, and why.",
    );
    for RateLimitSnapshot { scope, status: standing } in quotas {
        let scope = ("scope", scope.as_str());
        let hold = standing.block.as_ref().filter(|hold| now < hold.until);
        closed.push(&[scope], hold.is_some().into());
        if let Some(hold) = hold {
            until.push(&[scope, ("reason", block_reason(hold))], hold.until.into());
        }
    }
    [closed, until]
}

fn rate_limits(quotas: &[RateLimitSnapshot]) -> Vec<MetricFamily> {
    let mut rate = MetricFamily::gauge(
        "cynosure_quota_rate_per_second",
        "Requests per second that are made at most; absent where nothing limits them.",
    );
    let mut estimate = MetricFamily::gauge(
        "cynosure_quota_estimate_per_second",
        "What a server allows per second, as learned from its refusals.",
    );
    let mut granted = MetricFamily::gauge(
        "cynosure_quota_limit",
        "Units that a server grants in each window, as it told last.",
    );
    let mut remaining = MetricFamily::gauge(
        "cynosure_quota_remaining",
        "Units that are left, as the server told last.",
    );
    for RateLimitSnapshot { scope, status: standing } in quotas {
        let scope = ("scope", scope.as_str());
        if let Some(in_force) = standing.rate {
            rate.push(&[scope], in_force.get().into());
        }
        if let Some(learned) = standing.estimated_rate {
            estimate.push(&[scope], learned.get().into());
        }
        for (name, limit) in numbered_limits(&standing.limits) {
            let labels = [scope, ("limit", name.as_str())];
            if let Some(quota) = limit.quota {
                granted.push(&labels, MetricValue::Number(quota));
            }
            if let Some(left) = limit.remaining {
                remaining.push(&labels, MetricValue::Number(left));
            }
        }
    }
    vec![rate, estimate, granted, remaining]
}

/// Numbers the limits by their position in the response. A server could send a new name in each
/// response, and each name would be a permanent series. The engine tracks sixteen limits of a scope
/// at most.
fn numbered_limits(limits: &[AdvertisedLimit]) -> impl Iterator<Item = (String, &AdvertisedLimit)> {
    limits.iter().enumerate().map(|(no, limit)| ((no + 1).to_string(), limit))
}

fn block_reason(hold: &Block) -> &'static str {
    match hold.reason {
        BlockReason::RetryAfter(_) => "told",
        BlockReason::Exhausted { .. } => "used_up",
        BlockReason::NoTimeGiven { .. } => "unexplained",
    }
}
