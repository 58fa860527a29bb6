//! Files that `init` writes: the credential, and the configuration.

use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret as _;

use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::cli::commands::init::interruption::NOTHING_WRITTEN;
use crate::cli::commands::init::target::{ConfigTarget, ExistingConfig};
use crate::cli::print::print_note;
use crate::config::Secret;
use crate::disk::{Disk, RealDisk, ensure_owned_folder, write_durable};

/// User of the service that the package installs, and the list of all users.
const SERVICE_USER: &str = "cynosure";
const USERS_FILE: &str = "/etc/passwd";

/// Bits of a mode that chmod(1) sets.
const MODE_BITS: u32 = 0o7777;

/// Number of names that are tried for a new file.
const NAMES_MAX: u32 = 1_000;

/// Returns the path of a new file beside the configuration, such as `work.token`. An existing file
/// is never replaced: the next name is then `work-2.token`.
///
/// # Errors
/// If all names are taken.
pub(super) fn free_path(folder: &Path, name: &str, ending: &str) -> Result<PathBuf, ProgramError> {
    let numbers = (1..=NAMES_MAX).map(|number| match number {
        1 => format!("{name}.{ending}"),
        number => format!("{name}-{number}.{ending}"),
    });
    let mut paths = numbers.map(|file| folder.join(file));
    // A link to nothing is a file, too.
    paths.find(|path| matches!(RealDisk.path_kind(path), Ok(None))).ok_or_else(|| {
        let message = format!("{} has no free name for {name}.{ending}", folder.display());
        ProgramError::new(ProgramExit::Storage, message)
    })
}

/// Writes a secret into a new file that only its owner can read. The owner is the user of the
/// service if the configuration is that of the package, else that of the folder.
///
/// # Errors
/// One sentence. The file then does not exist.
pub(super) fn write_credential(
    target: &ConfigTarget,
    path: &Path,
    secret: &Secret,
) -> Result<(), ProgramError> {
    let create = || {
        ensure_owned_folder(target.folder())?;
        RealDisk.create_file(path)
    };
    let mut file = create().map_err(|error| write_error(path, &error))?;
    let mut write = || -> io::Result<()> {
        file.adopt_owner(path);
        if let Some((user, group)) = service_owner(target) {
            chown(path, Some(user), Some(group))?;
        }
        file.append(secret.expose_secret().as_bytes())?;
        file.append(b"\n")?;
        file.sync()?;
        RealDisk.sync_dir(target.folder())
    };
    write().map_err(|error| {
        RealDisk.remove_file(path).ok();
        write_error(path, &error)
    })
}

/// Writes the configuration durably. An existing one keeps its owner and its mode; a note says so
/// if this user cannot give it away.
///
/// # Errors
/// One sentence. The old configuration is then intact, unless the last sync has failed.
pub(super) fn write_config(target: &ConfigTarget, text: &str) -> Result<(), ProgramError> {
    target.check_unchanged()?;
    let write = || -> io::Result<()> {
        ensure_owned_folder(target.folder())?;
        write_durable(&RealDisk, &target.file, text.as_bytes())
    };
    write().map_err(|error| write_error(&target.path, &error))?;
    let Some(existing) = &target.existing else { return Ok(()) };
    if let Err(error) = restore_access(&target.file, existing) {
        let (path, before) = (target.path.display(), &existing.metadata);
        print_note(format!(
            "cynosure: {path} could not get its owner and its mode back ({error}), so only its \
             owner can read it now; as root, run chown {}:{} and chmod {:o} on it",
            before.uid(),
            before.gid(),
            before.mode() & MODE_BITS
        ));
    }
    Ok(())
}

/// Returns the lines of `new` that are not in `old`, where both are otherwise the same.
#[must_use]
pub(super) fn added_lines<'t>(old: &str, new: &'t str) -> Vec<&'t str> {
    let (old, new): (Vec<&str>, Vec<&'t str>) = (old.lines().collect(), new.lines().collect());
    let start = old.iter().zip(&new).take_while(|(one, other)| one == other).count();
    let ends = old.iter().skip(start).rev().zip(new.iter().skip(start).rev());
    let end = ends.take_while(|(one, other)| one == other).count();
    let count = new.len().saturating_sub(start + end);
    new.into_iter().skip(start).take(count).collect()
}

/// Gives the file the owner, the group and the mode that it had, because the user of a service may
/// have to read it.
fn restore_access(path: &Path, existing: &ExistingConfig) -> io::Result<()> {
    let (before, now) = (&existing.metadata, fs_err::metadata(path)?);
    if (before.uid(), before.gid()) != (now.uid(), now.gid()) {
        chown(path, Some(before.uid()), Some(before.gid()))?;
    }
    fs_err::set_permissions(path, before.permissions())
}

/// Returns the user and the group of the service, if root writes the configuration of the package.
fn service_owner(target: &ConfigTarget) -> Option<(u32, u32)> {
    if !target.is_of_package() || !rustix::process::geteuid().is_root() {
        return None;
    }
    find_user(&fs_err::read_to_string(USERS_FILE).ok()?, SERVICE_USER)
}

/// Returns the ids of a user and its group from the text of passwd(5).
fn find_user(users: &str, name: &str) -> Option<(u32, u32)> {
    let mut fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let user = fields.find(|fields| fields.first() == Some(&name))?;
    Some((user.get(2)?.parse().ok()?, user.get(3)?.parse().ok()?))
}

fn write_error(path: &Path, error: &io::Error) -> ProgramError {
    let message = format!(
        "cannot write {}: {error}; {NOTHING_WRITTEN}, correct that and run `init` again",
        path.display()
    );
    ProgramError::new(ProgramExit::Storage, message)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::app::context::ConfigLocation;
    use crate::config::EnvVars;

    fn target(folder: &Path) -> ConfigTarget {
        let config_file = Some(folder.join("config.toml"));
        let location = ConfigLocation { config_file, state_dir: None };
        ConfigTarget::find(&location, &EnvVars::default()).unwrap()
    }

    #[test]
    fn a_credential_replaces_no_file() {
        let home = tempfile::tempdir().unwrap();
        let target = target(home.path());
        let first = free_path(home.path(), "work", "token").unwrap();
        write_credential(&target, &first, &Secret::from("one")).unwrap();

        let second = free_path(home.path(), "work", "token").unwrap();
        let error = write_credential(&target, &first, &Secret::from("two")).unwrap_err();

        assert_eq!(second, home.path().join("work-2.token"));
        assert!(!error.message().contains("two"), "{}", error.message());
        assert_eq!(fs_err::read_to_string(&first).unwrap(), "one\n");
        assert_eq!(fs_err::metadata(&first).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn an_existing_configuration_keeps_its_mode() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("config.toml");
        write_durable(&RealDisk, &path, b"# old\n").unwrap();
        fs_err::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();

        write_config(&target(home.path()), "# new\n").unwrap();

        assert_eq!(fs_err::read_to_string(&path).unwrap(), "# new\n");
        assert_eq!(fs_err::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn a_configuration_that_has_changed_meanwhile_is_kept() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("config.toml");
        let target = target(home.path());
        write_durable(&RealDisk, &path, b"# of another\n").unwrap();

        assert!(write_config(&target, "# new\n").is_err());

        assert_eq!(fs_err::read_to_string(&path).unwrap(), "# of another\n");
    }

    #[test]
    fn only_added_lines_are_shown() {
        for (old, new, added) in [
            ("a\nb\n", "a\nb\n\nc\nd\n", &["", "c", "d"][..]),
            ("a\nb\n", "a\nc\nb\n", &["c"]),
            ("a\na\n", "a\na\na\n", &["a"]),
            ("", "a\n", &["a"]),
            ("a\n", "a\n", &[]),
        ] {
            assert_eq!(added_lines(old, new), added, "{old:?} {new:?}");
        }
    }

    #[test]
    fn a_user_is_found_by_the_whole_name() {
        let users = "root:x:0:0::/root:/bin/sh\ncynosure2:x:7:8::/:/x\ncynosure:x:998:997::/:/x\n";

        assert_eq!(find_user(users, "cynosure"), Some((998, 997)));
        assert_eq!(find_user(users, "nobody"), None);
        assert_eq!(find_user("cynosure:x:one", "cynosure"), None);
    }
}
