//! Errors of an export, with one sentence each.

use std::fmt;
use std::io;
use std::path::Path;

use cynosure_engine::{Cause, Failure, sanitize_line};

use crate::disk::storage_failure;

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
    let cause = if error.kind() == io::ErrorKind::StorageFull {
        "the disk is full"
    } else if error.kind() == io::ErrorKind::QuotaExceeded {
        "the disk quota is used up"
    } else {
        return storage_failure(action, path, error);
    };
    let message = format!(
        "cannot {action} {}: {cause}; free some space and run the same command again, which \
         continues the export and loses nothing",
        sanitize_line(&path.to_string_lossy())
    );
    Failure::new(Cause::Storage, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_has_a_remedy_that_fits_an_export() {
        let failure = |kind| {
            let error = io::Error::from(kind);
            write_failure("write", Path::new("/out/x"), &error).message
        };

        assert_eq!(
            failure(io::ErrorKind::StorageFull),
            "cannot write /out/x: the disk is full; free some space and run the same command \
             again, which continues the export and loses nothing"
        );
        assert!(failure(io::ErrorKind::QuotaExceeded).contains("the disk quota is used up"));
        assert!(failure(io::ErrorKind::PermissionDenied).contains("permission denied; give"));
    }
}
