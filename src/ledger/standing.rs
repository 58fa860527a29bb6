//! Moves items between pending, stored, gone and quarantined, and the counters with them.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, params};

use crate::engine::{Cause, Failure, RecheckPolicy, Timestamp};
use crate::ledger::failure::Trouble;
use crate::ledger::replies::{self, Whose};
use crate::ledger::rows::{DocumentStatus, ItemNo, ItemStatus, Session};
use crate::ledger::trials;

/// How many of an item's documents stand where. The parameter is an expression: SQLite plans by
/// the value of a bare one beside a GROUP BY, and would plan anew for every item.
pub(super) const STANDING: &str =
    "SELECT status, count(*) FROM documents WHERE item = +?1 GROUP BY status";

/// The open session in a transaction, with what is to be added to its counters at the end.
#[derive(Debug)]
pub(super) struct Counting<'a> {
    connection: &'a Connection,
    pub(super) session: Session,
    change: Change,
}

#[derive(Debug, Default)]
struct Change {
    listed: i64,
    stored: i64,
    gone: i64,
    quarantined: i64,
    documents: i64,
    bytes: i64,
    versions: i64,
    copies: i64,
}

/// How many of an item's documents stand where.
#[derive(Debug, Default)]
struct Standing {
    wanted: u32,
    stored: u32,
    gone: u32,
    refused: u32,
}

impl<'a> Counting<'a> {
    /// Starts to count for the open session.
    pub(super) fn start(connection: &'a Connection) -> Result<Self, Trouble> {
        match Session::open(connection)? {
            Some(session) => Ok(Self { connection, session, change: Change::default() }),
            None => Err(Trouble::Unfit("no session is open".to_owned())),
        }
    }

    /// Notes that the session has taken on one more item.
    pub(super) fn took_on(&mut self) {
        self.change.listed += 1;
    }

    /// Notes one more item of the session that is gone.
    pub(super) fn missed(&mut self) {
        self.change.listed += 1;
        self.change.gone += 1;
    }

    /// Notes that a document was fetched and stored.
    pub(super) fn fetched(&mut self, bytes: i64) {
        self.change.documents += 1;
        self.change.bytes += bytes;
    }

    /// Notes that a version of a document was kept beside a later one.
    pub(super) fn superseded(&mut self) {
        self.change.versions += 1;
    }

    /// Notes that the bytes of a document were in the archive already.
    pub(super) fn copied(&mut self) {
        self.change.copies += 1;
    }

    /// Makes an item pending in this session, and says whether the session did not have it
    /// yet. One that is pending stays as it is.
    pub(super) fn reopen(&mut self, item: ItemNo) -> Result<bool, Trouble> {
        let (session, status) = self
            .connection
            .prepare_cached("SELECT session, status FROM items WHERE no = ?1")?
            .query_row([item.0], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)))?;
        if status == ItemStatus::Pending {
            return Ok(false);
        }
        let is_new = session != self.session.no;
        if is_new {
            self.took_on();
        } else {
            // It was counted as settled in this very session, and is not any more.
            *self.change.of(status) -= 1;
        }
        self.connection.execute(
            "UPDATE items SET status = 0, session = ?2, attempts = 0, next_at = 0, settled_at = NULL
             WHERE no = ?1",
            [item.0, self.session.no],
        )?;
        trials::forget(self.connection, item)?;
        Ok(is_new)
    }

    /// Settles those of `items` none of whose documents is wanted any more.
    pub(super) fn settle(
        &mut self,
        items: BTreeSet<ItemNo>,
        recheck: RecheckPolicy,
        now: Timestamp,
    ) -> Result<(), Trouble> {
        for item in items {
            let standing = Standing::of(self.connection, item)?;
            if let Some(status) = standing.verdict() {
                self.put(item, status, &standing, recheck, now)?;
            }
        }
        Ok(())
    }

    fn put(
        &mut self,
        item: ItemNo,
        status: ItemStatus,
        standing: &Standing,
        recheck: RecheckPolicy,
        now: Timestamp,
    ) -> Result<(), Trouble> {
        let all = standing.stored + standing.gone;
        let note = (standing.gone > 0)
            .then(|| format!("the source no longer has {} of {all} documents", standing.gone));
        let changed = match status {
            ItemStatus::Quarantined => {
                let next_look = self.next_look(item, None, recheck, now)?;
                self.connection.execute(
                    "UPDATE items SET status = 3, quarantines = quarantines + 1, next_at = ?2,
                            settled_at = ?3
                     WHERE no = ?1 AND status = 0",
                    [item.0, next_look.0, now.0],
                )?
            }
            ItemStatus::Pending | ItemStatus::Stored | ItemStatus::Gone => {
                let mut statement = self.connection.prepare_cached(
                    "UPDATE items SET status = ?2, quarantines = 0, next_at = 0, cause = ?3,
                            message = ?4, settled_at = ?5
                     WHERE no = ?1 AND status = 0",
                )?;
                let cause = note.as_ref().map(|_| Cause::NotFound.name());
                statement.execute(params![item.0, status, cause, note, now.0])?
            }
        };
        if changed > 0 {
            *self.change.of(status) += 1;
        }
        Ok(())
    }

    /// Gives up an item until its next look, whatever of it is still wanted.
    pub(super) fn quarantine(
        &mut self,
        item: ItemNo,
        failure: &Failure,
        recheck: RecheckPolicy,
        now: Timestamp,
    ) -> Result<(), Trouble> {
        let next_look = self.next_look(item, Some(failure.cause), recheck, now)?;
        let changed = self.connection.execute(
            "UPDATE items SET status = 3, attempts = attempts + 1, quarantines = quarantines + 1,
                    next_at = ?2, cause = ?3, message = ?4, failed_at = ?5, settled_at = ?5
             WHERE no = ?1 AND status = 0",
            params![item.0, next_look.0, failure.cause.name(), failure.message, now.0],
        )?;
        if changed > 0 {
            self.change.quarantined += 1;
            replies::record(self.connection, Whose::Item(item), failure, now)?;
        }
        Ok(())
    }

    /// When an item is looked at again that is quarantined now: for `cause`, else for that of
    /// its last failure.
    fn next_look(
        &self,
        item: ItemNo,
        cause: Option<Cause>,
        recheck: RecheckPolicy,
        now: Timestamp,
    ) -> Result<Timestamp, Trouble> {
        let sql = "SELECT quarantines, cause FROM items WHERE no = ?1";
        let (times, last) = self
            .connection
            .prepare_cached(sql)?
            .query_row([item.0], |row| Ok((row.get(0)?, row.get::<_, Option<String>>(1)?)))?;
        let last = || last.as_deref().and_then(Cause::from_name);
        let cause = cause.or_else(last).unwrap_or(Cause::Unknown);
        Ok(recheck.next_recheck_at(cause, times, now))
    }

    /// Writes the counters down.
    pub(super) fn finish(self) -> Result<(), Trouble> {
        let Change { listed, stored, gone, quarantined, documents, bytes, versions, copies } =
            self.change;
        self.connection.execute(
            "UPDATE sessions SET listed = listed + ?2, stored = stored + ?3, gone = gone + ?4,
                    quarantined = quarantined + ?5, documents = documents + ?6, bytes = bytes + ?7,
                    versions = versions + ?8, copies = copies + ?9
             WHERE no = ?1",
            [
                self.session.no,
                listed,
                stored,
                gone,
                quarantined,
                documents,
                bytes,
                versions,
                copies,
            ],
        )?;
        Ok(())
    }
}

impl Change {
    fn of(&mut self, status: ItemStatus) -> &mut i64 {
        match status {
            ItemStatus::Pending => &mut self.listed,
            ItemStatus::Stored => &mut self.stored,
            ItemStatus::Gone => &mut self.gone,
            ItemStatus::Quarantined => &mut self.quarantined,
        }
    }
}

impl Standing {
    fn of(connection: &Connection, item: ItemNo) -> Result<Self, Trouble> {
        let mut standing = Self::default();
        let mut counts = connection.prepare_cached(STANDING)?;
        let mut rows = counts.query([item.0])?;
        while let Some(row) = rows.next()? {
            let count = row.get(1)?;
            match row.get(0)? {
                DocumentStatus::Wanted => standing.wanted = count,
                DocumentStatus::Stored => standing.stored = count,
                DocumentStatus::Gone => standing.gone = count,
                DocumentStatus::Refused => standing.refused = count,
            }
        }
        Ok(standing)
    }

    /// What follows for the item; `None` while there is something to fetch.
    fn verdict(&self) -> Option<ItemStatus> {
        if self.wanted > 0 {
            None
        } else if self.refused > 0 {
            Some(ItemStatus::Quarantined)
        } else if self.stored > 0 {
            Some(ItemStatus::Stored)
        } else {
            Some(ItemStatus::Gone)
        }
    }
}

/// Reads where an item is, by its true id.
pub(super) fn find_item(connection: &Connection, id: &str) -> rusqlite::Result<Option<ItemNo>> {
    connection
        .prepare_cached("SELECT no FROM items WHERE id = ?1")?
        .query_row([id], |row| row.get(0).map(ItemNo))
        .optional()
}
