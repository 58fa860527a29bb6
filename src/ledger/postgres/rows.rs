//! Rows that the reads of the ledger return. Each row is one JSON text.

use cynosure_engine::{Cursor, PageToken, SessionId, Timestamp};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _};

use crate::database::{Database, DatabaseError, Parameter, Row};
use crate::ledger::postgres::records::{CounterRecord, SessionRecord};
use crate::ledger::{ItemStatus, ListingKind, SessionCounts, SessionKind, SessionRow};

/// Runs a statement, each row of which is one JSON text, and decodes the rows.
pub(super) fn query_rows<T: DeserializeOwned>(
    database: &Database,
    sql: &'static str,
    parameters: Vec<Parameter>,
) -> Result<Vec<T>, DatabaseError> {
    database.query(sql, parameters)?.iter().map(decode_row).collect()
}

/// As [`query_rows`], for a statement that returns at most one row.
pub(super) fn query_optional<T: DeserializeOwned>(
    database: &Database,
    sql: &'static str,
    parameters: Vec<Parameter>,
) -> Result<Option<T>, DatabaseError> {
    Ok(query_rows(database, sql, parameters)?.pop())
}

/// As [`query_rows`], for a statement that returns one row. Without one, the source is not in the
/// database.
pub(super) fn query_value<T: DeserializeOwned>(
    database: &Database,
    sql: &'static str,
    parameters: Vec<Parameter>,
) -> Result<T, DatabaseError> {
    query_optional(database, sql, parameters)?
        .ok_or_else(|| DatabaseError::unexpected("no row of the source".to_owned()))
}

/// Decodes the JSON text of a row; NULL is `null`.
fn decode_row<T: DeserializeOwned>(row: &Row) -> Result<T, DatabaseError> {
    let text: Option<&str> =
        row.try_get(0).map_err(|error| DatabaseError::unexpected(error.to_string()))?;
    serde_json::from_str(text.unwrap_or("null"))
        .map_err(|error| DatabaseError::unexpected(error.to_string()))
}

/// Decodes a SHA-256 that is written in hexadecimal.
pub(super) fn deserialize_sha256<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<[u8; 32], D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_sha256(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is not a SHA-256")))
}

fn parse_sha256(text: &str) -> Option<[u8; 32]> {
    let mut sha256 = [0; 32];
    if text.len() != 2 * sha256.len() {
        return None;
    }
    for (index, byte) in sha256.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(sha256)
}

/// Converts a limit or a count for SQL.
pub(super) fn to_bigint(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Converts the number of an item's status.
pub(super) fn item_status(number: u8) -> Result<ItemStatus, DatabaseError> {
    match number {
        0 => Ok(ItemStatus::Pending),
        1 => Ok(ItemStatus::Stored),
        2 => Ok(ItemStatus::Gone),
        3 => Ok(ItemStatus::Quarantined),
        other => Err(DatabaseError::unexpected(format!("an item with the status {other}"))),
    }
}

/// Converts a session.
pub(super) fn session_row(record: SessionRecord) -> Result<SessionRow, DatabaseError> {
    Ok(SessionRow {
        row_id: record.no,
        id: SessionId::new(record.id),
        kind: session_kind(record.kind)?,
        listing: listing_kind(record.listing)?,
        started_at: Timestamp(record.started),
        completed_at: record.completed.map(Timestamp),
        folder: record.folder,
        start_cursor: record.start_cursor.map(Cursor::new),
        page_token: record.page_token.map(PageToken::new),
        is_listing_complete: record.is_listed,
        counts: record.counts.into(),
    })
}

fn session_kind(number: u8) -> Result<SessionKind, DatabaseError> {
    match number {
        0 => Ok(SessionKind::Full),
        1 => Ok(SessionKind::Changes),
        2 => Ok(SessionKind::Recheck),
        3 => Ok(SessionKind::Reconcile),
        other => Err(DatabaseError::unexpected(format!("a session of the kind {other}"))),
    }
}

fn listing_kind(number: u8) -> Result<ListingKind, DatabaseError> {
    match number {
        0 => Ok(ListingKind::Full),
        1 => Ok(ListingKind::Changes),
        2 => Ok(ListingKind::Nothing),
        3 => Ok(ListingKind::Reconcile),
        other => Err(DatabaseError::unexpected(format!("a listing of the kind {other}"))),
    }
}

/// Returns the number that a kind of session is stored as.
pub(super) fn session_kind_number(kind: SessionKind) -> i32 {
    match kind {
        SessionKind::Full => 0,
        SessionKind::Changes => 1,
        SessionKind::Recheck => 2,
        SessionKind::Reconcile => 3,
    }
}

/// Returns the number that a kind of listing is stored as.
pub(super) fn listing_kind_number(kind: ListingKind) -> i32 {
    match kind {
        ListingKind::Full => 0,
        ListingKind::Changes => 1,
        ListingKind::Nothing => 2,
        ListingKind::Reconcile => 3,
    }
}

impl From<CounterRecord> for SessionCounts {
    fn from(sums: CounterRecord) -> Self {
        Self {
            listed: sums.listed.unsigned_abs(),
            stored: sums.stored.unsigned_abs(),
            gone: sums.gone.unsigned_abs(),
            quarantined: sums.quarantined.unsigned_abs(),
            documents: sums.documents.unsigned_abs(),
            bytes: sums.bytes.unsigned_abs(),
            versions: sums.versions.unsigned_abs(),
            copies: sums.copies.unsigned_abs(),
            copied_bytes: sums.copied_bytes.unsigned_abs(),
            expected_bytes: Some(sums.expected_bytes.unsigned_abs()).filter(|bytes| *bytes > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_read_from_64_hexadecimal_digits() {
        let expected = [0xa5; 32];

        assert_eq!(parse_sha256(&"a5".repeat(32)), Some(expected));
        assert_eq!(parse_sha256(&"a5".repeat(31)), None);
        assert_eq!(parse_sha256(&"a5".repeat(33)), None);
        assert_eq!(parse_sha256(&"x5".repeat(32)), None);
        assert_eq!(parse_sha256(&"ä".repeat(32)), None);
    }

    #[test]
    fn a_session_is_read_from_its_columns_and_sums() {
        let text = r#"{"source": 9, "no": 3, "id": "session_3", "kind": 3, "listing": 1,
            "started": 5, "completed": null, "folder": "folder", "start_cursor": null,
            "page_token": "more", "is_listed": false, "counts": {"listed": 4, "stored": 1,
            "gone": 0, "quarantined": 1, "documents": 2, "bytes": 8, "versions": 0, "copies": 0,
            "copied_bytes": 0, "expected_bytes": 0}}"#;

        let session = session_row(serde_json::from_str(text).unwrap()).unwrap();

        assert_eq!((session.kind, session.listing), (SessionKind::Reconcile, ListingKind::Changes));
        assert_eq!(session.page_token, Some(PageToken::new("more")));
        assert_eq!((session.counts.pending(), session.counts.bytes), (2, 8));
        assert_eq!(session.counts.expected_bytes, None, "0 is none");
    }
}
