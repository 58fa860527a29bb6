//! Shift of the times that are compared with the current time, after a step of the system clock.

use cynosure_engine::ClockStep;
use rusqlite::Connection;

use crate::ledger::sqlite::error::LedgerError;

pub(super) fn shift_deadlines(connection: &Connection, step: ClockStep) -> Result<(), LedgerError> {
    // One statement for each index. At least 1, because 0 marks an item that was never tried.
    const UPDATES: [&str; 4] = [
        "UPDATE source SET reconciled_at = reconciled_at + ?1",
        "UPDATE items SET next_at = max(1, next_at + ?1) WHERE status = 0 AND next_at > 0",
        "UPDATE items SET next_at = max(1, next_at + ?1) WHERE status = 3 AND next_at > 0",
        "UPDATE trials SET since = since + ?1",
    ];
    for sql in UPDATES {
        connection.execute(sql, [step.millis()])?;
    }
    Ok(())
}
