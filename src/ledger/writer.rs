//! Changes of the ledger of a source.

use cynosure_engine::{
    AccountId, ClockStep, Cursor, DocumentId, Failure, LedgerId, ListedDocument, NextPage,
    RecheckPolicy, SessionId, Timestamp, VanishedMessages,
};

use crate::ledger::{
    AdoptedDocument, AdoptionCounts, DocumentRowId, LedgerReports, LedgerUpdate, NewSession,
    PageCounts, RequeueFilter, SessionCounts, TransitionRow,
};

/// Ledger of one source, changed by its single writer. Each call is one transaction, which is
/// durable when it returns, and blocks. A late or repeated change has no effect.
pub trait Ledger: LedgerReports {
    /// Sets the ledger's id, unless it has one.
    ///
    /// # Errors
    /// A ledger failure.
    fn init_id(&mut self, id: &LedgerId) -> Result<(), Failure>;

    /// Binds the ledger to an account unless it is bound already; returns the account it is bound
    /// to.
    ///
    /// # Errors
    /// A ledger failure.
    fn bind_account(&mut self, account: &AccountId) -> Result<AccountId, Failure>;

    /// Sets the time of the last complete listing to `now` if none is recorded, so that the
    /// interval until the next one counts from now. None is recorded if an earlier version of the
    /// program made the listing.
    ///
    /// # Errors
    /// A ledger failure.
    fn init_reconciled_at(&mut self, now: Timestamp) -> Result<(), Failure>;

    /// Begins a session, and assigns the quarantined items that are due for a recheck to it.
    ///
    /// Beginning the session that is already open changes nothing.
    ///
    /// # Errors
    /// A ledger failure; also while another session is open.
    fn begin_session(&mut self, new_session: &NewSession) -> Result<(), Failure>;

    /// Starts a full listing in the open session from the first page, as after an expired cursor.
    /// Items that are already listed stay listed.
    ///
    /// # Errors
    /// A ledger failure; also when no session is open.
    fn restart_listing(&mut self, start_cursor: Option<&Cursor>) -> Result<(), Failure>;

    /// Resets the listing of the open session to its first page. The start cursor and what is
    /// listed stay.
    ///
    /// # Errors
    /// A ledger failure; also when no session is open.
    fn reset_page_token(&mut self) -> Result<(), Failure>;

    /// Starts a listing of the changes since the cursor in the open session, whose previous listing
    /// is complete, and assigns the quarantined items that are due for a recheck to it.
    ///
    /// # Errors
    /// A ledger failure; also when no session is open.
    fn start_changes_listing(&mut self, now: Timestamp) -> Result<(), Failure>;

    /// Records the name of the open session's folder in the archive.
    ///
    /// # Errors
    /// A ledger failure; also when no session is open.
    fn set_session_folder(&mut self, folder: &str) -> Result<(), Failure>;

    /// Records a page and the token after it, in one transaction.
    ///
    /// An item becomes pending when it has a document that is not in the archive. A document whose
    /// bytes are there under another id is not fetched again. A known document with another blob or
    /// another size has new content, which is fetched; a stored version is kept beside it. A
    /// document that an earlier session found gone is fetched again, since the source lists it; so
    /// is one that this session found gone, if it is listed at another location. Several entries of
    /// one document add locations to it, and count once. Locations of `vanished` messages are
    /// deleted, except the last of a document. Folders of an entry replace those recorded of its
    /// document without numbers; an entry without folders leaves them unchanged. The content of an
    /// entry is kept until its document is settled; a document that waits for its content becomes
    /// due with it. After the last page everything listed is durable, and the cursor moves.
    ///
    /// # Errors
    /// A ledger failure; also when no session is open or its listing is complete.
    fn record_page(
        &mut self,
        entries: &[ListedDocument],
        vanished: &[VanishedMessages],
        next: &NextPage,
        now: Timestamp,
    ) -> Result<PageCounts, Failure>;

    /// Records documents that were listed and not found. Each becomes a separate item with the
    /// status gone, because the item that it belonged to is unknown. Recording one again changes
    /// nothing.
    ///
    /// # Errors
    /// A ledger failure; also when no session is open.
    fn record_missing(&mut self, missing: &[DocumentId], now: Timestamp) -> Result<(), Failure>;

    /// Records a batch of results in one transaction.
    ///
    /// An item is settled with its last document: quarantined if one failed, stored if one is
    /// stored, gone if all are. `recheck` sets when quarantined items are tried again. The updates
    /// are applied in their order, so that a copy comes after the document that it is a copy of.
    ///
    /// # Errors
    /// A ledger failure, after which nothing of the batch is recorded; also when no
    /// session is open, or something is stored and the session has no folder.
    fn commit(
        &mut self,
        updates: &[LedgerUpdate],
        recheck: RecheckPolicy,
        now: Timestamp,
    ) -> Result<(), Failure>;

    /// Completes the open session if it is `id`, and returns the counts. A completed session stays
    /// as it is.
    ///
    /// # Errors
    /// A ledger failure; also while something is still to be listed or settled.
    fn complete_session(
        &mut self,
        id: &SessionId,
        now: Timestamp,
    ) -> Result<SessionCounts, Failure>;

    /// Records a transition together with the execution state after it, as JSON. A lost state file
    /// is rebuilt from that JSON.
    ///
    /// # Errors
    /// A ledger failure.
    fn record_transition(
        &mut self,
        transition: &TransitionRow,
        snapshot: &str,
    ) -> Result<(), Failure>;

    /// Stores the response of a failure of the listing or the session, if it has one.
    ///
    /// # Errors
    /// A ledger failure.
    fn record_session_response(&mut self, failure: &Failure, now: Timestamp)
    -> Result<(), Failure>;

    /// Shifts the next attempt or recheck of every waiting item, the time since which it fails, and
    /// the time of the last complete listing, by `step`, so that every wait stays as long as before.
    ///
    /// # Errors
    /// A ledger failure.
    fn shift_deadlines(&mut self, step: ClockStep) -> Result<(), Failure>;

    /// Makes sure that no commit that failed is found later, by this process or by the next one.
    ///
    /// # Errors
    /// A ledger failure.
    fn overwrite_failed_commit(&mut self) -> Result<(), Failure>;

    /// Makes items due for a recheck at once; returns their number. Resets their quarantine counts,
    /// because a requeue implies that something has changed: an item that fails again waits as
    /// after its first quarantine.
    ///
    /// # Errors
    /// A ledger failure.
    fn requeue(&mut self, filter: &RequeueFilter, now: Timestamp) -> Result<usize, Failure>;

    /// Requeues a stored document whose file is missing or damaged; returns false if it was not
    /// stored. Its item is quarantined, and the next session fetches it; a pending item stays
    /// pending. The other documents of the item stay stored.
    ///
    /// Each document whose row names the file must be requeued. No new row will name it, because it
    /// is removed from the index of contents. If the source lists documents with their contents,
    /// everything is listed again at the next poll, because only that brings the content. Until
    /// then the document is not due: each attempt would count as a failure of the provider.
    ///
    /// # Errors
    /// A ledger failure.
    fn requeue_damaged(
        &mut self,
        document: DocumentRowId,
        reason: &str,
        now: Timestamp,
    ) -> Result<bool, Failure>;

    /// Adopts a session's folder as a completed session. Folders must be adopted from the oldest to
    /// the newest.
    ///
    /// # Errors
    /// A ledger failure.
    fn adopt_folder(
        &mut self,
        folder: &str,
        started: Timestamp,
        documents: &[AdoptedDocument],
    ) -> Result<AdoptionCounts, Failure>;

    /// Recomputes the counts of all sessions from what was adopted.
    ///
    /// # Errors
    /// A ledger failure.
    fn rebuild_session_counts(&mut self) -> Result<(), Failure>;
}
