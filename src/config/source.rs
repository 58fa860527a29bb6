//! One account to extract: `[source.NAME]`.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::NaiveDate;
use url::Url;

use super::credential::CredentialRef;
use crate::engine::is_loopback_host;

/// Longest name of a source, in bytes: it is part of file names and of tables in the terminal.
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
    /// If the text is not a valid name. The error states the rule.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_inner =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
        let has_valid_start = !text.starts_with(['_', '-']) && !text.is_empty();
        if has_valid_start && text.len() <= NAME_LEN_MAX && text.bytes().all(is_inner) {
            Ok(Self(text.to_owned()))
        } else {
            Err("a source's name is 1 to 64 of a-z, 0-9, _ and -, \
                 and starts with a letter or digit")
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

/// Parts of the names of query parameters that hold a secret.
const CREDENTIAL_NAME_PARTS: [&str; 9] =
    ["token", "key", "secret", "pass", "pwd", "auth", "cred", "sig", "jwt"];

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SourceSettings {
    pub kind: SourceKind,
    /// `https`; also `http` to a loopback address, or if `allows_plaintext` is set. Without user
    /// name, password and fragment.
    pub url: Url,
    /// Owner of the mail. It names the folder in the archive.
    pub account: String,
    /// Operator of the server. Sources of one provider share its rate limiter and circuit breaker.
    pub provider: String,
    pub auth: SourceAuth,
    pub poll_interval: Duration,
    /// Interval between full listings.
    pub reconcile_interval: Duration,
    pub allows_plaintext: bool,
    /// Other hosts to which the server may refer requests, over https. The host of `url` need not
    /// be listed.
    pub allowed_hosts: Vec<String>,
    /// The mailboxes to extract, by name; all of them if empty.
    pub mailboxes: Vec<String>,
    /// First day to extract; everything is extracted if `None`.
    pub since: Option<NaiveDate>,
    pub is_enabled: bool,
}

/// Protocol of a source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SourceKind {
    /// JMAP (RFC 8620 and RFC 8621).
    Jmap,
}

impl SourceKind {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Jmap => "jmap",
        }
    }
}

/// Authentication at a source.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SourceAuth {
    /// RFC 7617.
    Basic { username: String, password: CredentialRef },
    /// RFC 6750.
    Bearer { token: CredentialRef },
}

impl SourceAuth {
    /// Returns the reference to the secret.
    #[must_use]
    pub fn credential_ref(&self) -> &CredentialRef {
        match self {
            Self::Basic { password, .. } => password,
            Self::Bearer { token } => token,
        }
    }
}

/// Parses the name of a kind. An error states the problem and the remedy.
pub(super) fn parse_kind(text: &str) -> Result<SourceKind, String> {
    match text {
        "jmap" => Ok(SourceKind::Jmap),
        "gmail" | "mailru" | "rest" => Err(format!(
            "is \"{text}\", which is not supported by this version; it supports \"jmap\""
        )),
        _ => Err("is not a known kind; write \"jmap\"".to_owned()),
    }
}

/// Parses the URL of a source. An error states the problem and the remedy. It never quotes the URL,
/// because users paste URLs with passwords.
pub(super) fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| {
        format!(
            "is not a valid URL ({error}); write it in full, such as \
             \"https://api.example.com/.well-known/jmap\""
        )
    })?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err("is neither https nor http; write a URL that starts with https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or a password; move them to `auth`".to_owned());
    }
    if url.query_pairs().any(|(name, _)| is_credential_name(&name)) {
        let message = "has a query parameter that looks like a credential; move it to `auth`";
        return Err(message.to_owned());
    }
    if url.fragment().is_some() {
        return Err("has a fragment (after #), which no server receives; remove it".to_owned());
    }
    Ok(url)
}

/// True if the name of a query parameter suggests that it holds a secret.
fn is_credential_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    CREDENTIAL_NAME_PARTS.iter().any(|part| name.contains(part))
}

/// Returns a URL with its query hidden, because a parameter of any name may be a secret.
pub(super) fn without_query(url: &Url) -> String {
    match url.query() {
        Some(query) => url.as_str().replacen(query, "[not shown]", 1),
        None => url.as_str().to_owned(),
    }
}

/// True if requests can be read on the way: plain http to another machine.
pub(super) fn is_plaintext_remote(url: &Url) -> bool {
    url.scheme() == "http" && !is_loopback(url)
}

/// True if the host of a URL is this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(is_loopback_host)
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
        for (text, expected) in cases {
            let found = parse_url(text).map(|url| is_plaintext_remote(&url));
            assert_eq!(found, Ok(expected), "{text}");
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
            let error = parse_url(text).expect_err("refused");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
