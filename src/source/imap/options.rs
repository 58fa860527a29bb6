//! Options of an IMAP source.

use chrono::NaiveDate;
use cynosure_engine::AccountId;
use serde::{Deserialize, Serialize};

use crate::source::MetricsHandle;
use crate::source::http::{ProxyMode, RequestLimits};

/// Connection settings and filters of one account.
#[derive(Clone, Debug)]
pub struct ImapOptions {
    /// Name of the source in the configuration, for messages.
    pub name: String,
    /// Account of the ledger. If `None`, any account is accepted.
    pub account: Option<AccountId>,
    /// User name of the login, usually the mail address.
    pub username: String,
    /// Host name or IP address of the server, without brackets.
    pub host: String,
    pub port: u16,
    pub security: Security,
    pub mechanism: LoginMechanism,
    pub folders: FolderFilter,
    /// First day of receipt (UTC) of the messages to extract.
    pub since: Option<NaiveDate>,
    /// Maximum number of connections; 0 counts as 1.
    pub connections: u32,
    pub limits: RequestLimits,
    pub network: ImapNetwork,
}

/// Way to the server, and the metrics that count its use.
#[derive(Clone, Debug)]
pub struct ImapNetwork {
    /// Connection mode: direct, or through a proxy pool. The proxy variables of the environment do
    /// not apply, because they name proxies for HTTP.
    pub proxy_mode: ProxyMode,
    /// Metrics that count logins and commands as requests.
    pub metrics: MetricsHandle,
}

/// Encryption of the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Security {
    /// TLS from the first byte (RFC 8314 §3.2).
    Tls,
    /// TLS after the STARTTLS command (RFC 3501 §6.2.1), and before any credential is sent.
    StartTls,
    /// No encryption: anyone on the way can read the password and the mail.
    Plain,
}

/// Kind of the credential.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LoginMechanism {
    Password,
    /// The credential is an access token.
    OAuth2,
}

/// Folders to extract, by name. A `*` in a name matches any text.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct FolderFilter {
    /// Names or patterns of the folders; empty means all.
    pub include: Vec<String>,
    /// Names or patterns of folders to leave out, although they are included.
    pub exclude: Vec<String>,
}

impl FolderFilter {
    /// Returns true if it selects every folder.
    pub(super) fn is_empty(&self) -> bool {
        let Self { include, exclude } = self;
        include.is_empty() && exclude.is_empty()
    }
}

impl ImapOptions {
    /// Returns host and port, as messages show them.
    pub(super) fn address(&self) -> String {
        address_of(&self.host, self.port)
    }
}

/// Joins a host and a port. An IPv6 address gets brackets (RFC 3986 §3.2.2).
pub(super) fn address_of(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
