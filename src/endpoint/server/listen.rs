//! Where requests come in: an address of the configuration, or sockets that systemd hands over.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;

use super::guard::Token;

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
    /// The machine has no thread or no files left.
    Machine { error: io::Error },
}

impl Listening {
    /// Listens on an address.
    ///
    /// # Errors
    /// [`NotListening::Address`].
    pub fn on(address: SocketAddr) -> Result<Self, NotListening> {
        let listener =
            TcpListener::bind(address).map_err(|error| NotListening::Address { address, error })?;
        Ok(Self { listeners: vec![listener] })
    }

    /// Takes over the sockets that systemd opened (sd_listen_fds(3)); `None` where there are none.
    /// A second call finds none: they are taken once.
    ///
    /// # Errors
    /// [`NotListening::Inherited`].
    pub fn inherited() -> Result<Option<Self>, NotListening> {
        let mut handed = ListenFd::from_env();
        let taken = (0..handed.len()).filter_map(|at| handed.take_tcp_listener(at).transpose());
        let listeners: Vec<_> =
            taken.collect::<Result<_, _>>().map_err(|error| NotListening::Inherited { error })?;
        Ok((!listeners.is_empty()).then_some(Self { listeners }))
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// The sockets once more, for a server, unless other machines could ask without a token.
    pub(super) fn shared(&self, token: Option<&Token>) -> Result<Vec<TcpListener>, NotListening> {
        let machine = |error| NotListening::Machine { error };
        let share = |listener: &TcpListener| {
            let address = listener.local_addr().map_err(machine)?;
            if token.is_none() && !address.ip().is_loopback() {
                return Err(NotListening::Open { address });
            }
            listener.set_nonblocking(true).map_err(machine)?;
            listener.try_clone().map_err(machine)
        };
        self.listeners.iter().map(share).collect()
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
            Self::Machine { error } => write!(f, "cannot serve ({error}); it is tried again"),
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
            let listening = Listening::on(address(open)).unwrap();
            let refused = listening.shared(None).unwrap_err();
            assert!(refused.to_string().contains("set endpoint.token"), "{refused}");
            listening.shared(Some(&Token::new("secret"))).unwrap();
        }
        Listening::on(address("127.0.0.1:0")).unwrap().shared(None).unwrap();
    }

    #[test]
    fn an_address_that_is_taken_is_named() {
        let first = Listening::on(address("127.0.0.1:0")).unwrap();
        let taken = first.addresses()[0];

        let refused = Listening::on(taken).unwrap_err();

        assert!(refused.to_string().starts_with(&format!("cannot listen on {taken}")), "{refused}");
    }
}
