//! Conversion of disk errors to failures with one sentence each.

use std::io;
use std::path::Path;

use cynosure_engine::{Cause, Failure};

/// Causes and remedies of the common kinds of errors.
const REMEDIES: [(io::ErrorKind, &str); 5] = [
    (
        io::ErrorKind::StorageFull,
        "the disk is full; free some space, and the work resumes by itself",
    ),
    (
        io::ErrorKind::QuotaExceeded,
        "the disk quota is used up; free some space, and the work resumes by itself",
    ),
    (
        io::ErrorKind::ReadOnlyFilesystem,
        "the filesystem is read-only; check the disk for errors and mount it writable",
    ),
    (
        io::ErrorKind::PermissionDenied,
        "permission denied; give the user that runs cynosure access to it",
    ),
    (io::ErrorKind::WouldBlock, "another process holds the lock; stop that process if it is stuck"),
];

/// Returns a failure that names the operation, the path, and the remedy.
///
/// `action` is a verb phrase that the path completes: "write", "create the folder".
#[must_use]
pub fn storage_failure(action: &str, path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    let known = REMEDIES.iter().find(|(kind, _)| *kind == error.kind());
    let message = match known {
        Some((_, remedy)) => format!("cannot {action} {path}: {remedy}"),
        None => format!("cannot {action} {path}: {error}; check the disk and the system's log"),
    };
    Failure::new(Cause::Storage, message)
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn each_failure_names_action_path_and_remedy() {
        let sentences: Vec<_> = [Errno::NOSPC, Errno::DQUOT, Errno::ROFS, Errno::ACCESS, Errno::IO]
            .map(|errno| storage_failure("write", Path::new("/mail/x"), &errno.into()).message)
            .into();

        insta::assert_snapshot!(sentences.join("\n"), @r"
        cannot write /mail/x: the disk is full; free some space, and the work resumes by itself
        cannot write /mail/x: the disk quota is used up; free some space, and the work resumes by itself
        cannot write /mail/x: the filesystem is read-only; check the disk for errors and mount it writable
        cannot write /mail/x: permission denied; give the user that runs cynosure access to it
        cannot write /mail/x: Input/output error (os error 5); check the disk and the system's log
        ");
    }
}
