//! Where requests come in: an address of the configuration, or sockets that systemd hands over.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;

use super::auth::Token;

/// Sockets on which requests are taken.
#[derive(Debug)]
pub struct Listeners {
    pub(super) listeners: Vec<TcpListener>,
}

/// Why nobody can ask.
#[derive(Debug)]
pub enum BindError {
    /// The address cannot be listened on.
    Unavailable { address: SocketAddr, error: io::Error },
    /// What systemd handed over is no TCP socket.
    InheritedSocket { error: io::Error },
    /// Other machines could ask, and nothing says who may.
    TokenRequired { address: SocketAddr },
    /// The machine has no thread or no files left.
    OutOfResources { error: io::Error },
}

impl Listeners {
    /// Listens on an address.
    ///
    /// # Errors
    /// [`BindError::Address`].
    pub fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let listener = TcpListener::bind(address)
            .map_err(|error| BindError::Unavailable { address, error })?;
        Ok(Self { listeners: vec![listener] })
    }

    /// Takes over the sockets that systemd opened (sd_listen_fds(3)); `None` where there are none.
    /// A second call finds none: they are taken once.
    ///
    /// # Errors
    /// [`BindError::Inherited`].
    pub fn from_systemd() -> Result<Option<Self>, BindError> {
        let mut handed = ListenFd::from_env();
        let taken = (0..handed.len()).filter_map(|at| handed.take_tcp_listener(at).transpose());
        let listeners: Vec<_> = taken
            .collect::<Result<_, _>>()
            .map_err(|error| BindError::InheritedSocket { error })?;
        Ok((!listeners.is_empty()).then_some(Self { listeners }))
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// The sockets once more, for a server, unless other machines could ask without a token.
    pub(super) fn clone_for_server(
        &self,
        token: Option<&Token>,
    ) -> Result<Vec<TcpListener>, BindError> {
        let machine = |error| BindError::OutOfResources { error };
        let share = |listener: &TcpListener| {
            let address = listener.local_addr().map_err(machine)?;
            if token.is_none() && !address.ip().is_loopback() {
                return Err(BindError::TokenRequired { address });
            }
            listener.set_nonblocking(true).map_err(machine)?;
            listener.try_clone().map_err(machine)
        };
        self.listeners.iter().map(share).collect()
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable { address, error } => write!(
                f,
                "cannot listen on {address} ({error}); see what else does with `ss -ltnp`, or set endpoint.listen"
            ),
            Self::InheritedSocket { error } => write!(
                f,
                "systemd handed over a socket that cannot be used ({error}); ListenStream= must be an address and a port"
            ),
            Self::TokenRequired { address } => write!(
                f,
                "{address} lets other machines ask, so they must know a token: set endpoint.token"
            ),
            Self::OutOfResources { error } => {
                write!(f, "cannot serve ({error}); it is tried again")
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
            let listening = Listeners::bind(address(open)).unwrap();
            let refused = listening.clone_for_server(None).unwrap_err();
            assert!(refused.to_string().contains("set endpoint.token"), "{refused}");
            listening.clone_for_server(Some(&Token::new("secret"))).unwrap();
        }
        Listeners::bind(address("127.0.0.1:0")).unwrap().clone_for_server(None).unwrap();
    }

    #[test]
    fn an_address_in_use_is_named() {
        let first = Listeners::bind(address("127.0.0.1:0")).unwrap();
        let taken = first.addresses()[0];

        let refused = Listeners::bind(taken).unwrap_err();

        assert!(refused.to_string().starts_with(&format!("cannot listen on {taken}")), "{refused}");
    }
}
