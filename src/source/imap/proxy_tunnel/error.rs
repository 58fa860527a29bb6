//! Failed tunnels, by the side that is at fault.

use std::io;

use cynosure_engine::Failure;

/// Message for a proxy that rejects the login.
pub(super) const PROXY_AUTH_REQUIRED: &str =
    "the proxy requires a login, or refused it: check its entry in `proxy.pool`";

/// Failed attempt to open a tunnel.
#[derive(Debug)]
pub(super) enum TunnelError {
    /// Certain fault of the proxy.
    ProxyFault(String),
    /// Fault of the proxy or of the server. Only success through another proxy can tell.
    Unclear(String),
    /// Certain fault of the server.
    ServerFault(Failure),
}

impl From<io::Error> for TunnelError {
    /// Converts an error of the connection to the proxy.
    fn from(error: io::Error) -> Self {
        Self::ProxyFault(format!("the proxy broke off the connection: {error}"))
    }
}
