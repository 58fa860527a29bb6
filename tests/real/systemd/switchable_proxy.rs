//! A front before a server: it lets connections through, keeps them waiting, or refuses each with one answer.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// The front. It stands as long as the process.
#[derive(Clone)]
pub(crate) struct SwitchableProxy {
    address: SocketAddr,
    state: Arc<Mutex<SwitchableProxyState>>,
}

/// What becomes of a connection.
#[derive(Clone, Debug)]
pub(crate) enum ConnectionMode {
    Forward,
    /// It is accepted, and nothing is ever answered.
    Silent,
    /// It is answered with this status line and these headers, each with its line break.
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
        let inside = SwitchableProxyState {
            mode: ConnectionMode::Forward,
            connections: 0,
            open: Vec::new(),
        };
        let front = Self { address, state: Arc::new(Mutex::new(inside)) };
        let shared = front.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let manner = shared.accept(&client);
                thread::spawn(move || serve(client, server, &manner));
            }
        });
        front
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Treats all connections so from now on; those that are open are cut.
    pub(crate) fn set_mode(&self, manner: ConnectionMode) {
        let mut inside = self.lock_state();
        inside.mode = manner;
        for open in inside.open.drain(..) {
            open.shutdown(Shutdown::Both).ok();
        }
    }

    /// How many connections came so far.
    pub(crate) fn connections(&self) -> u64 {
        self.lock_state().connections
    }

    fn accept(&self, client: &TcpStream) -> ConnectionMode {
        let mut inside = self.lock_state();
        inside.connections += 1;
        inside.open.extend(client.try_clone());
        inside.mode.clone()
    }

    fn lock_state(&self) -> MutexGuard<'_, SwitchableProxyState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(mut client: TcpStream, server: SocketAddr, manner: &ConnectionMode) {
    match manner {
        ConnectionMode::Forward => forward_both_ways(client, server),
        // Until the client goes, or is cut.
        ConnectionMode::Silent => while matches!(client.read(&mut [0; 1024]), Ok(1..)) {},
        ConnectionMode::Reject(answer) => {
            if read_request(&client).is_some() {
                write!(client, "{answer}Content-Length: 0\r\nConnection: close\r\n\r\n").ok();
            }
        }
    }
}

/// Carries bytes both ways until either side ends.
fn forward_both_ways(mut client: TcpStream, server: SocketAddr) {
    let Ok(mut server) = TcpStream::connect(server) else { return };
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let (Ok(mut asks), Ok(mut asked)) = (client.try_clone(), server.try_clone()) else { return };
    let asking = thread::spawn(move || {
        std::io::copy(&mut asks, &mut asked).ok();
        asked.shutdown(Shutdown::Both).ok();
    });
    std::io::copy(&mut server, &mut client).ok();
    client.shutdown(Shutdown::Both).ok();
    server.shutdown(Shutdown::Both).ok();
    asking.join().ok();
}

/// Reads one request to its end, so that the answer is not lost with what is unread.
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
