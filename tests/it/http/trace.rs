//! What is heard of a server's answers, and what of them may be shown to anybody.

use std::cell::RefCell;
use std::rc::Rc;

use cynosure::engine::rate_limit::HeaderNames;
use cynosure::source::http::{
    ExpectedContent, HttpClient, HttpRequest, ProxyMode, RequestLimits, Unlimited,
};
use cynosure::source::{MetricsHandle, ResponseRecord, ResponseRecorder};
use url::Url;

use super::{SECRET, authorization, limits, request_retries};
use crate::fake_proxies::{FakeProxy, ProxyBehaviour, proxy_pool, unreachable_url};
use crate::hostile_server::{ConnectionAction, HostileServer, ReceivedRequest, plain_response};

const JSON: &str = "Content-Type: application/json\r\n";

/// What a client of so many attempts hears that asks for each of these once.
async fn recorded_responses(
    urls: &[Url],
    egress: &ProxyMode,
    max_attempts: u32,
) -> Vec<ResponseRecord> {
    let all = Rc::new(RefCell::new(Vec::new()));
    let to = Rc::clone(&all);
    let names = HeaderNames { remaining: Some("x-left".to_owned()), ..HeaderNames::default() };
    let recorder =
        ResponseRecorder::new(move |heard| to.borrow_mut().push(heard)).with_header_names(&names);
    let limits = RequestLimits { retry_policy: request_retries(max_attempts), ..limits() };
    let trusted = urls.iter().map(Url::origin).collect();
    let client =
        HttpClient::new(limits, trusted, egress, Rc::new(Unlimited), MetricsHandle::default());
    let client = client.unwrap().with_recorder(recorder);
    for url in urls {
        let ask = HttpRequest {
            url,
            json_body: None,
            expected: ExpectedContent::Json,
            authorization: &authorization(),
        };
        drop(client.fetch_buffered(&ask).await);
    }
    all.take()
}

fn statuses(heard: &[ResponseRecord]) -> Vec<u16> {
    heard.iter().map(|heard| heard.status).collect()
}

#[tokio::test]
async fn every_attempt_is_recorded_including_retries_and_redirects() {
    let server = HostileServer::start(|before, asked: &ReceivedRequest| {
        let reply = match (asked.path(), before) {
            ("/moved", _) => plain_response("307 There", "Location: /ok\r\n", ""),
            ("/odd", _) => plain_response("777 Odd", "", ""),
            ("/cut", _) => b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{".to_vec(),
            (_, 0) => Vec::new(),
            (_, 1) => plain_response("503 Busy", "", ""),
            _ => plain_response("200 OK", JSON, "{}"),
        };
        vec![ConnectionAction::Send(reply), ConnectionAction::Close]
    })
    .await;
    let urls = ["ok", "moved", "odd", "cut"].map(|path| server.url.join(path).unwrap());

    let heard = recorded_responses(&urls, &ProxyMode::Direct, 3).await;

    assert_eq!(statuses(&heard), [0, 503, 200, 307, 200, 777, 200, 200, 200]);
    assert_eq!(heard.len(), server.requests().len());
    assert!(heard.iter().all(|heard| heard.latency.is_some() == (heard.status != 0)), "{heard:?}");
}

#[tokio::test]
async fn proxy_failures_are_not_recorded_as_server_responses() {
    let server = HostileServer::always_sending(plain_response("200 OK", JSON, "{}")).await;
    let login =
        FakeProxy::http(ProxyBehaviour::Reply(b"HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n"))
            .await;
    let address = server.url.socket_addrs(|| None).unwrap()[0];
    let leads = FakeProxy::http(ProxyBehaviour::Forward(address)).await;
    let urls = [server.url.clone()];

    let (by_the_next, _) = proxy_pool(&[&unreachable_url("socks5").await, &login.url, &leads.url]);
    assert_eq!(statuses(&recorded_responses(&urls, &by_the_next, 1).await), [200]);
    let (by_none, _) = proxy_pool(&[&login.url]);
    assert_eq!(recorded_responses(&urls, &by_none, 1).await, []);
    let lost: [Url; 1] = ["http://mail.invalid/".parse().unwrap()];
    assert_eq!(
        recorded_responses(&lost, &ProxyMode::Direct, 1).await,
        [],
        "nobody could look it up"
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

    let heard = recorded_responses(&[url], &ProxyMode::Direct, 1).await;

    assert!(!format!("{heard:?}").contains("s3cret"), "{heard:?}");
    let [ResponseRecord { headers, .. }] = heard.as_slice() else { panic!("{heard:?}") };
    let told: Vec<String> = headers.iter().map(|(name, text)| format!("{name}: {text}")).collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    date: Fri, 15 Jan 2027 08:00:00 GMT
    ratelimit: "a";r=9;t=30
    x-ratelimit-limit: [secret]
    x-left: 3
    retry-after: 1
    "#);
}
