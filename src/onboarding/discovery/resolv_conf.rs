//! Name servers of this machine: `/etc/resolv.conf`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const PATH: &str = "/etc/resolv.conf";

/// Port of the domain name system.
const DNS_PORT: u16 = 53;

/// Name servers that are used, as resolv.conf(5) has it.
const NAME_SERVERS_MAX: usize = 3;

/// Returns the name servers. Without any, it is one on this machine, as resolv.conf(5) has it.
pub(super) fn system_name_servers() -> Vec<SocketAddr> {
    read_name_servers(&fs_err::read_to_string(PATH).unwrap_or_default())
}

/// An address with a scope, such as `fe80::1%eth0`, is left out.
fn read_name_servers(text: &str) -> Vec<SocketAddr> {
    let address = |line: &str| -> Option<SocketAddr> {
        let mut words = line.split_whitespace();
        let is_name_server = words.next() == Some("nameserver");
        let address = words.next()?.parse::<IpAddr>().ok()?;
        is_name_server.then_some(SocketAddr::new(address, DNS_PORT))
    };
    let found: Vec<SocketAddr> = text.lines().filter_map(address).take(NAME_SERVERS_MAX).collect();
    if found.is_empty() { vec![SocketAddr::from((Ipv4Addr::LOCALHOST, DNS_PORT))] } else { found }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<String> {
        read_name_servers(text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_first_three_name_servers_are_read() {
        let text = "# comment\nsearch example.com\nnameserver 192.0.2.1\n; nameserver 192.0.2.9\n\
                    \tnameserver\t2001:db8::1 # here\nnameserver fe80::1%eth0\nnameserver\n\
                    nameserver x\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n";

        assert_eq!(read(text), ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.3:53"]);
    }

    #[test]
    fn without_a_file_this_machine_is_asked() {
        for text in ["", "options edns0\n", "nameserver\n"] {
            assert_eq!(read(text), ["127.0.0.1:53"], "{text:?}");
        }
    }
}
