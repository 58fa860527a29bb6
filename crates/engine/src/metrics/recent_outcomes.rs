//! Results of the last attempts; so few that an outage is forgotten soon after its end.

use serde::{Deserialize, Serialize};

use crate::Cause;

/// Maximum number of results.
pub const RECENT_OUTCOMES_MAX: u32 = 10;

/// Results of the last attempts, success or failure.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(from = "RecentOutcomesText", into = "RecentOutcomesText")]
pub struct RecentOutcomes {
    /// One bit per attempt, set if it failed; the newest is the lowest.
    #[serde(rename = "failed")]
    failed_bits: u16,
    count: u32,
}

/// Serialized form: `"..x."`, oldest first, with an `x` for each failure.
#[derive(Deserialize, Serialize)]
#[serde(transparent)]
struct RecentOutcomesText(String);

impl RecentOutcomes {
    pub fn record(&mut self, success: bool) {
        self.failed_bits =
            ((self.failed_bits << 1) | u16::from(!success)) & ((1 << RECENT_OUTCOMES_MAX) - 1);
        self.count = (self.count + 1).min(RECENT_OUTCOMES_MAX);
    }

    /// Returns the number of results, at most [`RECENT_OUTCOMES_MAX`].
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Returns the share that succeeded; `None` before the first.
    #[must_use]
    pub fn success_rate(&self) -> Option<f64> {
        let succeeded = self.count.saturating_sub(self.failed_bits.count_ones());
        (self.count > 0).then(|| f64::from(succeeded) / f64::from(self.count))
    }
}

/// Returns true if the result of an attempt counts as a success. `None` if it says nothing about
/// the source: a rate limit, or a failure of this host's storage. An item that is gone is a
/// success, because the source responded.
pub(super) fn counts_as_success(cause: Option<Cause>) -> Option<bool> {
    match cause {
        None | Some(Cause::NotFound | Cause::CursorExpired) => Some(true),
        Some(Cause::RateLimit | Cause::Storage | Cause::Ledger) => None,
        Some(
            Cause::Unauthorized
            | Cause::AccountChanged
            | Cause::ListingIncomplete
            | Cause::Forbidden
            | Cause::Server
            | Cause::Connection
            | Cause::Tls
            | Cause::Timeout
            | Cause::Truncated
            | Cause::Challenge
            | Cause::Proxy
            | Cause::LocalNetwork
            | Cause::TooLarge
            | Cause::Unknown,
        ) => Some(false),
    }
}

impl From<RecentOutcomesText> for RecentOutcomes {
    fn from(RecentOutcomesText(text): RecentOutcomesText) -> Self {
        let mut outcomes = Self::default();
        text.bytes().for_each(|outcome| outcomes.record(outcome == b'.'));
        outcomes
    }
}

impl From<RecentOutcomes> for RecentOutcomesText {
    fn from(outcomes: RecentOutcomes) -> Self {
        let ages = (0..outcomes.count).rev();
        Self(ages.map(|age| if outcomes.failed_bits >> age & 1 == 1 { 'x' } else { '.' }).collect())
    }
}
