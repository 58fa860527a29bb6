//! Folders of units, and folders that the units of the system do not see.

use std::path::{Path, PathBuf};

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

/// Returns the unit of this name that a package or `make install` has installed.
#[must_use]
pub(super) fn find_packaged_unit(unit_file: &str) -> Option<PathBuf> {
    PACKAGE_UNIT_DIRS.iter().map(|dir| Path::new(dir).join(unit_file)).find(|path| path.exists())
}

/// True for a path below a folder of temporary files.
#[must_use]
pub(super) fn is_temporary(path: &Path) -> bool {
    TEMPORARY_DIRS.iter().any(|dir| path.starts_with(dir))
}

/// True for a path below a home folder.
#[must_use]
pub(super) fn is_in_home(path: &Path) -> bool {
    HOME_DIRS.iter().any(|dir| path.starts_with(dir))
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
        path.display()
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
