//! Servers that are silent, or send too much.

use std::time::Duration;

use cynosure_engine::{Cause, Failure};

use super::server::{Answer, INBOX, ScriptedServer, ServedFolder, message_bytes};
use super::source;
use super::{extract, fetch, inbox_message, list_everything, options, run_locally, source_with};

/// Shorter than any reply takes that comes at all.
const SHORT_TIMEOUT: Duration = Duration::from_millis(300);

/// Bytes of a line within the limit of 1 MiB.
const LONG_LINE_BYTES: usize = 1_000_000;

/// Bytes of a line beyond the limit of 1 MiB.
const TOO_LONG_LINE_BYTES: usize = 1_100_000;

const UNSOLICITED_RESPONSES: usize = 10_000;

/// Extracts the mailbox of a server that gives this answer to a command.
async fn failure_of(command: &'static str, answer: Answer) -> Failure {
    let server = ScriptedServer::start([ServedFolder::inbox(1..=3)]).await;
    server.answer_always(command, answer);
    extract(&source(&server)).await.unwrap_err()
}

#[tokio::test]
async fn a_silent_server_times_out_at_every_command() {
    run_locally(async {
        let silent = [Answer::new(), Answer::new().line("* OK wait"), Answer::new().bytes("* ")];
        for command in ["AUTHENTICATE", "LIST", "EXAMINE", "UID FETCH"] {
            for answer in silent.clone() {
                let server = ScriptedServer::start([ServedFolder::inbox(1..=3)]).await;
                server.answer_always(command, answer.stop_responding());
                let mut options = options(&server);
                options.limits.idle_timeout = SHORT_TIMEOUT;

                let failure = extract(&source_with(options)).await.unwrap_err();

                assert_eq!(failure.cause, Cause::Timeout, "{command}: {failure}");
                assert!(failure.message.contains("sent nothing for"), "{failure}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_line_of_more_than_1_mib_is_refused() {
    run_locally(async {
        let line = "x".repeat(TOO_LONG_LINE_BYTES);
        for command in ["AUTHENTICATE", "LIST", "EXAMINE", "UID FETCH"] {
            for answer in [
                Answer::new().line(&format!("* OK {line}")),
                Answer::new().line(&format!("* 1 FETCH (UID 1 X-LONG \"{line}\")")),
                Answer::new().line(&line),
                // It has no end.
                Answer::new().bytes(line.clone()),
            ] {
                let failure = failure_of(command, answer.tagged("OK done")).await;
                assert_eq!(failure.cause, Cause::TooLarge, "{command}: {failure}");
                assert!(failure.message.len() < 400, "{failure}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_literal_of_4_gib_is_not_read_into_memory() {
    run_locally(async {
        for (command, responses) in [
            ("LIST", "* LIST () \"/\" {4294967295}\r\n"),
            ("LIST", "* LIST () \"/\" {18446744073709551615}\r\n"),
            ("EXAMINE", "* FLAGS ({4294967295}\r\n"),
            ("UID FETCH", "* 1 FETCH (UID 1 ENVELOPE {4294967295}\r\n"),
        ] {
            let answer = Answer::new().bytes(responses).stop_responding();
            let failure = failure_of(command, answer).await;
            assert_eq!(failure.cause, Cause::TooLarge, "{responses}: {failure}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_long_line_and_many_responses_are_read() {
    run_locally(async {
        let server = ScriptedServer::start([ServedFolder::inbox([1])]).await;
        let long = format!("* OK {}\r\n", "x".repeat(LONG_LINE_BYTES));
        let many: String =
            (0..UNSOLICITED_RESPONSES).map(|n| format!("* {n} EXISTS\r\n")).collect();
        let before = || Answer::new().bytes(long.clone()).bytes(many.clone());
        let opened = before().line("* OK [UIDVALIDITY 7] valid").tagged("OK opened");
        server.answer_always("EXAMINE", opened);
        server
            .answer_always("UID FETCH", before().message(1).bytes(many.clone()).tagged("OK done"));

        let bytes = fetch(&source(&server), &inbox_message(1)).await;

        assert_eq!(bytes, Ok(message_bytes(INBOX, 1)));
    })
    .await;
}

#[tokio::test]
async fn deep_lists_and_many_values_are_refused() {
    run_locally(async {
        let deep = format!("* 1 FETCH {}", "(".repeat(1_000));
        let many = format!("* 1 FETCH (UID 1 {}", "a ".repeat(100_000));
        for line in [deep, many] {
            let failure = failure_of("UID FETCH", Answer::new().line(&line)).await;
            assert_eq!(failure.cause, Cause::Truncated, "{failure}");
            assert!(failure.message.contains("cannot be read"), "{failure}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_body_that_was_not_asked_for_fails_the_listing() {
    run_locally(async {
        let server = ScriptedServer::start([ServedFolder::inbox([1])]).await;
        server.answer_always("UID FETCH", Answer::new().message(1).tagged("OK done"));

        let failure = list_everything(&source(&server)).await.unwrap_err();

        assert_eq!(failure.cause, Cause::Server);
        assert!(failure.message.contains("was not asked for"), "{failure}");
    })
    .await;
}

#[tokio::test]
async fn a_reply_to_no_command_ends_the_connection() {
    run_locally(async {
        for line in ["A999 OK done", "A0 NO no"] {
            let server = ScriptedServer::start([ServedFolder::inbox([1])]).await;
            server.answer_once("UID FETCH", Answer::new().line(line).tagged("OK done"));
            let source = source(&server);

            let failure = fetch(&source, &inbox_message(1)).await.unwrap_err();

            assert_eq!(failure.cause, Cause::Connection, "{line}: {failure}");
            assert!(failure.message.contains("which was not sent"), "{failure}");
            assert_eq!(fetch(&source, &inbox_message(1)).await, Ok(message_bytes(INBOX, 1)));
            assert_eq!(server.connection_count(), 2, "{line}");
        }
    })
    .await;
}
