//! Request metrics, and the recreation of a client after connect failures.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cynosure::limiter::{AttemptKind, Unlimited};
use cynosure::source::MetricsHandle;
use cynosure::source::http::{ExpectedContent, HttpClient, HttpRequest, RequestLimits};
use cynosure_engine::{Cause, ThrottleStrikes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use url::Url;

use super::{MemorySink, authorization, http_options, limits, request_retries};
use crate::hostile_server::{ConnectionAction, HostileServer, ReceivedRequest, plain_response};

fn client_with_metrics(limits: RequestLimits, urls: &[&Url]) -> (HttpClient, MetricsHandle) {
    let options = http_options(limits, urls.iter().copied());
    let metrics = options.metrics.clone();
    (HttpClient::new(options, Rc::new(Unlimited)).unwrap(), metrics)
}

async fn send_request(client: &HttpClient, url: &Url) -> Result<(), Cause> {
    let authorization = authorization();
    let request = HttpRequest::get(url, ExpectedContent::Json, &authorization);
    client.fetch_buffered(&request).await.map(drop).map_err(|error| error.failure.cause)
}

#[tokio::test]
async fn each_request_is_counted_once_by_outcome() {
    let server = HostileServer::start(|_, request: &ReceivedRequest| {
        let response = match request.path() {
            "/ok" => plain_response("200 OK", "", "{\"a\":1}"),
            "/moved" => plain_response("307 There", "Location: /ok\r\n", ""),
            "/other-origin" => plain_response("307 There", "Location: http://127.0.0.2/\r\n", ""),
            "/limited" => plain_response("429 Slowly", "Retry-After: 1\r\n", ""),
            "/login" => plain_response("401 Who", "", ""),
            "/gone" => plain_response("404 Gone", "", ""),
            "/broken" => plain_response("500 Oops", "", ""),
            "/page" => plain_response("200 OK", "Content-Type: text/html\r\n", "<html>"),
            "/cut" => b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{".to_vec(),
            _ => Vec::new(),
        };
        vec![ConnectionAction::Send(response), ConnectionAction::Close]
    })
    .await;
    let (client, metrics) = client_with_metrics(limits(), &[&server.url]);

    for path in [
        "ok",
        "moved",
        "other-origin",
        "limited",
        "login",
        "gone",
        "broken",
        "page",
        "cut",
        "closed",
    ] {
        let url = server.url.join(path).unwrap();
        let is_ok = send_request(&client, &url).await.is_ok();
        assert_eq!(is_ok, path == "ok" || path == "moved", "{path}");
    }

    let snapshot = metrics.snapshot();
    let outcomes = snapshot.requests.by_outcome;
    assert_eq!(
        (outcomes.success, outcomes.rate_limited, outcomes.unauthorized, outcomes.refused),
        (3, 1, 1, 1),
        "{outcomes:?}"
    );
    assert_eq!(
        (outcomes.server_error, outcomes.malformed, outcomes.unreachable),
        (1, 3, 1),
        "{outcomes:?}"
    );
    assert_eq!((outcomes.timeout, outcomes.other), (0, 0), "{outcomes:?}");
    assert_eq!(server.requests().len(), 11, "one for each path, and one for the redirect");
    assert_eq!(snapshot.requests.latency.count(), 10, "one request got no response");
    assert_eq!(snapshot.requests.bytes_received, 14);
    assert_eq!(snapshot.requests.retries, 0);
}

#[tokio::test]
async fn document_bytes_and_an_immediate_retry_are_counted() {
    let server = HostileServer::start(|before, _: &ReceivedRequest| {
        let status = if before == 0 { "500 Oops" } else { "200 OK" };
        vec![
            ConnectionAction::Send(plain_response(status, "", [b'x'; 1_000])),
            ConnectionAction::Close,
        ]
    })
    .await;
    let (client, metrics) = client_with_metrics(
        RequestLimits { retry_policy: request_retries(2), ..limits() },
        &[&server.url],
    );

    let authorization = authorization();
    let request = HttpRequest::get(&server.url, ExpectedContent::Document, &authorization);
    client
        .fetch_streaming(
            &request,
            None,
            ThrottleStrikes::default(),
            AttemptKind::First,
            &mut MemorySink::default(),
        )
        .await
        .unwrap();

    let requests = metrics.snapshot().requests;
    assert_eq!((requests.by_outcome.success, requests.by_outcome.server_error), (1, 1));
    assert_eq!((requests.retries, requests.bytes_received), (1, 1_000));
}

/// Starts a server that keeps its connections open; returns its URL and the connection count.
async fn keep_alive_server() -> (Url, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                while let Ok(1..) = stream.read(&mut [0; 4096]).await {
                    stream.write_all(&plain_response("200 OK", "", "{}")).await.unwrap();
                }
            });
        }
    });
    (url, connections)
}

#[tokio::test]
async fn a_client_is_recreated_after_three_connect_failures() {
    let (healthy, connections) = keep_alive_server().await;
    // The listener is closed at once, so connections to its port are refused.
    let closed_address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dead: Url = format!("http://{closed_address}/").parse().unwrap();
    let (client, metrics) = client_with_metrics(limits(), &[&healthy, &dead]);
    let counts = || {
        let connection = metrics.snapshot().connection;
        (connection.consecutive_failures, connection.reconnects, connections.load(Ordering::SeqCst))
    };

    send_request(&client, &healthy).await.unwrap();
    send_request(&client, &healthy).await.unwrap();
    assert_eq!(counts(), (0, 0, 1), "the connection is reused");

    for _ in 0..2 {
        assert_eq!(send_request(&client, &dead).await, Err(Cause::Connection));
    }
    assert_eq!(counts(), (2, 0, 1));
    send_request(&client, &healthy).await.unwrap();
    assert_eq!(counts(), (0, 0, 1), "a response resets the count");

    for _ in 0..4 {
        assert_eq!(send_request(&client, &dead).await, Err(Cause::Connection));
    }
    assert_eq!(counts(), (4, 1, 1));
    send_request(&client, &healthy).await.unwrap();
    assert_eq!(counts(), (0, 1, 2), "the old client's connection is not used again");
}
