//! Life cycle of a session: begun, listed again if a cursor was lost, completed.

use cynosure_engine::{Cursor, Failure, SessionId, Timestamp};
use rusqlite::{Connection, params};

use crate::ledger::error::LedgerError;
use crate::ledger::rows::{ListingKind, SessionKind, SessionRow, to_sql_integer};
use crate::ledger::{Ledger, LedgerReader, SessionCounts, failure_counts, responses};

/// Parameters of a new session.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NewSession {
    pub id: SessionId,
    pub kind: SessionKind,
    pub started_at: Timestamp,
    /// Cursor taken before a full listing.
    pub start_cursor: Option<Cursor>,
}

impl Ledger {
    /// Begins a session, and assigns the quarantined items that are due for a recheck to it.
    ///
    /// Beginning the session that is already open changes nothing.
    ///
    /// # Errors
    /// A ledger failure; also while another session is open.
    pub fn begin_session(&mut self, new_session: &NewSession) -> Result<(), Failure> {
        self.write("begin a session", |transaction| {
            if let Some(open) = SessionRow::open(transaction)? {
                if open.id == new_session.id {
                    return Ok(());
                }
                return Err(LedgerError::Inconsistent(format!("{} is still open", open.id)));
            }
            transaction.execute(
                "INSERT INTO sessions (id, kind, listing, started, pinned, is_listed)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    new_session.id.as_str(),
                    new_session.kind,
                    new_session.kind.initial_listing(),
                    new_session.started_at.0,
                    new_session.start_cursor.as_ref().map(Cursor::as_str),
                    new_session.kind == SessionKind::Recheck,
                ],
            )?;
            assign_due_items(transaction, transaction.last_insert_rowid(), new_session.started_at)
        })
    }

    /// Starts a full listing in the open session from the first page, as after an expired cursor.
    /// Items that are already listed stay listed.
    ///
    /// # Errors
    /// A ledger failure; also when no session is open.
    pub fn restart_listing(&mut self, start_cursor: Option<&Cursor>) -> Result<(), Failure> {
        self.write("restart the listing", |transaction| {
            let changed = transaction.execute(
                "UPDATE sessions SET listing = ?2, place = NULL, is_listed = 0, pinned = ?1
                 WHERE no = (SELECT max(no) FROM sessions) AND completed IS NULL",
                params![start_cursor.map(Cursor::as_str), ListingKind::Full],
            )?;
            require_open_session(changed)
        })
    }

    /// Resets the listing of the open session to its first page. The start cursor and what is
    /// listed stay.
    ///
    /// # Errors
    /// A ledger failure; also when no session is open.
    pub fn reset_page_token(&mut self) -> Result<(), Failure> {
        self.write("reset the listing to its first page", |transaction| {
            let changed = transaction.execute(
                "UPDATE sessions SET place = NULL
                 WHERE no = (SELECT max(no) FROM sessions) AND completed IS NULL",
                [],
            )?;
            require_open_session(changed)
        })
    }

    /// Starts a listing of the changes since the cursor in the open session, whose previous listing
    /// is complete, and assigns the quarantined items that are due for a recheck to it.
    ///
    /// # Errors
    /// A ledger failure; also when no session is open.
    pub fn start_changes_listing(&mut self, now: Timestamp) -> Result<(), Failure> {
        self.write("start the listing of changes", |transaction| {
            // The start cursor of an earlier listing is older than the cursor by now.
            let changed = transaction.execute(
                "UPDATE sessions SET listing = ?1, place = NULL, is_listed = 0, pinned = NULL
                 WHERE no = (SELECT max(no) FROM sessions) AND completed IS NULL",
                [ListingKind::Changes],
            )?;
            require_open_session(changed)?;
            let sql = "SELECT max(no) FROM sessions";
            let session = transaction.query_row(sql, [], |row| row.get(0))?;
            assign_due_items(transaction, session, now)
        })
    }

    /// Records the name of the open session's folder in the archive.
    ///
    /// # Errors
    /// A ledger failure; also when no session is open.
    pub fn set_session_folder(&mut self, folder: &str) -> Result<(), Failure> {
        self.write("record the session's folder", |transaction| {
            let changed = transaction.execute(
                "UPDATE sessions SET folder = ?1
                 WHERE no = (SELECT max(no) FROM sessions) AND completed IS NULL",
                [folder],
            )?;
            require_open_session(changed)
        })
    }

    /// Completes the open session if it is `id`, and returns the counts. A completed session stays
    /// as it is.
    ///
    /// # Errors
    /// A ledger failure; also while something is still to be listed or settled.
    pub fn complete_session(
        &mut self,
        id: &SessionId,
        now: Timestamp,
    ) -> Result<SessionCounts, Failure> {
        self.write("complete the session", |transaction| {
            let session = SessionRow::newest(transaction)?.filter(|session| session.id == *id);
            let Some(session) = session else {
                return Err(LedgerError::Inconsistent(format!("{id} is not the newest session")));
            };
            if session.completed_at.is_some() {
                return visible_counts(transaction);
            }
            let pending = session.counts.pending();
            if !session.is_listing_complete || pending > 0 {
                return Err(LedgerError::Inconsistent(format!(
                    "{pending} items are pending, or the listing is not complete"
                )));
            }
            transaction.execute(
                "UPDATE sessions SET completed = ?2 WHERE no = ?1",
                [session.row_id, now.0],
            )?;
            responses::delete_for_stored_items(transaction)?;
            failure_counts::delete_all(transaction)?;
            visible_counts(transaction)
        })
    }
}

impl LedgerReader {
    /// Reads the session that is not completed yet, if there is one.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn open_session(&self) -> Result<Option<SessionRow>, Failure> {
        self.read("read the session", |connection| Ok(SessionRow::open(connection)?))
    }

    /// Reads the newest session, open or completed.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn newest_session(&self) -> Result<Option<SessionRow>, Failure> {
        self.read("read the session", |connection| Ok(SessionRow::newest(connection)?))
    }

    /// Reads the counters of the newest session; all zero before the first. A reconcile session
    /// that has found nothing is skipped in favour of the session before it.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn session_counts(&self) -> Result<SessionCounts, Failure> {
        self.read("read the session", visible_counts)
    }

    /// Reads the cursor: the point in the stream of changes up to which everything is listed.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn cursor(&self) -> Result<Option<Cursor>, Failure> {
        self.read("read the cursor", |connection| {
            let sql = "SELECT cursor FROM source";
            let cursor = connection.query_row(sql, [], |row| row.get::<_, Option<String>>(0))?;
            Ok(cursor.map(Cursor::new))
        })
    }
}

fn visible_counts(connection: &Connection) -> Result<SessionCounts, LedgerError> {
    Ok(SessionRow::newest_visible(connection)?.map(|session| session.counts).unwrap_or_default())
}

/// Assigns the quarantined items that are due for a recheck to the session.
fn assign_due_items(
    connection: &Connection,
    session: i64,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let due = "SELECT no FROM items WHERE status = 3 AND next_at <= ?1";
    // Items of this session are already counted as listed and as quarantined.
    let already_counted = connection.query_row(
        "SELECT count(*) FROM items WHERE status = 3 AND next_at <= ?1 AND session = ?2",
        [now.0, session],
        |row| row.get::<_, i64>(0),
    )?;
    connection.execute(
        &format!("UPDATE documents SET status = 0 WHERE status = 3 AND item IN ({due})"),
        [now.0],
    )?;
    connection.execute(&format!("DELETE FROM trials WHERE item IN ({due})"), [now.0])?;
    let assigned = connection.execute(
        "UPDATE items SET status = 0, session = ?2, attempts = 0, next_at = 0, settled_at = NULL
         WHERE status = 3 AND next_at <= ?1",
        [now.0, session],
    )?;
    connection.execute(
        "UPDATE sessions SET listed = listed + ?2, quarantined = quarantined - ?3 WHERE no = ?1",
        [session, to_sql_integer(assigned as u64) - already_counted, already_counted],
    )?;
    Ok(())
}

fn require_open_session(changed_rows: usize) -> Result<(), LedgerError> {
    match changed_rows {
        0 => Err(LedgerError::Inconsistent("no session is open".to_owned())),
        _ => Ok(()),
    }
}
