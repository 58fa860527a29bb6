//! Archive as the worker writes it, wherever that keeps the documents.

use std::fmt;
use std::sync::Arc;

use cynosure_engine::{DocumentId, Failure, ItemId, Timestamp};

use crate::archive::{
    ArchiveLocation, FolderName, Intent, PublishedFile, SpooledDocument, WriteBatch,
};

/// Answers whether the ledger has this document at this location.
pub type IsStored<'a> =
    dyn Fn(&ItemId, &DocumentId, &ArchiveLocation) -> Result<bool, Failure> + 'a;

/// Archive of one source, written by its one worker. Each call blocks.
///
/// A batch is staged, published and recorded in the ledger, in this order. While one batch is
/// published and recorded, another may be staged.
pub trait Archive: fmt::Debug + Send + Sync {
    /// Starts to spool a document of unknown length.
    fn spool_document(&self) -> SpooledDocument;

    /// Creates the folder of a session durably and returns its name, which no other session has.
    ///
    /// # Errors
    /// A storage failure.
    fn create_session_folder(
        &self,
        started: Timestamp,
        account: &str,
    ) -> Result<FolderName, Failure>;

    /// Writes the documents of a batch durably, where no reader looks for them.
    ///
    /// # Errors
    /// A storage failure; then nothing of the batch is left.
    fn stage_batch(self: Arc<Self>, batch: WriteBatch) -> Result<Box<dyn StagedBatch>, Failure>;

    /// Forgets the intent of a batch that is in the ledger.
    fn clear_intent(&self, intent: Intent);

    /// True if documents of a batch that was published and not recorded may still be there.
    fn has_abandoned_documents(&self) -> bool;

    /// Removes the documents of such a batch that the ledger does not have.
    ///
    /// # Errors
    /// A storage failure, or an error of `is_stored`. Until it succeeds, nothing else is published.
    fn remove_abandoned_documents(&self, is_stored: &IsStored<'_>) -> Result<(), Failure>;
}

/// Batch whose documents are durable, but not where readers look. Dropping it removes them.
pub trait StagedBatch: fmt::Debug + Send {
    /// Gives the documents their final places, durably.
    ///
    /// # Errors
    /// A storage failure; then no document of the batch counts as stored.
    fn publish(self: Box<Self>) -> Result<PublishedBatch, Failure>;
}

/// Batch whose documents are at their final places, and not yet in the ledger.
#[derive(Debug)]
pub struct PublishedBatch {
    /// In the order of the batch. A single document fails if its path is obstructed.
    pub files: Vec<Result<PublishedFile, Failure>>,
    /// To be [cleared](Archive::clear_intent) once the ledger has the batch. If it is dropped, the
    /// documents are abandoned.
    pub intent: Intent,
}
