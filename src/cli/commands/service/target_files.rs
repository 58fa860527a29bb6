//! Files that `install` writes and `uninstall` removes.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cynosure_engine::Failure;

use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::cli::commands::service::folders::{POLKIT_RULES_DIR, unit_folder};
use crate::config::EnvVars;
use crate::disk::{Disk, RealDisk, parent_folder, read_small_file, storage_failure, write_durable};
use crate::systemd::{
    ManagerScope, is_generated_text, monitor_unit_file, polkit_rule_file, worker_unit_file,
};

/// Longest file that can be one of this command, in bytes; those are shorter than 10 KiB.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Mode of a unit or a rule: it has no secret, and systemd and polkit read it as other users.
const FILE_MODE: u32 = 0o644;

/// Paths of the files of one service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ServiceFiles {
    pub worker_unit: PathBuf,
    pub monitor_unit: PathBuf,
    /// `None` for the service manager of a user, which asks polkit nothing.
    pub polkit_rule: Option<PathBuf>,
}

/// Present content of such a path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum FileOrigin {
    Absent,
    /// `install` wrote this text.
    Generated(String),
    /// Another program or a person made it.
    Foreign,
}

/// Presence of a service before an installation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum InstalledService {
    Absent,
    Present,
}

/// Result of writing a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum WriteResult {
    Written,
    Unchanged,
}

impl ServiceFiles {
    /// # Errors
    /// A message, if the folder of the units is unknown.
    pub(super) fn new(scope: ManagerScope, service_name: &str) -> Result<Self, ProgramError> {
        let units = unit_folder(scope, &EnvVars::from_process())?;
        let rule = Path::new(POLKIT_RULES_DIR).join(polkit_rule_file(service_name));
        Ok(Self {
            worker_unit: units.join(worker_unit_file(service_name)),
            monitor_unit: units.join(monitor_unit_file(service_name)),
            polkit_rule: (scope == ManagerScope::System).then_some(rule),
        })
    }

    /// Returns the paths, units first.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        let units = [self.worker_unit.as_path(), self.monitor_unit.as_path()];
        units.into_iter().chain(self.polkit_rule.as_deref())
    }

    /// Checks that no file would be overwritten that this command did not write.
    ///
    /// # Errors
    /// A message that names the first such file.
    pub(super) fn check_replaceable(&self) -> Result<InstalledService, ProgramError> {
        let mut installed = InstalledService::Absent;
        for path in self.paths() {
            match read_origin(path)? {
                FileOrigin::Absent => {}
                FileOrigin::Generated(_) => installed = InstalledService::Present,
                FileOrigin::Foreign => {
                    let message = format!(
                        "{} exists, and `cynosure service install` did not write it: nothing was \
                         changed; remove it, or set service.service_name to another name",
                        path.display()
                    );
                    return Err(ProgramError::new(ProgramExit::Other, message));
                }
            }
        }
        Ok(installed)
    }
}

/// Reads what is at the path of a unit or a rule.
///
/// # Errors
/// A storage failure.
pub(super) fn read_origin(path: &Path) -> Result<FileOrigin, Failure> {
    let found = read_small_file(&RealDisk, path, FILE_BYTES_MAX)
        .map_err(|error| storage_failure("read", path, &error))?;
    Ok(match found {
        None => FileOrigin::Absent,
        Some(Ok(bytes)) => match String::from_utf8(bytes) {
            Ok(text) if is_generated_text(&text) => FileOrigin::Generated(text),
            Ok(_) | Err(_) => FileOrigin::Foreign,
        },
        // A link to /dev/null, by which a unit is masked, is not a plain file either.
        Some(Err(_)) => FileOrigin::Foreign,
    })
}

/// Writes a unit or a rule durably, unless it has this text, and lets all users read it.
///
/// # Errors
/// A storage failure.
pub(super) fn write_generated(path: &Path, text: &str) -> Result<WriteResult, Failure> {
    let to_failure = |error: io::Error| storage_failure("write", path, &error);
    let is_unchanged = read_origin(path)? == FileOrigin::Generated(text.to_owned());
    if !is_unchanged {
        // With the mode of other folders: a polkit that runs as another user must be able to read
        // it.
        fs_err::create_dir_all(parent_folder(path)).map_err(to_failure)?;
        write_durable(&RealDisk, path, text.as_bytes()).map_err(to_failure)?;
    }
    // Also if it is unchanged: a crash may have come before this.
    let permissions = std::fs::Permissions::from_mode(FILE_MODE);
    fs_err::set_permissions(path, permissions).map_err(to_failure)?;
    Ok(if is_unchanged { WriteResult::Unchanged } else { WriteResult::Written })
}

/// Removes a file durably.
///
/// # Errors
/// A storage failure.
pub(super) fn remove_generated(path: &Path) -> Result<(), Failure> {
    RealDisk
        .remove_file(path)
        .and_then(|()| RealDisk.sync_dir(parent_folder(path)))
        .map_err(|error| storage_failure("remove", path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Written by `cynosure service install`, for this test.\n";

    fn files_in(dir: &Path) -> ServiceFiles {
        ServiceFiles {
            worker_unit: dir.join("cynosure.service"),
            monitor_unit: dir.join("cynosure-monitor.service"),
            polkit_rule: Some(dir.join("50-cynosure.rules")),
        }
    }

    #[test]
    fn a_generated_file_is_replaced_and_readable_by_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("systemd/user/cynosure.service");
        let newer = format!("{TEXT}[Unit]\n");

        assert_eq!(write_generated(&path, TEXT).unwrap(), WriteResult::Written);
        assert_eq!(write_generated(&path, &newer).unwrap(), WriteResult::Written);
        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(write_generated(&path, &newer).unwrap(), WriteResult::Unchanged);

        assert_eq!(read_origin(&path).unwrap(), FileOrigin::Generated(newer));
        let mode = fs_err::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, FILE_MODE);
        remove_generated(&path).unwrap();
        assert_eq!(read_origin(&path).unwrap(), FileOrigin::Absent);
    }

    #[test]
    fn a_file_of_somebody_else_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let files = files_in(dir.path());
        assert_eq!(files.check_replaceable().unwrap(), InstalledService::Absent);
        write_generated(&files.worker_unit, TEXT).unwrap();
        assert_eq!(files.check_replaceable().unwrap(), InstalledService::Present);

        for path in [files.monitor_unit.as_path(), files.polkit_rule.as_deref().unwrap()] {
            fs_err::write(path, "[Unit]\n").unwrap();
            let error = files.check_replaceable().unwrap_err();
            assert!(error.message().contains(&path.display().to_string()), "{error:?}");
            fs_err::write(path, b"\xff").unwrap();
            files.check_replaceable().unwrap_err();
            fs_err::remove_file(path).unwrap();
        }

        // A masked unit.
        fs_err::os::unix::fs::symlink("/dev/null", &files.monitor_unit).unwrap();
        files.check_replaceable().unwrap_err();
    }
}
