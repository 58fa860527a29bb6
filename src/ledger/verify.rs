//! Queries of `verify`: locations of stored files, and consistency checks of the ledger.

use cynosure_engine::{DocumentId, Failure, ItemId};
use rusqlite::{OptionalExtension, params};

use crate::ledger::LedgerReader;
use crate::ledger::error::LedgerError;
use crate::ledger::rows::{DocumentRowId, ItemStatus, SessionCounts, SessionRow, to_sql_integer};

/// Row number of a stored file: of a document's current version, or of an earlier one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FileRowId {
    Current(DocumentRowId),
    Superseded(i64),
}

/// One version of a document that is in the archive.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredFile {
    pub row_id: FileRowId,
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
pub struct CounterCheck {
    pub recorded: StatusCounts,
    pub counted: StatusCounts,
}

/// Numbers of items by status.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct StatusCounts {
    pub pending: u64,
    pub stored: u64,
    pub gone: u64,
    pub quarantined: u64,
}

impl CounterCheck {
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        self.recorded == self.counted
    }
}

impl From<SessionCounts> for StatusCounts {
    fn from(counts: SessionCounts) -> Self {
        let SessionCounts { stored, gone, quarantined, .. } = counts;
        Self { pending: counts.pending(), stored, gone, quarantined }
    }
}

impl LedgerReader {
    /// Returns the stored file of a document's current version; `None` if it is not stored.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn stored_file(
        &self,
        item: &ItemId,
        document: &DocumentId,
    ) -> Result<Option<StoredFile>, Failure> {
        self.read("find a document", |connection| {
            let sql = format!("{SELECT_STORED} AND i.id = ?1 AND d.id = ?2");
            let parameters = params![item.as_str(), document.as_str()];
            Ok(connection.query_row(&sql, parameters, StoredFile::from_row).optional()?)
        })
    }

    /// True if a version of the document is stored at this path, below the folder of a session.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn is_stored_at(
        &self,
        item: &ItemId,
        document: &DocumentId,
        folder: &str,
        file: &str,
    ) -> Result<bool, Failure> {
        self.read("find a file", |connection| {
            let parameters = params![item.as_str(), document.as_str(), folder, file];
            let condition = "AND i.id = ?1 AND d.id = ?2 AND s.folder = ?3";
            let sql = format!(
                "SELECT EXISTS ({SELECT_STORED} {condition} AND d.file = ?4)
                     OR EXISTS ({SELECT_SUPERSEDED} {condition} AND v.file = ?4)"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            Ok(statement.query_row(parameters, |row| row.get(0))?)
        })
    }

    /// Returns the version number of a document's next file: the number of its earlier versions
    /// plus one. No two files of a document have the same number.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn next_version(&self, document: DocumentRowId) -> Result<u32, Failure> {
        self.read("count the versions", |connection| {
            let sql = "SELECT count(*) + 1 FROM superseded WHERE document = ?1";
            let mut statement = connection.prepare_cached(sql)?;
            Ok(statement.query_row([document.0], |row| row.get(0))?)
        })
    }

    /// Returns the stored files after `after`, at most `limit`: the current versions of all
    /// documents, then the earlier ones. Empty only at the end.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn stored_files(
        &self,
        after: Option<FileRowId>,
        limit: usize,
    ) -> Result<Vec<StoredFile>, Failure> {
        self.read("read the stored documents", |connection| {
            let query = |sql: String, after: i64| -> Result<Vec<StoredFile>, LedgerError> {
                let mut statement = connection.prepare(&sql)?;
                let parameters = [after, to_sql_integer(limit as u64)];
                let rows = statement.query_map(parameters, StoredFile::from_row)?;
                Ok(rows.collect::<Result<_, _>>()?)
            };
            let superseded = |after| {
                query(format!("{SELECT_SUPERSEDED} AND v.no > ?1 ORDER BY v.no LIMIT ?2"), after)
            };
            let after = match after {
                None => 0,
                Some(FileRowId::Current(row_id)) => row_id.0,
                Some(FileRowId::Superseded(row_id)) => return superseded(row_id),
            };
            // Earlier versions come last, so that one superseded between two calls is not missed.
            let current =
                query(format!("{SELECT_STORED} AND d.no > ?1 ORDER BY d.no LIMIT ?2"), after)?;
            if current.is_empty() { superseded(0) } else { Ok(current) }
        })
    }

    /// Counts the items with at least one stored file. Reads every row.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn count_stored_items(&self) -> Result<u64, Failure> {
        self.read("count the items", |connection| {
            let sql = "SELECT count(*) FROM (
                SELECT item FROM documents WHERE status = 1
                UNION SELECT d.item FROM superseded v JOIN documents d ON d.no = v.document)";
            Ok(connection.query_row(sql, [], |row| row.get::<_, i64>(0))?.unsigned_abs())
        })
    }

    /// Counts the newest session's items by status, to compare with its counters. Reads every row.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn check_counters(&self) -> Result<CounterCheck, Failure> {
        self.read("count the items", |connection| {
            let Some(session) = SessionRow::newest(connection)? else {
                return Ok(CounterCheck::default());
            };
            let mut counted = StatusCounts::default();
            let mut statement = connection
                .prepare("SELECT status, count(*) FROM items WHERE session = ?1 GROUP BY status")?;
            let mut rows = statement.query([session.row_id])?;
            while let Some(row) = rows.next()? {
                let count = row.get::<_, i64>(1)?.unsigned_abs();
                match row.get(0)? {
                    ItemStatus::Pending => counted.pending = count,
                    ItemStatus::Stored => counted.stored = count,
                    ItemStatus::Gone => counted.gone = count,
                    ItemStatus::Quarantined => counted.quarantined = count,
                }
            }
            Ok(CounterCheck { recorded: session.counts.into(), counted })
        })
    }

    /// Runs SQLite's integrity check and returns the errors found. Reads everything.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn check_integrity(&self) -> Result<Vec<String>, Failure> {
        self.read("check the ledger", |connection| {
            let mut errors = Vec::new();
            connection.pragma_query(None, "integrity_check", |row| {
                errors.push(row.get::<_, String>(0)?);
                Ok(())
            })?;
            errors.retain(|line| line != "ok");
            Ok(errors)
        })
    }
}

const SELECT_STORED: &str =
    "SELECT d.no, 0 AS is_superseded, i.id AS item, d.id AS document, s.folder, d.file, d.length,
            d.sha256
    FROM documents d JOIN items i ON i.no = d.item JOIN sessions s ON s.no = d.session
    WHERE d.status = 1";

const SELECT_SUPERSEDED: &str =
    "SELECT v.no, 1 AS is_superseded, i.id AS item, d.id AS document, s.folder, v.file, v.length,
            v.sha256
    FROM superseded v JOIN documents d ON d.no = v.document JOIN items i ON i.no = d.item
         JOIN sessions s ON s.no = v.session
    WHERE true";

impl StoredFile {
    fn from_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        let row_id = row.get("no")?;
        let is_superseded: bool = row.get("is_superseded")?;
        Ok(Self {
            row_id: if is_superseded {
                FileRowId::Superseded(row_id)
            } else {
                FileRowId::Current(DocumentRowId(row_id))
            },
            item: ItemId::new(row.get::<_, String>("item")?),
            document: DocumentId::new(row.get::<_, String>("document")?),
            folder: row.get("folder")?,
            file: row.get("file")?,
            length: row.get::<_, i64>("length")?.unsigned_abs(),
            sha256: row.get("sha256")?,
        })
    }
}
