//! Requests and responses as the rate limiter sees them.

use crate::Timestamp;
use crate::rate_limit::ReportedLimits;

/// Decision about a request: send it now or wait.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use = "a request that was admitted must be sent or dropped"]
pub enum SendDecision {
    Admitted(RequestToken),
    /// `until` lies in the future. Ask again then, or as soon as another response arrives.
    Wait {
        until: Timestamp,
        reason: WaitReason,
    },
}

/// Reason for which a request must wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WaitReason {
    /// A block is in force.
    Blocked,
    /// The block has ended, and a probe is in flight.
    Probing,
    Pacing,
}

/// Identity of a request in flight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RequestToken {
    pub(super) sent_at: Timestamp,
    pub(super) weight: u32,
    pub(super) generation: u32,
}

/// Response to a request: its outcome and the limits that it reports.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimitResponse<'a> {
    pub outcome: ResponseOutcome,
    pub reported: &'a ReportedLimits,
}

/// Outcome of a request with respect to the rate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ResponseOutcome {
    Accepted,
    /// "Too many requests", in any form.
    Throttled,
    /// A server error or a truncated response: no information about the rate.
    Failed,
}
