//! Who else is there: a file that every process holds, and that one alone can hold for itself.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::FlockOperation;

use crate::disk::lock::open_lock_file;
use crate::disk::storage_failure;
use crate::engine::Failure;

/// One of perhaps many. Ends with the process, however that ends.
#[derive(Debug)]
pub struct SharedUseLock {
    file: File,
}

impl SharedUseLock {
    /// Joins those who hold the file at `path`.
    ///
    /// # Errors
    /// The file cannot be made or locked.
    pub fn acquire(path: &Path) -> Result<Self, Failure> {
        let open = || {
            let file = open_lock_file(path)?;
            rustix::fs::flock(&file, FlockOperation::LockShared)?;
            Ok(Self { file })
        };
        open().map_err(|error: io::Error| storage_failure("lock", path, &error))
    }

    /// Whether nobody else holds the file. When in doubt, somebody does.
    ///
    /// Two who ask at the same moment may both be told that they are not alone.
    #[must_use]
    pub fn is_sole_holder(&self) -> bool {
        let alone = rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive).is_ok();
        // The attempt lets go of what was held (flock(2)), whether it succeeds or not. A wait is
        // only for another who asks the same, and lets go at once.
        let back = rustix::fs::flock(&self.file, FlockOperation::LockShared).is_ok();
        alone && back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_sole_only_while_no_other_exists() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("presence");
        let first = SharedUseLock::acquire(&path).unwrap();
        assert!(first.is_sole_holder());

        let second = SharedUseLock::acquire(&path).unwrap();
        assert!(!first.is_sole_holder());
        assert!(!second.is_sole_holder());

        drop(first);
        assert!(second.is_sole_holder());
    }
}
