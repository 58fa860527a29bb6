//! Bodies without a UID before them, unwanted bodies, and too large ones.

use std::future::pending;

use futures_util::future::join;
use tokio::sync::Notify;
use tokio::task::spawn_local;

use super::server::FetchReply;
use super::*;
use crate::source::imap::fetch::queue::SET_REQUESTS_MAX;

/// More than is held of a body whose UID is still to come, and than is read of an unwanted one.
const LARGE_BYTES: usize = 600_000;

/// Sink that takes nothing after the first bytes.
struct StalledSink(Rc<Notify>);

impl Sink for StalledSink {
    async fn write(&mut self, _bytes: &[u8]) -> Result<(), Failure> {
        self.0.notify_one();
        pending().await
    }

    async fn rewind(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

#[tokio::test]
async fn a_uid_after_the_body_is_found() {
    run_test(async {
        let server = FetchServer::start(|fetch| {
            let bodies: String = fetch
                .uids
                .iter()
                .rev()
                .map(|uid| late_uid_response(*uid, &text_of(*uid)))
                .collect();
            FetchReply::Send(format!("{bodies}{} OK done\r\n", fetch.tag).into_bytes())
        })
        .await;
        let source = source(server.port, ONE_CONNECTION);

        let results = fetch_inbox(&source, 1..=3).await;

        assert_eq!(results, texts_of(1..=3));
        assert_eq!(server.commands(), ["1: EXAMINE INBOX", "1: FETCH 1:3"]);
    })
    .await;
}

#[tokio::test]
async fn a_large_body_before_its_uid_is_fetched_alone() {
    run_test(async {
        let large = "x".repeat(LARGE_BYTES);
        let expected = large.clone();
        let server = FetchServer::start(move |fetch| {
            let body_of = |uid: u32| if uid == 1 { large.clone() } else { text_of(uid) };
            let bodies: String =
                fetch.uids.iter().map(|uid| late_uid_response(*uid, &body_of(*uid))).collect();
            FetchReply::Send(format!("{bodies}{} OK done\r\n", fetch.tag).into_bytes())
        })
        .await;
        let source = source(server.port, ONE_CONNECTION);

        let results = fetch_inbox(&source, 1..=3).await;

        assert_eq!(results, [Ok(expected), Ok(text_of(2)), Ok(text_of(3))]);
        assert_eq!(server.commands(), ["1: EXAMINE INBOX", "1: FETCH 1:3", "1: FETCH 1"]);
    })
    .await;
}

#[tokio::test]
async fn the_body_of_another_message_is_taken_back() {
    run_test(async {
        let server = FetchServer::start(|fetch| {
            let bodies = [late_uid_response(9, "another"), response(1, &text_of(1))].concat();
            FetchReply::Send(format!("{bodies}{} OK done\r\n", fetch.tag).into_bytes())
        })
        .await;
        let source = source(server.port, ONE_CONNECTION);
        let mut body = CollectedBody::default();

        let outcome = fetch(&source, &document("INBOX", 1), &mut body).await.unwrap();

        let bytes = text_of(1).len().try_into().unwrap();
        assert_eq!(outcome, FetchOutcome::Complete { bytes, folders: Vec::new() });
        assert_eq!((body.bytes, body.rewinds), (text_of(1).into_bytes(), 1));
    })
    .await;
}

#[tokio::test]
async fn a_part_of_a_message_is_not_the_message() {
    run_test(async {
        let server = FetchServer::start(|fetch| {
            let part = "* 1 FETCH (UID 1 BODY[TEXT] {4}\r\npart)\r\n";
            let body = response(1, &text_of(1));
            FetchReply::Send(format!("{part}{body}{} OK done\r\n", fetch.tag).into_bytes())
        })
        .await;
        let source = source(server.port, ONE_CONNECTION);

        assert_eq!(fetch_inbox(&source, [1]).await, texts_of([1]));
    })
    .await;
}

#[tokio::test]
async fn an_empty_body_is_no_message() {
    run_test(async {
        let server = FetchServer::start(|fetch| {
            let bodies = format!("{}* 2 FETCH (UID 2 BODY[] \"\")\r\n", response(1, ""));
            FetchReply::Send(format!("{bodies}{} OK done\r\n", fetch.tag).into_bytes())
        })
        .await;
        let source = source(server.port, ONE_CONNECTION);

        let causes = causes(fetch_inbox(&source, [1, 2]).await);
        assert_eq!(causes, [Err(Cause::Server), Err(Cause::Server)]);
    })
    .await;
}

/// Drops the fetch of message 1, of this many bytes, after its first chunk. Message 2 is fetched at
/// the same time. Returns the commands.
async fn commands_with_dropped_fetch(bytes: usize) -> Vec<String> {
    let large = "x".repeat(bytes);
    let server = FetchServer::start(move |fetch| {
        let body_of = |uid: u32| if uid == 1 { large.clone() } else { text_of(uid) };
        let bodies: String = fetch.uids.iter().map(|uid| response(*uid, &body_of(*uid))).collect();
        FetchReply::Send(format!("{bodies}{} OK done\r\n", fetch.tag).into_bytes())
    })
    .await;
    let source = source(server.port, ONE_CONNECTION);
    let has_begun = Rc::new(Notify::new());
    let (dropped_source, mut sink) = (Rc::clone(&source), StalledSink(Rc::clone(&has_begun)));
    let dropped = spawn_local(async move {
        fetch(&dropped_source, &document("INBOX", 1), &mut sink).await.unwrap();
    });
    let drop_after_first_chunk = async {
        has_begun.notified().await;
        dropped.abort();
    };

    // The task is polled before the worker that the fetch of message 2 starts.
    let (results, ()) = join(fetch_inbox(&source, [2]), drop_after_first_chunk).await;

    assert_eq!(results, texts_of([2]));
    server.commands()
}

#[tokio::test]
async fn the_rest_of_a_small_dropped_body_is_read() {
    run_test(async {
        let commands = commands_with_dropped_fetch(240_000).await;

        assert_eq!(commands, ["1: EXAMINE INBOX", "1: FETCH 1:2"]);
    })
    .await;
}

#[tokio::test]
async fn a_large_dropped_body_closes_the_connection() {
    run_test(async {
        let commands = commands_with_dropped_fetch(LARGE_BYTES).await;

        let expected = ["1: EXAMINE INBOX", "1: FETCH 1:2", "2: EXAMINE INBOX", "2: FETCH 2"];
        assert_eq!(commands, expected);
    })
    .await;
}

#[tokio::test]
async fn a_body_goes_to_a_newer_request_than_the_dropped_one() {
    run_test(async {
        let (has_begun, may_answer) = (Rc::new(Notify::new()), Rc::new(Notify::new()));
        let (begun, answer) = (Rc::clone(&has_begun), Rc::clone(&may_answer));
        let server = FetchServer::start(move |fetch| {
            begun.notify_one();
            FetchReply::SendAfter(Rc::clone(&answer), complete_reply(&fetch).into_bytes())
        })
        .await;
        let source = source(server.port, ONE_CONNECTION);
        let dropped_source = Rc::clone(&source);
        let dropped =
            spawn_local(async move { fetch_text(&dropped_source, &document("INBOX", 1)).await });
        has_begun.notified().await;
        dropped.abort();
        dropped.await.unwrap_err();

        let allow_answer = async { may_answer.notify_one() };
        let (results, ()) = join(fetch_inbox(&source, [1]), allow_answer).await;

        assert_eq!(results, texts_of([1]));
        assert_eq!(server.commands(), ["1: EXAMINE INBOX", "1: FETCH 1"]);
    })
    .await;
}

#[tokio::test]
async fn a_too_large_message_fails_alone() {
    run_test(async {
        let too_large = "x".repeat(usize::try_from(DOCUMENT_BYTES_MAX).unwrap() + 1);
        let server = FetchServer::start(move |fetch| {
            let body_of = |uid: u32| if uid == 2 { too_large.clone() } else { text_of(uid) };
            let bodies: String =
                fetch.uids.iter().map(|uid| response(*uid, &body_of(*uid))).collect();
            FetchReply::Send(format!("{bodies}{} OK done\r\n", fetch.tag).into_bytes())
        })
        .await;
        let source = source(server.port, ONE_CONNECTION);

        let results = fetch_inbox(&source, 1..=3).await;

        let [first, Err(second), third] = results.as_slice() else {
            panic!("{results:?}");
        };
        assert_eq!([first, third], [&Ok(text_of(1)), &Ok(text_of(3))]);
        assert_eq!(second.cause, Cause::TooLarge);
        let message = "message 2 in \"INBOX\" has 1048577 bytes, more than 1048576 (max_document)";
        assert_eq!(second.message, message);
        let commands = ["1: EXAMINE INBOX", "1: FETCH 1:3", "2: EXAMINE INBOX", "2: FETCH 3"];
        assert_eq!(server.commands(), commands);
    })
    .await;
}

/// Each is asked for alone then, because one of them may be the reason.
#[tokio::test]
async fn a_large_message_that_was_not_asked_for_ends_the_connection() {
    run_test(async {
        let mut is_first = true;
        let server = FetchServer::start(move |fetch| {
            let is_first = std::mem::take(&mut is_first);
            let other =
                if is_first { response(9, &"x".repeat(LARGE_BYTES)) } else { String::new() };
            FetchReply::Send([other, complete_reply(&fetch)].concat().into_bytes())
        })
        .await;
        let source = source(server.port, ONE_CONNECTION);

        let results = fetch_inbox(&source, [1, 2]).await;

        assert_eq!(results, texts_of([1, 2]));
        let first = ["1: EXAMINE INBOX", "1: FETCH 1:2"];
        let second = ["2: EXAMINE INBOX", "2: FETCH 1", "2: FETCH 2"];
        assert_eq!(server.commands(), [&first[..], &second].concat());
    })
    .await;
}

#[tokio::test]
async fn messages_that_were_not_asked_for_have_an_end() {
    run_test(async {
        let large_part = format!("* 1 FETCH (BODY[TEXT] {{9999}}\r\n{})\r\n", "x".repeat(9999));
        for (other, expected) in [
            (response(9, "another"), "129 belong to no request"),
            (late_uid_response(9, "another"), "129 belong to no request"),
            ("* 1 FETCH (BODY[] {4}\r\ntext)\r\n".to_owned(), "129 belong to no request"),
            (large_part, "were not asked for: 269973 bytes"),
        ] {
            // The command has no reply.
            let others = other.repeat(2 * SET_REQUESTS_MAX + 1).into_bytes();
            let server = FetchServer::start(move |_fetch| FetchReply::Send(others.clone())).await;
            let source = source(server.port, ONE_CONNECTION);

            let failure = fetch_text(&source, &document("INBOX", 1)).await.unwrap_err();

            assert_eq!(failure.cause, Cause::Server, "{failure}");
            assert!(failure.message.contains(expected), "{failure}");
        }
    })
    .await;
}

#[tokio::test]
async fn messages_that_were_not_asked_for_are_counted_for_each_command() {
    run_test(async {
        let server = FetchServer::start(|fetch| {
            let others = response(9_999, "another").repeat(SET_REQUESTS_MAX + 1);
            FetchReply::Send([others, complete_reply(&fetch)].concat().into_bytes())
        })
        .await;
        let source = source(server.port, ONE_CONNECTION);

        assert_eq!(fetch_inbox(&source, 1..=200).await, texts_of(1..=200));
        assert_eq!(server.commands().last().unwrap(), "1: FETCH 193:200");
    })
    .await;
}
