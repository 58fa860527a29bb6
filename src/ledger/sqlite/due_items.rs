//! Items and documents to be fetched next.

use std::collections::BTreeSet;

use cynosure_engine::{BlobId, DocumentId, ItemFailureCounts, ItemId, Timestamp};
use rusqlite::{Connection, Params, Row};

use crate::ledger::due_items::DUE_CONTENT_BYTES_MAX;
use crate::ledger::sqlite::error::LedgerError;
use crate::ledger::sqlite::listed_contents;
use crate::ledger::sqlite::locations::{has_locations, read_locations};
use crate::ledger::{DocumentRow, DocumentRowId, DueItem, DueLimits, ItemRowId};

/// Documents of one item that are returned at once. An item with more is returned again, so that a
/// thread of a million messages is never held in memory.
const DUE_DOCUMENTS_MAX: i64 = 512;

/// Pending documents of one item. The parameters are expressions, because SQLite plans by the value
/// of a bare one beside an ORDER BY or as a LIMIT, and would plan again for every item.
pub(super) const SELECT_PENDING: &str = "SELECT no, id, blob, size FROM documents
    WHERE item = +?1 AND status = 0 ORDER BY no LIMIT +?2";

/// Rows at each end of the documents that are searched for known-good ones. During a listing the
/// stored documents are at its ends, and searching a million rows between them takes too long.
const KNOWN_GOOD_SEARCH_ROWS: i64 = 10_000;

pub(super) fn due_items(
    connection: &Connection,
    now: Timestamp,
    limits: DueLimits,
    skip: &BTreeSet<ItemRowId>,
) -> Result<Vec<DueItem>, LedgerError> {
    const OLDEST_UNTRIED: &str =
        "SELECT no, id, attempts, failed_at AS since, 0 AS requests, 0 AS strikes
        FROM items WHERE status = 0 AND next_at = 0 ORDER BY no";
    const NEWEST_UNTRIED: &str =
        "SELECT no, id, attempts, failed_at AS since, 0 AS requests, 0 AS strikes
        FROM items WHERE status = 0 AND next_at = 0 ORDER BY no DESC";
    const RETRIES: &str = "SELECT no, id, attempts, coalesce(since, failed_at) AS since,
               coalesce(requests, 0) AS requests, coalesce(strikes, 0) AS strikes
        FROM items LEFT JOIN trials ON item = no
        WHERE status = 0 AND next_at > 0 AND next_at <= ?1 ORDER BY next_at, no";
    // In one transaction, because each statement would otherwise take and release the read lock.
    let transaction = connection.unchecked_transaction()?;
    let mut items = Vec::new();
    let oldest_max = limits.untried.div_ceil(2);
    append_due(&transaction, OLDEST_UNTRIED, [], oldest_max, skip, &mut items)?;
    let oldest_count = items.len();
    let excluded = skip.iter().copied().chain(items.iter().map(|due| due.row_id)).collect();
    append_due(&transaction, NEWEST_UNTRIED, [], limits.untried / 2, &excluded, &mut items)?;
    items[oldest_count..].reverse();
    let untried_count = items.len();
    append_due(&transaction, RETRIES, [now.0], limits.retries, skip, &mut items)?;
    items[untried_count..].iter_mut().for_each(|due| due.is_retry = true);
    for item in &mut items {
        item.documents = pending_documents(&transaction, item.row_id)?;
    }
    load_contents(&transaction, &mut items)?;
    let documents = items.iter_mut().flat_map(|item| item.documents.iter_mut());
    load_locations(&transaction, documents)?;
    Ok(items)
}

pub(super) fn next_due_at(
    connection: &Connection,
    skip: &BTreeSet<ItemRowId>,
) -> Result<Option<Timestamp>, LedgerError> {
    let mut pending = connection
        .prepare("SELECT no, next_at FROM items WHERE status = 0 ORDER BY next_at, no")?;
    let mut rows = pending.query([])?;
    while let Some(row) = rows.next()? {
        if !skip.contains(&ItemRowId(row.get(0)?)) {
            return Ok(Some(Timestamp(row.get(1)?)));
        }
    }
    Ok(None)
}

pub(super) fn known_good_documents(
    connection: &Connection,
    limit: usize,
) -> Result<Vec<DocumentRow>, LedgerError> {
    const SQL: &str = "SELECT no, id, blob, size FROM documents
        WHERE status = 1 AND (no > (SELECT max(no) - ?1 FROM documents)
            OR no < (SELECT min(no) + ?1 FROM documents))
        ORDER BY length, no DESC LIMIT ?2";
    let mut statement = connection.prepare_cached(SQL)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map([KNOWN_GOOD_SEARCH_ROWS, limit], read_document)?;
    let mut documents = rows.collect::<Result<Vec<_>, _>>()?;
    load_locations(connection, documents.iter_mut())?;
    Ok(documents)
}

pub(super) fn count_awaiting_retry(connection: &Connection) -> Result<u64, LedgerError> {
    let sql = "SELECT count(*) FROM items WHERE status = 0 AND next_at > 0";
    Ok(connection.query_row(sql, [], |row| row.get::<_, i64>(0))?.unsigned_abs())
}

/// Appends the items that a statement finds, up to `limit`.
fn append_due(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
    limit: usize,
    skip: &BTreeSet<ItemRowId>,
    items: &mut Vec<DueItem>,
) -> Result<(), LedgerError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    let length_max = items.len() + limit;
    while items.len() < length_max
        && let Some(row) = rows.next()?
    {
        let row_id = ItemRowId(row.get(0)?);
        if !skip.contains(&row_id) {
            let item = ItemId::new(row.get::<_, String>(1)?);
            let failure_counts = read_failure_counts(row)?;
            items.push(DueItem {
                row_id,
                item,
                is_retry: false,
                failure_counts,
                documents: Vec::new(),
            });
        }
    }
    Ok(())
}

fn read_failure_counts(row: &Row<'_>) -> rusqlite::Result<ItemFailureCounts> {
    Ok(ItemFailureCounts {
        failed_attempts: row.get("attempts")?,
        failed_requests: row.get("requests")?,
        strikes: row.get("strikes")?,
        failing_since: row.get::<_, Option<_>>("since")?.map(Timestamp),
    })
}

fn pending_documents(
    connection: &Connection,
    item: ItemRowId,
) -> Result<Vec<DocumentRow>, LedgerError> {
    let mut statement = connection.prepare_cached(SELECT_PENDING)?;
    let rows = statement.query_map([item.0, DUE_DOCUMENTS_MAX], read_document)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Loads the locations of documents. Reads none for each document if the ledger has none at all,
/// not even folders.
fn load_locations<'a>(
    connection: &Connection,
    documents: impl Iterator<Item = &'a mut DocumentRow>,
) -> Result<(), LedgerError> {
    if has_locations(connection)? {
        for document in documents {
            document.locations = read_locations(connection, document.row_id)?;
        }
    }
    Ok(())
}

/// Loads the listed contents of documents. Removes the documents and items after the one that
/// exceeds [`DUE_CONTENT_BYTES_MAX`]. Reads nothing for each document if there are no contents.
fn load_contents(connection: &Connection, items: &mut Vec<DueItem>) -> Result<(), LedgerError> {
    if listed_contents::is_empty(connection)? {
        return Ok(());
    }
    let (mut bytes, mut loaded_items) = (0, 0);
    for item in items.iter_mut() {
        if bytes >= DUE_CONTENT_BYTES_MAX {
            break;
        }
        let mut loaded_documents = 0;
        for document in &mut item.documents {
            if bytes >= DUE_CONTENT_BYTES_MAX {
                break;
            }
            document.content = listed_contents::read(connection, document.row_id)?;
            bytes += document.content.as_ref().map_or(0, String::len);
            loaded_documents += 1;
        }
        item.documents.truncate(loaded_documents);
        loaded_items += 1;
    }
    items.truncate(loaded_items);
    Ok(())
}

fn read_document(row: &Row<'_>) -> rusqlite::Result<DocumentRow> {
    Ok(DocumentRow {
        row_id: DocumentRowId(row.get(0)?),
        id: DocumentId::new(row.get::<_, String>(1)?),
        blob: BlobId::new(row.get::<_, String>(2)?),
        size: row.get::<_, Option<i64>>(3)?.map(i64::unsigned_abs),
        locations: Vec::new(),
        content: None,
    })
}
