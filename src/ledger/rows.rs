//! Row and status types of the ledger, and the numbers that statuses are stored as.

use cynosure_engine::{Cursor, PageToken, SessionId, Timestamp};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row};

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

/// Status of a document.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum DocumentStatus {
    Pending,
    Stored,
    Gone,
    /// The server refuses it, or it cannot be processed (poison). Pending again when its item is
    /// rechecked.
    Failed,
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

const SELECT_SESSION: &str =
    "SELECT no, id, kind, listing, started, completed, folder, pinned, place,
        is_listed, listed, stored, gone, quarantined, documents, bytes, versions, copies,
        copied_bytes, expected_bytes FROM sessions";

impl SessionRow {
    /// Reads the newest session, open or completed.
    pub(super) fn newest(connection: &Connection) -> rusqlite::Result<Option<Self>> {
        let sql = format!("{SELECT_SESSION} ORDER BY no DESC LIMIT 1");
        connection.prepare_cached(&sql)?.query_row([], Self::from_row).optional()
    }

    /// Reads the newest session to show. A reconcile session is skipped until it has listed an
    /// item.
    pub(super) fn newest_visible(connection: &Connection) -> rusqlite::Result<Option<Self>> {
        let sql = format!(
            "{SELECT_SESSION} WHERE NOT (kind = 3 AND listed = 0) ORDER BY no DESC LIMIT 1"
        );
        connection.prepare_cached(&sql)?.query_row([], Self::from_row).optional()
    }

    /// Reads the newest completed session.
    pub(super) fn newest_completed(connection: &Connection) -> rusqlite::Result<Option<Self>> {
        let sql = format!("{SELECT_SESSION} WHERE completed IS NOT NULL ORDER BY no DESC LIMIT 1");
        connection.prepare_cached(&sql)?.query_row([], Self::from_row).optional()
    }

    /// Reads the newest completed session that stored a document.
    pub(super) fn newest_with_documents(connection: &Connection) -> rusqlite::Result<Option<Self>> {
        let sql = format!(
            "{SELECT_SESSION} WHERE completed IS NOT NULL AND documents > 0
             ORDER BY no DESC LIMIT 1"
        );
        connection.prepare_cached(&sql)?.query_row([], Self::from_row).optional()
    }

    /// Reads the session that is not completed yet, if there is one.
    pub(super) fn open(connection: &Connection) -> rusqlite::Result<Option<Self>> {
        Ok(Self::newest(connection)?.filter(|session| session.completed_at.is_none()))
    }

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            row_id: row.get("no")?,
            id: SessionId::new(row.get::<_, String>("id")?),
            kind: row.get("kind")?,
            listing: row.get("listing")?,
            started_at: Timestamp(row.get("started")?),
            completed_at: row.get::<_, Option<_>>("completed")?.map(Timestamp),
            folder: row.get("folder")?,
            start_cursor: row.get::<_, Option<String>>("pinned")?.map(Cursor::new),
            page_token: row.get::<_, Option<String>>("place")?.map(PageToken::new),
            is_listing_complete: row.get("is_listed")?,
            counts: SessionCounts {
                listed: read_count(row, "listed")?,
                stored: read_count(row, "stored")?,
                gone: read_count(row, "gone")?,
                quarantined: read_count(row, "quarantined")?,
                documents: read_count(row, "documents")?,
                bytes: read_count(row, "bytes")?,
                versions: read_count(row, "versions")?,
                copies: read_count(row, "copies")?,
                copied_bytes: read_count(row, "copied_bytes")?,
                expected_bytes: Some(read_count(row, "expected_bytes")?).filter(|bytes| *bytes > 0),
            },
        })
    }
}

/// Reads a count or a size, which is never negative.
pub(super) fn read_count(row: &Row<'_>, column: &str) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.unsigned_abs())
}

/// Converts a count or a size for SQL; none comes near the end of the range.
pub(super) fn to_sql_integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

macro_rules! stored_as_number {
    ($type:ident { $($variant:ident = $number:literal),+ }) => {
        impl ToSql for $type {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(match self { $(Self::$variant => $number.into(),)+ })
            }
        }

        impl FromSql for $type {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                match value.as_i64()? {
                    $($number => Ok(Self::$variant),)+
                    other => Err(FromSqlError::OutOfRange(other)),
                }
            }
        }
    };
}

stored_as_number!(ItemStatus { Pending = 0, Stored = 1, Gone = 2, Quarantined = 3 });
stored_as_number!(DocumentStatus { Pending = 0, Stored = 1, Gone = 2, Failed = 3 });
stored_as_number!(SessionKind { Full = 0, Changes = 1, Recheck = 2, Reconcile = 3 });
stored_as_number!(ListingKind { Full = 0, Changes = 1, Nothing = 2, Reconcile = 3 });
