//! Replies of known servers to commands after the login: the cause, the wait and the remedy in the
//! failure that a person reads.

use std::time::Duration;

use cynosure_engine::Cause;

use super::server::{Answer, INBOX, ScriptedServer, ServedFolder, message_bytes};
use super::{fetch, inbox_message, run_locally, source};

/// Reply of a server, with what its failure has: cause, milliseconds of wait, part of the message.
pub(super) type ReplyRow = (&'static str, Cause, Option<u64>, &'static str);

/// Wait of an hour, in milliseconds: the start of a lock of Gmail.
const HOUR: u64 = 3_600_000;

const FETCH_REPLIES: &[ReplyRow] = &[
    ("NO [OVERQUOTA] Account exceeded limits.", Cause::RateLimit, Some(HOUR), "bytes_per_day"),
    (
        "NO Account exceeded command or bandwidth limits. (Failure)",
        Cause::RateLimit,
        Some(HOUR),
        "bytes_per_day",
    ),
    ("NO [THROTTLED] slow down", Cause::RateLimit, None, "slow down"),
    ("BAD [THROTTLED] slow down", Cause::RateLimit, None, "slow down"),
    ("NO [LIMIT] FETCH Rate limit hit.", Cause::RateLimit, None, "Rate limit hit"),
    (
        "BAD Request is throttled. Suggested Backoff Time: 89117 milliseconds",
        Cause::RateLimit,
        Some(89_117),
        "89117 milliseconds",
    ),
    (
        "BAD Request is throttled. Suggested Backoff Time: 299961 milliseconds",
        Cause::RateLimit,
        Some(299_961),
        "299961 milliseconds",
    ),
    ("BAD Request is throttled.", Cause::RateLimit, None, "is throttled"),
    ("BAD User is authenticated but not connected.", Cause::RateLimit, Some(300_000), "check auth"),
    (
        "NO [ALERT] Too many simultaneous connections. (Failure)",
        Cause::RateLimit,
        Some(60_000),
        "phones",
    ),
    ("NO [EXPIRED] That password is not valid any more.", Cause::Unauthorized, None, "any more"),
    ("NO Server Unavailable. 15", Cause::Server, None, "Server Unavailable. 15"),
    ("NO [UNAVAILABLE] later", Cause::Server, None, "later"),
    ("NO [INUSE] The folder is locked", Cause::Server, None, "locked"),
    ("NO [SERVERBUG] Internal error occurred.", Cause::Server, None, "Internal error"),
    ("NO [CORRUPTION] The message is damaged", Cause::Server, None, "damaged"),
    ("NO", Cause::Server, None, "refused to send messages: \"NO\""),
    ("BAD Command Argument Error. 11", Cause::Server, None, "Command Argument Error. 11"),
    ("BAD", Cause::Server, None, "\"BAD\""),
    // Only a successful command proves that a message is gone.
    ("NO [NONEXISTENT] no such message", Cause::Server, None, "no such message"),
    ("NO Mailbox doesn't exist: INBOX", Cause::Server, None, "doesn't exist"),
    ("NO [NOPERM] Access denied", Cause::Forbidden, None, "Access denied"),
    ("NO [CANNOT] The message cannot be sent", Cause::Forbidden, None, "cannot be sent"),
    ("NO [CONTACTADMIN] no", Cause::Forbidden, None, "ask the administrator"),
];

const EXAMINE_REPLIES: &[ReplyRow] = &[
    ("NO [NONEXISTENT] Unknown Mailbox: q (Failure)", Cause::NotFound, None, "folder \"INBOX\""),
    ("NO Mailbox doesn't exist: q", Cause::NotFound, None, "doesn't exist"),
    ("NO Mailbox does not exist", Cause::NotFound, None, "does not exist"),
    // The name of a folder is no text of the server.
    ("NO Mailbox doesn't exist: Rate limit", Cause::NotFound, None, "Rate limit"),
    ("NO [NOPERM] Access denied", Cause::Forbidden, None, "folder \"INBOX\""),
    ("NO [CANNOT] The folder cannot be opened", Cause::Forbidden, None, "cannot be opened"),
    ("NO [UNAVAILABLE] later", Cause::Server, None, "refused to open a folder"),
    ("NO [OVERQUOTA] Account exceeded limits.", Cause::RateLimit, Some(HOUR), "bytes_per_day"),
    ("BAD Error in IMAP command EXAMINE", Cause::Server, None, "Error in IMAP command"),
];

const BYE_REPLIES: &[ReplyRow] = &[
    ("BYE Session expired, please login again.", Cause::Connection, None, "Session expired"),
    ("BYE Connection closed. 14", Cause::Connection, None, "Connection closed. 14"),
    ("BYE Autologout", Cause::Connection, None, "ended the connection: \"BYE Autologout\""),
    ("BYE Disconnected for inactivity.", Cause::Connection, None, "inactivity"),
    ("BYE Server shutting down.", Cause::Connection, None, "shutting down"),
    ("BYE", Cause::Connection, None, "ended the connection"),
    ("BYE Session invalidated - AccessTokenExpired", Cause::Unauthorized, None, "AccessToken"),
    ("BYE Too many concurrent connections", Cause::RateLimit, Some(60_000), "phones"),
    ("BYE [THROTTLED] slow down", Cause::RateLimit, None, "slow down"),
];

/// Fetches a message from a server that gives this answer to a command.
pub(super) async fn assert_failure(command: &'static str, answer: Answer, row: &ReplyRow) {
    let (reply, cause, wait_millis, part) = *row;
    let server = ScriptedServer::start([ServedFolder::inbox([1])]).await;
    server.answer_always(command, answer);

    let result = fetch(&source(&server), &inbox_message(1)).await;

    let failure = result.expect_err(reply);
    assert_eq!(failure.cause, cause, "{reply}: {failure}");
    assert_eq!(failure.retry_after, wait_millis.map(Duration::from_millis), "{reply}");
    assert!(failure.message.contains(part), "{reply}: {failure}");
    assert!(failure.message.contains("127.0.0.1"), "{reply}: {failure}");
}

#[tokio::test]
async fn every_refusal_of_a_fetch_has_its_cause() {
    run_locally(async {
        for row in FETCH_REPLIES {
            assert_failure("UID FETCH", Answer::new().tagged(row.0), row).await;
        }
    })
    .await;
}

#[tokio::test]
async fn every_refusal_of_a_folder_has_its_cause() {
    run_locally(async {
        for row in EXAMINE_REPLIES {
            assert_failure("EXAMINE", Answer::new().tagged(row.0), row).await;
        }
    })
    .await;
}

#[tokio::test]
async fn every_end_of_a_session_has_its_cause() {
    run_locally(async {
        for row in BYE_REPLIES {
            let answer = Answer::new().line(&format!("* {}", row.0)).close();
            assert_failure("UID FETCH", answer, row).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_bare_line_is_no_reply_to_a_command() {
    run_locally(async {
        let row = ("Server Unavailable.", Cause::Connection, None, "closed the connection");
        assert_failure("UID FETCH", Answer::new().line(row.0).close(), &row).await;
    })
    .await;
}

#[tokio::test]
async fn a_throttled_success_is_a_success() {
    run_locally(async {
        let server = ScriptedServer::start([ServedFolder::inbox([1])]).await;
        let throttled = Answer::new().message(1).tagged("OK Success [THROTTLED]");
        server.answer_always("UID FETCH", throttled);
        let source = source(&server);

        for _ in 0..3 {
            let bytes = fetch(&source, &inbox_message(1)).await;
            assert_eq!(bytes, Ok(message_bytes(INBOX, 1)));
        }
    })
    .await;
}

#[tokio::test]
async fn text_of_a_server_cannot_forge_a_message() {
    run_locally(async {
        let row =
            ("NO \u{1b}[31mred\u{202e}", Cause::Server, None, "\"NO \\u{1b}[31mred\\u{202e}\"");
        assert_failure("UID FETCH", Answer::new().tagged(row.0), &row).await;
    })
    .await;
}
