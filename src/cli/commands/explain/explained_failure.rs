//! Failure whose consequences are explained, whatever its protocol.

use std::time::Duration;

use cynosure_engine::{Cause, Classification, MatchedRule, RequestScope, Timestamp};

use super::input::ExplainInput;

/// Failure of a request, with everything that determines its consequences.
#[derive(Debug)]
pub(super) struct ExplainedFailure {
    pub cause: Cause,
    pub retry_after: Option<Duration>,
    /// True if `retry_after` is the wait after the first of several lock-outs in a row.
    pub is_lock_out: bool,
    /// Origin of `retry_after`, as text.
    pub wait_origin: &'static str,
    /// Name of a refusal for too many requests, as text.
    pub refusal: &'static str,
    /// Scopes whose requests are quickly retried, before the failure counts.
    pub quickly_retried: &'static [RequestScope],
    /// Time at which the response arrived.
    pub at: Timestamp,
    /// Number of failed attempts at the item, this one included.
    pub attempt: u32,
    /// Number of earlier quarantines of the item.
    pub quarantine_count: u32,
}

impl ExplainedFailure {
    /// Creates the failure of a classified HTTP response.
    pub(super) fn from_response(classification: &Classification<'_>, input: &ExplainInput) -> Self {
        let retry_after = classification.retry_after;
        Self {
            cause: classification.cause,
            retry_after,
            is_lock_out: false,
            wait_origin: wait_origin(classification),
            refusal: "429",
            quickly_retried: &[RequestScope::Item, RequestScope::Listing, RequestScope::Session],
            at: input.at,
            attempt: input.attempt,
            quarantine_count: input.quarantine_count,
        }
    }
}

/// Returns the origin of the wait of a response, as text.
fn wait_origin(classification: &Classification<'_>) -> &'static str {
    let retry_after = classification.retry_after;
    if classification.facts.retry_after == retry_after {
        return "the server's Retry-After";
    }
    match classification.matched_rule {
        MatchedRule::Profile(rule) if rule.wait == retry_after => "the wait of the profile's rule",
        MatchedRule::Profile(_) => "the wait in the body",
        MatchedRule::BuiltIn(_) | MatchedRule::UserDefined(_) => "the wait of your rule",
    }
}
