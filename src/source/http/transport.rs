//! Builds the underlying `reqwest` client and classifies its errors. No other module inspects them.

use std::error::Error;
use std::io;
use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use secrecy::ExposeSecret as _;
use url::Origin;

use crate::engine::{Cause, Failure, is_loopback_host};
use crate::source::http::RequestLimits;
use crate::source::http::proxies::Proxy;

/// Prefixes of proxy errors, whose types are not public in hyper-util.
const TUNNEL_ERROR_PREFIX: &str = "tunnel error";
const SOCKS_ERROR_PREFIX: &str = "SOCKS error";

/// Message for a proxy that rejects the login.
pub(super) const PROXY_AUTH_REQUIRED: &str =
    "the proxy requires a login, or refused it (407): check its entry in `proxy.pool`";

/// Default port of SOCKS proxies (RFC 1928 §3).
const SOCKS_DEFAULT_PORT: u16 = 1080;

/// Certainty that the proxy, and not the server, is at fault for a failed request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FaultCertainty {
    Certain,
    /// The server may be down. Only success through another proxy can tell.
    Possible,
}

/// Builds the client without its automatic features: redirects, Referer, decompression and cookies.
///
/// A configured proxy is always used, regardless of the environment and of the server's location.
pub(super) fn build_client(
    limits: &RequestLimits,
    allowed_origins: &[Origin],
    proxy: Option<&Proxy>,
) -> Result<reqwest::Client, Failure> {
    // Fails if a provider is already installed, which is fine.
    let _installed = rustls::crypto::ring::default_provider().install_default();

    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("cynosure/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .referer(false)
        .connect_timeout(limits.connect_timeout)
        .dns_resolver(SystemResolver);
    if allowed_origins.iter().all(is_plain_http) {
        // Reading the system's certificates takes longer than a whole demo request.
        builder = builder.tls_certs_only([]);
    }
    if allowed_origins.iter().all(is_loopback) || proxy.is_some() {
        // Clears all proxies, also those from the environment.
        builder = builder.no_proxy();
    }
    if let Some(proxy) = proxy {
        builder = builder.proxy(to_reqwest_proxy(proxy)?);
    }
    builder.build().map_err(|error| {
        let message = format!("cannot set up TLS on this host: {}", root_cause(&error));
        Failure::new(Cause::Tls, message)
    })
}

/// Returns a proxy setting that applies to all requests.
///
/// With `socks5` the client would look up names itself, bypassing the proxy. With `socks5h` and
/// CONNECT the proxy does it.
fn to_reqwest_proxy(proxy: &Proxy) -> Result<reqwest::Proxy, Failure> {
    let url = &proxy.url;
    let (scheme, port) = match url.scheme() {
        "http" => ("http", url.port_or_known_default().unwrap_or(80)),
        _ => ("socks5h", url.port().unwrap_or(SOCKS_DEFAULT_PORT)),
    };
    let address = format!("{scheme}://{}:{port}", url.host_str().unwrap_or_default());
    let setting = reqwest::Proxy::all(&address).map_err(|_unusable| {
        Failure::new(Cause::Proxy, format!("{address} is not the address of a proxy"))
    })?;
    Ok(match &proxy.login {
        Some((username, password)) => setting.basic_auth(username, password.expose_secret()),
        None => setting,
    })
}

/// Returns the proxy's failure if the proxy stopped the request; otherwise the server is at fault.
pub(super) fn proxy_failure(
    error: &reqwest::Error,
    host: &str,
) -> Option<(FaultCertainty, Failure)> {
    let (certainty, kind) = classify_proxy_error(error)?;
    let message = match kind {
        ProxyFailure::AuthRequired => PROXY_AUTH_REQUIRED.to_owned(),
        ProxyFailure::Unreachable => format!("the proxy cannot be reached: {}", root_cause(error)),
        ProxyFailure::NoRoute => {
            format!("the proxy cannot reach {host}: {}", root_cause(error))
        }
    };
    Some((certainty, Failure::new(Cause::Proxy, message)))
}

/// Kind of a proxy's failure.
enum ProxyFailure {
    Unreachable,
    AuthRequired,
    NoRoute,
}

fn classify_proxy_error(error: &reqwest::Error) -> Option<(FaultCertainty, ProxyFailure)> {
    for link in error_chain(error) {
        if link.is::<rustls::Error>() || is_unexpected_eof(link) {
            return None;
        }
        let text = link.to_string();
        if let Some(text) = text.strip_prefix(TUNNEL_ERROR_PREFIX) {
            return Some(match text.trim_start_matches([':', ' ']) {
                // Any status except 200 and 407, such as a 502 for a server that is down.
                "unsuccessful" => (FaultCertainty::Possible, ProxyFailure::NoRoute),
                "proxy authorization required" => {
                    (FaultCertainty::Certain, ProxyFailure::AuthRequired)
                }
                _ => (FaultCertainty::Certain, ProxyFailure::Unreachable),
            });
        }
        if let Some(text) = text.strip_prefix(SOCKS_ERROR_PREFIX) {
            return match text.trim_start_matches([':', ' ']) {
                // The proxy tried the server and reports its result (RFC 1928 §6).
                "connection refused" | "ttl expired" => None,
                "network unreachable" | "host unreachable" | "general server failure" => {
                    Some((FaultCertainty::Possible, ProxyFailure::NoRoute))
                }
                "connection not allowed" => Some((FaultCertainty::Certain, ProxyFailure::NoRoute)),
                "credentials not accepted" | "server does not support user/pass authentication" => {
                    Some((FaultCertainty::Certain, ProxyFailure::AuthRequired))
                }
                _ => Some((FaultCertainty::Certain, ProxyFailure::Unreachable)),
            };
        }
    }
    // With a pool, every connection is one to a proxy. A timeout may also be caused by the server
    // behind it.
    match (error.is_connect(), error.is_timeout()) {
        (true, true) => Some((FaultCertainty::Possible, ProxyFailure::NoRoute)),
        (true, false) => Some((FaultCertainty::Certain, ProxyFailure::Unreachable)),
        (false, _) => None,
    }
}

/// Returns the cause of a transport error, with a message without URL or secret.
pub(super) fn to_failure(error: &reqwest::Error, host: &str) -> Failure {
    if error.is_builder() {
        // Credential and URL are validated before, so the error is in our own code.
        let message = format!("the request to {host} cannot be built: {}", root_cause(error));
        return Failure::new(Cause::Unknown, message);
    }
    let (cause, kind) = classify_error(error);
    Failure::new(cause, format!("{kind} {host}: {}", root_cause(error)))
}

fn classify_error(error: &reqwest::Error) -> (Cause, &'static str) {
    if error.is_timeout() {
        return (Cause::Timeout, "timed out connecting to");
    }
    let classified = error_chain(error).find_map(|link| {
        if link.is::<DnsError>() {
            Some((Cause::LocalNetwork, "cannot resolve the name"))
        } else if link.to_string().starts_with(TUNNEL_ERROR_PREFIX) {
            Some((Cause::Proxy, "the proxy cannot reach"))
        } else if link.is::<rustls::Error>() {
            Some((Cause::Tls, "no secure connection to"))
        } else {
            link.downcast_ref::<io::Error>().and_then(classify_io_error)
        }
    });
    match classified {
        Some(classified) => classified,
        // Before a request is sent, an early end of the connection can only end the handshake.
        None if error.is_connect() && error_chain(error).any(is_unexpected_eof) => {
            (Cause::Tls, "the TLS handshake was aborted by")
        }
        None if error.is_body() || error.is_decode() => {
            (Cause::Truncated, "truncated response from")
        }
        None => (Cause::Connection, "a broken connection to"),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the enum is non-exhaustive, and few kinds matter here"
)]
fn classify_io_error(error: &io::Error) -> Option<(Cause, &'static str)> {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Some((Cause::Connection, "nothing listens at")),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => Some((Cause::Connection, "a broken connection to")),
        io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::AddrNotAvailable => Some((Cause::LocalNetwork, "no route to")),
        io::ErrorKind::TimedOut => Some((Cause::Timeout, "no response in time from")),
        _ => None,
    }
}

fn is_unexpected_eof(error: &(dyn Error + 'static)) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof)
}

/// Returns the error and all its sources. `source` of an I/O error skips the error that it wraps.
fn error_chain<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&link| {
        let wrapped = link.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match wrapped {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => link.source(),
        }
    })
}

/// Returns the innermost message: the outer ones only say that an inner operation failed.
fn root_cause(error: &reqwest::Error) -> String {
    error_chain(error)
        .skip(1)
        .last()
        .map_or_else(|| "no reason given".to_owned(), ToString::to_string)
}

fn is_plain_http(origin: &Origin) -> bool {
    matches!(origin, Origin::Tuple(scheme, ..) if scheme == "http")
}

fn is_loopback(origin: &Origin) -> bool {
    matches!(origin, Origin::Tuple(_, host, _) if is_loopback_host(&host.to_string()))
}

/// DNS resolver of the system with our own error type, which distinguishes a failed lookup from a
/// failed connection.
#[derive(Debug)]
struct SystemResolver;

#[derive(Debug)]
struct DnsError(io::Error);

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await.map_err(DnsError)?;
            let addresses: Vec<SocketAddr> = found.collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

impl std::fmt::Display for DnsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for DnsError {}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Returns the failure of a request through a proxy that sends `response` and closes the
    /// connection.
    async fn failure_through_proxy(response: &'static [u8]) -> Failure {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _length = stream.read(&mut [0; 4096]).await.unwrap();
            stream.write_all(response).await.unwrap();
        });
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .tls_certs_only([])
            .proxy(reqwest::Proxy::all(proxy).unwrap())
            .build()
            .unwrap();
        let error = client.get("https://mail.example.com/").send().await.unwrap_err();
        to_failure(&error, "mail.example.com")
    }

    #[tokio::test]
    async fn a_proxy_error_is_not_blamed_on_the_server() {
        for response in [&b"HTTP/1.1 407 Who\r\n\r\n"[..], b"HTTP/1.1 502 No\r\n\r\n", b""] {
            assert_eq!(failure_through_proxy(response).await.cause, Cause::Proxy);
        }
    }
}
