//! Tunnels through proxies that play a script.

use std::time::Duration;

use cynosure_engine::ProxyPolicy;
use secrecy::SecretString;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use url::Url;

use super::*;
use crate::source::imap::connect::test_server::ScriptStep::{
    Expect, ExpectBytes, Say, SayBytes, UntilClosed,
};
use crate::source::imap::connect::test_server::{
    ScriptServer, ScriptStep, plain_options, run_locally,
};

const CONNECT_LINE: ScriptStep = Expect("CONNECT imap.example.com:993 HTTP/1.1");
const HOST_LINE: ScriptStep = Expect("Host: imap.example.com:993");

/// Request for a tunnel: version, command, reserved, kind of address, length of the name, name,
/// port 993.
const SOCKS_REQUEST: ScriptStep = ExpectBytes(b"\x05\x01\x00\x03\x10imap.example.com\x03\xe1");

fn proxy(url: &str) -> Proxy {
    Proxy { url: Url::parse(url).unwrap(), login: None }
}

fn with_login(url: &str) -> Proxy {
    let login = Some(("me".to_owned(), SecretString::from("s3cret")));
    Proxy { login, ..proxy(url) }
}

/// Opens a tunnel. Returns the result, and the number of failures of each proxy.
async fn connect_to_server(proxies: &[Proxy]) -> (Result<TcpStream, Failure>, Vec<u64>) {
    let policy = ProxyPolicy {
        failure_threshold: 2,
        cooldown: Duration::from_secs(60),
        max_cooldown: Duration::from_secs(60),
    };
    let urls: Vec<Url> = proxies.iter().map(|proxy| proxy.url.clone()).collect();
    let health = ProxyPoolHealth::new(policy, &urls);
    let options = ImapOptions { host: "imap.example.com".to_owned(), ..plain_options(993) };
    let result = connect_through_pool(&options, proxies, &health).await;
    let failures = health.snapshot().into_iter().map(|(_, proxy)| proxy.total_failures);
    (result, failures.collect())
}

/// Opens a tunnel through one proxy that plays the script.
async fn connect_through_one(
    scheme: &str,
    has_login: bool,
    script: &[ScriptStep],
) -> (Result<TcpStream, Failure>, Vec<u64>) {
    let server = ScriptServer::start(vec![script.to_vec()]).await;
    let url = format!("{scheme}://127.0.0.1:{}", server.port);
    let outcome =
        connect_to_server(&[if has_login { with_login(&url) } else { proxy(&url) }]).await;
    server.finish().await;
    outcome
}

async fn read_to_end(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn an_http_tunnel_leaves_the_bytes_of_the_server() {
    run_locally(async {
        let (result, failures) = connect_through_one(
            "http",
            true,
            &[
                CONNECT_LINE,
                HOST_LINE,
                Expect("Proxy-Authorization: Basic bWU6czNjcmV0"),
                Expect(""),
                Say("HTTP/1.1 200 Connection established\nVia: proxy\n\n* OK ready"),
            ],
        )
        .await;

        assert_eq!(read_to_end(result.unwrap()).await, "* OK ready\r\n");
        assert_eq!(failures, [0]);
    })
    .await;
}

#[tokio::test]
async fn a_socks_tunnel_leaves_the_bytes_of_the_server() {
    run_locally(async {
        let accepted = SayBytes(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x12\x34* OK ready");
        for (has_login, handshake) in [
            (false, &[ExpectBytes(b"\x05\x01\x00"), SayBytes(b"\x05\x00")][..]),
            (
                true,
                &[
                    ExpectBytes(b"\x05\x02\x00\x02"),
                    SayBytes(b"\x05\x02"),
                    ExpectBytes(b"\x01\x02me\x06s3cret"),
                    SayBytes(b"\x01\x00"),
                ],
            ),
        ] {
            let script = [handshake, &[SOCKS_REQUEST, accepted]].concat();

            let (result, failures) = connect_through_one("socks5", has_login, &script).await;

            assert_eq!(read_to_end(result.unwrap()).await, "* OK ready");
            assert_eq!(failures, [0]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_failed_tunnel_names_the_reason() {
    run_locally(async {
        let http_head = [CONNECT_LINE, HOST_LINE, Expect("")];
        let socks_head = [ExpectBytes(b"\x05\x01\x00"), SayBytes(b"\x05\x00"), SOCKS_REQUEST];
        for (scheme, head, reply, expected, failures) in [
            ("http", &http_head[..], Say("HTTP/1.1 407 No\n"), "the proxy requires a login", 1),
            ("http", &http_head, Say("HTTP/1.1 502 Bad\n"), "imap.example.com:993: status 502", 0),
            ("http", &http_head, Say("SSH-2.0\n"), "the proxy does not speak HTTP", 1),
            ("socks5", &socks_head, SayBytes(b"\x05\x02\0\x01\0\0\0\0\0\0"), "do not allow", 1),
            ("socks5", &socks_head, SayBytes(b"\x05\x04\0\x01\0\0\0\0\0\0"), "unreachable", 0),
            ("socks5", &socks_head, SayBytes(b"HTTP/1.1 400"), "does not speak SOCKS", 1),
        ] {
            let script = [head, &[reply]].concat();

            let (result, counted) = connect_through_one(scheme, false, &script).await;

            let failure = result.unwrap_err();
            assert_eq!(failure.cause, Cause::Proxy);
            assert!(failure.message.contains(expected), "{failure}");
            assert!(failure.message.ends_with("is the only proxy left"), "{failure}");
            assert_eq!(counted, [failures], "{failure}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_login_that_a_proxy_requires_is_named() {
    run_locally(async {
        for (has_login, script) in [
            (false, &[ExpectBytes(b"\x05\x01\x00"), SayBytes(b"\x05\xff")][..]),
            (
                true,
                &[
                    ExpectBytes(b"\x05\x02\x00\x02"),
                    SayBytes(b"\x05\x02"),
                    ExpectBytes(b"\x01\x02me\x06s3cret"),
                    SayBytes(b"\x01\x01"),
                ],
            ),
        ] {
            let (result, failures) = connect_through_one("socks5", has_login, script).await;

            let failure = result.unwrap_err();
            assert!(failure.message.starts_with("the proxy requires a login"), "{failure}");
            assert_eq!(failures, [1]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_refuses_is_not_blamed_on_the_proxy() {
    run_locally(async {
        let refused = SayBytes(b"\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00");
        let script = [ExpectBytes(b"\x05\x01\x00"), SayBytes(b"\x05\x00"), SOCKS_REQUEST, refused];

        let (result, failures) = connect_through_one("socks5", false, &script).await;

        let failure = result.unwrap_err();
        assert_eq!(failure.cause, Cause::Connection);
        assert_eq!(failure.message, "nothing listens at imap.example.com:993, says the proxy");
        assert_eq!(failures, [0]);
    })
    .await;
}

#[tokio::test]
async fn the_next_proxy_is_tried_and_the_first_ones_blamed() {
    run_locally(async {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let head = [CONNECT_LINE, HOST_LINE, Expect("")];
        let failing = [&head[..], &[Say("HTTP/1.1 502 Bad\n")]].concat();
        let working = [&head[..], &[Say("HTTP/1.1 200 Good\n"), UntilClosed]].concat();
        let (failing, working) =
            (ScriptServer::start(vec![failing]).await, ScriptServer::start(vec![working]).await);
        let proxies = [
            proxy(&format!("http://{closed}")),
            proxy(&format!("http://127.0.0.1:{}", failing.port)),
            proxy(&format!("http://127.0.0.1:{}", working.port)),
        ];

        let (result, failures) = connect_to_server(&proxies).await;

        drop(result.unwrap());
        assert_eq!(failures, [1, 1, 0]);
        failing.finish().await;
        working.finish().await;
    })
    .await;
}
