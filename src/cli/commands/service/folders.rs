//! Folders of units, and folders that the units of the system do not see.

use std::path::{Path, PathBuf};

use cynosure_engine::{sanitize_line, sanitize_lines};

use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::cli::commands::service::args::ServiceScopeArgs;
use crate::config::EnvVars;
use crate::systemd::ManagerScope;

/// Folder for units of the system that an administrator writes (systemd.unit(5)).
const SYSTEM_UNIT_DIR: &str = "/etc/systemd/system";

/// Folders for units of the system that packages and `make install` write.
const PACKAGE_UNIT_DIRS: [&str; 3] =
    ["/usr/lib/systemd/system", "/lib/systemd/system", "/usr/local/lib/systemd/system"];

/// Folders for units of all users that packages and administrators write.
const COMMON_USER_UNIT_DIRS: [&str; 3] =
    ["/usr/lib/systemd/user", "/usr/local/lib/systemd/user", "/etc/systemd/user"];

/// Folder for polkit rules that an administrator writes (polkit(8)).
pub(super) const POLKIT_RULES_DIR: &str = "/etc/polkit-1/rules.d";

/// Folder for polkit rules of packages, which exists where polkit is installed.
pub(super) const POLKIT_PACKAGE_RULES_DIR: &str = "/usr/share/polkit-1/rules.d";

/// Folders of temporary files. The units of the system have private ones.
const TEMPORARY_DIRS: [&str; 2] = ["/tmp", "/var/tmp"];

/// Folders that `ProtectHome=` hides (systemd.exec(5)).
const HOME_DIRS: [&str; 3] = ["/home", "/root", "/run/user"];

/// Selects the service manager: the user's own if asked for or without the privileges of root.
#[must_use]
pub(super) fn select_scope(args: ServiceScopeArgs) -> ManagerScope {
    if args.user || !rustix::process::geteuid().is_root() {
        ManagerScope::User
    } else {
        ManagerScope::System
    }
}

/// Returns the folder of the units.
///
/// # Errors
/// A message, if a user has no home folder.
pub(super) fn unit_folder(
    scope: ManagerScope,
    environment: &EnvVars,
) -> Result<PathBuf, ProgramError> {
    if scope == ManagerScope::System {
        return Ok(PathBuf::from(SYSTEM_UNIT_DIR));
    }
    // The XDG Base Directory Specification has programs ignore a relative path.
    let folder_of = |name| environment.get(name).map(Path::new).filter(|path| path.is_absolute());
    let config_home = folder_of("XDG_CONFIG_HOME").map(Path::to_owned);
    let config_home = config_home.or_else(|| folder_of("HOME").map(|home| home.join(".config")));
    config_home.map(|folder| folder.join("systemd/user")).ok_or_else(|| {
        let message = "neither XDG_CONFIG_HOME nor HOME names a folder for the units; set HOME";
        ProgramError::new(ProgramExit::Other, message)
    })
}

/// Returns a unit of one of these names that a package or `make install` has installed: for the
/// service manager in use, and for that of the system unless the user's own is asked for.
#[must_use]
pub(super) fn find_packaged_unit(args: ServiceScopeArgs, unit_files: &[String]) -> Option<PathBuf> {
    let system_dirs = (!args.user).then_some(PACKAGE_UNIT_DIRS);
    let is_for_user = select_scope(args) == ManagerScope::User;
    let user_dirs = is_for_user.then_some(COMMON_USER_UNIT_DIRS);
    find_unit_in(system_dirs.into_iter().chain(user_dirs).flatten(), unit_files)
}

fn find_unit_in<'d>(dirs: impl Iterator<Item = &'d str>, unit_files: &[String]) -> Option<PathBuf> {
    let mut paths =
        dirs.flat_map(|dir| unit_files.iter().map(move |file| Path::new(dir).join(file)));
    paths.find(|path| path.exists())
}

/// True for a path below a folder of temporary files.
#[must_use]
pub(super) fn is_temporary(path: &Path) -> bool {
    TEMPORARY_DIRS.iter().any(|dir| path.starts_with(dir))
}

/// True for a path below a home folder.
#[must_use]
pub(super) fn is_in_home(path: &Path) -> bool {
    // Some systems have their home folders elsewhere, and a link at the usual place.
    let is_behind_link =
        |dir: &&str| fs_err::canonicalize(dir).is_ok_and(|target| path.starts_with(target));
    HOME_DIRS.iter().any(|dir| path.starts_with(dir) || is_behind_link(dir))
}

/// True for two paths of the same file or folder. One that does not exist is compared by its name.
#[must_use]
pub(super) fn is_same_path(one: &Path, other: &Path) -> bool {
    let resolve = |path: &Path| fs_err::canonicalize(path).ok();
    one == other || resolve(one).is_some_and(|one| resolve(other).is_some_and(|other| one == other))
}

/// Returns a path as one word of a shell command, safe for a terminal.
#[must_use]
pub(super) fn shell_word(path: &Path) -> String {
    let text = sanitize_lines(&path.to_string_lossy()).concat();
    if text.chars().all(|c| c.is_alphanumeric() || "/._-+,:@".contains(c)) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Checks that the units of the system can see a path.
///
/// # Errors
/// A message, if it is below a folder of temporary files.
pub(super) fn check_visible(path: &Path) -> Result<(), ProgramError> {
    if !is_temporary(path) {
        return Ok(());
    }
    let message = format!(
        "{} is in a folder of temporary files, which the units do not see: they have private \
         ones; move it, for example to /srv or to a home folder",
        sanitize_line(&path.to_string_lossy())
    );
    Err(ProgramError::new(ProgramExit::Other, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user_folder(variables: &[(&str, &str)]) -> Option<PathBuf> {
        let environment: EnvVars = variables.iter().copied().collect();
        unit_folder(ManagerScope::User, &environment).ok()
    }

    #[test]
    fn the_units_of_a_user_are_in_its_configuration_folder() {
        let home = ("HOME", "/home/alice");
        for (variables, expected) in [
            (&[home][..], Some("/home/alice/.config/systemd/user")),
            (&[home, ("XDG_CONFIG_HOME", "/c")][..], Some("/c/systemd/user")),
            (&[home, ("XDG_CONFIG_HOME", "c")][..], Some("/home/alice/.config/systemd/user")),
            (&[home, ("XDG_CONFIG_HOME", "")][..], Some("/home/alice/.config/systemd/user")),
            (&[("HOME", "")][..], None),
            (&[][..], None),
        ] {
            assert_eq!(user_folder(variables), expected.map(PathBuf::from), "{variables:?}");
        }
        let system = unit_folder(ManagerScope::System, &EnvVars::default()).unwrap();
        assert_eq!(system, Path::new(SYSTEM_UNIT_DIR));
    }

    #[test]
    fn a_packaged_unit_is_found_by_each_of_its_names() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["a.service", "a-monitor.service"].map(str::to_owned);
        let dirs = ["/nowhere", dir.path().to_str().unwrap()];
        assert_eq!(find_unit_in(dirs.into_iter(), &names), None);

        for name in &names {
            let path = dir.path().join(name);
            fs_err::write(&path, "").unwrap();
            assert_eq!(find_unit_in(dirs.into_iter(), &names), Some(path.clone()));
            fs_err::remove_file(path).unwrap();
        }
    }

    #[test]
    fn a_link_is_the_same_path_as_its_target() {
        let dir = tempfile::tempdir().unwrap();
        let [target, link, gone] = ["target", "link", "gone"].map(|name| dir.path().join(name));
        fs_err::create_dir(&target).unwrap();
        fs_err::os::unix::fs::symlink(&target, &link).unwrap();

        assert!(is_same_path(&target, &link) && is_same_path(&gone, &gone));
        assert!(!is_same_path(&target, dir.path()) && !is_same_path(&gone, &target));
    }

    #[test]
    fn a_path_in_a_command_is_one_word() {
        for (path, expected) in [
            ("/srv/mail/config.toml", "/srv/mail/config.toml"),
            ("/srv/my mail", "'/srv/my mail'"),
            ("/srv/a;b", "'/srv/a;b'"),
            ("/srv/it's", r"'/srv/it'\''s'"),
        ] {
            assert_eq!(shell_word(Path::new(path)), expected);
        }
        assert!(!shell_word(Path::new("/srv/\u{1b}[1m")).contains('\u{1b}'));
    }

    #[test]
    fn hidden_folders_are_found_by_whole_names() {
        assert!(is_temporary(Path::new("/tmp/a")) && is_temporary(Path::new("/var/tmp/a")));
        assert!(!is_temporary(Path::new("/tmpfs/a")) && !is_temporary(Path::new("/var/lib/tmp")));
        assert!(is_in_home(Path::new("/root/mail")) && is_in_home(Path::new("/home/a/mail")));
        assert!(!is_in_home(Path::new("/homes/a")) && !is_in_home(Path::new("/srv/home")));
        check_visible(Path::new("/srv/mail")).unwrap();
        let error = check_visible(Path::new("/tmp/mail")).unwrap_err();
        assert!(error.message().contains("move it"), "{error:?}");
    }
}
