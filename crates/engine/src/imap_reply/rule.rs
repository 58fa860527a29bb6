//! Rules by which the replies of IMAP servers are classified.

use std::time::Duration;

use crate::Cause;

/// Waits before the next request, for replies that name none.
const DEFAULT_WAITS: [(ImapRule, Duration); 3] = [
    // Gmail gives no time, and locks the account for up to a day: this is the first of its waits.
    (ImapRule::OverQuota, Duration::from_secs(3600)),
    // Other programs of the account hold the connections, and give some up within minutes.
    (ImapRule::ConnectionLimit, Duration::from_secs(60)),
    // Exchange counts new connections over minutes.
    (ImapRule::AuthenticatedNotConnected, Duration::from_secs(5 * 60)),
];

/// Rule that determines the verdict on a reply.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum ImapRule {
    Success,
    ThrottledSuccess,
    /// Messages of the answer were deleted by another session. What is missing in it may be there.
    ExpungeIssued,
    /// Text that a person should read.
    Alert,
    SuggestedBackoff,
    /// On reading this is a limit of commands or bytes, never a full mailbox.
    OverQuota,
    ConnectionLimit,
    Throttled,
    /// Exchange's reply to too many new connections, and also to a wrong credential or mailbox. The
    /// caller counts them to tell the two apart.
    AuthenticatedNotConnected,
    AppPasswordRequired,
    ImapDisabled,
    WebLoginRequired,
    TokenExpired,
    BadCredential,
    AuthorizationFailed,
    LoginRefused,
    PrivacyRequired,
    ContactAdmin,
    PermissionDenied,
    FolderMissing,
    ServerError,
    /// Several messages were requested, and one of them may be the reason.
    SetRefused,
    MessageRefused,
    CommandRefused,
    /// Gmail also ends a session so when a limit is exceeded. The caller counts them to tell the
    /// two apart.
    SessionExpired,
    RoutineDisconnect,
    Disconnected,
    UnexpectedGreeting,
}

impl ImapRule {
    pub const ALL: [Self; 28] = [
        Self::Success,
        Self::ThrottledSuccess,
        Self::ExpungeIssued,
        Self::Alert,
        Self::SuggestedBackoff,
        Self::OverQuota,
        Self::ConnectionLimit,
        Self::Throttled,
        Self::AuthenticatedNotConnected,
        Self::AppPasswordRequired,
        Self::ImapDisabled,
        Self::WebLoginRequired,
        Self::TokenExpired,
        Self::BadCredential,
        Self::AuthorizationFailed,
        Self::LoginRefused,
        Self::PrivacyRequired,
        Self::ContactAdmin,
        Self::PermissionDenied,
        Self::FolderMissing,
        Self::ServerError,
        Self::SetRefused,
        Self::MessageRefused,
        Self::CommandRefused,
        Self::SessionExpired,
        Self::RoutineDisconnect,
        Self::Disconnected,
        Self::UnexpectedGreeting,
    ];

    /// Returns the cause. `None` for a success.
    #[must_use]
    pub fn cause(self) -> Option<Cause> {
        match self {
            Self::Success | Self::ThrottledSuccess | Self::ExpungeIssued | Self::Alert => None,
            Self::SuggestedBackoff
            | Self::OverQuota
            | Self::ConnectionLimit
            | Self::Throttled
            | Self::AuthenticatedNotConnected => Some(Cause::RateLimit),
            Self::AppPasswordRequired
            | Self::ImapDisabled
            | Self::WebLoginRequired
            | Self::TokenExpired
            | Self::BadCredential
            | Self::AuthorizationFailed
            | Self::LoginRefused => Some(Cause::Unauthorized),
            Self::PrivacyRequired => Some(Cause::Tls),
            Self::ContactAdmin | Self::PermissionDenied => Some(Cause::Forbidden),
            Self::FolderMissing => Some(Cause::NotFound),
            Self::ServerError | Self::SetRefused | Self::MessageRefused | Self::CommandRefused => {
                Some(Cause::Server)
            }
            Self::SessionExpired | Self::RoutineDisconnect | Self::Disconnected => {
                Some(Cause::Connection)
            }
            Self::UnexpectedGreeting => Some(Cause::Challenge),
        }
    }

    /// Returns the wait before the next request, for a reply that names none. `None` leaves it to
    /// the rate limiter.
    pub(super) fn default_wait(self) -> Option<Duration> {
        DEFAULT_WAITS.into_iter().find(|(rule, _)| *rule == self).map(|(_, wait)| wait)
    }

    /// Returns the name in output for people and programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::ThrottledSuccess => "throttled_success",
            Self::ExpungeIssued => "expunge_issued",
            Self::Alert => "alert",
            Self::SuggestedBackoff => "suggested_backoff",
            Self::OverQuota => "over_quota",
            Self::ConnectionLimit => "connection_limit",
            Self::Throttled => "throttled",
            Self::AuthenticatedNotConnected => "authenticated_not_connected",
            Self::AppPasswordRequired => "app_password_required",
            Self::ImapDisabled => "imap_disabled",
            Self::WebLoginRequired => "web_login_required",
            Self::TokenExpired => "token_expired",
            Self::BadCredential => "bad_credential",
            Self::AuthorizationFailed => "authorization_failed",
            Self::LoginRefused => "login_refused",
            Self::PrivacyRequired => "privacy_required",
            Self::ContactAdmin => "contact_admin",
            Self::PermissionDenied => "permission_denied",
            Self::FolderMissing => "folder_missing",
            Self::ServerError => "server_error",
            Self::SetRefused => "set_refused",
            Self::MessageRefused => "message_refused",
            Self::CommandRefused => "command_refused",
            Self::SessionExpired => "session_expired",
            Self::RoutineDisconnect => "routine_disconnect",
            Self::Disconnected => "disconnected",
            Self::UnexpectedGreeting => "unexpected_greeting",
        }
    }

    /// Returns a description of the condition of the rule.
    #[must_use]
    pub fn condition(self) -> &'static str {
        match self {
            Self::Success => "OK",
            Self::ThrottledSuccess => "OK with [THROTTLED]",
            Self::ExpungeIssued => "OK with [EXPUNGEISSUED]",
            Self::Alert => "OK with [ALERT]",
            Self::SuggestedBackoff => "text with a suggested backoff time",
            Self::OverQuota => "[OVERQUOTA], or text about limits of commands or bandwidth",
            Self::ConnectionLimit => "text about too many connections",
            Self::Throttled => "[THROTTLED] or [LIMIT], or text about a rate limit",
            Self::AuthenticatedNotConnected => "text of an authenticated user without connection",
            Self::AppPasswordRequired => "text that requires an app password",
            Self::ImapDisabled => "text of an account whose IMAP access may be disabled",
            Self::WebLoginRequired => "[WEBALERT], or text that requires a login in a browser",
            Self::TokenExpired => "text of an expired access token",
            Self::BadCredential => "[AUTHENTICATIONFAILED] or [EXPIRED]",
            Self::AuthorizationFailed => "[AUTHORIZATIONFAILED]",
            Self::LoginRefused => "NO to a login that names no other reason",
            Self::PrivacyRequired => "[PRIVACYREQUIRED], or text that requires TLS for a login",
            Self::ContactAdmin => "[CONTACTADMIN]",
            Self::PermissionDenied => "[NOPERM] or [CANNOT]",
            Self::FolderMissing => "[NONEXISTENT], or text of a missing folder",
            Self::ServerError => {
                "[UNAVAILABLE], [INUSE], [SERVERBUG] or [CORRUPTION], or text of a busy server"
            }
            Self::SetRefused => {
                "NO or BAD to a FETCH of several messages, without a code or text about all of them"
            }
            Self::MessageRefused => {
                "NO or BAD to a FETCH of one message, without another known code or text"
            }
            Self::CommandRefused => "NO or BAD to another command, without a known code or text",
            Self::SessionExpired => "BYE of an expired session or a closed connection",
            Self::RoutineDisconnect => "BYE of an inactive session or a server that shuts down",
            Self::Disconnected => "any other BYE",
            Self::UnexpectedGreeting => "greeting of NO or BAD, or PREAUTH",
        }
    }
}
