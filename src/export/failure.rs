//! Errors of an export, with one sentence each.

use std::fmt;
use std::io;
use std::path::Path;

use cynosure_engine::{Cause, Failure, sanitize_line};

use crate::disk::storage_failure;

const FREE_SPACE: &str =
    "free some space and run the same command again, which continues the export and loses nothing";

const OTHER_FORMAT: &str = "export to another filesystem, or with `--format zip`";

/// Causes and remedies of errors that differ from those of other commands. The last three occur on
/// removable disks, whose filesystems have no names with a colon and no files of 4 GiB.
const REMEDIES: [(io::ErrorKind, &str, &str); 5] = [
    (io::ErrorKind::StorageFull, "the disk is full", FREE_SPACE),
    (io::ErrorKind::QuotaExceeded, "the disk quota is used up", FREE_SPACE),
    (io::ErrorKind::InvalidInput, "the filesystem does not accept this name", OTHER_FORMAT),
    (io::ErrorKind::InvalidFilename, "the filesystem does not accept this name", OTHER_FORMAT),
    (
        io::ErrorKind::FileTooLarge,
        "the filesystem accepts no larger file",
        "export to another filesystem, or with `--format maildir`",
    ),
];

/// Error that ends an export.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ExportFailure {
    /// The target folder, the options or the sources do not fit. One sentence with the remedy.
    Refused(String),
    /// The disk, the archive or the ledger failed. The export can be continued.
    Storage(Failure),
}

impl From<Failure> for ExportFailure {
    fn from(failure: Failure) -> Self {
        Self::Storage(failure)
    }
}

impl fmt::Display for ExportFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(message) => f.write_str(message),
            Self::Storage(failure) => failure.fmt(f),
        }
    }
}

impl std::error::Error for ExportFailure {}

/// Returns a failure to write into the target folder. `action` is a verb phrase that the path
/// completes.
#[must_use]
pub(super) fn write_failure(action: &str, path: &Path, error: &io::Error) -> Failure {
    // Errors of the system only, because a wrong argument has the same kind.
    let kind = error.raw_os_error().map_or(io::ErrorKind::Other, |_| error.kind());
    let known = REMEDIES.iter().find(|(known, _, _)| *known == kind);
    let Some((_, cause, remedy)) = known else { return storage_failure(action, path, error) };
    let path = sanitize_line(&path.to_string_lossy());
    Failure::new(Cause::Storage, format!("cannot {action} {path}: {cause}; {remedy}"))
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_full_disk_has_a_remedy_that_fits_an_export() {
        let failure =
            |errno: Errno| write_failure("write", Path::new("/out/x"), &errno.into()).message;

        assert_eq!(
            failure(Errno::NOSPC),
            "cannot write /out/x: the disk is full; free some space and run the same command \
             again, which continues the export and loses nothing"
        );
        assert!(failure(Errno::DQUOT).contains("the disk quota is used up; free some space"));
        assert!(failure(Errno::ACCESS).contains("permission denied; give"));
    }

    #[test]
    fn a_filesystem_that_is_too_simple_has_another_remedy() {
        let failure =
            |error: &io::Error| write_failure("write", Path::new("/out/x"), error).message;

        for errno in [Errno::INVAL, Errno::NAMETOOLONG] {
            assert_eq!(
                failure(&errno.into()),
                "cannot write /out/x: the filesystem does not accept this name; export to another \
                 filesystem, or with `--format zip`"
            );
        }
        assert!(failure(&Errno::FBIG.into()).ends_with("or with `--format maildir`"));
        let not_a_file = io::Error::new(io::ErrorKind::InvalidInput, "not a plain file");
        assert!(failure(&not_a_file).contains("not a plain file; check the disk"));
    }
}
