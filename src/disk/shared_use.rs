//! Lock file that every process using a resource holds, to detect other users.

use std::fs::File;
use std::io;
use std::path::Path;

use cynosure_engine::Failure;

use crate::disk::lock::open_lock_file;
use crate::disk::storage_failure;

/// Shared lock, one of possibly many. It is released when the process ends in any way.
#[derive(Debug)]
pub struct SharedUseLock {
    file: File,
}

impl SharedUseLock {
    /// Takes a shared lock on the file at `path`.
    ///
    /// # Errors
    /// A storage failure, if the file cannot be created or locked.
    pub fn acquire(path: &Path) -> Result<Self, Failure> {
        let open = || {
            let file = open_lock_file(path)?;
            file.lock_shared()?;
            Ok(Self { file })
        };
        open().map_err(|error: io::Error| storage_failure("lock", path, &error))
    }

    /// True if nothing else holds the file; false on any error.
    ///
    /// Two holders that check at the same moment may both get false.
    #[must_use]
    pub fn is_sole_holder(&self) -> bool {
        let is_sole = self.file.unlock().is_ok() && self.file.try_lock().is_ok();
        // Taking the shared lock back waits only for another holder in this check, who releases the
        // exclusive lock at once.
        let is_restored = self.file.unlock().is_ok() && self.file.lock_shared().is_ok();
        is_sole && is_restored
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
