//! Texts of replies that mean more than their code and status, with the server that sends them.
//!
//! Servers use the codes of RFC 5530 rarely, and for other purposes.

use super::phase::ImapPhase;
use super::reply::{ImapReply, ImapStatus};
use super::rule::ImapRule;

/// Text of a known server, and its rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct KnownText {
    /// Part of the text, in lower case.
    phrase: &'static str,
    pub(super) rule: ImapRule,
    /// Remedy, for a rule whose remedy depends on the server.
    pub(super) advice: Option<&'static str>,
}

const MAIL_RU_APP_PASSWORD: &str = "mail.ru accepts only a password for external applications: \
     create one at https://account.mail.ru/user/2-step-auth/passwords and use it";
const GOOGLE_APP_PASSWORD: &str = "Google accepts only an app password or OAuth 2: create an app \
     password (https://support.google.com/accounts/answer/185833) and use it";
const NO_BASIC_AUTH: &str = "if this is Microsoft 365 or outlook.com, it accepts no password: \
     write auth = { type = \"oauth2\", … }";

/// Texts of any reply but a success. The first match applies.
const TEXTS: &[KnownText] = &[
    // Microsoft 365: "Request is throttled. Suggested Backoff Time: 89117 milliseconds".
    known("suggested backoff time", ImapRule::SuggestedBackoff),
    known("request is throttled", ImapRule::Throttled),
    // Gmail, with [ALERT]; during a login even after a challenge as for a wrong token.
    known("too many simultaneous connections", ImapRule::ConnectionLimit),
    // Dovecot, with [LIMIT], older versions with [UNAVAILABLE].
    known("maximum number of connections", ImapRule::ConnectionLimit),
    // NetEase, as BYE.
    known("too many concurrent connections", ImapRule::ConnectionLimit),
    known("too many connections", ImapRule::ConnectionLimit),
    // Gmail, with [OVERQUOTA].
    known("exceeded command or bandwidth limits", ImapRule::OverQuota),
    // Yahoo, with [LIMIT], followed by BYE.
    known("rate limit", ImapRule::Throttled),
    // Exchange, as BAD.
    known("user is authenticated but not connected", ImapRule::AuthenticatedNotConnected),
    // Exchange, as BYE in the middle of a session.
    known("accesstokenexpired", ImapRule::TokenExpired),
    // mail.ru sends both, with [AUTHENTICATIONFAILED].
    advised("neobhodim parol prilozheniya", ImapRule::AppPasswordRequired, MAIL_RU_APP_PASSWORD),
    advised(
        "application password is required",
        ImapRule::AppPasswordRequired,
        MAIL_RU_APP_PASSWORD,
    ),
    // Gmail, with [ALERT].
    advised(
        "application-specific password required",
        ImapRule::AppPasswordRequired,
        GOOGLE_APP_PASSWORD,
    ),
    // Yandex, with [AUTHENTICATIONFAILED]: "LOGIN invalid credentials or IMAP is disabled".
    known("imap is disabled", ImapRule::ImapDisabled),
    // Gmail, with [ALERT].
    known("not enabled for imap", ImapRule::ImapDisabled),
    // Gmail, with [WEBALERT] and then with [ALERT].
    known("web login required", ImapRule::WebLoginRequired),
    known("log in via your web browser", ImapRule::WebLoginRequired),
    // Dovecot before its codes; now with [PRIVACYREQUIRED].
    known("plaintext authentication disallowed", ImapRule::PrivacyRequired),
    // Cyrus.
    known("login only available under a layer", ImapRule::PrivacyRequired),
    // Exchange; also as a line without a status.
    known("server unavailable", ImapRule::ServerError),
    // QQ.
    known("system busy", ImapRule::ServerError),
];

/// Whole texts of a refused login, without the final full stop.
const LOGIN_TEXTS: &[KnownText] = &[
    // Exchange, for LOGIN and for AUTHENTICATE.
    advised("login failed", ImapRule::LoginRefused, NO_BASIC_AUTH),
    advised("authenticate failed", ImapRule::LoginRefused, NO_BASIC_AUTH),
];

/// Texts of a missing folder. They are looked for first, because they quote the name of the
/// folder, which may contain any other text.
const FOLDER_TEXTS: &[KnownText] = &[
    // Dovecot: "Mailbox doesn't exist: NAME"; Cyrus: "Mailbox does not exist".
    known("mailbox doesn't exist", ImapRule::FolderMissing),
    known("mailbox does not exist", ImapRule::FolderMissing),
];

/// Texts of BYE.
const BYE_TEXTS: &[KnownText] = &[
    // Gmail: "Session expired, please login again."
    known("session expired", ImapRule::SessionExpired),
    // Exchange: "Connection closed. 14".
    known("connection closed", ImapRule::SessionExpired),
    known("autologout", ImapRule::RoutineDisconnect),
    // Dovecot: "Disconnected for inactivity."
    known("inactivity", ImapRule::RoutineDisconnect),
    // Cyrus.
    known("idle for too long", ImapRule::RoutineDisconnect),
    // Dovecot: "Server shutting down."
    known("shutting down", ImapRule::RoutineDisconnect),
];

/// Remedies that do not depend on the server.
const ADVICE: [(ImapRule, &str); 8] = [
    (
        ImapRule::OverQuota,
        "a daily limit: Gmail allows 2,500 MB, then locks IMAP for up to a day; set bytes_per_day \
         of the provider below it",
    ),
    (
        ImapRule::ConnectionLimit,
        "phones and other mail programs count, too: close some, or lower connections of the \
         provider",
    ),
    (
        ImapRule::AuthenticatedNotConnected,
        "Exchange replies so to too many new connections, and also to a wrong password or mailbox: \
         if it does not pass, check auth",
    ),
    (
        ImapRule::ImapDisabled,
        "allow IMAP in the settings of the mailbox; if it is allowed, the password is wrong, or \
         must be an app password",
    ),
    (
        ImapRule::WebLoginRequired,
        "log in to the account in a web browser and confirm that this login is yours: \
         https://support.google.com/mail/accounts/answer/78754",
    ),
    (
        ImapRule::AuthorizationFailed,
        "the login is valid but may not open this mailbox: check auth.username, or ask the \
         administrator of the server for access",
    ),
    (ImapRule::PrivacyRequired, "the server allows a login only over TLS: set security = \"tls\""),
    (ImapRule::ContactAdmin, "ask the administrator of the server"),
];

const fn known(phrase: &'static str, rule: ImapRule) -> KnownText {
    KnownText { phrase, rule, advice: None }
}

const fn advised(phrase: &'static str, rule: ImapRule, advice: &'static str) -> KnownText {
    KnownText { phrase, rule, advice: Some(advice) }
}

/// Returns the known text in the text of a reply other than OK.
pub(super) fn find_known_text(reply: &ImapReply, phase: ImapPhase) -> Option<KnownText> {
    let text = reply.text.to_ascii_lowercase();
    let find_in =
        |texts: &[KnownText]| texts.iter().find(|known| text.contains(known.phrase)).copied();
    let of_phase = match phase {
        ImapPhase::Listing | ImapPhase::Select => find_in(FOLDER_TEXTS),
        ImapPhase::Login => {
            let whole = text.trim_end_matches('.');
            LOGIN_TEXTS.iter().find(|known| known.phrase == whole).copied()
        }
        ImapPhase::Greeting | ImapPhase::Fetch { .. } | ImapPhase::Idle => None,
    };
    let found = of_phase.or_else(|| find_in(TEXTS));
    if reply.status == ImapStatus::Bye { found.or_else(|| find_in(BYE_TEXTS)) } else { found }
}

/// Returns the remedy of a rule, if it has the same one for all servers.
pub(super) fn advice_of(rule: ImapRule) -> Option<&'static str> {
    ADVICE.into_iter().find(|(known, _)| *known == rule).map(|(_, advice)| advice)
}
