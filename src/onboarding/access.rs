//! Ways to read a mailbox: kind of source, server and credential.

use url::Url;

/// Port with TLS from the first byte (RFC 8314, section 3.2).
pub(super) const IMAPS_PORT: u16 = 993;

/// Port with TLS after STARTTLS, or without (RFC 9051, section 2.1).
pub(super) const IMAP_PORT: u16 = 143;

/// Way to read a mailbox: the kind of the source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AccessKind {
    /// JMAP (RFC 8620 and RFC 8621).
    Jmap,
    /// IMAP (RFC 9051 and RFC 3501).
    Imap,
    /// The Gmail API.
    Gmail,
    /// Microsoft Graph.
    Graph,
    /// The web interface of mail.ru, which is unofficial.
    Mailru,
}

impl AccessKind {
    pub const ALL: [Self; 5] = [Self::Jmap, Self::Imap, Self::Gmail, Self::Graph, Self::Mailru];

    /// Returns the value of `kind` in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Jmap => "jmap",
            Self::Imap => "imap",
            Self::Gmail => "gmail",
            Self::Graph => "graph",
            Self::Mailru => "mailru",
        }
    }

    /// Returns the name for people.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Jmap => "JMAP",
            Self::Imap => "IMAP",
            Self::Gmail => "the Gmail API",
            Self::Graph => "Microsoft Graph",
            Self::Mailru => "the web interface of mail.ru",
        }
    }
}

/// Server of a source, as far as the configuration must name it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ServerAddress {
    /// The kind or the domain of the account gives it.
    Known,
    /// IMAP server.
    Imap {
        /// Name or address, an IPv6 address without brackets.
        host: String,
        port: u16,
        security: ServerSecurity,
    },
    /// URL of the JMAP session or of the API.
    Url(Url),
}

impl ServerAddress {
    /// Returns an IMAP server with TLS from the first byte, on its port.
    pub(super) fn imap_with_tls(host: &str) -> Self {
        Self::Imap { host: host.to_owned(), port: IMAPS_PORT, security: ServerSecurity::Tls }
    }
}

/// Encryption of the connections to a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ServerSecurity {
    /// TLS from the first byte.
    Tls,
    /// TLS after the STARTTLS command, before the login.
    StartTls,
    /// No encryption. It is accepted for this machine only.
    None,
}

/// Credential that a person obtains for a source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SignInMethod {
    /// Password of a user name: the type `password` of `auth` (IMAP) or `basic` (JMAP).
    Password,
    /// Token that is pasted: the type `bearer` of `auth`.
    Token,
    /// Sign-in with a browser. It needs the id of a registered client.
    Browser {
        /// True if it needs the secret of the client, too.
        needs_secret: bool,
    },
    /// Session of a browser in a file, as docs/sources.md describes it for mail.ru.
    SessionFile,
}

/// One recommended or possible way to read a mailbox at a provider.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AccessOption {
    pub kind: AccessKind,
    pub server: ServerAddress,
    pub method: SignInMethod,
    /// User name to confirm, at a server that no guide describes. `None` if it is the account.
    pub username: Option<String>,
    /// Name of the credential there, such as "app password".
    pub credential_name: &'static str,
    /// One sentence: the reason for this way, or its drawback.
    pub reason: &'static str,
    /// Steps at the provider, in order, each a sentence with the address of the page. Empty if
    /// there are none.
    pub steps: &'static [&'static str],
    /// Time that 100,000 messages take, one sentence with its basis.
    pub duration: &'static str,
    /// Section of docs/sources.md, such as `#fastmail`.
    pub anchor: &'static str,
}

/// Ways to read a mailbox at one provider.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProviderGuide {
    /// For people, such as "Fastmail".
    pub name: String,
    /// The recommended one first. Never empty.
    pub options: Vec<AccessOption>,
}

/// Returns the URL at which a host, with or without a port, has its JMAP session (RFC 8620, section
/// 2.2).
pub(super) fn jmap_session_url(host: &str) -> Option<Url> {
    Url::parse(&format!("https://{host}/.well-known/jmap")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_own_name_and_label() {
        for kind in AccessKind::ALL {
            let same = |other: &&AccessKind| other.name() == kind.name();
            assert_eq!(AccessKind::ALL.iter().filter(same).count(), 1, "{kind:?}");
            let same = |other: &&AccessKind| other.label() == kind.label();
            assert_eq!(AccessKind::ALL.iter().filter(same).count(), 1, "{kind:?}");
        }
    }
}
