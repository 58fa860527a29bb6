//! Connections that break, and those that cannot be made.

use tokio::net::TcpListener;

use super::server::FetchReply;
use super::*;

#[tokio::test]
async fn a_cut_body_costs_only_its_message() {
    run_test(async {
        let mut is_first = true;
        let server = FetchServer::start(move |fetch| {
            if !std::mem::take(&mut is_first) {
                return FetchReply::Send(complete_reply(&fetch).into_bytes());
            }
            let cut = "* 1 FETCH (UID 2 BODY[] {500}\r\nonly a part";
            FetchReply::SendAndClose(format!("{}{cut}", response(1, &text_of(1))).into_bytes())
        })
        .await;
        let source = source(server.port, ONE_CONNECTION);

        let results = fetch_inbox(&source, 1..=3).await;

        let [first, Err(second), third] = results.as_slice() else {
            panic!("{results:?}");
        };
        assert_eq!([first, third], [&Ok(text_of(1)), &Ok(text_of(3))]);
        assert_eq!(second.cause, Cause::Truncated);
        assert!(second.message.contains("after 11 of 500 bytes"), "{second}");
        let commands = ["1: EXAMINE INBOX", "1: FETCH 1:3", "2: EXAMINE INBOX", "2: FETCH 3"];
        assert_eq!(server.commands(), commands);
    })
    .await;
}

#[tokio::test]
async fn a_cut_body_is_fetched_again_from_its_start() {
    run_test(async {
        let mut is_first = true;
        let server = FetchServer::start(move |fetch| {
            if !std::mem::take(&mut is_first) {
                return FetchReply::Send(complete_reply(&fetch).into_bytes());
            }
            let cut = "* 1 FETCH (UID 1 BODY[] {500}\r\nonly a part";
            FetchReply::SendAndClose(cut.as_bytes().to_vec())
        })
        .await;
        let source = source(server.port, FetchTestSettings { connections: 1, max_attempts: 2 });
        let mut body = CollectedBody::default();

        fetch(&source, &document("INBOX", 1), &mut body).await.unwrap();

        assert_eq!((body.bytes, body.rewinds), (text_of(1).into_bytes(), 1));
    })
    .await;
}

#[tokio::test]
async fn a_goodbye_costs_one_message_its_attempt() {
    run_test(async {
        let mut is_first = true;
        let server = FetchServer::start(move |fetch| {
            if !std::mem::take(&mut is_first) {
                return FetchReply::Send(complete_reply(&fetch).into_bytes());
            }
            FetchReply::SendAndClose(b"* BYE Session expired, please login again.\r\n".to_vec())
        })
        .await;
        let source = source(server.port, ONE_CONNECTION);

        let results = fetch_inbox(&source, 1..=3).await;

        let expected = [Err(Cause::Connection), Ok(text_of(2)), Ok(text_of(3))];
        assert_eq!(causes(results), expected);
    })
    .await;
}

#[tokio::test]
async fn no_message_loses_more_than_three_connections() {
    run_test(async {
        let server = FetchServer::start(|_fetch| FetchReply::SendAndClose(Vec::new())).await;
        let source = source(server.port, ONE_CONNECTION);

        let results = fetch_inbox(&source, 1..=5).await;

        assert_eq!(causes(results), vec![Err(Cause::Connection); 5]);
        let fetches = server.commands().iter().filter(|line| line.contains("FETCH")).count();
        assert_eq!(fetches, 3);
    })
    .await;
}

#[tokio::test]
async fn a_body_beyond_the_protocol_fails_alone() {
    run_test(async {
        let server = FetchServer::start(|fetch| {
            if !fetch.uids.contains(&2) {
                return FetchReply::Send(complete_reply(&fetch).into_bytes());
            }
            let first =
                if fetch.uids.contains(&1) { response(1, &text_of(1)) } else { String::new() };
            let too_large = "* 1 FETCH (UID 2 BODY[] {5000000000}\r\n";
            FetchReply::SendAndClose([first.as_str(), too_large].concat().into_bytes())
        })
        .await;
        let source = source(server.port, ONE_CONNECTION);

        let results = fetch_inbox(&source, 1..=3).await;

        assert_eq!(causes(results), [Ok(text_of(1)), Err(Cause::TooLarge), Ok(text_of(3))]);
    })
    .await;
}

#[tokio::test]
async fn without_a_connection_all_requests_fail() {
    run_test(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let source = source(port, FetchTestSettings { connections: 1, max_attempts: 3 });

        let results = fetch_inbox(&source, 1..=3).await;

        let facts: Vec<_> = results
            .into_iter()
            .map(|result| result.map_err(|failure| (failure.cause, failure.request_count)))
            .collect();
        assert_eq!(facts, vec![Err((Cause::Connection, 3)); 3]);
    })
    .await;
}
