//! Outcomes of requests, in few enough classes for a metric.

use serde::{Deserialize, Serialize};

use crate::Cause;
use crate::metrics::add_saturating;

/// Outcome of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RequestOutcome {
    /// The expected response, complete.
    Success,
    /// The server limits the request rate.
    RateLimited,
    /// The credential is refused, or belongs to another account.
    Unauthorized,
    /// Not found, forbidden, or the cursor has expired.
    Refused,
    /// The server failed on its side.
    ServerError,
    /// An unexpected or incomplete response.
    Malformed,
    /// No response in time.
    Timeout,
    /// No connection: refused, reset, TLS failure, no DNS name, no route, no proxy.
    Unreachable,
    /// Failure of this host's storage, or an unknown cause.
    Other,
}

/// Counts of requests by outcome.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct OutcomeCounts {
    #[serde(rename = "ok")]
    pub success: u64,
    #[serde(rename = "throttled")]
    pub rate_limited: u64,
    pub unauthorized: u64,
    pub refused: u64,
    pub server_error: u64,
    #[serde(rename = "spoiled")]
    pub malformed: u64,
    pub timeout: u64,
    pub unreachable: u64,
    pub other: u64,
}

impl RequestOutcome {
    pub const ALL: [Self; 9] = [
        Self::Success,
        Self::RateLimited,
        Self::Unauthorized,
        Self::Refused,
        Self::ServerError,
        Self::Malformed,
        Self::Timeout,
        Self::Unreachable,
        Self::Other,
    ];

    /// Returns the outcome for a cause of failure; `None` is a success.
    #[must_use]
    pub fn from_cause(cause: Option<Cause>) -> Self {
        match cause {
            None => Self::Success,
            Some(Cause::RateLimit) => Self::RateLimited,
            Some(Cause::Unauthorized | Cause::AccountChanged) => Self::Unauthorized,
            Some(Cause::Forbidden | Cause::NotFound | Cause::CursorExpired) => Self::Refused,
            Some(Cause::Server) => Self::ServerError,
            Some(
                Cause::Truncated | Cause::Challenge | Cause::TooLarge | Cause::ListingIncomplete,
            ) => Self::Malformed,
            Some(Cause::Timeout) => Self::Timeout,
            Some(Cause::Connection | Cause::Tls | Cause::Proxy | Cause::LocalNetwork) => {
                Self::Unreachable
            }
            Some(Cause::Storage | Cause::Ledger | Cause::Unknown) => Self::Other,
        }
    }

    /// Returns the name in the file and in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Success => "ok",
            Self::RateLimited => "throttled",
            Self::Unauthorized => "unauthorized",
            Self::Refused => "refused",
            Self::ServerError => "server_error",
            Self::Malformed => "spoiled",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Other => "other",
        }
    }
}

impl OutcomeCounts {
    pub fn record(&mut self, outcome: RequestOutcome) {
        let count = match outcome {
            RequestOutcome::Success => &mut self.success,
            RequestOutcome::RateLimited => &mut self.rate_limited,
            RequestOutcome::Unauthorized => &mut self.unauthorized,
            RequestOutcome::Refused => &mut self.refused,
            RequestOutcome::ServerError => &mut self.server_error,
            RequestOutcome::Malformed => &mut self.malformed,
            RequestOutcome::Timeout => &mut self.timeout,
            RequestOutcome::Unreachable => &mut self.unreachable,
            RequestOutcome::Other => &mut self.other,
        };
        add_saturating(count, 1);
    }

    #[must_use]
    pub fn count(&self, outcome: RequestOutcome) -> u64 {
        match outcome {
            RequestOutcome::Success => self.success,
            RequestOutcome::RateLimited => self.rate_limited,
            RequestOutcome::Unauthorized => self.unauthorized,
            RequestOutcome::Refused => self.refused,
            RequestOutcome::ServerError => self.server_error,
            RequestOutcome::Malformed => self.malformed,
            RequestOutcome::Timeout => self.timeout,
            RequestOutcome::Unreachable => self.unreachable,
            RequestOutcome::Other => self.other,
        }
    }
}
