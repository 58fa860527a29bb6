//! Facts that decide on the files of fetched documents.

use rusqlite::Connection;

use crate::ledger::sqlite::contents::has_content;
use crate::ledger::sqlite::error::LedgerError;
use crate::ledger::sqlite::labels::labels;
use crate::ledger::sqlite::locations::unnumbered_folders;
use crate::ledger::{DocumentFacts, DocumentRowId, FetchedContent};

pub(super) fn document_facts(
    connection: &Connection,
    fetched: &[FetchedContent],
) -> Result<Vec<DocumentFacts>, LedgerError> {
    // Under one lock: locking for each takes longer than a short read.
    let snapshot = connection.unchecked_transaction()?;
    let facts = fetched.iter().map(|FetchedContent { document, identity }| {
        Ok(DocumentFacts {
            next_version: next_version(&snapshot, *document)?,
            labels: labels(&snapshot, *document)?,
            folders: unnumbered_folders(&snapshot, *document)?,
            is_content_stored: match identity {
                Some((sha256, length)) => has_content(&snapshot, sha256, *length)?,
                None => false,
            },
        })
    });
    facts.collect()
}

fn next_version(connection: &Connection, document: DocumentRowId) -> Result<u32, LedgerError> {
    let sql = "SELECT count(*) + 1 FROM superseded WHERE document = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row([document.0], |row| row.get(0))?)
}
