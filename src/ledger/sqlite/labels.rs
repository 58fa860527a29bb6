//! Labels of documents: names and values that a listing has of them, for people to read.

use cynosure_engine::{DocumentId, ItemId, truncate_to_bytes};
use rusqlite::{Connection, params};

use crate::ledger::sqlite::error::LedgerError;
use crate::ledger::{DocumentRowId, LabeledDocument};

/// Bytes of a value that are kept. A label is read by people and repeated in the manifest; what is
/// longer is a document.
const LABEL_BYTES_MAX: usize = 1024;

pub(super) fn labels(
    connection: &Connection,
    document: DocumentRowId,
) -> Result<Vec<(String, String)>, LedgerError> {
    let sql = "SELECT name, value FROM labels WHERE document = ?1 ORDER BY name";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([document.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn labeled_documents(
    connection: &Connection,
    item: &ItemId,
    limit: usize,
) -> Result<Vec<LabeledDocument>, LedgerError> {
    let sql = "SELECT d.id, l.name, l.value
        FROM documents d JOIN labels l ON l.document = d.no
        WHERE d.item = (SELECT no FROM items WHERE id = ?1) ORDER BY d.id, l.name";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([item.as_str()])?;
    let mut found: Vec<LabeledDocument> = Vec::new();
    while let Some(row) = rows.next()? {
        let document = DocumentId::new(row.get::<_, String>(0)?);
        if found.last().is_none_or(|last| last.document != document) {
            if found.len() == limit {
                break;
            }
            found.push(LabeledDocument { document, labels: Vec::new() });
        }
        if let Some(last) = found.last_mut() {
            last.labels.push((row.get(1)?, row.get(2)?));
        }
    }
    Ok(found)
}

/// Stores labels of a document. One that is not among them keeps its value, because each request of
/// a source may report other ones.
pub(super) fn store(
    connection: &Connection,
    document: DocumentRowId,
    labels: &[(String, String)],
) -> rusqlite::Result<()> {
    for (name, value) in labels {
        connection
            .prepare_cached(
                "INSERT INTO labels (document, name, value) VALUES (?1, ?2, ?3)
                 ON CONFLICT (document, name) DO UPDATE SET value = ?3 WHERE value <> ?3",
            )?
            .execute(params![document.0, name, truncate_to_bytes(value, LABEL_BYTES_MAX)])?;
    }
    Ok(())
}
