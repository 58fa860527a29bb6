//! Life of an access token, and the wait after a failed request for the next one.

use std::time::Duration;

use cynosure_engine::Timestamp;

use super::error::OAuthError;

/// Wait after a failed request while the old token is still valid, if the server names none.
const RETRY_DELAY: Duration = Duration::from_secs(60);

/// Time in which an access token is valid.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenLife {
    pub(super) issued_at: Timestamp,
    /// `None` if the server named no lifetime.
    pub(super) expires_at: Option<Timestamp>,
}

impl TokenLife {
    /// True if three quarters of it are over. A token without a known life is used until a server
    /// rejects it.
    pub(super) fn is_due(self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|expires_at| {
            let lifetime = expires_at.since(self.issued_at);
            lifetime.saturating_mul(3) / 4 <= now.since(self.issued_at)
        })
    }

    pub(super) fn is_valid(self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|expires_at| now < expires_at)
    }
}

/// Returns the wait before the next request, if the error may pass by itself: until then, an old
/// token that is still valid is used.
pub(super) fn retry_delay(error: &OAuthError) -> Option<Duration> {
    match error {
        OAuthError::Transient { retry_after, .. } => Some(retry_after.unwrap_or(RETRY_DELAY)),
        OAuthError::Storage(_) => Some(RETRY_DELAY),
        OAuthError::Denied(_) | OAuthError::Misconfigured(_) => None,
    }
}
