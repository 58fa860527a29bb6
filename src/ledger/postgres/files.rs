//! Questions about stored files: those of exports and of `verify`. Each is one statement, which
//! reads one state of the ledger.

use cynosure_engine::{DocumentId, ItemId, Timestamp};
use serde::Deserialize;

use crate::database::{Database, DatabaseError, Parameter};
use crate::ledger::postgres::rows::{
    deserialize_sha256, query_optional, query_rows, query_value, to_bigint,
};
use crate::ledger::postgres::storable::to_text;
use crate::ledger::{DocumentRowId, ExportDocument, ExportVersion, FileRowId, StoredFile};

/// Later documents of one blob that are compared with a document. Limited so that a server which
/// gives one blob id to everything costs no more than others.
const SAME_BLOB_ROWS_MAX: i64 = 16;

/// Documents of which any version is stored, after a row. One whose newest version is not fetched
/// yet has earlier ones only. The folders are those that the source named in full, such as the
/// labels of Gmail, or else those in which the document was listed.
const SELECT_EXPORT: &str = "WITH page AS MATERIALIZED (
        SELECT d.* FROM cynosure.documents d
        WHERE d.source = $1 AND d.no > $2::BIGINT AND d.no <= $3::BIGINT
            AND (d.status = 1 OR EXISTS (
                SELECT 1 FROM cynosure.superseded v
                WHERE v.source = $1 AND v.document = d.no))
            AND NOT (d.status = 1 AND EXISTS (
                SELECT 1 FROM
                    (SELECT no, id, session, file FROM cynosure.documents
                     WHERE source = $1 AND blob = d.blob AND status = 1 AND no > d.no
                     ORDER BY no LIMIT $5::BIGINT) later
                WHERE later.no <= $3::BIGINT AND later.id = d.id AND later.session = d.session
                    AND later.file = d.file))
        ORDER BY d.no LIMIT $4::BIGINT
    )
    SELECT json_build_object('no', d.no, 'item', i.id, 'document', d.id,
        'folders', (
            SELECT coalesce(json_agg(n.name ORDER BY n.name), '[]'::JSON)
            FROM (SELECT DISTINCT f.name FROM cynosure.locations l
                  JOIN cynosure.folders f ON f.source = $1 AND f.no = l.folder
                  WHERE l.source = $1 AND l.document = d.no AND (l.uid = 0 OR NOT EXISTS (
                      SELECT 1 FROM cynosure.locations other
                      WHERE other.source = $1 AND other.document = d.no
                          AND other.uid = 0))) n),
        'current', CASE WHEN d.status = 1 THEN json_build_object(
            'folder', coalesce(s.folder, ''), 'file', d.file, 'length', d.length,
            'sha256', encode(d.sha256, 'hex'), 'started', coalesce(s.started, 0)) END,
        'earlier', (
            SELECT coalesce(json_agg(json_build_object(
                'folder', coalesce(o.folder, ''), 'file', v.file, 'length', v.length,
                'sha256', encode(v.sha256, 'hex'), 'started', o.started)
                ORDER BY v.no DESC), '[]'::JSON)
            FROM cynosure.superseded v
            JOIN cynosure.sessions o ON o.source = $1 AND o.no = v.session
            WHERE v.source = $1 AND v.document = d.no))::TEXT
    FROM page d
    JOIN cynosure.items i ON i.source = $1 AND i.no = d.item
    LEFT JOIN cynosure.sessions s ON s.source = $1 AND s.no = d.session
    ORDER BY d.no";

const SELECT_STORED_FILE: &str = "SELECT json_build_object(
        'no', d.no, 'is_superseded', FALSE, 'item', i.id, 'document', d.id, 'folder', s.folder,
        'file', d.file, 'length', d.length, 'sha256', encode(d.sha256, 'hex'))::TEXT
    FROM cynosure.items i
    JOIN cynosure.documents d ON d.source = $1 AND d.item = i.no
    JOIN cynosure.sessions s ON s.source = $1 AND s.no = d.session
    WHERE i.source = $1 AND i.id = $2::TEXT AND d.id = $3::TEXT AND d.status = 1";

/// Stored files of current versions after `$2`, or, if there are none, of earlier ones after `$3`.
/// Earlier versions come last, so that one superseded between two calls is not missed.
const SELECT_STORED_FILES: &str = "WITH current AS MATERIALIZED (
        SELECT no, no AS document, session, file, length, sha256 FROM cynosure.documents
        WHERE source = $1 AND status = 1 AND no > $2::BIGINT ORDER BY no LIMIT $4::BIGINT
    ), earlier AS MATERIALIZED (
        SELECT no, document, session, file, length, sha256 FROM cynosure.superseded
        WHERE source = $1 AND no > $3::BIGINT AND NOT EXISTS (SELECT 1 FROM current)
        ORDER BY no LIMIT $4::BIGINT
    ), files AS (
        SELECT FALSE AS is_superseded, * FROM current
        UNION ALL SELECT TRUE AS is_superseded, * FROM earlier
    )
    SELECT json_build_object(
        'no', v.no, 'is_superseded', v.is_superseded, 'item', i.id, 'document', d.id,
        'folder', s.folder, 'file', v.file, 'length', v.length,
        'sha256', encode(v.sha256, 'hex'))::TEXT
    FROM files v
    JOIN cynosure.documents d ON d.source = $1 AND d.no = v.document
    JOIN cynosure.items i ON i.source = $1 AND i.no = d.item
    JOIN cynosure.sessions s ON s.source = $1 AND s.no = v.session
    ORDER BY v.no";

/// Row of [`SELECT_EXPORT`].
#[derive(Debug, Deserialize)]
struct ExportRecord {
    no: i64,
    item: String,
    document: String,
    folders: Vec<String>,
    current: Option<ExportVersionRecord>,
    earlier: Vec<ExportVersionRecord>,
}

#[derive(Debug, Deserialize)]
struct ExportVersionRecord {
    folder: String,
    file: String,
    length: u64,
    #[serde(deserialize_with = "deserialize_sha256")]
    sha256: [u8; 32],
    started: i64,
}

/// Row of [`SELECT_STORED_FILE`] and [`SELECT_STORED_FILES`].
#[derive(Debug, Deserialize)]
struct StoredFileRecord {
    no: i64,
    is_superseded: bool,
    item: String,
    document: String,
    folder: String,
    file: String,
    length: u64,
    #[serde(deserialize_with = "deserialize_sha256")]
    sha256: [u8; 32],
}

pub(super) fn newest_document(
    database: &Database,
    source: i64,
) -> Result<Option<DocumentRowId>, DatabaseError> {
    const SQL: &str = "SELECT to_json(max(no))::TEXT FROM cynosure.documents WHERE source = $1";
    let newest: Option<i64> = query_value(database, SQL, vec![Box::new(source)])?;
    Ok(newest.map(DocumentRowId))
}

pub(super) fn documents_to_export(
    database: &Database,
    source: i64,
    after: Option<DocumentRowId>,
    newest: Option<DocumentRowId>,
    limit: usize,
) -> Result<Vec<ExportDocument>, DatabaseError> {
    let parameters: Vec<Parameter> = vec![
        Box::new(source),
        Box::new(after.map_or(0, |row_id| row_id.0)),
        Box::new(newest.map_or(i64::MAX, |row_id| row_id.0)),
        Box::new(to_bigint(limit)),
        Box::new(SAME_BLOB_ROWS_MAX),
    ];
    let found: Vec<ExportRecord> = query_rows(database, SELECT_EXPORT, parameters)?;
    Ok(found.into_iter().map(ExportDocument::from).collect())
}

pub(super) fn has_files_with_extension(
    database: &Database,
    source: i64,
    extension: &str,
) -> Result<bool, DatabaseError> {
    const SQL: &str = "SELECT to_json(
            EXISTS (SELECT 1 FROM cynosure.documents
                    WHERE source = $1 AND status = 1 AND right(file, length($2::TEXT)) = $2)
            OR EXISTS (SELECT 1 FROM cynosure.superseded
                       WHERE source = $1 AND right(file, length($2::TEXT)) = $2))::TEXT";
    let parameters: Vec<Parameter> = vec![Box::new(source), to_text(&format!(".{extension}"))];
    query_value(database, SQL, parameters)
}

pub(super) fn stored_file(
    database: &Database,
    source: i64,
    item: &ItemId,
    document: &DocumentId,
) -> Result<Option<StoredFile>, DatabaseError> {
    let parameters: Vec<Parameter> =
        vec![Box::new(source), to_text(item.as_str()), to_text(document.as_str())];
    let found: Option<StoredFileRecord> = query_optional(database, SELECT_STORED_FILE, parameters)?;
    Ok(found.map(StoredFile::from))
}

pub(super) fn stored_files(
    database: &Database,
    source: i64,
    after: Option<FileRowId>,
    limit: usize,
) -> Result<Vec<StoredFile>, DatabaseError> {
    let (current, earlier) = match after {
        None => (0, 0),
        Some(FileRowId::Current(row_id)) => (row_id.0, 0),
        Some(FileRowId::Superseded(row_id)) => (i64::MAX, row_id),
    };
    let parameters: Vec<Parameter> =
        vec![Box::new(source), Box::new(current), Box::new(earlier), Box::new(to_bigint(limit))];
    let found: Vec<StoredFileRecord> = query_rows(database, SELECT_STORED_FILES, parameters)?;
    Ok(found.into_iter().map(StoredFile::from).collect())
}

pub(super) fn count_stored_items(database: &Database, source: i64) -> Result<u64, DatabaseError> {
    const SQL: &str = "SELECT to_json(count(*))::TEXT FROM (
            SELECT item FROM cynosure.documents WHERE source = $1 AND status = 1
            UNION
            SELECT d.item FROM cynosure.superseded v
            JOIN cynosure.documents d ON d.source = $1 AND d.no = v.document
            WHERE v.source = $1) stored";
    query_value(database, SQL, vec![Box::new(source)])
}

impl From<ExportRecord> for ExportDocument {
    fn from(record: ExportRecord) -> Self {
        let versions = record.current.into_iter().chain(record.earlier);
        Self {
            row_id: DocumentRowId(record.no),
            item: ItemId::new(record.item),
            document: DocumentId::new(record.document),
            folders: record.folders,
            versions: versions.map(ExportVersion::from).collect(),
        }
    }
}

impl From<ExportVersionRecord> for ExportVersion {
    fn from(record: ExportVersionRecord) -> Self {
        let ExportVersionRecord { folder, file, length, sha256, started } = record;
        let session_started_at = Timestamp(started);
        Self { session_folder: folder, file, length, sha256, session_started_at }
    }
}

impl From<StoredFileRecord> for StoredFile {
    fn from(record: StoredFileRecord) -> Self {
        let row_id = if record.is_superseded {
            FileRowId::Superseded(record.no)
        } else {
            FileRowId::Current(DocumentRowId(record.no))
        };
        Self {
            row_id,
            item: ItemId::new(record.item),
            document: DocumentId::new(record.document),
            folder: record.folder,
            file: record.file,
            length: record.length,
            sha256: record.sha256,
        }
    }
}
