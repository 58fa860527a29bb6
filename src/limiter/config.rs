//! Configuration of the limiter of one provider.

use std::collections::BTreeMap;

use cynosure_engine::rate_limit::{Rate, RateLimitPolicy};

/// Configuration of the limiter of one provider.
#[derive(Clone, Debug, PartialEq)]
pub struct LimiterConfig {
    pub policy: RateLimitPolicy,
    /// Requests in flight at once.
    pub concurrency: u32,
    /// True if each account has a separate quota.
    pub is_per_account: bool,
    /// Routes with a quota separate from the provider's, and its rate.
    pub route_budgets: BTreeMap<String, Rate>,
}

impl LimiterConfig {
    /// Returns the policy of the provider, or of one of its routes.
    pub(super) fn policy_for(&self, route: Option<&str>) -> RateLimitPolicy {
        // The provider's cap counts units of its own limit, so a route's budget replaces it.
        let cap = route.map_or(self.policy.cap, |route| self.route_budgets.get(route).copied());
        RateLimitPolicy { cap, ..self.policy.clone() }
    }
}
