//! The client with a pool of proxies: by one of them or not at all.

use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use cynosure::engine::{Cause, Failure, ThrottleStrikes};
use cynosure::source::http::{
    ExpectedContent, HttpClient, HttpRequest, Proxy, ProxyMode, Unlimited,
};
use cynosure::source::{DocumentRef, ListedDocument, Listing, MetricsHandle, Source as _};
use url::Url;

use super::{Kept, attempts, limits, pass};
use crate::hostile::{Act, Hostile, plain};
use crate::mailbox::Mailbox;
use crate::outlet::{Manner, Tiny, VIA, blamed, nobody, pool};

const JSON: &str = "Content-Type: application/json\r\n";

/// Whom nobody can look up (RFC 6761 §6.4).
const NOWHERE: &str = "http://mail.invalid/";

async fn ask(egress: &ProxyMode, url: &Url) -> Result<Bytes, Failure> {
    let client = HttpClient::new(
        limits(),
        vec![url.origin()],
        egress,
        Rc::new(Unlimited),
        MetricsHandle::default(),
    )?;
    let ask = HttpRequest {
        url,
        json_body: None,
        expected: ExpectedContent::Json,
        authorization: &pass(),
    };
    client.fetch_buffered(&ask).await.map(|answered| answered.body).map_err(Failure::from)
}

async fn well() -> (Hostile, SocketAddr) {
    let server = Hostile::saying(plain("200 OK", JSON, "{}")).await;
    let address = address(&server.url);
    (server, address)
}

fn address(url: &Url) -> SocketAddr {
    format!("{}:{}", url.host_str().unwrap(), url.port().unwrap()).parse().unwrap()
}

#[tokio::test]
async fn what_is_on_this_machine_is_asked_by_the_proxy_too() {
    let (server, address) = well().await;
    let proxy = Tiny::http(Manner::Leads(address)).await;
    let (egress, _) = pool(&[&proxy.url]);

    assert_eq!(ask(&egress, &server.url).await.unwrap(), "{}");

    assert_eq!(server.asked().len(), 1);
    assert!(server.asked()[0].head.contains(VIA), "{}", server.asked()[0].head);
}

#[tokio::test]
async fn names_are_looked_up_by_the_proxy_alone() {
    let (_server, address) = well().await;
    let (http, socks) =
        (Tiny::http(Manner::Leads(address)).await, Tiny::socks(Manner::Leads(address)).await);
    let url: Url = NOWHERE.parse().unwrap();

    assert_eq!(ask(&pool(&[&http.url]).0, &url).await.unwrap(), "{}");
    assert_eq!(ask(&pool(&[&socks.url]).0, &url).await.unwrap(), "{}");

    assert!(http.asked()[0].starts_with("GET http://mail.invalid/ "), "{:?}", http.asked());
    assert_eq!(socks.asked(), ["mail.invalid:80"]);
    let direct = ask(&ProxyMode::Direct, &url).await.unwrap_err();
    assert_eq!(direct.cause, Cause::LocalNetwork, "nobody else knows it: {direct}");
}

#[tokio::test]
async fn a_request_that_a_proxy_does_not_let_through_goes_by_the_next_at_once() {
    let closed = nobody("http").await;
    let closed_socks = nobody("socks5").await;
    let login = Tiny::http(Manner::Says(b"HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n")).await;
    let ruled_out = Tiny::socks(Manner::Says(&[2])).await;
    for stopping in [&closed, &closed_socks, &login.url, &ruled_out.url] {
        let (server, address) = well().await;
        let proxy = Tiny::http(Manner::Leads(address)).await;
        let (egress, health) = pool(&[stopping, &proxy.url]);

        // The limits allow one attempt: this is no retry of the server.
        assert_eq!(ask(&egress, &server.url).await.unwrap(), "{}", "{stopping}");

        assert_eq!(server.asked().len(), 1, "{stopping}");
        assert_eq!(blamed(&health), [1, 0], "{stopping}");
    }
}

#[tokio::test]
async fn with_no_proxy_left_nothing_is_sent() {
    let (server, _) = well().await;
    let (one, other) = (nobody("http").await, nobody("socks5").await);
    let (egress, health) = pool(&[&one, &other]);

    for round in 0..3 {
        let failure = ask(&egress, &server.url).await.unwrap_err();
        assert_eq!(failure.cause, Cause::Proxy, "{round}: {failure}");
    }

    assert_eq!(server.asked().len(), 0);
    assert_eq!(blamed(&health), [2, 2], "dead ones are not asked again");
    let failure = ask(&egress, &server.url).await.unwrap_err();
    insta::assert_snapshot!(failure, @"no way to 127.0.0.1: all proxies of `proxy.pool` are dead for now");
}

#[tokio::test]
async fn what_the_server_does_wrong_is_not_the_proxys_fault() {
    let oops = Hostile::saying(plain("500 Oops", "", "")).await;
    let silent = Hostile::start(|_, _| vec![Act::Hang]).await;
    let reset = Hostile::start(|_, _| vec![Act::Reset]).await;
    let junk = Hostile::saying("junk").await;
    for (server, cause) in [
        (oops, Cause::Server),
        (silent, Cause::Timeout),
        (reset, Cause::Connection),
        (junk, Cause::Connection),
    ] {
        let proxy = Tiny::socks(Manner::Leads(address(&server.url))).await;
        let (egress, health) = pool(&[&proxy.url]);

        let failure = ask(&egress, &server.url).await.unwrap_err();

        assert_eq!((failure.cause, blamed(&health)), (cause, vec![0]), "{failure}");
    }
    let refused = Tiny::socks(Manner::Says(&[5])).await;
    let (egress, health) = pool(&[&refused.url]);
    let failure = ask(&egress, &NOWHERE.parse().unwrap()).await.unwrap_err();
    assert_eq!((failure.cause, blamed(&health)), (Cause::Connection, vec![0]), "{failure}");
}

#[tokio::test]
async fn one_that_leads_nowhere_is_blamed_only_where_another_leads_there() {
    let url: Url = "https://mail.invalid/".parse().unwrap();
    let bad_gateway = Tiny::http(Manner::Says(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")).await;
    let unreachable = Tiny::socks(Manner::Says(&[4])).await;
    let (egress, health) = pool(&[&bad_gateway.url, &unreachable.url]);

    for _ in 0..3 {
        assert_eq!(ask(&egress, &url).await.unwrap_err().cause, Cause::Proxy);
    }
    assert_eq!(blamed(&health), [0, 0], "perhaps the server is down");

    let plain_url: Url = NOWHERE.parse().unwrap();
    let (_server, address) = well().await;
    let leads = Tiny::socks(Manner::Leads(address)).await;
    let (egress, health) = pool(&[&unreachable.url, &leads.url]);
    assert_eq!(ask(&egress, &plain_url).await.unwrap(), "{}");
    assert_eq!(blamed(&health), [1, 0]);
}

#[tokio::test]
async fn after_the_tunnel_it_is_the_servers_handshake() {
    let server = Hostile::blurting(b"HTTP/1.1 400 Plain\r\n\r\n").await;
    let proxy = Tiny::http(Manner::Leads(address(&server.url))).await;
    let (egress, health) = pool(&[&proxy.url]);

    let failure = ask(&egress, &"https://mail.invalid/".parse().unwrap()).await.unwrap_err();

    assert_eq!((failure.cause, blamed(&health)), (Cause::Tls, vec![0]), "{failure}");
    assert!(proxy.asked()[0].starts_with("CONNECT mail.invalid:443 "), "{:?}", proxy.asked());
}

#[tokio::test]
async fn a_login_is_told_to_its_proxy_and_to_no_server() {
    let (server, address) = well().await;
    let proxy = Tiny::http(Manner::Leads(address)).await;
    let (egress, _) = pool(&[&proxy.url]);
    let ProxyMode::Pool { health, .. } = egress else { panic!("a pool") };
    let login = Some(("me".to_owned(), "s3cret".into()));
    let proxies = vec![Proxy { url: proxy.url.clone(), login }];

    ask(&ProxyMode::Pool { proxies, health }, &server.url).await.unwrap();

    // `me:s3cret` as Basic sends it.
    let head = proxy.asked()[0].to_ascii_lowercase();
    assert!(head.contains("proxy-authorization: basic bwu6cznjcmv0"), "{head}");
}

#[tokio::test]
async fn discovery_listing_and_download_all_go_by_the_proxy() {
    let served = Mailbox::of(3).serve().await;
    let proxy = Tiny::http(Manner::Leads(address(&served.server.url))).await;
    let (egress, _) = pool(&[&proxy.url]);
    let mut options = served.options();
    options.proxy_mode = egress;
    options.request_limits.retry_policy = attempts(3);
    let source = served.source_with(options);

    let page = source.list_page(&Listing::Full, None).await.unwrap();
    let ListedDocument { document, blob, size, .. } = page.entries[0].clone();
    let wanted = DocumentRef {
        document,
        blob,
        size,
        strikes: ThrottleStrikes::default(),
        is_suspect: false,
    };
    source.fetch(&wanted, &mut Kept::default()).await.unwrap();

    assert_eq!(page.entries.len(), 3);
    let asked = served.server.asked();
    let paths: Vec<&str> = asked.iter().map(crate::hostile::Asked::path).collect();
    let wanted = ["/.well-known/jmap", "/jmap/session", "/jmap/", "/get/alice/BM0/message.eml"];
    for wanted in wanted {
        assert!(paths.iter().any(|path| path.starts_with(wanted)), "{wanted}: {paths:?}");
    }
    assert_eq!(asked.len(), proxy.asked().len());
    assert!(asked.iter().all(|asked| asked.head.contains(VIA)), "{asked:#?}");
}
