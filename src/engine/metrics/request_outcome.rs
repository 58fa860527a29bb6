//! How requests end, in few enough classes for a metric.

use serde::{Deserialize, Serialize};

use crate::engine::Cause;
use crate::engine::metrics::add_saturating;

/// How a request ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RequestOutcome {
    /// It got what it asked for, whole.
    Success,
    /// The server says that we ask too often.
    RateLimited,
    /// The credential is refused.
    Unauthorized,
    /// There is no such thing, or not for us, or not from that point on.
    Refused,
    /// The server failed on its side.
    ServerError,
    /// A reply that is not what was asked for, or not all of it.
    Malformed,
    /// No reply in time.
    Timeout,
    /// No connection: refused, reset, not safe, no name, no route, no proxy.
    Unreachable,
    /// Our own disk failed, or nothing that we know.
    Other,
}

/// Requests by how they ended.
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

    /// The class of what went wrong, if anything did.
    #[must_use]
    pub fn from_cause(end: Option<Cause>) -> Self {
        match end {
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

    /// The word for it in the file and in metrics.
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
    pub fn record(&mut self, class: RequestOutcome) {
        let count = match class {
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
    pub fn count(&self, class: RequestOutcome) -> u64 {
        match class {
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
