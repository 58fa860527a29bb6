//! The last reply of each item that failed, and of the session: what `explain` explains days later.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::engine::{Failure, RecordedResponse, Timestamp};
use crate::ledger::error::LedgerError;
use crate::ledger::rows::ItemRowId;
use crate::ledger::{Ledger, LedgerReader};

/// The newest replies that are kept: two kilobytes each, when a whole mailbox is forbidden.
const RESPONSE_ROWS_MAX: i64 = 10_000;

/// Stands where an item would, for what is no item's.
const SESSION_ITEM: i64 = 0;

/// What a server replied, and when.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredResponse {
    pub at: Timestamp,
    pub response: RecordedResponse,
}

/// What a reply was about.
#[derive(Clone, Copy, Debug)]
pub(super) enum ResponseOwner {
    Item(ItemRowId),
    Session,
}

impl Ledger {
    /// Keeps the reply of a failure of the listing or the session, if it has one.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn record_session_response(
        &mut self,
        failure: &Failure,
        now: Timestamp,
    ) -> Result<(), Failure> {
        if failure.response.is_none() {
            return Ok(());
        }
        self.write("keep a reply", |transaction| {
            store_response(transaction, ResponseOwner::Session, failure, now)
        })
    }
}

impl LedgerReader {
    /// Reads the last reply that was a failure of the listing or the session.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn session_response(&self) -> Result<Option<StoredResponse>, Failure> {
        self.read("read the last reply", |connection| {
            let sql = "SELECT at AS reply_at, status AS reply_status, headers, body, is_cut
                       FROM replies WHERE item = ?1";
            let found =
                connection.query_row(sql, [SESSION_ITEM], StoredResponse::from_row).optional()?;
            Ok(found.flatten())
        })
    }
}

/// Keeps the reply of a failure in place of the one before; without one, that stays.
pub(super) fn store_response(
    connection: &Connection,
    whose: ResponseOwner,
    failure: &Failure,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let Some(reply) = &failure.response else { return Ok(()) };
    let item = match whose {
        ResponseOwner::Item(item) => item.0,
        ResponseOwner::Session => SESSION_ITEM,
    };
    let headers = serde_json::Value::from_iter(
        reply.headers.iter().map(|(name, value)| vec![name.as_str(), value.as_str()]),
    );
    // Replaced, not updated: the new row has a new number, so that the oldest has the least.
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO replies (item, at, status, headers, body, is_cut)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            item,
            now.0,
            reply.status,
            headers.to_string(),
            reply.body,
            reply.is_truncated
        ])?;
    let newest = connection.last_insert_rowid();
    connection
        .prepare_cached("DELETE FROM replies WHERE no <= ?1")?
        .execute([newest - RESPONSE_ROWS_MAX])?;
    Ok(())
}

/// Lets go of the replies of items that were stored after all.
pub(super) fn delete_for_stored_items(connection: &Connection) -> Result<(), LedgerError> {
    connection.execute(
        "DELETE FROM replies WHERE item IN
         (SELECT replies.item FROM replies JOIN items ON items.no = replies.item WHERE items.status = 1)",
        [],
    )?;
    Ok(())
}

impl StoredResponse {
    /// Reads the columns of a reply, of which an outer join may have left all empty.
    pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<Option<Self>> {
        let Some(at) = row.get::<_, Option<i64>>("reply_at")? else { return Ok(None) };
        // A text that no writer of ours left there is no reason to show nothing at all.
        let headers = serde_json::from_str(&row.get::<_, String>("headers")?).unwrap_or_default();
        let reply = RecordedResponse {
            status: row.get("reply_status")?,
            headers,
            body: row.get("body")?,
            is_truncated: row.get("is_cut")?,
        };
        Ok(Some(Self { at: Timestamp(at), response: reply }))
    }
}
