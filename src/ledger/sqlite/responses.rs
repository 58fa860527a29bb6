//! Last response to each failed item and to the session, which `explain` shows days later.

use cynosure_engine::{Failure, RecordedResponse, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::ledger::sqlite::error::LedgerError;
use crate::ledger::{ItemRowId, StoredResponse};

/// Newest responses that are kept. At two kilobytes each, this bounds the space when a whole
/// mailbox is forbidden.
const RESPONSE_ROWS_MAX: i64 = 10_000;

/// Item row of a response that belongs to the listing or the session, not to an item.
const SESSION_ROW_ID: i64 = 0;

/// Item or session that a response belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) enum ResponseOwner {
    Item(ItemRowId),
    Session,
}

pub(super) fn session_response(
    connection: &Connection,
) -> Result<Option<StoredResponse>, LedgerError> {
    let sql = "SELECT at AS reply_at, status AS reply_status, headers, body, is_cut
               FROM replies WHERE item = ?1";
    let found = connection.query_row(sql, [SESSION_ROW_ID], StoredResponse::from_row).optional()?;
    Ok(found.flatten())
}

/// Stores the response of a failure in place of the previous one. A failure without a response
/// leaves the previous one.
pub(super) fn store_response(
    connection: &Connection,
    owner: ResponseOwner,
    failure: &Failure,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let Some(response) = &failure.response else { return Ok(()) };
    let item = match owner {
        ResponseOwner::Item(item) => item.0,
        ResponseOwner::Session => SESSION_ROW_ID,
    };
    let headers = serde_json::Value::from_iter(
        response.headers.iter().map(|(name, value)| vec![name.as_str(), value.as_str()]),
    );
    // Replaced, not updated: the new row has a new number, so that the oldest has the lowest.
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO replies (item, at, status, headers, body, is_cut)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            item,
            now.0,
            response.status,
            headers.to_string(),
            response.body,
            response.is_truncated
        ])?;
    let newest = connection.last_insert_rowid();
    connection
        .prepare_cached("DELETE FROM replies WHERE no <= ?1")?
        .execute([newest - RESPONSE_ROWS_MAX])?;
    Ok(())
}

/// Deletes the responses of items that have been stored since.
pub(super) fn delete_for_stored_items(connection: &Connection) -> Result<(), LedgerError> {
    connection.execute(
        "DELETE FROM replies WHERE item IN
         (SELECT replies.item FROM replies JOIN items ON items.no = replies.item WHERE items.status = 1)",
        [],
    )?;
    Ok(())
}

impl StoredResponse {
    /// Reads the columns of a response; `None` if an outer join left them empty.
    pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<Option<Self>> {
        let Some(at) = row.get::<_, Option<i64>>("reply_at")? else { return Ok(None) };
        // Headers that cannot be parsed are no reason to hide the rest of the response.
        let headers = serde_json::from_str(&row.get::<_, String>("headers")?).unwrap_or_default();
        let response = RecordedResponse {
            status: row.get("reply_status")?,
            headers,
            body: row.get("body")?,
            is_truncated: row.get("is_cut")?,
        };
        Ok(Some(Self { at: Timestamp(at), response }))
    }
}
