//! Classifier for the replies of IMAP servers.
//!
//! The response code decides, then a known text, then the command and the status. Some codes are
//! general, so that a text may say more: Dovecot sends a connection limit as `[UNAVAILABLE]`.

use std::time::Duration;

use super::known_text::{advice_of, find_known_text};
use super::phase::ImapPhase;
use super::reply::{ImapReply, ImapStatus};
use super::rule::ImapRule;
use crate::Cause;

/// Text before the wait that Microsoft 365 suggests, in lower case.
const BACKOFF_PHRASE: &str = "suggested backoff time:";

/// Longest accepted backoff time: 31 days, as for a Retry-After. A longer one is invalid, and the
/// default is better.
const BACKOFF_MILLIS_MAX: u64 = 31 * 24 * 3_600_000;

/// Verdict on a reply: its cause, and what follows from it besides.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ImapVerdict {
    pub rule: ImapRule,
    /// `None` for a success.
    pub cause: Option<Cause>,
    /// Wait that the server names, else that of the rule.
    pub retry_after: Option<Duration>,
    /// True for a lock-out whose end the server does not name: `retry_after` is then the wait after
    /// the first of several in a row.
    pub is_lock_out: bool,
    /// Remedy, as a sentence without capital and full stop.
    pub advice: Option<&'static str>,
    /// True for a success that the server delays, to be answered with a lower rate.
    pub should_slow_down: bool,
    pub should_use_fewer_connections: bool,
}

/// Classifies a reply to a command of this kind. Some rule always matches.
///
/// An untagged NO or BAD is only a warning, which its command may survive.
#[must_use]
pub fn classify_imap_reply(reply: &ImapReply, phase: ImapPhase) -> ImapVerdict {
    let (rule, advice) = match reply.status {
        ImapStatus::Ok => (success_rule(reply), None),
        ImapStatus::PreAuth => (ImapRule::UnexpectedGreeting, None),
        ImapStatus::No | ImapStatus::Bad => failure_rule(reply, phase),
        // It ends the connection, whatever the command was.
        ImapStatus::Bye => failure_rule(reply, ImapPhase::Idle),
    };
    let cause = rule.cause();
    let wait = if cause == Some(Cause::RateLimit) { named_wait(&reply.text) } else { None };
    ImapVerdict {
        rule,
        cause,
        retry_after: wait.or_else(|| rule.default_wait()),
        is_lock_out: rule == ImapRule::OverQuota && wait.is_none(),
        advice: advice.or_else(|| advice_of(rule)),
        should_slow_down: rule == ImapRule::ThrottledSuccess,
        should_use_fewer_connections: rule == ImapRule::ConnectionLimit,
    }
}

fn success_rule(reply: &ImapReply) -> ImapRule {
    match reply.code_name() {
        Some("THROTTLED") => ImapRule::ThrottledSuccess,
        Some("EXPUNGEISSUED") => ImapRule::ExpungeIssued,
        Some("ALERT") => ImapRule::Alert,
        _ => ImapRule::Success,
    }
}

/// Returns the rule, with the remedy of its text.
fn failure_rule(reply: &ImapReply, phase: ImapPhase) -> (ImapRule, Option<&'static str>) {
    let of_code = reply.code_name().and_then(|name| rule_of_code(name, phase));
    match (of_code, find_known_text(reply, phase)) {
        (Some(rule), _) if !is_general(rule) => (rule, None),
        (_, Some(known)) => (known.rule, known.advice),
        (Some(rule), None) => (rule, None),
        (None, None) => (rule_of_command(reply.status, phase), None),
    }
}

/// True for rules of codes that servers send for many reasons.
fn is_general(rule: ImapRule) -> bool {
    matches!(
        rule,
        ImapRule::BadCredential
            | ImapRule::Throttled
            | ImapRule::ServerError
            | ImapRule::SetRefused
            | ImapRule::MessageRefused
    )
}

/// Returns the rule of a response code: RFC 5530, `WEBALERT` and `THROTTLED` of Gmail.
fn rule_of_code(name: &str, phase: ImapPhase) -> Option<ImapRule> {
    let rule = match name {
        "OVERQUOTA" => ImapRule::OverQuota,
        "THROTTLED" | "LIMIT" => ImapRule::Throttled,
        "AUTHENTICATIONFAILED" | "EXPIRED" => ImapRule::BadCredential,
        "AUTHORIZATIONFAILED" => ImapRule::AuthorizationFailed,
        "WEBALERT" => ImapRule::WebLoginRequired,
        "PRIVACYREQUIRED" => ImapRule::PrivacyRequired,
        "UNAVAILABLE" | "INUSE" => ImapRule::ServerError,
        "CONTACTADMIN" => rule_unless_set(ImapRule::ContactAdmin, phase),
        "NOPERM" | "CANNOT" => rule_unless_set(ImapRule::PermissionDenied, phase),
        "SERVERBUG" | "CORRUPTION" if phase == (ImapPhase::Fetch { is_single: true }) => {
            ImapRule::MessageRefused
        }
        "SERVERBUG" | "CORRUPTION" => rule_unless_set(ImapRule::ServerError, phase),
        // After a FETCH it does not prove that the message is gone; an OK without it does.
        "NONEXISTENT" if matches!(phase, ImapPhase::Listing | ImapPhase::Select) => {
            ImapRule::FolderMissing
        }
        _ => return None,
    };
    Some(rule)
}

/// Returns the rule, except for a set of messages, one of which may be the reason.
fn rule_unless_set(rule: ImapRule, phase: ImapPhase) -> ImapRule {
    if phase == (ImapPhase::Fetch { is_single: false }) { ImapRule::SetRefused } else { rule }
}

/// Returns the rule of a failure without a known code or text.
fn rule_of_command(status: ImapStatus, phase: ImapPhase) -> ImapRule {
    if status == ImapStatus::Bye {
        return ImapRule::Disconnected;
    }
    match phase {
        ImapPhase::Greeting => ImapRule::UnexpectedGreeting,
        ImapPhase::Login if status == ImapStatus::No => ImapRule::LoginRefused,
        ImapPhase::Fetch { is_single: false } => ImapRule::SetRefused,
        ImapPhase::Fetch { is_single: true } => ImapRule::MessageRefused,
        ImapPhase::Login | ImapPhase::Listing | ImapPhase::Select | ImapPhase::Idle => {
            ImapRule::CommandRefused
        }
    }
}

/// Returns the wait in a text such as `Suggested Backoff Time: 89117 milliseconds`, unless it is
/// zero or implausibly long.
fn named_wait(text: &str) -> Option<Duration> {
    let text = text.to_ascii_lowercase();
    let (_, rest) = text.split_once(BACKOFF_PHRASE)?;
    let (number, unit) = rest.trim_start().split_once(' ')?;
    let millis = number.parse().ok().filter(|millis| (1..=BACKOFF_MILLIS_MAX).contains(millis))?;
    unit.starts_with("millisecond").then_some(Duration::from_millis(millis))
}
