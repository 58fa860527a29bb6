//! Documents that a source listed and then did not find, recorded as items that are gone.

use cynosure_engine::{Cause, DocumentId, Timestamp};
use rusqlite::{Connection, params};

use crate::ledger::limits::{MISSING_ID_PREFIX, MISSING_MESSAGE};
use crate::ledger::sqlite::error::LedgerError;
use crate::ledger::sqlite::item_state::OpenSession;

pub(super) fn record_missing(
    connection: &Connection,
    missing: &[DocumentId],
    now: Timestamp,
) -> Result<(), LedgerError> {
    let mut session = OpenSession::load(connection)?;
    let mut insert = connection.prepare_cached(
        "INSERT OR IGNORE INTO items
         (id, session, status, attempts, next_at, cause, message, settled_at)
         VALUES (?1, ?2, 2, 0, 0, ?3, ?4, ?5)",
    )?;
    for id in missing {
        let id = format!("{MISSING_ID_PREFIX}{id}");
        let cause = Cause::NotFound.name();
        let added =
            insert.execute(params![id, session.row.row_id, cause, MISSING_MESSAGE, now.0])?;
        if added > 0 {
            session.count_missing();
        }
    }
    session.write_counters()
}
