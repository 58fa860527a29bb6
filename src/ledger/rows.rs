//! Row and status types of the ledger.

use cynosure_engine::{Cursor, PageToken, SessionId, Timestamp};

/// The number of an item's row. Grows in the order of listing.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ItemRowId(pub i64);

/// The number of a document's row.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct DocumentRowId(pub i64);

/// Status of an item.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ItemStatus {
    /// At least one document is still to be fetched.
    Pending,
    /// All documents that the source still has are in the archive.
    Stored,
    /// The source no longer has any of its documents.
    Gone,
    /// Given up until its next recheck.
    Quarantined,
}

impl ItemStatus {
    /// Returns the name, as users see it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "waiting",
            Self::Stored => "stored",
            Self::Gone => "gone",
            Self::Quarantined => "quarantined",
        }
    }
}

/// Kind of a session: the listing that it began with. Later listings are its [`ListingKind`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SessionKind {
    Full,
    Changes,
    /// No listing: quarantined items are tried again.
    Recheck,
    /// Everything once more, although there is a cursor.
    Reconcile,
}

/// Current or last listing of a session, which may list more than once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ListingKind {
    /// Everything, because nothing is known yet or the cursor was lost.
    Full,
    /// The changes since the cursor.
    Changes,
    Nothing,
    /// Everything once more, to find what the listings of changes missed.
    Reconcile,
}

impl SessionKind {
    /// Returns the listing that a session of this kind begins with.
    #[must_use]
    pub fn initial_listing(self) -> ListingKind {
        match self {
            Self::Full => ListingKind::Full,
            Self::Changes => ListingKind::Changes,
            Self::Recheck => ListingKind::Nothing,
            Self::Reconcile => ListingKind::Reconcile,
        }
    }
}

/// Counts of one session. `listed = stored + gone + quarantined + pending`, always.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SessionCounts {
    /// Items assigned to the session: new, changed, or out of quarantine.
    pub listed: u64,
    pub stored: u64,
    pub gone: u64,
    pub quarantined: u64,
    /// Documents fetched and stored, and their bytes.
    pub documents: u64,
    pub bytes: u64,
    /// Documents with new content of which the earlier version is kept.
    pub versions: u64,
    /// Documents whose bytes were in the archive already: not fetched, or not stored again.
    pub copies: u64,
    /// Bytes of the copies that were fetched and not stored again.
    pub copied_bytes: u64,
    /// Bytes of the documents to fetch, as far as the listing named their sizes, which may be
    /// estimates; `None` if it named none.
    pub expected_bytes: Option<u64>,
}

impl SessionCounts {
    /// Returns the number of settled items: stored, gone or quarantined.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.stored + self.gone + self.quarantined
    }

    /// Returns the number of items that are not settled yet.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.listed.saturating_sub(self.settled())
    }

    /// Returns the bytes of the fetched documents, whether they were stored or are copies.
    #[must_use]
    pub fn fetched_bytes(&self) -> u64 {
        self.bytes.saturating_add(self.copied_bytes)
    }
}

/// Session: one run from idle to completed, with its progress so far.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SessionRow {
    pub(super) row_id: i64,
    pub id: SessionId,
    pub kind: SessionKind,
    pub listing: ListingKind,
    pub started_at: Timestamp,
    pub completed_at: Option<Timestamp>,
    /// Its folder in the archive, once there is one.
    pub folder: Option<String>,
    /// Cursor that was taken before the listing began.
    pub start_cursor: Option<Cursor>,
    /// Token of the next page; `None` before the first page and after the last.
    pub page_token: Option<PageToken>,
    /// True if the listing is complete.
    pub is_listing_complete: bool,
    pub counts: SessionCounts,
}
