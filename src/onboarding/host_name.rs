//! Names of hosts, from people and from the network.

use url::Host;

/// Longest label of a name, in bytes (RFC 1035, section 2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// Longest name, in bytes (RFC 1035, section 2.3.4).
const NAME_BYTES_MAX: usize = 253;

/// Parses the name of a host. Returns it in lower case and in ASCII, international names as `xn--`,
/// without a dot at the end. `None` for an IP address, or if it is not a name.
pub(super) fn parse_host_name(text: &str) -> Option<String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    // The parser decodes percent-encoded bytes, which a name does not have.
    if text.contains('%') {
        return None;
    }
    match Host::parse(text) {
        Ok(Host::Domain(name)) if has_valid_labels(&name) => Some(name),
        Ok(Host::Domain(_) | Host::Ipv4(_) | Host::Ipv6(_)) | Err(_) => None,
    }
}

/// True if a host is the domain, or below it. Both are in lower case.
pub(super) fn is_in_domain(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|start| start.is_empty() || start.ends_with('.'))
}

fn has_valid_labels(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(is_allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= NAME_BYTES_MAX && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_is_in_lower_case_and_ascii() {
        for (text, expected) in [
            ("Mail.Example.COM", "mail.example.com"),
            ("example.com.", "example.com"),
            ("müller.example", "xn--mller-kva.example"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(parse_host_name(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn anything_but_a_name_is_refused() {
        let too_long = "a".repeat(64) + ".example";
        let too_many = "a.".repeat(130) + "example";
        for text in [
            "",
            ".",
            "..",
            "a..b",
            "127.0.0.1",
            "1.2",
            "[::1]",
            "a b.example",
            "a/b",
            "a\\b",
            "ex%61mple.com",
            "_srv.example",
            "-a.example",
            "a-.example",
            "a:993",
            "a\n.example",
            "\u{202e}.example",
            &too_long,
            &too_many,
        ] {
            assert_eq!(parse_host_name(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_domain_ends_at_a_dot() {
        for (host, expected) in [
            ("example.com", true),
            ("mail.example.com", true),
            ("a.b.example.com", true),
            ("badexample.com", false),
            ("example.com.attacker.example", false),
            ("com", false),
        ] {
            assert_eq!(is_in_domain(host, "example.com"), expected, "{host}");
        }
    }
}
