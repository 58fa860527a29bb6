//! Failure counts of pending items, beside the attempts in their rows.

use cynosure_engine::ItemFailureCounts;
use rusqlite::{Connection, params};

use crate::ledger::ItemRowId;

/// Stores the failure counts of an item.
pub(super) fn store(
    connection: &Connection,
    item: ItemRowId,
    counts: &ItemFailureCounts,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO trials (item, requests, strikes, since) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (item) DO UPDATE SET requests = ?2, strikes = ?3, since = ?4",
        )?
        .execute(params![
            item.0,
            counts.failed_requests,
            counts.strikes,
            counts.failing_since.map(|since| since.0)
        ])?;
    Ok(())
}

/// Deletes the failure counts of an item that becomes pending again.
pub(super) fn delete(connection: &Connection, item: ItemRowId) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM trials WHERE item = ?1")?.execute([item.0])?;
    Ok(())
}

/// Deletes the failure counts of all items. Called when no item is pending.
pub(super) fn delete_all(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM trials", [])?;
    Ok(())
}
