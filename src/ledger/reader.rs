//! Questions of the worker to the ledger of a source.

use std::collections::BTreeSet;
use std::fmt;

use cynosure_engine::{AccountId, Cursor, DocumentId, Failure, ItemId, Timestamp};

use crate::ledger::{
    ArchiveTotals, DocumentFacts, DocumentRow, DueItem, DueLimits, FetchedContent, ItemRowId,
    LedgerIdentity, SessionCounts, SessionRow,
};

/// State of a source in its ledger. Each call reads one state of the ledger, and blocks.
pub trait LedgerReader: fmt::Debug + Send {
    /// Reads the identity of the ledger.
    ///
    /// # Errors
    /// A ledger failure.
    fn identity(&self) -> Result<LedgerIdentity, Failure>;

    /// Reads the account that the ledger belongs to; `None` before [`bind_account`](crate::ledger::Ledger::bind_account).
    ///
    /// # Errors
    /// A ledger failure.
    fn bound_account(&self) -> Result<Option<AccountId>, Failure>;

    /// Reads the cursor: the point in the stream of changes up to which everything is listed.
    ///
    /// # Errors
    /// A ledger failure.
    fn cursor(&self) -> Result<Option<Cursor>, Failure>;

    /// Reads when a listing of everything last completed; `None` if that was not recorded.
    ///
    /// # Errors
    /// A ledger failure.
    fn reconciled_at(&self) -> Result<Option<Timestamp>, Failure>;

    /// Returns the execution state after the newest transition, as JSON.
    ///
    /// # Errors
    /// A ledger failure.
    fn state_snapshot(&self) -> Result<Option<String>, Failure>;

    /// Reads the newest session, open or completed.
    ///
    /// # Errors
    /// A ledger failure.
    fn newest_session(&self) -> Result<Option<SessionRow>, Failure>;

    /// Reads the session that is not completed yet, if there is one.
    ///
    /// # Errors
    /// A ledger failure.
    fn open_session(&self) -> Result<Option<SessionRow>, Failure> {
        Ok(self.newest_session()?.filter(|session| session.completed_at.is_none()))
    }

    /// Reads the counters of the newest session; all zero before the first. A reconcile session
    /// that has found nothing is skipped in favour of the session before it.
    ///
    /// # Errors
    /// A ledger failure.
    fn session_counts(&self) -> Result<SessionCounts, Failure>;

    /// Sums the sessions; adopted documents count too, because they belong to a session. Reads the
    /// row of each session.
    ///
    /// # Errors
    /// A ledger failure.
    fn archive_totals(&self) -> Result<ArchiveTotals, Failure>;

    /// Returns items to fetch now, up to `limits`, without those in `skip`, which are being
    /// fetched. Untried items come first, in their order, half of them from either end; then
    /// retries that are due. Fewer are returned if their listed contents are long.
    ///
    /// Both ends are used because bad messages are often adjacent: while one end fails, the other
    /// shows that the provider works.
    ///
    /// # Errors
    /// A ledger failure.
    fn due_items(
        &self,
        now: Timestamp,
        limits: DueLimits,
        skip: &BTreeSet<ItemRowId>,
    ) -> Result<Vec<DueItem>, Failure>;

    /// Returns when the next item that is not in `skip` is due: in the past for untried items,
    /// `None` if nothing else is pending.
    ///
    /// # Errors
    /// A ledger failure.
    fn next_due_at(&self, skip: &BTreeSet<ItemRowId>) -> Result<Option<Timestamp>, Failure>;

    /// Counts the items that failed and wait for another attempt.
    ///
    /// # Errors
    /// A ledger failure.
    fn count_awaiting_retry(&self) -> Result<u64, Failure>;

    /// Returns when the first quarantined item is due for a recheck.
    ///
    /// # Errors
    /// A ledger failure.
    fn next_recheck_at(&self) -> Result<Option<Timestamp>, Failure>;

    /// True if quarantined items are due for a recheck.
    ///
    /// # Errors
    /// A ledger failure.
    fn has_due_rechecks(&self, now: Timestamp) -> Result<bool, Failure> {
        Ok(self.next_recheck_at()?.is_some_and(|next| next <= now))
    }

    /// Returns up to `limit` stored documents, small ones among the newest and the oldest. Fetching
    /// them again shows whether the provider still serves what it served before.
    ///
    /// # Errors
    /// A ledger failure.
    fn known_good_documents(&self, limit: usize) -> Result<Vec<DocumentRow>, Failure>;

    /// True if a version of the document is stored at this path, below the folder of a session.
    ///
    /// # Errors
    /// A ledger failure.
    fn is_stored_at(
        &self,
        item: &ItemId,
        document: &DocumentId,
        folder: &str,
        file: &str,
    ) -> Result<bool, Failure>;

    /// Returns what decides on the files of fetched documents, in their order.
    ///
    /// # Errors
    /// A ledger failure.
    fn document_facts(&self, fetched: &[FetchedContent]) -> Result<Vec<DocumentFacts>, Failure>;
}
