//! Configuration of the rate limiter of a provider.

use crate::config::{RateLimitScope, Settings};
use crate::limiter::LimiterConfig;

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
