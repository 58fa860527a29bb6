//! Document whose bytes are still arriving, in memory or in a staging file.

use std::sync::Arc;

use cynosure_engine::Failure;
use sha2::{Digest, Sha256};

use crate::archive::spool_memory::SpoolBuffer;
use crate::archive::staging::{StagedFile, StagingFolder};
use crate::disk::{DiskFile, storage_failure};

/// Maximum bytes of one document held in memory. A longer document goes to disk as it arrives.
///
/// Most mail is shorter, and 64 documents in flight use 16 MiB.
pub const SPOOL_MEMORY_BYTES_MAX: usize = 256 * 1024;

/// Document of unknown length, hashed as its bytes arrive.
///
/// Dropping it removes its file. Every call may block on the disk, except
/// [`append`](Self::append) if [`fits_in_memory`](Self::fits_in_memory) returned true.
#[derive(Debug)]
pub struct SpooledDocument {
    staging_folder: Arc<StagingFolder>,
    pub(super) body: SpoolBody,
    hasher: Sha256,
    length: u64,
    /// Number of the first byte that is a line feed or a carriage return.
    first_line_break: Option<u64>,
    last_byte: Option<u8>,
}

#[derive(Debug)]
pub(super) enum SpoolBody {
    Memory(SpoolBuffer),
    Spilled(SpooledFile),
}

/// Staging file with the bytes of a long document.
#[derive(Debug)]
pub(super) struct SpooledFile {
    pub(super) staged_file: StagedFile,
    file: Box<dyn DiskFile>,
}

impl SpooledDocument {
    pub(super) fn new(staging_folder: Arc<StagingFolder>) -> Self {
        Self {
            body: SpoolBody::Memory(SpoolBuffer::new(Arc::clone(staging_folder.spool_usage()))),
            staging_folder,
            hasher: Sha256::new(),
            length: 0,
            first_line_break: None,
            last_byte: None,
        }
    }

    /// Waits until the documents that are not in the archive yet leave room for this one. To be
    /// called before its first byte: a document that is arriving must not wait for itself.
    pub async fn wait_for_memory(&self) {
        self.staging_folder.spool_usage().wait_for_memory().await;
    }

    /// True if `more` bytes can be appended without touching the disk.
    #[must_use]
    pub fn fits_in_memory(&self, more: usize) -> bool {
        match &self.body {
            SpoolBody::Memory(buffer) => {
                buffer.as_bytes().len().saturating_add(more) <= SPOOL_MEMORY_BYTES_MAX
            }
            SpoolBody::Spilled(_) => false,
        }
    }

    /// Appends the next bytes.
    ///
    /// # Errors
    /// A storage failure. Only [`rewind`](Self::rewind) is useful after it.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let fits = self.fits_in_memory(bytes.len());
        if let SpoolBody::Memory(buffer) = &mut self.body {
            if fits {
                buffer.append(bytes);
            } else {
                self.staging_folder.verify_owner()?;
                let (staged_file, file) = self.staging_folder.create_file("draft")?;
                let mut spilled = SpooledFile { staged_file, file };
                spilled.append(buffer.as_bytes())?;
                self.body = SpoolBody::Spilled(spilled);
            }
        }
        if let SpoolBody::Spilled(spilled) = &mut self.body {
            spilled.append(bytes)?;
        }
        self.hasher.update(bytes);
        if self.first_line_break.is_none() {
            let position = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            self.first_line_break = position.map(|position| self.length + position as u64);
        }
        self.last_byte = bytes.last().copied().or(self.last_byte);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Discards all bytes, so that the document can be received again from its start.
    pub fn rewind(&mut self) {
        *self = Self::new(Arc::clone(&self.staging_folder));
    }

    /// Number of bytes appended so far.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// SHA-256 of the bytes appended so far.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        self.hasher.clone().finalize().into()
    }

    /// True if the document is one line: it has no line break, or only one at its end.
    pub(super) fn is_line(&self) -> bool {
        match self.first_line_break {
            None => self.length > 0,
            Some(position) => position > 0 && position + 1 == self.length,
        }
    }

    /// True if a line feed must follow the document to end its line.
    pub(super) fn lacks_line_feed(&self) -> bool {
        self.last_byte != Some(b'\n')
    }

    /// Bytes held in memory. Empty once the document is on disk.
    pub(super) fn memory_bytes(&self) -> &[u8] {
        match &self.body {
            SpoolBody::Memory(buffer) => buffer.as_bytes(),
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
