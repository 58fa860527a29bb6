//! Documents that a listing contained, each kept until it is settled, because nothing else has it.

use cynosure_engine::ListedDocument;
use rusqlite::{Connection, OptionalExtension, params};

use crate::ledger::DocumentRowId;
use crate::ledger::sqlite::error::LedgerError;

pub(super) fn lists_contents(connection: &Connection) -> Result<bool, LedgerError> {
    let sql = "SELECT lists_contents FROM source";
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}

/// Records if the documents of a page have their contents. A page without documents does not show
/// it.
pub(super) fn record_kind(
    connection: &Connection,
    entries: &[ListedDocument],
) -> rusqlite::Result<()> {
    if !entries.is_empty() {
        let has_contents = entries.iter().any(|entry| entry.content.is_some());
        let sql = "UPDATE source SET lists_contents = ?1 WHERE lists_contents <> ?1";
        connection.prepare_cached(sql)?.execute([has_contents])?;
    }
    Ok(())
}

/// Stores the content of a document in place of an earlier one, unless the document is settled.
pub(super) fn store(
    connection: &Connection,
    document: DocumentRowId,
    content: &str,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO listed_contents (document, content)
             SELECT no, ?2 FROM documents WHERE no = ?1 AND status IN (0, 3)
             ON CONFLICT (document) DO UPDATE SET content = ?2 WHERE content <> ?2",
        )?
        .execute(params![document.0, content])?;
    Ok(())
}

/// Deletes the content of a document, if there is one.
pub(super) fn delete(connection: &Connection, document: DocumentRowId) -> rusqlite::Result<()> {
    let sql = "DELETE FROM listed_contents WHERE document = ?1";
    connection.prepare_cached(sql)?.execute([document.0])?;
    Ok(())
}

/// Reads the content of a document.
pub(super) fn read(
    connection: &Connection,
    document: DocumentRowId,
) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT content FROM listed_contents WHERE document = ?1";
    connection.prepare_cached(sql)?.query_row([document.0], |row| row.get(0)).optional()
}

/// True if a document has a content.
pub(super) fn contains(connection: &Connection, document: DocumentRowId) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM listed_contents WHERE document = ?1)";
    connection.prepare_cached(sql)?.query_row([document.0], |row| row.get(0))
}

/// True if no document has a content: those of most kinds of sources have none.
pub(super) fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT NOT EXISTS (SELECT 1 FROM listed_contents)";
    connection.prepare_cached(sql)?.query_row([], |row| row.get(0))
}
