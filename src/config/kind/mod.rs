//! Kinds of sources, and the keys of `[source.NAME]` that only one kind has.
//!
//! Another kind is a module with its settings and their readers, a variant of [`KindSettings`] and
//! a line in [`KINDS`].

mod document_format;
mod imap;
mod jmap;
mod rest;

pub use self::document_format::DocumentFormatSettings;
pub use self::imap::{ImapSecurity, ImapSettings};
pub use self::jmap::JmapSettings;
pub use self::rest::{RestLimits, RestSettings, profile_error_rules};

use cynosure_engine::user_input::{Location, closest_match};

use self::rest::RestHead;
use super::preset;
use super::provider_defaults::{DefaultsOrigin, ProviderDefaults};
use super::reader::Section;
use super::show::quote;
use super::source_auth::SourceAuth;

/// Settings that only one kind of source has.
#[derive(Clone, Debug, PartialEq)]
pub enum KindSettings {
    /// JMAP (RFC 8620 and RFC 8621).
    Jmap(JmapSettings),
    /// IMAP (RFC 9051 and RFC 3501).
    Imap(ImapSettings),
    /// API over HTTP that the tables of a profile describe.
    Rest(Box<RestSettings>),
}

/// All kinds. A name after `rest` is that of a built-in profile, whose kind is `rest`.
const KINDS: &[Kind] = &[
    Kind { name: jmap::NAME, read_head: read_jmap },
    Kind { name: imap::NAME, read_head: read_imap },
    Kind { name: rest::NAME, read_head: |table, location| read_api(table, location, None) },
    Kind {
        name: rest::GMAIL,
        read_head: |table, location| read_api(table, location, Some(rest::GMAIL)),
    },
    Kind {
        name: rest::GRAPH,
        read_head: |table, location| read_api(table, location, Some(rest::GRAPH)),
    },
    Kind {
        name: rest::MAILRU,
        read_head: |table, location| read_api(table, location, Some(rest::MAILRU)),
    },
];

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
    pub(super) provider_origin: Option<DefaultsOrigin>,
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
            Self::Rest(_) => rest::NAME,
        }
    }

    /// Returns the name of the profile, or the path of its file. `None` without one.
    #[must_use]
    pub fn profile(&self) -> Option<&str> {
        match self {
            Self::Jmap(_) | Self::Imap(_) => None,
            Self::Rest(rest) => rest.profile.name.as_deref(),
        }
    }

    /// Returns the settings of a REST source; `None` for another kind.
    #[must_use]
    pub fn rest(&self) -> Option<&RestSettings> {
        match self {
            Self::Jmap(_) | Self::Imap(_) => None,
            Self::Rest(rest) => Some(rest),
        }
    }

    /// Returns the form in which the documents are stored.
    #[must_use]
    pub fn document_format(&self) -> DocumentFormatSettings {
        match self {
            Self::Jmap(_) | Self::Imap(_) => DocumentFormatSettings::default(),
            Self::Rest(rest) => rest.format.clone(),
        }
    }

    /// Returns the host name of the server.
    #[must_use]
    pub fn host(&self) -> &str {
        match self {
            Self::Jmap(jmap) => jmap.url.host_str().unwrap_or_default(),
            Self::Imap(imap) => &imap.host,
            Self::Rest(rest) => rest.base_url.host_str().unwrap_or_default(),
        }
    }

    /// True if all requests are sent over HTTP.
    #[must_use]
    pub fn uses_http(&self) -> bool {
        match self {
            Self::Jmap(_) | Self::Rest(_) => true,
            Self::Imap(_) => false,
        }
    }

    /// Returns the settings of the provider that follow from the preset or the profile.
    pub(super) fn provider_defaults(&self) -> Option<ProviderDefaults> {
        match self {
            Self::Jmap(_) => None,
            Self::Imap(imap) => {
                let preset = preset::find_by_host(&imap.host)?;
                Some(ProviderDefaults {
                    origin: DefaultsOrigin::preset(preset.name),
                    connections: Some(preset.connections),
                    concurrency: None,
                    bytes_per_day: preset.bytes_per_day,
                    cap: None,
                    // Mail providers limit each account.
                    is_per_account: true,
                })
            }
            Self::Rest(rest) => {
                let name = rest.profile.name.as_deref();
                if name.is_none() && rest.limits == RestLimits::default() {
                    return None;
                }
                let origin = name.map_or_else(DefaultsOrigin::own_tables, DefaultsOrigin::profile);
                Some(ProviderDefaults {
                    origin,
                    connections: None,
                    concurrency: rest.limits.in_flight,
                    bytes_per_day: None,
                    cap: rest.limits.cap,
                    is_per_account: name.is_some(),
                })
            }
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
            Self::Rest(rest) => (
                rest.base_url.scheme() == "http" && !rest.allows_plaintext,
                PlaintextSetting {
                    key: "base_url",
                    problem: "is plain http",
                    remedy: "write https://",
                },
            ),
        };
        is_plaintext.then_some(setting)
    }
}

/// Reads `kind`. If it is missing or invalid, the error is recorded, and the kind as which the other
/// keys are checked is returned as `Err`, so that one run finds every error.
pub(super) fn read_kind(
    table: &mut Section<'_, '_>,
    location: &Location,
) -> Result<&'static Kind, &'static Kind> {
    let remedy = format!("write kind = {}", supported_names());
    let mut fallback = &KINDS[0];
    let find = |name: &str| {
        find_kind(name).ok_or_else(|| match find_similar_kind(name) {
            Some(similar) => {
                fallback = similar;
                format!("is not a known kind; did you mean {}?", quote(similar.name))
            }
            None => format!("is not a known kind; write {}", supported_names()),
        })
    };
    let kind = table.required_text("kind", location, &remedy, find, |kind| quote(kind.name));
    kind.map(|(kind, _)| kind).ok_or(fallback)
}

/// Reads account, server and authentication by the keys of a kind.
pub(super) fn read_head(
    kind: &Kind,
    table: &mut Section<'_, '_>,
    location: &Location,
) -> SourceHead {
    (kind.read_head)(table, location)
}

fn find_kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// Finds the kind that a misspelt name most likely means.
fn find_similar_kind(name: &str) -> Option<&'static Kind> {
    let names = KINDS.iter().map(|kind| kind.name);
    closest_match(&name.to_lowercase(), names).and_then(find_kind)
}

fn supported_names() -> String {
    let names: Vec<String> = KINDS.iter().map(|kind| quote(kind.name)).collect();
    match names.split_last() {
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

fn read_jmap(table: &mut Section<'_, '_>, location: &Location) -> SourceHead {
    let url = jmap::read_url(table, location);
    let host = url.as_ref().and_then(|(url, _)| url.host_str()).unwrap_or_default().to_owned();
    let auth = jmap::read_auth(table, location);
    let account = jmap::read_account(table, location, auth.as_ref());
    let read_rest = Box::new(move |table: &mut Section<'_, '_>| {
        jmap::read_rest(table, url).map(KindSettings::Jmap)
    });
    SourceHead { account, auth, provider: host, provider_origin: None, read_rest }
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
    let provider_origin = preset.map(|preset| DefaultsOrigin::preset(preset.name));
    SourceHead { account, auth, provider, provider_origin, read_rest }
}

/// Reads an API by the built-in profile that the kind selects, or by what the source has.
fn read_api(
    table: &mut Section<'_, '_>,
    location: &Location,
    kind_profile: Option<&'static str>,
) -> SourceHead {
    let RestHead { account, auth, api } = rest::read_head(table, location, kind_profile);
    let provider = api.as_ref().map(|api| api.host().to_owned()).unwrap_or_default();
    let read_rest = Box::new(move |table: &mut Section<'_, '_>| {
        rest::read_rest(table, api).map(|settings| KindSettings::Rest(Box::new(settings)))
    });
    SourceHead { account, auth, provider, provider_origin: None, read_rest }
}
