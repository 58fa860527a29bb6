//! A document while its bytes come in.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::archive::staging::{Staged, Staging};
use crate::disk::{DiskFile, storage_failure};
use crate::engine::Failure;

/// The bytes of one document that are held in memory; a longer one goes to disk as
/// it comes. Most mail is shorter, and 64 documents on their way make 16 MiB.
pub const DRAFT_BYTES_MAX: usize = 256 * 1024;

/// A document of unknown length, hashed as it comes.
///
/// Dropped, it leaves nothing behind. Every call may block on the disk, but for
/// [`append`](Self::append) where [`fits`](Self::fits) says that it does not.
#[derive(Debug)]
pub struct Draft {
    staging: Arc<Staging>,
    pub(super) body: Body,
    hash: Sha256,
    length: u64,
}

#[derive(Debug)]
pub(super) enum Body {
    Memory(Vec<u8>),
    Spilled(Spilled),
}

/// The bytes of a long document, in the staging folder.
#[derive(Debug)]
pub(super) struct Spilled {
    pub(super) staged: Staged,
    file: Box<dyn DiskFile>,
}

impl Draft {
    pub(super) fn new(staging: Arc<Staging>) -> Self {
        Self { staging, body: Body::Memory(Vec::new()), hash: Sha256::new(), length: 0 }
    }

    /// Whether `more` bytes can be appended without touching the disk.
    #[must_use]
    pub fn fits(&self, more: usize) -> bool {
        match &self.body {
            Body::Memory(bytes) => bytes.len().saturating_add(more) <= DRAFT_BYTES_MAX,
            Body::Spilled(_) => false,
        }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// A storage failure; the draft is then good for nothing but [`rewind`](Self::rewind).
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let fits = self.fits(bytes.len());
        if let Body::Memory(held) = &mut self.body {
            if fits {
                held.extend_from_slice(bytes);
            } else {
                self.staging.verify()?;
                let (staged, file) = self.staging.create("draft")?;
                let mut spilled = Spilled { staged, file };
                spilled.append(held)?;
                self.body = Body::Spilled(spilled);
            }
        }
        if let Body::Spilled(spilled) = &mut self.body {
            spilled.append(bytes)?;
        }
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Forgets what was appended: the document begins anew.
    pub fn rewind(&mut self) {
        *self = Self::new(Arc::clone(&self.staging));
    }

    /// The bytes so far.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn sha256(&self) -> [u8; 32] {
        self.hash.clone().finalize().into()
    }

    /// The bytes held in memory; none once they are on disk.
    pub(super) fn memory(&self) -> &[u8] {
        match &self.body {
            Body::Memory(bytes) => bytes,
            Body::Spilled(_) => &[],
        }
    }
}

impl Spilled {
    fn append(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file
            .append(bytes)
            .map_err(|error| storage_failure("write", self.staged.path(), &error))
    }

    pub(super) fn sync(&mut self) -> Result<(), Failure> {
        self.file.sync().map_err(|error| storage_failure("sync", self.staged.path(), &error))
    }
}
