//! Logins, against a script.

mod starttls;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::*;
use crate::source::imap::connect::connect;
use crate::source::imap::connect::test_server::ScriptStep::{
    Expect, ExpectStart, Say, Sleep, UntilClosed,
};
use crate::source::imap::connect::test_server::{
    SECRET, ScriptServer, ScriptStep, account, no_tls, plain_options, run_locally,
};
use crate::source::imap::connection::CapabilitySet;
use crate::source::imap::options::{ImapOptions, LoginMechanism};

/// `\0me@example.com\0s3cret-word`.
const PLAIN_MESSAGE: &str = "AG1lQGV4YW1wbGUuY29tAHMzY3JldC13b3Jk";

const CAPABILITIES: &str = "* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] ready";
const LOGGED_IN: ScriptStep = Say("A1 OK [CAPABILITY IMAP4rev1 ID] logged in");

/// Logs in to a server that plays the script, and returns the capabilities after that.
async fn log_in_with(
    mechanism: LoginMechanism,
    security: Security,
    script: &[ScriptStep],
) -> Result<CapabilitySet, LoginError> {
    let server = ScriptServer::start(vec![script.to_vec()]).await;
    let account = account(ImapOptions { mechanism, security, ..plain_options(server.port) });
    let stream = connect(&account.options, no_tls).await.unwrap();
    let result = log_in(stream, &account, &SecretString::from(SECRET)).await;
    let capabilities = result.map(|channel| channel.capabilities().clone());
    server.finish().await;
    capabilities
}

async fn log_in_by_password(script: &[ScriptStep]) -> CapabilitySet {
    log_in_with(LoginMechanism::Password, Security::Plain, script).await.unwrap()
}

/// Returns the failure of a login that the server refuses.
async fn refusal(mechanism: LoginMechanism, script: &[ScriptStep]) -> Failure {
    match log_in_with(mechanism, Security::Plain, script).await {
        Err(LoginError::Refused(failure)) => failure,
        other => panic!("the login is not refused: {other:?}"),
    }
}

#[test]
fn the_message_of_the_scripts_is_the_one_of_plain() {
    assert_eq!(BASE64.encode(format!("\0me@example.com\0{SECRET}")), PLAIN_MESSAGE);
}

#[tokio::test]
async fn a_password_is_sent_with_the_command() {
    run_locally(async {
        let capabilities = log_in_by_password(&[
            Say(CAPABILITIES),
            Expect("A1 AUTHENTICATE PLAIN AG1lQGV4YW1wbGUuY29tAHMzY3JldC13b3Jk"),
            LOGGED_IN,
            ExpectStart("A2 ID (\"name\" \"cynosure\" \"version\" \""),
            Say("A2 BAD no"),
            UntilClosed,
        ])
        .await;

        assert!(capabilities.contains("ID"));
        assert!(!capabilities.contains("SASL-IR"), "that was before the login");
    })
    .await;
}

#[tokio::test]
async fn capabilities_are_asked_for_when_they_are_unknown() {
    run_locally(async {
        let capabilities = log_in_by_password(&[
            Say("* OK ready"),
            Expect("A1 CAPABILITY"),
            Say("* CAPABILITY IMAP4rev1 auth=plain\nA1 OK done"),
            Expect("A2 AUTHENTICATE PLAIN"),
            Say("+ "),
            Expect(PLAIN_MESSAGE),
            Say("A2 OK done"),
            Expect("A3 CAPABILITY"),
            Say("* CAPABILITY IMAP4rev1 OBJECTID\nA3 OK done"),
            UntilClosed,
        ])
        .await;

        assert!(capabilities.contains("OBJECTID"));
    })
    .await;
}

#[tokio::test]
async fn a_rejected_initial_response_is_sent_separately() {
    run_locally(async {
        let capabilities = log_in_by_password(&[
            Say(CAPABILITIES),
            Expect("A1 AUTHENTICATE PLAIN AG1lQGV4YW1wbGUuY29tAHMzY3JldC13b3Jk"),
            Say("A1 BAD Parse command error"),
            Expect("A2 AUTHENTICATE PLAIN"),
            Say("+"),
            Expect(PLAIN_MESSAGE),
            Say("A2 OK [CAPABILITY IMAP4rev1] done"),
            UntilClosed,
        ])
        .await;

        assert!(!capabilities.is_empty());
    })
    .await;
}

#[tokio::test]
async fn the_login_command_and_auth_login_are_used_without_plain() {
    run_locally(async {
        for script in [
            &[
                Say("* OK [CAPABILITY IMAP4rev1 AUTH=LOGIN SASL-IR] ready"),
                Expect("A1 LOGIN me@example.com s3cret-word"),
                Say("A1 OK [CAPABILITY IMAP4rev1] done"),
                UntilClosed,
            ][..],
            &[
                Say("* OK [CAPABILITY IMAP4rev1 AUTH=LOGIN SASL-IR LOGINDISABLED] ready"),
                Expect("A1 AUTHENTICATE LOGIN"),
                Say("+ VXNlcm5hbWU6"),
                Expect("bWVAZXhhbXBsZS5jb20="),
                Say("+ UGFzc3dvcmQ6"),
                Expect("czNjcmV0LXdvcmQ="),
                Say("A1 OK [CAPABILITY IMAP4rev1] done"),
                UntilClosed,
            ],
        ] {
            assert!(!log_in_by_password(script).await.is_empty());
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_takes_no_credential_gets_none() {
    run_locally(async {
        for (mechanism, capabilities, cause, expected) in [
            (
                LoginMechanism::Password,
                "* OK [CAPABILITY IMAP4rev1 LOGINDISABLED AUTH=XOAUTH2] ready",
                Cause::Tls,
                "accepts no password (LOGINDISABLED): set security = \"tls\"",
            ),
            (
                LoginMechanism::OAuth2,
                "* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready",
                Cause::Unauthorized,
                "accepts no access token",
            ),
        ] {
            let failure = refusal(mechanism, &[Say(capabilities), UntilClosed]).await;

            assert_eq!(failure.cause, cause);
            assert!(failure.message.contains(expected), "{failure}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_error_of_an_access_token_is_acknowledged() {
    run_locally(async {
        for script in [
            &[
                Say("* OK [CAPABILITY IMAP4rev1 AUTH=XOAUTH2 SASL-IR] ready"),
                Expect(
                    "A1 AUTHENTICATE XOAUTH2 \
                     dXNlcj1tZUBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciBzM2NyZXQtd29yZAEB",
                ),
                // {"status":"400","schemes":"Bearer"}
                Say("+ eyJzdGF0dXMiOiI0MDAiLCJzY2hlbWVzIjoiQmVhcmVyIn0="),
                Expect(""),
                Say("A1 NO [AUTHENTICATIONFAILED] Invalid credentials"),
                UntilClosed,
            ][..],
            &[
                Say("* OK [CAPABILITY IMAP4rev1 AUTH=XOAUTH2 AUTH=OAUTHBEARER] ready"),
                Expect("A1 AUTHENTICATE OAUTHBEARER"),
                Say("+ "),
                // n,a=me@example.com, and the host
                ExpectStart("bixhPW1lQGV4YW1wbGUuY29tLAFob3N0PTEyNy4wLjAuMQ"),
                // {"status":"400"}
                Say("+ eyJzdGF0dXMiOiI0MDAifQ=="),
                Expect("AQ=="),
                Say("A1 NO [AUTHENTICATIONFAILED] Invalid credentials"),
                UntilClosed,
            ],
        ] {
            let failure = refusal(LoginMechanism::OAuth2, script).await;

            assert_eq!(failure.cause, Cause::Unauthorized);
            let expected = "127.0.0.1 refused the login: \
                            \"NO [AUTHENTICATIONFAILED] Invalid credentials (error 400)\"";
            assert!(failure.message.starts_with(expected), "{failure}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_refused_login_names_the_remedy_and_no_secret() {
    run_locally(async {
        for (reply, expected) in [
            (
                "A1 NO [AUTHENTICATIONFAILED] Application password is REQUIRED",
                "mail.ru accepts only a password for external applications",
            ),
            ("A1 NO wrong password s3cret-word", "\"NO wrong password [secret]\""),
        ] {
            let script = [
                Say("* OK [CAPABILITY IMAP4rev1] ready"),
                Expect("A1 LOGIN me@example.com s3cret-word"),
                Say(reply),
                UntilClosed,
            ];
            let failure = refusal(LoginMechanism::Password, &script).await;

            assert_eq!(failure.cause, Cause::Unauthorized);
            assert!(failure.message.contains(expected), "{failure}");
            assert!(!failure.message.contains(SECRET), "{failure}");
        }
    })
    .await;
}

#[tokio::test]
async fn other_greetings_are_named() {
    run_locally(async {
        for (greeting, cause, expected) in [
            ("* PREAUTH welcome", Cause::Challenge, "did not greet as expected: \"PREAUTH"),
            ("* BYE [UNAVAILABLE] later", Cause::Server, "ended the connection"),
            ("Server Unavailable. 15", Cause::Server, "did not greet as expected"),
            ("+OK POP3 ready", Cause::Challenge, "speaks POP3, not IMAP: set `port`"),
            ("HTTP/1.1 400 Bad Request", Cause::Challenge, "speaks HTTP, not IMAP"),
            ("<html>", Cause::Challenge, "speaks HTTP, not IMAP"),
            ("220 mail ESMTP", Cause::Challenge, "speaks SMTP or FTP, not IMAP"),
            ("\u{15}\u{3}\u{1}", Cause::Challenge, "speaks TLS, not IMAP: set security = \"tls\""),
            ("* 5 EXISTS", Cause::Challenge, "does not greet as an IMAP server does"),
        ] {
            let failure = refusal(LoginMechanism::Password, &[Say(greeting), UntilClosed]).await;

            assert_eq!(failure.cause, cause, "{failure}");
            assert!(failure.message.contains(expected), "{failure}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_server_without_a_greeting_may_wait_for_tls() {
    run_locally(async {
        for (script, cause) in
            [(&[Sleep(Duration::from_secs(60))][..], Cause::Timeout), (&[][..], Cause::Connection)]
        {
            let server = ScriptServer::start(vec![script.to_vec()]).await;
            let account = account(plain_options(server.port));
            let stream = connect(&account.options, no_tls).await.unwrap();

            let result = log_in(stream, &account, &SecretString::from(SECRET)).await;

            let Err(LoginError::Broken(failure)) = result else { panic!("{result:?}") };
            assert_eq!(failure.cause, cause);
            let address = account.options.address();
            let expected = format!("no greeting from {address}: 127.0.0.1 ");
            assert!(failure.message.starts_with(&expected), "{failure}");
            assert!(failure.message.ends_with("as 993 is, set security = \"tls\""), "{failure}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_bye_instead_of_the_reply_is_a_refusal() {
    run_locally(async {
        let script = [
            Say("* OK [CAPABILITY IMAP4rev1] ready"),
            Expect("A1 LOGIN me@example.com s3cret-word"),
            Say("* BYE Too many connections"),
        ];
        let failure = refusal(LoginMechanism::Password, &script).await;

        assert_eq!(failure.cause, Cause::RateLimit);
    })
    .await;
}
