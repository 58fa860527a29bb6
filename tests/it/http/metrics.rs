//! What is counted of requests, and what becomes of a client that reaches nobody.

use std::net::TcpListener as Listener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cynosure::engine::{Cause, ThrottleStrikes};
use cynosure::source::MetricsHandle;
use cynosure::source::http::{
    AttemptKind, ExpectedContent, HttpClient, HttpRequest, ProxyMode, RequestLimits, Unlimited,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use url::Url;

use super::{MemorySink, authorization, limits, request_retries};
use crate::hostile_server::{ConnectionAction, HostileServer, ReceivedRequest, plain_response};

fn client_metrics(limits: RequestLimits, trusted: &[&Url]) -> (HttpClient, MetricsHandle) {
    let (meter, gate) = (MetricsHandle::default(), Rc::new(Unlimited));
    let trusted = trusted.iter().map(|url| url.origin()).collect();
    (HttpClient::new(limits, trusted, &ProxyMode::Direct, gate, meter.clone()).unwrap(), meter)
}

async fn send_request(client: &HttpClient, url: &Url) -> Result<(), Cause> {
    let ask = HttpRequest {
        url,
        json_body: None,
        expected: ExpectedContent::Json,
        authorization: &authorization(),
    };
    client.fetch_buffered(&ask).await.map(drop).map_err(|refusal| refusal.failure.cause)
}

#[tokio::test]
async fn each_request_is_counted_once_by_outcome() {
    let server = HostileServer::start(|_, asked: &ReceivedRequest| {
        let reply = match asked.path() {
            "/ok" => plain_response("200 OK", "", "{\"a\":1}"),
            "/moved" => plain_response("307 There", "Location: /ok\r\n", ""),
            "/away" => plain_response("307 There", "Location: http://127.0.0.2/\r\n", ""),
            "/much" => plain_response("429 Slowly", "Retry-After: 1\r\n", ""),
            "/who" => plain_response("401 Who", "", ""),
            "/gone" => plain_response("404 Gone", "", ""),
            "/ill" => plain_response("500 Ill", "", ""),
            "/login" => plain_response("200 OK", "Content-Type: text/html\r\n", "<html>"),
            "/cut" => b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{".to_vec(),
            _ => Vec::new(),
        };
        vec![ConnectionAction::Send(reply), ConnectionAction::Close]
    })
    .await;
    let (client, meter) = client_metrics(limits(), &[&server.url]);

    for path in ["ok", "moved", "away", "much", "who", "gone", "ill", "login", "cut", "closed"] {
        let url = server.url.join(path).unwrap();
        let is_ok = send_request(&client, &url).await.is_ok();
        assert_eq!(is_ok, path == "ok" || path == "moved", "{path}");
    }

    let figures = meter.snapshot();
    let by = figures.requests.by_outcome;
    assert_eq!((by.success, by.rate_limited, by.unauthorized, by.refused), (3, 1, 1, 1), "{by:?}");
    assert_eq!((by.server_error, by.malformed, by.unreachable), (1, 3, 1), "{by:?}");
    assert_eq!((by.timeout, by.other), (0, 0), "{by:?}");
    assert_eq!(server.requests().len(), 11, "one for each, and the redirect's second");
    assert_eq!(figures.requests.latency.count(), 10, "all but the one without a reply");
    assert_eq!(figures.requests.bytes_received, 14);
    assert_eq!(figures.requests.retries, 0);
}

#[tokio::test]
async fn a_document_counts_with_its_bytes_and_a_quick_retry_as_one() {
    let server = HostileServer::start(|before, _: &ReceivedRequest| {
        let status = if before == 0 { "500 Ill" } else { "200 OK" };
        vec![
            ConnectionAction::Send(plain_response(status, "", [b'x'; 1_000])),
            ConnectionAction::Close,
        ]
    })
    .await;
    let (client, meter) = client_metrics(
        RequestLimits { retry_policy: request_retries(2), ..limits() },
        &[&server.url],
    );

    let ask = HttpRequest {
        url: &server.url,
        json_body: None,
        expected: ExpectedContent::Document,
        authorization: &authorization(),
    };
    client
        .fetch_streaming(
            &ask,
            None,
            ThrottleStrikes::default(),
            AttemptKind::First,
            &mut MemorySink::default(),
        )
        .await
        .unwrap();

    let requests = meter.snapshot().requests;
    assert_eq!((requests.by_outcome.success, requests.by_outcome.server_error), (1, 1));
    assert_eq!((requests.retries, requests.bytes_received), (1, 1_000));
}

/// A server that keeps its connections, and counts them.
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
    let (well, connections) = keep_alive_server().await;
    // Nobody listens where somebody did.
    let nobody = Listener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dead: Url = format!("http://{nobody}/").parse().unwrap();
    let (client, meter) = client_metrics(limits(), &[&well, &dead]);
    let seen = || {
        let client = meter.snapshot().connection;
        (client.consecutive_failures, client.reconnects, connections.load(Ordering::SeqCst))
    };

    send_request(&client, &well).await.unwrap();
    send_request(&client, &well).await.unwrap();
    assert_eq!(seen(), (0, 0, 1), "the connection is kept");

    for _ in 0..2 {
        assert_eq!(send_request(&client, &dead).await, Err(Cause::Connection));
    }
    assert_eq!(seen(), (2, 0, 1));
    send_request(&client, &well).await.unwrap();
    assert_eq!(seen(), (0, 0, 1), "a reply ends the row");

    for _ in 0..4 {
        assert_eq!(send_request(&client, &dead).await, Err(Cause::Connection));
    }
    assert_eq!(seen(), (4, 1, 1));
    send_request(&client, &well).await.unwrap();
    assert_eq!(seen(), (0, 1, 2), "what the old client kept is not used any more");
}
