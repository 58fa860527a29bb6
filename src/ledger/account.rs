//! Account of a ledger's source, and the time of its last complete listing.

use cynosure_engine::{AccountId, Failure, Timestamp};

use crate::ledger::{Ledger, LedgerReader};

impl LedgerReader {
    /// Reads the account that the ledger belongs to; `None` before [`Ledger::bind_account`].
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

    /// Reads when a listing of everything last completed; `None` if that was not recorded.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn reconciled_at(&self) -> Result<Option<Timestamp>, Failure> {
        self.read("read the time of the last full listing", |connection| {
            let sql = "SELECT reconciled_at FROM source";
            let at = connection.query_row(sql, [], |row| row.get::<_, Option<i64>>(0))?;
            Ok(at.map(Timestamp))
        })
    }
}

impl Ledger {
    /// Binds the ledger to an account unless it is bound already; returns the account it is bound
    /// to.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn bind_account(&mut self, account: &AccountId) -> Result<AccountId, Failure> {
        self.write("record the account", |transaction| {
            let sql = "UPDATE source SET account = coalesce(account, ?1) RETURNING account";
            let bound: String = transaction.query_row(sql, [account.as_str()], |row| row.get(0))?;
            Ok(AccountId::new(bound))
        })
    }

    /// Sets the time of the last complete listing to `now` if none is recorded, so that the
    /// interval until the next one counts from now. None is recorded if an earlier version of the
    /// program made the listing.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn init_reconciled_at(&mut self, now: Timestamp) -> Result<(), Failure> {
        self.write("record the time of the last full listing", |transaction| {
            let sql = "UPDATE source SET reconciled_at = coalesce(reconciled_at, ?1)";
            transaction.execute(sql, [now.0])?;
            Ok(())
        })
    }
}
