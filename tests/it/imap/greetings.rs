//! Beginnings of connections that are not those of an IMAP server before the login.

use std::time::Duration;

use cynosure::source::Source as _;
use cynosure::source::imap::{ImapOptions, Security};
use cynosure_engine::{Cause, Failure};

use super::server::{Answer, GREETING, ScriptedServer};
use super::{options, run_locally, source, source_with};

/// Shorter than any reply takes that comes at all.
const SHORT_TIMEOUT: Duration = Duration::from_millis(200);

async fn failure_after(greeting: Answer) -> Failure {
    let server = ScriptedServer::start([]).await;
    server.answer_always(GREETING, greeting);
    let failure = source(&server).account().await.unwrap_err();
    assert_eq!(server.count(""), 0, "nothing is sent after {failure}");
    failure
}

#[tokio::test]
async fn other_greetings_have_a_cause_and_a_remedy() {
    run_locally(async {
        for (line, cause, part) in [
            ("* PREAUTH welcome back", Cause::Challenge, "did not greet as expected"),
            ("* NO too busy", Cause::Challenge, "too busy"),
            ("* BAD what", Cause::Challenge, "what"),
            ("HTTP/1.1 400 Bad Request", Cause::Challenge, "speaks HTTP, not IMAP: set `port`"),
            ("<html><body>Welcome", Cause::Challenge, "speaks HTTP"),
            ("+OK POP3 ready", Cause::Challenge, "speaks POP3"),
            ("220 mail.example.com ESMTP", Cause::Challenge, "speaks SMTP or FTP"),
            ("SSH-2.0-OpenSSH_9.2", Cause::Challenge, "speaks SSH"),
            ("\u{15}\u{3}\u{3}\0\u{2}\u{2}(", Cause::Challenge, "set security = \"tls\""),
            ("+ go ahead", Cause::Challenge, "does not greet"),
            ("A1 OK hello", Cause::Challenge, "does not greet"),
            ("* CAPABILITY IMAP4rev1", Cause::Challenge, "does not greet"),
            ("* BYE Server shutting down.", Cause::Connection, "shutting down"),
            ("* BYE Too many connections", Cause::RateLimit, "close some"),
            ("* NO Server Unavailable. 15", Cause::Server, "Server Unavailable. 15"),
            ("Server Unavailable.", Cause::Server, "Server Unavailable."),
        ] {
            let failure = failure_after(Answer::new().line(line).close()).await;
            assert_eq!(failure.cause, cause, "{line}: {failure}");
            assert!(failure.message.contains(part), "{line}: {failure}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_without_a_greeting_fails() {
    run_locally(async {
        let alert = b"\x15\x03\x03\x00\x02\x02\x28";
        for (greeting, cause) in [
            (Answer::new().close(), Cause::Connection),
            (Answer::new().bytes("* O").close(), Cause::Truncated),
            (Answer::new().bytes(alert).close(), Cause::Truncated),
            (Answer::new().bytes(vec![b'x'; 1_100_000]), Cause::TooLarge),
        ] {
            let failure = failure_after(greeting).await;
            assert_eq!(failure.cause, cause, "{failure}");
            assert!(failure.message.contains("no greeting from 127.0.0.1"), "{failure}");
            assert!(failure.message.contains("security = \"tls\""), "{failure}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_silent_server_times_out() {
    run_locally(async {
        let server = ScriptedServer::start([]).await;
        server.answer_always(GREETING, Answer::new().stop_responding());
        let mut options = options(&server);
        options.limits.idle_timeout = SHORT_TIMEOUT;

        let failure = source_with(options).account().await.unwrap_err();

        assert_eq!(failure.cause, Cause::Timeout);
        assert!(failure.message.contains("security = \"tls\""), "{failure}");
    })
    .await;
}

#[tokio::test]
async fn a_server_without_tls_is_named() {
    run_locally(async {
        let server = ScriptedServer::start([]).await;
        server.answer_always(GREETING, Answer::new().line("* OK ready").stop_responding());
        let options = ImapOptions { security: Security::Tls, ..options(&server) };

        let failure = source_with(options).account().await.unwrap_err();

        assert_eq!(failure.cause, Cause::Tls);
        assert!(failure.message.contains("set security = \"starttls\""), "{failure}");
    })
    .await;
}

#[tokio::test]
async fn a_port_without_a_server_is_named() {
    run_locally(async {
        let server = ScriptedServer::start([]).await;
        // Port 1 needs privileges to listen at.
        let options = ImapOptions { port: 1, ..options(&server) };

        let failure = source_with(options).account().await.unwrap_err();

        assert_eq!(failure.cause, Cause::Connection);
        assert!(failure.message.contains("nothing listens at 127.0.0.1:1"), "{failure}");
    })
    .await;
}
