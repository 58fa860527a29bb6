//! Transitions of the state machine, and the execution state after the newest one.

use cynosure_engine::{Failure, SessionId, Timestamp};
use rusqlite::params;

use crate::ledger::{Ledger, LedgerReader};

/// Transitions that are kept: weeks of frequent failures, in 1 or 2 MB.
const HISTORY_ROWS_MAX: i64 = 10_000;

/// One transition of the state machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TransitionRow {
    pub at: Timestamp,
    /// Name of the state, as in the state file; `to` likewise.
    pub from: String,
    pub to: String,
    pub reason: String,
    pub session: Option<SessionId>,
}

impl Ledger {
    /// Records a transition together with the execution state after it, as JSON. A lost state file
    /// is rebuilt from that JSON.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn record_transition(
        &mut self,
        transition: &TransitionRow,
        snapshot: &str,
    ) -> Result<(), Failure> {
        self.write("record a transition", |transaction| {
            transaction.execute(
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
            let newest = transaction.last_insert_rowid();
            transaction
                .execute("DELETE FROM history WHERE no <= ?1", [newest - HISTORY_ROWS_MAX])?;
            transaction.execute("UPDATE source SET snapshot = ?1", [snapshot])?;
            Ok(())
        })
    }
}

impl LedgerReader {
    /// Returns the newest transitions, newest first.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn transitions(&self, limit: usize) -> Result<Vec<TransitionRow>, Failure> {
        self.read("read the history", |connection| {
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
        })
    }

    /// Returns the execution state after the newest transition, as JSON.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn state_snapshot(&self) -> Result<Option<String>, Failure> {
        self.read("read the newest state", |connection| {
            Ok(connection.query_row("SELECT snapshot FROM source", [], |row| row.get(0))?)
        })
    }
}
