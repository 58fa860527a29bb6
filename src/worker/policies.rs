//! Maps the settings of the configuration to the policies of the engine.

use std::time::Duration;

use cynosure_engine::breaker::BreakerPolicy;
use cynosure_engine::{Backoff, ItemRetryPolicy, MachineConfig, RecheckPolicy};

use crate::config::{RateLimitScope, Settings, SourceSettings};
use crate::limiter::LimiterConfig;

/// Longest wait after a rate limit when neither the server nor the configuration gives one.
const RATE_LIMIT_WAIT_MAX: Duration = Duration::from_secs(300);

/// Returns the configuration of a source's state machine.
#[must_use]
pub fn machine_config(settings: &Settings, source: &SourceSettings) -> MachineConfig {
    let restart = &settings.restart;
    MachineConfig {
        backoff: session_backoff(settings),
        max_retries: if settings.service.enable_retry_logic { restart.max_retries } else { 0 },
        max_consecutive_errors: restart.max_consecutive_errors,
        rate_limit_duration: restart.rate_limit_duration.unwrap_or(RATE_LIMIT_WAIT_MAX),
        stuck_threshold: restart.stuck_threshold,
        max_execution_time: restart.max_execution_time,
        restart_delay_success: restart.restart_delay_success,
        restart_delay_auth: restart.restart_delay_auth,
        restart_delay_errors: restart.restart_delay_errors,
        recovery_timeout: settings.breaker.recovery_timeout,
        poll_interval: source.poll_interval,
    }
}

/// Returns the backoff between retries of a session.
#[must_use]
pub fn session_backoff(settings: &Settings) -> Backoff {
    let (restart, base) = (&settings.restart, &settings.backoff.base);
    Backoff {
        transient: base.transient,
        rate_limit: base.rate_limit,
        proxy: base.proxy,
        challenge: base.challenge,
        source_down: base.source_down,
        unknown: base.unknown,
        multiplier: f64::from(restart.retry_delay_multiplier),
        max_delay: restart.max_retry_delay,
        jitter: settings.backoff.jitter,
        max_doublings: settings.backoff.max_doublings,
    }
}

/// Returns the policy by which circuit breakers open and close.
#[must_use]
pub fn breaker_policy(settings: &Settings) -> BreakerPolicy {
    let breaker = &settings.breaker;
    BreakerPolicy {
        failure_threshold: breaker.failure_threshold,
        window: breaker.window,
        failure_rate: breaker.failure_rate_threshold,
        min_calls: breaker.min_calls,
        recovery_timeout: breaker.recovery_timeout,
        max_recovery_timeout: breaker.max_recovery_timeout,
        success_threshold: breaker.success_threshold,
    }
}

/// Returns the policy for failing items.
#[must_use]
pub fn item_retry_policy(settings: &Settings) -> ItemRetryPolicy {
    ItemRetryPolicy {
        max_attempts: settings.item.max_attempts,
        max_requests: (settings.item.max_attempts)
            .saturating_mul(settings.retry.request.max_attempts),
        retry_delay: settings.item.retry_delay,
        max_retry_delay: settings.item.max_retry_delay,
        recheck: RecheckPolicy {
            interval: settings.item.recheck_delay,
            max_interval: settings.item.max_recheck_delay,
        },
    }
}

/// Returns the configuration of the rate limiter of a provider.
#[must_use]
pub fn limiter_config(settings: &Settings, provider: &str) -> LimiterConfig {
    let policy = settings.rate_limit_policy(provider);
    let provider = settings.provider_or_default(provider);
    LimiterConfig {
        policy,
        concurrency: provider.concurrency,
        is_per_account: provider.rate_limit_scope == RateLimitScope::Account,
        route_budgets: (provider.routes.into_iter())
            .filter_map(|route| Some((route.path, route.budget?)))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{EnvVars, load_defaults};

    #[test]
    fn breaker_defaults_match_the_simulated_ones() {
        let settings = load_defaults(&EnvVars::default()).unwrap().settings;

        assert_eq!(breaker_policy(&settings), BreakerPolicy::DEFAULT);
    }
}
