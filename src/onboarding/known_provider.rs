//! Mail providers that a guide describes, and how they are recognized: by the domain of an address
//! or by the name of a server.

use super::address::MailAddress;
use super::host_name::is_in_domain;
use crate::config::{host_of_provider, provider_of_account, provider_of_host};

const ICLOUD_HOST: &str = "imap.mail.me.com";
const GMX_HOST: &str = "imap.gmx.net";
const GMX_COM_HOST: &str = "imap.gmx.com";
const WEB_DE_HOST: &str = "imap.web.de";

/// Mail provider that a guide describes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum KnownProvider {
    Aol,
    Fastmail,
    Gmail,
    Gmx,
    Icloud,
    Mailru,
    Outlook,
    WebDe,
    Yahoo,
    YahooJapan,
    Yandex,
    Zoho,
}

/// Mailbox at a known provider.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct KnownMailbox {
    pub(super) provider: KnownProvider,
    /// IMAP server; `None` if the configuration knows it by the domain of the account.
    pub(super) imap_host: Option<&'static str>,
}

/// Domains of accounts at providers without a preset, each with the IMAP server.
const ACCOUNT_DOMAINS: &[(&str, KnownProvider, &str)] = &[
    ("icloud.com", KnownProvider::Icloud, ICLOUD_HOST),
    ("me.com", KnownProvider::Icloud, ICLOUD_HOST),
    ("mac.com", KnownProvider::Icloud, ICLOUD_HOST),
    ("gmx.de", KnownProvider::Gmx, GMX_HOST),
    ("gmx.net", KnownProvider::Gmx, GMX_HOST),
    ("gmx.at", KnownProvider::Gmx, GMX_HOST),
    ("gmx.ch", KnownProvider::Gmx, GMX_HOST),
    ("gmx.com", KnownProvider::Gmx, GMX_COM_HOST),
    ("web.de", KnownProvider::WebDe, WEB_DE_HOST),
    ("zohomail.com", KnownProvider::Zoho, "imap.zoho.com"),
];

/// Domains of servers, each with its provider, and the IMAP server if no preset has it. The first
/// that matches applies.
const SERVER_DOMAINS: &[(&str, KnownProvider, Option<&str>)] = &[
    ("google.com", KnownProvider::Gmail, None),
    ("googlemail.com", KnownProvider::Gmail, None),
    ("protection.outlook.com", KnownProvider::Outlook, None),
    ("mx.microsoft", KnownProvider::Outlook, None),
    ("messagingengine.com", KnownProvider::Fastmail, None),
    ("fastmail.com", KnownProvider::Fastmail, None),
    ("yandex.net", KnownProvider::Yandex, None),
    ("yandex.ru", KnownProvider::Yandex, None),
    ("yandex.com", KnownProvider::Yandex, None),
    ("mail.ru", KnownProvider::Mailru, None),
    ("mx-aol.mail.gm0.yahoodns.net", KnownProvider::Aol, None),
    ("yahoodns.net", KnownProvider::Yahoo, None),
    ("mail.icloud.com", KnownProvider::Icloud, Some(ICLOUD_HOST)),
    ("mail.me.com", KnownProvider::Icloud, Some(ICLOUD_HOST)),
    ("gmx.net", KnownProvider::Gmx, Some(GMX_HOST)),
    ("web.de", KnownProvider::WebDe, Some(WEB_DE_HOST)),
    ("zoho.com", KnownProvider::Zoho, Some("imappro.zoho.com")),
    ("zoho.eu", KnownProvider::Zoho, Some("imappro.zoho.eu")),
    ("zoho.in", KnownProvider::Zoho, Some("imappro.zoho.in")),
    ("zoho.com.au", KnownProvider::Zoho, Some("imappro.zoho.com.au")),
];

impl KnownProvider {
    const ALL: [Self; 12] = [
        Self::Aol,
        Self::Fastmail,
        Self::Gmail,
        Self::Gmx,
        Self::Icloud,
        Self::Mailru,
        Self::Outlook,
        Self::WebDe,
        Self::Yahoo,
        Self::YahooJapan,
        Self::Yandex,
        Self::Zoho,
    ];

    /// Returns a short name. It is that of the preset of the configuration, if there is one.
    pub(super) fn short_name(self) -> &'static str {
        match self {
            Self::Aol => "aol",
            Self::Fastmail => "fastmail",
            Self::Gmail => "gmail",
            Self::Gmx => "gmx",
            Self::Icloud => "icloud",
            Self::Mailru => "mailru",
            Self::Outlook => "outlook",
            Self::WebDe => "webde",
            Self::Yahoo => "yahoo",
            Self::YahooJapan => "yahoo-japan",
            Self::Yandex => "yandex",
            Self::Zoho => "zoho",
        }
    }

    fn from_preset(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.short_name() == name)
    }
}

/// Finds the provider of an address by its domain.
pub(super) fn find_by_address(address: &MailAddress) -> Option<KnownMailbox> {
    let domain = address.domain();
    if let Some(preset) = provider_of_account(&format!("@{domain}")) {
        let provider = KnownProvider::from_preset(preset)?;
        // The configuration compares the domain as it is written.
        let is_as_written = provider_of_account(address.as_str()) == Some(preset);
        let imap_host = if is_as_written { None } else { host_of_provider(preset) };
        return Some(KnownMailbox { provider, imap_host });
    }
    let (_, provider, host) = ACCOUNT_DOMAINS.iter().find(|(known, _, _)| *known == domain)?;
    Some(KnownMailbox { provider: *provider, imap_host: Some(*host) })
}

/// Finds the provider that operates a server: one that receives mail for a domain, or one from
/// which mail is read. The name is in lower case.
pub(super) fn find_by_server(host: &str) -> Option<KnownMailbox> {
    if let Some(preset) = provider_of_host(host) {
        let provider = KnownProvider::from_preset(preset)?;
        return Some(KnownMailbox { provider, imap_host: host_of_provider(preset) });
    }
    let (_, provider, imap_host) =
        SERVER_DOMAINS.iter().find(|(domain, _, _)| is_in_domain(host, domain))?;
    let imap_host = imap_host.or_else(|| host_of_provider(provider.short_name()));
    Some(KnownMailbox { provider: *provider, imap_host })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(address: &str) -> Option<(&'static str, Option<&'static str>)> {
        let address = MailAddress::parse(address).expect("it is valid");
        find_by_address(&address).map(|found| (found.provider.short_name(), found.imap_host))
    }

    #[test]
    fn the_domain_of_an_address_gives_the_provider() {
        for (address, expected) in [
            ("me@gmail.com", Some(("gmail", None))),
            ("me@Fastmail.FM", Some(("fastmail", None))),
            ("me@hotmail.co.uk", Some(("outlook", None))),
            ("me@bk.ru", Some(("mailru", None))),
            ("me@yandex.kz", Some(("yandex", None))),
            ("me@yahoo.de", Some(("yahoo", None))),
            ("me@yahoo.co.jp", Some(("yahoo-japan", None))),
            ("me@aol.com", Some(("aol", None))),
            ("me@me.com", Some(("icloud", Some("imap.mail.me.com")))),
            ("me@gmx.at", Some(("gmx", Some("imap.gmx.net")))),
            ("me@gmx.com", Some(("gmx", Some("imap.gmx.com")))),
            ("me@web.de", Some(("webde", Some("imap.web.de")))),
            ("me@example.com", None),
            ("me@icloud.com.example", None),
            ("me@sub.web.de", None),
        ] {
            assert_eq!(find(address), expected, "{address}");
        }
    }

    #[test]
    fn a_server_gives_the_provider_on_label_boundaries_only() {
        for (host, expected) in [
            ("aspmx.l.google.com", Some(("gmail", "imap.gmail.com"))),
            ("smtp.google.com", Some(("gmail", "imap.gmail.com"))),
            ("aspmx2.googlemail.com", Some(("gmail", "imap.gmail.com"))),
            ("example-com.mail.protection.outlook.com", Some(("outlook", "outlook.office365.com"))),
            ("in1-smtp.messagingengine.com", Some(("fastmail", "imap.fastmail.com"))),
            ("mx.yandex.net", Some(("yandex", "imap.yandex.ru"))),
            ("emx.mail.ru", Some(("mailru", "imap.mail.ru"))),
            ("mta5.am0.yahoodns.net", Some(("yahoo", "imap.mail.yahoo.com"))),
            ("mx-aol.mail.gm0.yahoodns.net", Some(("aol", "imap.aol.com"))),
            ("mx01.mail.icloud.com", Some(("icloud", "imap.mail.me.com"))),
            ("mx00.gmx.net", Some(("gmx", "imap.gmx.net"))),
            ("mx2.zoho.eu", Some(("zoho", "imappro.zoho.eu"))),
            ("mx.zoho.com.au", Some(("zoho", "imappro.zoho.com.au"))),
            ("imap.googlemail.com", Some(("gmail", "imap.gmail.com"))),
            ("notgoogle.com", None),
            ("google.com.attacker.example", None),
            ("protection.outlook.com.example", None),
            ("xmail.ru", None),
            ("mx.example.com", None),
        ] {
            let found = find_by_server(host);
            let found = found.map(|found| (found.provider.short_name(), found.imap_host));
            let expected = expected.map(|(name, host)| (name, Some(host)));
            assert_eq!(found, expected, "{host}");
        }
    }

    #[test]
    fn every_server_domain_has_an_imap_server() {
        for (domain, _, _) in SERVER_DOMAINS {
            let found = find_by_server(domain).expect("it is in the table");
            assert!(found.imap_host.is_some(), "{domain}");
        }
    }
}
