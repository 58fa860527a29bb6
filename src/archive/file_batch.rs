//! Batches of an archive in a folder, as the worker writes them.

use std::sync::Arc;

use cynosure_engine::{Failure, Timestamp};

use crate::archive::{
    Archive, FileArchive, FolderName, Intent, IsStored, PublishedBatch, SpooledDocument,
    StagedBatch, StagedFiles, WriteBatch,
};

impl Archive for FileArchive {
    fn spool_document(&self) -> SpooledDocument {
        Self::spool_document(self)
    }

    fn create_session_folder(
        &self,
        started: Timestamp,
        account: &str,
    ) -> Result<FolderName, Failure> {
        Self::create_session_folder(self, started, account)
    }

    fn stage_batch(self: Arc<Self>, batch: WriteBatch) -> Result<Box<dyn StagedBatch>, Failure> {
        let files = self.stage(batch)?;
        Ok(Box::new(StagedFileBatch { archive: self, files }))
    }

    fn clear_intent(&self, intent: Intent) {
        Self::clear_intent(self, intent);
    }

    fn has_abandoned_documents(&self) -> bool {
        self.has_abandoned_lines()
    }

    fn remove_abandoned_documents(&self, is_stored: &IsStored<'_>) -> Result<(), Failure> {
        self.settle_lines(is_stored)
    }
}

/// Staged files and lines, with the archive that they belong to.
#[derive(Debug)]
struct StagedFileBatch {
    archive: Arc<FileArchive>,
    files: StagedFiles,
}

impl StagedBatch for StagedFileBatch {
    fn publish(self: Box<Self>) -> Result<PublishedBatch, Failure> {
        let (files, intent) = self.archive.publish(self.files)?;
        Ok(PublishedBatch { files, intent })
    }
}
