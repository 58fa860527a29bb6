//! Failures: the closed list of causes, and the action for each.
//!
//! Two levels: a failure of an **item** costs that item an attempt and never
//! ends the session; a failure of the **listing** or the **session** changes the state of the
//! machine. [`ItemFailureEscalation`](crate::ItemFailureEscalation) and the provider's
//! [`Breaker`](crate::breaker::Breaker) turn the first into the second.

use std::fmt;
use std::time::Duration;

use crate::rate_limit::ResponseOutcome;
use crate::{AccountId, RecordedResponse, ThrottleStrikes, Timestamp, sanitize_line};

/// Longest part of an account id quoted in a message, in characters, so that the remedy after it
/// is not truncated.
const ACCOUNT_CHARS_MAX: usize = 64;

/// Purpose of the request that failed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum RequestScope {
    /// A page of the item listing or of the changes.
    Listing,
    /// One document of one item.
    Item,
    /// Service discovery and authentication.
    Session,
}

/// Cause of a failure. The list is closed, so that a new cause must be handled everywhere.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Cause {
    /// Too many requests, according to the source.
    RateLimit,
    /// Refused credential.
    Unauthorized,
    /// Valid credential without permission for this resource.
    Forbidden,
    /// Resource that does not exist, or no longer.
    NotFound,
    /// Error on the side of the source.
    Server,
    /// No connection to the source, or a broken one.
    Connection,
    /// Insecure connection: certificate or handshake.
    Tls,
    /// No response, or one that is too slow.
    Timeout,
    /// Fewer or more bytes than announced.
    Truncated,
    /// Success with unexpected content: a login page, a challenge, another content type.
    Challenge,
    /// Proxy failure: 407, or an unreachable proxy.
    Proxy,
    /// Cursor that the source no longer accepts.
    CursorExpired,
    /// Source whose account is not the one that the ledger belongs to.
    AccountChanged,
    /// Listing that ended before the server's own total, with no change that explains it.
    ListingIncomplete,
    /// Name resolution or routing that fails on this machine for every destination.
    LocalNetwork,
    /// Archive disk that is full, read-only or broken.
    Storage,
    /// Ledger that cannot be read or written.
    Ledger,
    /// Document larger than the configured limit.
    TooLarge,
    /// Failure that is not recognized.
    Unknown,
}

/// Category of a cause, used in logs and tables.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorCategory {
    Temporary,
    Authentication,
    Permanent,
    Local,
    Unknown,
}

/// Action for a failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorAction {
    /// Send no requests until the rate limit ends. Costs no attempt.
    WaitForRateLimit,
    /// Reload the credential once; if it is refused again, wait until it changes.
    RefreshCredential,
    /// Quarantine this item for manual review; recheck it at growing intervals.
    Quarantine,
    /// Record the item as deleted at the source: settled, with nothing to store.
    MarkGone,
    /// Send an alert and retry after a long delay, because the source is not at its address.
    RetryMuchLater,
    /// Retry with backoff.
    Retry,
    /// Retry and count: several in a row mean that the source blocks this client.
    RetryAsChallenge,
    /// Use another proxy.
    SwitchProxy,
    /// List everything once, after pinning a new cursor. Not a failure.
    FullResync,
    /// Restart the listing with backoff; several in a row send an alert.
    RestartListing,
    /// Wait for the network of this machine: no failure of the source or the item.
    WaitForNetwork,
    /// Send an alert at once, wait and retry; nothing counts as stored.
    WaitForStorage,
    /// Retry slowly, because the failure is not understood.
    RetryConservatively,
}

/// Failure of one request or operation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    pub cause: Cause,
    /// Retry-After duration given by the source.
    pub retry_after: Option<Duration>,
    /// True for a lock-out whose end the source does not name: `retry_after` is then the wait after
    /// the first of several in a row.
    pub is_lock_out: bool,
    /// Time until which the provider's rate limiter blocks requests: exact, margin included.
    pub blocked_until: Option<Timestamp>,
    /// For a throttled document, its throttles while other requests succeeded.
    pub strikes: Option<ThrottleStrikes>,
    /// True if quick retries ended early, because so much fails that the retry budget is exhausted.
    pub is_retry_budget_exhausted: bool,
    /// Number of requests sent, quick retries included.
    pub request_count: u32,
    /// Milliseconds since the first of these requests failed. A request without a response failed
    /// when it was sent.
    pub failing_millis: u32,
    /// One-line message: the failed operation and its target, without secrets and URL queries.
    pub message: String,
    /// Error response, if there is one. Boxed because most failures have none.
    pub response: Option<Box<RecordedResponse>>,
}

impl Failure {
    /// Creates a failure; `message` may quote untrusted text and is escaped and truncated.
    #[must_use]
    pub fn new(cause: Cause, message: impl AsRef<str>) -> Self {
        Self {
            cause,
            retry_after: None,
            is_lock_out: false,
            blocked_until: None,
            strikes: None,
            is_retry_budget_exhausted: false,
            request_count: 1,
            failing_millis: 0,
            message: sanitize_line(message.as_ref()),
            response: None,
        }
    }

    /// Creates the failure of a `source` whose account is `current`, while its ledger
    /// belongs to `previous`.
    #[must_use]
    pub fn account_changed(source: &str, previous: &AccountId, current: &AccountId) -> Self {
        let shorten = |account: &AccountId| {
            account.as_str().chars().take(ACCOUNT_CHARS_MAX).collect::<String>()
        };
        let (previous, current) = (shorten(previous), shorten(current));
        Self::new(
            Cause::AccountChanged,
            format!(
                "the account changed from \"{previous}\" to \"{current}\": give \"{current}\" \
                 another source name, or delete the progress of \"{previous}\" with \
                 `cynosure reset {source}`"
            ),
        )
    }

    /// Returns the time since the first of its requests failed.
    #[must_use]
    pub fn failing_duration(&self) -> Duration {
        Duration::from_millis(self.failing_millis.into())
    }

    #[must_use]
    pub fn with_retry_after(mut self, retry_after: Option<Duration>) -> Self {
        self.retry_after = retry_after;
        self
    }

    #[must_use]
    pub fn with_blocked_until(mut self, until: Option<Timestamp>) -> Self {
        self.blocked_until = until;
        self
    }

    /// Sets the strikes of a document, and extends the message if the throttle is item-specific.
    #[must_use]
    pub fn with_strikes(mut self, strikes: Option<ThrottleStrikes>) -> Self {
        self.strikes = strikes;
        if self.is_item_specific_throttle() {
            self.message.push_str(", only for this document: other requests succeed");
        }
        self
    }

    /// True for a throttle of one document while other requests succeed.
    #[must_use]
    pub fn is_item_specific_throttle(&self) -> bool {
        self.cause == Cause::RateLimit
            && self.strikes.is_some_and(ThrottleStrikes::is_item_specific)
    }

    #[must_use]
    pub fn with_response(mut self, response: RecordedResponse) -> Self {
        self.response = Some(Box::new(response));
        self
    }

    /// True if the failure may pass within seconds. False if the server gave a Retry-After, or if
    /// the retry budget is exhausted.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        let has_transient_cause = matches!(
            self.cause,
            Cause::Connection | Cause::Timeout | Cause::Truncated | Cause::Server
        );
        has_transient_cause && self.retry_after.is_none() && !self.is_retry_budget_exhausted
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl Cause {
    pub const ALL: [Self; 19] = [
        Self::RateLimit,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::Server,
        Self::Connection,
        Self::Tls,
        Self::Timeout,
        Self::Truncated,
        Self::Challenge,
        Self::Proxy,
        Self::CursorExpired,
        Self::AccountChanged,
        Self::ListingIncomplete,
        Self::LocalNetwork,
        Self::Storage,
        Self::Ledger,
        Self::TooLarge,
        Self::Unknown,
    ];

    /// Returns the name in the state file, the ledger, logs and commands.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RateLimit => "rate_limit",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Server => "server",
            Self::Connection => "connection",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Truncated => "truncated",
            Self::Challenge => "challenge",
            Self::Proxy => "proxy",
            Self::CursorExpired => "cursor_expired",
            Self::AccountChanged => "account_changed",
            Self::ListingIncomplete => "listing_incomplete",
            Self::LocalNetwork => "local_network",
            Self::Storage => "storage",
            Self::Ledger => "ledger",
            Self::TooLarge => "too_large",
            Self::Unknown => "unknown",
        }
    }

    /// Returns the cause with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.name() == name)
    }

    #[must_use]
    pub fn category(self) -> ErrorCategory {
        match self {
            Self::RateLimit
            | Self::Server
            | Self::Connection
            | Self::Tls
            | Self::Timeout
            | Self::Truncated
            | Self::Challenge
            | Self::Proxy
            | Self::CursorExpired
            | Self::ListingIncomplete => ErrorCategory::Temporary,
            Self::Unauthorized | Self::AccountChanged => ErrorCategory::Authentication,
            Self::Forbidden | Self::NotFound | Self::TooLarge => ErrorCategory::Permanent,
            Self::LocalNetwork | Self::Storage | Self::Ledger => ErrorCategory::Local,
            Self::Unknown => ErrorCategory::Unknown,
        }
    }

    /// Returns the outcome that a response with this cause has for the rate limiter.
    #[must_use]
    pub fn rate_limit_signal(self) -> ResponseOutcome {
        match self {
            Self::RateLimit => ResponseOutcome::Throttled,
            Self::Server
            | Self::Connection
            | Self::Tls
            | Self::Timeout
            | Self::Truncated
            | Self::Proxy
            | Self::LocalNetwork
            | Self::Storage
            | Self::Ledger => ResponseOutcome::Failed,
            // The server admitted the request and responded; its refusal is unrelated to the rate.
            Self::Unauthorized
            | Self::Forbidden
            | Self::NotFound
            | Self::Challenge
            | Self::CursorExpired
            | Self::AccountChanged
            | Self::ListingIncomplete
            | Self::TooLarge
            | Self::Unknown => ResponseOutcome::Accepted,
        }
    }

    /// Returns the action for this cause. The match is exhaustive, so that a new cause cannot be
    /// forgotten.
    #[must_use]
    pub fn action(self, scope: RequestScope) -> ErrorAction {
        match self {
            Self::RateLimit => ErrorAction::WaitForRateLimit,
            // Another credential may belong to the right account.
            Self::Unauthorized | Self::AccountChanged => ErrorAction::RefreshCredential,
            Self::Forbidden => match scope {
                RequestScope::Item => ErrorAction::Quarantine,
                // Authenticated but forbidden everywhere: revoked consent has this effect.
                RequestScope::Listing | RequestScope::Session => ErrorAction::RefreshCredential,
            },
            Self::NotFound => match scope {
                RequestScope::Item => ErrorAction::MarkGone,
                RequestScope::Listing | RequestScope::Session => ErrorAction::RetryMuchLater,
            },
            Self::Server | Self::Connection | Self::Tls | Self::Timeout | Self::Truncated => {
                ErrorAction::Retry
            }
            Self::Challenge => ErrorAction::RetryAsChallenge,
            Self::Proxy => ErrorAction::SwitchProxy,
            Self::CursorExpired => ErrorAction::FullResync,
            Self::ListingIncomplete => ErrorAction::RestartListing,
            Self::LocalNetwork => ErrorAction::WaitForNetwork,
            Self::Storage | Self::Ledger => ErrorAction::WaitForStorage,
            Self::TooLarge => match scope {
                RequestScope::Item => ErrorAction::Quarantine,
                RequestScope::Listing | RequestScope::Session => ErrorAction::RetryConservatively,
            },
            Self::Unknown => ErrorAction::RetryConservatively,
        }
    }
}

impl RequestScope {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Listing => "listing",
            Self::Item => "item",
            Self::Session => "session",
        }
    }
}

impl ErrorAction {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::WaitForRateLimit => "wait_for_rate_limit",
            Self::RefreshCredential => "refresh_credential",
            Self::Quarantine => "quarantine",
            Self::MarkGone => "mark_gone",
            Self::RetryMuchLater => "retry_much_later",
            Self::Retry => "retry",
            Self::RetryAsChallenge => "retry_as_challenge",
            Self::SwitchProxy => "switch_proxy",
            Self::FullResync => "full_resync",
            Self::RestartListing => "restart_listing",
            Self::WaitForNetwork => "wait_for_network",
            Self::WaitForStorage => "wait_for_storage",
            Self::RetryConservatively => "retry_conservatively",
        }
    }
}

impl ErrorCategory {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Temporary => "TEMPORARY",
            Self::Authentication => "AUTHENTICATION",
            Self::Permanent => "PERMANENT",
            Self::Local => "LOCAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_is_read_back_from_its_name() {
        for cause in Cause::ALL {
            assert_eq!(Cause::from_name(cause.name()), Some(cause));
        }
    }

    #[test]
    fn hostile_text_becomes_one_short_sanitized_line() {
        let failure =
            Failure::new(Cause::Unknown, "a\nb\u{1b}[31m\u{202e}c".to_owned() + &"x".repeat(500));

        assert!(failure.message.starts_with(r"a\u{a}b\u{1b}[31m\u{202e}c"));
        assert!(failure.message.chars().count() < 350);
        assert!(failure.message.ends_with('…'));
    }
}
