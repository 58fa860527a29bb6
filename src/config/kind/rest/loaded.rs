//! Profile of a source, as it is loaded: one of the built-in ones, or a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cynosure_engine::user_input::{Diagnostic, Location, closest_match};

use crate::config::auth::{reject_unknown_keys, required_text};
use crate::config::file::{Node, Table, Value, parse, plain_text};
use crate::config::folder::base_folder;
use crate::config::merge::{EnvValueForm, decode_utf8, read_bytes};
use crate::config::provider_defaults::DefaultsOrigin;
use crate::config::reader::Section;
use crate::config::show::{quote, quote_key};

const PROFILE_HELP: &str =
    "write profile = \"gmail\", \"graph\" or \"mailru\", or profile = { file = \"my.toml\" }";

/// Name and text of each built-in profile.
const BUILTIN_PROFILES: &[(&str, &str)] = &[
    ("gmail", include_str!("../../../../profiles/gmail.toml")),
    ("graph", include_str!("../../../../profiles/graph.toml")),
    ("mailru", include_str!("../../../../profiles/mailru.toml")),
];

/// Keys of a profile.
const PROFILE_KEYS: [&str; 20] = [
    "base_url",
    "auth",
    "options",
    "headers",
    "query",
    "ok",
    "account",
    "pin",
    "parts",
    "folders",
    "list",
    "documents",
    "fetch",
    "changes",
    "sweep",
    "again",
    "error",
    "pace",
    "quota",
    "records",
];

/// Keys of a source that a profile does not have.
const SOURCE_KEYS: [&str; 8] = [
    "allow_hosts",
    "allow_plaintext",
    "enabled",
    "kind",
    "poll_interval",
    "profile",
    "provider",
    "reconcile_interval",
];

/// Profile as it is written.
#[derive(Debug)]
pub(super) struct LoadedProfile {
    /// `None` if the source declares its tables itself.
    pub(super) origin: Option<ProfileOrigin>,
    tables: Table,
}

/// Place of a profile.
#[derive(Clone, Debug)]
pub(super) enum ProfileOrigin {
    BuiltIn(&'static str),
    File(PathBuf),
}

impl ProfileOrigin {
    /// Returns the name of a built-in profile, or the path of the file.
    pub(super) fn name(&self) -> String {
        match self {
            Self::BuiltIn(name) => (*name).to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }

    pub(super) fn as_defaults(&self) -> DefaultsOrigin {
        DefaultsOrigin::profile(&self.name())
    }
}

impl LoadedProfile {
    /// Removes the value of a key and returns it.
    pub(super) fn take(&mut self, key: &str) -> Option<Node> {
        self.tables.remove(key)
    }

    /// Records a value of the profile that is in effect, for `config show`.
    pub(super) fn record(
        &self,
        section: &mut Section<'_, '_>,
        key: &'static str,
        toml_value: String,
        location: &Location,
    ) {
        match &self.origin {
            Some(origin @ ProfileOrigin::BuiltIn(_)) => {
                section.record(key, Some(toml_value), None);
                section.record_origin(key, &origin.as_defaults());
            }
            // The location names the file.
            Some(ProfileOrigin::File(_)) | None => {
                section.record(key, Some(toml_value), Some(location.clone()));
            }
        }
    }
}

/// Reads `profile`, or loads the profile that the kind of the source names. Returns `None` if it is
/// invalid; the error is then recorded.
pub(super) fn read_profile(
    section: &mut Section<'_, '_>,
    kind_profile: Option<&'static str>,
) -> Option<LoadedProfile> {
    let errors_before = section.reader.diagnostics.len();
    if let Some(name) = kind_profile {
        section.given("profile", EnvValueForm::Toml, |_| -> Result<(), String> {
            Err(format!(
                "is a second profile, as kind = {} has one; remove it, or write kind = \"rest\"",
                quote(name)
            ))
        });
        return load_builtin(section, name);
    }
    let fallback = section.reader.folder.clone();
    let given = section.given("profile", EnvValueForm::Toml, |node| {
        read_reference(node, &base_folder(&node.location).unwrap_or(fallback))
    });
    match given {
        Some((ProfileReference::BuiltIn(name), location)) => {
            section.record("profile", Some(quote(name)), Some(location));
            load_builtin(section, name)
        }
        Some((ProfileReference::File { path, bytes }, location)) => {
            let shown = format!("{{ file = {} }}", quote(&path.to_string_lossy()));
            section.record("profile", Some(shown), Some(location));
            load_file(section, path, bytes)
        }
        None if errors_before < section.reader.diagnostics.len() => None,
        None => Some(LoadedProfile { origin: None, tables: Table::new() }),
    }
}

/// Value of `profile`.
enum ProfileReference {
    BuiltIn(&'static str),
    File { path: PathBuf, bytes: Vec<u8> },
}

fn read_reference(node: &Node, folder: &Path) -> Result<ProfileReference, String> {
    let Value::Table(table) = &node.value else {
        let name = plain_text(&node.value)?;
        return match builtin_names().find(|known| *known == name) {
            Some(name) => Ok(ProfileReference::BuiltIn(name)),
            None => {
                let suggestion = closest_match(name, builtin_names())
                    .map(|known| format!("; did you mean {}?", quote(known)));
                let suggestion = suggestion.unwrap_or_else(|| format!("; {PROFILE_HELP}"));
                Err(format!("is {}, which is not a built-in profile{suggestion}", quote(name)))
            }
        };
    };
    reject_unknown_keys(table, &["file"], PROFILE_HELP)?;
    let path = folder.join(required_text(table, "file")?);
    let bytes = read_bytes(&path).map_err(|error| {
        // Only the kind is shown, because the error's own text repeats the path.
        let (path, kind) = (path.display(), error.kind());
        format!(
            "names {path}, which cannot be read ({kind}); correct the path, or see that it is a \
             file that this user may read"
        )
    })?;
    Ok(ProfileReference::File { path, bytes })
}

fn load_builtin(section: &mut Section<'_, '_>, name: &'static str) -> Option<LoadedProfile> {
    let tables = parse_builtin(name, &mut section.reader.layers.syntax_errors)?;
    Some(LoadedProfile { origin: Some(ProfileOrigin::BuiltIn(name)), tables })
}

fn load_file(
    section: &mut Section<'_, '_>,
    path: PathBuf,
    bytes: Vec<u8>,
) -> Option<LoadedProfile> {
    let tables = parse_file(&path, bytes, &mut section.reader.layers.syntax_errors)?;
    for (key, node) in tables.iter().filter(|(key, _)| !PROFILE_KEYS.contains(&key.as_str())) {
        let remedy = match closest_match(key, PROFILE_KEYS) {
            _ if SOURCE_KEYS.contains(&key.as_str()) => {
                "it belongs to the source; move it there".to_owned()
            }
            Some(known) => format!("did you mean `{known}`?"),
            None => format!("the keys of a profile are {}", PROFILE_KEYS.join(", ")),
        };
        let message = format!("unknown key `{}`; {remedy}", quote_key(key));
        section.reader.report_error(node.location.clone(), message);
    }
    Some(LoadedProfile { origin: Some(ProfileOrigin::File(path)), tables })
}

/// Returns the names of the built-in profiles.
fn builtin_names() -> impl Iterator<Item = &'static str> + Clone {
    BUILTIN_PROFILES.iter().map(|(name, _)| *name)
}

/// Parses a built-in profile. `None` if there is none of this name.
fn parse_builtin(name: &str, syntax_errors: &mut Vec<Diagnostic>) -> Option<Table> {
    let (name, text) = BUILTIN_PROFILES.iter().find(|(known, _)| *known == name)?;
    let file: Arc<Path> = Arc::from(Path::new(&format!("profiles/{name}.toml")));
    Some(parse(&file, text, syntax_errors))
}

/// Parses the file of a profile. Returns `None` for one that is not TOML, because its other errors
/// would only follow from that.
fn parse_file(path: &Path, bytes: Vec<u8>, syntax_errors: &mut Vec<Diagnostic>) -> Option<Table> {
    let file: Arc<Path> = Arc::from(path);
    let text = match decode_utf8(bytes, &file) {
        Ok(text) => text,
        Err(diagnostic) => {
            syntax_errors.push(diagnostic);
            return None;
        }
    };
    let errors_before = syntax_errors.len();
    let tables = parse(&file, &text, syntax_errors);
    (syntax_errors.len() == errors_before).then_some(tables)
}
