//! Life cycle of a session: begun, listed again if a cursor was lost, completed.

use cynosure_engine::{Cursor, SessionId, Timestamp};
use rusqlite::{Connection, params};

use crate::ledger::sqlite::error::LedgerError;
use crate::ledger::sqlite::rows::to_sql_integer;
use crate::ledger::sqlite::{failure_counts, responses};
use crate::ledger::{ListingKind, NewSession, SessionCounts, SessionKind, SessionRow};

pub(super) fn begin_session(
    connection: &Connection,
    new_session: &NewSession,
) -> Result<(), LedgerError> {
    if let Some(open) = SessionRow::open(connection)? {
        if open.id == new_session.id {
            return Ok(());
        }
        return Err(LedgerError::Inconsistent(format!("{} is still open", open.id)));
    }
    connection.execute(
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
    assign_due_items(connection, connection.last_insert_rowid(), new_session.started_at)
}

pub(super) fn restart_listing(
    connection: &Connection,
    start_cursor: Option<&Cursor>,
) -> Result<(), LedgerError> {
    let changed = connection.execute(
        "UPDATE sessions SET listing = ?2, place = NULL, is_listed = 0, pinned = ?1
         WHERE no = (SELECT max(no) FROM sessions) AND completed IS NULL",
        params![start_cursor.map(Cursor::as_str), ListingKind::Full],
    )?;
    require_open_session(changed)
}

pub(super) fn reset_page_token(connection: &Connection) -> Result<(), LedgerError> {
    let changed = connection.execute(
        "UPDATE sessions SET place = NULL
         WHERE no = (SELECT max(no) FROM sessions) AND completed IS NULL",
        [],
    )?;
    require_open_session(changed)
}

pub(super) fn start_changes_listing(
    connection: &Connection,
    now: Timestamp,
) -> Result<(), LedgerError> {
    // The start cursor of an earlier listing is older than the cursor by now.
    let changed = connection.execute(
        "UPDATE sessions SET listing = ?1, place = NULL, is_listed = 0, pinned = NULL
         WHERE no = (SELECT max(no) FROM sessions) AND completed IS NULL",
        [ListingKind::Changes],
    )?;
    require_open_session(changed)?;
    let sql = "SELECT max(no) FROM sessions";
    let session = connection.query_row(sql, [], |row| row.get(0))?;
    assign_due_items(connection, session, now)
}

pub(super) fn set_session_folder(connection: &Connection, folder: &str) -> Result<(), LedgerError> {
    let changed = connection.execute(
        "UPDATE sessions SET folder = ?1
         WHERE no = (SELECT max(no) FROM sessions) AND completed IS NULL",
        [folder],
    )?;
    require_open_session(changed)
}

pub(super) fn complete_session(
    connection: &Connection,
    id: &SessionId,
    now: Timestamp,
) -> Result<SessionCounts, LedgerError> {
    let session = SessionRow::newest(connection)?.filter(|session| session.id == *id);
    let Some(session) = session else {
        return Err(LedgerError::Inconsistent(format!("{id} is not the newest session")));
    };
    if session.completed_at.is_some() {
        return visible_counts(connection);
    }
    let pending = session.counts.pending();
    if !session.is_listing_complete || pending > 0 {
        return Err(LedgerError::Inconsistent(format!(
            "{pending} items are pending, or the listing is not complete"
        )));
    }
    connection
        .execute("UPDATE sessions SET completed = ?2 WHERE no = ?1", [session.row_id, now.0])?;
    responses::delete_for_stored_items(connection)?;
    failure_counts::delete_all(connection)?;
    visible_counts(connection)
}

pub(super) fn newest_session(connection: &Connection) -> Result<Option<SessionRow>, LedgerError> {
    Ok(SessionRow::newest(connection)?)
}

pub(super) fn cursor(connection: &Connection) -> Result<Option<Cursor>, LedgerError> {
    let sql = "SELECT cursor FROM source";
    let cursor = connection.query_row(sql, [], |row| row.get::<_, Option<String>>(0))?;
    Ok(cursor.map(Cursor::new))
}

pub(super) fn visible_counts(connection: &Connection) -> Result<SessionCounts, LedgerError> {
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
