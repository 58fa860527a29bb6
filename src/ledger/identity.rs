//! Identity of a ledger, which the marker in its archive records.

use cynosure_engine::{Failure, LedgerId};
use rusqlite::params;

use crate::ledger::{Ledger, LedgerReader};

/// Identity of a ledger, to be compared with the marker in its archive.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LedgerIdentity {
    /// Random id; `None` until the first start with this format.
    pub id: Option<LedgerId>,
    /// The account of the source, as the server names it; `None` until it is known.
    pub account: Option<String>,
    /// True if the archive may have documents of this ledger: a session has created a folder
    /// there.
    pub has_stored_documents: bool,
}

impl LedgerReader {
    /// Reads the identity of the ledger.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn identity(&self) -> Result<LedgerIdentity, Failure> {
        self.read("read the ledger's identity", |connection| {
            let sql = "SELECT id, account, EXISTS (SELECT 1 FROM sessions WHERE folder IS NOT NULL)
                       FROM source";
            Ok(connection.query_row(sql, [], |row| {
                Ok(LedgerIdentity {
                    id: row.get::<_, Option<String>>(0)?.map(LedgerId::new),
                    account: row.get(1)?,
                    has_stored_documents: row.get(2)?,
                })
            })?)
        })
    }

    /// Reads the names of all session folders.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn session_folders(&self) -> Result<Vec<String>, Failure> {
        self.read("read the session folders", |connection| {
            let sql = "SELECT DISTINCT folder FROM sessions WHERE folder IS NOT NULL";
            let mut statement = connection.prepare(sql)?;
            let rows = statement.query_map([], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }
}

impl Ledger {
    /// Sets the ledger's id, unless it has one.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn init_id(&mut self, id: &LedgerId) -> Result<(), Failure> {
        self.write("write the ledger's id", |transaction| {
            let sql = "UPDATE source SET id = ?1 WHERE id IS NULL";
            transaction.execute(sql, params![id.as_str()])?;
            Ok(())
        })
    }
}
