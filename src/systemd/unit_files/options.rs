//! Options of generated unit files, and their paths in the syntax of unit files.

use std::path::{Path, PathBuf};

use cynosure_engine::sanitize_line;

/// Characters of a path that have a meaning in a setting (systemd.syntax(7), systemd.service(5),
/// systemd.unit(5)), beside control characters.
const SPECIAL_CHARS: [char; 5] = ['"', '\'', '\\', '$', '%'];

/// Service manager that runs the units.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ManagerScope {
    /// Manager of the machine, PID 1.
    System,
    /// Manager of one user, which has the privileges of that user only.
    User,
}

/// Installation that the unit files describe. The paths are absolute.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnitFileOptions {
    pub scope: ManagerScope,
    /// Name of the worker's unit, without `.service`.
    pub service_name: String,
    pub program: PathBuf,
    pub config_file: PathBuf,
    pub state_dir: PathBuf,
    /// Other folders in which the worker writes, such as the archive. They must exist.
    pub written_folders: Vec<PathBuf>,
    /// User of the units of the system. A user's own manager needs none.
    pub user: String,
    /// The worker reads files in a home folder.
    pub uses_home_folder: bool,
    /// The configuration names credentials of systemd.
    pub uses_credential_folder: bool,
}

/// Paths of an installation, as unit files write them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct UnitPaths {
    pub program: String,
    pub config_file: String,
    pub state_dir: String,
    /// The state folder, for the one setting that takes a path without quotes.
    pub working_directory: String,
    /// The other folders in which the worker writes.
    pub written_folders: Vec<String>,
}

impl UnitPaths {
    /// # Errors
    /// One sentence about the first path that a unit file cannot contain.
    pub(super) fn new(options: &UnitFileOptions) -> Result<Self, String> {
        let written = options.written_folders.iter().map(|folder| quoted_path(folder));
        Ok(Self {
            program: quoted_path(&options.program)?,
            config_file: quoted_path(&options.config_file)?,
            state_dir: quoted_path(&options.state_dir)?,
            working_directory: plain_path(&options.state_dir)?.to_owned(),
            written_folders: written.collect::<Result<_, _>>()?,
        })
    }
}

/// Returns a path as one word of a setting.
fn quoted_path(path: &Path) -> Result<String, String> {
    let text = plain_path(path)?;
    Ok(if text.contains(char::is_whitespace) { format!("\"{text}\"") } else { text.to_owned() })
}

/// Returns the text of an absolute path that has no character with a meaning in unit files.
fn plain_path(path: &Path) -> Result<&str, String> {
    let is_plain = |text: &&str| {
        text.starts_with('/')
            && text.trim() == *text
            && !text.chars().any(|c| c.is_control() || SPECIAL_CHARS.contains(&c))
    };
    path.to_str().filter(is_plain).ok_or_else(|| {
        format!(
            "a unit file cannot contain the path {}: it is not absolute, not UTF-8, ends with a \
             space, or has one of the characters \" ' \\ $ %; rename it",
            sanitize_line(&path.to_string_lossy())
        )
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn a_path_is_one_word_of_a_setting() {
        for (path, expected) in [
            ("/usr/bin/cynosure", "/usr/bin/cynosure"),
            ("/srv/my mail/state", "\"/srv/my mail/state\""),
            ("/srv/почта;#@-", "/srv/почта;#@-"),
        ] {
            assert_eq!(quoted_path(Path::new(path)).unwrap(), expected);
        }
    }

    #[test]
    fn a_path_that_would_add_a_setting_is_refused() {
        for path in [
            "/srv/a\nExecStartPre=/bin/evil",
            "/srv/a\"b",
            "/srv/a'b",
            "/srv/a\\",
            "/srv/$HOME",
            "/srv/%h",
            "/srv/a ",
            "state",
            "",
        ] {
            let error = quoted_path(Path::new(path)).unwrap_err();
            assert!(error.contains("rename it") && !error.contains('\n'), "{path:?}: {error}");
        }
        quoted_path(Path::new(OsStr::from_bytes(b"/srv/\xff"))).unwrap_err();
    }
}
