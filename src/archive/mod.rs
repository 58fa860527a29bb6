//! Keeps: the files of the archive.
//!
//! `downloads/<session>/<thread>/<message>.eml`, and beside the sessions a hidden
//! staging folder per source, where files are before they are whole and durable.
//! A document is kept when its bytes are on disk, then its name, then its row in
//! the ledger; whatever a crash leaves between two of these steps, [`Archive::open`]
//! clears away. A [`Marker`] says which ledger the documents belong to.

mod adopt;
mod draft;
mod intent;
pub mod layout;
mod manifest;
mod marker;
mod recover;
mod staging;
pub mod verify;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

pub use self::adopt::{FolderContents, FoundDocument, LeftAlone};
pub use self::draft::{DRAFT_BYTES_MAX, Draft};
pub use self::intent::Intent;
pub use self::layout::FolderName;
pub use self::marker::{Binding, Claim, Marker, OWNER_FILE, OWNER_LOCK, Owner};
pub use self::recover::{Recovered, StoredAt};
pub use self::writer::{GROUP_BYTES_MAX, GROUP_DOCUMENTS_MAX, Group, Kept, Paper, Written};

use self::manifest::ManifestState;
use self::staging::Staging;
use crate::disk::{Disk, storage_failure};
use crate::engine::{Failure, Timestamp};

/// Folders of one account and one second that are told apart by a number.
const FOLDER_NUMBER_MAX: u32 = 100;

/// The archive of one source, open for writing by its one worker.
#[derive(Debug)]
pub struct Archive {
    root: PathBuf,
    staging: Arc<Staging>,
    manifest: Mutex<ManifestState>,
}

impl Archive {
    /// Starts a document of unknown length.
    #[must_use]
    pub fn draft(&self) -> Draft {
        Draft::new(Arc::clone(&self.staging))
    }

    /// Makes the folder of a session, durably, and returns its name.
    ///
    /// Never one that is there already: two sources of one account that start in
    /// the same second would write over each other's documents.
    ///
    /// # Errors
    /// A storage failure.
    pub fn create_folder(&self, started: Timestamp, account: &str) -> Result<FolderName, Failure> {
        self.staging.expect_documents()?;
        for number in 1..=FOLDER_NUMBER_MAX {
            let name = FolderName::of_session(started, account, number);
            let path = self.root.join(name.as_str());
            match self.disk().create_dir(&path) {
                Ok(()) => {
                    self.disk()
                        .sync_dir(&self.root)
                        .map_err(|error| storage_failure("sync", &self.root, &error))?;
                    return Ok(name);
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(storage_failure("make the folder", &path, &error)),
            }
        }
        let taken = self.root.join(FolderName::of_session(started, account, 1).as_str());
        let error = std::io::Error::other("it and all its numbered names are taken");
        Err(storage_failure("make the folder", &taken, &error))
    }

    /// Where the archive is.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn disk(&self) -> &dyn Disk {
        self.staging.disk()
    }
}

#[cfg(test)]
mod tests;
