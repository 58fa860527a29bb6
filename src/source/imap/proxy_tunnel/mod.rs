//! Connections through the proxy pool, which is never bypassed.
//!
//! If a proxy does not open a tunnel, the next one is tried at once. This is not a retry, because
//! the server was not reached. Only the proxies look up host names.

mod error;
mod http_connect;
mod socks5;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use cynosure_engine::{Cause, Failure, ProxyIndex, Timestamp, format_duration};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::debug;

use self::error::TunnelError;
use crate::source::http::{Proxy, ProxyPoolHealth};
use crate::source::imap::connect::open_tcp;
use crate::source::imap::options::ImapOptions;

/// Default port of HTTP proxies, as for URLs.
const HTTP_DEFAULT_PORT: u16 = 80;

/// Default port of SOCKS proxies (RFC 1928 §3).
const SOCKS_DEFAULT_PORT: u16 = 1080;

/// Proxy that may not be at fault for its failure.
struct SuspectedProxy {
    index: ProxyIndex,
    sent_at: Timestamp,
    failure: Failure,
}

/// Opens a tunnel to the server through the first proxy that lets it through.
///
/// # Errors
/// [`Cause::Proxy`] if no proxy does; the failure of the server if a proxy reports one.
pub(super) async fn connect_through_pool(
    options: &ImapOptions,
    proxies: &[Proxy],
    health: &ProxyPoolHealth,
) -> Result<TcpStream, Failure> {
    let mut suspected: Vec<SuspectedProxy> = Vec::new();
    let mut tried = BTreeSet::new();
    let mut last_failure = None;
    while let Some((index, sent_at)) = health.choose_proxy(&tried) {
        tried.insert(index);
        let Some(proxy) = proxies.get(index.0) else { break };
        let (failure, is_certain) = match connect_through(options, proxy).await {
            Ok(stream) => {
                health.record_success(index, sent_at);
                // This proxy reached the server, so the suspected ones are at fault.
                for SuspectedProxy { index, sent_at, failure } in &suspected {
                    health.record_failure(*index, *sent_at, failure);
                }
                return Ok(stream);
            }
            Err(TunnelError::ServerFault(failure)) => return Err(failure),
            Err(TunnelError::ProxyFault(message)) => (Failure::new(Cause::Proxy, message), true),
            Err(TunnelError::Unclear(message)) => (Failure::new(Cause::Proxy, message), false),
        };
        debug!(
            proxy = health.proxy_name(index),
            error = %failure,
            "proxy failed, trying the next one"
        );
        last_failure = Some((index, failure.clone()));
        if is_certain {
            health.record_failure(index, sent_at, &failure);
        } else {
            suspected.push(SuspectedProxy { index, sent_at, failure });
        }
    }
    Err(all_proxies_failed(health, options, tried.len(), last_failure))
}

async fn connect_through(options: &ImapOptions, proxy: &Proxy) -> Result<TcpStream, TunnelError> {
    let url = &proxy.url;
    let is_http = url.scheme() == "http";
    let default_port = if is_http { HTTP_DEFAULT_PORT } else { SOCKS_DEFAULT_PORT };
    let port = url.port().unwrap_or(default_port);
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let max_wait = options.limits.connect_timeout;
    let mut stream = open_tcp(host, port, max_wait).await.map_err(|failure| {
        TunnelError::ProxyFault(format!("the proxy cannot be reached: {failure}"))
    })?;
    let (login, address) = (proxy.login.as_ref(), options.address());
    let opened = async {
        if is_http {
            http_connect::open_tunnel(&mut stream, &address, login).await
        } else {
            socks5::open_tunnel(&mut stream, &options.host, options.port, login).await
        }
    };
    match timeout(max_wait, opened).await {
        Ok(result) => result.map(|()| stream),
        Err(_elapsed) => {
            let wait = format_duration(max_wait);
            let message = format!("the proxy opens no tunnel to {address} within {wait}");
            Err(TunnelError::Unclear(message))
        }
    }
}

fn all_proxies_failed(
    health: &ProxyPoolHealth,
    options: &ImapOptions,
    count: usize,
    last_failure: Option<(ProxyIndex, Failure)>,
) -> Failure {
    let Some((index, failure)) = last_failure else {
        let host = &options.host;
        let message = format!(
            "no proxy is available for {host}: all proxies of `proxy.pool` are dead for now"
        );
        return Failure::new(Cause::Proxy, message);
    };
    let name = health.proxy_name(index);
    let message = match count {
        1 => format!("{failure}; {name} is the only proxy left"),
        count => format!("{failure}; {count} proxies failed, the last of them {name}"),
    };
    Failure::new(Cause::Proxy, message)
}
