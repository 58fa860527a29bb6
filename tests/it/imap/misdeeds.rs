//! Three messages in one answer, of which the second does not arrive as it should. The others must
//! arrive in the same fetch or the next one, and no part of one may pass for the whole.

use cynosure_engine::Cause;

use super::server::{Answer, INBOX, ScriptedServer, ServedFolder, message_bytes, message_response};
use super::{causes, fetch, fetch_all, inbox_message, run_locally, source};

/// Causes of the failures of the three messages.
type Outcomes = [Option<Cause>; 3];

const ALL_ARRIVE: Outcomes = [None; 3];

/// Fetches the three messages at once while the server gives this answer, then those that failed
/// once more.
async fn assert_outcomes(name: &str, answer: Answer, expected: Outcomes) {
    let server = ScriptedServer::start([ServedFolder::inbox(1..=3)]).await;
    server.answer_once("UID FETCH 1:3 ", answer);
    let source = source(&server);

    let results = fetch_all(&source, (1..=3).map(inbox_message)).await;

    assert_eq!(causes(&results), expected, "{name}");
    for (uid, result) in (1..).zip(results) {
        let bytes = match result {
            Ok(bytes) => bytes,
            Err(_failure) => fetch(&source, &inbox_message(uid)).await.unwrap(),
        };
        assert_eq!(bytes, message_bytes(INBOX, uid), "{name}, message {uid}");
    }
    assert_eq!(server.count("UID FETCH 1:3 "), 1, "{name}");
}

#[tokio::test]
async fn a_refusal_keeps_the_messages_before_it() {
    run_locally(async {
        const WAIT: Outcomes = [None, Some(Cause::RateLimit), Some(Cause::RateLimit)];
        let backoff = "BAD Request is throttled. Suggested Backoff Time: 89117 milliseconds";
        let bye = "* BYE Connection closed. 14";
        let first = || Answer::new().message(1);
        for (answer, expected) in [
            (first().tagged("NO [THROTTLED] slow down"), WAIT),
            (first().tagged(backoff), WAIT),
            (first().tagged(backoff).line(bye).close(), WAIT),
            (first().tagged("NO [LIMIT] Rate limit hit.").line("* BYE").close(), WAIT),
            (first().tagged("NO [OVERQUOTA] Account exceeded limits."), WAIT),
            (first().tagged("NO Some messages could not be fetched"), ALL_ARRIVE),
            (first().tagged("NO [CORRUPTION] The message is damaged"), ALL_ARRIVE),
            (first().tagged("NO [NONEXISTENT] no such message"), ALL_ARRIVE),
            (first().tagged("BAD Command Argument Error. 11"), ALL_ARRIVE),
        ] {
            assert_outcomes(&format!("{answer:?}"), answer, expected).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_lost_connection_costs_one_message_an_attempt() {
    run_locally(async {
        let lost = |cause| [None, Some(cause), None];
        let first = || Answer::new().message(1);
        for (answer, expected) in [
            (first().close(), lost(Cause::Connection)),
            (first().line("* BYE Session expired").close(), lost(Cause::Connection)),
            (first().line("* BYE Server shutting down.").close(), lost(Cause::Connection)),
            (first().bytes("* 2 FETCH (UID 2 BOD").close(), lost(Cause::Truncated)),
            (first().bytes("* 2 FETCH (UID 2 BODY[] {9}\r\nha").close(), lost(Cause::Truncated)),
            (first().message(2).bytes("* 3 F").close(), [None, None, Some(Cause::Truncated)]),
        ] {
            assert_outcomes(&format!("{answer:?}"), answer, expected).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_wrong_length_is_never_a_message() {
    run_locally(async {
        let message = message_bytes(INBOX, 2);
        let length = message.len();
        for (announced, cause) in [
            ((length - 7).to_string(), Cause::Truncated),
            // The rest begins with a space, as text after a body may.
            ((length - 8).to_string(), Cause::Truncated),
            ((length + 1).to_string(), Cause::Truncated),
            ((length + 10).to_string(), Cause::Truncated),
            ("x".to_owned(), Cause::Truncated),
            ("-1".to_owned(), Cause::Truncated),
            ("4294967295".to_owned(), Cause::TooLarge),
        ] {
            let line = format!("* 2 FETCH (UID 2 BODY[] {{{announced}}}\r\n");
            let second = [line.as_bytes(), &message, b")\r\n"].concat();
            let answer = Answer::new().message(1).bytes(second).message(3).tagged("OK done");
            assert_outcomes(&announced, answer, [None, Some(cause), None]).await;
        }
    })
    .await;
}

/// The UID of such a message is not read, so that each is asked for alone.
#[tokio::test]
async fn a_length_beyond_all_limits_is_asked_for_again() {
    run_locally(async {
        for announced in ["4294967296", "99999999999999999999"] {
            let line = format!("* 2 FETCH (UID 2 BODY[] {{{announced}}}\r\n");
            let second = [line.as_bytes(), &message_bytes(INBOX, 2), b")\r\n"].concat();
            let answer = Answer::new().message(1).bytes(second).message(3).tagged("OK done");
            assert_outcomes(announced, answer, ALL_ARRIVE).await;
        }
    })
    .await;
}

#[tokio::test]
async fn unusual_forms_of_a_message_are_read() {
    run_locally(async {
        let message = message_bytes(INBOX, 2);
        let length = message.len();
        let unknown = "X-NEW ({3}\r\na\nb (c NIL) \"d)\")";
        for (before, after) in [
            (format!("* 2 FETCH (BODY[] {{{length}}}\r\n"), " UID 2)\r\n"),
            (format!("* 2 FETCH (UID 2 BODY[] ~{{{length}}}\r\n"), ")\r\n"),
            (format!("* 2 FETCH (UID 2 BODY[] {{{length}+}}\r\n"), ")\r\n"),
            (format!("* 2 fetch (uid 2 body[] {{{length}}}\r\n"), ")\r\n"),
            (format!("* 2 FETCH (UID 2 BODY[] {{{length}}}\n"), ")\n"),
            (format!("\r\n* 2 FETCH (UID 2 BODY[] {{{length}}}\r\n"), ")\r\n\r\n"),
            (format!("* 2 FETCH (RFC822.SIZE 9.3736e+06 UID 2 BODY[] {{{length}}}\r\n"), ")\r\n"),
            (format!("* 2 FETCH ({unknown} UID 2 BODY[] {{{length}}}\r\n"), " X-OLD [e]f)\r\n"),
            (
                format!("* 2 FETCH (UID 2 BODY[HEADER] {{5}}\r\nA: b\n BODY[] {{{length}}}\r\n"),
                " FLAGS (\\Seen))\r\n",
            ),
        ] {
            let second = [before.as_bytes(), &message, after.as_bytes()].concat();
            let answer = Answer::new().message(1).bytes(second).message(3).tagged("OK done");
            assert_outcomes(&before, answer, ALL_ARRIVE).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_quoted_string_is_a_message() {
    run_locally(async {
        let server = ScriptedServer::start([ServedFolder::inbox(1..=3)]).await;
        let quoted = r#"* 2 FETCH (UID 2 BODY[] "a \"b\" \\c (d) {3}")"#;
        let answer = Answer::new().message(1).line(quoted).message(3).tagged("OK done");
        server.answer_once("UID FETCH", answer);

        let results = fetch_all(&source(&server), (1..=3).map(inbox_message)).await;

        let second = br#"a "b" \c (d) {3}"#.to_vec();
        let expected = [message_bytes(INBOX, 1), second, message_bytes(INBOX, 3)].map(Ok);
        assert_eq!(results, expected);
    })
    .await;
}

#[tokio::test]
async fn other_responses_in_between_change_nothing() {
    run_locally(async {
        for responses in [
            "* 2 FETCH (FLAGS (\\Seen))\r\n* 3 FETCH (UID 3 FLAGS ())\r\n".as_bytes(),
            b"* 4 EXISTS\r\n* 1 EXPUNGE\r\n* 9 RECENT\r\n* VANISHED 7:9\r\n",
            b"* OK [ALERT] Look!\r\n* NO careful\r\n* BAD what\r\n* OK\r\n",
            b"Server Unavailable.\r\n+ idling\r\n* X-UNKNOWN ((\r\n",
            // A message that was not asked for, and one that came before.
            &message_response(9, b"another"),
            &message_response(1, b"the first one again"),
        ] {
            let name = String::from_utf8_lossy(responses);
            let answer = Answer::new().message(1).bytes(responses).message(2);
            let answer = answer.bytes(responses).message(3).tagged("OK done");
            assert_outcomes(&name, answer, ALL_ARRIVE).await;
        }
        let backwards = Answer::new().message(3).message(2).message(1).tagged("OK done");
        assert_outcomes("backwards", backwards, ALL_ARRIVE).await;
    })
    .await;
}

#[tokio::test]
async fn nil_and_absence_mean_that_a_message_is_gone() {
    run_locally(async {
        let gone = [None, Some(Cause::NotFound), None];
        let nil = Answer::new().message(1).line("* 2 FETCH (UID 2 BODY[] NIL)").message(3);
        let expunged = "OK [EXPUNGEISSUED] Some messages were already expunged.";
        assert_outcomes("nil", nil.clone().tagged("OK done"), gone).await;
        assert_outcomes("nil, expunged", nil.tagged(expunged), gone).await;

        let absent = Answer::new().message(1).message(3);
        assert_outcomes("absent", absent.clone().tagged("OK done"), gone).await;
        // Another session deletes messages, so the second is asked for once more.
        assert_outcomes("absent, expunged", absent.tagged(expunged), ALL_ARRIVE).await;
    })
    .await;
}

#[tokio::test]
async fn an_absence_is_believed_the_second_time() {
    run_locally(async {
        let server = ScriptedServer::start([ServedFolder::inbox([1, 3])]).await;
        let answer = Answer::new().message(1).message(3).tagged("OK [EXPUNGEISSUED] expunged");
        server.answer_once("UID FETCH", answer);

        let results = fetch_all(&source(&server), (1..=3).map(inbox_message)).await;

        assert_eq!(causes(&results), [None, Some(Cause::NotFound), None]);
        assert_eq!(server.count("UID FETCH 2 "), 1);
    })
    .await;
}

#[tokio::test]
async fn a_damaged_message_fails_alone() {
    run_locally(async {
        let server = ScriptedServer::start([ServedFolder::inbox(1..=3)]).await;
        server.answer_with("UID FETCH", |command| {
            let has_damaged = command.uid_ranges().iter().any(|range| range.contains(&2));
            has_damaged.then(|| Answer::new().tagged("NO [CORRUPTION] The message is damaged"))
        });

        let results = fetch_all(&source(&server), (1..=3).map(inbox_message)).await;

        assert_eq!(causes(&results), [None, Some(Cause::Server), None]);
        assert_eq!(results[0], Ok(message_bytes(INBOX, 1)));
        assert_eq!(results[2], Ok(message_bytes(INBOX, 3)));
        assert_eq!(server.count("UID FETCH"), 4, "once together, then each alone");
    })
    .await;
}
