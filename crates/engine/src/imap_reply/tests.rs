//! Tests of the classification, with replies of known servers.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{Cause, format_duration};

/// Replies of known servers; those without one are examples of RFC 5530.
const REPLIES: &[&str] = &[
    "OK Success",
    // Gmail.
    "OK Success [THROTTLED]",
    // Dovecot.
    "OK [EXPUNGEISSUED] Some messages were already expunged.",
    "OK [ALERT] Maintenance tonight",
    "PREAUTH ready",
    // Microsoft 365.
    "BAD Request is throttled. Suggested Backoff Time: 89117 milliseconds",
    // Gmail.
    "NO [OVERQUOTA] Account exceeded command or bandwidth limits.",
    "NO [ALERT] Too many simultaneous connections. (Failure)",
    // Dovecot 2.3, and before.
    "NO [LIMIT] Maximum number of connections from user+IP exceeded",
    "NO [UNAVAILABLE] Maximum number of connections from user+IP exceeded",
    // Yahoo.
    "NO [LIMIT] FETCH Rate limit hit.",
    "NO [THROTTLED]",
    // Exchange.
    "BAD User is authenticated but not connected.",
    // mail.ru.
    "NO [AUTHENTICATIONFAILED] NEOBHODIM parol prilozheniya / Application password is REQUIRED",
    // Gmail.
    "NO [ALERT] Application-specific password required: https://support.google.com/ (Failure)",
    // Yandex.
    "NO [AUTHENTICATIONFAILED] LOGIN invalid credentials or IMAP is disabled sc=x",
    // Gmail.
    "NO [WEBALERT https://accounts.google.com/] Web login required.",
    "NO [ALERT] Please log in via your web browser: https://support.google.com/ (Failure)",
    // Exchange.
    "BYE Session invalidated - AccessTokenExpired",
    // Dovecot.
    "NO [AUTHENTICATIONFAILED] Authentication failed.",
    "NO [EXPIRED] That password is not valid any more.",
    "NO [AUTHORIZATIONFAILED] No such authorization-ID.",
    // Exchange.
    "NO LOGIN failed.",
    "NO AUTHENTICATE failed.",
    // Cyrus.
    "NO Login failed: authentication failure",
    // Dovecot.
    "NO [PRIVACYREQUIRED] Plaintext authentication disallowed on non-secure connections.",
    // Cyrus.
    "NO Login only available under a layer",
    "NO [CONTACTADMIN] Contact the administrator.",
    "NO [NOPERM] Access denied",
    "NO [CANNOT] The folder cannot be opened",
    // Gmail.
    "NO [NONEXISTENT] Unknown Mailbox: q (Failure)",
    // Dovecot.
    "NO Mailbox doesn't exist: q",
    "NO [UNAVAILABLE] Temporary authentication failure.",
    "NO [INUSE] The folder is locked",
    "NO [SERVERBUG] Internal error occurred.",
    "NO [CORRUPTION] The message is damaged",
    // Exchange.
    "NO Server Unavailable. 15",
    "NO Some messages could not be fetched",
    // Exchange.
    "BAD Command Argument Error. 11",
    // Gmail.
    "BYE Session expired, please login again.",
    // Microsoft 365.
    "BYE Connection closed. 14",
    // Cyrus.
    "BYE Idle for too long",
    // Dovecot.
    "BYE Disconnected for inactivity.",
    "BYE Server shutting down.",
    "BYE Autologout",
    "BYE",
];

const SET: ImapPhase = ImapPhase::Fetch { is_single: false };

fn classify(line: &str, phase: ImapPhase) -> ImapVerdict {
    classify_imap_reply(&ImapReply::parse(line).unwrap(), phase)
}

/// FAULTS 55.
#[test]
fn the_verdict_on_every_known_reply_is_known() {
    insta::assert_snapshot!(verdict_table());
}

#[test]
fn every_rule_matches_something_and_has_a_unique_name() {
    let verdicts = REPLIES
        .iter()
        .flat_map(|line| ImapPhase::ALL.into_iter().map(move |phase| classify(line, phase)));
    let matched: BTreeSet<ImapRule> = verdicts.map(|verdict| verdict.rule).collect();

    assert_eq!(matched, BTreeSet::from(ImapRule::ALL));
    let names: BTreeSet<_> = ImapRule::ALL.into_iter().map(ImapRule::name).collect();
    assert_eq!(names.len(), ImapRule::ALL.len());
}

#[test]
fn a_suggested_backoff_time_is_taken_to_the_millisecond() {
    for (time, retry_after) in [
        ("299961 milliseconds", Some(Duration::from_millis(299_961))),
        ("86400000 milliseconds", Some(Duration::from_secs(86_400))),
        ("0 milliseconds", None),
        ("-5 milliseconds", None),
        ("99999999999 milliseconds", None),
        ("99999999999999999999999 milliseconds", None),
        ("5 minutes", None),
        ("5", None),
    ] {
        let line = format!("BAD Request is throttled. Suggested Backoff Time: {time}");
        let verdict = classify(&line, SET);
        assert_eq!(verdict.cause, Some(Cause::RateLimit), "{time}");
        assert_eq!(verdict.retry_after, retry_after, "{time}");
    }
}

#[test]
fn only_a_lock_out_without_a_time_is_one() {
    for (line, is_lock_out) in [
        ("NO [OVERQUOTA] Account exceeded command or bandwidth limits.", true),
        ("NO Account exceeded command or bandwidth limits. (Failure)", true),
        ("NO [OVERQUOTA] Suggested Backoff Time: 89117 milliseconds", false),
        ("NO [THROTTLED]", false),
        ("NO [ALERT] Too many simultaneous connections. (Failure)", false),
    ] {
        for phase in [ImapPhase::Login, SET] {
            let verdict = classify(line, phase);
            assert_eq!(verdict.cause, Some(Cause::RateLimit), "{line}");
            assert_eq!(verdict.is_lock_out, is_lock_out, "{line}");
        }
    }
}

#[test]
fn the_name_of_a_folder_is_no_known_text() {
    for line in [
        "NO Mailbox doesn't exist: Too many connections",
        "NO [NONEXISTENT] Unknown Mailbox: rate limit",
    ] {
        for phase in [ImapPhase::Listing, ImapPhase::Select] {
            assert_eq!(classify(line, phase).cause, Some(Cause::NotFound), "{line}");
        }
    }
}

#[test]
fn a_failure_of_one_message_does_not_fail_a_set() {
    for line in ["NO no", "BAD no", "NO [NOPERM] no", "NO [CORRUPTION] no", "NO [NONEXISTENT] no"] {
        assert_eq!(classify(line, SET).rule, ImapRule::SetRefused, "{line}");
    }
    for line in ["NO [THROTTLED] no", "NO [UNAVAILABLE] no", "NO [EXPIRED] no", "BYE no"] {
        assert_ne!(classify(line, SET).rule, ImapRule::SetRefused, "{line}");
    }
}

#[test]
fn a_missing_message_is_never_gone_by_a_refusal() {
    for line in ["NO [NONEXISTENT] no", "NO Mailbox doesn't exist: q", "NO no such message"] {
        let verdict = classify(line, ImapPhase::Fetch { is_single: true });
        assert_eq!(verdict.cause, Some(Cause::Server), "{line}");
    }
}

/// Renders the verdict on each reply, one line per group of phases with the same verdict.
fn verdict_table() -> String {
    let mut table = String::new();
    for line in REPLIES {
        let mut groups: Vec<(Vec<&str>, String)> = Vec::new();
        for phase in ImapPhase::ALL {
            let text = verdict_text(&classify(line, phase), phase);
            match groups.iter_mut().find(|(_, known)| *known == text) {
                Some((phases, _)) => phases.push(phase.name()),
                None => groups.push((vec![phase.name()], text)),
            }
        }
        table.push_str(&format!("{line}\n"));
        for (phases, text) in groups {
            let is_any = phases.len() == ImapPhase::ALL.len();
            let phases = if is_any { "any".to_owned() } else { phases.join(", ") };
            table.push_str(&format!("  {phases}: {text}\n"));
        }
    }
    table
}

fn verdict_text(verdict: &ImapVerdict, phase: ImapPhase) -> String {
    let mut text = verdict.rule.name().to_owned();
    match verdict.cause {
        Some(cause) => {
            let mut actions: Vec<_> =
                phase.scopes().iter().map(|scope| cause.action(*scope).name()).collect();
            actions.dedup();
            text.push_str(&format!(" → {cause} → {}", actions.join(" or ")));
        }
        None => text.push_str(" → success"),
    }
    if let Some(wait) = verdict.retry_after {
        text.push_str(&format!(", after {}", format_duration(wait)));
    }
    if verdict.is_lock_out {
        text.push_str(", doubling");
    }
    if verdict.should_slow_down {
        text.push_str(", slower");
    }
    if verdict.should_use_fewer_connections {
        text.push_str(", with fewer connections");
    }
    if let Some(advice) = verdict.advice {
        text.push_str(&format!("\n    {advice}"));
    }
    text
}

proptest! {
    #[test]
    fn only_ok_is_a_success_and_every_wait_is_bounded(
        status in "OK|NO|BAD|BYE|PREAUTH",
        code in "(\\[[A-Z]{1,14}\\])?",
        text in "(Suggested Backoff Time: [0-9]{1,22} milliseconds)?\\PC{0,20}",
    ) {
        for phase in ImapPhase::ALL {
            let verdict = classify(&format!("{status} {code} {text}"), phase);

            prop_assert_eq!(verdict.cause, verdict.rule.cause());
            prop_assert_eq!(verdict.cause.is_none(), status == "OK");
            if let Some(wait) = verdict.retry_after {
                prop_assert_eq!(verdict.cause, Some(Cause::RateLimit));
                prop_assert!(!wait.is_zero() && wait <= Duration::from_secs(31 * 86_400));
            }
        }
    }
}
