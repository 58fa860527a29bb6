//! Guides to the mail providers: ways to read a mailbox, steps at the provider and durations.
//!
//! Figures and steps are those of docs/sources.md.

use url::Url;

use super::access::{
    AccessKind, AccessOption, ProviderGuide, ServerAddress, SignInMethod, jmap_session_url,
};
use super::address::MailAddress;
use super::guide_steps::{
    AOL_STEPS, FASTMAIL_PASSWORD_STEPS, FASTMAIL_TOKEN_STEPS, GMAIL_API_STEPS,
    GMAIL_PASSWORD_STEPS, GMX_STEPS, GRAPH_STEPS, ICLOUD_STEPS, MAILRU_SESSION_STEPS, MAILRU_STEPS,
    OUTLOOK_IMAP_STEPS, WEB_DE_STEPS, YAHOO_STEPS, YANDEX_STEPS, ZOHO_STEPS,
};
use super::known_provider::{KnownMailbox, KnownProvider, find_by_address};

const ONE_CONNECTION: &str = "No limit is published, so the time for 100,000 messages is not \
                              known; Cynosure uses 1 connection.";
const TWO_CONNECTIONS: &str = "No limit is published, so the time for 100,000 messages is not \
                               known; Cynosure uses 2 connections.";
const FOUR_CONNECTIONS: &str = "No limit is published, so the time for 100,000 messages is not \
                                known; Cynosure uses 4 connections.";
const EIGHT_REQUESTS: &str = "No limit is published, so the time for 100,000 messages is not \
                              known; Cynosure sends at most 8 requests at once.";

/// Name of the guide to a server that no provider operates.
pub(super) const OWN_SERVER_NAME: &str = "your own server";

const FASTMAIL_SESSION: &str = "https://api.fastmail.com/.well-known/jmap";

/// Returns the guide for the domain of an address, without the network.
#[must_use]
pub fn find_guide(address: &MailAddress) -> Option<ProviderGuide> {
    find_by_address(address).map(guide_to)
}

/// Returns the options of a mailbox at a server that no guide describes. The servers are guesses
/// from the domain, to be confirmed.
#[must_use]
pub fn own_server_guide(address: &MailAddress) -> ProviderGuide {
    let domain = address.domain();
    let session = jmap_session_url(domain).map_or(ServerAddress::Known, ServerAddress::Url);
    let imap = ServerAddress::imap_with_tls(&format!("imap.{domain}"));
    let username = Some(address.as_str().to_owned());
    let options = vec![
        AccessOption { username: username.clone(), ..own_imap_option(imap) },
        AccessOption { username, ..own_jmap_option(session, SignInMethod::Password) },
    ];
    ProviderGuide { name: OWN_SERVER_NAME.to_owned(), options }
}

/// Returns the guide to a mailbox at a known provider.
pub(super) fn guide_to(mailbox: KnownMailbox) -> ProviderGuide {
    let server = mailbox.imap_host.map_or(ServerAddress::Known, ServerAddress::imap_with_tls);
    let is_own_domain = mailbox.imap_host.is_some();
    let (name, options) = match mailbox.provider {
        KnownProvider::Aol => ("AOL Mail", vec![yahoo_option(server, AOL_STEPS)]),
        KnownProvider::Fastmail => ("Fastmail", fastmail_options(server)),
        KnownProvider::Gmail if is_own_domain => ("Google Workspace", gmail_options(server)),
        KnownProvider::Gmail => ("Gmail", gmail_options(server)),
        KnownProvider::Gmx => ("GMX", vec![united_internet_option(server, GMX_STEPS)]),
        KnownProvider::Icloud => ("iCloud Mail", vec![icloud_option(server)]),
        KnownProvider::Mailru => ("Mail.ru", mailru_options(server)),
        KnownProvider::Outlook if is_own_domain => ("Microsoft 365", outlook_options(server)),
        KnownProvider::Outlook => ("Outlook.com", outlook_options(server)),
        KnownProvider::WebDe => ("WEB.DE", vec![united_internet_option(server, WEB_DE_STEPS)]),
        KnownProvider::Yahoo => ("Yahoo Mail", vec![yahoo_option(server, YAHOO_STEPS)]),
        KnownProvider::YahooJapan => ("Yahoo Japan", vec![yahoo_japan_option(server)]),
        KnownProvider::Yandex => ("Yandex Mail", vec![yandex_option(server)]),
        KnownProvider::Zoho => ("Zoho Mail", vec![zoho_option(server)]),
    };
    ProviderGuide { name: name.to_owned(), options }
}

/// Returns IMAP with a password at a server that no guide describes.
pub(super) fn own_imap_option(server: ServerAddress) -> AccessOption {
    AccessOption {
        kind: AccessKind::Imap,
        server,
        method: SignInMethod::Password,
        username: None,
        credential_name: "password",
        reason: "Nearly every mail server has IMAP.",
        steps: &[],
        duration: FOUR_CONNECTIONS,
        anchor: "#dovecot-cyrus-your-own-server",
    }
}

/// Returns JMAP at a server that no guide describes.
pub(super) fn own_jmap_option(server: ServerAddress, method: SignInMethod) -> AccessOption {
    AccessOption {
        kind: AccessKind::Jmap,
        server,
        method,
        username: None,
        credential_name: if method == SignInMethod::Token { "API token" } else { "password" },
        reason: "JMAP needs fewer requests than IMAP and knows threads, but few servers have it.",
        steps: &[],
        duration: EIGHT_REQUESTS,
        anchor: "#dovecot-cyrus-your-own-server",
    }
}

fn fastmail_options(server: ServerAddress) -> Vec<AccessOption> {
    let session = Url::parse(FASTMAIL_SESSION).map_or(ServerAddress::Known, ServerAddress::Url);
    vec![
        AccessOption {
            reason: "JMAP needs fewer requests and knows threads, and the token can be read-only.",
            steps: FASTMAIL_TOKEN_STEPS,
            anchor: "#fastmail",
            ..own_jmap_option(session, SignInMethod::Token)
        },
        AccessOption {
            credential_name: "app password",
            reason: "IMAP works too, but knows no threads, and its password is not read-only.",
            steps: FASTMAIL_PASSWORD_STEPS,
            anchor: "#fastmail",
            ..own_imap_option(server)
        },
    ]
}

fn gmail_options(server: ServerAddress) -> Vec<AccessOption> {
    vec![
        AccessOption {
            credential_name: "app password",
            reason: "An app password takes two minutes; the Gmail API needs a Google Cloud \
                     project.",
            steps: GMAIL_PASSWORD_STEPS,
            duration: "100,000 messages of 75 kB (7.5 GB) take 3 to 4 days, because Google allows \
                       2,500 MB a day.",
            anchor: "#gmail",
            ..own_imap_option(server)
        },
        AccessOption {
            kind: AccessKind::Gmail,
            server: ServerAddress::Known,
            method: SignInMethod::Browser { needs_secret: true },
            username: None,
            credential_name: "client id and client secret",
            reason: "It is faster, keeps threads together, and works where app passwords are not \
                     allowed, but needs a Google Cloud project with a client of your own.",
            steps: GMAIL_API_STEPS,
            duration: "100,000 messages take 5.6 hours, because each costs 20 of the 6,000 units \
                       a minute.",
            anchor: "#gmail-by-its-api",
        },
    ]
}

fn outlook_options(server: ServerAddress) -> Vec<AccessOption> {
    let method = SignInMethod::Browser { needs_secret: false };
    vec![
        AccessOption {
            kind: AccessKind::Graph,
            server: ServerAddress::Known,
            method,
            username: None,
            credential_name: "client id",
            reason: "It works where IMAP is switched off; Microsoft accepts no passwords, so each \
                     way needs a registered application.",
            steps: GRAPH_STEPS,
            duration: "100,000 messages take 1.7 hours, because Microsoft allows 10,000 requests \
                       in 10 minutes.",
            anchor: "#microsoft-365-and-outlookcom-by-graph",
        },
        AccessOption {
            method,
            credential_name: "client id",
            reason: "IMAP needs a registered application too, and must be allowed for the mailbox.",
            steps: OUTLOOK_IMAP_STEPS,
            duration: TWO_CONNECTIONS,
            anchor: "#outlook-and-microsoft-365",
            ..own_imap_option(server)
        },
    ]
}

fn mailru_options(server: ServerAddress) -> Vec<AccessOption> {
    vec![
        AccessOption {
            credential_name: "password for external applications",
            reason: "IMAP is the official way.",
            steps: MAILRU_STEPS,
            duration: TWO_CONNECTIONS,
            anchor: "#mailru",
            ..own_imap_option(server)
        },
        AccessOption {
            kind: AccessKind::Mailru,
            server: ServerAddress::Known,
            method: SignInMethod::SessionFile,
            username: None,
            credential_name: "session of your browser",
            reason: "It knows threads, but is unofficial, was never tried on the live service, \
                     and may change on any day.",
            steps: MAILRU_SESSION_STEPS,
            duration: "100,000 messages in threads of two take 3.5 days, because one request is \
                       sent every 2 s.",
            anchor: "#mailru-by-its-web-interface",
        },
    ]
}

fn yandex_option(server: ServerAddress) -> AccessOption {
    AccessOption {
        credential_name: "app password",
        reason: "IMAP is the only way to read a mailbox there.",
        steps: YANDEX_STEPS,
        duration: TWO_CONNECTIONS,
        anchor: "#yandex",
        ..own_imap_option(server)
    }
}

/// Returns IMAP at Yahoo or AOL, which one company operates.
fn yahoo_option(server: ServerAddress, steps: &'static [&'static str]) -> AccessOption {
    AccessOption {
        credential_name: "app password",
        reason: "IMAP is the only way to read a mailbox there.",
        steps,
        duration: ONE_CONNECTION,
        anchor: "#yahoo-and-aol",
        ..own_imap_option(server)
    }
}

fn yahoo_japan_option(server: ServerAddress) -> AccessOption {
    AccessOption {
        reason: "IMAP is the only way that Cynosure knows there; see the help of Yahoo Japan for \
                 its password and user name.",
        duration: ONE_CONNECTION,
        anchor: "#every-imap-source",
        ..own_imap_option(server)
    }
}

fn icloud_option(server: ServerAddress) -> AccessOption {
    AccessOption {
        credential_name: "app-specific password",
        reason: "IMAP is the only way to read a mailbox there.",
        steps: ICLOUD_STEPS,
        anchor: "#icloud",
        ..own_imap_option(server)
    }
}

/// Returns IMAP at GMX or WEB.DE, which one company operates.
fn united_internet_option(server: ServerAddress, steps: &'static [&'static str]) -> AccessOption {
    AccessOption {
        reason: "IMAP is the only way to read a mailbox there, and is off until you allow it.",
        steps,
        anchor: "#gmx-and-webde",
        ..own_imap_option(server)
    }
}

fn zoho_option(server: ServerAddress) -> AccessOption {
    AccessOption {
        reason: "IMAP is the only way that Cynosure has there, and is off until you allow it.",
        steps: ZOHO_STEPS,
        anchor: "#every-imap-source",
        ..own_imap_option(server)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::onboarding::known_provider::find_by_server;

    /// Addresses and mail servers of all providers.
    const ADDRESSES: &[&str] = &[
        "me@aol.com",
        "me@fastmail.com",
        "me@gmail.com",
        "me@gmx.net",
        "me@icloud.com",
        "me@mail.ru",
        "me@outlook.com",
        "me@web.de",
        "me@yahoo.com",
        "me@yahoo.co.jp",
        "me@yandex.ru",
        "me@zohomail.com",
    ];
    const SERVERS: &[&str] = &[
        "aspmx.l.google.com",
        "example-com.mail.protection.outlook.com",
        "in1-smtp.messagingengine.com",
        "mx.yandex.net",
        "emx.mail.ru",
        "mta5.am0.yahoodns.net",
        "mx01.mail.icloud.com",
        "mx.zoho.com",
    ];

    fn address(text: &str) -> MailAddress {
        MailAddress::parse(text).expect("it is valid")
    }

    fn all_guides() -> Vec<ProviderGuide> {
        let by_address = ADDRESSES.iter().filter_map(|text| find_guide(&address(text)));
        let by_server = SERVERS.iter().filter_map(|host| find_by_server(host)).map(guide_to);
        let own = own_server_guide(&address("me@example.com"));
        by_address.chain(by_server).chain([own]).collect()
    }

    /// Returns the anchor of a heading, as the viewers of Markdown build it.
    fn anchor_of(heading: &str) -> String {
        let is_kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        let text: String = heading.to_lowercase().chars().filter(is_kept).collect();
        format!("#{}", text.replace(' ', "-"))
    }

    #[test]
    fn every_provider_has_a_guide_with_options() {
        let guides = all_guides();

        assert_eq!(guides.len(), ADDRESSES.len() + SERVERS.len() + 1);
        assert!(guides.iter().all(|guide| !guide.options.is_empty()), "{guides:#?}");
        assert_eq!(find_guide(&address("me@example.com")), None);
    }

    #[test]
    fn texts_are_sentences_and_steps_have_a_page() {
        for guide in all_guides() {
            for option in &guide.options {
                for text in [option.reason, option.duration].iter().chain(option.steps) {
                    assert!(text.ends_with('.'), "{}: {text}", guide.name);
                    assert!(text.starts_with(|c: char| !c.is_lowercase()), "{text}");
                    assert!(!text.contains("  "), "{text}");
                }
                assert!(option.duration.contains("100,000 messages"), "{}", option.duration);
                assert!(!option.credential_name.is_empty(), "{}", guide.name);
                for step in option.steps {
                    assert!(step.contains("https://"), "{}: {step}", guide.name);
                }
            }
        }
    }

    #[test]
    fn every_section_of_the_documentation_exists() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/sources.md");
        let document = fs_err::read_to_string(path).expect("the document exists");
        let headings = document.lines().filter(|line| line.starts_with('#'));
        let anchors: BTreeSet<String> =
            headings.map(|line| anchor_of(line.trim_start_matches('#').trim())).collect();

        for option in all_guides().iter().flat_map(|guide| &guide.options) {
            assert!(anchors.contains(option.anchor), "{}: {anchors:?}", option.anchor);
        }
    }

    #[test]
    fn a_guide_has_each_kind_once() {
        for guide in all_guides() {
            let kinds: BTreeSet<&str> =
                guide.options.iter().map(|option| option.kind.name()).collect();
            assert_eq!(kinds.len(), guide.options.len(), "{}", guide.name);
        }
    }

    #[test]
    fn the_recommended_way_comes_first() {
        for (text, kind, method) in [
            ("me@fastmail.com", AccessKind::Jmap, SignInMethod::Token),
            ("me@gmail.com", AccessKind::Imap, SignInMethod::Password),
            ("me@outlook.com", AccessKind::Graph, SignInMethod::Browser { needs_secret: false }),
            ("me@mail.ru", AccessKind::Imap, SignInMethod::Password),
        ] {
            let guide = find_guide(&address(text)).expect("there is a guide");
            let first = guide.options.first().expect("it has options");
            assert_eq!((first.kind, first.method), (kind, method), "{text}");
        }
        let mailru = find_guide(&address("me@mail.ru")).expect("there is a guide");
        assert_eq!(mailru.options.last().map(|option| option.kind), Some(AccessKind::Mailru));
    }

    #[test]
    fn a_domain_of_ones_own_needs_the_server_for_imap_only() {
        let mailbox = find_by_server("aspmx.l.google.com").expect("it is known");
        let guide = guide_to(mailbox);
        let servers: Vec<_> = guide.options.into_iter().map(|option| option.server).collect();

        assert_eq!(guide.name, "Google Workspace");
        assert_eq!(servers, [ServerAddress::imap_with_tls("imap.gmail.com"), ServerAddress::Known]);
        let personal = find_guide(&address("me@gmail.com")).expect("there is a guide");
        assert_eq!(personal.name, "Gmail");
        assert!(personal.options.iter().all(|option| option.server == ServerAddress::Known));
    }

    #[test]
    fn the_servers_of_an_unknown_domain_are_guessed() {
        let guide = own_server_guide(&address("me@Example.com"));
        let username = Some("me@Example.com".to_owned());
        assert!(guide.options.iter().all(|option| option.username == username), "{guide:#?}");
        let servers: Vec<_> = guide.options.into_iter().map(|option| option.server).collect();

        let session = Url::parse("https://example.com/.well-known/jmap").expect("it is a URL");
        assert_eq!(
            servers,
            [ServerAddress::imap_with_tls("imap.example.com"), ServerAddress::Url(session)]
        );
    }
}
