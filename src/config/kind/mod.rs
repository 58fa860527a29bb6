//! Kinds of sources, and the keys of `[source.NAME]` that only one kind has.
//!
//! Another kind is a module with its settings and their readers, a variant of [`KindSettings`] and
//! a line in [`KINDS`].

mod jmap;

pub use self::jmap::JmapSettings;

use cynosure_engine::user_input::Location;

use super::reader::Section;
use super::show::quote;

/// Settings that only one kind of source has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KindSettings {
    /// JMAP (RFC 8620 and RFC 8621).
    Jmap(JmapSettings),
}

/// All kinds.
const KINDS: &[Kind] = &[Kind { name: jmap::NAME, read_address: read_jmap }];

/// Names of kinds that this version does not have yet.
const UNSUPPORTED_NAMES: [&str; 3] = ["gmail", "mailru", "rest"];

/// Kind of source that a table may select.
pub(super) struct Kind {
    name: &'static str,
    /// Reads the keys that come before those of every source.
    read_address: fn(&mut Section<'_, '_>, &Location) -> KindAddress,
}

/// Reader of the keys that only one kind has.
type KindReader = Box<dyn FnOnce(&mut Section<'_, '_>) -> Option<KindSettings>>;

/// Server of a source, and the reader of the keys that come after those of every source.
pub(super) struct KindAddress {
    /// Host of the server; empty if it is missing or invalid.
    pub(super) host: String,
    /// Returns `None` if a required setting is missing or invalid; the error is then recorded.
    pub(super) read_rest: KindReader,
}

impl KindSettings {
    /// Returns the name of the kind, as the state file and the metrics have it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Jmap(_) => jmap::NAME,
        }
    }

    /// True if requests are plain http and `allow_plaintext` is not set: only the way to this
    /// machine is safe then.
    pub(super) fn is_plain_http_without_consent(&self) -> bool {
        match self {
            Self::Jmap(jmap) => jmap.url.scheme() == "http" && !jmap.allows_plaintext,
        }
    }
}

/// Reads `kind`. Returns `None` if it is missing or invalid; the error is then recorded.
pub(super) fn read_kind(table: &mut Section<'_, '_>, location: &Location) -> Option<&'static Kind> {
    let remedy = format!("write kind = {}", supported_names());
    let kind = table.required_text("kind", location, &remedy, find_kind, |kind| quote(kind.name));
    kind.map(|(kind, _)| kind)
}

/// Reads the address of the server by the keys of its kind. Without a valid kind, they are checked
/// as those of the first one, so that one run finds every error.
pub(super) fn read_address(
    kind: Option<&Kind>,
    table: &mut Section<'_, '_>,
    location: &Location,
) -> KindAddress {
    (kind.unwrap_or(&KINDS[0]).read_address)(table, location)
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

fn read_jmap(table: &mut Section<'_, '_>, location: &Location) -> KindAddress {
    let url = jmap::read_url(table, location);
    let host = url.as_ref().and_then(|(url, _)| url.host_str()).unwrap_or_default().to_owned();
    let read_rest = Box::new(move |table: &mut Section<'_, '_>| {
        jmap::read_rest(table, url).map(KindSettings::Jmap)
    });
    KindAddress { host, read_rest }
}
