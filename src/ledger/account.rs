//! What a ledger knows of its source: the account it belongs to, when everything was last listed.

use crate::engine::{AccountId, Failure, Timestamp};
use crate::ledger::{Ledger, LedgerReader};

impl LedgerReader {
    /// Reads which account the ledger belongs to; `None` before it was given one.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn bound_account(&self) -> Result<Option<AccountId>, Failure> {
        self.read("read the account", |connection| {
            let sql = "SELECT account FROM source";
            let account = connection.query_row(sql, [], |row| row.get::<_, Option<String>>(0))?;
            Ok(account.map(AccountId::new))
        })
    }

    /// Reads when everything was last listed to its end; `None` where that was not noted.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn reconciled_at(&self) -> Result<Option<Timestamp>, Failure> {
        self.read("read when all was listed", |connection| {
            let sql = "SELECT reconciled_at FROM source";
            let at = connection.query_row(sql, [], |row| row.get::<_, Option<i64>>(0))?;
            Ok(at.map(Timestamp))
        })
    }
}

impl Ledger {
    /// Gives the ledger to an account, unless it belongs to one; returns the one it belongs to.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn bind_account(&mut self, account: &AccountId) -> Result<AccountId, Failure> {
        self.write("note the account", |transaction| {
            let sql = "UPDATE source SET account = coalesce(account, ?1) RETURNING account";
            let settled: String =
                transaction.query_row(sql, [account.as_str()], |row| row.get(0))?;
            Ok(AccountId::new(settled))
        })
    }

    /// Has the time until everything is listed once more count from now, where nothing was noted: an
    /// earlier version listed it.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn init_reconciled_at(&mut self, now: Timestamp) -> Result<(), Failure> {
        self.write("note when all was listed", |transaction| {
            let sql = "UPDATE source SET reconciled_at = coalesce(reconciled_at, ?1)";
            transaction.execute(sql, [now.0])?;
            Ok(())
        })
    }
}
