//! Operations of the ledger, each with the action that its failure names.

use std::collections::BTreeSet;

use cynosure_engine::{
    AccountId, ClockStep, Cursor, DocumentId, Failure, ItemId, LedgerId, ListedDocument, NextPage,
    RecheckPolicy, SessionId, Timestamp, VanishedMessages,
};

use crate::ledger::sqlite::responses::ResponseOwner;
use crate::ledger::sqlite::schema::APPLICATION_ID;
use crate::ledger::sqlite::{
    account, adopt, clock_step, commit, document_facts, due_items, export, failures, history,
    identity, labels, listed_contents, listing, missing, responses, session, totals, verify,
};
use crate::ledger::{
    AdoptedDocument, AdoptionCounts, ArchiveTotals, CounterCheck, DocumentFacts, DocumentRow,
    DocumentRowId, DueItem, DueLimits, ExportDocument, FailureFilter, FailureRow, FetchedContent,
    FileRowId, ItemRowId, LabeledDocument, LastSession, Ledger, LedgerIdentity, LedgerReader,
    LedgerReports, LedgerUpdate, NewSession, PageCounts, RequeueFilter, SessionCounts, SessionRow,
    SessionTotals, SqliteLedger, StoredFile, StoredResponse, TransitionRow,
};

impl LedgerReader for SqliteLedger {
    fn identity(&self) -> Result<LedgerIdentity, Failure> {
        self.read("read the ledger's identity", identity::identity)
    }

    fn bound_account(&self) -> Result<Option<AccountId>, Failure> {
        self.read("read the account", account::bound_account)
    }

    fn cursor(&self) -> Result<Option<Cursor>, Failure> {
        self.read("read the cursor", session::cursor)
    }

    fn reconciled_at(&self) -> Result<Option<Timestamp>, Failure> {
        self.read("read the time of the last full listing", account::reconciled_at)
    }

    fn state_snapshot(&self) -> Result<Option<String>, Failure> {
        self.read("read the newest state", history::state_snapshot)
    }

    fn newest_session(&self) -> Result<Option<SessionRow>, Failure> {
        self.read("read the session", session::newest_session)
    }

    fn session_counts(&self) -> Result<SessionCounts, Failure> {
        self.read("read the session", session::visible_counts)
    }

    fn archive_totals(&self) -> Result<ArchiveTotals, Failure> {
        self.read("count the stored documents", totals::archive_totals)
    }

    fn due_items(
        &self,
        now: Timestamp,
        limits: DueLimits,
        skip: &BTreeSet<ItemRowId>,
    ) -> Result<Vec<DueItem>, Failure> {
        self.read("read the due items", |connection| {
            due_items::due_items(connection, now, limits, skip)
        })
    }

    fn next_due_at(&self, skip: &BTreeSet<ItemRowId>) -> Result<Option<Timestamp>, Failure> {
        self.read("read the due items", |connection| due_items::next_due_at(connection, skip))
    }

    fn count_awaiting_retry(&self) -> Result<u64, Failure> {
        self.read("count the retries", due_items::count_awaiting_retry)
    }

    fn next_recheck_at(&self) -> Result<Option<Timestamp>, Failure> {
        self.read("read the quarantine", failures::next_recheck_at)
    }

    fn known_good_documents(&self, limit: usize) -> Result<Vec<DocumentRow>, Failure> {
        self.read("read the stored documents", |connection| {
            due_items::known_good_documents(connection, limit)
        })
    }

    fn is_stored_at(
        &self,
        item: &ItemId,
        document: &DocumentId,
        folder: &str,
        file: &str,
    ) -> Result<bool, Failure> {
        self.read("find a file", |connection| {
            verify::is_stored_at(connection, item, document, folder, file)
        })
    }

    fn document_facts(&self, fetched: &[FetchedContent]) -> Result<Vec<DocumentFacts>, Failure> {
        self.read("read the facts of documents", |connection| {
            document_facts::document_facts(connection, fetched)
        })
    }
}

impl LedgerReports for SqliteLedger {
    fn last_session(&self) -> Result<Option<LastSession>, Failure> {
        self.read("read the last session", totals::last_session)
    }

    fn transitions(&self, limit: usize) -> Result<Vec<TransitionRow>, Failure> {
        self.read("read the history", |connection| history::transitions(connection, limit))
    }

    fn failures(&self, filter: FailureFilter, limit: usize) -> Result<Vec<FailureRow>, Failure> {
        self.read("read the failures", |connection| failures::failures(connection, filter, limit))
    }

    fn item_report(&self, item: &ItemId) -> Result<Option<FailureRow>, Failure> {
        self.read("read the failure", |connection| failures::item_report(connection, item))
    }

    fn labeled_documents(
        &self,
        item: &ItemId,
        limit: usize,
    ) -> Result<Vec<LabeledDocument>, Failure> {
        self.read("read the labels", |connection| {
            labels::labeled_documents(connection, item, limit)
        })
    }

    fn session_response(&self) -> Result<Option<StoredResponse>, Failure> {
        self.read("read the last response", responses::session_response)
    }

    fn session_totals_since(&self, since: Timestamp) -> Result<Vec<SessionTotals>, Failure> {
        self.read("read the sessions", |connection| totals::session_totals_since(connection, since))
    }

    fn session_folders(&self) -> Result<Vec<String>, Failure> {
        self.read("read the session folders", identity::session_folders)
    }

    fn lists_contents(&self) -> Result<bool, Failure> {
        self.read("read how documents are listed", listed_contents::lists_contents)
    }

    fn newest_document(&self) -> Result<Option<DocumentRowId>, Failure> {
        self.read("find the newest document", export::newest_document)
    }

    fn documents_to_export(
        &self,
        after: Option<DocumentRowId>,
        newest: Option<DocumentRowId>,
        limit: usize,
    ) -> Result<Vec<ExportDocument>, Failure> {
        self.read("read the stored documents", |connection| {
            export::documents_to_export(connection, after, newest, limit)
        })
    }

    fn has_files_with_extension(&self, extension: &str) -> Result<bool, Failure> {
        self.read("find a document", |connection| {
            export::has_files_with_extension(connection, extension)
        })
    }

    fn stored_file(
        &self,
        item: &ItemId,
        document: &DocumentId,
    ) -> Result<Option<StoredFile>, Failure> {
        self.read("find a document", |connection| verify::stored_file(connection, item, document))
    }

    fn stored_files(
        &self,
        after: Option<FileRowId>,
        limit: usize,
    ) -> Result<Vec<StoredFile>, Failure> {
        self.read("read the stored documents", |connection| {
            verify::stored_files(connection, after, limit)
        })
    }

    fn count_stored_items(&self) -> Result<u64, Failure> {
        self.read("count the items", verify::count_stored_items)
    }

    fn check_counters(&self) -> Result<CounterCheck, Failure> {
        self.read("count the items", verify::check_counters)
    }

    fn check_integrity(&self) -> Result<Vec<String>, Failure> {
        self.read("check the ledger", verify::check_integrity)
    }
}

impl Ledger for SqliteLedger {
    fn init_id(&mut self, id: &LedgerId) -> Result<(), Failure> {
        self.write("write the ledger's id", |connection| identity::init_id(connection, id))
    }

    fn bind_account(&mut self, account: &AccountId) -> Result<AccountId, Failure> {
        self.write("record the account", |connection| account::bind_account(connection, account))
    }

    fn init_reconciled_at(&mut self, now: Timestamp) -> Result<(), Failure> {
        self.write("record the time of the last full listing", |connection| {
            account::init_reconciled_at(connection, now)
        })
    }

    fn begin_session(&mut self, new_session: &NewSession) -> Result<(), Failure> {
        self.write("begin a session", |connection| session::begin_session(connection, new_session))
    }

    fn restart_listing(&mut self, start_cursor: Option<&Cursor>) -> Result<(), Failure> {
        self.write("restart the listing", |connection| {
            session::restart_listing(connection, start_cursor)
        })
    }

    fn reset_page_token(&mut self) -> Result<(), Failure> {
        self.write("reset the listing to its first page", session::reset_page_token)
    }

    fn start_changes_listing(&mut self, now: Timestamp) -> Result<(), Failure> {
        self.write("start the listing of changes", |connection| {
            session::start_changes_listing(connection, now)
        })
    }

    fn set_session_folder(&mut self, folder: &str) -> Result<(), Failure> {
        self.write("record the session's folder", |connection| {
            session::set_session_folder(connection, folder)
        })
    }

    fn record_page(
        &mut self,
        entries: &[ListedDocument],
        vanished: &[VanishedMessages],
        next: &NextPage,
        now: Timestamp,
    ) -> Result<PageCounts, Failure> {
        self.write("record a page", |connection| {
            listing::record_page(connection, entries, vanished, next, now)
        })
    }

    fn record_missing(&mut self, missing: &[DocumentId], now: Timestamp) -> Result<(), Failure> {
        if missing.is_empty() {
            return Ok(());
        }
        self.write("record the missing documents", |connection| {
            missing::record_missing(connection, missing, now)
        })
    }

    fn commit(
        &mut self,
        updates: &[LedgerUpdate],
        recheck: RecheckPolicy,
        now: Timestamp,
    ) -> Result<(), Failure> {
        self.write("record the fetched documents", |connection| {
            commit::commit(connection, updates, recheck, now)
        })
    }

    fn complete_session(
        &mut self,
        id: &SessionId,
        now: Timestamp,
    ) -> Result<SessionCounts, Failure> {
        self.write("complete the session", |connection| {
            session::complete_session(connection, id, now)
        })
    }

    fn record_transition(
        &mut self,
        transition: &TransitionRow,
        snapshot: &str,
    ) -> Result<(), Failure> {
        self.write("record a transition", |connection| {
            history::record_transition(connection, transition, snapshot)
        })
    }

    fn record_session_response(
        &mut self,
        failure: &Failure,
        now: Timestamp,
    ) -> Result<(), Failure> {
        if failure.response.is_none() {
            return Ok(());
        }
        self.write("store a response", |connection| {
            responses::store_response(connection, ResponseOwner::Session, failure, now)
        })
    }

    fn shift_deadlines(&mut self, step: ClockStep) -> Result<(), Failure> {
        self.write("shift the deadlines", |connection| {
            clock_step::shift_deadlines(connection, step)
        })
    }

    /// A commit whose sync failed is rolled back, but its pages may be in the write-ahead log, where
    /// the next process would take them for a commit. The next commit overwrites them.
    fn overwrite_failed_commit(&mut self) -> Result<(), Failure> {
        self.write("overwrite a failed commit", |connection| {
            // Unlike a row, a number of the header is written even if it stays the same.
            connection.pragma_update(None, "application_id", APPLICATION_ID)?;
            Ok(())
        })
    }

    fn requeue(&mut self, filter: &RequeueFilter, now: Timestamp) -> Result<usize, Failure> {
        self.write("requeue items", |connection| failures::requeue(connection, filter, now))
    }

    fn requeue_damaged(
        &mut self,
        document: DocumentRowId,
        reason: &str,
        now: Timestamp,
    ) -> Result<bool, Failure> {
        self.write("requeue a document", |connection| {
            failures::requeue_damaged(connection, document, reason, now)
        })
    }

    fn adopt_folder(
        &mut self,
        folder: &str,
        started: Timestamp,
        documents: &[AdoptedDocument],
    ) -> Result<AdoptionCounts, Failure> {
        self.write("adopt a folder", |connection| {
            adopt::adopt_folder(connection, folder, started, documents)
        })
    }

    fn rebuild_session_counts(&mut self) -> Result<(), Failure> {
        self.write("count the adopted documents", adopt::rebuild_session_counts)
    }
}
