//! TCP proxy in front of a server: it forwards connections, never responds, or rejects each one
//! with a fixed response.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// TCP proxy. It runs until the process ends.
#[derive(Clone)]
pub(crate) struct SwitchableProxy {
    address: SocketAddr,
    state: Arc<Mutex<SwitchableProxyState>>,
}

/// Treatment of a connection.
#[derive(Clone, Debug)]
pub(crate) enum ConnectionMode {
    Forward,
    /// Accepted, but never gets a response.
    Silent,
    /// Gets a response with this status line and these headers, each with its line break.
    Reject(String),
}

struct SwitchableProxyState {
    mode: ConnectionMode,
    connections: u64,
    open: Vec<TcpStream>,
}

impl SwitchableProxy {
    pub(crate) fn in_front_of(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = SwitchableProxyState {
            mode: ConnectionMode::Forward,
            connections: 0,
            open: Vec::new(),
        };
        let proxy = Self { address, state: Arc::new(Mutex::new(state)) };
        let shared = proxy.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let mode = shared.accept(&client);
                thread::spawn(move || serve(client, server, &mode));
            }
        });
        proxy
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the mode of all connections from now on, and closes those that are open.
    pub(crate) fn set_mode(&self, mode: ConnectionMode) {
        let mut state = self.lock_state();
        state.mode = mode;
        for open in state.open.drain(..) {
            open.shutdown(Shutdown::Both).ok();
        }
    }

    /// Returns the number of connections so far.
    pub(crate) fn connections(&self) -> u64 {
        self.lock_state().connections
    }

    fn accept(&self, client: &TcpStream) -> ConnectionMode {
        let mut state = self.lock_state();
        state.connections += 1;
        state.open.extend(client.try_clone());
        state.mode.clone()
    }

    fn lock_state(&self) -> MutexGuard<'_, SwitchableProxyState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(mut client: TcpStream, server: SocketAddr, mode: &ConnectionMode) {
    match mode {
        ConnectionMode::Forward => forward_both_ways(client, server),
        // Until the client closes the connection, or `set_mode` does.
        ConnectionMode::Silent => while matches!(client.read(&mut [0; 1024]), Ok(1..)) {},
        ConnectionMode::Reject(head) => {
            if read_request(&client).is_some() {
                write!(client, "{head}Content-Length: 0\r\nConnection: close\r\n\r\n").ok();
            }
        }
    }
}

/// Forwards bytes in both directions until either side ends.
fn forward_both_ways(mut client: TcpStream, server: SocketAddr) {
    let Ok(mut server) = TcpStream::connect(server) else { return };
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let (Ok(mut from_client), Ok(mut to_server)) = (client.try_clone(), server.try_clone()) else {
        return;
    };
    let request_thread = thread::spawn(move || {
        std::io::copy(&mut from_client, &mut to_server).ok();
        to_server.shutdown(Shutdown::Both).ok();
    });
    std::io::copy(&mut server, &mut client).ok();
    client.shutdown(Shutdown::Both).ok();
    server.shutdown(Shutdown::Both).ok();
    request_thread.join().ok();
}

/// Reads one request to its end, because unread bytes would reset the connection, and the response
/// would be lost.
fn read_request(client: &TcpStream) -> Option<()> {
    let mut reader = BufReader::new(client);
    let mut body_bytes = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(length) = line.strip_prefix("content-length:") {
            body_bytes = length.trim().parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
    }
    std::io::copy(&mut reader.take(body_bytes), &mut std::io::sink()).ok()?;
    Some(())
}
