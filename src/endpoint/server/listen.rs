//! Listening sockets: bound to the configured address, or passed by systemd.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;

use super::auth::Token;

/// Listening sockets of the server.
#[derive(Debug)]
pub struct Listeners {
    pub(super) listeners: Vec<TcpListener>,
}

/// Reason that the server cannot listen.
#[derive(Debug)]
pub enum BindError {
    /// The address cannot be listened on.
    Unavailable { address: SocketAddr, error: io::Error },
    /// A socket passed by systemd is no TCP socket.
    InheritedSocket { error: io::Error },
    /// The address is reachable from other machines, and no token is configured.
    TokenRequired { address: SocketAddr },
    /// No threads or file descriptors are left.
    OutOfResources { error: io::Error },
}

impl Listeners {
    /// Listens on an address.
    ///
    /// # Errors
    /// Returns [`BindError::Unavailable`] if the address cannot be listened on.
    pub fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let listener = TcpListener::bind(address)
            .map_err(|error| BindError::Unavailable { address, error })?;
        Ok(Self { listeners: vec![listener] })
    }

    /// Takes the sockets that systemd opened (sd_listen_fds(3)); `None` if there are none. They can
    /// be taken only once: a second call returns `None`.
    ///
    /// # Errors
    /// Returns [`BindError::InheritedSocket`] if one of them is no TCP socket.
    pub fn from_systemd() -> Result<Option<Self>, BindError> {
        let mut inherited = ListenFd::from_env();
        let taken =
            (0..inherited.len()).filter_map(|index| inherited.take_tcp_listener(index).transpose());
        let listeners: Vec<_> = taken
            .collect::<Result<_, _>>()
            .map_err(|error| BindError::InheritedSocket { error })?;
        Ok((!listeners.is_empty()).then_some(Self { listeners }))
    }

    /// Returns the addresses that it listens on.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Duplicates the sockets for a server. Rejects sockets that other machines can reach if there
    /// is no token.
    pub(super) fn clone_for_server(
        &self,
        token: Option<&Token>,
    ) -> Result<Vec<TcpListener>, BindError> {
        let out_of_resources = |error| BindError::OutOfResources { error };
        let duplicate = |listener: &TcpListener| {
            let address = listener.local_addr().map_err(out_of_resources)?;
            if token.is_none() && !address.ip().is_loopback() {
                return Err(BindError::TokenRequired { address });
            }
            listener.set_nonblocking(true).map_err(out_of_resources)?;
            listener.try_clone().map_err(out_of_resources)
        };
        self.listeners.iter().map(duplicate).collect()
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable { address, error } => write!(
                f,
                "cannot listen on {address} ({error}); find the process that uses it with `ss -ltnp`, or change endpoint.listen"
            ),
            Self::InheritedSocket { error } => write!(
                f,
                "systemd passed a socket that cannot be used ({error}); ListenStream= must be an address and a port"
            ),
            Self::TokenRequired { address } => write!(
                f,
                "{address} is reachable from other machines, which requires a token: set endpoint.token"
            ),
            Self::OutOfResources { error } => {
                write!(f, "cannot serve ({error}); retrying")
            }
        }
    }
}

impl std::error::Error for BindError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn non_loopback_addresses_require_a_token() {
        for open in ["0.0.0.0:0", "[::]:0"] {
            let listeners = Listeners::bind(address(open)).unwrap();
            let error = listeners.clone_for_server(None).unwrap_err();
            assert!(error.to_string().contains("set endpoint.token"), "{error}");
            listeners.clone_for_server(Some(&Token::new("secret"))).unwrap();
        }
        Listeners::bind(address("127.0.0.1:0")).unwrap().clone_for_server(None).unwrap();
    }

    #[test]
    fn an_address_in_use_is_named() {
        let first = Listeners::bind(address("127.0.0.1:0")).unwrap();
        let in_use = first.addresses()[0];

        let error = Listeners::bind(in_use).unwrap_err();

        assert!(error.to_string().starts_with(&format!("cannot listen on {in_use}")), "{error}");
    }
}
