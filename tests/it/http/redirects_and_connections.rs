//! Redirects, and connections that fail.

use std::net::TcpListener;
use std::sync::Arc;

use cynosure::source::http::{Authorization, ExpectedContent, HttpRequest, RequestBody};
use cynosure_engine::Cause;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection};
use url::Url;

use super::{SECRET, authorization, client, get, limits};
use crate::hostile_server::{ConnectionAction, HostileServer, ReceivedRequest, plain_response};

#[tokio::test]
async fn a_redirect_within_the_origin_is_followed_with_the_credential() {
    let server = HostileServer::start(|_, request: &ReceivedRequest| {
        vec![ConnectionAction::Send(if request.path().starts_with("/found") {
            plain_response("200 OK", "", "{}")
        } else {
            plain_response("307 There", "Location: /found\r\n", "")
        })]
    })
    .await;

    assert_eq!(get(&server.url, limits()).await.unwrap(), "{}");
    let head = &server.requests()[1].head.to_ascii_lowercase();
    assert!(head.contains(&format!("authorization: bearer {SECRET}")));
    assert!(!head.contains("referer") && !head.contains("cookie"), "{head}");
    assert!(head.contains("accept-encoding: identity"));
}

#[tokio::test]
async fn a_cross_origin_redirect_is_not_followed() {
    let other = HostileServer::always_sending(plain_response("200 OK", "", "{}")).await;
    let port = other.url.port().unwrap();
    for location in [
        other.url.as_str(),
        "https://127.0.0.1/",
        "file:///etc/passwd",
        &format!("//127.0.0.1:{port}/"),
        "http://127.0.0.1:1/",
        "http://169.254.169.254/latest",
        "http://2130706433:1/",
    ] {
        let server = HostileServer::always_sending(plain_response(
            "302 Found",
            &format!("Location: {location}\r\n"),
            "",
        ))
        .await;
        let failure = get(&server.url, limits()).await.unwrap_err();
        assert_eq!(failure.cause, Cause::Challenge, "{location}");
        assert!(failure.message.contains("allow_hosts"), "{failure}");
    }
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn redirect_loops_end() {
    for location in [
        "Location: /again\r\n",
        "",
        "Location: http://[\r\n",
        "Location: http://u:p@127.0.0.1/\r\n",
    ] {
        let server = HostileServer::always_sending(plain_response("301 Moved", location, "")).await;
        assert_eq!(get(&server.url, limits()).await.unwrap_err().cause, Cause::Challenge);
        assert!(server.requests().len() <= 6);
    }
}

#[tokio::test]
async fn a_post_is_never_redirected() {
    let server =
        HostileServer::always_sending(plain_response("307 There", "Location: /found\r\n", ""))
            .await;
    let authorization = authorization();
    let request = HttpRequest {
        body: RequestBody::Json("{}".into()),
        ..HttpRequest::get(&server.url, ExpectedContent::Json, &authorization)
    };

    let error = client(limits(), &server.url).fetch_buffered(&request).await.unwrap_err();

    assert_eq!(error.failure.cause, Cause::Challenge);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn endless_headers_break_the_connection() {
    let actions = vec![
        ConnectionAction::Send(b"HTTP/1.1 200 OK\r\n".to_vec()),
        ConnectionAction::SendRepeatedly(b"X-Y: zzzzzzzz\r\n".to_vec()),
    ];
    let server = HostileServer::start(move |_, _| actions.clone()).await;

    assert_eq!(get(&server.url, limits()).await.unwrap_err().cause, Cause::Connection);
}

#[tokio::test]
async fn connection_failures_are_distinguished() {
    let closed = HostileServer::start(|_, _| vec![ConnectionAction::Close]).await;
    assert_eq!(get(&closed.url, limits()).await.unwrap_err().cause, Cause::Connection);
    let reset = HostileServer::start(|_, _| vec![ConnectionAction::Reset]).await;
    assert_eq!(get(&reset.url, limits()).await.unwrap_err().cause, Cause::Connection);
    for not_tls in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b""] {
        let server = HostileServer::sending_before_request(not_tls).await;
        assert_eq!(get(&server.url, limits()).await.unwrap_err().cause, Cause::Tls);
    }
    let closed_port = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap()
    };
    let refused = get(&closed_port, limits()).await.unwrap_err();
    assert_eq!(refused.cause, Cause::Connection);
    assert!(refused.message.starts_with("nothing listens at 127.0.0.1"), "{refused}");
    let unresolvable = Url::parse("http://nowhere.invalid/").unwrap();
    let unknown = get(&unresolvable, limits()).await.unwrap_err();
    assert_eq!(unknown.cause, Cause::LocalNetwork);
    assert!(unknown.message.starts_with("cannot resolve the name nowhere.invalid"), "{unknown}");
}

/// Starts a server that accepts one TLS connection with a self-signed certificate.
fn self_signed_server() -> Url {
    let certificate =
        CertificateDer::from(&include_bytes!("../../fixtures/self-signed.crt.der")[..]);
    let key = PrivatePkcs8KeyDer::from(&include_bytes!("../../fixtures/self-signed.key.der")[..]);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap()).parse().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut connection = ServerConnection::new(Arc::new(config)).unwrap();
        let handshake = connection.complete_io(&mut stream);
        assert!(handshake.is_err(), "the client accepted the certificate");
    });
    url
}

#[tokio::test]
async fn an_untrusted_certificate_ends_the_connection() {
    let failure = get(&self_signed_server(), limits()).await.unwrap_err();

    assert_eq!(failure.cause, Cause::Tls);
    assert!(failure.message.contains("certificate"), "{failure}");
}

#[tokio::test]
async fn an_invalid_header_credential_is_not_sent() {
    let server = HostileServer::always_sending(plain_response("200 OK", "", "{}")).await;
    let authorization = Authorization::Bearer { token: "s3cret\r\nX-Other: 1".into() };
    let request = HttpRequest::get(&server.url, ExpectedContent::Json, &authorization);

    let error = client(limits(), &server.url).fetch_buffered(&request).await.unwrap_err();

    assert_eq!(error.failure.cause, Cause::Unauthorized);
    assert!(!error.failure.message.contains("s3cret"), "{}", error.failure);
    assert!(server.requests().is_empty());
}
