//! What the end of a call says about the one who was called.

use crate::engine::{Cause, RequestScope};

/// What the end of a call says about the one who was called.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HealthSignal {
    /// It works: also an item that it knows to be gone is an answer.
    Success,
    /// It does not work.
    Failure,
    /// Nothing: someone else is to blame, or something else sees to it.
    Neutral,
}

impl HealthSignal {
    /// Judges what a failed call says about the provider. One arm each, so that a new cause
    /// cannot be forgotten.
    #[must_use]
    pub fn for_provider(cause: Cause, scope: RequestScope) -> Self {
        match cause {
            Cause::Server
            | Cause::Connection
            | Cause::Tls
            | Cause::Timeout
            | Cause::Truncated
            | Cause::Unknown => Self::Failure,
            Cause::NotFound => match scope {
                RequestScope::Item => Self::Success,
                // The whole service is not where it was.
                RequestScope::Listing | RequestScope::Session => Self::Failure,
            },
            // It works, and asks us to come less often.
            Cause::RateLimit => Self::Neutral,
            // It works, and wants another credential, or not this item.
            Cause::Unauthorized
            | Cause::AccountChanged
            | Cause::Forbidden
            | Cause::TooLarge
            | Cause::CursorExpired
            | Cause::ListingIncomplete => Self::Neutral,
            // Three in a row end the session, with a longer wait than any breaker's.
            Cause::Challenge => Self::Neutral,
            // The trouble is on this side.
            Cause::Proxy | Cause::LocalNetwork | Cause::Storage | Cause::Ledger => Self::Neutral,
        }
    }

    /// Judges what a failed call says about the ledger or the archive.
    #[must_use]
    pub fn for_storage(cause: Cause) -> Self {
        match cause {
            Cause::Storage | Cause::Ledger => Self::Failure,
            Cause::RateLimit
            | Cause::Unauthorized
            | Cause::Forbidden
            | Cause::NotFound
            | Cause::Server
            | Cause::Connection
            | Cause::Tls
            | Cause::Timeout
            | Cause::Truncated
            | Cause::Challenge
            | Cause::Proxy
            | Cause::CursorExpired
            | Cause::AccountChanged
            | Cause::ListingIncomplete
            | Cause::LocalNetwork
            | Cause::TooLarge
            | Cause::Unknown => Self::Neutral,
        }
    }
}
