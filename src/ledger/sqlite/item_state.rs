//! Moves items between pending, stored, gone and quarantined, and updates the session counters.

use std::collections::BTreeSet;

use cynosure_engine::{Cause, Failure, RecheckPolicy, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use crate::ledger::sqlite::error::LedgerError;
use crate::ledger::sqlite::responses::ResponseOwner;
use crate::ledger::sqlite::rows::{DocumentStatus, to_sql_integer};
use crate::ledger::sqlite::{failure_counts, responses};
use crate::ledger::{ItemRowId, ItemStatus, SessionRow};

/// Query that counts an item's documents by status. The parameter is an expression, because SQLite
/// plans by the value of a bare one beside a GROUP BY, and would plan again for every item.
pub(super) const COUNT_BY_STATUS: &str =
    "SELECT status, count(*) FROM documents WHERE item = +?1 GROUP BY status";

/// Largest sum of expected bytes: 8 PiB. Absurd sizes of a server must not exceed the range of the
/// column.
const EXPECTED_BYTES_MAX: i64 = 1 << 53;

/// Open session within a transaction, with the changes to be added to its counters at the end.
#[derive(Debug)]
pub(super) struct OpenSession<'a> {
    connection: &'a Connection,
    pub(super) row: SessionRow,
    delta: CounterDelta,
}

#[derive(Debug, Default)]
struct CounterDelta {
    listed: i64,
    stored: i64,
    gone: i64,
    quarantined: i64,
    documents: i64,
    bytes: i64,
    versions: i64,
    copies: i64,
    copied_bytes: i64,
    expected_bytes: i64,
}

/// Numbers of an item's documents by status.
#[derive(Debug, Default)]
struct DocumentCounts {
    pending: u32,
    stored: u32,
    gone: u32,
    failed: u32,
}

impl<'a> OpenSession<'a> {
    /// Loads the open session. Fails if none is open.
    pub(super) fn load(connection: &'a Connection) -> Result<Self, LedgerError> {
        match SessionRow::open(connection)? {
            Some(row) => Ok(Self { connection, row, delta: CounterDelta::default() }),
            None => Err(LedgerError::Inconsistent("no session is open".to_owned())),
        }
    }

    /// Counts one more item of the session.
    pub(super) fn count_listed(&mut self) {
        self.delta.listed += 1;
    }

    /// Counts one more item of the session that is gone.
    pub(super) fn count_missing(&mut self) {
        self.delta.listed += 1;
        self.delta.gone += 1;
    }

    /// Counts a document that was fetched and stored, and its bytes.
    pub(super) fn count_fetched(&mut self, bytes: i64) {
        self.delta.documents += 1;
        self.delta.bytes += bytes;
    }

    /// Counts a version of a document that was kept beside a later one.
    pub(super) fn count_superseded(&mut self) {
        self.delta.versions += 1;
    }

    /// Counts a document whose bytes were in the archive already.
    pub(super) fn count_copy(&mut self) {
        self.delta.copies += 1;
    }

    /// Counts a document that was fetched, and whose bytes were in the archive already.
    pub(super) fn count_fetched_copy(&mut self, bytes: i64) {
        self.count_copy();
        self.delta.copied_bytes += bytes;
    }

    /// Counts the size of a document that is to be fetched, if it is known.
    pub(super) fn count_expected(&mut self, size: Option<u64>) {
        let size = to_sql_integer(size.unwrap_or(0));
        self.delta.expected_bytes = self.delta.expected_bytes.saturating_add(size);
    }

    /// Makes an item pending in this session; returns true if the session did not have it yet. A
    /// pending item stays as it is.
    pub(super) fn reopen(&mut self, item: ItemRowId) -> Result<bool, LedgerError> {
        let (session, status) = self
            .connection
            .prepare_cached("SELECT session, status FROM items WHERE no = ?1")?
            .query_row([item.0], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)))?;
        if status == ItemStatus::Pending {
            return Ok(false);
        }
        let is_new = session != self.row.row_id;
        if is_new {
            self.count_listed();
        } else {
            // This session counted it as settled, which it no longer is.
            *self.delta.counter_mut(status) -= 1;
        }
        self.connection.execute(
            "UPDATE items SET status = 0, session = ?2, attempts = 0, next_at = 0, settled_at = NULL
             WHERE no = ?1",
            [item.0, self.row.row_id],
        )?;
        failure_counts::delete(self.connection, item)?;
        Ok(is_new)
    }

    /// Settles those of `items` that have no pending document left.
    pub(super) fn settle_items(
        &mut self,
        items: BTreeSet<ItemRowId>,
        recheck: RecheckPolicy,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        for item in items {
            let counts = DocumentCounts::read(self.connection, item)?;
            if let Some(status) = counts.item_status() {
                self.set_final_status(item, status, &counts, recheck, now)?;
            }
        }
        Ok(())
    }

    fn set_final_status(
        &mut self,
        item: ItemRowId,
        status: ItemStatus,
        counts: &DocumentCounts,
        recheck: RecheckPolicy,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let total = counts.stored + counts.gone;
        let message = (counts.gone > 0)
            .then(|| format!("the source no longer has {} of {total} documents", counts.gone));
        let changed = match status {
            ItemStatus::Quarantined => {
                let next_recheck_at = self.next_recheck_at(item, None, recheck, now)?;
                self.connection.execute(
                    "UPDATE items SET status = 3, quarantines = quarantines + 1, next_at = ?2,
                            settled_at = ?3
                     WHERE no = ?1 AND status = 0",
                    [item.0, next_recheck_at.0, now.0],
                )?
            }
            ItemStatus::Pending | ItemStatus::Stored | ItemStatus::Gone => {
                let mut statement = self.connection.prepare_cached(
                    "UPDATE items SET status = ?2, quarantines = 0, next_at = 0, cause = ?3,
                            message = ?4, settled_at = ?5
                     WHERE no = ?1 AND status = 0",
                )?;
                let cause = message.as_ref().map(|_| Cause::NotFound.name());
                statement.execute(params![item.0, status, cause, message, now.0])?
            }
        };
        if changed > 0 {
            *self.delta.counter_mut(status) += 1;
        }
        Ok(())
    }

    /// Quarantines an item until its next recheck, even if some of its documents are still pending.
    pub(super) fn quarantine(
        &mut self,
        item: ItemRowId,
        failure: &Failure,
        recheck: RecheckPolicy,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let next_recheck_at = self.next_recheck_at(item, Some(failure.cause), recheck, now)?;
        let changed = self.connection.execute(
            "UPDATE items SET status = 3, attempts = attempts + 1, quarantines = quarantines + 1,
                    next_at = ?2, cause = ?3, message = ?4, failed_at = ?5, settled_at = ?5
             WHERE no = ?1 AND status = 0",
            params![item.0, next_recheck_at.0, failure.cause.name(), failure.message, now.0],
        )?;
        if changed > 0 {
            self.delta.quarantined += 1;
            responses::store_response(self.connection, ResponseOwner::Item(item), failure, now)?;
        }
        Ok(())
    }

    /// Returns when an item that is quarantined now is rechecked: by `cause`, else by the cause of
    /// its last failure.
    fn next_recheck_at(
        &self,
        item: ItemRowId,
        cause: Option<Cause>,
        recheck: RecheckPolicy,
        now: Timestamp,
    ) -> Result<Timestamp, LedgerError> {
        let sql = "SELECT quarantines, cause FROM items WHERE no = ?1";
        let (quarantine_count, last_cause) = self
            .connection
            .prepare_cached(sql)?
            .query_row([item.0], |row| Ok((row.get(0)?, row.get::<_, Option<String>>(1)?)))?;
        let last_cause = || last_cause.as_deref().and_then(Cause::from_name);
        let cause = cause.or_else(last_cause).unwrap_or(Cause::Unknown);
        Ok(recheck.next_recheck_at(cause, quarantine_count, now))
    }

    /// Adds the counted changes to the session's row.
    pub(super) fn write_counters(self) -> Result<(), LedgerError> {
        let delta = self.delta;
        self.connection.execute(
            "UPDATE sessions SET listed = listed + ?2, stored = stored + ?3, gone = gone + ?4,
                    quarantined = quarantined + ?5, documents = documents + ?6, bytes = bytes + ?7,
                    versions = versions + ?8, copies = copies + ?9,
                    copied_bytes = copied_bytes + ?10,
                    expected_bytes = min(expected_bytes + ?11, ?12)
             WHERE no = ?1",
            [
                self.row.row_id,
                delta.listed,
                delta.stored,
                delta.gone,
                delta.quarantined,
                delta.documents,
                delta.bytes,
                delta.versions,
                delta.copies,
                delta.copied_bytes,
                delta.expected_bytes,
                EXPECTED_BYTES_MAX,
            ],
        )?;
        Ok(())
    }
}

impl CounterDelta {
    fn counter_mut(&mut self, status: ItemStatus) -> &mut i64 {
        match status {
            ItemStatus::Pending => &mut self.listed,
            ItemStatus::Stored => &mut self.stored,
            ItemStatus::Gone => &mut self.gone,
            ItemStatus::Quarantined => &mut self.quarantined,
        }
    }
}

impl DocumentCounts {
    fn read(connection: &Connection, item: ItemRowId) -> Result<Self, LedgerError> {
        let mut counts = Self::default();
        let mut statement = connection.prepare_cached(COUNT_BY_STATUS)?;
        let mut rows = statement.query([item.0])?;
        while let Some(row) = rows.next()? {
            let count = row.get(1)?;
            match row.get(0)? {
                DocumentStatus::Pending => counts.pending = count,
                DocumentStatus::Stored => counts.stored = count,
                DocumentStatus::Gone => counts.gone = count,
                DocumentStatus::Failed => counts.failed = count,
            }
        }
        Ok(counts)
    }

    /// Returns the resulting status of the item; `None` while a document is pending.
    fn item_status(&self) -> Option<ItemStatus> {
        if self.pending > 0 {
            None
        } else if self.failed > 0 {
            Some(ItemStatus::Quarantined)
        } else if self.stored > 0 {
            Some(ItemStatus::Stored)
        } else {
            Some(ItemStatus::Gone)
        }
    }
}

/// Finds the row of an item by its id at the source.
pub(super) fn find_item(connection: &Connection, id: &str) -> rusqlite::Result<Option<ItemRowId>> {
    connection
        .prepare_cached("SELECT no FROM items WHERE id = ?1")?
        .query_row([id], |row| row.get(0).map(ItemRowId))
        .optional()
}
