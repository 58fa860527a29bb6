//! Queries of `verify`: locations of stored files, and consistency checks of the ledger.

use cynosure_engine::{DocumentId, ItemId};
use rusqlite::{Connection, OptionalExtension, params};

use crate::ledger::sqlite::error::LedgerError;
use crate::ledger::sqlite::rows::to_sql_integer;
use crate::ledger::{
    CounterCheck, DocumentRowId, FileRowId, ItemStatus, SessionRow, StatusCounts, StoredFile,
};

pub(super) fn stored_file(
    connection: &Connection,
    item: &ItemId,
    document: &DocumentId,
) -> Result<Option<StoredFile>, LedgerError> {
    let sql = format!("{SELECT_STORED} AND i.id = ?1 AND d.id = ?2");
    let parameters = params![item.as_str(), document.as_str()];
    Ok(connection.query_row(&sql, parameters, StoredFile::from_row).optional()?)
}

pub(super) fn is_stored_at(
    connection: &Connection,
    item: &ItemId,
    document: &DocumentId,
    folder: &str,
    file: &str,
) -> Result<bool, LedgerError> {
    let parameters = params![item.as_str(), document.as_str(), folder, file];
    let condition = "AND i.id = ?1 AND d.id = ?2 AND s.folder = ?3";
    let sql = format!(
        "SELECT EXISTS ({SELECT_STORED} {condition} AND d.file = ?4)
             OR EXISTS ({SELECT_SUPERSEDED} {condition} AND v.file = ?4)"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    Ok(statement.query_row(parameters, |row| row.get(0))?)
}

pub(super) fn stored_files(
    connection: &Connection,
    after: Option<FileRowId>,
    limit: usize,
) -> Result<Vec<StoredFile>, LedgerError> {
    let query = |sql: String, after: i64| -> Result<Vec<StoredFile>, LedgerError> {
        let mut statement = connection.prepare(&sql)?;
        let parameters = [after, to_sql_integer(limit as u64)];
        let rows = statement.query_map(parameters, StoredFile::from_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    };
    let superseded =
        |after| query(format!("{SELECT_SUPERSEDED} AND v.no > ?1 ORDER BY v.no LIMIT ?2"), after);
    let after = match after {
        None => 0,
        Some(FileRowId::Current(row_id)) => row_id.0,
        Some(FileRowId::Superseded(row_id)) => return superseded(row_id),
    };
    // Earlier versions come last, so that one superseded between two calls is not missed.
    let current = query(format!("{SELECT_STORED} AND d.no > ?1 ORDER BY d.no LIMIT ?2"), after)?;
    if current.is_empty() { superseded(0) } else { Ok(current) }
}

pub(super) fn count_stored_items(connection: &Connection) -> Result<u64, LedgerError> {
    let sql = "SELECT count(*) FROM (
        SELECT item FROM documents WHERE status = 1
        UNION SELECT d.item FROM superseded v JOIN documents d ON d.no = v.document)";
    Ok(connection.query_row(sql, [], |row| row.get::<_, i64>(0))?.unsigned_abs())
}

pub(super) fn check_counters(connection: &Connection) -> Result<CounterCheck, LedgerError> {
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
}

pub(super) fn check_integrity(connection: &Connection) -> Result<Vec<String>, LedgerError> {
    let mut errors = Vec::new();
    connection.pragma_query(None, "integrity_check", |row| {
        errors.push(row.get::<_, String>(0)?);
        Ok(())
    })?;
    errors.retain(|line| line != "ok");
    Ok(errors)
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
