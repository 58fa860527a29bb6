//! TCP proxy in front of a server: it records the address of each client, and forwards no more data
//! than the test allows.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

const BUFFER_BYTES: usize = 16 * 1024;

/// TCP proxy. It runs until the process ends.
#[derive(Clone)]
pub(crate) struct TcpProxy {
    address: SocketAddr,
    state: Arc<TcpProxyState>,
}

#[derive(Default)]
struct TcpProxyState {
    counts: Mutex<ProxyCounts>,
    allowed_changed: Condvar,
}

#[derive(Default)]
struct ProxyCounts {
    /// Bytes that may still be forwarded from the server.
    allowed_bytes: usize,
    traffic: BTreeMap<IpAddr, Traffic>,
}

/// Traffic of one client address.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) connections: u64,
    pub(crate) bytes: usize,
}

impl TcpProxy {
    /// Starts a proxy in front of a server. It forwards no bytes from the server yet.
    pub(crate) fn in_front_of(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
        let address = listener.local_addr().expect("a bound socket has an address");
        let proxy = Self { address, state: Arc::default() };
        let state = Arc::clone(&proxy.state);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&state);
                thread::spawn(move || state.forward_connection(client, server));
            }
        });
        proxy
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Allows `bytes` more bytes from the server.
    pub(crate) fn allow_bytes(&self, bytes: usize) {
        let mut counts = self.state.lock_counts();
        counts.allowed_bytes = counts.allowed_bytes.saturating_add(bytes);
        self.state.allowed_changed.notify_all();
    }

    /// Returns the traffic so far, by client address.
    pub(crate) fn traffic(&self) -> BTreeMap<IpAddr, Traffic> {
        self.state.lock_counts().traffic.clone()
    }

    /// Returns the traffic so far of one client address.
    pub(crate) fn traffic_of(&self, address: Ipv4Addr) -> Traffic {
        self.traffic().get(&IpAddr::from(address)).copied().unwrap_or_default()
    }
}

impl TcpProxyState {
    fn lock_counts(&self) -> MutexGuard<'_, ProxyCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forward_connection(&self, mut client: TcpStream, server: SocketAddr) {
        let (Ok(peer), Ok(mut server)) = (client.peer_addr(), TcpStream::connect(server)) else {
            return;
        };
        // The proxy must not delay small packets itself.
        client.set_nodelay(true).ok();
        server.set_nodelay(true).ok();
        self.lock_counts().traffic.entry(peer.ip()).or_default().connections += 1;
        let (Ok(mut from_client), Ok(mut to_server)) = (client.try_clone(), server.try_clone())
        else {
            return;
        };
        let request_thread = thread::spawn(move || {
            std::io::copy(&mut from_client, &mut to_server).ok();
            to_server.shutdown(Shutdown::Write).ok();
        });
        self.forward_responses(&mut server, &mut client, peer.ip());
        client.shutdown(Shutdown::Both).ok();
        server.shutdown(Shutdown::Both).ok();
        request_thread.join().ok();
    }

    /// Forwards the responses of the server. Waits while too few bytes are allowed.
    fn forward_responses(&self, server: &mut TcpStream, client: &mut TcpStream, peer: IpAddr) {
        let mut buffer = [0; BUFFER_BYTES];
        loop {
            let length = match server.read(&mut buffer) {
                Ok(0) => return,
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            let mut counts = self.lock_counts();
            while counts.allowed_bytes < length {
                counts = self.allowed_changed.wait(counts).unwrap_or_else(PoisonError::into_inner);
            }
            counts.allowed_bytes -= length;
            drop(counts);
            if client.write_all(&buffer[..length]).is_err() {
                return;
            }
            self.lock_counts().traffic.entry(peer).or_default().bytes += length;
        }
    }
}
