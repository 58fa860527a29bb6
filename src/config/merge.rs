//! Second stage: the layers, laid over each other.
//!
//! The file lies over the defaults, then each `config.d/*.toml` beside it by name, then `CYNOSURE_*` variables.
//! Tables merge key by key. A source's `auth` is one value: half of one way to log in says nothing about another.
//! The files become one tree at once; variables and defaults join when the third stage asks for a setting by name,
//! so that the settings are listed in one place only.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::environment::EnvVars;
use super::file::{self, Node, Table, Value};
use super::location::Location;
use super::suggest::closest_match;

/// The largest file that is read, in bytes: a thousand sources fit many times, a wrong path does not fill the memory.
const FILE_BYTES_MAX: u64 = 1 << 20;

const VARIABLE_PREFIX: &str = "CYNOSURE_";

/// Variables with our prefix that are no settings: they are read before, or outside, the configuration.
const RESERVED_VARIABLES: [&str; 3] = ["CYNOSURE_CONFIG", "CYNOSURE_LOG", "CYNOSURE_REQUIRE_REAL"];

/// How the text of a variable becomes a value.
#[derive(Clone, Copy)]
pub(super) enum Variable {
    /// As it is: `CYNOSURE_ARCHIVE_DIR=/srv/mail`.
    Text,
    /// As TOML if it is TOML, else as it is: `CYNOSURE_RESTART_MAX_RETRIES=5`, `…_POLL_INTERVAL=5m`, `…_MAILBOXES=["Inbox"]`.
    Toml,
}

/// All that was given, by files and by variables.
pub(super) struct Layers<'e> {
    pub(super) tree: Table,
    /// The files that were read, the lowest first.
    pub(super) files: Vec<PathBuf>,
    pub(super) syntax_errors: Vec<Diagnostic>,
    environment: &'e EnvVars,
    /// The variables asked for so far, and the setting each one means.
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
    /// When a file cannot be read: what the configuration says, or leaves out, is not known then.
    pub(super) fn read(path: &Path, environment: &'e EnvVars) -> Result<Self, Diagnostics> {
        let mut layers = Self::without_files(environment);
        let mut unreadable = Vec::new();
        let drop_ins = drop_ins(path).unwrap_or_else(|mistake| {
            unreadable.push(mistake);
            Vec::new()
        });
        for path in std::iter::once(path.to_owned()).chain(drop_ins) {
            let file: Arc<Path> = Arc::from(path.as_path());
            let bytes = read_bytes(&path).map_err(|error| cannot_read(Arc::clone(&file), &error));
            match bytes.and_then(|bytes| as_text(bytes, &file)) {
                Ok(text) => {
                    let table = file::parse(&file, &text, &mut layers.syntax_errors);
                    overlay(&mut layers.tree, table, 0);
                }
                Err(mistake) => unreadable.push(mistake),
            }
            layers.files.push(path);
        }
        match Diagnostics::collect(unreadable) {
            Some(mistakes) => Err(mistakes),
            None => Ok(layers),
        }
    }

    /// Takes what the environment says about the setting `key` (dotted), if it says anything.
    pub(super) fn variable(
        &mut self,
        key: &str,
        form: Variable,
        mistakes: &mut Vec<Diagnostic>,
    ) -> Option<Node> {
        let name = variable_name(key);
        let given = self.environment.get(&name).map(OsStr::to_str);
        let claimed = self.variables.insert(name.clone(), key.to_owned());
        let text = given?;
        let place = Location::EnvVar(name);
        let mut refuse =
            |what| mistakes.push(Diagnostic { location: place.clone(), message: what });
        if let Some(other) = claimed {
            refuse(format!("could mean `{other}` or `{key}`; set them in a file instead"));
            return None;
        }
        let Some(text) = text else {
            refuse(format!("`{key}` is not UTF-8 text"));
            return None;
        };
        let as_text = || Value::Text(text.to_owned());
        let value = match form {
            Variable::Text => as_text(),
            Variable::Toml => file::parse_value(text, &place).unwrap_or_else(as_text),
        };
        Some(Node { place, value })
    }

    /// Reports every variable with our prefix that no setting asked for.
    pub(super) fn report_unknown_variables(&self, mistakes: &mut Vec<Diagnostic>) {
        let ours = self.environment.names().filter(|name| name.starts_with(VARIABLE_PREFIX));
        let unknown = ours.filter(|name| {
            !RESERVED_VARIABLES.contains(name) && !self.variables.contains_key(*name)
        });
        mistakes.extend(unknown.map(|name| {
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

/// Returns the variable that overrides a setting: `source.my-work.url` is `CYNOSURE_SOURCE_MY_WORK_URL`.
fn variable_name(key: &str) -> String {
    let upper = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    VARIABLE_PREFIX.chars().chain(key.chars().map(upper)).collect()
}

/// Lists `config.d/*.toml` beside the file, by name; hidden files are an editor's, not ours.
fn drop_ins(path: &Path) -> Result<Vec<PathBuf>, Diagnostic> {
    let folder = path.with_file_name("config.d");
    let list = || -> io::Result<Vec<PathBuf>> {
        fs_err::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect()
    };
    let mut paths = match list() {
        Ok(paths) => paths,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(cannot_read(Arc::from(folder), &error)),
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

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs_err::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|bytes| bytes <= FILE_BYTES_MAX) {
        return Ok(bytes);
    }
    Err(io::ErrorKind::FileTooLarge.into())
}

/// Takes the content of a file as text; the place of a mistake is the first byte that is none.
fn as_text(bytes: Vec<u8>, file: &Arc<Path>) -> Result<String, Diagnostic> {
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

fn cannot_read(file: Arc<Path>, error: &io::Error) -> Diagnostic {
    // Only the kind is told, since the error's own text repeats the path.
    let kind = error.kind();
    let what = if kind == io::ErrorKind::NotFound {
        "there is no such file; copy the example config.toml there and edit it, name another with --config, \
         or try `cynosure demo`, which needs none"
            .to_owned()
    } else if kind == io::ErrorKind::FileTooLarge {
        format!("larger than {FILE_BYTES_MAX} bytes; is it the right file?")
    } else {
        format!("cannot be read ({kind}); see that it is a file, and that this user may read it")
    };
    Diagnostic { location: Location::File(file), message: what }
}

/// The depth at which the keys of `[source.NAME]` lie.
const SOURCE_KEYS_DEPTH: usize = 2;

/// Lays one tree over another: tables merge, anything else replaces.
fn overlay(below: &mut Table, above: Table, depth: usize) {
    for (key, upper) in above {
        let is_whole = depth == SOURCE_KEYS_DEPTH && key == "auth";
        match (below.get_mut(&key), upper) {
            (
                Some(Node { value: Value::Table(lower), .. }),
                Node { value: Value::Table(upper), .. },
            ) if !is_whole => {
                overlay(lower, upper, depth + 1);
            }
            (_, upper) => {
                below.insert(key, upper);
            }
        }
    }
}
