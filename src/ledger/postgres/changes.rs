//! Changes of the ledger in PostgreSQL.

use cynosure_engine::{
    AccountId, Cause, ClockStep, Cursor, DocumentId, Failure, LedgerId, ListedDocument, NextPage,
    RecheckPolicy, SessionId, Timestamp, VanishedMessages,
};
use tokio_postgres::types::FromSql;

use crate::database::{DatabaseError, Parameter, Row};
use crate::ledger::limits::{LISTING_WAIT, MISSING_ID_PREFIX, MISSING_MESSAGE};
use crate::ledger::postgres::open::{DecisionError, PostgresLedger};
use crate::ledger::postgres::records::{LoadedRows, WriteSet};
use crate::ledger::postgres::rows::{listing_kind_number, session_kind_number};
use crate::ledger::postgres::rules::{
    BatchKeys, adopt_documents, adoption_entries, batch_keys, commit, page_entries, record_page,
    session_response,
};
use crate::ledger::postgres::storable::{to_json, to_text};
use crate::ledger::{
    AdoptedDocument, AdoptionCounts, DocumentRowId, FailureFilter, Ledger, LedgerReader,
    LedgerUpdate, NewSession, PageCounts, RequeueFilter, SessionCounts, TransitionRow,
};

/// Documents of a folder that one transaction adopts.
const ADOPTED_DOCUMENTS_MAX: usize = 500;

impl Ledger for PostgresLedger {
    fn init_id(&mut self, id: &LedgerId) -> Result<(), Failure> {
        let parameters = vec![to_text(id.as_str())];
        self.change("write the ledger's id", "SELECT cynosure.init_id($1, $2, $3)", parameters)?;
        Ok(())
    }

    fn bind_account(&mut self, account: &AccountId) -> Result<AccountId, Failure> {
        let sql = "SELECT cynosure.bind_account($1, $2, $3)";
        let rows = self.change("record the account", sql, vec![to_text(account.as_str())])?;
        let bound = self.answer("record the account", single::<String>(&rows))?;
        Ok(AccountId::new(bound))
    }

    fn init_reconciled_at(&mut self, now: Timestamp) -> Result<(), Failure> {
        let action = "record the time of the last full listing";
        let sql = "SELECT cynosure.init_reconciled_at($1, $2, $3)";
        self.change(action, sql, vec![Box::new(now.0)])?;
        Ok(())
    }

    fn begin_session(&mut self, new_session: &NewSession) -> Result<(), Failure> {
        let NewSession { id, kind, started_at, start_cursor } = new_session;
        let parameters: Vec<Parameter> = vec![
            Box::new(self.shard),
            to_text(id.as_str()),
            Box::new(session_kind_number(*kind)),
            Box::new(listing_kind_number(kind.initial_listing())),
            Box::new(started_at.0),
            Box::new(start_cursor.as_ref().map(|cursor| cursor.as_str().to_owned())),
        ];
        let sql = "SELECT cynosure.begin_session($1, $2, $3, $4, $5, $6, $7, $8)";
        self.change("begin a session", sql, parameters)?;
        Ok(())
    }

    fn restart_listing(&mut self, start_cursor: Option<&Cursor>) -> Result<(), Failure> {
        let cursor = start_cursor.map(|cursor| cursor.as_str().to_owned());
        let sql = "SELECT cynosure.restart_listing($1, $2, $3)";
        self.change("restart the listing", sql, vec![Box::new(cursor)])?;
        Ok(())
    }

    fn reset_page_token(&mut self) -> Result<(), Failure> {
        let action = "reset the listing to its first page";
        self.change(action, "SELECT cynosure.reset_page_token($1, $2)", Vec::new())?;
        Ok(())
    }

    fn start_changes_listing(&mut self, now: Timestamp) -> Result<(), Failure> {
        let parameters: Vec<Parameter> = vec![Box::new(self.shard), Box::new(now.0)];
        let sql = "SELECT cynosure.start_changes_listing($1, $2, $3, $4)";
        self.change("start the listing of changes", sql, parameters)?;
        Ok(())
    }

    fn set_session_folder(&mut self, folder: &str) -> Result<(), Failure> {
        let sql = "SELECT cynosure.set_session_folder($1, $2, $3)";
        self.change("record the session's folder", sql, vec![to_text(folder)])?;
        Ok(())
    }

    fn record_page(
        &mut self,
        entries: &[ListedDocument],
        vanished: &[VanishedMessages],
        next: &NextPage,
        now: Timestamp,
    ) -> Result<PageCounts, Failure> {
        self.decide("record a page", || {
            let rows = self.load_page(&page_entries(entries))?;
            let (changes, counts) = record_page(rows, entries, vanished, next, now)
                .map_err(DecisionError::Inconsistent)?;
            self.apply(&changes)?;
            Ok(counts)
        })
    }

    fn record_missing(&mut self, missing: &[DocumentId], now: Timestamp) -> Result<(), Failure> {
        if missing.is_empty() {
            return Ok(());
        }
        let ids: Vec<_> = missing.iter().map(|id| format!("{MISSING_ID_PREFIX}{id}")).collect();
        let parameters: Vec<Parameter> = vec![
            Box::new(self.shard),
            Box::new(ids),
            to_text(Cause::NotFound.name()),
            to_text(MISSING_MESSAGE),
            Box::new(now.0),
        ];
        let sql = "SELECT cynosure.record_missing($1, $2, $3, $4, $5, $6, $7)";
        self.change("record the missing documents", sql, parameters)?;
        Ok(())
    }

    fn commit(
        &mut self,
        updates: &[LedgerUpdate],
        recheck: RecheckPolicy,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let keys = batch_keys(updates);
        self.decide("record the fetched documents", || {
            let rows = self.load_batch(&keys)?;
            let changes =
                commit(rows, updates, recheck, now).map_err(DecisionError::Inconsistent)?;
            self.apply(&changes)?;
            Ok(())
        })
    }

    fn complete_session(
        &mut self,
        id: &SessionId,
        now: Timestamp,
    ) -> Result<SessionCounts, Failure> {
        let parameters = vec![to_text(id.as_str()), Box::new(now.0) as Parameter];
        let sql = "SELECT cynosure.complete_session($1, $2, $3, $4)";
        self.change("complete the session", sql, parameters)?;
        self.session_counts()
    }

    fn record_transition(
        &mut self,
        transition: &TransitionRow,
        snapshot: &str,
    ) -> Result<(), Failure> {
        let TransitionRow { at, from, to, reason, session } = transition;
        let parameters: Vec<Parameter> = vec![
            Box::new(at.0),
            to_text(from),
            to_text(to),
            to_text(reason),
            Box::new(session.as_ref().map(|session| session.as_str().to_owned())),
            to_text(snapshot),
        ];
        let sql = "SELECT cynosure.record_transition($1, $2, $3, $4, $5, $6, $7, $8)";
        self.change("record a transition", sql, parameters)?;
        Ok(())
    }

    fn record_session_response(
        &mut self,
        failure: &Failure,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let Some(response) = session_response(failure, now) else { return Ok(()) };
        let sql = "SELECT cynosure.record_response($1, $2, $3::TEXT::JSONB)";
        self.change("store a response", sql, vec![to_json(&response)])?;
        Ok(())
    }

    fn shift_deadlines(&mut self, step: ClockStep) -> Result<(), Failure> {
        let parameters: Vec<Parameter> =
            vec![Box::new(self.shard), change_name(), Box::new(step.millis())];
        let sql = "SELECT cynosure.shift_deadlines($1, $2, $3, $4, $5)";
        self.change("shift the deadlines", sql, parameters)?;
        Ok(())
    }

    /// A commit whose answer was lost may still wait for a standby. This one locks the same row, so
    /// that it ends after that one.
    fn overwrite_failed_commit(&mut self) -> Result<(), Failure> {
        let sql = "SELECT cynosure.fence($1, $2)";
        self.change("settle a commit without an answer", sql, Vec::new())?;
        Ok(())
    }

    fn requeue(&mut self, filter: &RequeueFilter, now: Timestamp) -> Result<usize, Failure> {
        let mut parameters: Vec<Parameter> = vec![Box::new(self.shard), Box::new(now.0)];
        let sql = match filter {
            RequeueFilter::Quarantined(FailureFilter { cause, since }) => {
                parameters.push(Box::new(cause.map(|cause| cause.name().to_owned())));
                parameters.push(Box::new(since.map(|since| since.0)));
                "SELECT cynosure.requeue($1, $2, $3, $4, $5, $6)"
            }
            RequeueFilter::Item(item) => {
                parameters.push(to_text(item.as_str()));
                "SELECT cynosure.requeue_item($1, $2, $3, $4, $5)"
            }
        };
        let rows = self.change("requeue items", sql, parameters)?;
        let changed = self.answer("requeue items", single::<i64>(&rows))?;
        Ok(usize::try_from(changed).unwrap_or(0))
    }

    fn requeue_damaged(
        &mut self,
        document: DocumentRowId,
        reason: &str,
        now: Timestamp,
    ) -> Result<bool, Failure> {
        let parameters: Vec<Parameter> = vec![
            Box::new(self.shard),
            Box::new(document.0),
            to_text(reason),
            to_text(Cause::Storage.name()),
            Box::new(now.0),
            Box::new(now.after(LISTING_WAIT).0),
        ];
        let sql = "SELECT cynosure.requeue_damaged($1, $2, $3, $4, $5, $6, $7, $8)";
        let rows = self.change("requeue a document", sql, parameters)?;
        self.answer("requeue a document", single(&rows))
    }

    fn adopt_folder(
        &mut self,
        folder: &str,
        started: Timestamp,
        documents: &[AdoptedDocument],
    ) -> Result<AdoptionCounts, Failure> {
        let id = SessionId::from_unix_seconds(started.unix_seconds());
        let parameters: Vec<Parameter> =
            vec![to_text(id.as_str()), Box::new(started.0), to_text(folder)];
        let sql = "SELECT cynosure.begin_adopted_session($1, $2, $3, $4, $5)";
        let rows = self.change("adopt a folder", sql, parameters)?;
        let session = self.answer("adopt a folder", single::<i64>(&rows))?;
        let mut counts = AdoptionCounts::default();
        for part in documents.chunks(ADOPTED_DOCUMENTS_MAX) {
            let adopted = self.decide("adopt a folder", || {
                let rows = self.load_page(&adoption_entries(part))?;
                let (changes, counts) = adopt_documents(rows, session, started, part);
                self.apply(&changes)?;
                Ok(counts)
            })?;
            counts.documents += adopted.documents;
            counts.versions += adopted.versions;
            counts.copies += adopted.copies;
        }
        Ok(counts)
    }

    fn rebuild_session_counts(&mut self) -> Result<(), Failure> {
        let sql = "SELECT cynosure.rebuild_session_counts($1, $2)";
        self.change("count the adopted documents", sql, Vec::new())?;
        Ok(())
    }
}

impl PostgresLedger {
    fn load_page(&self, entries: &serde_json::Value) -> Result<LoadedRows, DecisionError> {
        let sql = "SELECT cynosure.load_page($1, $2::TEXT::JSONB)::TEXT";
        let parameters: Vec<Parameter> = vec![Box::new(self.source), Box::new(entries.to_string())];
        Ok(parse_rows(&self.database.query(sql, parameters)?)?)
    }

    fn load_batch(&self, keys: &BatchKeys) -> Result<LoadedRows, DecisionError> {
        let BatchKeys { documents, items, hashes, gone } = keys;
        let sql = "SELECT cynosure.load_batch($1, $2, $3, $4, $5)::TEXT";
        let parameters: Vec<Parameter> = vec![
            Box::new(self.source),
            Box::new(documents.clone()),
            Box::new(items.clone()),
            Box::new(hashes.clone()),
            Box::new(gone.clone()),
        ];
        Ok(parse_rows(&self.database.query(sql, parameters)?)?)
    }

    fn apply(&self, changes: &WriteSet) -> Result<(), DecisionError> {
        let sql = "SELECT cynosure.apply($1, $2, $3, $4, $5::TEXT::JSONB)";
        self.try_change(sql, vec![Box::new(self.shard), change_name(), to_json(changes)])?;
        Ok(())
    }
}

/// Returns a random name of a change, by which it is recognised if it is sent again.
fn change_name() -> Parameter {
    Box::new(format!("{:032x}", fastrand::u128(..)))
}

fn single<T: for<'a> FromSql<'a>>(rows: &[Row]) -> Result<T, DatabaseError> {
    let row = rows.first().ok_or_else(|| DatabaseError::unexpected("no row".to_owned()))?;
    row.try_get(0).map_err(|error| DatabaseError::unexpected(error.to_string()))
}

fn parse_rows(rows: &[Row]) -> Result<LoadedRows, DatabaseError> {
    let text: String = single(rows)?;
    serde_json::from_str(&text).map_err(|error| DatabaseError::unexpected(error.to_string()))
}
