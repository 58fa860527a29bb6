//! Kinds of sources, and the keys of `[source.NAME]` that only one kind has.
//!
//! Another kind is a module with its settings and their readers, a variant of [`KindSettings`] and
//! a line in [`KINDS`].

mod imap;
mod jmap;

pub use self::imap::{ImapSecurity, ImapSettings};
pub use self::jmap::JmapSettings;

use cynosure_engine::user_input::Location;

use super::preset::{self, Preset};
use super::reader::Section;
use super::show::quote;
use super::source_auth::SourceAuth;

/// Settings that only one kind of source has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KindSettings {
    /// JMAP (RFC 8620 and RFC 8621).
    Jmap(JmapSettings),
    /// IMAP (RFC 9051 and RFC 3501).
    Imap(ImapSettings),
}

/// All kinds.
const KINDS: &[Kind] = &[
    Kind { name: jmap::NAME, read_head: read_jmap },
    Kind { name: imap::NAME, read_head: read_imap },
];

/// Names of kinds that this version does not have yet.
const UNSUPPORTED_NAMES: [&str; 3] = ["gmail", "mailru", "rest"];

/// Kind of source that a table may select.
pub(super) struct Kind {
    name: &'static str,
    /// Reads the keys that come before those of every source.
    read_head: fn(&mut Section<'_, '_>, &Location) -> SourceHead,
}

/// Reader of the keys that only one kind has.
type KindReader = Box<dyn FnOnce(&mut Section<'_, '_>) -> Option<KindSettings>>;

/// Account and server of a source, and the reader of the keys that come after those of every
/// source. What is missing or invalid is `None`; its error is then recorded.
pub(super) struct SourceHead {
    pub(super) account: Option<String>,
    pub(super) auth: Option<SourceAuth>,
    /// Default of `provider`; empty without a server.
    pub(super) provider: String,
    /// Preset that `provider` comes from.
    pub(super) preset: Option<&'static Preset>,
    pub(super) read_rest: KindReader,
}

/// Setting because of which requests are not encrypted.
pub(super) struct PlaintextSetting {
    pub(super) key: &'static str,
    pub(super) problem: &'static str,
    pub(super) remedy: &'static str,
}

impl KindSettings {
    /// Returns the name of the kind, as the state file and the metrics have it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Jmap(_) => jmap::NAME,
            Self::Imap(_) => imap::NAME,
        }
    }

    /// Returns the host name of the server.
    #[must_use]
    pub fn host(&self) -> &str {
        match self {
            Self::Jmap(jmap) => jmap.url.host_str().unwrap_or_default(),
            Self::Imap(imap) => &imap.host,
        }
    }

    /// True if all requests are sent over HTTP.
    #[must_use]
    pub fn uses_http(&self) -> bool {
        match self {
            Self::Jmap(_) => true,
            Self::Imap(_) => false,
        }
    }

    /// Returns the preset of the mail provider.
    pub(super) fn preset(&self) -> Option<&'static Preset> {
        match self {
            Self::Jmap(_) => None,
            Self::Imap(imap) => preset::find_by_host(&imap.host),
        }
    }

    /// Returns the setting because of which requests are not encrypted. `None` if they are, or if
    /// `allow_plaintext` is set; with it, only the way to this machine is safe.
    pub(super) fn plaintext_setting(&self) -> Option<PlaintextSetting> {
        let (is_plaintext, setting) = match self {
            Self::Jmap(jmap) => (
                jmap.url.scheme() == "http" && !jmap.allows_plaintext,
                PlaintextSetting { key: "url", problem: "is plain http", remedy: "write https://" },
            ),
            Self::Imap(imap) => (
                imap.security == ImapSecurity::None && !imap.allows_plaintext,
                PlaintextSetting {
                    key: "security",
                    problem: "is \"none\"",
                    remedy: "write \"tls\" or \"starttls\"",
                },
            ),
        };
        is_plaintext.then_some(setting)
    }
}

/// Reads `kind`. Returns `None` if it is missing or invalid; the error is then recorded.
pub(super) fn read_kind(table: &mut Section<'_, '_>, location: &Location) -> Option<&'static Kind> {
    let remedy = format!("write kind = {}", supported_names());
    let kind = table.required_text("kind", location, &remedy, find_kind, |kind| quote(kind.name));
    kind.map(|(kind, _)| kind)
}

/// Reads account, server and authentication by the keys of a kind. Without a valid kind, they are
/// checked as those of the first one, so that one run finds every error.
pub(super) fn read_head(
    kind: Option<&Kind>,
    table: &mut Section<'_, '_>,
    location: &Location,
) -> SourceHead {
    (kind.unwrap_or(&KINDS[0]).read_head)(table, location)
}

/// Finds a kind by its name. An error states the problem and the remedy.
fn find_kind(name: &str) -> Result<&'static Kind, String> {
    KINDS.iter().find(|kind| kind.name == name).ok_or_else(|| {
        if UNSUPPORTED_NAMES.contains(&name) {
            let supported = supported_names();
            return format!(
                "is {}, which is not supported by this version; it supports {supported}",
                quote(name)
            );
        }
        format!("is not a known kind; write {}", supported_names())
    })
}

fn supported_names() -> String {
    KINDS.iter().map(|kind| quote(kind.name)).collect::<Vec<_>>().join(" or ")
}

fn read_jmap(table: &mut Section<'_, '_>, location: &Location) -> SourceHead {
    let url = jmap::read_url(table, location);
    let host = url.as_ref().and_then(|(url, _)| url.host_str()).unwrap_or_default().to_owned();
    let auth = jmap::read_auth(table, location);
    let account = jmap::read_account(table, location, auth.as_ref());
    let read_rest = Box::new(move |table: &mut Section<'_, '_>| {
        jmap::read_rest(table, url).map(KindSettings::Jmap)
    });
    SourceHead { account, auth, provider: host, preset: None, read_rest }
}

fn read_imap(table: &mut Section<'_, '_>, location: &Location) -> SourceHead {
    let account = imap::read_account(table, location);
    let server = imap::read_server(table, location, account.as_deref());
    let preset = server.as_ref().and_then(|server| server.preset);
    let auth = imap::read_auth(table, location, account.as_deref(), preset);
    let host = server.as_ref().map(|server| server.host.as_str());
    let provider = preset.map(|preset| preset.name).or(host).unwrap_or_default().to_owned();
    let read_rest = Box::new(move |table: &mut Section<'_, '_>| {
        imap::read_rest(table, server).map(KindSettings::Imap)
    });
    SourceHead { account, auth, provider, preset, read_rest }
}
