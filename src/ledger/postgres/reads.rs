//! Questions of the worker: each is one statement, which reads one state of the ledger.
//!
//! Every statement names the source for each table, so that one partition of it is read.

use std::collections::BTreeSet;

use cynosure_engine::{
    AccountId, BlobId, Cursor, DocumentId, DocumentLocation, ItemFailureCounts, ItemId, LedgerId,
    Timestamp,
};
use serde::Deserialize;

use crate::database::{Database, DatabaseError, Parameter};
use crate::ledger::due_items::DUE_CONTENT_BYTES_MAX;
use crate::ledger::postgres::records::SessionRecord;
use crate::ledger::postgres::rows::{
    query_optional, query_rows, query_value, session_row, to_bigint,
};
use crate::ledger::postgres::storable::to_text;
use crate::ledger::{
    ArchiveTotals, DocumentFacts, DocumentRow, DocumentRowId, DueItem, DueLimits, FetchedContent,
    ItemRowId, LedgerIdentity, SessionCounts, SessionRow,
};

/// Rows at each end of the documents that are searched for known-good ones. During a listing the
/// stored documents are at its ends, and searching a million rows between them takes too long.
const KNOWN_GOOD_SEARCH_ROWS: i64 = 10_000;

/// Documents of one item that are returned at once. An item with more is returned again, so that a
/// thread of a million messages is never held in memory.
const DUE_DOCUMENTS_MAX: i64 = 512;

/// Newest session; without `$2` a reconcile session is skipped until it has listed an item.
const SELECT_SESSION: &str =
    "SELECT (to_jsonb(s) || jsonb_build_object('counts', to_jsonb(c)))::TEXT
    FROM cynosure.sessions s CROSS JOIN LATERAL cynosure.session_counts($1, s.no) c
    WHERE s.source = $1 AND ($2::BOOLEAN OR NOT (s.kind = 3 AND c.listed = 0))
    ORDER BY s.no DESC LIMIT 1";

/// Subquery of the numbered locations of the document `d`, to be tried in this order: the newest of
/// each folder, then the second newest of each, and so on. So old ones of a folder hide none of
/// another. No message has the number 0 (RFC 9051 §9).
///
/// At most 16 are returned: a document that is at none of them is looked for at others next. They
/// are chosen from at most 1,024, so that a server which gives one id to everything costs no more
/// than others.
macro_rules! numbered_locations {
    () => {
        "(SELECT coalesce(json_agg(json_build_array(r.name, r.uid_validity, r.uid)
                                   ORDER BY r.place, r.folder), '[]'::JSON)
        FROM (SELECT l.folder, f.name, l.uid_validity, l.uid,
                  row_number() OVER (PARTITION BY l.folder
                                     ORDER BY l.uid_validity DESC, l.uid DESC) AS place
              FROM (SELECT folder, uid_validity, uid FROM cynosure.locations
                    WHERE source = $1 AND document = d.no AND uid <> 0
                    ORDER BY folder DESC, uid_validity DESC, uid DESC LIMIT 1024) l
              JOIN cynosure.folders f ON f.source = $1 AND f.no = l.folder
              ORDER BY place, l.folder LIMIT 16) r)"
    };
}

/// Items that are due, with their pending documents. `next_at` is 0 for untried items and never
/// lower, so that they come first; `<=` in place of `=` lets only the index of the pending items
/// serve the order, whatever the statistics say. `no + 0` keeps an index of all documents from
/// serving the order of those of one item.
///
/// A document is left out if the contents before it have `$7` bytes already.
const SELECT_DUE: &str = concat!(
    "WITH oldest AS MATERIALIZED (
        SELECT no, id, attempts, next_at, failed_at FROM cynosure.items
        WHERE source = $1 AND status = 0 AND next_at <= 0 AND no <> ALL ($3::BIGINT[])
        ORDER BY next_at, no LIMIT $4::BIGINT
    ), newest AS MATERIALIZED (
        SELECT no, id, attempts, next_at, failed_at FROM cynosure.items
        WHERE source = $1 AND status = 0 AND next_at <= 0 AND no <> ALL ($3::BIGINT[])
            AND no > coalesce((SELECT max(no) FROM oldest), 0)
        ORDER BY next_at DESC, no DESC LIMIT $5::BIGINT
    ), retries AS MATERIALIZED (
        SELECT no, id, attempts, next_at, failed_at FROM cynosure.items
        WHERE source = $1 AND status = 0 AND next_at > 0 AND next_at <= $2::BIGINT
            AND no <> ALL ($3::BIGINT[])
        ORDER BY next_at, no LIMIT $6::BIGINT
    ), due AS MATERIALIZED (
        SELECT * FROM oldest UNION ALL SELECT * FROM newest UNION ALL SELECT * FROM retries
    ), pending AS MATERIALIZED (
        SELECT i.no AS item, p.no, p.id, p.blob, p.size, c.content,
            coalesce(sum(octet_length(c.content)) OVER (
                ORDER BY i.next_at, i.no, p.no
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS bytes_before
        FROM due i
        CROSS JOIN LATERAL (
            SELECT no, id, blob, size FROM cynosure.documents
            WHERE source = $1 AND item = i.no AND status = 0
            ORDER BY no + 0 LIMIT $8::BIGINT) p
        LEFT JOIN LATERAL (
            SELECT content FROM cynosure.listed_contents
            WHERE source = $1 AND document = p.no LIMIT 1) c ON TRUE
    ), loaded AS MATERIALIZED (
        SELECT d.item, json_agg(json_build_object(
            'no', d.no, 'id', d.id, 'blob', d.blob, 'size', d.size, 'content', d.content,
            'locations', ",
    numbered_locations!(),
    ") ORDER BY d.no) AS documents
        FROM pending d WHERE d.bytes_before < $7::BIGINT GROUP BY d.item
    )
    SELECT json_build_object(
        'no', i.no, 'id', i.id, 'next_at', i.next_at, 'attempts', i.attempts,
        'requests', coalesce(t.requests, 0), 'strikes', coalesce(t.strikes, 0),
        'since', coalesce(t.since, i.failed_at),
        'documents', coalesce(l.documents, '[]'::JSON))::TEXT
    FROM due i
    LEFT JOIN cynosure.trials t ON t.source = $1 AND t.item = i.no AND i.next_at > 0
    LEFT JOIN loaded l ON l.item = i.no
    ORDER BY i.next_at, i.no"
);

/// Stored documents whose numbers are among the `$2` lowest or highest, the smallest first. The
/// rows are taken from the ends of the index, because the planner takes a range of numbers that it
/// does not know for a third of the table.
const SELECT_KNOWN_GOOD: &str = concat!(
    "WITH newest AS MATERIALIZED (
        SELECT no, id, blob, size, length, status FROM cynosure.documents
        WHERE source = $1 ORDER BY no DESC LIMIT $2::BIGINT
    ), oldest AS MATERIALIZED (
        SELECT no, id, blob, size, length, status FROM cynosure.documents
        WHERE source = $1 ORDER BY no LIMIT $2::BIGINT
    ), smallest AS MATERIALIZED (
        SELECT no, id, blob, size, length FROM newest
        WHERE status = 1 AND no > (SELECT max(no) - $2::BIGINT FROM newest)
        UNION
        SELECT no, id, blob, size, length FROM oldest
        WHERE status = 1 AND no < (SELECT min(no) + $2::BIGINT FROM oldest)
        ORDER BY length, no DESC LIMIT $3::BIGINT
    )
    SELECT json_build_object('no', d.no, 'id', d.id, 'blob', d.blob, 'size', d.size,
        'locations', ",
    numbered_locations!(),
    ")::TEXT
    FROM smallest d ORDER BY d.length, d.no DESC"
);

/// Facts of documents, in the order of the parameters. The folders are those without numbers among
/// the first 1,024 locations of a document.
const SELECT_FACTS: &str = "SELECT json_build_object(
        'next_version', (SELECT count(*) + 1 FROM cynosure.superseded v
         WHERE v.source = $1 AND v.document = d.no),
        'labels', (SELECT coalesce(json_agg(json_build_array(b.name, b.value) ORDER BY b.name),
                                   '[]'::JSON)
         FROM cynosure.labels b WHERE b.source = $1 AND b.document = d.no),
        'folders', (SELECT coalesce(json_agg(f.name ORDER BY f.name), '[]'::JSON)
         FROM (SELECT folder, uid_validity, uid FROM cynosure.locations
               WHERE source = $1 AND document = d.no
               ORDER BY folder, uid_validity, uid LIMIT 1024) l
         JOIN cynosure.folders f ON f.source = $1 AND f.no = l.folder
         WHERE l.uid_validity = 0 AND l.uid = 0),
        'is_content_stored', EXISTS (SELECT 1 FROM cynosure.contents c
                JOIN cynosure.documents s ON s.source = $1 AND s.no = c.document
                WHERE c.source = $1 AND c.sha256 = d.sha256 AND s.status = 1
                    AND s.sha256 = d.sha256 AND s.length = d.length))::TEXT
    FROM unnest($2::BIGINT[], $3::BYTEA[], $4::BIGINT[])
        WITH ORDINALITY AS d (no, sha256, length, ordinal)
    ORDER BY d.ordinal";

/// True if the current version of a document, or an earlier one, is at a path of a folder.
const IS_STORED_AT: &str = "SELECT to_json(EXISTS (
        SELECT 1 FROM cynosure.items i
        JOIN cynosure.documents d ON d.source = $1 AND d.item = i.no
        WHERE i.source = $1 AND i.id = $2::TEXT AND d.id = $3::TEXT
            AND ((d.status = 1 AND d.file = $5::TEXT AND EXISTS (
                    SELECT 1 FROM cynosure.sessions s
                    WHERE s.source = $1 AND s.no = d.session AND s.folder = $4::TEXT))
                OR EXISTS (
                    SELECT 1 FROM cynosure.superseded v
                    JOIN cynosure.sessions s ON s.source = $1 AND s.no = v.session
                    WHERE v.source = $1 AND v.document = d.no AND v.file = $5::TEXT
                        AND s.folder = $4::TEXT))))::TEXT";

/// Item to fetch, as [`SELECT_DUE`] returns it.
#[derive(Debug, Deserialize)]
struct DueItemRecord {
    no: i64,
    id: String,
    /// 0 if it was never tried.
    next_at: i64,
    attempts: u32,
    requests: u32,
    strikes: u32,
    since: Option<i64>,
    documents: Vec<DueDocumentRecord>,
}

/// Document to fetch.
#[derive(Debug, Deserialize)]
struct DueDocumentRecord {
    no: i64,
    id: String,
    blob: String,
    size: Option<u64>,
    content: Option<String>,
    /// Folder, UIDVALIDITY and UID of each.
    locations: Vec<(String, u32, u32)>,
}

/// Row of [`SELECT_FACTS`].
#[derive(Debug, Deserialize)]
struct FactsRecord {
    next_version: u32,
    labels: Vec<(String, String)>,
    folders: Vec<String>,
    is_content_stored: bool,
}

pub(super) fn identity(database: &Database, source: i64) -> Result<LedgerIdentity, DatabaseError> {
    const SQL: &str = "SELECT json_build_array(ledger_id, account, EXISTS (
            SELECT 1 FROM cynosure.sessions s WHERE s.source = $1 AND s.folder IS NOT NULL))::TEXT
        FROM cynosure.sources WHERE no = $1";
    let (id, account, has_stored_documents): (Option<String>, Option<String>, bool) =
        query_value(database, SQL, vec![Box::new(source)])?;
    Ok(LedgerIdentity { id: id.map(LedgerId::new), account, has_stored_documents })
}

pub(super) fn bound_account(
    database: &Database,
    source: i64,
) -> Result<Option<AccountId>, DatabaseError> {
    const SQL: &str = "SELECT to_json(account)::TEXT FROM cynosure.sources WHERE no = $1";
    let account: Option<String> = query_value(database, SQL, vec![Box::new(source)])?;
    Ok(account.map(AccountId::new))
}

pub(super) fn cursor(database: &Database, source: i64) -> Result<Option<Cursor>, DatabaseError> {
    const SQL: &str = "SELECT to_json(cursor)::TEXT FROM cynosure.sources WHERE no = $1";
    let cursor: Option<String> = query_value(database, SQL, vec![Box::new(source)])?;
    Ok(cursor.map(Cursor::new))
}

pub(super) fn reconciled_at(
    database: &Database,
    source: i64,
) -> Result<Option<Timestamp>, DatabaseError> {
    const SQL: &str = "SELECT to_json(reconciled_at)::TEXT FROM cynosure.sources WHERE no = $1";
    let at: Option<i64> = query_value(database, SQL, vec![Box::new(source)])?;
    Ok(at.map(Timestamp))
}

pub(super) fn state_snapshot(
    database: &Database,
    source: i64,
) -> Result<Option<String>, DatabaseError> {
    const SQL: &str = "SELECT to_json(snapshot)::TEXT FROM cynosure.sources WHERE no = $1";
    query_value(database, SQL, vec![Box::new(source)])
}

pub(super) fn newest_session(
    database: &Database,
    source: i64,
) -> Result<Option<SessionRow>, DatabaseError> {
    let parameters: Vec<Parameter> = vec![Box::new(source), Box::new(true)];
    let session: Option<SessionRecord> = query_optional(database, SELECT_SESSION, parameters)?;
    session.map(session_row).transpose()
}

pub(super) fn session_counts(
    database: &Database,
    source: i64,
) -> Result<SessionCounts, DatabaseError> {
    let parameters: Vec<Parameter> = vec![Box::new(source), Box::new(false)];
    let session: Option<SessionRecord> = query_optional(database, SELECT_SESSION, parameters)?;
    Ok(session.map(|session| session.counts.into()).unwrap_or_default())
}

pub(super) fn archive_totals(
    database: &Database,
    source: i64,
) -> Result<ArchiveTotals, DatabaseError> {
    const SQL: &str = "SELECT json_build_array(coalesce(sum(documents), 0)::BIGINT,
            coalesce(sum(bytes), 0)::BIGINT)::TEXT
        FROM cynosure.tallies WHERE source = $1";
    let (documents, bytes) = query_value(database, SQL, vec![Box::new(source)])?;
    Ok(ArchiveTotals { documents, bytes })
}

pub(super) fn due_items(
    database: &Database,
    source: i64,
    now: Timestamp,
    limits: DueLimits,
    skip: &BTreeSet<ItemRowId>,
) -> Result<Vec<DueItem>, DatabaseError> {
    let found: Vec<DueItemRecord> = query_rows(
        database,
        SELECT_DUE,
        vec![
            Box::new(source),
            Box::new(now.0),
            Box::new(row_numbers(skip)),
            Box::new(to_bigint(limits.untried.div_ceil(2))),
            Box::new(to_bigint(limits.untried / 2)),
            Box::new(to_bigint(limits.retries)),
            Box::new(to_bigint(DUE_CONTENT_BYTES_MAX)),
            Box::new(DUE_DOCUMENTS_MAX),
        ],
    )?;
    let (mut items, mut bytes) = (Vec::with_capacity(found.len()), 0);
    for item in found {
        // The statement has left out the documents after the limit, but not their items.
        if bytes >= DUE_CONTENT_BYTES_MAX {
            break;
        }
        let contents = item.documents.iter().filter_map(|document| document.content.as_ref());
        bytes += contents.map(String::len).sum::<usize>();
        items.push(item.into());
    }
    Ok(items)
}

pub(super) fn next_due_at(
    database: &Database,
    source: i64,
    skip: &BTreeSet<ItemRowId>,
) -> Result<Option<Timestamp>, DatabaseError> {
    const SQL: &str = "SELECT to_json(next_at)::TEXT FROM cynosure.items
        WHERE source = $1 AND status = 0 AND no <> ALL ($2::BIGINT[])
        ORDER BY next_at, no LIMIT 1";
    let parameters: Vec<Parameter> = vec![Box::new(source), Box::new(row_numbers(skip))];
    Ok(query_optional(database, SQL, parameters)?.map(Timestamp))
}

pub(super) fn count_awaiting_retry(database: &Database, source: i64) -> Result<u64, DatabaseError> {
    const SQL: &str = "SELECT to_json(count(*))::TEXT FROM cynosure.items
        WHERE source = $1 AND status = 0 AND next_at > 0";
    query_value(database, SQL, vec![Box::new(source)])
}

pub(super) fn next_recheck_at(
    database: &Database,
    source: i64,
) -> Result<Option<Timestamp>, DatabaseError> {
    const SQL: &str = "SELECT to_json(next_at)::TEXT FROM cynosure.items
        WHERE source = $1 AND status = 3 ORDER BY next_at LIMIT 1";
    Ok(query_optional(database, SQL, vec![Box::new(source)])?.map(Timestamp))
}

pub(super) fn known_good_documents(
    database: &Database,
    source: i64,
    limit: usize,
) -> Result<Vec<DocumentRow>, DatabaseError> {
    let found: Vec<DueDocumentRecord> = query_rows(
        database,
        SELECT_KNOWN_GOOD,
        vec![Box::new(source), Box::new(KNOWN_GOOD_SEARCH_ROWS), Box::new(to_bigint(limit))],
    )?;
    Ok(found.into_iter().map(DocumentRow::from).collect())
}

pub(super) fn is_stored_at(
    database: &Database,
    source: i64,
    item: &ItemId,
    document: &DocumentId,
    folder: &str,
    file: &str,
) -> Result<bool, DatabaseError> {
    query_value(
        database,
        IS_STORED_AT,
        vec![
            Box::new(source),
            to_text(item.as_str()),
            to_text(document.as_str()),
            to_text(folder),
            to_text(file),
        ],
    )
}

pub(super) fn document_facts(
    database: &Database,
    source: i64,
    fetched: &[FetchedContent],
) -> Result<Vec<DocumentFacts>, DatabaseError> {
    let documents: Vec<i64> = fetched.iter().map(|content| content.document.0).collect();
    let identities = fetched.iter().map(|content| content.identity);
    let hashes: Vec<Option<Vec<u8>>> =
        identities.clone().map(|identity| identity.map(|(sha256, _)| sha256.to_vec())).collect();
    let to_length = |(_, length): ([u8; 32], u64)| i64::try_from(length).unwrap_or(i64::MAX);
    let lengths: Vec<Option<i64>> = identities.map(|identity| identity.map(to_length)).collect();
    let facts: Vec<FactsRecord> = query_rows(
        database,
        SELECT_FACTS,
        vec![Box::new(source), Box::new(documents), Box::new(hashes), Box::new(lengths)],
    )?;
    let facts = facts.into_iter().map(|record| {
        let FactsRecord { next_version, labels, folders, is_content_stored } = record;
        DocumentFacts { next_version, labels, folders, is_content_stored }
    });
    Ok(facts.collect())
}

fn row_numbers(items: &BTreeSet<ItemRowId>) -> Vec<i64> {
    items.iter().map(|item| item.0).collect()
}

impl From<DueItemRecord> for DueItem {
    fn from(record: DueItemRecord) -> Self {
        Self {
            row_id: ItemRowId(record.no),
            item: ItemId::new(record.id),
            is_retry: record.next_at > 0,
            failure_counts: ItemFailureCounts {
                failed_attempts: record.attempts,
                failed_requests: record.requests,
                strikes: record.strikes,
                failing_since: record.since.map(Timestamp),
            },
            documents: record.documents.into_iter().map(DocumentRow::from).collect(),
        }
    }
}

impl From<DueDocumentRecord> for DocumentRow {
    fn from(record: DueDocumentRecord) -> Self {
        let locations = record
            .locations
            .into_iter()
            .map(|(folder, uid_validity, uid)| DocumentLocation { folder, uid_validity, uid });
        Self {
            row_id: DocumentRowId(record.no),
            id: DocumentId::new(record.id),
            blob: BlobId::new(record.blob),
            size: record.size,
            locations: locations.collect(),
            content: record.content,
        }
    }
}
