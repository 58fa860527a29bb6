//! One account to extract: `[source.NAME]`.

use std::borrow::Borrow;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use chrono::NaiveDate;
use url::{Host, Url};

use super::credential::CredentialRef;

/// The longest name of a source, in letters: it is part of file names and of the terminal's table.
const NAME_LEN_MAX: usize = 64;

/// The name of a source: `[a-z0-9][a-z0-9_-]{0,63}`.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct SourceName(String);

impl SourceName {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SourceName {
    type Err = &'static str;

    /// # Errors
    ///
    /// When the text is no such name; the error says what a name is.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_inner =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
        let starts_well = !text.starts_with(['_', '-']) && !text.is_empty();
        if starts_well && text.len() <= NAME_LEN_MAX && text.bytes().all(is_inner) {
            Ok(Self(text.to_owned()))
        } else {
            Err(
                "a source's name is 1 to 64 of a-z, 0-9, _ and -, and starts with a letter or digit",
            )
        }
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Borrow<str> for SourceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Words in the names of parameters that hold a secret.
const CREDENTIAL_NAME_PARTS: [&str; 9] =
    ["token", "key", "secret", "pass", "pwd", "auth", "cred", "sig", "jwt"];

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SourceSettings {
    pub kind: SourceKind,
    /// https, or http to loopback or where `allow_plaintext` is set; without user name, password and fragment.
    pub url: Url,
    /// Whose mail it is; it names the archive's folder.
    pub account: String,
    /// Who is behind it: sources of one provider share its gate and its breaker.
    pub provider: String,
    pub auth: SourceAuth,
    pub poll_interval: Duration,
    /// How often everything is listed once more.
    pub reconcile_interval: Duration,
    pub allows_plaintext: bool,
    /// Other hosts that the server may send us to, by https; its own need not be named.
    pub allowed_hosts: Vec<String>,
    /// The mailboxes to extract, by name; all of them when empty.
    pub mailboxes: Vec<String>,
    /// Extract what is as new as this day, or newer; everything when `None`.
    pub since: Option<NaiveDate>,
    pub is_enabled: bool,
}

/// How a source is spoken to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SourceKind {
    /// RFC 8620 and RFC 8621.
    Jmap,
}

/// How a source is logged in to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SourceAuth {
    /// RFC 7617.
    Basic { username: String, password: CredentialRef },
    /// RFC 6750.
    Bearer { token: CredentialRef },
}

impl SourceAuth {
    /// Where the secret is.
    #[must_use]
    pub fn credential_ref(&self) -> &CredentialRef {
        match self {
            Self::Basic { password, .. } => password,
            Self::Bearer { token } => token,
        }
    }
}

/// Reads the name of a kind; an error says what is wrong and what to do.
pub(super) fn parse_kind(text: &str) -> Result<SourceKind, String> {
    match text {
        "jmap" => Ok(SourceKind::Jmap),
        "gmail" | "mailru" | "rest" => Err(format!(
            "is \"{text}\", which is not supported by this version; it supports \"jmap\""
        )),
        _ => Err("names no known kind; write \"jmap\"".to_owned()),
    }
}

/// Reads the address of a source; an error says what is wrong and what to do, and never quotes the address,
/// since people paste addresses with passwords in them.
pub(super) fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| {
        format!("is no address ({error}); write it in full, as in \"https://api.example.com/.well-known/jmap\"")
    })?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err(
            "is neither https nor http; write an address that starts with https://".to_owned()
        );
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or a password; move them to `auth`".to_owned());
    }
    if url.query_pairs().any(|(name, _)| is_credential_name(&name)) {
        return Err("holds what looks like a credential behind its ?; move it to `auth`".to_owned());
    }
    if url.fragment().is_some() {
        return Err("has a part after #, which no server sees; remove it".to_owned());
    }
    Ok(url)
}

/// Whether a parameter of a query is called as those are that hold secrets.
fn is_credential_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    CREDENTIAL_NAME_PARTS.iter().any(|word| name.contains(word))
}

/// Returns an address without its query, which is never shown: a secret in it may have any name.
pub(super) fn without_query(url: &Url) -> String {
    match url.query() {
        Some(query) => url.as_str().replacen(query, "[not shown]", 1),
        None => url.as_str().to_owned(),
    }
}

/// Whether what is sent there can be read on the way.
pub(super) fn is_plaintext_remote(url: &Url) -> bool {
    url.scheme() == "http" && !is_loopback(url)
}

/// Whether it is on this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        // Under schemes that are not the web's, addresses of four numbers count as domains too.
        Some(Host::Domain(domain)) => {
            domain == "localhost"
                || domain.ends_with(".localhost")
                || domain.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_lower_case_letters_digits_dash_and_underscore() {
        for name in ["work", "a", "7", "my-work_2", &"a".repeat(64)] {
            assert_eq!(
                name.parse::<SourceName>().map(|name| name.to_string()),
                Ok(name.to_owned())
            );
        }
        for name in ["", "Work", "-a", "_a", "a b", "a.b", "../a", "é", &"a".repeat(65)] {
            assert!(name.parse::<SourceName>().is_err(), "{name}");
        }
    }

    #[test]
    fn only_http_beyond_loopback_is_plaintext_remote() {
        let cases = [
            ("https://mail.example.com/", false),
            ("http://mail.example.com/", true),
            ("http://localhost:8080/", false),
            ("http://mail.localhost/", false),
            ("http://127.9.9.9/", false),
            ("http://[::1]/", false),
            ("http://10.0.0.1/", true),
            ("http://localhost.example.com/", true),
            ("http://2130706433/", false),
        ];
        for (text, exposed) in cases {
            assert_eq!(parse_url(text).map(|url| is_plaintext_remote(&url)), Ok(exposed), "{text}");
        }
    }

    #[test]
    fn a_query_is_accepted_and_hidden() {
        let url = parse_url("https://a/jmap?user=hunter2").unwrap();

        assert_eq!(url.query(), Some("user=hunter2"));
        assert_eq!(without_query(&url), "https://a/jmap?[not shown]");
    }

    #[test]
    fn a_url_with_a_password_is_rejected_and_not_quoted() {
        for text in [
            "https://me:hunter2@example.com/",
            "https://hunter2@example.com/",
            "hunter2",
            "ftp://hunter2/",
            "https://a/#hunter2",
            "https://a/?token=hunter2",
            "https://a/?x=1&API_KEY=hunter2",
            "https://a/?access%5Ftoken=hunter2",
        ] {
            let complaint = parse_url(text).expect_err("refused");
            assert!(!complaint.contains("hunter2"), "{complaint}");
        }
    }
}
