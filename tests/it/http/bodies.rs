//! Bodies that are truncated, slow, endless or of the wrong length.

use std::time::Duration;

use cynosure::source::http::RequestLimits;
use cynosure_engine::Cause;
use tokio::time::timeout;

use super::{cause_of_document, fetch, get, limits, request_retries};
use crate::hostile_server::{ConnectionAction, HostileServer, plain_response};

#[tokio::test]
async fn a_document_is_complete_under_any_framing() {
    for bytes in [
        plain_response("200 OK", "", "hello"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
            .to_vec(),
        b"HTTP/1.0 200 OK\r\n\r\nhello".to_vec(),
    ] {
        let server = HostileServer::always_sending(bytes).await;
        assert_eq!(fetch(&server.url, limits(), Some(5)).await.unwrap().bytes, b"hello");
    }
}

#[tokio::test]
async fn a_length_mismatch_is_never_complete() {
    let with_length =
        |length: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nhello");

    assert_eq!(cause_of_document(with_length("9"), Some(9)).await, Cause::Truncated);
    assert_eq!(cause_of_document(with_length("9"), None).await, Cause::Truncated);
    assert_eq!(cause_of_document(with_length("5"), Some(4)).await, Cause::Truncated);
    assert_eq!(cause_of_document(with_length("5"), Some(6)).await, Cause::Truncated);
    for chunks in ["5\r\nhello\r\n", "5\r\nhel", "5\r\nhello\r\nfff", "zz\r\nhello\r\n0\r\n\r\n"] {
        let chunked = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        assert_eq!(cause_of_document(chunked, None).await, Cause::Truncated, "{chunks:?}");
    }
    let closed = "HTTP/1.1 200 OK\r\n\r\nhello";
    assert_eq!(cause_of_document(closed, None).await, Cause::Truncated, "the length is unknown");
    assert_eq!(cause_of_document(closed, Some(6)).await, Cause::Truncated, "truncated by a close");
    assert_eq!(cause_of_document(closed, Some(4)).await, Cause::Truncated, "longer than listed");
}

#[tokio::test]
async fn contradicting_lengths_break_the_connection() {
    for headers in
        ["Content-Length: 5\r\nContent-Length: 6", "Content-Length: -5", "Content-Length: x"]
    {
        let bytes = format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\nhello");
        assert_eq!(cause_of_document(bytes, Some(5)).await, Cause::Connection, "{headers}");
    }
}

#[tokio::test]
async fn a_broken_transfer_is_retried_from_the_start() {
    let server = HostileServer::start(|before, _| match before {
        0 => {
            vec![
                ConnectionAction::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhal".to_vec()),
                ConnectionAction::Close,
            ]
        }
        1 => vec![ConnectionAction::Send(plain_response("500 Oops", "", ""))],
        _ => vec![ConnectionAction::Send(plain_response("200 OK", "", "hello"))],
    })
    .await;

    let sink =
        fetch(&server.url, RequestLimits { retry_policy: request_retries(3), ..limits() }, Some(5))
            .await
            .unwrap();

    assert_eq!(sink.bytes, b"hello");
    assert_eq!(sink.rewind_count, 2);
}

#[tokio::test]
async fn a_hanging_or_slow_server_times_out() {
    let short_timeout = RequestLimits { idle_timeout: Duration::from_millis(200), ..limits() };
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n".to_vec();
    let pause = Duration::from_millis(10);
    for actions in [
        vec![ConnectionAction::StopResponding],
        vec![ConnectionAction::SendSlowly(head.clone(), Duration::from_millis(100))],
        vec![ConnectionAction::SendRepeatedly(
            b"HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n".to_vec(),
        )],
        vec![ConnectionAction::Send(head.clone()), ConnectionAction::StopResponding],
        vec![ConnectionAction::Send(head), ConnectionAction::SendSlowly(vec![b'x'; 5000], pause)],
    ] {
        let description = format!("{actions:?}").chars().take(60).collect::<String>();
        let server = HostileServer::start(move |_, _| actions.clone()).await;
        let fetching = fetch(&server.url, short_timeout.clone(), Some(5000));
        let fetched = timeout(Duration::from_secs(3), fetching).await.expect(&description);
        let failure = fetched.map(|_| ()).unwrap_err();
        assert_eq!(failure.cause, Cause::Timeout, "{description}: {failure}");
    }
}

#[tokio::test]
async fn an_endless_body_ends_at_the_deadline_or_the_size_limit() {
    let endless = |head: &str| {
        let actions = vec![
            ConnectionAction::Send(head.as_bytes().to_vec()),
            ConnectionAction::SendRepeatedly(vec![b' '; 1000]),
        ];
        HostileServer::start(move |_, _| actions.clone())
    };
    let server = endless("HTTP/1.1 200 OK\r\n\r\n").await;
    assert_eq!(get(&server.url, limits()).await.unwrap_err().cause, Cause::TooLarge);
    let known = fetch(&server.url, limits(), Some(5000)).await.map(|_| ()).unwrap_err();
    assert_eq!(known.cause, Cause::Truncated);

    let slow = vec![
        ConnectionAction::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n".to_vec()),
        ConnectionAction::SendSlowly(vec![b'x'; 5000], Duration::from_millis(5)),
    ];
    let server = HostileServer::start(move |_, _| slow.clone()).await;
    let without_min_rate =
        RequestLimits { min_rate: 0, total_timeout: Duration::from_millis(300), ..limits() };
    let failure = fetch(&server.url, without_min_rate, Some(5000)).await.map(|_| ()).unwrap_err();
    assert_eq!(failure.cause, Cause::Timeout);
    assert!(failure.message.contains("within 300ms"), "{failure}");
}

#[tokio::test]
async fn a_document_over_the_limit_is_not_downloaded() {
    let server =
        HostileServer::always_sending(plain_response("200 OK", "", vec![b'x'; 200_000])).await;

    for size in [Some(200_000), None] {
        let failure = fetch(&server.url, limits(), size).await.map(|_| ()).unwrap_err();
        assert_eq!(failure.cause, Cause::TooLarge, "{size:?}");
    }
    assert_eq!(server.requests().len(), 1, "a document known to be too large is not requested");
}
