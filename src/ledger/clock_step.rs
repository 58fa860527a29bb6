//! The clock was set, and what waits moves with it.

use crate::engine::{ClockStep, Failure};
use crate::ledger::Ledger;

impl Ledger {
    /// Has every item that waits for its next attempt, or its next look, wait as long as before, and
    /// the next listing of everything too.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn shift_deadlines(&mut self, step: ClockStep) -> Result<(), Failure> {
        // One statement for each index. No item becomes one that was never tried.
        const MOVES: [&str; 3] = [
            "UPDATE source SET reconciled_at = reconciled_at + ?1",
            "UPDATE items SET next_at = max(1, next_at + ?1) WHERE status = 0 AND next_at > 0",
            "UPDATE items SET next_at = max(1, next_at + ?1) WHERE status = 3 AND next_at > 0",
        ];
        self.write("move what waits", |transaction| {
            for sql in MOVES {
                transaction.execute(sql, [step.millis()])?;
            }
            Ok(())
        })
    }
}
