//! Reads the stored documents for an export, with their folders and all their versions.

use cynosure_engine::{DocumentId, ItemId, Timestamp};
use rusqlite::{Connection, Row};

use crate::ledger::sqlite::error::LedgerError;
use crate::ledger::sqlite::rows::{read_count, to_sql_integer};
use crate::ledger::{DocumentRowId, ExportDocument, ExportVersion};

/// Documents of which any version is stored, after a row. One whose newest version is not fetched
/// yet has earlier ones only.
const SELECT_DOCUMENTS: &str =
    "SELECT d.no, i.id AS item, d.id AS document, d.status = 1 AS is_stored,
            coalesce(s.folder, '') AS folder, d.file, d.length, d.sha256,
            coalesce(s.started, 0) AS started
    FROM documents d JOIN items i ON i.no = d.item LEFT JOIN sessions s ON s.no = d.session
    WHERE d.no > ?1 AND d.no <= ?2
        AND (d.status = 1 OR EXISTS (SELECT 1 FROM superseded v WHERE v.document = d.no))
        AND NOT (d.status = 1 AND EXISTS (
            SELECT 1 FROM
                (SELECT no, id, session, file FROM documents
                 WHERE blob = d.blob AND status = 1 AND no > d.no ORDER BY no LIMIT ?4) later
            WHERE later.no <= ?2 AND later.id = d.id AND later.session = d.session
                AND later.file = d.file))
    ORDER BY d.no LIMIT ?3";

/// Later documents of one blob that are compared with a document. Limited so that a server which
/// gives one blob id to everything costs no more than others.
const SAME_BLOB_ROWS_MAX: i64 = 16;

/// Earlier versions of a document, the newest first.
const SELECT_EARLIER_VERSIONS: &str =
    "SELECT coalesce(s.folder, '') AS folder, v.file, v.length, v.sha256, s.started
    FROM superseded v JOIN sessions s ON s.no = v.session
    WHERE v.document = ?1 ORDER BY v.no DESC";

/// Folders that the source named in full, such as the labels of Gmail, or else those in which the
/// document was listed.
const SELECT_FOLDERS: &str = "SELECT DISTINCT f.name
    FROM locations l JOIN folders f ON f.no = l.folder
    WHERE l.document = ?1
        AND (l.uid = 0 OR NOT EXISTS (SELECT 1 FROM locations other
                                      WHERE other.document = ?1 AND other.uid = 0))
    ORDER BY f.name";

pub(super) fn documents_to_export(
    connection: &Connection,
    after: Option<DocumentRowId>,
    newest: Option<DocumentRowId>,
    limit: usize,
) -> Result<Vec<ExportDocument>, LedgerError> {
    // One state of the ledger: a worker may replace a version between two reads.
    let transaction = connection.unchecked_transaction()?;
    let mut statement = transaction.prepare_cached(SELECT_DOCUMENTS)?;
    let after = after.map_or(0, |row_id| row_id.0);
    let newest = newest.map_or(i64::MAX, |row_id| row_id.0);
    let parameters = [after, newest, to_sql_integer(limit as u64), SAME_BLOB_ROWS_MAX];
    let rows = statement.query_map(parameters, ExportDocument::from_row)?;
    let mut documents = rows.collect::<Result<Vec<_>, _>>()?;
    for document in &mut documents {
        complete_document(&transaction, document)?;
    }
    Ok(documents)
}

pub(super) fn newest_document(
    connection: &Connection,
) -> Result<Option<DocumentRowId>, LedgerError> {
    let sql = "SELECT max(no) FROM documents";
    let row_id = connection.query_row(sql, [], |row| row.get::<_, Option<i64>>(0))?;
    Ok(row_id.map(DocumentRowId))
}

pub(super) fn has_files_with_extension(
    connection: &Connection,
    extension: &str,
) -> Result<bool, LedgerError> {
    let ending = format!(".{extension}");
    let sql = "SELECT EXISTS (SELECT 1 FROM documents
                              WHERE status = 1 AND substr(file, -length(?1)) = ?1)
                   OR EXISTS (SELECT 1 FROM superseded
                              WHERE substr(file, -length(?1)) = ?1)";
    Ok(connection.query_row(sql, [ending], |row| row.get(0))?)
}

impl ExportDocument {
    /// Reads a document with its current version only, if that is stored.
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let is_stored: bool = row.get("is_stored")?;
        let current = is_stored.then(|| ExportVersion::from_row(row)).transpose()?;
        Ok(Self {
            row_id: DocumentRowId(row.get("no")?),
            item: ItemId::new(row.get::<_, String>("item")?),
            document: DocumentId::new(row.get::<_, String>("document")?),
            folders: Vec::new(),
            versions: current.into_iter().collect(),
        })
    }
}

impl ExportVersion {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            session_folder: row.get("folder")?,
            file: row.get("file")?,
            length: read_count(row, "length")?,
            sha256: row.get("sha256")?,
            session_started_at: Timestamp(row.get("started")?),
        })
    }
}

/// Adds the earlier versions and the folders of a document.
fn complete_document(
    connection: &Connection,
    document: &mut ExportDocument,
) -> Result<(), LedgerError> {
    let mut statement = connection.prepare_cached(SELECT_EARLIER_VERSIONS)?;
    let rows = statement.query_map([document.row_id.0], ExportVersion::from_row)?;
    for version in rows {
        document.versions.push(version?);
    }
    let mut statement = connection.prepare_cached(SELECT_FOLDERS)?;
    let rows = statement.query_map([document.row_id.0], |row| row.get(0))?;
    document.folders = rows.collect::<Result<_, _>>()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::ledger::{AdoptedDocument, Ledger, LedgerReports, SqliteLedger};

    const FIRST: Timestamp = Timestamp(1_772_874_303_000);
    const SECOND: Timestamp = Timestamp(1_772_960_703_000);

    fn empty_ledger() -> SqliteLedger {
        let connection = Connection::open_in_memory().unwrap();
        SqliteLedger::from_connection(connection, Path::new("memory")).unwrap()
    }

    fn adopted(name: &str, file: &str, sha256: u8) -> AdoptedDocument {
        AdoptedDocument {
            item: ItemId::new("t"),
            document: DocumentId::new(name),
            blob: None,
            size: None,
            length: 4,
            sha256: [sha256; 32],
            file: file.to_owned(),
            labels: Vec::new(),
            folders: Vec::new(),
        }
    }

    /// Records that a document was seen in a folder, with numbers as a mail server has them.
    fn add_location(ledger: &SqliteLedger, document: i64, folder: &str, uid: i64) {
        let sql = "INSERT OR IGNORE INTO folders (name) VALUES (?1)";
        ledger.connection.execute(sql, [folder]).unwrap();
        let sql = "INSERT INTO locations (document, folder, uid_validity, uid)
                   SELECT ?1, no, ?3, ?3 FROM folders WHERE name = ?2";
        ledger.connection.execute(sql, (document, folder, uid)).unwrap();
    }

    fn names(documents: &[ExportDocument]) -> Vec<&str> {
        documents.iter().map(|document| document.document.as_str()).collect()
    }

    #[test]
    fn documents_are_read_page_by_page_in_the_order_of_their_rows() {
        let mut ledger = empty_ledger();
        assert!(ledger.documents_to_export(None, None, 9).unwrap().is_empty());
        assert_eq!(ledger.newest_document().unwrap(), None);
        let documents = ["c", "a", "b"].map(|name| adopted(name, &format!("t/{name}.eml"), 1));
        ledger.adopt_folder("one", FIRST, &documents).unwrap();

        let page = ledger.documents_to_export(None, None, 2).unwrap();
        let rest = ledger.documents_to_export(Some(page[1].row_id), None, 2).unwrap();

        assert_eq!((names(&page), names(&rest)), (vec!["c", "a"], vec!["b"]));
        assert_eq!(ledger.newest_document().unwrap(), Some(rest[0].row_id));
        assert!(ledger.documents_to_export(Some(rest[0].row_id), None, 2).unwrap().is_empty());
        let expected = ExportVersion {
            session_folder: "one".to_owned(),
            file: "t/c.eml".to_owned(),
            length: 4,
            sha256: [1; 32],
            session_started_at: FIRST,
        };
        assert_eq!(page[0].versions, [expected]);
    }

    #[test]
    fn every_version_is_returned_and_the_newest_comes_first() {
        let mut ledger = empty_ledger();
        ledger.adopt_folder("one", FIRST, &[adopted("a", "t/a.eml", 1)]).unwrap();
        ledger.adopt_folder("two", SECOND, &[adopted("a", "t/a.2.eml", 2)]).unwrap();
        ledger.adopt_folder("three", SECOND, &[adopted("a", "t/a.3.eml", 3)]).unwrap();

        let found = ledger.documents_to_export(None, None, 9).unwrap();

        let versions: Vec<_> = found[0]
            .versions
            .iter()
            .map(|version| (version.session_folder.as_str(), version.session_started_at))
            .collect();
        assert_eq!(versions, [("three", SECOND), ("two", SECOND), ("one", FIRST)]);
    }

    #[test]
    fn a_document_is_returned_with_what_is_stored_while_its_newest_version_is_not() {
        let mut ledger = empty_ledger();
        let documents = [adopted("a", "t/a.eml", 1), adopted("b", "t/b.eml", 1)];
        ledger.adopt_folder("one", FIRST, &documents).unwrap();
        ledger.adopt_folder("two", SECOND, &[adopted("a", "t/a.2.eml", 2)]).unwrap();
        let sql = "UPDATE documents SET status = 0, session = NULL, file = NULL, length = NULL,
                          sha256 = NULL";
        ledger.connection.execute(sql, []).unwrap();

        let found = ledger.documents_to_export(None, None, 9).unwrap();

        assert_eq!(names(&found), ["a"]);
        assert_eq!((found[0].versions.len(), found[0].versions[0].file.as_str()), (1, "t/a.eml"));
    }

    #[test]
    fn a_document_that_moved_to_another_item_is_returned_once() {
        let mut ledger = empty_ledger();
        let moved = AdoptedDocument { item: ItemId::new("u"), ..adopted("a", "t/a.eml", 1) };
        let other = AdoptedDocument { item: ItemId::new("v"), ..adopted("a", "v/a.eml", 2) };
        ledger.adopt_folder("one", FIRST, &[adopted("a", "t/a.eml", 1), moved, other]).unwrap();
        ledger.connection.execute("UPDATE documents SET blob = 'b'", []).unwrap();
        let rows = |newest: Option<i64>| {
            let found = ledger.documents_to_export(None, newest.map(DocumentRowId), 9).unwrap();
            found.iter().map(|document| document.row_id.0).collect::<Vec<_>>()
        };

        assert_eq!(rows(None), [2, 3]);
        assert_eq!(rows(Some(1)), [1], "the newer row is not exported");

        ledger.connection.execute("UPDATE documents SET status = 0 WHERE no = 2", []).unwrap();
        assert_eq!(rows(None), [1, 3], "the newer row is not stored");
    }

    #[test]
    fn each_folder_is_named_once_in_order() {
        let mut ledger = empty_ledger();
        let documents = [adopted("a", "t/a.eml", 1), adopted("b", "t/b.eml", 1)];
        ledger.adopt_folder("one", FIRST, &documents).unwrap();
        for (folder, uid) in [("Work", 7), ("INBOX", 3), ("INBOX", 4)] {
            add_location(&ledger, 1, folder, uid);
        }

        let found = ledger.documents_to_export(None, None, 9).unwrap();

        assert_eq!(found[0].folders, ["INBOX", "Work"]);
        assert_eq!(found[1].folders, [""; 0]);
    }

    #[test]
    fn folders_that_the_source_names_in_full_come_before_places() {
        let mut ledger = empty_ledger();
        ledger.adopt_folder("one", FIRST, &[adopted("a", "t/a.eml", 1)]).unwrap();
        for (folder, uid) in [("All Mail", 7), ("Work", 0), ("Inbox", 0)] {
            add_location(&ledger, 1, folder, uid);
        }

        let found = ledger.documents_to_export(None, None, 9).unwrap();

        assert_eq!(found[0].folders, ["Inbox", "Work"]);
    }

    #[test]
    fn a_stored_file_is_found_by_its_extension() {
        let mut ledger = empty_ledger();
        let documents = [adopted("a", "records.jsonl@0", 1), adopted("eml", "t/eml.json", 2)];
        ledger.adopt_folder("one", FIRST, &documents).unwrap();
        assert!(!ledger.has_files_with_extension("eml").unwrap());
        assert!(ledger.has_files_with_extension("json").unwrap());

        ledger.adopt_folder("two", SECOND, &[adopted("b", "t/b.eml", 1)]).unwrap();

        assert!(ledger.has_files_with_extension("eml").unwrap());
    }
}
