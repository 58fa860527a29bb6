//! Documents that a source listed and then did not find, recorded as items that are gone.

use cynosure_engine::{Cause, DocumentId, Failure, Timestamp};
use rusqlite::params;

use crate::ledger::Ledger;
use crate::ledger::item_state::OpenSession;

/// Prefix of the item id of a missing document.
const MISSING_ID_PREFIX: &str = "missing:";

const MISSING_MESSAGE: &str = "the source listed it, but did not find it in two requests";

impl Ledger {
    /// Records documents that were listed and not found. Each becomes a separate item with the
    /// status gone, because the item that it belonged to is unknown. Recording one again changes
    /// nothing.
    ///
    /// # Errors
    /// A ledger failure; also when no session is open.
    pub fn record_missing(
        &mut self,
        missing: &[DocumentId],
        now: Timestamp,
    ) -> Result<(), Failure> {
        if missing.is_empty() {
            return Ok(());
        }
        self.write("record the missing documents", |transaction| {
            let mut session = OpenSession::load(transaction)?;
            let mut insert = transaction.prepare_cached(
                "INSERT OR IGNORE INTO items
                 (id, session, status, attempts, next_at, cause, message, settled_at)
                 VALUES (?1, ?2, 2, 0, 0, ?3, ?4, ?5)",
            )?;
            for id in missing {
                let id = format!("{MISSING_ID_PREFIX}{id}");
                let cause = Cause::NotFound.name();
                let added = insert.execute(params![
                    id,
                    session.row.row_id,
                    cause,
                    MISSING_MESSAGE,
                    now.0
                ])?;
                if added > 0 {
                    session.count_missing();
                }
            }
            session.write_counters()
        })
    }
}
