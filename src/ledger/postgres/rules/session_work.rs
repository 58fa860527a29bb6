//! Open session of a change: moves items between pending, stored, gone and quarantined, and counts.

use std::collections::BTreeSet;

use cynosure_engine::{Cause, Failure, RecheckPolicy, Timestamp};

use crate::ledger::postgres::records::{
    CounterRecord, LoadedRows, ProgressRecord, SessionRecord, WriteSet,
};
use crate::ledger::postgres::rules::column_values::{
    DOCUMENT_FAILED, DOCUMENT_GONE, DOCUMENT_PENDING, DOCUMENT_STORED, ITEM_GONE, ITEM_PENDING,
    ITEM_QUARANTINED, ITEM_STORED, to_integer,
};
use crate::ledger::postgres::rules::workspace::Workspace;

/// Largest sum of expected bytes: 8 PiB. Absurd sizes of a server must not exceed the range of the
/// column.
const EXPECTED_BYTES_MAX: i64 = 1 << 53;

/// Rows of a change in the open session, with what is to be added to its counters.
#[derive(Debug)]
pub(super) struct SessionWork {
    pub(super) session: SessionRecord,
    pub(super) rows: Workspace,
    counters: CounterRecord,
    /// Items that may have no pending document left.
    maybe_settled: BTreeSet<i64>,
}

impl SessionWork {
    /// Takes the rows of the open session.
    ///
    /// # Errors
    /// The reason, if no session is open.
    pub(super) fn open(mut rows: LoadedRows) -> Result<Self, String> {
        let newest = rows.session.take();
        let Some(session) = newest.filter(|session| session.completed.is_none()) else {
            return Err("no session is open".to_owned());
        };
        Ok(Self {
            session,
            rows: Workspace::new(rows),
            counters: CounterRecord::default(),
            maybe_settled: BTreeSet::new(),
        })
    }

    /// Counts one more item of the session.
    pub(super) fn count_listed(&mut self) {
        self.counters.listed += 1;
    }

    /// Counts a document that was fetched and stored, and its bytes.
    pub(super) fn count_fetched(&mut self, bytes: i64) {
        self.counters.documents += 1;
        self.counters.bytes = self.counters.bytes.saturating_add(bytes);
    }

    /// Counts a version of a document that was kept beside a later one.
    pub(super) fn count_superseded(&mut self) {
        self.counters.versions += 1;
    }

    /// Counts a document whose bytes were in the archive already.
    pub(super) fn count_copy(&mut self) {
        self.counters.copies += 1;
    }

    /// Counts a document that was fetched, and whose bytes were in the archive already.
    pub(super) fn count_fetched_copy(&mut self, bytes: i64) {
        self.count_copy();
        self.counters.copied_bytes = self.counters.copied_bytes.saturating_add(bytes);
    }

    /// Counts the size of a document that is to be fetched, if it is known.
    pub(super) fn count_expected(&mut self, size: Option<u64>) {
        let expected = self.counters.expected_bytes.saturating_add(to_integer(size.unwrap_or(0)));
        self.counters.expected_bytes = expected.min(EXPECTED_BYTES_MAX);
    }

    /// Settles an item at the end of the change, if it has no pending document left then.
    pub(super) fn settle_later(&mut self, item: i64) {
        self.maybe_settled.insert(item);
    }

    /// Makes an item pending in this session; returns true if the session did not have it yet. A
    /// pending item stays as it is.
    ///
    /// # Errors
    /// The reason, if the ledger has no such item.
    pub(super) fn reopen(&mut self, item: i64) -> Result<bool, String> {
        let row = self.rows.items.get(item)?;
        let (status, is_new) = (row.status, row.session != self.session.no);
        if status == ITEM_PENDING {
            return Ok(false);
        }
        if is_new {
            self.count_listed();
        } else {
            // This session counted it as settled, which it no longer is.
            *self.counter_mut(status) -= 1;
        }
        let session = self.session.no;
        self.rows.items.change(item, |row| {
            row.status = ITEM_PENDING;
            row.session = session;
            row.attempts = 0;
            row.next_at = 0;
            row.settled_at = None;
        });
        self.rows.details.delete_trial(item);
        Ok(is_new)
    }

    /// Settles the items that have no pending document left.
    ///
    /// # Errors
    /// The reason, if the ledger does not have one of them.
    pub(super) fn settle_items(
        &mut self,
        recheck: RecheckPolicy,
        now: Timestamp,
    ) -> Result<(), String> {
        for item in std::mem::take(&mut self.maybe_settled) {
            if let Some(status) = self.final_status(item) {
                self.set_final_status(item, status, recheck, now)?;
            }
        }
        Ok(())
    }

    /// Quarantines an item until its next recheck, even if some of its documents are still pending.
    ///
    /// # Errors
    /// The reason, if the ledger has no such item.
    pub(super) fn quarantine(
        &mut self,
        item: i64,
        failure: &Failure,
        recheck: RecheckPolicy,
        now: Timestamp,
    ) -> Result<(), String> {
        let next_recheck_at = self.next_recheck_at(item, Some(failure.cause), recheck, now)?;
        if self.rows.items.get(item)?.status != ITEM_PENDING {
            return Ok(());
        }
        self.rows.items.change(item, |row| {
            row.status = ITEM_QUARANTINED;
            row.attempts += 1;
            row.quarantines += 1;
            row.next_at = next_recheck_at.0;
            row.cause = Some(failure.cause.name().to_owned());
            row.message = Some(failure.message.clone());
            row.failed_at = Some(now.0);
            row.settled_at = Some(now.0);
        });
        self.counters.quarantined += 1;
        self.rows.details.store_response(item, failure, now);
        Ok(())
    }

    /// Returns the rows to write, with the progress of the listing if a page was recorded.
    pub(super) fn into_write_set(self, progress: Option<ProgressRecord>) -> WriteSet {
        let Self { session, rows, counters, .. } = self;
        let is_session_changed = progress.is_some() || counters != CounterRecord::default();
        let session = is_session_changed.then_some(session.no);
        WriteSet { session, progress, counters, ..rows.into_write_set() }
    }

    /// Returns the status that results from the documents of an item; `None` while one is pending.
    fn final_status(&self, item: i64) -> Option<u8> {
        let has = |status| self.rows.documents.count(item, status) > 0;
        if has(DOCUMENT_PENDING) {
            None
        } else if has(DOCUMENT_FAILED) {
            Some(ITEM_QUARANTINED)
        } else if has(DOCUMENT_STORED) {
            Some(ITEM_STORED)
        } else {
            Some(ITEM_GONE)
        }
    }

    fn set_final_status(
        &mut self,
        item: i64,
        status: u8,
        recheck: RecheckPolicy,
        now: Timestamp,
    ) -> Result<(), String> {
        if self.rows.items.get(item)?.status != ITEM_PENDING {
            return Ok(());
        }
        if status == ITEM_QUARANTINED {
            let next_recheck_at = self.next_recheck_at(item, None, recheck, now)?;
            self.rows.items.change(item, |row| {
                row.status = ITEM_QUARANTINED;
                row.quarantines += 1;
                row.next_at = next_recheck_at.0;
                row.settled_at = Some(now.0);
            });
        } else {
            let gone = self.rows.documents.count(item, DOCUMENT_GONE);
            let total = self.rows.documents.count(item, DOCUMENT_STORED) + gone;
            let message =
                (gone > 0).then(|| format!("the source no longer has {gone} of {total} documents"));
            self.rows.items.change(item, |row| {
                row.status = status;
                row.quarantines = 0;
                row.next_at = 0;
                row.cause = message.as_ref().map(|_| Cause::NotFound.name().to_owned());
                row.message = message;
                row.settled_at = Some(now.0);
            });
        }
        *self.counter_mut(status) += 1;
        Ok(())
    }

    /// Returns when an item that is quarantined now is rechecked: by `cause`, else by the cause of
    /// its last failure.
    fn next_recheck_at(
        &self,
        item: i64,
        cause: Option<Cause>,
        recheck: RecheckPolicy,
        now: Timestamp,
    ) -> Result<Timestamp, String> {
        let row = self.rows.items.get(item)?;
        let last_cause = || row.cause.as_deref().and_then(Cause::from_name);
        let cause = cause.or_else(last_cause).unwrap_or(Cause::Unknown);
        let quarantines = u32::try_from(row.quarantines).unwrap_or(u32::MAX);
        Ok(recheck.next_recheck_at(cause, quarantines, now))
    }

    fn counter_mut(&mut self, status: u8) -> &mut i64 {
        match status {
            ITEM_PENDING => &mut self.counters.listed,
            ITEM_STORED => &mut self.counters.stored,
            ITEM_GONE => &mut self.counters.gone,
            _ => &mut self.counters.quarantined,
        }
    }
}
