//! Free ports for servers that cannot choose them themselves.

use std::iter;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

/// Ports below those that Linux gives to connections and listeners without a port of their own
/// (`net.ipv4.ip_local_port_range`), which could otherwise take one before the server listens.
const PORTS: Range<u16> = 20_000..32_000;

/// Returns two ports on which nothing listens at the moment.
pub(crate) fn free_ports() -> [u16; 2] {
    // Both listeners exist at once, so the ports differ.
    [free_port(), free_port()].map(|(port, _)| port)
}

/// Returns a free port, and the listener that holds it.
fn free_port() -> (u16, TcpListener) {
    let bind = |port| Some((port, TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?));
    let mut ports = iter::repeat_with(|| fastrand::u16(PORTS));
    ports.find_map(bind).expect("loopback has free ports")
}
