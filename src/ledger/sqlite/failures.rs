//! Items that are not stored: lists them, requeues them, and finds due rechecks.

use cynosure_engine::{Cause, ItemId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::ledger::limits::LISTING_WAIT;
use crate::ledger::sqlite::contents::remove_content;
use crate::ledger::sqlite::error::LedgerError;
use crate::ledger::sqlite::rows::DocumentStatus;
use crate::ledger::{
    DocumentRowId, FailureFilter, FailureRow, ItemStatus, RequeueFilter, StoredResponse,
};

/// Selects items with their last response.
const SELECT_FAILURE: &str =
    "SELECT id, items.status, attempts, next_at, cause, message, failed_at,
    quarantines, at AS reply_at, replies.status AS reply_status, headers, body, is_cut
    FROM items LEFT JOIN replies ON replies.item = items.no";

impl FailureFilter {
    fn sql_params(&self) -> (Option<&'static str>, Option<i64>) {
        (self.cause.map(Cause::name), self.since.map(|since| since.0))
    }
}

pub(super) fn failures(
    connection: &Connection,
    filter: FailureFilter,
    limit: usize,
) -> Result<Vec<FailureRow>, LedgerError> {
    const SELECTIONS: [(&str, &str); 3] = [
        ("items.status = 3", "next_at"),
        ("items.status = 0 AND next_at > 0", "next_at"),
        ("items.status = 2", "settled_at"),
    ];
    let mut found = Vec::new();
    for (condition, order) in SELECTIONS {
        let sql = format!(
            "{SELECT_FAILURE} WHERE {condition} AND (?1 IS NULL OR cause = ?1)
             AND (?2 IS NULL OR COALESCE(failed_at, settled_at) >= ?2) ORDER BY {order}, items.no"
        );
        let mut statement = connection.prepare(&sql)?;
        let mut rows = statement.query(filter.sql_params())?;
        while found.len() < limit
            && let Some(row) = rows.next()?
        {
            found.push(FailureRow::from_row(row)?);
        }
    }
    Ok(found)
}

pub(super) fn item_report(
    connection: &Connection,
    item: &ItemId,
) -> Result<Option<FailureRow>, LedgerError> {
    let sql = format!("{SELECT_FAILURE} WHERE items.id = ?1");
    Ok(connection.query_row(&sql, [item.as_str()], FailureRow::from_row).optional()?)
}

pub(super) fn next_recheck_at(connection: &Connection) -> Result<Option<Timestamp>, LedgerError> {
    let sql = "SELECT next_at FROM items WHERE status = 3 ORDER BY next_at LIMIT 1";
    Ok(connection.query_row(sql, [], |row| row.get(0).map(Timestamp)).optional()?)
}

pub(super) fn requeue(
    connection: &Connection,
    filter: &RequeueFilter,
    now: Timestamp,
) -> Result<usize, LedgerError> {
    let changed = match filter {
        RequeueFilter::Quarantined(filter) => {
            let (cause, since) = filter.sql_params();
            connection.execute(
                "UPDATE items SET next_at = ?1, quarantines = 0
                 WHERE status = 3 AND (?2 IS NULL OR cause = ?2)
                 AND (?3 IS NULL OR failed_at >= ?3)",
                params![now.0, cause, since],
            )?
        }
        RequeueFilter::Item(item) => requeue_one(connection, item, now)?,
    };
    Ok(changed)
}

pub(super) fn requeue_damaged(
    connection: &Connection,
    document: DocumentRowId,
    reason: &str,
    now: Timestamp,
) -> Result<bool, LedgerError> {
    let lists_contents: bool =
        connection.query_row("SELECT lists_contents FROM source", [], |row| row.get(0))?;
    let (document_status, next_at) = if lists_contents {
        (DocumentStatus::Failed, now.after(LISTING_WAIT))
    } else {
        (DocumentStatus::Pending, now)
    };
    let item = connection.query_row(
        "UPDATE documents SET status = ?2 WHERE no = ?1 AND status = 1 RETURNING item",
        params![document.0, document_status],
        |row| row.get::<_, i64>(0),
    );
    let Some(item) = item.optional()? else { return Ok(false) };
    remove_content(connection, document)?;
    let sql = "UPDATE source SET reconciled_at = 0 WHERE lists_contents = 1";
    connection.execute(sql, [])?;
    let (status, session) =
        connection.query_row("SELECT status, session FROM items WHERE no = ?1", [item], |row| {
            Ok((row.get::<_, ItemStatus>(0)?, row.get::<_, i64>(1)?))
        })?;
    let counter = match status {
        ItemStatus::Pending => return Ok(true),
        ItemStatus::Stored => Some("stored"),
        ItemStatus::Gone => Some("gone"),
        ItemStatus::Quarantined => None,
    };
    connection.execute(
        "UPDATE items SET status = 3, next_at = ?5, quarantines = 0, cause = ?3,
                message = ?4, failed_at = ?2, settled_at = ?2
         WHERE no = ?1",
        params![item, now.0, Cause::Storage.name(), reason, next_at.0],
    )?;
    if let Some(counter) = counter {
        let sql = format!(
            "UPDATE sessions SET {counter} = {counter} - 1, quarantined = quarantined + 1
             WHERE no = ?1"
        );
        connection.execute(&sql, [session])?;
    }
    Ok(true)
}

/// Requeues one item. A gone item is quarantined first, and the next session fetches it. A gone
/// item without documents is skipped, because there is nothing to fetch.
fn requeue_one(
    connection: &Connection,
    item: &ItemId,
    now: Timestamp,
) -> Result<usize, LedgerError> {
    let gone = connection.query_row(
        "SELECT no, session FROM items WHERE id = ?1 AND status = 2
         AND EXISTS (SELECT 1 FROM documents WHERE item = items.no)",
        [item.as_str()],
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)),
    );
    if let Some((row_id, session)) = gone.optional()? {
        connection.execute("UPDATE items SET status = 3 WHERE no = ?1", [row_id])?;
        connection
            .execute("UPDATE documents SET status = 0 WHERE item = ?1 AND status = 2", [row_id])?;
        connection.execute(
            "UPDATE sessions SET gone = gone - 1, quarantined = quarantined + 1 WHERE no = ?1",
            [session],
        )?;
    }
    let changed = connection.execute(
        "UPDATE items SET next_at = ?1, quarantines = 0 WHERE id = ?2 AND status = 3",
        params![now.0, item.as_str()],
    )?;
    Ok(changed)
}

impl FailureRow {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let status = row.get("status")?;
        let next_at = Timestamp(row.get("next_at")?);
        Ok(Self {
            item: ItemId::new(row.get::<_, String>("id")?),
            status,
            attempts: row.get("attempts")?,
            next_attempt_at: (status != ItemStatus::Gone).then_some(next_at),
            cause: row.get::<_, Option<String>>("cause")?.as_deref().and_then(Cause::from_name),
            message: row.get::<_, Option<String>>("message")?.unwrap_or_default(),
            failed_at: row.get::<_, Option<i64>>("failed_at")?.map(Timestamp),
            quarantine_count: row.get("quarantines")?,
            last_response: StoredResponse::from_row(row)?,
        })
    }
}
