//! The life of a session: begun, listed anew where a cursor was lost, finished.

use rusqlite::{Connection, params};

use crate::engine::{Cursor, Failure, SessionId, Timestamp};
use crate::ledger::failure::Trouble;
use crate::ledger::rows::{ListingKind, Session, SessionKind, as_integer};
use crate::ledger::{Ledger, Reader, Tally, replies, trials};

/// What a session begins with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SessionStart {
    pub id: SessionId,
    pub kind: SessionKind,
    pub started: Timestamp,
    /// Where the stream of changes stood before a full listing.
    pub pinned: Option<Cursor>,
}

impl Ledger {
    /// Begins a session, and takes on the quarantined items that are due for another look.
    ///
    /// Beginning the session that is open already changes nothing.
    ///
    /// # Errors
    /// A ledger failure; also while another session is open.
    pub fn begin(&mut self, start: &SessionStart) -> Result<(), Failure> {
        self.write("begin a session", |transaction| {
            if let Some(open) = Session::open(transaction)? {
                if open.id == start.id {
                    return Ok(());
                }
                return Err(Trouble::Unfit(format!("{} is still open", open.id)));
            }
            transaction.execute(
                "INSERT INTO sessions (id, kind, listing, started, pinned, is_listed)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    start.id.as_str(),
                    start.kind,
                    start.kind.listing(),
                    start.started.0,
                    start.pinned.as_ref().map(Cursor::as_str),
                    start.kind == SessionKind::Recheck,
                ],
            )?;
            take_on_due(transaction, transaction.last_insert_rowid(), start.started)
        })
    }

    /// Lists everything in the open session, from the beginning, as after an expired
    /// cursor. What it has listed so far stays listed.
    ///
    /// # Errors
    /// A ledger failure; also when no session is open.
    pub fn list_anew(&mut self, pinned: Option<&Cursor>) -> Result<(), Failure> {
        self.write("begin the listing anew", |transaction| {
            let changed = transaction.execute(
                "UPDATE sessions SET listing = ?2, place = NULL, is_listed = 0, pinned = ?1
                 WHERE no = (SELECT max(no) FROM sessions) AND completed IS NULL",
                params![pinned.map(Cursor::as_str), ListingKind::Everything],
            )?;
            expect_open(changed)
        })
    }

    /// Has the listing of the open session begin at its first page again; the pinned cursor and what
    /// is listed stay.
    ///
    /// # Errors
    /// A ledger failure; also when no session is open.
    pub fn forget_place(&mut self) -> Result<(), Failure> {
        self.write("begin the listing again", |transaction| {
            let changed = transaction.execute(
                "UPDATE sessions SET place = NULL
                 WHERE no = (SELECT max(no) FROM sessions) AND completed IS NULL",
                [],
            )?;
            expect_open(changed)
        })
    }

    /// Lists the changes since the cursor in the open session, whose listing had come to its end,
    /// and takes on the quarantined items that are due for another look.
    ///
    /// # Errors
    /// A ledger failure; also when no session is open.
    pub fn list_changes(&mut self, now: Timestamp) -> Result<(), Failure> {
        self.write("list the changes", |transaction| {
            // What was pinned before an earlier listing is behind the cursor by now.
            let changed = transaction.execute(
                "UPDATE sessions SET listing = ?1, place = NULL, is_listed = 0, pinned = NULL
                 WHERE no = (SELECT max(no) FROM sessions) AND completed IS NULL",
                [ListingKind::Changes],
            )?;
            expect_open(changed)?;
            let session = "SELECT max(no) FROM sessions";
            let session = transaction.query_row(session, [], |row| row.get(0))?;
            take_on_due(transaction, session, now)
        })
    }

    /// Writes down the name of the open session's folder in the archive.
    ///
    /// # Errors
    /// A ledger failure; also when no session is open.
    pub fn set_folder(&mut self, folder: &str) -> Result<(), Failure> {
        self.write("name the session's folder", |transaction| {
            let changed = transaction.execute(
                "UPDATE sessions SET folder = ?1
                 WHERE no = (SELECT max(no) FROM sessions) AND completed IS NULL",
                [folder],
            )?;
            expect_open(changed)
        })
    }

    /// Completes the open session, if it is `id`; a completed one stays as it is.
    ///
    /// # Errors
    /// A ledger failure; also while something is still to be listed or settled.
    pub fn finish(&mut self, id: &SessionId, now: Timestamp) -> Result<Tally, Failure> {
        self.write("complete the session", |transaction| {
            let session = Session::newest(transaction)?.filter(|session| session.id == *id);
            let Some(session) = session else {
                return Err(Trouble::Unfit(format!("{id} is not the newest session")));
            };
            if session.completed.is_some() {
                return shown(transaction);
            }
            let pending = session.tally.pending();
            if !session.is_listed || pending > 0 {
                return Err(Trouble::Unfit(format!(
                    "{pending} items are pending, or not all is listed"
                )));
            }
            transaction
                .execute("UPDATE sessions SET completed = ?2 WHERE no = ?1", [session.no, now.0])?;
            replies::forget_stored(transaction)?;
            trials::forget_all(transaction)?;
            shown(transaction)
        })
    }
}

impl Reader {
    /// Reads the session that is not completed yet, if there is one.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn open_session(&self) -> Result<Option<Session>, Failure> {
        self.read("read the session", |connection| Ok(Session::open(connection)?))
    }

    /// Reads the newest session, open or completed.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn newest_session(&self) -> Result<Option<Session>, Failure> {
        self.read("read the session", |connection| Ok(Session::newest(connection)?))
    }

    /// Reads the counters of the newest session; all zero before the first. One that lists everything
    /// once more and has found nothing leaves those of the session before it.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn tally(&self) -> Result<Tally, Failure> {
        self.read("read the session", shown)
    }

    /// Reads the point in the stream of changes up to which all is listed.
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

fn shown(connection: &Connection) -> Result<Tally, Trouble> {
    Ok(Session::shown(connection)?.map(|session| session.tally).unwrap_or_default())
}

/// Takes on the quarantined items that are due for another look.
fn take_on_due(connection: &Connection, session: i64, now: Timestamp) -> Result<(), Trouble> {
    let due = "SELECT no FROM items WHERE status = 3 AND next_at <= ?1";
    // Those of this very session were counted as listed, and as quarantined.
    let again = connection.query_row(
        "SELECT count(*) FROM items WHERE status = 3 AND next_at <= ?1 AND session = ?2",
        [now.0, session],
        |row| row.get::<_, i64>(0),
    )?;
    connection.execute(
        &format!("UPDATE documents SET status = 0 WHERE status = 3 AND item IN ({due})"),
        [now.0],
    )?;
    connection.execute(&format!("DELETE FROM trials WHERE item IN ({due})"), [now.0])?;
    let taken = connection.execute(
        "UPDATE items SET status = 0, session = ?2, attempts = 0, next_at = 0, settled_at = NULL
         WHERE status = 3 AND next_at <= ?1",
        [now.0, session],
    )?;
    connection.execute(
        "UPDATE sessions SET listed = listed + ?2, quarantined = quarantined - ?3 WHERE no = ?1",
        [session, as_integer(taken as u64) - again, again],
    )?;
    Ok(())
}

fn expect_open(changed: usize) -> Result<(), Trouble> {
    match changed {
        0 => Err(Trouble::Unfit("no session is open".to_owned())),
        _ => Ok(()),
    }
}
