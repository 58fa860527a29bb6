//! Recording of responses for a trace: every attempt is recorded, but no secret.

use std::cell::RefCell;
use std::rc::Rc;

use cynosure::limiter::Unlimited;
use cynosure::source::http::{
    ExpectedContent, HttpClient, HttpOptions, HttpRequest, ProxyMode, RequestLimits,
};
use cynosure::source::{ResponseRecord, ResponseRecorder};
use cynosure_engine::rate_limit::HeaderNames;
use url::Url;

use super::{SECRET, authorization, http_options, limits, request_retries};
use crate::fake_proxies::{FakeProxy, ProxyBehaviour, proxy_pool, unreachable_url};
use crate::hostile_server::{ConnectionAction, HostileServer, ReceivedRequest, plain_response};

const JSON: &str = "Content-Type: application/json\r\n";

/// Sends one request to each URL, with this number of attempts, and returns the recorded responses.
async fn recorded_responses(
    urls: &[Url],
    proxy_mode: &ProxyMode,
    max_attempts: u32,
) -> Vec<ResponseRecord> {
    let records = Rc::new(RefCell::new(Vec::new()));
    let shared_records = Rc::clone(&records);
    let names = HeaderNames { remaining: Some("x-left".to_owned()), ..HeaderNames::default() };
    let recorder = ResponseRecorder::new(move |record| shared_records.borrow_mut().push(record))
        .with_header_names(&names);
    let limits = RequestLimits { retry_policy: request_retries(max_attempts), ..limits() };
    let options =
        HttpOptions { proxy_mode: proxy_mode.clone(), recorder, ..http_options(limits, urls) };
    let client = HttpClient::new(options, Rc::new(Unlimited)).unwrap();
    for url in urls {
        let authorization = authorization();
        let request = HttpRequest::get(url, ExpectedContent::Json, &authorization);
        drop(client.fetch_buffered(&request).await);
    }
    records.take()
}

fn statuses(records: &[ResponseRecord]) -> Vec<u16> {
    records.iter().map(|record| record.status).collect()
}

#[tokio::test]
async fn every_attempt_is_recorded_including_retries_and_redirects() {
    let server = HostileServer::start(|before, request: &ReceivedRequest| {
        let response = match (request.path(), before) {
            ("/moved", _) => plain_response("307 There", "Location: /ok\r\n", ""),
            ("/odd", _) => plain_response("777 Odd", "", ""),
            ("/cut", _) => b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{".to_vec(),
            (_, 0) => Vec::new(),
            (_, 1) => plain_response("503 Busy", "", ""),
            _ => plain_response("200 OK", JSON, "{}"),
        };
        vec![ConnectionAction::Send(response), ConnectionAction::Close]
    })
    .await;
    let urls = ["ok", "moved", "odd", "cut"].map(|path| server.url.join(path).unwrap());

    let records = recorded_responses(&urls, &ProxyMode::Direct, 3).await;

    assert_eq!(statuses(&records), [0, 503, 200, 307, 200, 777, 200, 200, 200]);
    assert_eq!(records.len(), server.requests().len());
    assert!(
        records.iter().all(|record| record.latency.is_some() == (record.status != 0)),
        "{records:?}"
    );
}

#[tokio::test]
async fn proxy_failures_are_not_recorded_as_server_responses() {
    let server = HostileServer::always_sending(plain_response("200 OK", JSON, "{}")).await;
    let rejecting =
        FakeProxy::http(ProxyBehaviour::Respond(b"HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n"))
            .await;
    let address = server.url.socket_addrs(|| None).unwrap()[0];
    let working = FakeProxy::http(ProxyBehaviour::Forward(address)).await;
    let urls = [server.url.clone()];

    let (with_fallback, _) =
        proxy_pool(&[&unreachable_url("socks5").await, &rejecting.url, &working.url]);
    assert_eq!(statuses(&recorded_responses(&urls, &with_fallback, 1).await), [200]);
    let (without_working, _) = proxy_pool(&[&rejecting.url]);
    assert_eq!(recorded_responses(&urls, &without_working, 1).await, []);
    let unresolvable: [Url; 1] = ["http://mail.invalid/".parse().unwrap()];
    assert_eq!(
        recorded_responses(&unresolvable, &ProxyMode::Direct, 1).await,
        [],
        "the name cannot be resolved"
    );
}

#[tokio::test]
async fn only_rate_limit_headers_are_recorded() {
    let long = "9".repeat(3000);
    let headers = format!(
        "Set-Cookie: s3cret\r\nAuthorization: s3cret\r\nContent-Location: /s3cret\r\nDate: {date}\r\n\
         RateLimit: \"a\";r=9;t=30;pk=:s3cret:\r\nX-RateLimit-Limit: {SECRET}\r\nX-Left: 3\r\n\
         Retry-After: 1\r\nServer: s3cret\r\n{JSON}X-RateLimit-Used: {long}\r\n",
        date = "Fri, 15 Jan 2027 08:00:00 GMT",
    );
    let server =
        HostileServer::always_sending(plain_response("200 OK", &headers, "{\"s3cret\":1}")).await;
    let url = server.url.join("/s3cret?s3cret").unwrap();

    let records = recorded_responses(&[url], &ProxyMode::Direct, 1).await;

    assert!(!format!("{records:?}").contains("s3cret"), "{records:?}");
    let [ResponseRecord { headers, .. }] = records.as_slice() else { panic!("{records:?}") };
    let lines: Vec<String> =
        headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    date: Fri, 15 Jan 2027 08:00:00 GMT
    ratelimit: "a";r=9;t=30
    x-ratelimit-limit: [secret]
    x-left: 3
    retry-after: 1
    "#);
}
