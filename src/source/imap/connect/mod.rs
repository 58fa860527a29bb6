//! Connections to a server: TCP, directly or through a proxy, and TLS.

mod stream;
mod tcp;
#[cfg(test)]
pub(super) mod test_server;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use cynosure_engine::{Cause, Failure, format_duration};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

pub(super) use self::stream::ImapStream;
pub(super) use self::tcp::{open_tcp, transport_failure};
use crate::http_client::is_response_without_tls;
use crate::source::http::ProxyMode;
use crate::source::imap::options::{ImapOptions, Security};
use crate::source::imap::proxy_tunnel::connect_through_pool;

/// Provider of the TLS configuration. It is called when TLS is needed, because reading the
/// certificates of the system takes longer than a login.
pub(super) type TlsConfigProvider = fn() -> Result<Arc<ClientConfig>, String>;

/// Connects to the server. The connection is encrypted if `security` asks for TLS from the start.
///
/// # Errors
/// Returns the failure of the network, of a proxy or of TLS.
pub(super) async fn connect(
    options: &ImapOptions,
    tls_config: TlsConfigProvider,
) -> Result<ImapStream, Failure> {
    let tcp = match &options.network.proxy_mode {
        ProxyMode::Direct => {
            open_tcp(&options.host, options.port, options.limits.connect_timeout).await?
        }
        ProxyMode::Pool { proxies, health } => {
            connect_through_pool(options, proxies, health).await?
        }
    };
    match options.security {
        Security::Tls => start_tls(tcp, options, tls_config).await,
        Security::StartTls | Security::Plain => Ok(ImapStream::plain(tcp)),
    }
}

/// Encrypts a connection.
///
/// # Errors
/// Returns [`Cause::Tls`] if the handshake fails or the certificate is not trusted.
pub(super) async fn start_tls(
    tcp: TcpStream,
    options: &ImapOptions,
    tls_config: TlsConfigProvider,
) -> Result<ImapStream, Failure> {
    let config = tls_config().map_err(|reason| {
        Failure::new(Cause::Tls, format!("cannot set up TLS on this host: {reason}"))
    })?;
    let name = ServerName::try_from(options.host.clone()).map_err(|_invalid| {
        let message = format!("no certificate can be issued for {}: check `host`", options.host);
        Failure::new(Cause::Tls, message)
    })?;
    let handshake = TlsConnector::from(config).connect(name, tcp);
    let max_wait = options.limits.connect_timeout;
    match timeout(max_wait, handshake).await {
        Ok(Ok(stream)) => Ok(ImapStream::tls(stream)),
        Ok(Err(error)) => Err(handshake_failure(&error, options)),
        Err(_elapsed) => {
            let (address, wait) = (options.address(), format_duration(max_wait));
            let message = format!(
                "{address} does not answer the TLS handshake for {wait}: check `port` and \
                 `security`"
            );
            Err(Failure::new(Cause::Timeout, message))
        }
    }
}

fn handshake_failure(error: &io::Error, options: &ImapOptions) -> Failure {
    let address = options.address();
    let is_first = options.security == Security::Tls;
    if is_first && is_response_without_tls(error) {
        let message = format!(
            "{address} does not speak TLS from the start: set security = \"starttls\", or the \
             `port` for TLS, usually 993"
        );
        return Failure::new(Cause::Tls, message);
    }
    if error.kind() == io::ErrorKind::UnexpectedEof {
        let message = format!("the TLS handshake was aborted by {address}: {error}");
        return Failure::new(Cause::Tls, message);
    }
    transport_failure(error, &address)
}
