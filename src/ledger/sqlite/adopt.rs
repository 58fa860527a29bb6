//! Rebuilds a ledger from the files of an archive.

use cynosure_engine::{BlobId, DocumentLocation, ItemId, SessionId, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use crate::ledger::sqlite::contents::index_content;
use crate::ledger::sqlite::error::LedgerError;
use crate::ledger::sqlite::item_state::find_item;
use crate::ledger::sqlite::labels;
use crate::ledger::sqlite::locations::LocationRecorder;
use crate::ledger::sqlite::rows::to_sql_integer;
use crate::ledger::{AdoptedDocument, AdoptionCounts, DocumentRowId, SessionKind};

/// Blob of an adopted document whose blob is unknown: no server has such an id. The next listing
/// sets the blob of a document with the same id and size.
pub(super) const UNKNOWN_BLOB: &str = "";

pub(super) fn adopt_folder(
    connection: &Connection,
    folder: &str,
    started: Timestamp,
    documents: &[AdoptedDocument],
) -> Result<AdoptionCounts, LedgerError> {
    connection.execute(
        "INSERT INTO sessions (id, kind, started, completed, folder, is_listed)
         VALUES (?1, ?2, ?3, ?3, ?4, 1)",
        params![
            SessionId::from_unix_seconds(started.unix_seconds()).as_str(),
            SessionKind::Full,
            started.0,
            folder
        ],
    )?;
    let session = connection.last_insert_rowid();
    let mut counts = AdoptionCounts::default();
    for document in documents {
        adopt_document(connection, session, started, document, &mut counts)?;
    }
    Ok(counts)
}

pub(super) fn rebuild_session_counts(connection: &Connection) -> Result<(), LedgerError> {
    connection.execute_batch(
        "CREATE TEMP TABLE adopted_items AS
             SELECT session, count(*) AS items FROM items GROUP BY session;
         CREATE TEMP TABLE adopted_documents AS
             SELECT session, count(*) AS documents, sum(length) AS bytes FROM
                 (SELECT session, length FROM documents
                  UNION ALL SELECT session, length FROM superseded)
             GROUP BY session;
         UPDATE sessions SET
             listed = coalesce((SELECT items FROM adopted_items a WHERE a.session = no), 0),
             documents = coalesce(
                 (SELECT documents FROM adopted_documents a WHERE a.session = no), 0),
             bytes = coalesce(
                 (SELECT bytes FROM adopted_documents a WHERE a.session = no), 0);
         UPDATE sessions SET stored = listed;
         DROP TABLE adopted_items;
         DROP TABLE adopted_documents;",
    )?;
    Ok(())
}

fn adopt_document(
    connection: &Connection,
    session: i64,
    at: Timestamp,
    adopted: &AdoptedDocument,
    counts: &mut AdoptionCounts,
) -> Result<(), LedgerError> {
    let item = adopt_item(connection, session, at, &adopted.item)?;
    let blob = adopted.blob.as_ref().map_or(UNKNOWN_BLOB, BlobId::as_str);
    let (size, length) = (adopted.size.map(to_sql_integer), to_sql_integer(adopted.length));
    let known = connection
        .prepare_cached("SELECT no, length, sha256 FROM documents WHERE item = ?1 AND id = ?2")?
        .query_row(params![item, adopted.document.as_str()], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, [u8; 32]>(2)?))
        })
        .optional()?;
    let Some((row_id, known_length, known_sha256)) = known else {
        let sql = "INSERT INTO documents
                       (item, id, blob, size, status, session, file, length, sha256)
                   VALUES (?1, ?2, ?3, ?4, 1, ?5, ?6, ?7, ?8)";
        connection.prepare_cached(sql)?.execute(params![
            item,
            adopted.document.as_str(),
            blob,
            size,
            session,
            adopted.file,
            length,
            adopted.sha256
        ])?;
        counts.documents += 1;
        let document = DocumentRowId(connection.last_insert_rowid());
        record_names(connection, document, adopted)?;
        return index_document(connection, document, adopted);
    };
    record_names(connection, DocumentRowId(row_id), adopted)?;
    if (known_length, known_sha256) == (length, adopted.sha256) {
        let sql = "UPDATE documents SET blob = ?2, size = ?3 WHERE no = ?1 AND blob = ?4";
        connection.prepare_cached(sql)?.execute(params![row_id, blob, size, UNKNOWN_BLOB])?;
        counts.copies += 1;
        return Ok(());
    }
    connection.execute(
        "INSERT INTO superseded (document, blob, size, session, file, length, sha256, at)
         SELECT no, blob, size, session, file, length, sha256, ?2 FROM documents WHERE no = ?1",
        [row_id, at.0],
    )?;
    connection.execute(
        "UPDATE documents SET blob = ?2, size = ?3, session = ?4, file = ?5, length = ?6,
                sha256 = ?7 WHERE no = ?1",
        params![row_id, blob, size, session, adopted.file, length, adopted.sha256],
    )?;
    counts.versions += 1;
    index_document(connection, DocumentRowId(row_id), adopted)
}

/// Records the labels and the folders of an adopted document.
fn record_names(
    connection: &Connection,
    document: DocumentRowId,
    adopted: &AdoptedDocument,
) -> Result<(), LedgerError> {
    labels::store(connection, document, &adopted.labels)?;
    LocationRecorder::new(connection).record_folders(document, &adopted.folders)
}

/// Assigns an item to the session, and adds it if it is not known. Returns its row number.
fn adopt_item(
    connection: &Connection,
    session: i64,
    at: Timestamp,
    id: &ItemId,
) -> Result<i64, LedgerError> {
    if let Some(item) = find_item(connection, id.as_str())? {
        let sql = "UPDATE items SET session = ?2 WHERE no = ?1";
        connection.prepare_cached(sql)?.execute([item.0, session])?;
        return Ok(item.0);
    }
    let sql = "INSERT INTO items (id, session, status, attempts, next_at, settled_at)
               VALUES (?1, ?2, 1, 0, 0, ?3)";
    let values = params![id.as_str(), session, at.0];
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(connection.last_insert_rowid())
}

/// Indexes the bytes of an adopted document that its location identifies, and records that
/// location. Then documents with the same bytes, which have no files of their own, are fetched and
/// not stored again.
fn index_document(
    connection: &Connection,
    document: DocumentRowId,
    adopted: &AdoptedDocument,
) -> Result<(), LedgerError> {
    let is_own_blob = |blob: &&BlobId| blob.as_str() == adopted.document.as_str();
    let location = adopted.blob.as_ref().filter(is_own_blob).and_then(DocumentLocation::from_blob);
    let Some(location) = location else { return Ok(()) };
    index_content(connection, &adopted.sha256, document)?;
    LocationRecorder::new(connection).record(document, &location)?;
    Ok(())
}
