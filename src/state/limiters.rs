//! `quota.json`: states of all rate limiters, shared by every process that uses the state folder.

use std::collections::BTreeMap;
use std::fmt;

use cynosure_engine::rate_limit::{
    RateLimitPolicy, RateLimitStatus, RateLimiter, RateLimiterState, RateSource,
};
use cynosure_engine::{ConcurrencyState, RetryBudgetState, Timestamp};
use serde::{Deserialize, Serialize};

/// Name of the file in the state folder.
pub const LIMITERS_FILE: &str = "quota.json";

/// Schema version that this program writes. A file with a newer one is not read.
const SCHEMA: u32 = 1;

/// Content of the file.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct LimiterStates {
    schema: u32,
    pub scopes: BTreeMap<LimiterScope, ScopeState>,
}

/// Persisted state of one scope.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct ScopeState {
    /// Number of writes, by which a process detects a write of another.
    pub(crate) revision: u64,
    /// Provider whose rules apply.
    pub provider: String,
    #[serde(rename = "quota")]
    pub rate_limit: RateLimiterState,
    pub concurrency: ConcurrencyState,
    pub budget: RetryBudgetState,
}

impl LimiterStates {
    /// Returns the content of the file as JSON.
    pub(crate) fn into_json(self) -> Option<Vec<u8>> {
        serde_json::to_vec_pretty(&Self { schema: SCHEMA, ..self }).ok()
    }

    /// Returns the status of each rate limiter at `now`. `policy` returns the policy of a provider.
    /// A limiter is left out if no limit is known or configured, and there is no block.
    pub fn statuses(
        self,
        policy: impl Fn(&str) -> RateLimitPolicy,
        now: Timestamp,
    ) -> impl Iterator<Item = (LimiterScope, RateLimitStatus)> {
        let statuses = self.scopes.into_iter().map(move |(scope, state)| {
            let policy = policy(&state.provider);
            (scope, RateLimiter::restore(policy, &state.rate_limit, now).status(now))
        });
        statuses.filter(|(_, RateLimitStatus { block, limits, rate_source, .. })| {
            block.is_some()
                || !limits.is_empty()
                || !matches!(rate_source, RateSource::Unlimited | RateSource::SlowStart)
        })
    }
}

/// Parses the content of the file.
///
/// # Errors
/// One sentence with the reason, if it cannot be parsed or is of a newer version.
pub fn parse_limiters(bytes: &[u8]) -> Result<LimiterStates, String> {
    let states: LimiterStates =
        serde_json::from_slice(bytes).map_err(|error| format!("it cannot be read: {error}"))?;
    if SCHEMA < states.schema {
        let schema = states.schema;
        return Err(format!("a newer cynosure wrote it: schema {schema}, this one knows {SCHEMA}"));
    }
    Ok(states)
}

/// Key of a scope: provider, host if its name differs from the provider's, account and route,
/// joined by spaces, as in `host account /route`.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct LimiterScope(String);

impl LimiterScope {
    /// Returns the scope of a provider's host, of one account if accounts do not share limits, or
    /// of one route if it has a separate budget.
    #[must_use]
    pub fn new(provider: &str, host: &str, account: Option<&str>, route: Option<&str>) -> Self {
        let mut key = provider.to_owned();
        if host != provider {
            key.push(' ');
            key.push_str(host);
        }
        for part in [account, route].into_iter().flatten() {
            key.push(' ');
            key.push_str(part);
        }
        Self(key)
    }
}

impl fmt::Display for LimiterScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
