//! Identity of a ledger, which the marker in its archive records.

use cynosure_engine::LedgerId;
use rusqlite::{Connection, params};

use crate::ledger::LedgerIdentity;
use crate::ledger::sqlite::error::LedgerError;

pub(super) fn identity(connection: &Connection) -> Result<LedgerIdentity, LedgerError> {
    let sql = "SELECT id, account, EXISTS (SELECT 1 FROM sessions WHERE folder IS NOT NULL)
               FROM source";
    Ok(connection.query_row(sql, [], |row| {
        Ok(LedgerIdentity {
            id: row.get::<_, Option<String>>(0)?.map(LedgerId::new),
            account: row.get(1)?,
            has_stored_documents: row.get(2)?,
        })
    })?)
}

pub(super) fn session_folders(connection: &Connection) -> Result<Vec<String>, LedgerError> {
    let sql = "SELECT DISTINCT folder FROM sessions WHERE folder IS NOT NULL";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn init_id(connection: &Connection, id: &LedgerId) -> Result<(), LedgerError> {
    let sql = "UPDATE source SET id = ?1 WHERE id IS NULL";
    connection.execute(sql, params![id.as_str()])?;
    Ok(())
}
