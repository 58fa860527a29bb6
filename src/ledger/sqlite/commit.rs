//! Records the results of documents and items, a batch at a time.

use std::collections::BTreeSet;

use cynosure_engine::{BlobId, Failure, ItemFailureCounts, RecheckPolicy, Timestamp};
use rusqlite::{Connection, OptionalExtension, Params, params};

use crate::ledger::sqlite::contents::{find_content, index_content};
use crate::ledger::sqlite::error::LedgerError;
use crate::ledger::sqlite::item_state::OpenSession;
use crate::ledger::sqlite::locations::{LocationRecorder, delete_tried, has_untried_location};
use crate::ledger::sqlite::responses::ResponseOwner;
use crate::ledger::sqlite::rows::to_sql_integer;
use crate::ledger::sqlite::{failure_counts, listed_contents, responses};
use crate::ledger::{DocumentRowId, ItemRowId, LedgerUpdate};

/// Marks a pending document as stored, unless its content was replaced since its fetch began.
const MARK_STORED: &str = "UPDATE documents
    SET status = 1, session = ?2, file = ?3, length = ?4, sha256 = ?5, blob = ?6, size = ?7
    WHERE no = ?1 AND status = 0
        AND (blob = ?6 AND coalesce(size, ?4) = ?4 OR blob = ?8 AND blob <> ?6)
    RETURNING item";

/// Marks a pending document as gone, unless its content was replaced since its fetch began. Its
/// session is the one that found it gone: that does not fetch it again.
const MARK_GONE: &str = "UPDATE documents SET status = 2, session = ?3
    WHERE no = ?1 AND status = 0 AND blob = ?2 RETURNING item";

pub(super) fn commit(
    connection: &Connection,
    updates: &[LedgerUpdate],
    recheck: RecheckPolicy,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let mut session = OpenSession::load(connection)?;
    let mut maybe_settled = BTreeSet::new();
    for update in updates {
        maybe_settled.extend(apply_update(connection, &mut session, update, recheck, now)?);
    }
    session.settle_items(maybe_settled, recheck, now)?;
    session.write_counters()
}

/// Records one result; returns the item that may be settled by it.
fn apply_update(
    connection: &Connection,
    session: &mut OpenSession<'_>,
    update: &LedgerUpdate,
    recheck: RecheckPolicy,
    now: Timestamp,
) -> Result<Option<ItemRowId>, LedgerError> {
    match update {
        LedgerUpdate::Stored {
            document,
            expected_blob,
            fetched_blob: blob,
            size,
            file,
            length,
            sha256,
            is_identified_by_location,
            folders,
        } => {
            let bytes = FetchedBytes { expected_blob, blob, size: *size, length: *length, sha256 };
            let item = store_document(connection, session, *document, &bytes, file, now)?;
            if item.is_some() && *is_identified_by_location {
                index_content(connection, sha256, *document)?;
            }
            record_folders(connection, item, *document, folders)?;
            Ok(item)
        }
        LedgerUpdate::Copied {
            document,
            expected_blob,
            fetched_blob: blob,
            size,
            length,
            sha256,
            folders,
        } => {
            let bytes = FetchedBytes { expected_blob, blob, size: *size, length: *length, sha256 };
            let item = store_copy(connection, session, *document, &bytes)?;
            record_folders(connection, item, *document, folders)?;
            Ok(item)
        }
        LedgerUpdate::Gone { document, expected_blob, tried_locations } => {
            if has_untried_location(connection, *document, tried_locations)? {
                delete_tried(connection, *document, tried_locations)?;
                return Ok(None);
            }
            let values = params![document.0, expected_blob.as_str(), session.row.row_id];
            settle_pending(connection, *document, MARK_GONE, values)
        }
        LedgerUpdate::Failed { document, failure } => {
            fail_document(connection, *document, failure, now)
        }
        LedgerUpdate::Retry { item, failure_counts, next_attempt_at, failure } => {
            schedule_retry(connection, *item, failure_counts, *next_attempt_at, failure, now)?;
            Ok(None)
        }
        LedgerUpdate::Quarantined { item, failure } => {
            session.quarantine(*item, failure, recheck, now)?;
            Ok(None)
        }
    }
}

/// Records the folders that a fetch reported, if it settled its document.
fn record_folders(
    connection: &Connection,
    item: Option<ItemRowId>,
    document: DocumentRowId,
    folders: &[String],
) -> Result<(), LedgerError> {
    if item.is_some() {
        LocationRecorder::new(connection).record_folders(document, folders)?;
    }
    Ok(())
}

/// Fetched bytes of a document.
struct FetchedBytes<'a> {
    expected_blob: &'a BlobId,
    blob: &'a BlobId,
    size: Option<u64>,
    length: u64,
    sha256: &'a [u8; 32],
}

/// Records the file of a fetched document. If the source has replaced the content since the fetch
/// began, the fetched file is kept as an earlier version.
fn store_document(
    connection: &Connection,
    session: &mut OpenSession<'_>,
    document: DocumentRowId,
    fetched: &FetchedBytes<'_>,
    file: &str,
    now: Timestamp,
) -> Result<Option<ItemRowId>, LedgerError> {
    if session.row.folder.is_none() {
        return Err(LedgerError::Inconsistent("the session has no folder yet".to_owned()));
    }
    let FetchedBytes { expected_blob, blob, size, length, sha256 } = fetched;
    let (session_id, blob, length) = (session.row.row_id, blob.as_str(), to_sql_integer(*length));
    let size = size.map(to_sql_integer);
    let item = settle_pending(
        connection,
        document,
        MARK_STORED,
        params![document.0, session_id, file, length, sha256, blob, size, expected_blob.as_str()],
    )?;
    if item.is_some() {
        session.count_fetched(length);
        return Ok(item);
    }
    let inserted = connection.execute(
        "INSERT INTO superseded (document, blob, size, session, file, length, sha256, at)
         SELECT no, ?6, ?7, ?2, ?3, ?4, ?5, ?8 FROM documents
         WHERE no = ?1 AND (session IS NOT ?2 OR file IS NOT ?3)
           AND NOT EXISTS (SELECT 1 FROM superseded
                           WHERE document = ?1 AND session = ?2 AND file = ?3)",
        params![document.0, session_id, file, length, sha256, blob, size, now.0],
    )?;
    if inserted > 0 {
        session.count_fetched(length);
        session.count_superseded();
    }
    Ok(None)
}

/// Records a fetched document whose bytes are in the file of another one.
fn store_copy(
    connection: &Connection,
    session: &mut OpenSession<'_>,
    document: DocumentRowId,
    fetched: &FetchedBytes<'_>,
) -> Result<Option<ItemRowId>, LedgerError> {
    let FetchedBytes { expected_blob, blob, size, length, sha256 } = fetched;
    let Some(content) = find_content(connection, sha256, to_sql_integer(*length))? else {
        return Ok(None);
    };
    let item = settle_pending(
        connection,
        document,
        MARK_STORED,
        params![
            document.0,
            content.session,
            content.file,
            content.length,
            content.sha256,
            blob.as_str(),
            size.map(to_sql_integer),
            expected_blob.as_str()
        ],
    )?;
    if item.is_some() {
        session.count_fetched_copy(content.length);
    }
    Ok(item)
}

/// Records that a document cannot be fetched or processed.
fn fail_document(
    connection: &Connection,
    document: DocumentRowId,
    failure: &Failure,
    now: Timestamp,
) -> Result<Option<ItemRowId>, LedgerError> {
    let item = update_pending(
        connection,
        "UPDATE documents SET status = 3 WHERE no = ?1 AND status = 0 RETURNING item",
        [document.0],
    )?;
    if let Some(item) = item {
        connection.execute(
            "UPDATE items SET attempts = attempts + 1, cause = ?2, message = ?3,
                    failed_at = ?4 WHERE no = ?1",
            params![item.0, failure.cause.name(), failure.message, now.0],
        )?;
        responses::store_response(connection, ResponseOwner::Item(item), failure, now)?;
    }
    Ok(item)
}

/// Records a failed attempt of a pending item, and the time of the next one.
fn schedule_retry(
    connection: &Connection,
    item: ItemRowId,
    counts: &ItemFailureCounts,
    next_attempt_at: Timestamp,
    failure: &Failure,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let (cause, message) = (failure.cause.name(), &failure.message);
    let changed = connection.execute(
        "UPDATE items SET attempts = ?2, next_at = ?3, cause = ?4, message = ?5,
                failed_at = ?6
         WHERE no = ?1 AND status = 0",
        // 0 would mean that it was never tried.
        params![item.0, counts.failed_attempts, next_attempt_at.0.max(1), cause, message, now.0],
    )?;
    if changed > 0 {
        failure_counts::store(connection, item, counts)?;
        responses::store_response(connection, ResponseOwner::Item(item), failure, now)?;
    }
    Ok(())
}

/// Runs an update that settles a pending document, whose listed content is no longer needed then.
/// Returns its item, or `None` if it is no longer pending.
fn settle_pending(
    connection: &Connection,
    document: DocumentRowId,
    sql: &str,
    parameters: impl Params,
) -> Result<Option<ItemRowId>, LedgerError> {
    let item = update_pending(connection, sql, parameters)?;
    if item.is_some() {
        listed_contents::delete(connection, document)?;
    }
    Ok(item)
}

/// Runs an update of a pending document; returns its item, or `None` if it is no longer pending.
fn update_pending(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
) -> Result<Option<ItemRowId>, LedgerError> {
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row(parameters, |row| row.get(0).map(ItemRowId)).optional()?)
}
