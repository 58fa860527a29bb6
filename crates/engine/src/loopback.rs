//! Recognition of hosts that are this machine.

use core::net::IpAddr;

/// True if a host of a URL or of a `Host` header is this machine: a loopback address, also in
/// brackets or mapped to IPv6, or a name of RFC 6761 §6.3: `localhost` and all names below it.
#[must_use]
pub fn is_loopback_host(host: &str) -> bool {
    let unbracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if let Ok(address) = unbracketed.unwrap_or(host).parse::<IpAddr>() {
        return address.to_canonical().is_loopback();
    }
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_addresses_and_localhost_names_are_this_machine() {
        for host in [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "localhost",
            "LOCALHOST",
            "localhost.",
            "mail.localhost",
        ] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in [
            "",
            "10.0.0.1",
            "0.0.0.0",
            "[::]",
            "[::ffff:10.0.0.1]",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "notlocalhost",
            ".localhost.evil",
        ] {
            assert!(!is_loopback_host(host), "{host}");
        }
    }
}
