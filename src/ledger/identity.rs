//! What a ledger says of itself to the archive that it belongs to.

use rusqlite::params;

use crate::engine::{Failure, LedgerId};
use crate::ledger::{Ledger, Reader};

/// The identity of a ledger, as the marker in its archive names it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Identity {
    /// `None` until its first start under this format.
    pub id: Option<LedgerId>,
    /// The account of the source, as the server calls it; `None` until it is known.
    pub account: Option<String>,
    /// A session of it has made a folder in an archive.
    pub has_stored: bool,
}

impl Reader {
    /// Reads what the archive's marker is compared with.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn identity(&self) -> Result<Identity, Failure> {
        self.read("read the ledger's identity", |connection| {
            let sql = "SELECT id, account, EXISTS (SELECT 1 FROM sessions WHERE folder IS NOT NULL)
                       FROM source";
            Ok(connection.query_row(sql, [], |row| {
                Ok(Identity {
                    id: row.get::<_, Option<String>>(0)?.map(LedgerId::new),
                    account: row.get(1)?,
                    has_stored: row.get(2)?,
                })
            })?)
        })
    }
}

impl Reader {
    /// Reads the names of all session folders.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn folders(&self) -> Result<Vec<String>, Failure> {
        self.read("read the folders", |connection| {
            let sql = "SELECT DISTINCT folder FROM sessions WHERE folder IS NOT NULL";
            let mut statement = connection.prepare(sql)?;
            let rows = statement.query_map([], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }
}

impl Ledger {
    /// Gives the ledger its id. One that has an id keeps it.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn set_id(&mut self, id: &LedgerId) -> Result<(), Failure> {
        self.write("write the ledger's id", |transaction| {
            let sql = "UPDATE source SET id = ?1 WHERE id IS NULL";
            transaction.execute(sql, params![id.as_str()])?;
            Ok(())
        })
    }
}
