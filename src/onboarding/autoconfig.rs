//! Automatic configuration of mail programs: the file `config-v1.1.xml` that a domain publishes
//! (<https://www.ietf.org/archive/id/draft-bucksch-autoconfig-02.html>).

use cynosure_engine::is_unsafe_for_terminal;
use roxmltree::{Document, Node, ParsingOptions};
use url::Url;

use super::access::ServerSecurity;
use super::address::MailAddress;
use super::host_name::parse_host_name;

/// Maximum number of nodes of the file. Real ones have about a hundred.
const NODES_MAX: u32 = 10_000;

/// Maximum length of a user name, in bytes. The address itself has 254 at most.
const USERNAME_BYTES_MAX: usize = 254;

/// IMAP server that a domain names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct AutoconfigServer {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) security: ServerSecurity,
    /// `None` if it is the address.
    pub(super) username: Option<String>,
}

/// Returns the URLs at which a domain may have the file, the first one first.
pub(super) fn autoconfig_urls(domain: &str) -> Vec<Url> {
    let texts = [
        format!("https://autoconfig.{domain}/mail/config-v1.1.xml"),
        format!("https://{domain}/.well-known/autoconfig/mail/config-v1.1.xml"),
    ];
    texts.iter().filter_map(|text| Url::parse(text).ok()).collect()
}

/// Reads the first IMAP server with encryption. `None` if there is none, or if the text is not such
/// a file.
pub(super) fn read_autoconfig(text: &str, address: &MailAddress) -> Option<AutoconfigServer> {
    let options = ParsingOptions { nodes_limit: NODES_MAX, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options).ok()?;
    let servers = document.descendants().filter(|node| node.has_tag_name("incomingServer"));
    servers
        .filter(|node| node.attribute("type") == Some("imap"))
        .find_map(|node| read_server(node, address))
}

fn read_server(node: Node<'_, '_>, address: &MailAddress) -> Option<AutoconfigServer> {
    let security = match child_text(node, "socketType")? {
        "SSL" => ServerSecurity::Tls,
        "STARTTLS" => ServerSecurity::StartTls,
        _ => return None,
    };
    let host = parse_host_name(&fill(child_text(node, "hostname")?, address))?;
    let port = child_text(node, "port")?.parse::<u16>().ok().filter(|port| *port != 0)?;
    let username = child_text(node, "username").map(|text| fill(text, address));
    let username = username.filter(|name| is_username(name) && name != address.as_str());
    Some(AutoconfigServer { host, port, security, username })
}

fn child_text<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    let child = node.children().find(|child| child.has_tag_name(name))?;
    child.text().map(str::trim)
}

/// Fills the placeholders of a value.
fn fill(text: &str, address: &MailAddress) -> String {
    text.replace("%EMAILDOMAIN%", address.domain())
        .replace("%EMAILLOCALPART%", address.local_part())
        .replace("%EMAILADDRESS%", address.as_str())
}

/// True for a user name that can be shown and written. A percent sign belongs to a placeholder that
/// is not known.
fn is_username(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= USERNAME_BYTES_MAX
        && !name.contains('%')
        && !name.chars().any(is_unsafe_for_terminal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<AutoconfigServer> {
        let address = MailAddress::parse("me@example.com").expect("it is valid");
        read_autoconfig(text, &address)
    }

    /// Returns a file with one server, whose parts replace those of a valid one.
    fn file(changes: &[(&str, &str)]) -> String {
        let mut text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>
            <clientConfig version=\"1.1\"><emailProvider id=\"example.com\">
            <domain>example.com</domain>
            <incomingServer type=\"pop3\"><hostname>pop.example.com</hostname><port>995</port>
            <socketType>SSL</socketType><username>%EMAILADDRESS%</username></incomingServer>
            <incomingServer type=\"imap\"><hostname>imap.example.com</hostname><port>993</port>
            <socketType>SSL</socketType><username>USER</username></incomingServer>
            </emailProvider></clientConfig>"
            .to_owned();
        for (old, new) in changes {
            assert!(text.contains(old), "{old}");
            text = text.replace(old, new);
        }
        text
    }

    fn server(username: Option<&str>) -> AutoconfigServer {
        AutoconfigServer {
            host: "imap.example.com".to_owned(),
            port: 993,
            security: ServerSecurity::Tls,
            username: username.map(str::to_owned),
        }
    }

    #[test]
    fn the_imap_server_is_read() {
        let plain = file(&[("USER", "%EMAILADDRESS%")]);
        assert_eq!(read(&plain), Some(server(None)));

        let other = file(&[("993", "143"), (">SSL<", ">STARTTLS<"), ("USER", "%EMAILADDRESS%")]);
        let expected =
            AutoconfigServer { port: 143, security: ServerSecurity::StartTls, ..server(None) };
        assert_eq!(read(&other), Some(expected));
    }

    #[test]
    fn placeholders_are_filled() {
        for (written, expected) in [
            ("%EMAILLOCALPART%", Some("me")),
            ("%EMAILLOCALPART%.%EMAILDOMAIN%", Some("me.example.com")),
            ("%EMAILADDRESS%", None),
            ("%OTHER%", None),
            ("a\u{1b}b", None),
            ("", None),
        ] {
            let found = read(&file(&[("USER", written)]));
            let found = found.and_then(|server| server.username);
            assert_eq!(found.as_deref(), expected, "{written:?}");
        }
        let host = file(&[("imap.example.com", "mail.%EMAILDOMAIN%")]);
        assert_eq!(read(&host).map(|server| server.host).as_deref(), Some("mail.example.com"));
    }

    #[test]
    fn a_server_without_encryption_or_name_is_left_out() {
        for changes in [
            &[(">SSL<", ">plain<")][..],
            &[("\"imap\"", "\"exchange\"")],
            &[("imap.example.com", "127.0.0.1")],
            &[("imap.example.com", "imap example")],
            &[("imap.example.com", "")],
            &[("993", "0")],
            &[("993", "70000")],
            &[("993", "x")],
            &[("</clientConfig>", "")],
        ] {
            assert_eq!(read(&file(changes)), None, "{changes:?}");
        }
    }

    #[test]
    fn hostile_files_are_no_configuration() {
        let entities = "<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><x>&b;</x>";
        let deep = "<a>".repeat(20_000);
        let wide = format!("<a>{}</a>", "<b/>".repeat(20_000));
        for text in ["", "<html>", "{}", "\u{0}", entities, &deep, &wide] {
            assert_eq!(read(text), None);
        }
    }

    #[test]
    fn a_domain_has_two_addresses_of_the_file() {
        let urls: Vec<String> =
            autoconfig_urls("example.com").iter().map(ToString::to_string).collect();

        assert_eq!(
            urls,
            [
                "https://autoconfig.example.com/mail/config-v1.1.xml",
                "https://example.com/.well-known/autoconfig/mail/config-v1.1.xml"
            ]
        );
    }
}
