//! Where requests come in: an address of the configuration, or sockets that systemd hands over.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;

/// Sockets on which requests are taken.
#[derive(Debug)]
pub struct Listening {
    pub(super) listeners: Vec<TcpListener>,
}

/// Why nobody can ask.
#[derive(Debug)]
pub enum NotListening {
    /// The address cannot be listened on.
    Address { address: SocketAddr, error: io::Error },
    /// What systemd handed over is no TCP socket.
    Inherited { error: io::Error },
    /// Other machines could ask, and nothing says who may.
    Open { address: SocketAddr },
}

/// Whether whoever asks must know a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Guarded {
    ByToken,
    No,
}

impl Listening {
    /// Listens on an address.
    ///
    /// # Errors
    /// [`NotListening`].
    pub fn on(address: SocketAddr, guarded: Guarded) -> Result<Self, NotListening> {
        let listener =
            TcpListener::bind(address).map_err(|error| NotListening::Address { address, error })?;
        Self::checked(vec![listener], guarded)
    }

    /// Takes over the sockets that systemd opened (sd_listen_fds(3)); `None` where there are none.
    /// A second call finds none: they are taken once.
    ///
    /// # Errors
    /// [`NotListening`].
    pub fn inherited(guarded: Guarded) -> Result<Option<Self>, NotListening> {
        let mut handed = ListenFd::from_env();
        let mut listeners = Vec::new();
        for at in 0..handed.len() {
            let listener = handed.take_tcp_listener(at);
            let listener = listener.map_err(|error| NotListening::Inherited { error })?;
            listeners.extend(listener);
        }
        if listeners.is_empty() {
            return Ok(None);
        }
        Self::checked(listeners, guarded).map(Some)
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    fn checked(listeners: Vec<TcpListener>, guarded: Guarded) -> Result<Self, NotListening> {
        let listening = Self { listeners };
        for listener in &listening.listeners {
            let prepared = listener.set_nonblocking(true).and_then(|()| listener.local_addr());
            let address = prepared.map_err(|error| NotListening::Inherited { error })?;
            if guarded == Guarded::No && !address.ip().is_loopback() {
                return Err(NotListening::Open { address });
            }
        }
        Ok(listening)
    }
}

impl fmt::Display for NotListening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { address, error } => write!(
                f,
                "cannot listen on {address} ({error}); see what else does with `ss -ltnp`, or set endpoint.listen"
            ),
            Self::Inherited { error } => write!(
                f,
                "systemd handed over a socket that cannot be used ({error}); ListenStream= must be an address and a port"
            ),
            Self::Open { address } => write!(
                f,
                "{address} lets other machines ask, so they must know a token: set endpoint.token"
            ),
        }
    }
}

impl std::error::Error for NotListening {}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn other_machines_may_ask_only_with_a_token() {
        for open in ["0.0.0.0:0", "[::]:0"] {
            let refused = Listening::on(address(open), Guarded::No).unwrap_err();
            assert!(refused.to_string().contains("set endpoint.token"), "{refused}");
        }
        Listening::on(address("0.0.0.0:0"), Guarded::ByToken).unwrap();
        Listening::on(address("127.0.0.1:0"), Guarded::No).unwrap();
    }

    #[test]
    fn an_address_that_is_taken_is_named() {
        let first = Listening::on(address("127.0.0.1:0"), Guarded::No).unwrap();
        let taken = first.addresses()[0];

        let refused = Listening::on(taken, Guarded::No).unwrap_err();

        assert!(refused.to_string().starts_with(&format!("cannot listen on {taken}")), "{refused}");
    }
}
