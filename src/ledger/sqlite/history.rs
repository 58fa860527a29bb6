//! Transitions of the state machine, and the execution state after the newest one.

use cynosure_engine::{SessionId, Timestamp};
use rusqlite::{Connection, params};

use crate::ledger::TransitionRow;
use crate::ledger::sqlite::error::LedgerError;

/// Transitions that are kept: weeks of frequent failures, in 1 or 2 MB.
const HISTORY_ROWS_MAX: i64 = 10_000;

pub(super) fn record_transition(
    connection: &Connection,
    transition: &TransitionRow,
    snapshot: &str,
) -> Result<(), LedgerError> {
    connection.execute(
        "INSERT INTO history (at, from_state, to_state, reason, session)
         VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            transition.at.0,
            transition.from,
            transition.to,
            transition.reason,
            transition.session.as_ref().map(SessionId::as_str),
        ],
    )?;
    let newest = connection.last_insert_rowid();
    connection.execute("DELETE FROM history WHERE no <= ?1", [newest - HISTORY_ROWS_MAX])?;
    connection.execute("UPDATE source SET snapshot = ?1", [snapshot])?;
    Ok(())
}

pub(super) fn transitions(
    connection: &Connection,
    limit: usize,
) -> Result<Vec<TransitionRow>, LedgerError> {
    let mut statement = connection.prepare(
        "SELECT at, from_state, to_state, reason, session FROM history
         ORDER BY no DESC LIMIT ?1",
    )?;
    let rows = statement.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
        Ok(TransitionRow {
            at: Timestamp(row.get(0)?),
            from: row.get(1)?,
            to: row.get(2)?,
            reason: row.get(3)?,
            session: row.get::<_, Option<String>>(4)?.map(SessionId::new),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn state_snapshot(connection: &Connection) -> Result<Option<String>, LedgerError> {
    Ok(connection.query_row("SELECT snapshot FROM source", [], |row| row.get(0))?)
}
