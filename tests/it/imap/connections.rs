//! Servers that limit the number of connections, or end them.

use std::time::Duration;

use cynosure::source::imap::ImapOptions;
use cynosure_engine::Cause;

use super::server::{Answer, GREETING, INBOX, ScriptedServer, ServedFolder, message_bytes};
use super::{extract, fetch, fetch_all, inbox_message, options, run_locally, source, source_with};
use crate::http::request_retries;

/// Enough messages for several sets, so that a second connection is worth its login.
const MESSAGES: u32 = 200;

#[tokio::test]
async fn a_limit_of_connections_lowers_their_number() {
    run_locally(async {
        let too_many = "Too many simultaneous connections. (Failure)";
        for (command, refusal) in [
            ("AUTHENTICATE", Answer::new().tagged(&format!("NO [ALERT] {too_many}"))),
            ("AUTHENTICATE", Answer::new().tagged("NO [LIMIT] Maximum number of connections")),
            (GREETING, Answer::new().line("* BYE Too many connections").close()),
        ] {
            let server = ScriptedServer::start([ServedFolder::inbox(1..=MESSAGES)]).await;
            server.answer_with(command, move |command| {
                (0 < command.connection).then(|| refusal.clone())
            });
            let source = source_with(ImapOptions { connections: 2, ..options(&server) });
            let documents = || (1..=MESSAGES).map(inbox_message);

            for result in fetch_all(&source, documents()).await {
                let Err(failure) = result else { continue };
                assert_eq!(failure.cause, Cause::RateLimit, "{failure}");
                assert_eq!(failure.retry_after, Some(Duration::from_secs(60)));
            }
            // The connection that was not refused is enough for all messages.
            let refused = server.connection_count();
            for (uid, result) in (1..).zip(fetch_all(&source, documents()).await) {
                assert_eq!(result, Ok(message_bytes(INBOX, uid)));
            }
            assert_eq!((refused, server.connection_count()), (2, 2));
        }
    })
    .await;
}

#[tokio::test]
async fn the_fifth_session_without_a_mailbox_is_a_wrong_credential() {
    run_locally(async {
        let server = ScriptedServer::start([ServedFolder::inbox([1])]).await;
        let reply = "BAD User is authenticated but not connected.";
        server.answer_always("EXAMINE", Answer::new().tagged(reply));
        let source = source(&server);

        for attempt in 1..=5 {
            let failure = fetch(&source, &inbox_message(1)).await.unwrap_err();

            let expected = if attempt < 5 {
                (Cause::RateLimit, Some(Duration::from_secs(300)))
            } else {
                (Cause::Unauthorized, None)
            };
            assert_eq!((failure.cause, failure.retry_after), expected, "attempt {attempt}");
            assert!(failure.message.contains("authenticated but not connected"), "{failure}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_third_ended_session_is_a_rate_limit() {
    run_locally(async {
        for bye in ["* BYE Session expired, please login again.", "* BYE Connection closed. 14"] {
            let server = ScriptedServer::start([ServedFolder::inbox([1])]).await;
            server.answer_always("UID FETCH", Answer::new().line(bye).close());
            let source = source(&server);
            let mut failures = Vec::new();

            for _ in 0..3 {
                let failure = fetch(&source, &inbox_message(1)).await.unwrap_err();
                failures.push((failure.cause, failure.retry_after));
            }

            let ended = (Cause::Connection, None);
            let limited = (Cause::RateLimit, Some(Duration::from_secs(600)));
            assert_eq!(failures, [ended, ended, limited], "{bye}");
        }
    })
    .await;
}

#[tokio::test]
async fn routine_ends_of_sessions_are_no_rate_limit() {
    run_locally(async {
        let server = ScriptedServer::start([ServedFolder::inbox([1])]).await;
        server.answer_always("UID FETCH", Answer::new().line("* BYE Autologout").close());
        let source = source(&server);

        for _ in 0..6 {
            let failure = fetch(&source, &inbox_message(1)).await.unwrap_err();
            assert_eq!((failure.cause, failure.retry_after), (Cause::Connection, None));
        }
    })
    .await;
}

#[tokio::test]
async fn a_session_that_ends_while_idle_costs_nothing() {
    run_locally(async {
        let server = ScriptedServer::start([ServedFolder::inbox(1..=3)]).await;
        let source = source(&server);
        for uid in 1..=3 {
            let bye = Answer::new().message(uid).tagged("OK done").line("* BYE Autologout");
            server.answer_once("UID FETCH", bye.close());

            let bytes = fetch(&source, &inbox_message(uid)).await;

            assert_eq!(bytes, Ok(message_bytes(INBOX, uid)));
        }
        assert_eq!(server.connection_count(), 3);
    })
    .await;
}

#[tokio::test]
async fn a_server_that_closes_after_each_fetch_delivers_everything() {
    run_locally(async {
        let server = ScriptedServer::start([ServedFolder::inbox(1..=5)]).await;
        server.close_after("UID FETCH");
        let mut options = options(&server);
        options.limits.retry_policy = request_retries(3);
        let source = source_with(options);

        for uid in 1..=5 {
            let bytes = fetch(&source, &inbox_message(uid)).await;
            assert_eq!(bytes, Ok(message_bytes(INBOX, uid)));
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_closes_after_other_commands_fails_every_call() {
    run_locally(async {
        for command in ["AUTHENTICATE", "LIST", "EXAMINE", ""] {
            let server = ScriptedServer::start([ServedFolder::inbox(1..=3)]).await;
            server.close_after(command);
            let mut options = options(&server);
            options.limits.retry_policy = request_retries(3);

            let failure = extract(&source_with(options)).await.unwrap_err();

            assert_eq!(failure.cause, Cause::Connection, "{command}: {failure}");
            assert!(server.connection_count() < 10, "{command}");
        }
    })
    .await;
}

#[tokio::test]
async fn one_lost_connection_is_made_up_for_by_a_quick_retry() {
    run_locally(async {
        let server = ScriptedServer::start([ServedFolder::inbox(1..=3)]).await;
        let cut = Answer::new().message(1).bytes("* 2 FETCH (UID 2 BODY[] {500}\r\nhalf").close();
        server.answer_once("UID FETCH", cut);
        let mut options = options(&server);
        options.limits.retry_policy = request_retries(2);
        let source = source_with(options);

        let results = fetch_all(&source, (1..=3).map(inbox_message)).await;

        let expected = [1, 2, 3].map(|uid| Ok(message_bytes(INBOX, uid)));
        assert_eq!(results, expected);
    })
    .await;
}
