//! Questions of commands and the dashboard: each is one statement, which reads one state of the
//! ledger.

use std::fmt::Display;

use cynosure_engine::{Cause, DocumentId, ItemId, RecordedResponse, SessionId, Timestamp};
use serde::Deserialize;

use crate::database::{Database, DatabaseError, Parameter};
use crate::ledger::limits::MISSING_ID_PREFIX;
use crate::ledger::postgres::records::{
    CounterRecord, ItemRecord, LastResponseRecord, SessionRecord,
};
use crate::ledger::postgres::rows::{
    item_status, query_optional, query_rows, query_value, session_row, to_bigint,
};
use crate::ledger::postgres::storable::to_text;
use crate::ledger::{
    ArchiveTotals, CounterCheck, FailureFilter, FailureRow, ItemStatus, LabeledDocument,
    LastSession, SessionCounts, SessionTotals, StatusCounts, StoredResponse, TransitionRow,
};

/// Lines that a check of the ledger returns for each kind of error.
const ERROR_LINES_MAX: i64 = 10;

/// Items that are not stored: first quarantined ones, then those that wait, then those gone.
const SELECT_FAILURES: &str = "WITH found AS MATERIALIZED (
        (SELECT 1 AS part, i.next_at AS position, i.* FROM cynosure.items i
         WHERE i.source = $1 AND i.status = 3 AND ($2::TEXT IS NULL OR i.cause = $2)
             AND ($3::BIGINT IS NULL OR coalesce(i.failed_at, i.settled_at) >= $3)
         ORDER BY i.next_at, i.no LIMIT $4::BIGINT)
        UNION ALL
        (SELECT 2 AS part, i.next_at AS position, i.* FROM cynosure.items i
         WHERE i.source = $1 AND i.status = 0 AND i.next_at > 0
             AND ($2::TEXT IS NULL OR i.cause = $2)
             AND ($3::BIGINT IS NULL OR coalesce(i.failed_at, i.settled_at) >= $3)
         ORDER BY i.next_at, i.no LIMIT $4::BIGINT)
        UNION ALL
        (SELECT 3 AS part, i.settled_at AS position, i.* FROM cynosure.items i
         WHERE i.source = $1 AND i.status = 2 AND ($2::TEXT IS NULL OR i.cause = $2)
             AND ($3::BIGINT IS NULL OR coalesce(i.failed_at, i.settled_at) >= $3)
         ORDER BY i.settled_at, i.no LIMIT $4::BIGINT)
    )
    SELECT json_build_object('item', row_to_json(i), 'response', (
        SELECT row_to_json(r) FROM cynosure.replies r
        WHERE r.source = $1 AND r.item = i.no))::TEXT
    FROM found i ORDER BY i.part, i.position, i.no LIMIT $4::BIGINT";

const SELECT_LAST_SESSION: &str = "WITH completed AS NOT MATERIALIZED (
        SELECT s.no, c.documents,
            to_jsonb(s) || jsonb_build_object('counts', to_jsonb(c)) AS session
        FROM cynosure.sessions s CROSS JOIN LATERAL cynosure.session_counts($1, s.no) c
        WHERE s.source = $1 AND s.completed IS NOT NULL
    )
    SELECT json_build_object(
        'session', (SELECT session FROM completed ORDER BY no DESC LIMIT 1),
        'transfer',
            (SELECT session FROM completed WHERE documents > 0 ORDER BY no DESC LIMIT 1),
        'archive', (SELECT json_build_array(coalesce(sum(documents), 0)::BIGINT,
                                            coalesce(sum(bytes), 0)::BIGINT)
                    FROM cynosure.tallies WHERE source = $1),
        'folders', (SELECT count(*) FROM cynosure.folders f CROSS JOIN LATERAL (
                        SELECT 1 FROM cynosure.locations l
                        WHERE l.source = $1 AND l.folder = f.no LIMIT 1) l
                    WHERE f.source = $1),
        'gone_items', (SELECT count(*) FROM cynosure.items WHERE source = $1 AND status = 2),
        'quarantined_items', (
            SELECT coalesce(json_agg(json_build_array(q.cause, q.number)
                                     ORDER BY q.number DESC, q.cause NULLS FIRST), '[]'::JSON)
            FROM (SELECT cause, count(*) AS number FROM cynosure.items
                  WHERE source = $1 AND status = 3 GROUP BY cause) q))::TEXT";

/// Counters of the newest session, and a count of its items by status.
const COMPARE_COUNTERS: &str = "SELECT json_build_array(to_json(c), (
        SELECT coalesce(json_agg(json_build_array(n.status, n.number)), '[]'::JSON)
        FROM (SELECT status, count(*) AS number FROM cynosure.items
              WHERE source = $1 AND session = s.no GROUP BY status) n))::TEXT
    FROM (SELECT no FROM cynosure.sessions WHERE source = $1 ORDER BY no DESC LIMIT 1) s
    CROSS JOIN LATERAL cynosure.session_counts($1, s.no) c";

/// Rows that refer to rows which do not exist. The server checks the pages and indexes itself. A
/// document that was listed and not found is a gone item without documents.
const SELECT_ERRORS: &str = "(SELECT to_json(format('row %s of documents has no item', d.no))::TEXT
     FROM cynosure.documents d
     WHERE d.source = $1 AND NOT EXISTS (
         SELECT 1 FROM cynosure.items i WHERE i.source = $1 AND i.no = d.item)
     ORDER BY d.no LIMIT $2::BIGINT)
    UNION ALL
    (SELECT to_json(format('row %s of items has no document', i.no))::TEXT
     FROM cynosure.items i
     WHERE i.source = $1 AND NOT (i.status = 2 AND starts_with(i.id, $3::TEXT))
         AND NOT EXISTS (
             SELECT 1 FROM cynosure.documents d WHERE d.source = $1 AND d.item = i.no)
     ORDER BY i.no LIMIT $2::BIGINT)
    UNION ALL
    (SELECT to_json(format('row %s of superseded has no document', v.no))::TEXT
     FROM cynosure.superseded v
     WHERE v.source = $1 AND NOT EXISTS (
         SELECT 1 FROM cynosure.documents d WHERE d.source = $1 AND d.no = v.document)
     ORDER BY v.no LIMIT $2::BIGINT)";

/// Transition, as the table has it.
#[derive(Debug, Deserialize)]
struct TransitionRecord {
    at: i64,
    from_state: String,
    to_state: String,
    reason: String,
    session: Option<String>,
}

/// Item with its last response.
#[derive(Debug, Deserialize)]
struct FailureRecord {
    item: ItemRecord,
    response: Option<LastResponseRecord>,
}

/// Answer of [`SELECT_LAST_SESSION`].
#[derive(Debug, Deserialize)]
struct LastSessionRecord {
    session: Option<SessionRecord>,
    transfer: Option<SessionRecord>,
    /// Documents and bytes.
    archive: (u64, u64),
    folders: u64,
    gone_items: u64,
    quarantined_items: Vec<(Option<String>, u64)>,
}

pub(super) fn transitions(
    database: &Database,
    source: i64,
    limit: usize,
) -> Result<Vec<TransitionRow>, DatabaseError> {
    const SQL: &str = "SELECT row_to_json(h)::TEXT FROM cynosure.history h
        WHERE h.source = $1 ORDER BY h.no DESC LIMIT $2::BIGINT";
    let parameters: Vec<Parameter> = vec![Box::new(source), Box::new(to_bigint(limit))];
    let found: Vec<TransitionRecord> = query_rows(database, SQL, parameters)?;
    let transitions = found.into_iter().map(|record| TransitionRow {
        at: Timestamp(record.at),
        from: record.from_state,
        to: record.to_state,
        reason: record.reason,
        session: record.session.map(SessionId::new),
    });
    Ok(transitions.collect())
}

pub(super) fn failures(
    database: &Database,
    source: i64,
    filter: FailureFilter,
    limit: usize,
) -> Result<Vec<FailureRow>, DatabaseError> {
    let parameters: Vec<Parameter> = vec![
        Box::new(source),
        Box::new(filter.cause.map(Cause::name)),
        Box::new(filter.since.map(|since| since.0)),
        Box::new(to_bigint(limit)),
    ];
    let found: Vec<FailureRecord> = query_rows(database, SELECT_FAILURES, parameters)?;
    found.into_iter().map(failure_row).collect()
}

pub(super) fn item_report(
    database: &Database,
    source: i64,
    item: &ItemId,
) -> Result<Option<FailureRow>, DatabaseError> {
    const SQL: &str = "SELECT json_build_object('item', row_to_json(i), 'response', (
            SELECT row_to_json(r) FROM cynosure.replies r
            WHERE r.source = $1 AND r.item = i.no))::TEXT
        FROM cynosure.items i WHERE i.source = $1 AND i.id = $2::TEXT";
    let parameters: Vec<Parameter> = vec![Box::new(source), to_text(item.as_str())];
    let found: Option<FailureRecord> = query_optional(database, SQL, parameters)?;
    found.map(failure_row).transpose()
}

pub(super) fn labeled_documents(
    database: &Database,
    source: i64,
    item: &ItemId,
    limit: usize,
) -> Result<Vec<LabeledDocument>, DatabaseError> {
    const SQL: &str = "SELECT json_build_array(d.id, (
            SELECT json_agg(json_build_array(b.name, b.value) ORDER BY b.name)
            FROM cynosure.labels b WHERE b.source = $1 AND b.document = d.no))::TEXT
        FROM (SELECT no, id FROM cynosure.documents o
              WHERE o.source = $1
                  AND o.item = (SELECT no FROM cynosure.items WHERE source = $1 AND id = $2::TEXT)
                  AND EXISTS (SELECT 1 FROM cynosure.labels b
                              WHERE b.source = $1 AND b.document = o.no)
              ORDER BY o.id LIMIT $3::BIGINT) d
        ORDER BY d.id";
    let parameters: Vec<Parameter> =
        vec![Box::new(source), to_text(item.as_str()), Box::new(to_bigint(limit))];
    let found: Vec<(String, Vec<(String, String)>)> = query_rows(database, SQL, parameters)?;
    let documents = found
        .into_iter()
        .map(|(document, labels)| LabeledDocument { document: DocumentId::new(document), labels });
    Ok(documents.collect())
}

pub(super) fn session_response(
    database: &Database,
    source: i64,
) -> Result<Option<StoredResponse>, DatabaseError> {
    const SQL: &str = "SELECT row_to_json(r)::TEXT FROM cynosure.replies r
        WHERE r.source = $1 AND r.item = 0";
    let found: Option<LastResponseRecord> = query_optional(database, SQL, vec![Box::new(source)])?;
    found.map(stored_response).transpose()
}

pub(super) fn last_session(
    database: &Database,
    source: i64,
) -> Result<Option<LastSession>, DatabaseError> {
    let found: LastSessionRecord =
        query_value(database, SELECT_LAST_SESSION, vec![Box::new(source)])?;
    let Some(session) = found.session else { return Ok(None) };
    let (documents, bytes) = found.archive;
    let quarantined_items = found.quarantined_items.into_iter();
    Ok(Some(LastSession {
        session: session_row(session)?,
        transfer: found.transfer.map(session_row).transpose()?,
        archive: ArchiveTotals { documents, bytes },
        folders: found.folders,
        gone_items: found.gone_items,
        quarantined_items: quarantined_items
            .map(|(cause, number)| (cause.as_deref().and_then(Cause::from_name), number))
            .collect(),
    }))
}

pub(super) fn session_totals_since(
    database: &Database,
    source: i64,
    since: Timestamp,
) -> Result<Vec<SessionTotals>, DatabaseError> {
    const SQL: &str = "SELECT json_build_array(s.started, c.documents, c.bytes)::TEXT
        FROM cynosure.sessions s CROSS JOIN LATERAL cynosure.session_counts($1, s.no) c
        WHERE s.source = $1 AND s.no > coalesce((
            SELECT o.no FROM cynosure.sessions o WHERE o.source = $1 AND o.started < $2::BIGINT
            ORDER BY o.no DESC LIMIT 1), 0)
        ORDER BY s.no";
    let parameters: Vec<Parameter> = vec![Box::new(source), Box::new(since.0)];
    let found: Vec<(i64, u64, u64)> = query_rows(database, SQL, parameters)?;
    let totals = found.into_iter().map(|(started, documents, bytes)| SessionTotals {
        started_at: Timestamp(started),
        documents,
        bytes,
    });
    Ok(totals.collect())
}

pub(super) fn session_folders(
    database: &Database,
    source: i64,
) -> Result<Vec<String>, DatabaseError> {
    const SQL: &str = "SELECT to_json(folder)::TEXT FROM cynosure.sessions
        WHERE source = $1 AND folder IS NOT NULL GROUP BY folder ORDER BY min(no)";
    query_rows(database, SQL, vec![Box::new(source)])
}

pub(super) fn lists_contents(database: &Database, source: i64) -> Result<bool, DatabaseError> {
    const SQL: &str = "SELECT to_json(lists_contents)::TEXT FROM cynosure.sources WHERE no = $1";
    query_value(database, SQL, vec![Box::new(source)])
}

pub(super) fn check_counters(
    database: &Database,
    source: i64,
) -> Result<CounterCheck, DatabaseError> {
    let found: Option<(CounterRecord, Vec<(u8, u64)>)> =
        query_optional(database, COMPARE_COUNTERS, vec![Box::new(source)])?;
    let Some((recorded, numbers)) = found else { return Ok(CounterCheck::default()) };
    let mut counted = StatusCounts::default();
    for (status, number) in numbers {
        match item_status(status)? {
            ItemStatus::Pending => counted.pending = number,
            ItemStatus::Stored => counted.stored = number,
            ItemStatus::Gone => counted.gone = number,
            ItemStatus::Quarantined => counted.quarantined = number,
        }
    }
    Ok(CounterCheck { recorded: SessionCounts::from(recorded).into(), counted })
}

pub(super) fn check_integrity(
    database: &Database,
    source: i64,
) -> Result<Vec<String>, DatabaseError> {
    let parameters: Vec<Parameter> =
        vec![Box::new(source), Box::new(ERROR_LINES_MAX), to_text(MISSING_ID_PREFIX)];
    query_rows(database, SELECT_ERRORS, parameters)
}

fn failure_row(record: FailureRecord) -> Result<FailureRow, DatabaseError> {
    let FailureRecord { item, response } = record;
    let status = item_status(item.status)?;
    let next_at = Timestamp(item.next_at);
    Ok(FailureRow {
        item: ItemId::new(item.id),
        status,
        attempts: to_number(item.attempts)?,
        next_attempt_at: (status != ItemStatus::Gone).then_some(next_at),
        cause: item.cause.as_deref().and_then(Cause::from_name),
        message: item.message.unwrap_or_default(),
        failed_at: item.failed_at.map(Timestamp),
        quarantine_count: to_number(item.quarantines)?,
        last_response: response.map(stored_response).transpose()?,
    })
}

fn stored_response(record: LastResponseRecord) -> Result<StoredResponse, DatabaseError> {
    let response = RecordedResponse {
        status: to_number(record.status)?,
        // Headers that cannot be parsed are no reason to hide the rest of the response.
        headers: serde_json::from_str(&record.headers).unwrap_or_default(),
        body: record.body,
        is_truncated: record.is_cut,
    };
    Ok(StoredResponse { at: Timestamp(record.at), response })
}

/// Converts a number to a narrower type.
fn to_number<N, T: TryFrom<N>>(number: N) -> Result<T, DatabaseError>
where
    T::Error: Display,
{
    T::try_from(number).map_err(|error| DatabaseError::unexpected(error.to_string()))
}
