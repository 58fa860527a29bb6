//! Conversion of disk errors to failures with one sentence each.

use std::io;
use std::path::Path;

use crate::engine::{Cause, Failure};

/// Cause and remedy of the common kinds of errors.
const REMEDIES: [(io::ErrorKind, &str); 5] = [
    (
        io::ErrorKind::StorageFull,
        "the disk is full; free some space, and the work goes on by itself",
    ),
    (
        io::ErrorKind::QuotaExceeded,
        "the disk quota is used up; free some space, and the work goes on by itself",
    ),
    (
        io::ErrorKind::ReadOnlyFilesystem,
        "the filesystem is read-only; check the disk for errors and mount it writable",
    ),
    (
        io::ErrorKind::PermissionDenied,
        "permission denied; give the user that runs cynosure access to it",
    ),
    (
        io::ErrorKind::WouldBlock,
        "another process holds it and does not let go; end that one, if it is stuck",
    ),
];

/// Returns a failure that names the operation, the path, and the remedy.
///
/// `what` is a verb phrase that the path completes: "write", "make the folder".
#[must_use]
pub fn storage_failure(what: &str, path: &Path, error: &io::Error) -> Failure {
    let place = path.display();
    let named = REMEDIES.iter().find(|(kind, _)| *kind == error.kind());
    let detail = match named {
        Some((_, advice)) => format!("cannot {what} {place}: {advice}"),
        None => format!("cannot {what} {place}: {error}; check the disk and the system's log"),
    };
    Failure::new(Cause::Storage, detail)
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn each_failure_says_what_where_and_what_to_do() {
        let sentences: Vec<_> = [Errno::NOSPC, Errno::DQUOT, Errno::ROFS, Errno::ACCESS, Errno::IO]
            .map(|errno| storage_failure("write", Path::new("/mail/x"), &errno.into()).message)
            .into();

        insta::assert_snapshot!(sentences.join("\n"), @r"
        cannot write /mail/x: the disk is full; free some space, and the work goes on by itself
        cannot write /mail/x: the disk quota is used up; free some space, and the work goes on by itself
        cannot write /mail/x: the filesystem is read-only; check the disk for errors and mount it writable
        cannot write /mail/x: permission denied; give the user that runs cynosure access to it
        cannot write /mail/x: Input/output error (os error 5); check the disk and the system's log
        ");
    }
}
