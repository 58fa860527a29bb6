//! Everything that can go wrong, and what each cause deserves.
//!
//! Two levels: a failure of an **item** costs that item an attempt and never
//! ends the session; a failure of the **listing** or the **session** moves the
//! machine. the bridge leads from the first to the second.

use std::fmt;
use std::time::Duration;

use crate::engine::rate_limit::ReplyOutcome;
use crate::engine::{AccountId, RecordedResponse, ThrottleStrikes, Timestamp, sanitize_line};

/// The part of an account's id that a sentence quotes, in characters: the remedy behind it must not be cut.
const ACCOUNT_CHARS_MAX: usize = 64;

/// What was asked for when it went wrong.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum RequestScope {
    /// A page of the list of items, or of changes.
    Listing,
    /// One document of one item.
    Item,
    /// Finding the service, and being let in.
    Session,
}

/// Why something did not work. Closed: a new cause must be judged everywhere.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Cause {
    /// The source says that we ask too often.
    RateLimit,
    /// Our credential is refused.
    Unauthorized,
    /// We are known, and may not have this.
    Forbidden,
    /// There is no such thing, or no longer.
    NotFound,
    /// The source failed on its side.
    Server,
    /// No connection to the source, or it broke.
    Connection,
    /// The connection is not safe: certificate or handshake.
    Tls,
    /// No answer, or too slow a one.
    Timeout,
    /// Fewer or more bytes than announced.
    Truncated,
    /// A success that is not what was asked for: a login page, a challenge, another type.
    Challenge,
    /// The way out is closed: 407, or the proxy cannot be reached.
    Proxy,
    /// The source has forgotten the point from which we ask for changes.
    CursorExpired,
    /// Another account is behind the source than the one that the ledger belongs to.
    AccountChanged,
    /// A listing ended before the server's own total, and no change explains it.
    ListingIncomplete,
    /// Names or routes fail here, whoever is asked.
    LocalNetwork,
    /// The archive's disk is full, read-only or broken.
    Storage,
    /// The ledger cannot be read or written.
    Ledger,
    /// The document is larger than the limit that the configuration sets.
    TooLarge,
    /// No word we know.
    Unknown,
}

/// The family of a cause, as logs and tables name it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorCategory {
    Temporary,
    Authentication,
    Permanent,
    Local,
    Unknown,
}

/// What a failure deserves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorAction {
    /// Close the gate until the time told. Spends no attempt.
    WaitForRateLimit,
    /// Renew the credential once; refused again, stop asking until it changes.
    RefreshCredential,
    /// Set this item aside for a person; look again, ever more seldom.
    Quarantine,
    /// It was deleted meanwhile: settled, nothing to keep.
    MarkGone,
    /// The source is not where it was: tell a person, wait long.
    RetryMuchLater,
    /// Try again after a growing delay.
    Retry,
    /// Try again, and watch: several in a row mean that we are being kept out.
    RetryAsChallenge,
    /// Go out by another proxy.
    SwitchProxy,
    /// Not a failure: list everything once, pinning a new cursor first.
    FullResync,
    /// Begin the listing again after a growing delay; several in a row are told to a person.
    RestartListing,
    /// Wait for the network of this machine; blame no one.
    WaitForNetwork,
    /// Tell a person now; wait and try again; nothing counts as stored.
    WaitForStorage,
    /// Try again, slowly: it is not understood.
    RetryConservatively,
}

/// One thing that went wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    pub cause: Cause,
    /// How long the source told us to stay away.
    pub retry_after: Option<Duration>,
    /// Until when the gate of the provider is closed: exact, margin included.
    pub blocked_until: Option<Timestamp>,
    /// Of a throttled document: how often that was so while others were let through.
    pub strikes: Option<ThrottleStrikes>,
    /// It was not tried to the end: so much fails that quick retries are saved up.
    pub is_retry_budget_exhausted: bool,
    /// The requests that it took, quick retries included.
    pub request_count: u32,
    /// Milliseconds since the first of them failed. One that was never answered failed from the start.
    pub failing_millis: u32,
    /// One line for a person: what, where. Holds no secret and no URL with a query.
    pub message: String,
    /// What the server replied, where it did. Boxed: most failures have none.
    pub response: Option<Box<RecordedResponse>>,
}

impl Failure {
    /// Makes a failure; `detail` may quote untrusted text and is escaped and cut.
    #[must_use]
    pub fn new(cause: Cause, detail: impl AsRef<str>) -> Self {
        Self {
            cause,
            retry_after: None,
            blocked_until: None,
            strikes: None,
            is_retry_budget_exhausted: false,
            request_count: 1,
            failing_millis: 0,
            message: sanitize_line(detail.as_ref()),
            response: None,
        }
    }

    /// Another account is behind `source` than the one that its ledger belongs to.
    #[must_use]
    pub fn account_changed(source: &str, was: &AccountId, is: &AccountId) -> Self {
        let quoted = |account: &AccountId| {
            account.as_str().chars().take(ACCOUNT_CHARS_MAX).collect::<String>()
        };
        let (was, is) = (quoted(was), quoted(is));
        Self::new(
            Cause::AccountChanged,
            format!(
                "the account behind this source was \"{was}\" and is \"{is}\" now: give \"{is}\" a \
                 source name of its own, or forget \"{was}\" with `cynosure reset {source}`"
            ),
        )
    }

    /// The time since the first of its requests failed.
    #[must_use]
    pub fn failing_duration(&self) -> Duration {
        Duration::from_millis(self.failing_millis.into())
    }

    #[must_use]
    pub fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    #[must_use]
    pub fn with_blocked_until(mut self, until: Option<Timestamp>) -> Self {
        self.blocked_until = until;
        self
    }

    /// Notes the strikes of a document, and says so where its throttles are its own.
    #[must_use]
    pub fn with_strikes(mut self, strikes: Option<ThrottleStrikes>) -> Self {
        self.strikes = strikes;
        if self.is_item_specific_throttle() {
            self.message.push_str(", for this document alone: other requests are let through");
        }
        self
    }

    /// A throttle of one document, while others are let through.
    #[must_use]
    pub fn is_item_specific_throttle(&self) -> bool {
        self.cause == Cause::RateLimit
            && self.strikes.is_some_and(ThrottleStrikes::is_item_specific)
    }

    #[must_use]
    pub fn with_response(mut self, reply: RecordedResponse) -> Self {
        self.response = Some(Box::new(reply));
        self
    }

    /// Whether it may be gone within seconds. A server that names a time, or refuses, is obeyed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        let fleeting = matches!(
            self.cause,
            Cause::Connection | Cause::Timeout | Cause::Truncated | Cause::Server
        );
        fleeting && self.retry_after.is_none() && !self.is_retry_budget_exhausted
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

    /// The word for it in the state file, the ledger, logs and commands.
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

    /// Reads a cause back from its name.
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

    /// What a reply that is judged so says of the quota.
    #[must_use]
    pub fn rate_limit_signal(self) -> ReplyOutcome {
        match self {
            Self::RateLimit => ReplyOutcome::Throttled,
            Self::Server
            | Self::Connection
            | Self::Tls
            | Self::Timeout
            | Self::Truncated
            | Self::Proxy
            | Self::LocalNetwork
            | Self::Storage
            | Self::Ledger => ReplyOutcome::Failed,
            // The server let it in and answered; that it said no is another matter.
            Self::Unauthorized
            | Self::Forbidden
            | Self::NotFound
            | Self::Challenge
            | Self::CursorExpired
            | Self::AccountChanged
            | Self::ListingIncomplete
            | Self::TooLarge
            | Self::Unknown => ReplyOutcome::Accepted,
        }
    }

    /// Judges the cause. One arm each, so that a new one cannot be forgotten.
    #[must_use]
    pub fn action(self, scope: RequestScope) -> ErrorAction {
        match self {
            Self::RateLimit => ErrorAction::WaitForRateLimit,
            // Another credential may be one of the right account.
            Self::Unauthorized | Self::AccountChanged => ErrorAction::RefreshCredential,
            Self::Forbidden => match scope {
                RequestScope::Item => ErrorAction::Quarantine,
                // Known, and shut out of everything: what a revoked consent looks like.
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
            Self::WaitForRateLimit => "wait",
            Self::RefreshCredential => "renew",
            Self::Quarantine => "quarantine",
            Self::MarkGone => "gone",
            Self::RetryMuchLater => "long_wait",
            Self::Retry => "retry",
            Self::RetryAsChallenge => "suspect",
            Self::SwitchProxy => "switch_proxy",
            Self::FullResync => "collect_in_full",
            Self::RestartListing => "list_again",
            Self::WaitForNetwork => "wait_for_network",
            Self::WaitForStorage => "wait_for_storage",
            Self::RetryConservatively => "retry_cautiously",
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
