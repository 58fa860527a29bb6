//! Builds the clients of a source and classifies their errors.

use cynosure_engine::{Cause, Failure};
use secrecy::ExposeSecret as _;
use url::Origin;

use crate::http_client::{TransportErrorKind, client_builder_for, error_chain, root_cause};
use crate::source::http::options::RequestLimits;
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

/// Builds a client. A configured proxy is always used, regardless of the environment and of the
/// server's location.
pub(super) fn build_client(
    limits: &RequestLimits,
    allowed_origins: &[Origin],
    proxy: Option<&Proxy>,
) -> Result<reqwest::Client, Failure> {
    let mut builder = client_builder_for(allowed_origins).connect_timeout(limits.connect_timeout);
    if let Some(proxy) = proxy {
        // Clears all proxies, also those from the environment.
        builder = builder.no_proxy().proxy(to_reqwest_proxy(proxy)?);
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
    // With a pool, every connection is one to a proxy. TLS is spoken with the server behind it, and
    // a timeout may also be caused by that server.
    let kind = TransportErrorKind::of(error);
    let is_tls = matches!(kind, TransportErrorKind::TlsFailure | TransportErrorKind::TlsAborted);
    if is_tls || !error.is_connect() {
        return None;
    }
    Some(if kind == TransportErrorKind::Timeout {
        (FaultCertainty::Possible, ProxyFailure::NoRoute)
    } else {
        (FaultCertainty::Certain, ProxyFailure::Unreachable)
    })
}

/// Returns the cause of a transport error, with a message without URL or secret.
pub(super) fn to_failure(error: &reqwest::Error, host: &str) -> Failure {
    let kind = TransportErrorKind::of(error);
    if kind == TransportErrorKind::InvalidRequest {
        // Credential and URL are validated before, so the error is in our own code.
        let message = format!("the request to {host} cannot be built: {}", root_cause(error));
        return Failure::new(Cause::Unknown, message);
    }
    let (cause, problem) = kind.to_cause_and_problem();
    Failure::new(cause, format!("{problem} {host}: {}", root_cause(error)))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::http_client::client_builder;

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
        let client = client_builder()
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
