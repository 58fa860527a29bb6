//! Places of documents on the server: the folders in which they were listed.

use std::collections::BTreeMap;

use cynosure_engine::{DocumentLocation, VanishedMessages};
use rusqlite::{Connection, OptionalExtension, params};

use crate::ledger::error::LedgerError;
use crate::ledger::rows::{DocumentRowId, to_sql_integer};

/// Locations of one document that are returned. A document is fetched from the first at which it
/// still is; if it is at none of them, it is looked for at others next.
const LOCATIONS_MAX: usize = 16;

/// Locations of one document that are read, to choose from. Limited so that a server which gives
/// one id to everything costs no more than others.
const LOCATION_ROWS_MAX: usize = 1_024;

/// Locations of one document. The parameters are expressions, because SQLite plans by the value of
/// a bare one as a LIMIT, and would plan again for every document. The order is that of the index
/// from its end, because SQLite would sort all of them for another one, whatever the LIMIT.
pub(super) const SELECT_LOCATIONS: &str = "SELECT f.name, l.uid_validity, l.uid
    FROM locations l JOIN folders f ON f.no = l.folder WHERE l.document = +?1
    ORDER BY l.folder DESC, l.uid_validity DESC, l.uid DESC LIMIT +?2";

/// Deletes the locations of a document in the lower and in the higher numberings of a folder. Two
/// statements, because an index serves no `<>`.
pub(super) const DELETE_OTHER_NUMBERINGS: [&str; 2] = [
    "DELETE FROM locations WHERE document = ?1 AND folder = ?2 AND uid_validity < ?3",
    "DELETE FROM locations WHERE document = ?1 AND folder = ?2 AND uid_validity > ?3",
];

/// Deletes the locations in a range of UIDs, except the last one of a document: each whose document
/// has another location before the range, or after it in the order of the index.
///
/// The last UID is an expression, because SQLite uses all three columns of the index only if they
/// are not compared with another column.
pub(super) const DELETE_VANISHED: &str = "DELETE FROM locations
    WHERE folder = ?1 AND uid_validity = ?2 AND uid BETWEEN ?3 AND ?4
        AND (EXISTS (SELECT 1 FROM locations other
                     WHERE other.document = locations.document
                         AND (other.folder, other.uid_validity, other.uid) < (?1, ?2, ?3))
             OR EXISTS (SELECT 1 FROM locations other
                        WHERE other.document = locations.document
                            AND (other.folder, other.uid_validity, other.uid)
                                > (?1, ?2, +locations.uid)))";

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

/// Deletes the locations at which no messages are any more.
///
/// The last location of a document stays. Only a fetch shows that a document is gone, and it needs
/// a place to look at.
pub(super) fn delete_vanished(
    connection: &Connection,
    vanished: &VanishedMessages,
) -> Result<(), LedgerError> {
    let VanishedMessages { folder, uid_validity, uids } = vanished;
    let mut find_folder = connection.prepare_cached("SELECT no FROM folders WHERE name = ?1")?;
    let folder = find_folder.query_row([folder], |row| row.get::<_, i64>(0)).optional()?;
    let Some(folder) = folder else { return Ok(()) };
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

/// Returns true if any document has a location: those of many kinds of sources have none.
pub(super) fn has_locations(connection: &Connection) -> Result<bool, LedgerError> {
    let mut statement = connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM locations)")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

/// Returns true if a document has a location that is not in `tried`.
pub(super) fn has_untried_location(
    connection: &Connection,
    document: DocumentRowId,
    tried: &[DocumentLocation],
) -> Result<bool, LedgerError> {
    // Of one more than were tried, at least one was not.
    let locations = select_locations(connection, document, tried.len().saturating_add(1))?;
    Ok(locations.iter().any(|location| !tried.contains(location)))
}

/// Reads the locations of a document, to be tried in this order: the newest of each folder, then
/// the second newest of each, and so on. So old ones of a folder hide none of another.
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

/// Reads at most `limit` locations of a document, by folder, the newest folder first, and in each
/// the newest location.
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
