//! Effect of a call's result on the circuit breaker.

use crate::{Cause, RequestScope};

/// Effect of a call's result on the circuit breaker of the called service.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HealthSignal {
    /// The service works, even if its response is that an item is gone.
    Success,
    /// The service does not work.
    Failure,
    /// No effect: the cause lies elsewhere, or another mechanism handles it.
    Neutral,
}

impl HealthSignal {
    /// Returns the effect of a failed call on the provider's breaker. Every cause is named, so that
    /// a new one cannot be forgotten.
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
                // The service itself is no longer at this address.
                RequestScope::Listing | RequestScope::Session => Self::Failure,
            },
            // The provider works, and asks for fewer requests.
            Cause::RateLimit => Self::Neutral,
            // The provider works, but rejects the credential or this request.
            Cause::Unauthorized
            | Cause::AccountChanged
            | Cause::Forbidden
            | Cause::TooLarge
            | Cause::CursorExpired
            | Cause::ListingIncomplete => Self::Neutral,
            // Three in a row end the session, with a longer wait than any breaker's.
            Cause::Challenge => Self::Neutral,
            // The cause is on this side.
            Cause::Proxy | Cause::LocalNetwork | Cause::Storage | Cause::Ledger => Self::Neutral,
        }
    }

    /// Returns the effect of a failed operation on the breakers of ledger and archive.
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
