//! Row and status types of the ledger, and the numbers that statuses are stored as.

use cynosure_engine::{Cursor, PageToken, SessionId, Timestamp};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row};

use crate::ledger::{ItemStatus, ListingKind, SessionCounts, SessionKind, SessionRow};

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
