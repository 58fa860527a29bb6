//! Bodies that are cut, slow, endless or of another length.

use std::time::Duration;

use cynosure::engine::Cause;
use cynosure::source::http::RequestLimits;
use tokio::time::timeout;

use super::{attempts, cause_of_document, fetch, get, limits};
use crate::hostile::{Act, Hostile, plain};

#[tokio::test]
async fn a_whole_document_arrives_whatever_frames_it() {
    for bytes in [
        plain("200 OK", "", "hello"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
            .to_vec(),
        b"HTTP/1.0 200 OK\r\n\r\nhello".to_vec(),
    ] {
        let server = Hostile::saying(bytes).await;
        assert_eq!(fetch(&server.url, limits(), Some(5)).await.unwrap().bytes, b"hello");
    }
}

#[tokio::test]
async fn a_document_of_another_length_than_told_is_never_whole() {
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
    assert_eq!(cause_of_document(closed, None).await, Cause::Truncated, "no end is told");
    assert_eq!(cause_of_document(closed, Some(6)).await, Cause::Truncated, "cut by closing");
    assert_eq!(cause_of_document(closed, Some(4)).await, Cause::Truncated, "more than told");
}

#[tokio::test]
async fn lengths_that_contradict_themselves_break_the_connection() {
    for headers in
        ["Content-Length: 5\r\nContent-Length: 6", "Content-Length: -5", "Content-Length: x"]
    {
        let bytes = format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\nhello");
        assert_eq!(cause_of_document(bytes, Some(5)).await, Cause::Connection, "{headers}");
    }
}

#[tokio::test]
async fn what_breaks_is_tried_again_and_the_document_begins_anew() {
    let server = Hostile::start(|before, _| match before {
        0 => {
            vec![Act::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhal".to_vec()), Act::Close]
        }
        1 => vec![Act::Send(plain("500 Oops", "", ""))],
        _ => vec![Act::Send(plain("200 OK", "", "hello"))],
    })
    .await;

    let kept = fetch(&server.url, RequestLimits { retry_policy: attempts(3), ..limits() }, Some(5))
        .await
        .unwrap();

    assert_eq!(kept.bytes, b"hello");
    assert_eq!(kept.rewound, 2);
}

#[tokio::test]
async fn a_server_that_hangs_or_drips_is_left() {
    let quick = RequestLimits { idle_timeout: Duration::from_millis(200), ..limits() };
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n".to_vec();
    let often = Duration::from_millis(10);
    for acts in [
        vec![Act::Hang],
        vec![Act::Drip(head.clone(), Duration::from_millis(100))],
        vec![Act::Flood(b"HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n".to_vec())],
        vec![Act::Send(head.clone()), Act::Hang],
        vec![Act::Send(head), Act::Drip(vec![b'x'; 5000], often)],
    ] {
        let doing = format!("{acts:?}").chars().take(60).collect::<String>();
        let server = Hostile::start(move |_, _| acts.clone()).await;
        let fetching = fetch(&server.url, quick.clone(), Some(5000));
        let fetched = timeout(Duration::from_secs(3), fetching).await.expect(&doing);
        let failure = fetched.map(|_| ()).unwrap_err();
        assert_eq!(failure.cause, Cause::Timeout, "{doing}: {failure}");
    }
}

#[tokio::test]
async fn an_endless_body_meets_the_total_deadline_or_the_cap() {
    let endless = |head: &str| {
        let acts = vec![Act::Send(head.as_bytes().to_vec()), Act::Flood(vec![b' '; 1000])];
        Hostile::start(move |_, _| acts.clone())
    };
    let server = endless("HTTP/1.1 200 OK\r\n\r\n").await;
    assert_eq!(get(&server.url, limits()).await.unwrap_err().cause, Cause::TooLarge);
    let known = fetch(&server.url, limits(), Some(5000)).await.map(|_| ()).unwrap_err();
    assert_eq!(known.cause, Cause::Truncated);

    let slow = vec![
        Act::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n".to_vec()),
        Act::Drip(vec![b'x'; 5000], Duration::from_millis(5)),
    ];
    let server = Hostile::start(move |_, _| slow.clone()).await;
    let patient =
        RequestLimits { min_rate: 0, total_timeout: Duration::from_millis(300), ..limits() };
    let failure = fetch(&server.url, patient, Some(5000)).await.map(|_| ()).unwrap_err();
    assert_eq!(failure.cause, Cause::Timeout);
    assert!(failure.message.contains("within 300ms"), "{failure}");
}

#[tokio::test]
async fn a_document_over_the_limit_is_not_begun() {
    let server = Hostile::saying(plain("200 OK", "", vec![b'x'; 200_000])).await;

    for size in [Some(200_000), None] {
        let failure = fetch(&server.url, limits(), size).await.map(|_| ()).unwrap_err();
        assert_eq!(failure.cause, Cause::TooLarge, "{size:?}");
    }
    assert_eq!(server.asked().len(), 1, "a size that is known is not even asked for");
}
