//! From settings, as people write them, to the rules that the engine decides by.

use crate::config::{Settings, Source};
use crate::engine::breaker::BreakerPolicy;
use crate::engine::{Backoff, BridgePolicy, ItemPolicy, Rules};
use crate::worker::downloads::Policies;

/// The rules of one source.
#[must_use]
pub fn rules(settings: &Settings, source: &Source) -> Rules {
    let (restart, base) = (&settings.restart, &settings.backoff.base);
    Rules {
        backoff: Backoff {
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
        },
        max_retries: if settings.service.enable_retry_logic { restart.max_retries } else { 0 },
        max_consecutive_errors: restart.max_consecutive_errors,
        rate_limit_duration: restart.rate_limit_duration,
        stuck_threshold: restart.stuck_threshold,
        max_execution_time: restart.max_execution_time,
        restart_delay_success: restart.restart_delay_success,
        restart_delay_auth: restart.restart_delay_auth,
        restart_delay_errors: restart.restart_delay_errors,
        recovery_timeout: settings.breaker.recovery_timeout,
        poll_interval: source.poll_interval,
    }
}

/// When breakers open, and how they close.
#[must_use]
pub fn breaker_policy(settings: &Settings) -> BreakerPolicy {
    let breaker = &settings.breaker;
    BreakerPolicy {
        failure_threshold: breaker.failure_threshold,
        window: breaker.window,
        failure_rate: breaker.failure_rate,
        min_calls: breaker.min_calls,
        recovery_timeout: breaker.recovery_timeout,
        max_recovery_timeout: breaker.max_recovery_timeout,
        success_threshold: breaker.success_threshold,
    }
}

/// How items are judged.
#[must_use]
pub fn policies(settings: &Settings) -> Policies {
    Policies {
        item: ItemPolicy {
            max_attempts: settings.item.max_attempts,
            retry_delay: settings.item.retry_delay,
            max_retry_delay: settings.item.max_retry_delay,
            recheck: settings.item.recheck,
        },
        bridge: BridgePolicy {
            failure_threshold: usize::try_from(settings.breaker.failure_threshold)
                .unwrap_or(usize::MAX),
            success_threshold: settings.breaker.success_threshold,
        },
    }
}
