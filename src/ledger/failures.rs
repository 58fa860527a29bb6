//! Items that are not stored: lists them, requeues them, and finds due rechecks.

use std::time::Duration;

use cynosure_engine::{Cause, Failure, ItemId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::ledger::contents::remove_content;
use crate::ledger::error::LedgerError;
use crate::ledger::rows::{DocumentRowId, DocumentStatus, ItemStatus};
use crate::ledger::{Ledger, LedgerReader, StoredResponse};

/// Time until a damaged document that waits for a full listing is tried without one. Longer than
/// the listing takes.
const LISTING_WAIT: Duration = Duration::from_secs(30 * 86_400);

/// Filter of failures. The default matches all.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FailureFilter {
    /// Only failures with this cause.
    pub cause: Option<Cause>,
    /// Only items that failed, or were found to be gone, at this time or later.
    pub since: Option<Timestamp>,
}

/// Item that is not stored, or not completely.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FailureRow {
    pub item: ItemId,
    pub status: ItemStatus,
    /// Attempts that failed.
    pub attempts: u32,
    /// Time of the next attempt; `None` if the item is gone.
    pub next_attempt_at: Option<Timestamp>,
    pub cause: Option<Cause>,
    pub message: String,
    /// Time of the last failure, if recorded.
    pub failed_at: Option<Timestamp>,
    /// Number of quarantines in a row.
    pub quarantine_count: u32,
    /// Last failure response of the server.
    pub last_response: Option<StoredResponse>,
}

/// Selection of items to try again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RequeueFilter {
    /// Quarantined items that match the filter.
    Quarantined(FailureFilter),
    /// One item, in quarantine or gone.
    Item(ItemId),
}

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

impl LedgerReader {
    /// Returns up to `limit` items: quarantined ones first, then those that wait for another
    /// attempt, then those gone.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn failures(
        &self,
        filter: FailureFilter,
        limit: usize,
    ) -> Result<Vec<FailureRow>, Failure> {
        const SELECTIONS: [(&str, &str); 3] = [
            ("items.status = 3", "next_at"),
            ("items.status = 0 AND next_at > 0", "next_at"),
            ("items.status = 2", "settled_at"),
        ];
        self.read("read the failures", |connection| {
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
        })
    }

    /// Reads one item, whatever its status; `None` if it was never listed.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn item_report(&self, item: &ItemId) -> Result<Option<FailureRow>, Failure> {
        self.read("read the failure", |connection| {
            let sql = format!("{SELECT_FAILURE} WHERE items.id = ?1");
            Ok(connection.query_row(&sql, [item.as_str()], FailureRow::from_row).optional()?)
        })
    }

    /// True if quarantined items are due for a recheck.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn has_due_rechecks(&self, now: Timestamp) -> Result<bool, Failure> {
        Ok(self.next_recheck_at()?.is_some_and(|next| next <= now))
    }

    /// Returns when the first quarantined item is due for a recheck.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn next_recheck_at(&self) -> Result<Option<Timestamp>, Failure> {
        self.read("read the quarantine", |connection| {
            let sql = "SELECT next_at FROM items WHERE status = 3 ORDER BY next_at LIMIT 1";
            Ok(connection.query_row(sql, [], |row| row.get(0).map(Timestamp)).optional()?)
        })
    }
}

impl Ledger {
    /// Makes items due for a recheck at once; returns their number. Resets their quarantine counts,
    /// because a requeue implies that something has changed: an item that fails again waits as
    /// after its first quarantine.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn requeue(&mut self, filter: &RequeueFilter, now: Timestamp) -> Result<usize, Failure> {
        self.write("requeue items", |transaction| {
            let changed = match filter {
                RequeueFilter::Quarantined(filter) => {
                    let (cause, since) = filter.sql_params();
                    transaction.execute(
                        "UPDATE items SET next_at = ?1, quarantines = 0
                         WHERE status = 3 AND (?2 IS NULL OR cause = ?2)
                         AND (?3 IS NULL OR failed_at >= ?3)",
                        params![now.0, cause, since],
                    )?
                }
                RequeueFilter::Item(item) => requeue_one(transaction, item, now)?,
            };
            Ok(changed)
        })
    }

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
    pub fn requeue_damaged(
        &mut self,
        document: DocumentRowId,
        reason: &str,
        now: Timestamp,
    ) -> Result<bool, Failure> {
        self.write("requeue a document", |transaction| {
            let lists_contents: bool =
                transaction.query_row("SELECT lists_contents FROM source", [], |row| row.get(0))?;
            let (document_status, next_at) = if lists_contents {
                (DocumentStatus::Failed, now.after(LISTING_WAIT))
            } else {
                (DocumentStatus::Pending, now)
            };
            let item = transaction.query_row(
                "UPDATE documents SET status = ?2 WHERE no = ?1 AND status = 1 RETURNING item",
                params![document.0, document_status],
                |row| row.get::<_, i64>(0),
            );
            let Some(item) = item.optional()? else { return Ok(false) };
            remove_content(transaction, document)?;
            let sql = "UPDATE source SET reconciled_at = 0 WHERE lists_contents = 1";
            transaction.execute(sql, [])?;
            let (status, session) = transaction.query_row(
                "SELECT status, session FROM items WHERE no = ?1",
                [item],
                |row| Ok((row.get::<_, ItemStatus>(0)?, row.get::<_, i64>(1)?)),
            )?;
            let counter = match status {
                ItemStatus::Pending => return Ok(true),
                ItemStatus::Stored => Some("stored"),
                ItemStatus::Gone => Some("gone"),
                ItemStatus::Quarantined => None,
            };
            transaction.execute(
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
                transaction.execute(&sql, [session])?;
            }
            Ok(true)
        })
    }
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
