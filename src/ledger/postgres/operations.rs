//! Reads of the ledger in PostgreSQL, each with the action that its failure names.

use std::collections::BTreeSet;

use cynosure_engine::{AccountId, Cursor, DocumentId, Failure, ItemId, Timestamp};

use crate::ledger::postgres::open::PostgresLedger;
use crate::ledger::postgres::{files, reads, reports};
use crate::ledger::{
    ArchiveTotals, CounterCheck, DocumentFacts, DocumentRow, DocumentRowId, DueItem, DueLimits,
    ExportDocument, FailureFilter, FailureRow, FetchedContent, FileRowId, ItemRowId,
    LabeledDocument, LastSession, LedgerIdentity, LedgerReader, LedgerReports, SessionCounts,
    SessionRow, SessionTotals, StoredFile, StoredResponse, TransitionRow,
};

impl LedgerReader for PostgresLedger {
    fn identity(&self) -> Result<LedgerIdentity, Failure> {
        self.answer("read the ledger's identity", reads::identity(&self.database, self.source))
    }

    fn bound_account(&self) -> Result<Option<AccountId>, Failure> {
        self.answer("read the account", reads::bound_account(&self.database, self.source))
    }

    fn cursor(&self) -> Result<Option<Cursor>, Failure> {
        self.answer("read the cursor", reads::cursor(&self.database, self.source))
    }

    fn reconciled_at(&self) -> Result<Option<Timestamp>, Failure> {
        self.answer(
            "read the time of the last full listing",
            reads::reconciled_at(&self.database, self.source),
        )
    }

    fn state_snapshot(&self) -> Result<Option<String>, Failure> {
        self.answer("read the newest state", reads::state_snapshot(&self.database, self.source))
    }

    fn newest_session(&self) -> Result<Option<SessionRow>, Failure> {
        self.answer("read the session", reads::newest_session(&self.database, self.source))
    }

    fn session_counts(&self) -> Result<SessionCounts, Failure> {
        self.answer("read the session", reads::session_counts(&self.database, self.source))
    }

    fn archive_totals(&self) -> Result<ArchiveTotals, Failure> {
        self.answer(
            "count the stored documents",
            reads::archive_totals(&self.database, self.source),
        )
    }

    fn due_items(
        &self,
        now: Timestamp,
        limits: DueLimits,
        skip: &BTreeSet<ItemRowId>,
    ) -> Result<Vec<DueItem>, Failure> {
        self.answer(
            "read the due items",
            reads::due_items(&self.database, self.source, now, limits, skip),
        )
    }

    fn next_due_at(&self, skip: &BTreeSet<ItemRowId>) -> Result<Option<Timestamp>, Failure> {
        self.answer("read the due items", reads::next_due_at(&self.database, self.source, skip))
    }

    fn count_awaiting_retry(&self) -> Result<u64, Failure> {
        self.answer("count the retries", reads::count_awaiting_retry(&self.database, self.source))
    }

    fn next_recheck_at(&self) -> Result<Option<Timestamp>, Failure> {
        self.answer("read the quarantine", reads::next_recheck_at(&self.database, self.source))
    }

    fn known_good_documents(&self, limit: usize) -> Result<Vec<DocumentRow>, Failure> {
        self.answer(
            "read the stored documents",
            reads::known_good_documents(&self.database, self.source, limit),
        )
    }

    fn is_stored_at(
        &self,
        item: &ItemId,
        document: &DocumentId,
        folder: &str,
        file: &str,
    ) -> Result<bool, Failure> {
        self.answer(
            "find a file",
            reads::is_stored_at(&self.database, self.source, item, document, folder, file),
        )
    }

    fn document_facts(&self, fetched: &[FetchedContent]) -> Result<Vec<DocumentFacts>, Failure> {
        self.answer(
            "read the facts of documents",
            reads::document_facts(&self.database, self.source, fetched),
        )
    }
}

impl LedgerReports for PostgresLedger {
    fn last_session(&self) -> Result<Option<LastSession>, Failure> {
        self.answer("read the last session", reports::last_session(&self.database, self.source))
    }

    fn transitions(&self, limit: usize) -> Result<Vec<TransitionRow>, Failure> {
        self.answer("read the history", reports::transitions(&self.database, self.source, limit))
    }

    fn failures(&self, filter: FailureFilter, limit: usize) -> Result<Vec<FailureRow>, Failure> {
        self.answer(
            "read the failures",
            reports::failures(&self.database, self.source, filter, limit),
        )
    }

    fn item_report(&self, item: &ItemId) -> Result<Option<FailureRow>, Failure> {
        self.answer("read the failure", reports::item_report(&self.database, self.source, item))
    }

    fn labeled_documents(
        &self,
        item: &ItemId,
        limit: usize,
    ) -> Result<Vec<LabeledDocument>, Failure> {
        self.answer(
            "read the labels",
            reports::labeled_documents(&self.database, self.source, item, limit),
        )
    }

    fn session_response(&self) -> Result<Option<StoredResponse>, Failure> {
        self.answer(
            "read the last response",
            reports::session_response(&self.database, self.source),
        )
    }

    fn session_totals_since(&self, since: Timestamp) -> Result<Vec<SessionTotals>, Failure> {
        self.answer(
            "read the sessions",
            reports::session_totals_since(&self.database, self.source, since),
        )
    }

    fn session_folders(&self) -> Result<Vec<String>, Failure> {
        self.answer(
            "read the session folders",
            reports::session_folders(&self.database, self.source),
        )
    }

    fn lists_contents(&self) -> Result<bool, Failure> {
        self.answer(
            "read how documents are listed",
            reports::lists_contents(&self.database, self.source),
        )
    }

    fn newest_document(&self) -> Result<Option<DocumentRowId>, Failure> {
        self.answer("find the newest document", files::newest_document(&self.database, self.source))
    }

    fn documents_to_export(
        &self,
        after: Option<DocumentRowId>,
        newest: Option<DocumentRowId>,
        limit: usize,
    ) -> Result<Vec<ExportDocument>, Failure> {
        self.answer(
            "read the stored documents",
            files::documents_to_export(&self.database, self.source, after, newest, limit),
        )
    }

    fn has_files_with_extension(&self, extension: &str) -> Result<bool, Failure> {
        self.answer(
            "find a document",
            files::has_files_with_extension(
                &self.database.for_long_statements(),
                self.source,
                extension,
            ),
        )
    }

    fn stored_file(
        &self,
        item: &ItemId,
        document: &DocumentId,
    ) -> Result<Option<StoredFile>, Failure> {
        self.answer(
            "find a document",
            files::stored_file(&self.database, self.source, item, document),
        )
    }

    fn stored_files(
        &self,
        after: Option<FileRowId>,
        limit: usize,
    ) -> Result<Vec<StoredFile>, Failure> {
        self.answer(
            "read the stored documents",
            files::stored_files(&self.database, self.source, after, limit),
        )
    }

    fn count_stored_items(&self) -> Result<u64, Failure> {
        self.answer(
            "count the items",
            files::count_stored_items(&self.database.for_long_statements(), self.source),
        )
    }

    fn check_counters(&self) -> Result<CounterCheck, Failure> {
        self.answer(
            "count the items",
            reports::check_counters(&self.database.for_long_statements(), self.source),
        )
    }

    fn check_integrity(&self) -> Result<Vec<String>, Failure> {
        self.answer(
            "check the ledger",
            reports::check_integrity(&self.database.for_long_statements(), self.source),
        )
    }
}
