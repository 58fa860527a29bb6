//! HTTP client with a proxy pool: a request goes through a proxy, or is not sent.

use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use cynosure::limiter::Unlimited;
use cynosure::source::http::{
    ExpectedContent, HttpClient, HttpOptions, HttpRequest, Proxy, ProxyMode,
};
use cynosure::source::{DocumentRef, Listing, Source as _};
use cynosure_engine::{Cause, Failure, ListedDocument, ThrottleStrikes};
use url::Url;

use super::{MemorySink, authorization, http_options, limits, request_retries};
use crate::fake_mailbox::FakeMailbox;
use crate::fake_proxies::{
    FakeProxy, ProxyBehaviour, VIA_HEADER, failure_counts, proxy_pool, unreachable_url,
};
use crate::hostile_server::{ConnectionAction, HostileServer, plain_response};

const JSON: &str = "Content-Type: application/json\r\n";

/// URL of a host whose name never resolves (RFC 6761 §6.4).
const UNRESOLVABLE_URL: &str = "http://mail.invalid/";

async fn send_request(proxy_mode: &ProxyMode, url: &Url) -> Result<Bytes, Failure> {
    let options = HttpOptions { proxy_mode: proxy_mode.clone(), ..http_options(limits(), [url]) };
    let client = HttpClient::new(options, Rc::new(Unlimited))?;
    let authorization = authorization();
    let request = HttpRequest::get(url, ExpectedContent::Json, &authorization);
    client.fetch_buffered(&request).await.map(|response| response.body).map_err(Failure::from)
}

async fn ok_server() -> (HostileServer, SocketAddr) {
    let server = HostileServer::always_sending(plain_response("200 OK", JSON, "{}")).await;
    let address = address(&server.url);
    (server, address)
}

fn address(url: &Url) -> SocketAddr {
    format!("{}:{}", url.host_str().unwrap(), url.port().unwrap()).parse().unwrap()
}

#[tokio::test]
async fn loopback_requests_use_the_proxy_too() {
    let (server, address) = ok_server().await;
    let proxy = FakeProxy::http(ProxyBehaviour::Forward(address)).await;
    let (proxy_mode, _) = proxy_pool(&[&proxy.url]);

    assert_eq!(send_request(&proxy_mode, &server.url).await.unwrap(), "{}");

    assert_eq!(server.requests().len(), 1);
    assert!(server.requests()[0].head.contains(VIA_HEADER), "{}", server.requests()[0].head);
}

#[tokio::test]
async fn names_are_resolved_by_the_proxy_only() {
    let (_server, address) = ok_server().await;
    let (http, socks) = (
        FakeProxy::http(ProxyBehaviour::Forward(address)).await,
        FakeProxy::socks(ProxyBehaviour::Forward(address)).await,
    );
    let url: Url = UNRESOLVABLE_URL.parse().unwrap();

    assert_eq!(send_request(&proxy_pool(&[&http.url]).0, &url).await.unwrap(), "{}");
    assert_eq!(send_request(&proxy_pool(&[&socks.url]).0, &url).await.unwrap(), "{}");

    assert!(http.requests()[0].starts_with("GET http://mail.invalid/ "), "{:?}", http.requests());
    assert_eq!(socks.requests(), ["mail.invalid:80"]);
    let direct = send_request(&ProxyMode::Direct, &url).await.unwrap_err();
    assert_eq!(direct.cause, Cause::LocalNetwork, "only the proxy resolves it: {direct}");
}

#[tokio::test]
async fn a_request_fails_over_to_the_next_proxy_at_once() {
    let closed = unreachable_url("http").await;
    let closed_socks = unreachable_url("socks5").await;
    let rejecting =
        FakeProxy::http(ProxyBehaviour::Respond(b"HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n"))
            .await;
    let forbidden = FakeProxy::socks(ProxyBehaviour::Respond(&[2])).await;
    for failing_url in [&closed, &closed_socks, &rejecting.url, &forbidden.url] {
        let (server, address) = ok_server().await;
        let proxy = FakeProxy::http(ProxyBehaviour::Forward(address)).await;
        let (proxy_mode, health) = proxy_pool(&[failing_url, &proxy.url]);

        // The limits allow one attempt, and a failover is not an attempt.
        assert_eq!(send_request(&proxy_mode, &server.url).await.unwrap(), "{}", "{failing_url}");

        assert_eq!(server.requests().len(), 1, "{failing_url}");
        assert_eq!(failure_counts(&health), [1, 0], "{failing_url}");
    }
}

#[tokio::test]
async fn with_no_proxy_left_nothing_is_sent() {
    let (server, _) = ok_server().await;
    let (one, other) = (unreachable_url("http").await, unreachable_url("socks5").await);
    let (proxy_mode, health) = proxy_pool(&[&one, &other]);

    for round in 0..3 {
        let failure = send_request(&proxy_mode, &server.url).await.unwrap_err();
        assert_eq!(failure.cause, Cause::Proxy, "{round}: {failure}");
    }

    assert_eq!(server.requests().len(), 0);
    assert_eq!(failure_counts(&health), [2, 2], "dead proxies are not used again");
    let failure = send_request(&proxy_mode, &server.url).await.unwrap_err();
    insta::assert_snapshot!(failure, @"no proxy is available for 127.0.0.1: all proxies of `proxy.pool` are dead for now");
}

#[tokio::test]
async fn server_errors_do_not_blame_the_proxy() {
    let internal_error = HostileServer::always_sending(plain_response("500 Oops", "", "")).await;
    let silent = HostileServer::start(|_, _| vec![ConnectionAction::StopResponding]).await;
    let reset = HostileServer::start(|_, _| vec![ConnectionAction::Reset]).await;
    let junk = HostileServer::always_sending("junk").await;
    for (server, cause) in [
        (internal_error, Cause::Server),
        (silent, Cause::Timeout),
        (reset, Cause::Connection),
        (junk, Cause::Connection),
    ] {
        let proxy = FakeProxy::socks(ProxyBehaviour::Forward(address(&server.url))).await;
        let (proxy_mode, health) = proxy_pool(&[&proxy.url]);

        let failure = send_request(&proxy_mode, &server.url).await.unwrap_err();

        assert_eq!((failure.cause, failure_counts(&health)), (cause, vec![0]), "{failure}");
    }
    let refused = FakeProxy::socks(ProxyBehaviour::Respond(&[5])).await;
    let (proxy_mode, health) = proxy_pool(&[&refused.url]);
    let failure = send_request(&proxy_mode, &UNRESOLVABLE_URL.parse().unwrap()).await.unwrap_err();
    assert_eq!((failure.cause, failure_counts(&health)), (Cause::Connection, vec![0]), "{failure}");
}

#[tokio::test]
async fn an_unreachable_host_blames_a_proxy_if_another_reaches_it() {
    let url: Url = "https://mail.invalid/".parse().unwrap();
    let bad_gateway =
        FakeProxy::http(ProxyBehaviour::Respond(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")).await;
    let unreachable = FakeProxy::socks(ProxyBehaviour::Respond(&[4])).await;
    let (proxy_mode, health) = proxy_pool(&[&bad_gateway.url, &unreachable.url]);

    for _ in 0..3 {
        assert_eq!(send_request(&proxy_mode, &url).await.unwrap_err().cause, Cause::Proxy);
    }
    assert_eq!(failure_counts(&health), [0, 0], "the server may be down");

    let plain_url: Url = UNRESOLVABLE_URL.parse().unwrap();
    let (_server, address) = ok_server().await;
    let working = FakeProxy::socks(ProxyBehaviour::Forward(address)).await;
    let (proxy_mode, health) = proxy_pool(&[&unreachable.url, &working.url]);
    assert_eq!(send_request(&proxy_mode, &plain_url).await.unwrap(), "{}");
    assert_eq!(failure_counts(&health), [1, 0]);
}

#[tokio::test]
async fn handshake_failures_after_connect_blame_the_server() {
    let server = HostileServer::sending_before_request(b"HTTP/1.1 400 Plain\r\n\r\n").await;
    let proxy = FakeProxy::http(ProxyBehaviour::Forward(address(&server.url))).await;
    let (proxy_mode, health) = proxy_pool(&[&proxy.url]);

    let failure =
        send_request(&proxy_mode, &"https://mail.invalid/".parse().unwrap()).await.unwrap_err();

    assert_eq!((failure.cause, failure_counts(&health)), (Cause::Tls, vec![0]), "{failure}");
    assert!(proxy.requests()[0].starts_with("CONNECT mail.invalid:443 "), "{:?}", proxy.requests());
}

#[tokio::test]
async fn proxy_credentials_are_sent_to_the_proxy_only() {
    let (server, address) = ok_server().await;
    let proxy = FakeProxy::http(ProxyBehaviour::Forward(address)).await;
    let (proxy_mode, _) = proxy_pool(&[&proxy.url]);
    let ProxyMode::Pool { health, .. } = proxy_mode else { panic!("a pool") };
    let login = Some(("me".to_owned(), "s3cret".into()));
    let proxies = vec![Proxy { url: proxy.url.clone(), login }];

    send_request(&ProxyMode::Pool { proxies, health }, &server.url).await.unwrap();

    // `me:s3cret` as Basic sends it.
    let head = proxy.requests()[0].to_ascii_lowercase();
    assert!(head.contains("proxy-authorization: basic bwu6cznjcmv0"), "{head}");
}

#[tokio::test]
async fn discovery_listing_and_download_use_the_proxy() {
    let served = FakeMailbox::with_emails(3).serve().await;
    let proxy = FakeProxy::http(ProxyBehaviour::Forward(address(&served.server.url))).await;
    let (proxy_mode, _) = proxy_pool(&[&proxy.url]);
    let mut options = served.options();
    options.http.proxy_mode = proxy_mode;
    options.http.limits.retry_policy = request_retries(3);
    let source = served.source_with(options);

    let page = source.list_page(&Listing::Full, None).await.unwrap();
    let ListedDocument { document, blob, size, .. } = page.entries[0].clone();
    let document_ref = DocumentRef {
        document,
        blob,
        size,
        locations: Vec::new(),
        content: None,
        strikes: ThrottleStrikes::default(),
        is_suspect: false,
    };
    source.fetch(&document_ref, &mut MemorySink::default()).await.unwrap();

    assert_eq!(page.entries.len(), 3);
    let requests = served.server.requests();
    let paths: Vec<&str> =
        requests.iter().map(crate::hostile_server::ReceivedRequest::path).collect();
    let prefixes = ["/.well-known/jmap", "/jmap/session", "/jmap/", "/get/alice/BM0/message.eml"];
    for prefix in prefixes {
        assert!(paths.iter().any(|path| path.starts_with(prefix)), "{prefix}: {paths:?}");
    }
    assert_eq!(requests.len(), proxy.requests().len());
    assert!(requests.iter().all(|request| request.head.contains(VIA_HEADER)), "{requests:#?}");
}
