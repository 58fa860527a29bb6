//! `quota.json`: what is remembered of all quotas, shared by every process that uses the state folder.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::engine::rate_limit::RateLimiterState;
use crate::engine::{ConcurrencyState, RetryBudgetState};

/// The name of the file in the state folder.
pub const LIMITERS_FILE: &str = "quota.json";

/// The format that this program writes. What it does not know is another's, and is left alone.
const SCHEMA: u32 = 1;

/// Everything in the file.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct LimiterStates {
    schema: u32,
    pub scopes: BTreeMap<LimiterScope, ScopeState>,
}

/// What is remembered of one scope.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct ScopeState {
    /// Counts the writes, so that a process sees that another wrote.
    pub(crate) revision: u64,
    /// By whose rules it goes.
    pub provider: String,
    #[serde(rename = "quota")]
    pub rate_limit: RateLimiterState,
    pub concurrency: ConcurrencyState,
    pub budget: RetryBudgetState,
}

impl LimiterStates {
    /// Writes all of it as the file has it.
    pub(crate) fn into_json(self) -> Option<Vec<u8>> {
        serde_json::to_vec_pretty(&Self { schema: SCHEMA, ..self }).ok()
    }
}

/// Reads what was written.
///
/// # Errors
/// One sentence on why it cannot be understood.
pub fn parse_limiters(bytes: &[u8]) -> Result<LimiterStates, String> {
    let remembered: LimiterStates =
        serde_json::from_slice(bytes).map_err(|error| format!("it cannot be read: {error}"))?;
    if SCHEMA < remembered.schema {
        let newer = remembered.schema;
        return Err(format!("a newer version wrote it (schema {newer}, this one knows {SCHEMA})"));
    }
    Ok(remembered)
}

/// What a scope is known by: `host`, `host account`, `host account /route`.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct LimiterScope(String);

impl LimiterScope {
    /// The scope of a provider's host, of one account where they do not share it, and of one
    /// route where that has a budget of its own.
    #[must_use]
    pub fn new(provider: &str, host: &str, account: Option<&str>, route: Option<&str>) -> Self {
        let mut key = provider.to_owned();
        if host != provider {
            key.push(' ');
            key.push_str(host);
        }
        for more in [account, route].into_iter().flatten() {
            key.push(' ');
            key.push_str(more);
        }
        Self(key)
    }
}

impl fmt::Display for LimiterScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
