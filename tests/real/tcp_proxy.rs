//! A door in front of a server: it notes from which address each connection comes, and opens only so far.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

const BUFFER_BYTES: usize = 16 * 1024;

/// The door. It stands as long as the process.
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
    /// What may still pass from the server, in bytes.
    allowed_bytes: usize,
    traffic: BTreeMap<IpAddr, Traffic>,
}

/// What passed to one address.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) connections: u64,
    pub(crate) bytes: usize,
}

impl TcpProxy {
    /// Puts a door, shut, before a server.
    pub(crate) fn in_front_of(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
        let address = listener.local_addr().expect("a bound socket has an address");
        let door = Self { address, state: Arc::default() };
        let inside = Arc::clone(&door.state);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let inside = Arc::clone(&inside);
                thread::spawn(move || inside.forward_connection(client, server));
            }
        });
        door
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets so many bytes more pass from the server.
    pub(crate) fn allow_bytes(&self, bytes: usize) {
        let mut count = self.state.lock_counts();
        count.allowed_bytes = count.allowed_bytes.saturating_add(bytes);
        self.state.allowed_changed.notify_all();
    }

    /// What passed so far, by the address it went to.
    pub(crate) fn traffic(&self) -> BTreeMap<IpAddr, Traffic> {
        self.state.lock_counts().traffic.clone()
    }

    /// What passed so far to one address.
    pub(crate) fn traffic_to(&self, address: Ipv4Addr) -> Traffic {
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
        // A door adds no wait of its own.
        client.set_nodelay(true).ok();
        server.set_nodelay(true).ok();
        self.lock_counts().traffic.entry(peer.ip()).or_default().connections += 1;
        let (Ok(mut asks), Ok(mut asked)) = (client.try_clone(), server.try_clone()) else {
            return;
        };
        let asking = thread::spawn(move || {
            std::io::copy(&mut asks, &mut asked).ok();
            asked.shutdown(Shutdown::Write).ok();
        });
        self.forward_response(&mut server, &mut client, peer.ip());
        client.shutdown(Shutdown::Both).ok();
        server.shutdown(Shutdown::Both).ok();
        asking.join().ok();
    }

    /// Passes what the server answers, as far as the door is open.
    fn forward_response(&self, server: &mut TcpStream, client: &mut TcpStream, peer: IpAddr) {
        let mut buffer = [0; BUFFER_BYTES];
        loop {
            let length = match server.read(&mut buffer) {
                Ok(0) => return,
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            let mut count = self.lock_counts();
            while count.allowed_bytes < length {
                count = self.allowed_changed.wait(count).unwrap_or_else(PoisonError::into_inner);
            }
            count.allowed_bytes -= length;
            drop(count);
            if client.write_all(&buffer[..length]).is_err() {
                return;
            }
            self.lock_counts().traffic.entry(peer).or_default().bytes += length;
        }
    }
}
