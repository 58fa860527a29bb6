//! Places of documents on the server: the folders in which they were listed.

use std::collections::BTreeMap;

use cynosure_engine::DocumentLocation;
use rusqlite::{Connection, params};

use crate::ledger::error::LedgerError;
use crate::ledger::rows::DocumentRowId;

/// Locations of one document that are read. A document is fetched from the first at which it still
/// is, and one with many has nearly always one among these.
pub(super) const LOCATIONS_MAX: i64 = 16;

/// Locations of one document. The parameters are expressions, because SQLite plans by the value of
/// a bare one as a LIMIT, and would plan again for every document.
pub(super) const SELECT_LOCATIONS: &str = "SELECT f.name, l.uid_validity, l.uid
    FROM locations l JOIN folders f ON f.no = l.folder WHERE l.document = +?1
    ORDER BY l.folder, l.uid_validity DESC, l.uid DESC LIMIT +?2";

/// Recorder of the locations on one page.
pub(super) struct LocationRecorder<'a> {
    connection: &'a Connection,
    /// Row numbers of the folders on the page, by name.
    folders: BTreeMap<String, i64>,
}

impl<'a> LocationRecorder<'a> {
    pub(super) fn new(connection: &'a Connection) -> Self {
        Self { connection, folders: BTreeMap::new() }
    }

    /// Records a location of a document; returns true if it was not known. Recording one again
    /// changes nothing.
    pub(super) fn record(
        &mut self,
        document: DocumentRowId,
        location: &DocumentLocation,
    ) -> Result<bool, LedgerError> {
        let DocumentLocation { folder, uid_validity, uid } = location;
        let folder = self.folder_row_id(folder)?;
        let sql = "INSERT OR IGNORE INTO locations (document, folder, uid_validity, uid)
                   VALUES (?1, ?2, ?3, ?4)";
        let values = params![document.0, folder, uid_validity, uid];
        Ok(self.connection.prepare_cached(sql)?.execute(values)? > 0)
    }

    /// Returns the row number of a folder. Adds the folder if it is not known.
    fn folder_row_id(&mut self, name: &str) -> Result<i64, LedgerError> {
        if let Some(row_id) = self.folders.get(name) {
            return Ok(*row_id);
        }
        // Without an update of the row, it would not be returned.
        let sql = "INSERT INTO folders (name) VALUES (?1)
                   ON CONFLICT (name) DO UPDATE SET name = name RETURNING no";
        let row_id = self.connection.prepare_cached(sql)?.query_row([name], |row| row.get(0))?;
        self.folders.insert(name.to_owned(), row_id);
        Ok(row_id)
    }
}

/// Returns true if any document has a location: those of many kinds of sources have none.
pub(super) fn has_locations(connection: &Connection) -> Result<bool, LedgerError> {
    let mut statement = connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM locations)")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

/// Reads the locations of a document, by folder, the newest of each folder first.
pub(super) fn read_locations(
    connection: &Connection,
    document: DocumentRowId,
) -> Result<Vec<DocumentLocation>, LedgerError> {
    let mut statement = connection.prepare_cached(SELECT_LOCATIONS)?;
    let rows = statement.query_map([document.0, LOCATIONS_MAX], |row| {
        Ok(DocumentLocation { folder: row.get(0)?, uid_validity: row.get(1)?, uid: row.get(2)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
