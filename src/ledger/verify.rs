//! What `verify` asks: where the files are, and whether the ledger agrees with itself.

use rusqlite::{OptionalExtension, params};

use crate::engine::{DocumentId, Failure, ItemId};
use crate::ledger::Reader;
use crate::ledger::rows::{DocumentNo, ItemStatus, Session, Tally, as_integer};

/// One document that is in the archive.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredFile {
    pub no: DocumentNo,
    pub item: ItemId,
    pub document: DocumentId,
    /// The session's folder in the archive.
    pub folder: String,
    /// The path below it.
    pub file: String,
    /// In bytes.
    pub length: u64,
    pub sha256: [u8; 32],
}

/// The newest session's counters beside a count of its rows.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Recount {
    pub recorded: Counted,
    pub counted: Counted,
}

/// Items by where they stand.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counted {
    pub pending: u64,
    pub stored: u64,
    pub gone: u64,
    pub quarantined: u64,
}

impl Recount {
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.recorded == self.counted
    }
}

impl From<Tally> for Counted {
    fn from(tally: Tally) -> Self {
        let Tally { stored, gone, quarantined, .. } = tally;
        Self { pending: tally.pending(), stored, gone, quarantined }
    }
}

impl Reader {
    /// Returns where a document is stored; `None` if it is not.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn stored_file(
        &self,
        item: &ItemId,
        document: &DocumentId,
    ) -> Result<Option<StoredFile>, Failure> {
        self.read("find a document", |connection| {
            let sql = format!("{STORED} AND i.id = ?1 AND d.id = ?2");
            let parameters = params![item.as_str(), document.as_str()];
            Ok(connection.query_row(&sql, parameters, StoredFile::from_row).optional()?)
        })
    }

    /// Returns the stored documents after the one with number `after`, at most `limit`.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn stored_files(
        &self,
        after: Option<DocumentNo>,
        limit: usize,
    ) -> Result<Vec<StoredFile>, Failure> {
        self.read("read what is stored", |connection| {
            let mut statement =
                connection.prepare(&format!("{STORED} AND d.no > ?1 ORDER BY d.no LIMIT ?2"))?;
            let after = after.map_or(0, |no| no.0);
            let rows =
                statement.query_map([after, as_integer(limit as u64)], StoredFile::from_row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Counts the items of which anything is stored. Reads every row.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn stored_items(&self) -> Result<u64, Failure> {
        self.read("count the items", |connection| {
            let sql = "SELECT count(DISTINCT item) FROM documents WHERE status = 1";
            Ok(connection.query_row(sql, [], |row| row.get::<_, i64>(0))?.unsigned_abs())
        })
    }

    /// Counts the newest session's items, beside its counters. Reads every row.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn recount(&self) -> Result<Recount, Failure> {
        self.read("count the items", |connection| {
            let Some(session) = Session::newest(connection)? else { return Ok(Recount::default()) };
            let mut counted = Counted::default();
            let mut statement = connection
                .prepare("SELECT status, count(*) FROM items WHERE session = ?1 GROUP BY status")?;
            let mut rows = statement.query([session.no])?;
            while let Some(row) = rows.next()? {
                let count = row.get::<_, i64>(1)?.unsigned_abs();
                match row.get(0)? {
                    ItemStatus::Pending => counted.pending = count,
                    ItemStatus::Stored => counted.stored = count,
                    ItemStatus::Gone => counted.gone = count,
                    ItemStatus::Quarantined => counted.quarantined = count,
                }
            }
            Ok(Recount { recorded: session.tally.into(), counted })
        })
    }

    /// Has SQLite check the file, and returns what it finds wrong. Reads everything.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn damage(&self) -> Result<Vec<String>, Failure> {
        self.read("check the ledger", |connection| {
            let mut found = Vec::new();
            connection.pragma_query(None, "integrity_check", |row| {
                found.push(row.get::<_, String>(0)?);
                Ok(())
            })?;
            found.retain(|line| line != "ok");
            Ok(found)
        })
    }
}

const STORED: &str =
    "SELECT d.no, i.id AS item, d.id AS document, s.folder, d.file, d.length, d.sha256
    FROM documents d JOIN items i ON i.no = d.item JOIN sessions s ON s.no = d.session
    WHERE d.status = 1";

impl StoredFile {
    fn from_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            no: DocumentNo(row.get("no")?),
            item: ItemId::new(row.get::<_, String>("item")?),
            document: DocumentId::new(row.get::<_, String>("document")?),
            folder: row.get("folder")?,
            file: row.get("file")?,
            length: row.get::<_, i64>("length")?.unsigned_abs(),
            sha256: row.get("sha256")?,
        })
    }
}
