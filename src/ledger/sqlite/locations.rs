//! Places of documents on the server: the folders in which they were listed.
//!
//! A source with numbered messages, such as IMAP, names places, at which a document is fetched. A
//! source may also name folders alone, for people and exports: their rows have 0 in place of the
//! numbers, and a fetch does not use them.

use std::collections::{BTreeMap, BTreeSet};

use cynosure_engine::{DocumentLocation, ListedDocument, VanishedMessages};
use rusqlite::{Connection, OptionalExtension, params};

use crate::ledger::DocumentRowId;
use crate::ledger::sqlite::error::LedgerError;
use crate::ledger::sqlite::rows::to_sql_integer;

/// Locations of one document that are returned. A document is fetched from the first at which it
/// still is; if it is at none of them, it is looked for at others next.
const LOCATIONS_MAX: usize = 16;

/// Locations of one document that are read, to choose from. Limited so that a server which gives
/// one id to everything costs no more than others.
const LOCATION_ROWS_MAX: usize = 1_024;

/// Numbered locations of one document; no message has the number 0 (RFC 9051 §9). The parameters
/// are expressions, because SQLite plans by the value of a bare one as a LIMIT, and would plan
/// again for every document. The order is that of the index from its end, because SQLite would sort
/// all of them for another one, whatever the LIMIT.
pub(super) const SELECT_LOCATIONS: &str = "SELECT f.name, l.uid_validity, l.uid
    FROM locations l JOIN folders f ON f.no = l.folder WHERE l.document = +?1 AND l.uid <> 0
    ORDER BY l.folder DESC, l.uid_validity DESC, l.uid DESC LIMIT +?2";

/// Deletes the locations of a document in the lower and in the higher numberings of a folder. Two
/// statements, because an index serves no `<>`. A folder without numbers stays.
pub(super) const DELETE_OTHER_NUMBERINGS: [&str; 2] = [
    "DELETE FROM locations
     WHERE document = ?1 AND folder = ?2 AND uid_validity < ?3 AND uid <> 0",
    "DELETE FROM locations WHERE document = ?1 AND folder = ?2 AND uid_validity > ?3",
];

/// Deletes the locations in a range of UIDs, except the last one of a document: each whose document
/// has another numbered location before the range, or after it in the order of the index.
///
/// The last UID is an expression, because SQLite uses all three columns of the index only if they
/// are not compared with another column.
pub(super) const DELETE_VANISHED: &str = "DELETE FROM locations
    WHERE folder = ?1 AND uid_validity = ?2 AND uid BETWEEN ?3 AND ?4
        AND (EXISTS (SELECT 1 FROM locations other
                     WHERE other.document = locations.document AND other.uid <> 0
                         AND (other.folder, other.uid_validity, other.uid) < (?1, ?2, ?3))
             OR EXISTS (SELECT 1 FROM locations other
                        WHERE other.document = locations.document AND other.uid <> 0
                            AND (other.folder, other.uid_validity, other.uid)
                                > (?1, ?2, +locations.uid)))";

/// Folders of one document without numbers, among its first locations. The parameters are
/// expressions, as those of [`SELECT_LOCATIONS`].
pub(super) const SELECT_UNNUMBERED: &str = "SELECT folder FROM
        (SELECT folder, uid_validity, uid FROM locations WHERE document = +?1 LIMIT +?2)
    WHERE uid_validity = 0 AND uid = 0";

pub(super) fn unnumbered_folders(
    connection: &Connection,
    document: DocumentRowId,
) -> Result<Vec<String>, LedgerError> {
    let sql = "SELECT name FROM folders WHERE no = ?1";
    let mut select_name = connection.prepare_cached(sql)?;
    let folders = select_unnumbered(connection, document)?.into_iter();
    let names = folders.map(|folder| select_name.query_row([folder], |row| row.get(0)));
    let mut names = names.collect::<Result<Vec<String>, _>>()?;
    names.sort_unstable();
    Ok(names)
}

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
        let is_new = self.connection.prepare_cached(sql)?.execute(values)? > 0;
        if is_new {
            // Another numbering of the folder is void (RFC 3501 §2.3.1.1).
            for sql in DELETE_OTHER_NUMBERINGS {
                let values = params![document.0, folder, uid_validity];
                self.connection.prepare_cached(sql)?.execute(values)?;
            }
        }
        Ok(is_new)
    }

    /// Records the names of all folders that contain a document, which have no numbers, in place
    /// of those recorded before. Without names nothing changes. Folders that are recorded already
    /// are not written again.
    pub(super) fn record_folders(
        &mut self,
        document: DocumentRowId,
        names: &[String],
    ) -> Result<(), LedgerError> {
        let mut missing = BTreeSet::new();
        for name in ListedDocument::kept_folders(names) {
            missing.insert(self.folder_row_id(name)?);
        }
        if missing.is_empty() {
            return Ok(());
        }
        for folder in select_unnumbered(self.connection, document)? {
            if !missing.remove(&folder) {
                let sql = "DELETE FROM locations
                           WHERE document = ?1 AND folder = ?2 AND uid_validity = 0 AND uid = 0";
                self.connection.prepare_cached(sql)?.execute([document.0, folder])?;
            }
        }
        for folder in missing {
            // It may be known, if the document has very many locations.
            let sql = "INSERT OR IGNORE INTO locations (document, folder, uid_validity, uid)
                       VALUES (?1, ?2, 0, 0)";
            self.connection.prepare_cached(sql)?.execute([document.0, folder])?;
        }
        Ok(())
    }

    /// Returns the row number of a folder. Adds the folder if it is not known.
    fn folder_row_id(&mut self, name: &str) -> Result<i64, LedgerError> {
        if let Some(row_id) = self.folders.get(name) {
            return Ok(*row_id);
        }
        let row_id = match find_folder(self.connection, name)? {
            Some(row_id) => row_id,
            None => {
                let sql = "INSERT INTO folders (name) VALUES (?1)";
                self.connection.prepare_cached(sql)?.execute([name])?;
                self.connection.last_insert_rowid()
            }
        };
        self.folders.insert(name.to_owned(), row_id);
        Ok(row_id)
    }
}

/// Reads the row numbers of the folders of a document that have no numbers.
fn select_unnumbered(
    connection: &Connection,
    document: DocumentRowId,
) -> rusqlite::Result<Vec<i64>> {
    let mut statement = connection.prepare_cached(SELECT_UNNUMBERED)?;
    let limit = to_sql_integer(LOCATION_ROWS_MAX as u64);
    let rows = statement.query_map([document.0, limit], |row| row.get(0))?;
    rows.collect()
}

/// Finds the row number of a folder.
fn find_folder(connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT no FROM folders WHERE name = ?1";
    connection.prepare_cached(sql)?.query_row([name], |row| row.get(0)).optional()
}

/// Deletes the locations at which no messages are any more.
///
/// The last location of a document stays. Only a fetch shows that a document is gone, and it needs
/// a place to look at.
pub(super) fn delete_vanished(
    connection: &Connection,
    vanished: &VanishedMessages,
) -> Result<(), LedgerError> {
    let VanishedMessages { folder, uid_validity, uids } = vanished;
    let Some(folder) = find_folder(connection, folder)? else { return Ok(()) };
    let mut delete = connection.prepare_cached(DELETE_VANISHED)?;
    for range in uids {
        delete.execute(params![folder, uid_validity, range.start(), range.end()])?;
    }
    Ok(())
}

/// Deletes locations at which a document was not found.
pub(super) fn delete_tried(
    connection: &Connection,
    document: DocumentRowId,
    tried: &[DocumentLocation],
) -> Result<(), LedgerError> {
    let sql = "DELETE FROM locations
               WHERE document = ?1 AND folder = (SELECT no FROM folders WHERE name = ?2)
                   AND uid_validity = ?3 AND uid = ?4";
    let mut delete = connection.prepare_cached(sql)?;
    for DocumentLocation { folder, uid_validity, uid } in tried {
        delete.execute(params![document.0, folder, uid_validity, uid])?;
    }
    Ok(())
}

/// Returns true if any document has a location, even one without numbers. A search for a numbered
/// one would read all rows of a source that has none.
pub(super) fn has_locations(connection: &Connection) -> Result<bool, LedgerError> {
    let mut statement = connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM locations)")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

/// Returns true if a document has a numbered location that is not in `tried`.
pub(super) fn has_untried_location(
    connection: &Connection,
    document: DocumentRowId,
    tried: &[DocumentLocation],
) -> Result<bool, LedgerError> {
    // Of one more than were tried, at least one was not.
    let locations = select_locations(connection, document, tried.len().saturating_add(1))?;
    Ok(locations.iter().any(|location| !tried.contains(location)))
}

/// Reads the numbered locations of a document, to be tried in this order: the newest of each
/// folder, then the second newest of each, and so on. So old ones of a folder hide none of another.
pub(super) fn read_locations(
    connection: &Connection,
    document: DocumentRowId,
) -> Result<Vec<DocumentLocation>, LedgerError> {
    let locations = select_locations(connection, document, LOCATION_ROWS_MAX)?;
    let mut ranked: Vec<(usize, DocumentLocation)> = Vec::with_capacity(locations.len());
    for location in locations {
        let rank = match ranked.last() {
            Some((rank, previous)) if previous.folder == location.folder => rank.saturating_add(1),
            Some(_) | None => 0,
        };
        ranked.push((rank, location));
    }
    // The oldest folder first. The sort is stable, so that the folders keep this order.
    ranked.reverse();
    ranked.sort_by_key(|(rank, _)| *rank);
    Ok(ranked.into_iter().map(|(_, location)| location).take(LOCATIONS_MAX).collect())
}

/// Reads at most `limit` numbered locations of a document, by folder, the newest folder first, and
/// in each the newest location.
fn select_locations(
    connection: &Connection,
    document: DocumentRowId,
    limit: usize,
) -> Result<Vec<DocumentLocation>, LedgerError> {
    let mut statement = connection.prepare_cached(SELECT_LOCATIONS)?;
    let rows = statement.query_map([document.0, to_sql_integer(limit as u64)], |row| {
        Ok(DocumentLocation { folder: row.get(0)?, uid_validity: row.get(1)?, uid: row.get(2)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
