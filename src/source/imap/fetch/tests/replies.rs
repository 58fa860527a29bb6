//! Replies that leave messages of a set unanswered.

use super::server::FetchReply;
use super::*;

#[tokio::test]
async fn an_unanswered_message_is_gone() {
    run_test(async {
        let server = FetchServer::start(|fetch| {
            let body = response(1, &text_of(1));
            FetchReply::Send(format!("{body}{} OK done\r\n", fetch.tag).into_bytes())
        })
        .await;
        let source = source(server.port, ONE_CONNECTION);

        let results = fetch_inbox(&source, [1, 2]).await;

        let [first, Err(second)] = results.as_slice() else {
            panic!("{results:?}");
        };
        assert_eq!(first, &Ok(text_of(1)));
        assert_eq!(second.cause, Cause::NotFound);
        assert_eq!(second.message, "the message is no longer in \"INBOX\"");
        assert_eq!(server.commands(), ["1: EXAMINE INBOX", "1: FETCH 1:2"]);
    })
    .await;
}

/// A server may warn of a message that it cannot read, and end the command with success.
#[tokio::test]
async fn a_message_that_the_server_warns_of_is_not_gone() {
    run_test(async {
        let server = FetchServer::start(|fetch| {
            let body = if fetch.uids == [2] { String::new() } else { response(1, &text_of(1)) };
            let warning = "* NO message 2 cannot be read\r\n";
            FetchReply::Send(format!("{body}{warning}{} OK done\r\n", fetch.tag).into_bytes())
        })
        .await;
        let source = source(server.port, ONE_CONNECTION);

        let results = fetch_inbox(&source, [1, 2]).await;

        assert_eq!(causes(results), [Ok(text_of(1)), Err(Cause::Server)]);
        assert_eq!(server.commands(), ["1: EXAMINE INBOX", "1: FETCH 1:2", "1: FETCH 2"]);
    })
    .await;
}

#[tokio::test]
async fn a_message_without_a_body_is_gone() {
    run_test(async {
        let server = FetchServer::start(|fetch| {
            let nil = "* 1 FETCH (UID 2 BODY[] NIL)\r\n";
            let code = "[EXPUNGEISSUED] some messages were expunged";
            let body = response(1, &text_of(1));
            FetchReply::Send(format!("{nil}{body}{} OK {code}\r\n", fetch.tag).into_bytes())
        })
        .await;
        let source = source(server.port, ONE_CONNECTION);

        let results = fetch_inbox(&source, [1, 2]).await;

        assert_eq!(causes(results), [Ok(text_of(1)), Err(Cause::NotFound)]);
        assert_eq!(server.commands(), ["1: EXAMINE INBOX", "1: FETCH 1:2"]);
    })
    .await;
}

#[tokio::test]
async fn after_an_expunge_absence_is_checked_once() {
    for is_untagged in [true, false] {
        run_test(async move {
            let server = FetchServer::start(move |fetch| {
                let has_two = fetch.uids == [2];
                let body = if has_two { response(2, &text_of(2)) } else { String::new() };
                let code = "OK [EXPUNGEISSUED] some messages were expunged\r\n";
                let tag = fetch.tag;
                let replies = if is_untagged {
                    format!("* {code}{body}{tag} OK done\r\n")
                } else {
                    format!("{body}{tag} {code}")
                };
                FetchReply::Send(replies.into_bytes())
            })
            .await;
            let source = source(server.port, ONE_CONNECTION);

            let results = fetch_inbox(&source, 1..=3).await;

            let expected = [Err(Cause::NotFound), Ok(text_of(2)), Err(Cause::NotFound)];
            assert_eq!(causes(results), expected);
            let commands =
                ["1: EXAMINE INBOX", "1: FETCH 1:3", "1: FETCH 1", "1: FETCH 2", "1: FETCH 3"];
            assert_eq!(server.commands(), commands);
        })
        .await;
    }
}

#[tokio::test]
async fn messages_of_a_refused_set_are_fetched_singly() {
    run_test(async {
        let server = FetchServer::start(|fetch| {
            let reply = match fetch.uids.as_slice() {
                [1, 2, 3] => {
                    format!("{}{} NO cannot be read\r\n", response(1, &text_of(1)), fetch.tag)
                }
                [2] => complete_reply(&fetch),
                _ => format!("{} NO this one cannot be read\r\n", fetch.tag),
            };
            FetchReply::Send(reply.into_bytes())
        })
        .await;
        let source = source(server.port, ONE_CONNECTION);

        let results = fetch_inbox(&source, 1..=3).await;

        let [first, second, Err(third)] = results.as_slice() else {
            panic!("{results:?}");
        };
        assert_eq!([first, second], [&Ok(text_of(1)), &Ok(text_of(2))]);
        assert_eq!(third.cause, Cause::Server);
        assert!(third.message.contains("this one cannot be read"), "{third}");
        let commands = ["1: EXAMINE INBOX", "1: FETCH 1:3", "1: FETCH 2", "1: FETCH 3"];
        assert_eq!(server.commands(), commands);
    })
    .await;
}

#[tokio::test]
async fn a_throttle_ends_only_the_unanswered_requests() {
    run_test(async {
        let server = FetchServer::start(|fetch| {
            let body = response(1, &text_of(1));
            let tag = fetch.tag;
            let reply = format!(
                "{body}{tag} BAD Request is throttled. Suggested Backoff Time: 89117 \
                 milliseconds\r\n* BYE Connection closed. 14\r\n"
            );
            FetchReply::SendAndClose(reply.into_bytes())
        })
        .await;
        let source = source(server.port, ONE_CONNECTION);

        let results = fetch_inbox(&source, 1..=3).await;

        let retry_after = Some(Duration::from_millis(89_117));
        let facts: Vec<_> = results
            .into_iter()
            .map(|result| result.map_err(|failure| (failure.cause, failure.retry_after)))
            .collect();
        let throttled = || Err((Cause::RateLimit, retry_after));
        assert_eq!(facts, [Ok(text_of(1)), throttled(), throttled()]);
        assert_eq!(server.commands(), ["1: EXAMINE INBOX", "1: FETCH 1:3"]);
    })
    .await;
}

#[tokio::test]
async fn a_body_without_a_uid_is_no_deleted_message() {
    run_test(async {
        let server = FetchServer::start(|fetch| {
            let body = "* 1 FETCH (BODY[] {4}\r\ntext)\r\n";
            FetchReply::Send(format!("{body}{} OK done\r\n", fetch.tag).into_bytes())
        })
        .await;
        let source = source(server.port, ONE_CONNECTION);

        let failure = fetch_text(&source, &document("INBOX", 1)).await.unwrap_err();

        assert_eq!(failure.cause, Cause::Server);
        assert!(failure.message.contains("without its UID"), "{failure}");
        assert_eq!(server.commands(), ["1: EXAMINE INBOX", "1: FETCH 1", "1: FETCH 1"]);
    })
    .await;
}
