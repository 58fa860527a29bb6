//! The account that a ledger belongs to.

use crate::engine::{AccountId, Failure};
use crate::ledger::{Ledger, Reader};

impl Reader {
    /// Reads which account the ledger belongs to; `None` before it was given one.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn account(&self) -> Result<Option<AccountId>, Failure> {
        self.read("read the account", |connection| {
            let sql = "SELECT account FROM source";
            let account = connection.query_row(sql, [], |row| row.get::<_, Option<String>>(0))?;
            Ok(account.map(AccountId::new))
        })
    }
}

impl Ledger {
    /// Gives the ledger to an account, unless it belongs to one; returns the one it belongs to.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn settle_account(&mut self, account: &AccountId) -> Result<AccountId, Failure> {
        self.write("note the account", |transaction| {
            let sql = "UPDATE source SET account = coalesce(account, ?1) RETURNING account";
            let settled: String =
                transaction.query_row(sql, [account.as_str()], |row| row.get(0))?;
            Ok(AccountId::new(settled))
        })
    }
}
