//! Configuration that `init` writes: where it is, and what it has already.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::app::context::ConfigLocation;
use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::cli::commands::init::interruption::NOTHING_WRITTEN;
use crate::config::{EnvVars, LoadedConfig, load};
use crate::disk::parent_folder;

/// Configuration of the working directory.
const LOCAL_CONFIG: &str = "config.toml";

/// Configuration of the service that the package installs.
const PACKAGE_CONFIG: &str = "/etc/cynosure/config.toml";

/// Folder beside a configuration whose `*.toml` files override it.
const DROP_IN_FOLDER: &str = "config.d";

/// Configuration to write.
#[derive(Debug)]
pub(super) struct ConfigTarget {
    /// Absolute path at which the program reads it. It may be a link.
    pub path: PathBuf,
    /// Absolute path of the file itself.
    pub file: PathBuf,
    /// Path as the user writes it.
    pub shown: PathBuf,
    /// True if the program finds it without `--config`.
    pub is_default: bool,
    /// `None` for a new file.
    pub existing: Option<ExistingConfig>,
}

/// Configuration that exists, and is valid.
#[derive(Debug)]
pub(super) struct ExistingConfig {
    pub text: String,
    pub metadata: Metadata,
    pub loaded: LoadedConfig,
}

impl ConfigTarget {
    /// Finds the configuration, and checks that it can be written.
    ///
    /// # Errors
    /// One sentence, if it belongs to another user, is invalid or cannot be written.
    pub(super) fn find(
        location: &ConfigLocation,
        environment: &EnvVars,
    ) -> Result<Self, ProgramError> {
        let shown = match (&location.config_file, location.find_config_file()) {
            (Some(given), _) => given.clone(),
            (None, Ok(found)) if found == Path::new(LOCAL_CONFIG) || is_writable(&found) => found,
            (None, Ok(_) | Err(_)) => PathBuf::from(LOCAL_CONFIG),
        };
        let path = std::path::absolute(&shown).map_err(|error| unusable(&shown, &error))?;
        let (file, existing) = match fs_err::metadata(&path) {
            Ok(metadata) => {
                check_owner(&shown, &metadata)?;
                let file = fs_err::canonicalize(&path).map_err(|error| unusable(&shown, &error))?;
                // The credential is written beside the link, because relative paths count from it.
                check_folder(parent_folder(&path))?;
                check_folder(parent_folder(&file))?;
                let existing = read_existing(&path, metadata, environment)?;
                (file, Some(existing))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                check_is_new(&path, &shown)?;
                check_folder(parent_folder(&path))?;
                (path.clone(), None)
            }
            Err(error) => return Err(unusable(&shown, &error)),
        };
        let is_default = location.config_file.is_none();
        Ok(Self { path, file, shown, is_default, existing })
    }

    /// Returns the folder against which the relative paths of the configuration are resolved.
    #[must_use]
    pub(super) fn folder(&self) -> &Path {
        parent_folder(&self.path)
    }

    /// True for the configuration of the service that the package installs.
    #[must_use]
    pub(super) fn is_of_package(&self) -> bool {
        self.path == Path::new(PACKAGE_CONFIG)
    }

    /// Returns the names of all sources.
    #[must_use]
    pub(super) fn source_names(&self) -> Vec<String> {
        let sources = self.existing.iter().flat_map(|existing| &existing.loaded.settings.sources);
        sources.map(|(name, _)| name.to_string()).collect()
    }

    /// Returns the name of a source of this account, if there is one.
    #[must_use]
    pub(super) fn source_of_account(&self, account: &str) -> Option<&str> {
        let sources = &self.existing.as_ref()?.loaded.settings.sources;
        let found = sources.iter().find(|(_, source)| source.account.eq_ignore_ascii_case(account));
        found.map(|(name, _)| name.as_str())
    }

    /// Returns a path as the configuration has it: relative inside its folder, so that the folder
    /// can be moved, and absolute elsewhere.
    ///
    /// # Errors
    /// If the path is not UTF-8 text.
    pub(super) fn written_path(&self, path: &Path) -> Result<String, ProgramError> {
        let relative = path.strip_prefix(self.folder()).unwrap_or(path);
        relative.to_str().map(str::to_owned).ok_or_else(|| {
            let message = format!("{} is not UTF-8 text; rename it", path.display());
            ProgramError::new(ProgramExit::Configuration, message)
        })
    }

    /// Fails if the file is not as it was found.
    ///
    /// # Errors
    /// One sentence.
    pub(super) fn check_unchanged(&self) -> Result<(), ProgramError> {
        let is_unchanged = match (&self.existing, fs_err::read_to_string(&self.path)) {
            (Some(existing), Ok(text)) => existing.text == text,
            (None, Err(error)) => error.kind() == io::ErrorKind::NotFound,
            (Some(_), Err(_)) | (None, Ok(_)) => false,
        };
        if is_unchanged {
            return Ok(());
        }
        let message = format!(
            "{} has changed meanwhile; {NOTHING_WRITTEN}: run `init` again",
            self.shown.display()
        );
        Err(ProgramError::new(ProgramExit::Other, message))
    }
}

fn read_existing(
    path: &Path,
    metadata: Metadata,
    environment: &EnvVars,
) -> Result<ExistingConfig, ProgramError> {
    let loaded = load(path, environment).map_err(|diagnostics| {
        let message = format!("{diagnostics}; correct this before a source is added");
        ProgramError::new(ProgramExit::Configuration, message)
    })?;
    let text = fs_err::read_to_string(path).map_err(|error| unusable(path, &error))?;
    Ok(ExistingConfig { text, metadata, loaded })
}

fn check_owner(shown: &Path, metadata: &Metadata) -> Result<(), ProgramError> {
    let user = rustix::process::geteuid();
    if !metadata.is_file() {
        let message = format!("{} is no plain file; name another with --config", shown.display());
        return Err(ProgramError::new(ProgramExit::Configuration, message));
    }
    if user.is_root() || metadata.uid() == user.as_raw() {
        return Ok(());
    }
    let message = format!(
        "{} belongs to another user (uid {}), and is not changed; run `init` as that user, or name \
         another file with --config",
        shown.display(),
        metadata.uid()
    );
    Err(ProgramError::new(ProgramExit::Configuration, message))
}

/// Checks that nothing is at the path of a new configuration, and that no other file would be read
/// together with it: such a file could have sources that `init` does not know.
fn check_is_new(path: &Path, shown: &Path) -> Result<(), ProgramError> {
    let message = if fs_err::symlink_metadata(path).is_ok() {
        format!(
            "{} is a link to a file that does not exist; remove the link, or create that file",
            shown.display()
        )
    } else if has_drop_ins(path) {
        format!(
            "{} does not exist, but {DROP_IN_FOLDER} beside it has settings; create it empty \
             (touch {}), and run `init` again",
            shown.display(),
            shown.display()
        )
    } else {
        return Ok(());
    };
    Err(ProgramError::new(ProgramExit::Configuration, message))
}

fn has_drop_ins(path: &Path) -> bool {
    let Ok(entries) = fs_err::read_dir(path.with_file_name(DROP_IN_FOLDER)) else { return false };
    let mut paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    paths.any(|path| path.extension().is_some_and(|extension| extension == "toml"))
}

/// Checks that files can be created in a folder, or that the folder can be created.
fn check_folder(folder: &Path) -> Result<(), ProgramError> {
    let existing = folder.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(folder);
    access(existing, Access::WRITE_OK | Access::EXEC_OK).map_err(|errno| {
        let message = format!(
            "the folder {} cannot be written ({}); run `init` in another folder, or name a file \
             elsewhere with --config",
            existing.display(),
            io::Error::from(errno).kind()
        );
        ProgramError::new(ProgramExit::Configuration, message)
    })
}

fn is_writable(path: &Path) -> bool {
    access(path, Access::WRITE_OK).is_ok()
}

fn unusable(path: &Path, error: &io::Error) -> ProgramError {
    let message =
        format!("{} cannot be used: {error}; name another file with --config", path.display());
    ProgramError::new(ProgramExit::Configuration, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "[source.work]\nkind = \"imap\"\naccount = \"Me@Example.com\"\n\
                          host = \"imap.example.com\"\n\
                          auth = { type = \"password\", password = { file = \"password\" } }\n";

    fn find(path: PathBuf) -> Result<ConfigTarget, ProgramError> {
        let location = ConfigLocation { config_file: Some(path), state_dir: None };
        ConfigTarget::find(&location, &EnvVars::default())
    }

    #[test]
    fn a_source_of_the_account_is_found() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("config.toml");
        fs_err::File::create(&path).unwrap();
        assert_eq!(find(path.clone()).unwrap().source_names(), [""; 0]);
        crate::disk::write_durable(&crate::disk::RealDisk, &path, SOURCE.as_bytes()).unwrap();

        let target = find(path).unwrap();

        assert_eq!(target.source_names(), ["work"]);
        assert_eq!(target.source_of_account("me@example.com"), Some("work"));
        assert_eq!(target.source_of_account("you@example.com"), None);
    }

    #[test]
    fn a_link_stays_a_link_and_paths_count_from_it() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().canonicalize().unwrap();
        fs_err::create_dir(folder.join("real")).unwrap();
        let (file, link) = (folder.join("real/file.toml"), folder.join("config.toml"));
        fs_err::File::create(&file).unwrap();
        std::os::unix::fs::symlink("real/file.toml", &link).unwrap();

        let target = find(link.clone()).unwrap();

        assert_eq!((&target.path, &target.file), (&link, &file));
        assert_eq!(target.folder(), folder);
        assert_eq!(target.written_path(&folder.join("token")).unwrap(), "token");
    }

    #[test]
    fn a_link_to_nothing_is_not_replaced() {
        let home = tempfile::tempdir().unwrap();
        let link = home.path().join("config.toml");
        std::os::unix::fs::symlink("nothing.toml", &link).unwrap();

        let error = find(link).unwrap_err().message();

        assert!(error.contains("is a link to a file that does not exist"), "{error}");
    }

    #[test]
    fn sources_of_other_files_are_known() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("config.toml");
        fs_err::create_dir(home.path().join("config.d")).unwrap();
        assert!(find(path.clone()).is_ok());
        let other = home.path().join("config.d/work.toml");
        crate::disk::write_durable(&crate::disk::RealDisk, &other, SOURCE.as_bytes()).unwrap();

        let error = find(path.clone()).unwrap_err().message();
        fs_err::File::create(&path).unwrap();
        let target = find(path).unwrap();

        assert!(error.contains("but config.d beside it has settings; create it empty"), "{error}");
        assert_eq!(target.source_names(), ["work"]);
        assert_eq!(target.source_of_account("me@example.com"), Some("work"));
    }

    #[test]
    fn a_path_in_the_folder_is_written_relative_to_it() {
        let home = tempfile::tempdir().unwrap();
        let target = find(home.path().join("config.toml")).unwrap();

        let inside = target.written_path(&home.path().join("sub/token")).unwrap();
        let outside = target.written_path(Path::new("/srv/token")).unwrap();

        assert_eq!((inside.as_str(), outside.as_str()), ("sub/token", "/srv/token"));
    }

    #[test]
    fn a_file_that_appears_meanwhile_is_not_replaced() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("config.toml");
        let target = find(path.clone()).unwrap();
        assert!(target.check_unchanged().is_ok());

        fs_err::File::create(&path).unwrap();

        assert!(target.check_unchanged().is_err());
    }

    #[test]
    fn a_folder_and_a_broken_configuration_are_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("config.toml");
        let error = find(home.path().to_owned()).unwrap_err().message();
        assert!(error.contains("is no plain file"), "{error}");
        crate::disk::write_durable(&crate::disk::RealDisk, &path, b"[source\n").unwrap();

        let error = find(path).unwrap_err().message();

        assert!(error.contains("config.toml:1:"), "{error}");
    }
}
