//! Shift of the times that are compared with the current time, after a step of the system clock.

use cynosure_engine::{ClockStep, Failure};

use crate::ledger::Ledger;

impl Ledger {
    /// Shifts the next attempt or recheck of every waiting item, the time since which it fails, and
    /// the time of the last complete listing, by `step`, so that every wait stays as long as before.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn shift_deadlines(&mut self, step: ClockStep) -> Result<(), Failure> {
        // One statement for each index. At least 1, because 0 marks an item that was never tried.
        const UPDATES: [&str; 4] = [
            "UPDATE source SET reconciled_at = reconciled_at + ?1",
            "UPDATE items SET next_at = max(1, next_at + ?1) WHERE status = 0 AND next_at > 0",
            "UPDATE items SET next_at = max(1, next_at + ?1) WHERE status = 3 AND next_at > 0",
            "UPDATE trials SET since = since + ?1",
        ];
        self.write("shift the deadlines", |transaction| {
            for sql in UPDATES {
                transaction.execute(sql, [step.millis()])?;
            }
            Ok(())
        })
    }
}
