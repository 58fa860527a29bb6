//! A document while its bytes come in.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::archive::staging::{StagedFile, StagingFolder};
use crate::disk::{DiskFile, storage_failure};
use crate::engine::Failure;

/// The bytes of one document that are held in memory; a longer one goes to disk as
/// it comes. Most mail is shorter, and 64 documents on their way make 16 MiB.
pub const SPOOL_MEMORY_BYTES_MAX: usize = 256 * 1024;

/// A document of unknown length, hashed as it comes.
///
/// Dropped, it leaves nothing behind. Every call may block on the disk, but for
/// [`append`](Self::append) where [`fits_in_memory`](Self::fits_in_memory) says that it does not.
#[derive(Debug)]
pub struct SpooledDocument {
    staging_folder: Arc<StagingFolder>,
    pub(super) body: SpoolBody,
    hasher: Sha256,
    length: u64,
}

#[derive(Debug)]
pub(super) enum SpoolBody {
    Memory(Vec<u8>),
    Spilled(SpooledFile),
}

/// The bytes of a long document, in the staging folder.
#[derive(Debug)]
pub(super) struct SpooledFile {
    pub(super) staged_file: StagedFile,
    file: Box<dyn DiskFile>,
}

impl SpooledDocument {
    pub(super) fn new(staging: Arc<StagingFolder>) -> Self {
        Self {
            staging_folder: staging,
            body: SpoolBody::Memory(Vec::new()),
            hasher: Sha256::new(),
            length: 0,
        }
    }

    /// Whether `more` bytes can be appended without touching the disk.
    #[must_use]
    pub fn fits_in_memory(&self, more: usize) -> bool {
        match &self.body {
            SpoolBody::Memory(bytes) => bytes.len().saturating_add(more) <= SPOOL_MEMORY_BYTES_MAX,
            SpoolBody::Spilled(_) => false,
        }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// A storage failure; the draft is then good for nothing but [`rewind`](Self::rewind).
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let fits = self.fits_in_memory(bytes.len());
        if let SpoolBody::Memory(held) = &mut self.body {
            if fits {
                held.extend_from_slice(bytes);
            } else {
                self.staging_folder.verify_owner()?;
                let (staged, file) = self.staging_folder.create_file("draft")?;
                let mut spilled = SpooledFile { staged_file: staged, file };
                spilled.append(held)?;
                self.body = SpoolBody::Spilled(spilled);
            }
        }
        if let SpoolBody::Spilled(spilled) = &mut self.body {
            spilled.append(bytes)?;
        }
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Forgets what was appended: the document begins anew.
    pub fn rewind(&mut self) {
        *self = Self::new(Arc::clone(&self.staging_folder));
    }

    /// The bytes so far.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn sha256(&self) -> [u8; 32] {
        self.hasher.clone().finalize().into()
    }

    /// The bytes held in memory; none once they are on disk.
    pub(super) fn memory_bytes(&self) -> &[u8] {
        match &self.body {
            SpoolBody::Memory(bytes) => bytes,
            SpoolBody::Spilled(_) => &[],
        }
    }
}

impl SpooledFile {
    fn append(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file
            .append(bytes)
            .map_err(|error| storage_failure("write", self.staged_file.path(), &error))
    }

    pub(super) fn sync(&mut self) -> Result<(), Failure> {
        self.file.sync().map_err(|error| storage_failure("sync", self.staged_file.path(), &error))
    }
}
