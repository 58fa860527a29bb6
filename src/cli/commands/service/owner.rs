//! User who runs the units of the system: the owner of the files of the service.

use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::{Path, PathBuf};

use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::cli::commands::service::folders::shell_word;
use crate::cli::commands::service::manager::run_program;
use crate::disk::{ensure_owned_folder, storage_failure};

/// User who owns the files of a service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ServiceOwner {
    pub name: String,
    uid: u32,
    gid: u32,
}

impl ServiceOwner {
    /// Finds the owner of the state folder, or of the configuration if that does not exist yet.
    ///
    /// # Errors
    /// A message, if the file cannot be read or its owner has no name.
    pub(super) fn find(state_dir: &Path, config_file: &Path) -> Result<Self, ProgramError> {
        let path = deciding_path(state_dir, config_file);
        let metadata = fs_err::metadata(path)
            .map_err(|error| ProgramError::new(ProgramExit::Storage, error.to_string()))?;
        let uid = metadata.uid();
        let entry = run_program("getent", &["passwd", &uid.to_string()]).ok();
        entry.as_deref().and_then(parse_passwd_entry).ok_or_else(|| {
            let message = format!(
                "{} belongs to the user id {uid}, which has no name, or one that a unit file \
                 cannot contain; give it to the user that shall run the service: `chown USER {}`",
                path.display(),
                shell_word(path)
            );
            ProgramError::new(ProgramExit::Other, message)
        })
    }
}

/// Returns the path whose owner runs the service.
fn deciding_path<'p>(state_dir: &'p Path, config_file: &'p Path) -> &'p Path {
    if state_dir.exists() { state_dir } else { config_file }
}

/// Creates a folder of the service if it does not exist, and returns its path without links. A new
/// one belongs to `owner`, and so do new ones above it: others could not be passed.
///
/// # Errors
/// A storage failure.
pub(super) fn ensure_service_folder(
    folder: &Path,
    owner: Option<&ServiceOwner>,
) -> Result<PathBuf, ProgramError> {
    let to_failure = |error| storage_failure("create the folder", folder, &error);
    let new: Vec<&Path> = folder.ancestors().take_while(|folder| !folder.exists()).collect();
    ensure_owned_folder(folder).map_err(to_failure)?;
    if let Some(owner) = owner {
        new.into_iter().try_for_each(|folder| give_to(folder, owner)).map_err(to_failure)?;
    }
    Ok(fs_err::canonicalize(folder).map_err(to_failure)?)
}

fn give_to(folder: &Path, owner: &ServiceOwner) -> io::Result<()> {
    if fs_err::symlink_metadata(folder)?.uid() == owner.uid {
        return Ok(());
    }
    lchown(folder, Some(owner.uid), Some(owner.gid))
}

/// Parses a line of the user database (passwd(5)).
fn parse_passwd_entry(line: &str) -> Option<ServiceOwner> {
    let mut fields = line.lines().next()?.split(':');
    let name = fields.next().filter(|name| is_user_name(name))?.to_owned();
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(ServiceOwner { name, uid, gid })
}

/// True for a name that systemd accepts for `User=`, and that has no meaning in a unit file.
fn is_user_name(name: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    !name.is_empty() && !name.starts_with('-') && name.chars().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_read_from_the_user_database() {
        let entry = "alice:x:1000:1001:Alice,,,:/home/alice:/bin/sh\n";
        let owner = ServiceOwner { name: "alice".to_owned(), uid: 1000, gid: 1001 };

        assert_eq!(parse_passwd_entry(entry), Some(owner));
        let specifier = "%h:x:1:1::/:";
        for wrong in ["", "alice", "alice:x:a:1::/:", specifier, "a b:x:1:1::/:", ":x:1:1::/:"] {
            assert_eq!(parse_passwd_entry(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_state_folder_decides_before_the_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let (state_dir, config_file) = (dir.path().join("state"), dir.path().join("config.toml"));

        assert_eq!(deciding_path(&state_dir, &config_file), config_file);
        fs_err::create_dir(&state_dir).unwrap();
        assert_eq!(deciding_path(&state_dir, &config_file), state_dir);
    }

    #[test]
    fn an_existing_folder_keeps_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let owner = ServiceOwner { name: "alice".to_owned(), uid: 54_321, gid: 54_321 };

        let path = ensure_service_folder(dir.path(), Some(&owner)).unwrap();

        let uid = fs_err::metadata(path).unwrap().uid();
        assert_eq!(uid, rustix::process::geteuid().as_raw());
    }

    #[test]
    fn new_folders_belong_to_the_owner_of_the_service() {
        let dir = tempfile::tempdir().unwrap();
        let is_root = rustix::process::geteuid().is_root();
        let uid = if is_root { 54_321 } else { rustix::process::geteuid().as_raw() };
        let owner = ServiceOwner { name: "alice".to_owned(), uid, gid: uid };

        let path = ensure_service_folder(&dir.path().join("a/state"), Some(&owner)).unwrap();

        assert!(path.ends_with("a/state"));
        for folder in [path.as_path(), path.parent().unwrap()] {
            assert_eq!(fs_err::metadata(folder).unwrap().uid(), uid, "{}", folder.display());
        }
    }
}
