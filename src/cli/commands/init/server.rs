//! Server of a new source: from the command line, the guide or the user.

use std::net::IpAddr;

use cynosure_engine::{is_loopback_host, sanitize_line};
use url::{Host, Url};

use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::cli::commands::init::args::InitArgs;
use crate::cli::commands::init::console::{DefaultAnswer, DialogConsole, DialogQuestion};
use crate::cli::commands::init::interruption::NOTHING_WRITTEN;
use crate::cli::commands::init::provider::{GuideOrigin, MailProvider};
use crate::cli::print::print_best_effort;
use crate::onboarding::{AccessKind, AccessOption, MailAddress, ServerAddress, ServerSecurity};

/// Port with TLS from the first byte (RFC 8314, section 3.2).
const IMAPS_PORT: u16 = 993;

/// Port with TLS after STARTTLS, or without (RFC 9051, section 2.1).
const IMAP_PORT: u16 = 143;

/// Path of the session of a JMAP server (RFC 8620, section 2.2).
const JMAP_PATH: &str = "/.well-known/jmap";

/// Returns the server, and says which it is. Asks for that of a guide that only guesses, and for a
/// consent to one that was found over the network outside of the domain.
///
/// # Errors
/// As those of a question, and if the user does not trust the server.
pub(super) fn choose_server(
    console: DialogConsole,
    args: &InitArgs,
    provider: &MailProvider,
    access: &AccessOption,
    address: &MailAddress,
) -> Result<ServerAddress, ProgramError> {
    if let Some(text) = &args.server {
        let server = parse_server(access.kind, text, args.security);
        let server =
            server.map_err(|problem| ProgramError::Usage(format!("--server: {problem}")))?;
        print_server(&server);
        return Ok(server);
    }
    let is_in_guide = provider.guide.options.iter().any(|option| option.kind == access.kind);
    match (&access.server, provider.origin) {
        (ServerAddress::Known, _) => Ok(ServerAddress::Known),
        (server, GuideOrigin::BuiltIn) if is_in_guide => {
            print_server(server);
            Ok(server.clone())
        }
        (server, GuideOrigin::Discovered) if is_in_guide => {
            print_server(server);
            // The servers of a known provider are those of its guide, and not of the network.
            if access.username.is_some() {
                confirm_foreign_server(console, server, address)?;
            }
            Ok(server.clone())
        }
        (server, GuideOrigin::BuiltIn | GuideOrigin::Discovered | GuideOrigin::Guessed) => {
            let server = ask_server(console, args, access.kind, server)?;
            // The default may have been taken without a question.
            print_server(&server);
            Ok(server)
        }
    }
}

/// Asks for a server, with a guess as the default.
fn ask_server(
    console: DialogConsole,
    args: &InitArgs,
    kind: AccessKind,
    guess: &ServerAddress,
) -> Result<ServerAddress, ProgramError> {
    let text = match kind {
        AccessKind::Imap => "IMAP server",
        AccessKind::Jmap => "URL of the JMAP session",
        AccessKind::Gmail | AccessKind::Graph | AccessKind::Mailru => "URL of the API",
    };
    let question = DialogQuestion { text, option: "--server" };
    let default = match (guess, args.security) {
        // The port follows from the encryption.
        (ServerAddress::Imap { host, .. }, Some(_)) => host.clone(),
        (guess, _) => server_text(guess),
    };
    console.ask(question, Some(&default), |answer| parse_server(kind, answer, args.security))
}

/// Parses a server. The error is one sentence with the remedy.
fn parse_server(
    kind: AccessKind,
    text: &str,
    security: Option<ServerSecurity>,
) -> Result<ServerAddress, String> {
    match kind {
        AccessKind::Imap => parse_imap_server(text, security),
        AccessKind::Jmap if text.contains("://") => {
            let mut url = parse_url(text)?;
            if url.path() == "/" {
                url.set_path(JMAP_PATH);
            }
            Ok(ServerAddress::Url(url))
        }
        AccessKind::Jmap => {
            parse_url(&format!("https://{text}{JMAP_PATH}")).map(ServerAddress::Url)
        }
        AccessKind::Gmail | AccessKind::Graph | AccessKind::Mailru => {
            parse_url(text).map(ServerAddress::Url)
        }
    }
}

fn parse_url(text: &str) -> Result<Url, String> {
    // It is not quoted, because users paste URLs with passwords.
    let url = Url::parse(text).map_err(|error| {
        format!("not a valid URL ({error}); write it in full, such as https://mail.example.com")
    })?;
    let host = url.host_str().unwrap_or_default();
    let is_loopback = is_loopback_host(host);
    match url.scheme() {
        "https" => {}
        "http" if is_loopback => {}
        _ => return Err("the way to it would not be encrypted; write https://".to_owned()),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "it holds a user name or a password, which are asked for later; remove them".to_owned()
        );
    }
    Ok(url)
}

fn parse_imap_server(
    text: &str,
    security: Option<ServerSecurity>,
) -> Result<ServerAddress, String> {
    let invalid = || {
        let shown = sanitize_line(text);
        format!("\"{shown}\" is no server; write HOST or HOST:PORT, such as imap.example.com:993")
    };
    let (host, port) = split_port(text).ok_or_else(invalid)?;
    if host.parse::<IpAddr>().is_err() && Host::parse(host).is_err() {
        return Err(invalid());
    }
    let security = security.unwrap_or(match port {
        Some(IMAP_PORT) => ServerSecurity::StartTls,
        Some(_) | None => ServerSecurity::Tls,
    });
    if security == ServerSecurity::None && !is_loopback_host(host) {
        return Err("without encryption the password could be read on the way; only a server on \
                    this machine may have none: write --security tls or starttls"
            .to_owned());
    }
    let default_port = match security {
        ServerSecurity::Tls => IMAPS_PORT,
        ServerSecurity::StartTls | ServerSecurity::None => IMAP_PORT,
    };
    let port = port.unwrap_or(default_port);
    Ok(ServerAddress::Imap { host: host.to_owned(), port, security })
}

/// Splits `HOST:PORT`, where an IPv6 address is in brackets. `None` for an invalid port.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let parse_port = |port: &str| port.parse::<u16>().ok().filter(|port| *port > 0);
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(parse_port(port)?))),
            None => rest.is_empty().then_some((host, None)),
        };
    }
    match text.split_once(':') {
        // An IPv6 address without brackets.
        Some((_, rest)) if rest.contains(':') => Some((text, None)),
        Some((host, port)) => Some((host, Some(parse_port(port)?))),
        None => Some((text, None)),
    }
}

fn confirm_foreign_server(
    console: DialogConsole,
    server: &ServerAddress,
    address: &MailAddress,
) -> Result<(), ProgramError> {
    let host = match server {
        ServerAddress::Known => return Ok(()),
        ServerAddress::Imap { host, .. } => host.as_str(),
        ServerAddress::Url(url) => url.host_str().unwrap_or_default(),
    };
    if is_below(host, address.domain()) {
        return Ok(());
    }
    let text = format!(
        "{} is not below {}, and gets the credential; do you know it",
        sanitize_line(host),
        address.domain()
    );
    let question = DialogQuestion { text: &text, option: "--server" };
    // The answers of the network may be forged, so `--yes` does not give the credential away.
    if console.confirm(question, DefaultAnswer::No)? {
        return Ok(());
    }
    let message = format!(
        "the server {} was found in the network, and not confirmed; {NOTHING_WRITTEN}: name the \
         server with --kind and --server",
        sanitize_line(host)
    );
    Err(ProgramError::new(ProgramExit::Other, message))
}

/// True for a domain, and for each host in it.
fn is_below(host: &str, domain: &str) -> bool {
    let host = host.to_ascii_lowercase();
    host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn print_server(server: &ServerAddress) {
    let encryption = match server {
        ServerAddress::Known => return,
        ServerAddress::Imap { security: ServerSecurity::StartTls, .. } => ", with STARTTLS",
        ServerAddress::Imap { security: ServerSecurity::None, .. } => ", without encryption",
        ServerAddress::Imap { security: ServerSecurity::Tls, .. } | ServerAddress::Url(_) => "",
    };
    print_best_effort(format!("Server: {}{encryption}", server_text(server)));
}

/// Returns a server as `--server` takes it.
fn server_text(server: &ServerAddress) -> String {
    match server {
        ServerAddress::Known => String::new(),
        ServerAddress::Imap { host, port, .. } if host.contains(':') => {
            format!("[{}]:{port}", sanitize_line(host))
        }
        ServerAddress::Imap { host, port, .. } => format!("{}:{port}", sanitize_line(host)),
        ServerAddress::Url(url) => sanitize_line(url.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imap(host: &str, port: u16, security: ServerSecurity) -> ServerAddress {
        ServerAddress::Imap { host: host.to_owned(), port, security }
    }

    #[test]
    fn a_server_outside_of_the_domain_needs_a_consent() {
        let address = MailAddress::parse("me@example.com").unwrap();
        let confirm = |host: &str| {
            let server = imap(host, 993, ServerSecurity::Tls);
            confirm_foreign_server(DialogConsole::new(true), &server, &address)
        };

        assert!(confirm("imap.example.com").is_ok());
        let error = confirm("imap.attacker.example").unwrap_err().message();
        assert!(error.contains("imap.attacker.example was found in the network"), "{error}");
    }

    #[test]
    fn an_imap_server_has_the_port_of_its_encryption() {
        use ServerSecurity::{None as Plain, StartTls, Tls};
        for (text, security, expected) in [
            ("imap.example.com", None, imap("imap.example.com", 993, Tls)),
            ("imap.example.com:143", None, imap("imap.example.com", 143, StartTls)),
            ("imap.example.com:1993", None, imap("imap.example.com", 1993, Tls)),
            ("imap.example.com", Some(StartTls), imap("imap.example.com", 143, StartTls)),
            ("127.0.0.1:4143", Some(Plain), imap("127.0.0.1", 4143, Plain)),
            ("[::1]:4143", Some(Plain), imap("::1", 4143, Plain)),
            ("[2001:db8::1]", None, imap("2001:db8::1", 993, Tls)),
            ("2001:db8::1", None, imap("2001:db8::1", 993, Tls)),
        ] {
            let server = parse_server(AccessKind::Imap, text, security).unwrap();

            let shown = server_text(&server);
            assert_eq!(server, expected, "{text}");
            assert_eq!(parse_server(AccessKind::Imap, &shown, security).unwrap(), server);
        }
    }

    #[test]
    fn what_is_no_imap_server_is_refused() {
        for text in ["", "a b", "host:0", "host:65536", "host:x", "host:", "[::1", "[::1]x", "a/b"]
        {
            assert!(parse_server(AccessKind::Imap, text, None).is_err(), "{text}");
        }
        let plain = Some(ServerSecurity::None);
        let problem = parse_server(AccessKind::Imap, "imap.example.com", plain).unwrap_err();
        assert!(problem.contains("could be read on the way"), "{problem}");
        let problem = parse_server(AccessKind::Imap, "a\u{1b}[2Jb", None).unwrap_err();
        assert!(!problem.contains('\u{1b}'), "{problem:?}");
    }

    #[test]
    fn a_jmap_server_is_a_url_or_a_host() {
        for (text, url) in [
            ("mail.example.com", "https://mail.example.com/.well-known/jmap"),
            ("https://mail.example.com", "https://mail.example.com/.well-known/jmap"),
            ("https://mail.example.com/session", "https://mail.example.com/session"),
            ("http://127.0.0.1:8080/jmap", "http://127.0.0.1:8080/jmap"),
        ] {
            let expected = ServerAddress::Url(Url::parse(url).unwrap());
            assert_eq!(parse_server(AccessKind::Jmap, text, None).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn a_url_without_encryption_or_with_a_password_is_refused_and_not_shown() {
        for text in
            ["http://mail.example.com", "ftp://127.0.0.1/", "https://me:hunter2@example.com/", "x"]
        {
            let problem = parse_server(AccessKind::Gmail, text, None).unwrap_err();
            assert!(!problem.contains("hunter2"), "{problem}");
        }
    }

    #[test]
    fn only_hosts_in_the_domain_are_below_it() {
        for (host, is_in_domain) in [
            ("example.com", true),
            ("imap.Example.com", true),
            ("imap.example.com.attacker.example", false),
            ("notexample.com", false),
        ] {
            assert_eq!(is_below(host, "example.com"), is_in_domain, "{host}");
        }
    }
}
