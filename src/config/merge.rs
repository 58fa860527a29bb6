//! Second stage: the layers of the configuration, merged.
//!
//! From the lowest layer to the highest: the defaults, the file, each `config.d/*.toml` beside it
//! in the order of their names, the `CYNOSURE_*` variables. Tables merge key by key. A source's
//! `auth` is replaced as a whole, because the keys of one login method mean nothing for another.
//! The files are merged into one tree here. Variables and defaults are added when the third stage
//! reads a setting by name, so that the settings are listed in one place only.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cynosure_engine::user_input::{Diagnostic, Location, closest_match};

use super::diagnostic::Diagnostics;
use super::environment::EnvVars;
use super::file::{self, Node, Table, Value};

/// Largest file that is read, in bytes. A thousand sources fit many times, and a wrong path does
/// not fill the memory.
const FILE_BYTES_MAX: u64 = 1 << 20;

const VARIABLE_PREFIX: &str = "CYNOSURE_";

/// Variables with the prefix that are not settings: they are read before, or outside, the
/// configuration.
const RESERVED_VARIABLES: [&str; 3] = ["CYNOSURE_CONFIG", "CYNOSURE_LOG", "CYNOSURE_REQUIRE_REAL"];

/// Conversion of a variable's text to a value.
#[derive(Clone, Copy)]
pub(crate) enum EnvValueForm {
    /// Unchanged: `CYNOSURE_ARCHIVE_DIR=/srv/mail`.
    Text,
    /// Parsed if it is TOML, else unchanged: `CYNOSURE_RESTART_MAX_RETRIES=5`,
    /// `…_POLL_INTERVAL=5m`, `…_MAILBOXES=["Inbox"]`.
    Toml,
}

/// Merged files, and the environment variables that override them.
pub(super) struct Layers<'e> {
    pub(super) tree: Table,
    /// Files that were read, the lowest layer first.
    pub(super) files: Vec<PathBuf>,
    pub(super) syntax_errors: Vec<Diagnostic>,
    environment: &'e EnvVars,
    /// Variables of the settings read so far, each with the dotted key of its setting.
    variables: BTreeMap<String, String>,
}

impl<'e> Layers<'e> {
    pub(super) fn without_files(environment: &'e EnvVars) -> Self {
        Self {
            tree: Table::new(),
            files: Vec::new(),
            syntax_errors: Vec::new(),
            environment,
            variables: BTreeMap::new(),
        }
    }

    /// Reads `path` and the files of `config.d` beside it.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, because its settings are unknown then.
    pub(super) fn read(path: &Path, environment: &'e EnvVars) -> Result<Self, Diagnostics> {
        let mut layers = Self::without_files(environment);
        let mut unreadable = Vec::new();
        let drop_ins = list_drop_ins(path).unwrap_or_else(|diagnostic| {
            unreadable.push(diagnostic);
            Vec::new()
        });
        for path in std::iter::once(path.to_owned()).chain(drop_ins) {
            let file: Arc<Path> = Arc::from(path.as_path());
            let bytes = read_bytes(&path).map_err(|error| read_error(Arc::clone(&file), &error));
            match bytes.and_then(|bytes| decode_utf8(bytes, &file)) {
                Ok(text) => {
                    let table = file::parse(&file, &text, &mut layers.syntax_errors);
                    merge_tables(&mut layers.tree, table, 0);
                }
                Err(diagnostic) => unreadable.push(diagnostic),
            }
            layers.files.push(path);
        }
        match Diagnostics::collect(unreadable) {
            Some(diagnostics) => Err(diagnostics),
            None => Ok(layers),
        }
    }

    /// Returns the value of the environment variable of the setting `key` (dotted), if it is set.
    pub(super) fn variable(
        &mut self,
        key: &str,
        form: EnvValueForm,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<Node> {
        let name = variable_name(key);
        let given = self.environment.get(&name).map(OsStr::to_str);
        let previous_key = self.variables.insert(name.clone(), key.to_owned());
        let text = given?;
        let location = Location::EnvVar(name);
        let mut report =
            |message| diagnostics.push(Diagnostic { location: location.clone(), message });
        if let Some(other) = previous_key {
            report(format!("could mean `{other}` or `{key}`; set them in a file instead"));
            return None;
        }
        let Some(text) = text else {
            report(format!("`{key}` is not UTF-8 text"));
            return None;
        };
        let as_text = || Value::Text(text.to_owned());
        let value = match form {
            EnvValueForm::Text => as_text(),
            EnvValueForm::Toml => file::parse_value(text, &location).unwrap_or_else(as_text),
        };
        Some(Node { location, value })
    }

    /// Reports every variable with the prefix that belongs to no setting.
    pub(super) fn report_unknown_variables(&self, diagnostics: &mut Vec<Diagnostic>) {
        let prefixed = self.environment.names().filter(|name| name.starts_with(VARIABLE_PREFIX));
        let unknown = prefixed.filter(|name| {
            !RESERVED_VARIABLES.contains(name) && !self.variables.contains_key(*name)
        });
        diagnostics.extend(unknown.map(|name| {
            let remedy = match closest_match(name, self.variables.keys().map(String::as_str)) {
                Some(known) => format!("did you mean {known}?"),
                None => "the names are CYNOSURE_TABLE_KEY, and a source must be in a file first"
                    .to_owned(),
            };
            Diagnostic {
                location: Location::EnvVar(name.to_owned()),
                message: format!("matches no setting; {remedy}"),
            }
        }));
    }
}

/// Returns the variable that overrides a setting: `CYNOSURE_SOURCE_MY_WORK_URL` for
/// `source.my-work.url`.
fn variable_name(key: &str) -> String {
    let to_upper = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    VARIABLE_PREFIX.chars().chain(key.chars().map(to_upper)).collect()
}

/// Lists `config.d/*.toml` beside the file, by name. Hidden files are skipped, because they belong
/// to editors.
fn list_drop_ins(path: &Path) -> Result<Vec<PathBuf>, Diagnostic> {
    let folder = path.with_file_name("config.d");
    let list = || -> io::Result<Vec<PathBuf>> {
        fs_err::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect()
    };
    let mut paths = match list() {
        Ok(paths) => paths,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(read_error(Arc::from(folder), &error)),
    };
    let is_hidden = |path: &Path| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
    };
    paths.retain(|path| {
        path.extension().is_some_and(|extension| extension == "toml") && !is_hidden(path)
    });
    paths.sort();
    Ok(paths)
}

/// Reads a file of the configuration, which must not be larger than [`FILE_BYTES_MAX`].
pub(super) fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs_err::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|bytes| bytes <= FILE_BYTES_MAX) {
        return Ok(bytes);
    }
    Err(io::ErrorKind::FileTooLarge.into())
}

/// Decodes the content of a file as UTF-8. The error has the location of the first invalid byte.
pub(super) fn decode_utf8(bytes: Vec<u8>, file: &Arc<Path>) -> Result<String, Diagnostic> {
    String::from_utf8(bytes).map_err(|error| {
        let (before, rest) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
        let before = String::from_utf8_lossy(before);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let byte = rest.first().copied().unwrap_or_default();
        Diagnostic {
            location: Location::Line { file: Arc::clone(file), line, column },
            message: format!("not UTF-8 text (byte 0x{byte:02X}); save it as UTF-8"),
        }
    })
}

fn read_error(file: Arc<Path>, error: &io::Error) -> Diagnostic {
    // Only the kind is shown, because the error's own text repeats the path.
    let kind = error.kind();
    let message = if kind == io::ErrorKind::NotFound {
        "there is no such file; copy the example config.toml there and edit it, \
         name another with --config, or try `cynosure demo`, which needs none"
            .to_owned()
    } else if kind == io::ErrorKind::FileTooLarge {
        format!("larger than {FILE_BYTES_MAX} bytes; is it the right file?")
    } else {
        format!("cannot be read ({kind}); see that it is a file, and that this user may read it")
    };
    Diagnostic { location: Location::File(file), message }
}

/// Depth of the keys of `[source.NAME]` in the tree.
const SOURCE_KEYS_DEPTH: usize = 2;

/// Merges `above` into `below`: tables key by key; any other value replaces the one below.
fn merge_tables(below: &mut Table, above: Table, depth: usize) {
    for (key, upper) in above {
        let is_replaced_whole = depth == SOURCE_KEYS_DEPTH && key == "auth";
        match (below.get_mut(&key), upper) {
            (
                Some(Node { value: Value::Table(lower), .. }),
                Node { value: Value::Table(upper), .. },
            ) if !is_replaced_whole => {
                merge_tables(lower, upper, depth + 1);
            }
            (_, upper) => {
                below.insert(key, upper);
            }
        }
    }
}
