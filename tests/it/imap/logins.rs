//! Logins that are refused, or accepted in an unusual way.

use std::time::Duration;

use cynosure::source::Source as _;
use cynosure::source::imap::{ImapOptions, LoginMechanism, Security};
use cynosure_engine::Cause;

use super::replies::{ReplyRow, assert_failure};
use super::server::{Answer, CAPABILITIES, ScriptedServer, ServedFolder};
use super::{extract, options, run_locally, source, source_with};

/// Error challenge of Gmail for a wrong token: `{"status":"400","schemes":"Bearer"}`.
const GMAIL_CHALLENGE: &str = "+ eyJzdGF0dXMiOiI0MDAiLCJzY2hlbWVzIjoiQmVhcmVyIn0=";

/// Error challenge of RFC 7628: `{"status":"invalid_token"}`.
const TOKEN_CHALLENGE: &str = "+ eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIn0=";

const LOGIN_REPLIES: &[ReplyRow] = &[
    ("NO [AUTHENTICATIONFAILED] Wrong.", Cause::Unauthorized, None, "refused the login"),
    (
        "NO [AUTHENTICATIONFAILED] NEOBHODIM parol prilozheniya \
         https://help.mail.ru/mail/security/protection/external / Application password is REQUIRED",
        Cause::Unauthorized,
        None,
        "https://account.mail.ru/user/2-step-auth/passwords",
    ),
    (
        "NO [ALERT] Application-specific password required: \
         https://support.google.com/accounts/answer/185833 (Failure)",
        Cause::Unauthorized,
        None,
        "create an app password",
    ),
    (
        "NO [AUTHENTICATIONFAILED] LOGIN invalid credentials or IMAP is disabled sc=1",
        Cause::Unauthorized,
        None,
        "allow IMAP in the settings of the mailbox",
    ),
    (
        "NO [ALERT] Please log in via your web browser: \
         https://support.google.com/mail/accounts/answer/78754 (Failure)",
        Cause::Unauthorized,
        None,
        "log in to the account in a web browser",
    ),
    (
        "NO [WEBALERT https://accounts.google.com/signin] Web login required.",
        Cause::Unauthorized,
        None,
        "log in to the account in a web browser",
    ),
    ("NO LOGIN failed.", Cause::Unauthorized, None, "oauth2"),
    ("NO AUTHENTICATE failed.", Cause::Unauthorized, None, "oauth2"),
    ("NO Login failed: authentication failure", Cause::Unauthorized, None, "authentication"),
    ("NO", Cause::Unauthorized, None, "refused the login: \"NO\""),
    ("NO [EXPIRED] That password is not valid.", Cause::Unauthorized, None, "not valid"),
    ("NO [AUTHORIZATIONFAILED] No such id.", Cause::Unauthorized, None, "auth.username"),
    ("NO [PRIVACYREQUIRED] Not in plain text.", Cause::Tls, None, "set security = \"tls\""),
    ("NO [CONTACTADMIN] Call us.", Cause::Forbidden, None, "ask the administrator"),
    ("NO [UNAVAILABLE] Temporary failure.", Cause::Server, None, "Temporary failure."),
    (
        "NO [ALERT] Too many simultaneous connections. (Failure)",
        Cause::RateLimit,
        Some(60_000),
        "close some",
    ),
    (
        "NO [LIMIT] Maximum number of connections from user+IP exceeded \
         (mail_max_userip_connections=10)",
        Cause::RateLimit,
        Some(60_000),
        "close some",
    ),
    (
        "NO [UNAVAILABLE] Maximum number of connections from user+IP exceeded",
        Cause::RateLimit,
        Some(60_000),
        "close some",
    ),
];

#[tokio::test]
async fn every_refusal_of_a_login_has_its_cause_and_remedy() {
    run_locally(async {
        for row in LOGIN_REPLIES {
            assert_failure("AUTHENTICATE", Answer::new().tagged(row.0), row).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_warning_before_a_refusal_changes_nothing() {
    run_locally(async {
        let alert = "* NO [WEBALERT https://accounts.google.com/signin] Web login required.";
        let row = ("NO [ALERT] Invalid.", Cause::Unauthorized, None, "Invalid.");
        let answer = Answer::new().line(alert).tagged(row.0);
        assert_failure("AUTHENTICATE", answer, &row).await;
    })
    .await;
}

#[tokio::test]
async fn the_error_of_an_access_token_is_in_the_message() {
    run_locally(async {
        let too_many = "NO [ALERT] Too many simultaneous connections. (Failure)";
        for (mechanism, challenge, reply, cause, part) in [
            ("XOAUTH2", GMAIL_CHALLENGE, "NO SASL failed", Cause::Unauthorized, "error 400"),
            // Gmail refuses another connection with the challenge of a wrong token.
            ("XOAUTH2", GMAIL_CHALLENGE, too_many, Cause::RateLimit, "close some"),
            ("OAUTHBEARER", TOKEN_CHALLENGE, "NO no", Cause::Unauthorized, "invalid_token"),
            ("OAUTHBEARER", "+ no JSON", "NO no", Cause::Unauthorized, "NO no"),
        ] {
            let capabilities = if mechanism == "XOAUTH2" {
                "IMAP4rev1 SASL-IR AUTH=XOAUTH2"
            } else {
                "IMAP4rev1 SASL-IR AUTH=PLAIN AUTH=OAUTHBEARER AUTH=XOAUTH2"
            };
            let server = ScriptedServer::start_with(capabilities, []).await;
            let answer = Answer::new().line(challenge).read_line().tagged(reply);
            server.answer_always("AUTHENTICATE", answer);
            let options = ImapOptions { mechanism: LoginMechanism::OAuth2, ..options(&server) };

            let failure = source_with(options).account().await.unwrap_err();

            assert_eq!(failure.cause, cause, "{failure}");
            assert!(failure.message.contains(part), "{failure}");
            assert!(server.commands()[0].text.starts_with(&format!("AUTHENTICATE {mechanism} ")));
        }
    })
    .await;
}

#[tokio::test]
async fn a_refused_initial_response_is_sent_once_more() {
    run_locally(async {
        let server = ScriptedServer::start([ServedFolder::inbox(1..=3)]).await;
        // Coremail advertises SASL-IR and rejects it.
        server.answer_always("AUTHENTICATE PLAIN ", Answer::new().tagged("BAD Parse error"));

        assert_eq!(extract(&source(&server)).await.unwrap().len(), 3);
        assert_eq!(server.count("AUTHENTICATE"), 2);
    })
    .await;
}

#[tokio::test]
async fn a_server_without_sasl_gets_a_login_command() {
    run_locally(async {
        let server = ScriptedServer::start_with("IMAP4rev1", [ServedFolder::inbox(1..=3)]).await;

        assert_eq!(extract(&source(&server)).await.unwrap().len(), 3);
        assert_eq!(server.count("LOGIN alice@example.com s3cret"), 1);
    })
    .await;
}

#[tokio::test]
async fn no_secret_is_sent_to_a_server_that_lacks_tls() {
    run_locally(async {
        let starttls = "IMAP4rev1 STARTTLS AUTH=PLAIN";
        for (capabilities, security, part) in [
            ("IMAP4rev1 LOGINDISABLED", Security::Plain, "LOGINDISABLED"),
            (CAPABILITIES, Security::StartTls, "does not offer STARTTLS"),
            (starttls, Security::StartTls, "127.0.0.1"),
        ] {
            let server = ScriptedServer::start_with(capabilities, []).await;
            // Bytes before the handshake may be forged.
            let forged = Answer::new().tagged("OK begin").line("* PREAUTH welcome").close();
            server.answer_always("STARTTLS", forged);
            let options = ImapOptions { security, ..options(&server) };

            let failure = source_with(options).account().await.unwrap_err();

            assert_eq!(failure.cause, Cause::Tls, "{failure}");
            assert!(failure.message.contains(part), "{failure}");
            assert_eq!(server.count("AUTHENTICATE") + server.count("LOGIN"), 0, "{part}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_password_in_a_reply_is_masked() {
    run_locally(async {
        let server = ScriptedServer::start([]).await;
        server.answer_always("AUTHENTICATE", Answer::new().tagged("NO bad password s3cret"));

        let failure = source(&server).account().await.unwrap_err();

        assert_eq!(failure.cause, Cause::Unauthorized);
        assert!(failure.message.contains("bad password"), "{failure}");
        assert!(!failure.message.contains("s3cret"), "{failure}");
    })
    .await;
}

#[tokio::test]
async fn a_slow_login_times_out() {
    run_locally(async {
        let server = ScriptedServer::start([]).await;
        server.answer_always("AUTHENTICATE", Answer::new().stop_responding());
        let mut options = options(&server);
        options.limits.idle_timeout = Duration::from_millis(200);

        assert_eq!(source_with(options).account().await.unwrap_err().cause, Cause::Timeout);
    })
    .await;
}
