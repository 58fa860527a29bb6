//! Bytes in the archive, and the index that finds them by their hash.
//!
//! If only its location identifies a document, the same mail in two folders is two documents.
//! The second one's bytes are not stored again: its row names the file of the first.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::ledger::DocumentRowId;
use crate::ledger::sqlite::error::LedgerError;
use crate::ledger::sqlite::rows::to_sql_integer;

/// Place of bytes in the archive.
pub(super) struct StoredContent {
    pub(super) session: i64,
    pub(super) file: String,
    pub(super) length: i64,
    pub(super) sha256: [u8; 32],
}

impl StoredContent {
    pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            session: row.get("session")?,
            file: row.get("file")?,
            length: row.get("length")?,
            sha256: row.get("sha256")?,
        })
    }
}

pub(super) fn has_content(
    connection: &Connection,
    sha256: &[u8; 32],
    length: u64,
) -> Result<bool, LedgerError> {
    Ok(find_content(connection, sha256, to_sql_integer(length))?.is_some())
}

/// Finds the file with these bytes. The index may name a document that has other bytes by now, or
/// is no longer stored; then there is none.
pub(super) fn find_content(
    connection: &Connection,
    sha256: &[u8; 32],
    length: i64,
) -> rusqlite::Result<Option<StoredContent>> {
    let sql = "SELECT d.session, d.file, d.length, d.sha256
               FROM contents c JOIN documents d ON d.no = c.document
               WHERE c.sha256 = ?1 AND d.status = 1 AND d.sha256 = ?1 AND d.length = ?2";
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_row(params![sha256, length], StoredContent::from_row).optional()
}

/// Adds the bytes of a stored document to the index.
pub(super) fn index_content(
    connection: &Connection,
    sha256: &[u8; 32],
    document: DocumentRowId,
) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO contents (sha256, document) VALUES (?1, ?2)";
    connection.prepare_cached(sql)?.execute(params![sha256, document.0])?;
    Ok(())
}

/// Removes the bytes of a document from the index, since its file is damaged. The file may be that
/// of another document.
pub(super) fn remove_content(
    connection: &Connection,
    document: DocumentRowId,
) -> rusqlite::Result<()> {
    let sql = "DELETE FROM contents WHERE sha256 = (SELECT sha256 FROM documents WHERE no = ?1)";
    connection.execute(sql, [document.0])?;
    Ok(())
}
