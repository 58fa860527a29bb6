//! Questions of people to the ledger of a source.

use cynosure_engine::{DocumentId, Failure, ItemId, Timestamp};

use crate::ledger::{
    CounterCheck, DocumentRowId, ExportDocument, FailureFilter, FailureRow, FileRowId,
    LabeledDocument, LastSession, LedgerReader, SessionTotals, StoredFile, StoredResponse,
    TransitionRow,
};

/// Ledger that is read by commands, the dashboard and exports. Each call reads one state of the
/// ledger, and blocks.
pub trait LedgerReports: LedgerReader {
    /// Returns the newest transitions, newest first.
    ///
    /// # Errors
    /// A ledger failure.
    fn transitions(&self, limit: usize) -> Result<Vec<TransitionRow>, Failure>;

    /// Returns up to `limit` items: quarantined ones first, then those that wait for another
    /// attempt, then those gone.
    ///
    /// # Errors
    /// A ledger failure.
    fn failures(&self, filter: FailureFilter, limit: usize) -> Result<Vec<FailureRow>, Failure>;

    /// Reads one item, whatever its status; `None` if it was never listed.
    ///
    /// # Errors
    /// A ledger failure.
    fn item_report(&self, item: &ItemId) -> Result<Option<FailureRow>, Failure>;

    /// Returns the documents of an item that have labels, by id, at most `limit`.
    ///
    /// # Errors
    /// A ledger failure.
    fn labeled_documents(
        &self,
        item: &ItemId,
        limit: usize,
    ) -> Result<Vec<LabeledDocument>, Failure>;

    /// Reads the last failure response of the listing or the session.
    ///
    /// # Errors
    /// A ledger failure.
    fn session_response(&self) -> Result<Option<StoredResponse>, Failure>;

    /// Returns the newest completed session, even if it found nothing, with the totals of its time;
    /// `None` before the first.
    ///
    /// # Errors
    /// A ledger failure.
    fn last_session(&self) -> Result<Option<LastSession>, Failure>;

    /// Returns the sessions that started at `since` or later, oldest first. Reads from the newest
    /// session back to the first that started earlier.
    ///
    /// # Errors
    /// A ledger failure.
    fn session_totals_since(&self, since: Timestamp) -> Result<Vec<SessionTotals>, Failure>;

    /// Reads the names of all session folders.
    ///
    /// # Errors
    /// A ledger failure.
    fn session_folders(&self) -> Result<Vec<String>, Failure>;

    /// True if the source lists documents with their contents. Then a document that was stored can
    /// only be had again by listing it again.
    ///
    /// # Errors
    /// A ledger failure.
    fn lists_contents(&self) -> Result<bool, Failure>;

    /// Returns the highest row number of a document, stored or not; `None` if there is none.
    ///
    /// # Errors
    /// A ledger failure.
    fn newest_document(&self) -> Result<Option<DocumentRowId>, Failure>;

    /// Returns the stored documents after the row `after`, up to the row `newest`, at most `limit`,
    /// by their row numbers. Empty only at the end. A document that the server has moved to another
    /// item has two rows with one file, of which the newer is returned.
    ///
    /// # Errors
    /// A ledger failure.
    fn documents_to_export(
        &self,
        after: Option<DocumentRowId>,
        newest: Option<DocumentRowId>,
        limit: usize,
    ) -> Result<Vec<ExportDocument>, Failure>;

    /// True if a stored document has a file with this extension, such as `eml`. Reads every row if
    /// there is none.
    ///
    /// # Errors
    /// A ledger failure.
    fn has_files_with_extension(&self, extension: &str) -> Result<bool, Failure>;

    /// Returns the stored file of a document's current version; `None` if it is not stored.
    ///
    /// # Errors
    /// A ledger failure.
    fn stored_file(
        &self,
        item: &ItemId,
        document: &DocumentId,
    ) -> Result<Option<StoredFile>, Failure>;

    /// Returns the stored files after `after`, at most `limit`: the current versions of all
    /// documents, then the earlier ones. Empty only at the end.
    ///
    /// # Errors
    /// A ledger failure.
    fn stored_files(
        &self,
        after: Option<FileRowId>,
        limit: usize,
    ) -> Result<Vec<StoredFile>, Failure>;

    /// Counts the items with at least one stored file. Reads every row.
    ///
    /// # Errors
    /// A ledger failure.
    fn count_stored_items(&self) -> Result<u64, Failure>;

    /// Counts the newest session's items by status, to compare with its counters. Reads every row.
    ///
    /// # Errors
    /// A ledger failure.
    fn check_counters(&self) -> Result<CounterCheck, Failure>;

    /// Checks the consistency of the ledger itself, and returns the errors found. Reads everything.
    ///
    /// # Errors
    /// A ledger failure.
    fn check_integrity(&self) -> Result<Vec<String>, Failure>;
}
