//! Metrics of each provider: degradation, circuit breaker and rate limiters.

use cynosure_engine::Timestamp;
use cynosure_engine::breaker::BreakerState;
use cynosure_engine::rate_limit::{AdvertisedLimit, Block, BlockReason};

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
        "Degradation score of a provider, from 0 (healthy) to 1.",
    );
    let mut rate = MetricFamily::gauge(
        "cynosure_provider_success_ratio",
        "Mean success rate of the last attempts, over the sources of a provider.",
    );
    let mut sources =
        MetricFamily::gauge("cynosure_provider_sources", "Sources of a provider, by health.");
    for health in &input.providers {
        let provider = ("provider", health.provider.as_str());
        score.push(&[provider], health.score.into());
        if let Some(success) = health.success_rate {
            rate.push(&[provider], success.into());
        }
        let counts = health.sources;
        let healthy = counts.total.saturating_sub(counts.degraded).saturating_sub(counts.failed);
        let by_health =
            [("well", healthy), ("degraded", counts.degraded), ("failed", counts.failed)];
        for (label, count) in by_health {
            sources.push(&[provider, ("standing", label)], count.into());
        }
    }
    vec![score, rate, sources]
}

fn breakers(breakers: &[BreakerSnapshot]) -> [MetricFamily; 4] {
    let mut state = MetricFamily::gauge(
        "cynosure_breaker_state",
        "1 for the current state of a circuit breaker, 0 for the other states.",
    );
    let mut until = MetricFamily::gauge(
        "cynosure_breaker_until_timestamp_seconds",
        "Unix time at which an open breaker allows a probe; absent if it must be closed manually.",
    );
    let mut opened =
        MetricFamily::counter("cynosure_breaker_opened_total", "Times that a breaker has opened.");
    let mut rejected =
        MetricFamily::counter("cynosure_breaker_rejected_total", "Calls that a breaker rejected.");
    for breaker in breakers {
        let name = ("breaker", breaker.name.as_str());
        let states = [BreakerState::Closed, BreakerState::Open, BreakerState::HalfOpen]
            .into_iter()
            .map(BreakerState::name);
        state.push_state_set(&[name], "state", states, breaker.state.name());
        if let (BreakerState::Open, Some(at)) = (breaker.state, breaker.until) {
            until.push(&[name], at.into());
        }
        opened.push(&[name], breaker.statistics.times_opened.into());
        rejected.push(&[name], breaker.statistics.rejected.into());
    }
    [state, until, opened, rejected]
}

fn rate_limit_blocks(rate_limits: &[RateLimitSnapshot], now: Timestamp) -> [MetricFamily; 2] {
    let mut blocked = MetricFamily::gauge(
        "cynosure_gate_closed",
        "1 while requests to a provider are blocked by its rate limiter, 0 otherwise.",
    );
    let mut until = MetricFamily::gauge(
        "cynosure_gate_closed_until_timestamp_seconds",
        "Unix time until which requests to a provider are blocked, by reason.",
    );
    for RateLimitSnapshot { scope, status } in rate_limits {
        let scope = ("scope", scope.as_str());
        let block = status.block.as_ref().filter(|block| now < block.until);
        blocked.push(&[scope], block.is_some().into());
        if let Some(block) = block {
            until.push(&[scope, ("reason", block_reason(block))], block.until.into());
        }
    }
    [blocked, until]
}

fn rate_limits(rate_limits: &[RateLimitSnapshot]) -> Vec<MetricFamily> {
    let mut rate = MetricFamily::gauge(
        "cynosure_quota_rate_per_second",
        "Maximum number of requests per second; absent without a limit.",
    );
    let mut estimate = MetricFamily::gauge(
        "cynosure_quota_estimate_per_second",
        "Requests per second that a server allows, estimated from its rejections.",
    );
    let mut allowed = MetricFamily::gauge(
        "cynosure_quota_limit",
        "Units that a server allows per window, as last advertised.",
    );
    let mut remaining = MetricFamily::gauge(
        "cynosure_quota_remaining",
        "Remaining units, as last advertised by the server.",
    );
    for RateLimitSnapshot { scope, status } in rate_limits {
        let scope = ("scope", scope.as_str());
        if let Some(current) = status.rate {
            rate.push(&[scope], current.get().into());
        }
        if let Some(estimated) = status.estimated_rate {
            estimate.push(&[scope], estimated.get().into());
        }
        for (name, limit) in numbered_limits(&status.limits) {
            let labels = [scope, ("limit", name.as_str())];
            if let Some(quota) = limit.quota {
                allowed.push(&labels, MetricValue::Number(quota));
            }
            if let Some(count) = limit.remaining {
                remaining.push(&labels, MetricValue::Number(count));
            }
        }
    }
    vec![rate, estimate, allowed, remaining]
}

/// Numbers the limits by their position in the response. A server could send a new name in each
/// response, and each name would be a permanent series. The engine tracks sixteen limits of a scope
/// at most.
fn numbered_limits(limits: &[AdvertisedLimit]) -> impl Iterator<Item = (String, &AdvertisedLimit)> {
    limits.iter().enumerate().map(|(index, limit)| ((index + 1).to_string(), limit))
}

fn block_reason(block: &Block) -> &'static str {
    match block.reason {
        BlockReason::RetryAfter(_) => "told",
        BlockReason::Exhausted { .. } => "used_up",
        BlockReason::NoTimeGiven { .. } => "unexplained",
        BlockReason::DailyBytes { .. } => "daily_bytes",
    }
}
