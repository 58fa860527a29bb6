//! Persistent store of a source: ledger, archive and state file, updated in the right order.
//!
//! All functions block, and run on blocking threads.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cynosure_engine::metrics::SourceMetrics;
use cynosure_engine::{
    AccountId, ClockStep, Cursor, Failure, LedgerId, PageToken, SessionId, StateMachine, Status,
    Timestamp,
};

use crate::archive::Archive;
use crate::disk::{
    Disk, FileLock, LockFileError, RealDisk, RetryingDisk, ensure_folder, storage_failure,
};
use crate::ledger::{
    ArchiveTotals, DocumentRow, DueItem, Ledger, SessionCounts, SessionKind, SqliteLedger,
    TransitionRow,
};
use crate::retry::RetryPolicy;
use crate::source::{DocumentRef, Listing};
use crate::state::{
    self, ExecutionState, LEDGER_FILE, LOCK_FILE, METRICS_FILE, STATE_FILE, StateFile,
};
use crate::worker::archive_binding::{self, ArchiveConfig};
use crate::worker::contents_in_flight::ContentsInFlight;
use crate::worker::downloads::RefillRequest;
use crate::worker::load::{load_metrics, load_state};
use crate::worker::reconcile::reconcile;
use crate::worker::start_error::StartError;
use crate::worker::state_mapping::{self, SessionProgress, SourceInfo};

mod batches;
mod listing;

/// Requirements of the machine for a listing, beside the state of the ledger.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListingNeeds {
    /// Everything is to be listed, since the cursor was lost.
    pub should_relist: bool,
    /// Changes are to be listed too, once everything is listed.
    pub should_list_changes: bool,
}

/// State of a session's listing.
#[derive(Debug)]
pub(super) enum ListingState {
    NotStarted { kind: SessionKind, listing: Listing },
    Open { listing: Listing, page_token: Option<PageToken> },
    Complete { counts: SessionCounts },
}

/// Result of recording a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordedPage {
    pub counts: SessionCounts,
    pub total: Option<u64>,
    pub is_listing_complete: bool,
    /// Counts of a reconcile, once its listing is complete.
    pub reconciled: Option<SessionCounts>,
}

#[derive(Debug)]
pub(super) struct DueItems {
    pub items: Vec<DueItem>,
    /// Time at which the next item is due.
    pub next_due_at: Option<Timestamp>,
    pub waiting_items: u64,
}

/// Opened store, with the state that it has loaded.
#[derive(Debug)]
pub struct OpenedStore {
    pub store: Store,
    pub machine: StateMachine,
    pub counts: SessionCounts,
    /// Account that the ledger belongs to; `None` until it has one.
    pub account: Option<AccountId>,
    /// Time at which the newest successful request for an item was sent.
    pub last_success_at: Option<Timestamp>,
    /// No listing of the source was ever completed.
    pub is_new: bool,
    /// Metrics counted so far.
    pub metrics: Box<SourceMetrics>,
    /// Findings while opening, for the operator.
    pub warnings: Vec<String>,
}

/// Removes this process's pid from a source's state file, since no worker runs now. If another
/// worker holds the lock already, its pid is kept.
pub(super) fn clear_pid(dir: &Path) -> Result<(), Failure> {
    let (disk, file) = (RealDisk, dir.join(STATE_FILE));
    let StateFile::Read(state) = state::read_state_file(&disk, &file)? else { return Ok(()) };
    if state.pid != Some(std::process::id()) {
        return Ok(());
    }
    match FileLock::acquire(&dir.join(LOCK_FILE)) {
        Ok(_lock) => state::save_state_file(&disk, &file, &ExecutionState { pid: None, ..*state }),
        Err(LockFileError::Held { .. }) => Ok(()),
        Err(LockFileError::Storage(failure)) => Err(failure),
    }
}

/// Returns the machine after a backward step of the clock of which only the lower bound is known. A
/// wait lasts at least as long as it had left when the state was written.
fn shifted_by_at_least(machine: StateMachine, step: ClockStep) -> StateMachine {
    let mut machine = machine.shifted_by(step);
    // Shifted by too little, it would promise too much.
    machine.sync.forget_completeness();
    machine
}

/// Store of one source, used by its only worker.
#[derive(Debug)]
pub struct Store {
    disk: Arc<dyn Disk>,
    ledger: Box<dyn Ledger>,
    archive: Arc<dyn Archive>,
    state_file: PathBuf,
    metrics_file: PathBuf,
    source_info: SourceInfo,
    /// Interval at which everything is listed again; `None` for never.
    reconcile_interval: Option<Duration>,
    contents_in_flight: ContentsInFlight,
    pid: Option<u32>,
    _locks: Option<[FileLock; 2]>,
}

impl Store {
    /// Opens the store of a source under its locks, and reconciles what a crash left. Calls to disk
    /// and ledger are retried by `retry` where that can help and does no harm. A ledger without an
    /// id gets `new_id`.
    ///
    /// # Errors
    /// [`StartError`]; no data is lost.
    pub fn open(
        dir: &Path,
        archive: &ArchiveConfig,
        source_info: SourceInfo,
        retry: &RetryPolicy,
        new_id: &LedgerId,
        now: Timestamp,
    ) -> Result<OpenedStore, StartError> {
        let disk: Arc<dyn Disk> = Arc::new(RetryingDisk::new(Arc::new(RealDisk), retry.clone()));
        ensure_folder(&*disk, dir).map_err(|error| {
            StartError::Failed(storage_failure("create the folder", dir, &error))
        })?;
        let lock = FileLock::acquire(&dir.join(LOCK_FILE))?;
        let ledger = SqliteLedger::open(&dir.join(LEDGER_FILE))?.with_retry(retry.clone());
        let archive_lock =
            archive_binding::lock_archive(&disk, &archive.dir, &source_info.source, &ledger)?;
        let mut opened =
            Self::open_with(disk, Box::new(ledger), dir, archive, source_info, new_id, now)?;
        opened.store._locks = Some([lock, archive_lock]);
        opened.store.pid = Some(std::process::id());
        Ok(opened)
    }

    /// Opens a store on a given disk and ledger.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn open_with(
        disk: Arc<dyn Disk>,
        mut ledger: Box<dyn Ledger>,
        dir: &Path,
        archive: &ArchiveConfig,
        source_info: SourceInfo,
        new_id: &LedgerId,
        now: Timestamp,
    ) -> Result<OpenedStore, StartError> {
        let mut warnings = Vec::new();
        let (archive, recovered) = archive_binding::open_archive(
            &disk,
            archive,
            &source_info.source,
            &mut *ledger,
            new_id,
        )?;
        if recovered.removed_documents > 0 {
            warnings.push(format!(
                "{} documents were not yet in the ledger; they are fetched again",
                recovered.removed_documents
            ));
        }
        let state_file = dir.join(STATE_FILE);
        let state = load_state(&*disk, &state_file, &*ledger, &mut warnings)?;
        let last_success_at = state.as_ref().and_then(|state| state.last_success);
        let written_at = state.as_ref().map_or(now, |state| state.last_updated);
        let saved_documents = state.as_ref().and_then(|state| state.archive_documents);
        let mut saved = state
            .map_or_else(|| StateMachine::new(now), |state| state_mapping::to_machine(&state, now));
        if let Some(step) = ClockStep::inferred_backward(written_at, now) {
            warnings.push(format!("the clock was set {step} or more; waits are shifted by that"));
            saved = shifted_by_at_least(saved, step);
            ledger.shift_deadlines(step)?;
        }
        let mut machine = reconcile(saved.clone(), ledger.newest_session()?.as_ref(), now);
        if machine != saved {
            warnings.push("the state did not agree with the ledger; using the ledger".to_owned());
        }
        let (counts, account) = (ledger.session_counts()?, ledger.bound_account()?);
        let is_new = ledger.cursor()?.is_none();
        if saved_documents > Some(ledger.archive_totals()?.documents) {
            // The ledger was restored from a backup that is older than the state.
            machine.sync.forget_completeness();
        } else if is_new {
            // Nothing is listed, as after the ledger was rebuilt from the archive.
            machine.sync.complete_until = None;
        }
        let archive: Arc<dyn Archive> = Arc::new(archive);
        let metrics_file = dir.join(METRICS_FILE);
        let metrics = load_metrics(&*disk, &metrics_file, now, &mut warnings);
        let (pid, locks) = (None, None);
        let store = Self {
            disk,
            ledger,
            archive,
            state_file,
            metrics_file,
            source_info,
            reconcile_interval: None,
            contents_in_flight: ContentsInFlight::default(),
            pid,
            _locks: locks,
        };
        Ok(OpenedStore {
            store,
            machine,
            counts,
            account,
            last_success_at,
            is_new,
            metrics,
            warnings,
        })
    }

    /// Returns the documents and bytes in the archive. Reads the row of each session.
    pub(super) fn archive_totals(&self) -> Result<ArchiveTotals, Failure> {
        self.ledger.archive_totals()
    }

    /// Returns the archive, which accepts documents and batches without a lock on the store.
    pub(super) fn archive(&self) -> Arc<dyn Archive> {
        Arc::clone(&self.archive)
    }

    /// Saves the machine to the state file. If it left `previous_status`, even for the same status
    /// in another run, the transition is recorded in the ledger too.
    pub(super) fn save(
        &mut self,
        previous_status: Option<Status>,
        machine: &StateMachine,
        until: Option<Timestamp>,
        progress: &SessionProgress,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let state = state_mapping::to_execution_state(
            machine,
            until,
            progress,
            &self.source_info,
            self.pid,
            now,
        );
        if let Some(previous_status) = previous_status {
            let transition = TransitionRow {
                at: now,
                from: previous_status.name().to_owned(),
                to: machine.status().name().to_owned(),
                reason: machine.reason.clone(),
                session: machine.session.as_ref().map(|session| session.id.clone()),
            };
            self.ledger.record_transition(&transition, &state.to_json())?;
        }
        state::save_state_file(&*self.disk, &self.state_file, &state)
    }

    /// Saves the metrics, which other processes read.
    pub(super) fn save_metrics(
        &self,
        metrics: &SourceMetrics,
        now: Timestamp,
    ) -> Result<(), Failure> {
        state::save_metrics(&*self.disk, &self.metrics_file, metrics, now)
    }

    /// Stores the response of the server to a failed request of the listing or the session.
    pub(super) fn save_error_response(
        &mut self,
        failure: &Failure,
        now: Timestamp,
    ) -> Result<(), Failure> {
        self.ledger.record_session_response(failure, now)
    }

    /// Returns what is known without a request: true if rechecks of quarantined items are due, and
    /// the cursor from which changes are polled.
    pub(super) fn local_changes(&self, now: Timestamp) -> Result<(bool, Option<Cursor>), Failure> {
        Ok((self.ledger.has_due_rechecks(now)?, self.ledger.cursor()?))
    }

    /// Sets the interval at which everything is listed again.
    pub fn set_reconcile_interval(&mut self, interval: Duration) {
        self.reconcile_interval = Some(interval);
    }

    /// Returns true if everything is to be listed again: the last listing is longer ago than the
    /// interval, and no session is open.
    pub(super) fn is_reconcile_due(&mut self, now: Timestamp) -> Result<bool, Failure> {
        let Some(interval) = self.reconcile_interval else { return Ok(false) };
        if self.ledger.cursor()?.is_none() || self.ledger.open_session()?.is_some() {
            return Ok(false);
        }
        match self.ledger.reconciled_at()? {
            Some(last) => Ok(last.after(interval) <= now),
            None => self.ledger.init_reconciled_at(now).map(|()| false),
        }
    }

    /// Checks that the ledger belongs to this account. A ledger that has none is given it.
    pub(super) fn check_account(&mut self, account: &AccountId) -> Result<(), Failure> {
        let bound = self.ledger.bound_account()?;
        let bound = bound.map_or_else(|| self.ledger.bind_account(account), Ok)?;
        if bound == *account {
            return Ok(());
        }
        Err(Failure::account_changed(&self.source_info.source, &bound, account))
    }

    pub(super) fn due_items(
        &self,
        request: RefillRequest,
        now: Timestamp,
    ) -> Result<DueItems, Failure> {
        let items = self.ledger.due_items(now, request.limits, &request.skip)?;
        let mut skip = request.skip;
        skip.extend(items.iter().map(|item| item.row_id));
        let next_due_at = self.ledger.next_due_at(&skip)?;
        Ok(DueItems { items, next_due_at, waiting_items: self.ledger.count_awaiting_retry()? })
    }

    /// Returns documents that the provider has served before, up to `limit`.
    pub(super) fn known_good_documents(&self, limit: usize) -> Result<Vec<DocumentRef>, Failure> {
        let known = self.ledger.known_good_documents(limit)?;
        let to_ref = |DocumentRow { id, blob, size, locations, .. }: DocumentRow| {
            DocumentRef::new(id, blob, size).with_locations(locations)
        };
        Ok(known.into_iter().map(to_ref).collect())
    }

    /// Shifts all deadlines in the ledger by a clock step.
    pub(super) fn shift_by(&mut self, step: ClockStep) -> Result<(), Failure> {
        self.ledger.shift_deadlines(step)
    }

    pub(super) fn finish_session(
        &mut self,
        id: &SessionId,
        now: Timestamp,
    ) -> Result<SessionCounts, Failure> {
        self.ledger.complete_session(id, now)
    }
}

#[cfg(test)]
mod completeness_tests;
#[cfg(test)]
mod line_tests;
#[cfg(test)]
mod tests;
