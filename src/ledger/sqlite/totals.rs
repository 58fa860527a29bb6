//! Reads the totals for people.

use cynosure_engine::{Cause, Timestamp};
use rusqlite::Connection;

use crate::ledger::sqlite::error::LedgerError;
use crate::ledger::sqlite::rows::read_count;
use crate::ledger::{ArchiveTotals, LastSession, SessionRow, SessionTotals};

/// Sums the counters of all sessions.
const SUM_SESSIONS: &str = "SELECT coalesce(sum(documents), 0) AS documents,
        coalesce(sum(bytes), 0) AS bytes FROM sessions";

/// Reads the sessions from the newest on, in the order of the rows: there is no index of the times.
const SELECT_NEWEST_SESSIONS: &str =
    "SELECT started, documents, bytes FROM sessions ORDER BY no DESC";

/// Counts the folders that still contain a document.
const COUNT_FOLDERS: &str = "SELECT count(*) FROM folders
    WHERE EXISTS (SELECT 1 FROM locations WHERE locations.folder = folders.no)";

/// Counts the items that are gone. The partial index has only these.
const COUNT_GONE_ITEMS: &str = "SELECT count(*) FROM items WHERE status = 2";

/// Counts the quarantined items by cause. The partial index has only these.
const COUNT_QUARANTINED_BY_CAUSE: &str = "SELECT cause, count(*) AS number FROM items
    WHERE status = 3 GROUP BY cause ORDER BY number DESC, cause";

pub(super) fn last_session(connection: &Connection) -> Result<Option<LastSession>, LedgerError> {
    let snapshot = connection.unchecked_transaction()?;
    let Some(session) = SessionRow::newest_completed(&snapshot)? else { return Ok(None) };
    Ok(Some(LastSession {
        session,
        transfer: SessionRow::newest_with_documents(&snapshot)?,
        archive: archive_totals(&snapshot)?,
        folders: count_folders(&snapshot)?,
        gone_items: count_gone_items(&snapshot)?,
        quarantined_items: count_quarantined_items(&snapshot)?,
    }))
}

pub(super) fn archive_totals(connection: &Connection) -> Result<ArchiveTotals, LedgerError> {
    Ok(connection.query_row(SUM_SESSIONS, [], |row| {
        Ok(ArchiveTotals {
            documents: read_count(row, "documents")?,
            bytes: read_count(row, "bytes")?,
        })
    })?)
}

pub(super) fn session_totals_since(
    connection: &Connection,
    since: Timestamp,
) -> Result<Vec<SessionTotals>, LedgerError> {
    let mut statement = connection.prepare_cached(SELECT_NEWEST_SESSIONS)?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let started_at = Timestamp(row.get("started")?);
        if started_at < since {
            break;
        }
        found.push(SessionTotals {
            started_at,
            documents: read_count(row, "documents")?,
            bytes: read_count(row, "bytes")?,
        });
    }
    found.reverse();
    Ok(found)
}

fn count_folders(connection: &Connection) -> Result<u64, LedgerError> {
    Ok(connection.query_row(COUNT_FOLDERS, [], |row| row.get::<_, i64>(0))?.unsigned_abs())
}

fn count_gone_items(connection: &Connection) -> Result<u64, LedgerError> {
    let count = connection.query_row(COUNT_GONE_ITEMS, [], |row| row.get::<_, i64>(0))?;
    Ok(count.unsigned_abs())
}

fn count_quarantined_items(
    connection: &Connection,
) -> Result<Vec<(Option<Cause>, u64)>, LedgerError> {
    let mut statement = connection.prepare(COUNT_QUARANTINED_BY_CAUSE)?;
    let rows = statement.query_map([], |row| {
        let cause = row.get::<_, Option<String>>("cause")?;
        Ok((cause.as_deref().and_then(Cause::from_name), read_count(row, "number")?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use cynosure_engine::SessionId;
    use rusqlite::StatementStatus;

    use super::*;
    use crate::ledger::{
        Ledger, LedgerReader, LedgerReports, NewSession, SessionKind, SqliteLedger,
    };

    fn ledger_in_memory() -> SqliteLedger {
        let connection = Connection::open_in_memory().unwrap();
        SqliteLedger::from_connection(connection, Path::new("memory")).unwrap()
    }

    /// Returns a ledger with this number of completed sessions. Session `n` started in second `n`
    /// and stored one document of `n` bytes.
    fn ledger_with_sessions(count: i64) -> SqliteLedger {
        let ledger = ledger_in_memory();
        let sql = "WITH RECURSIVE numbers (n) AS
                       (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?1)
                   INSERT INTO sessions (id, kind, started, completed, is_listed, listed, stored,
                                         documents, bytes)
                   SELECT 'session_' || n, 1, n * 1000, n * 1000, 1, 1, 1, 1, n FROM numbers";
        ledger.connection.execute(sql, [count]).unwrap();
        ledger
    }

    fn insert(ledger: &SqliteLedger, sql: &str) {
        ledger.connection.execute_batch(sql).unwrap();
    }

    fn query_plan(ledger: &SqliteLedger, sql: &str) -> String {
        let sql = format!("EXPLAIN QUERY PLAN {sql}");
        let mut statement = ledger.connection.prepare(&sql).unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>("detail")).unwrap();
        rows.map(Result::unwrap).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn an_empty_ledger_has_totals_of_zero() {
        let ledger = ledger_in_memory();

        assert_eq!(ledger.archive_totals().unwrap(), ArchiveTotals::default());
        assert!(ledger.session_totals_since(Timestamp(0)).unwrap().is_empty());
        assert_eq!(ledger.last_session().unwrap(), None);
    }

    #[test]
    fn the_totals_are_the_sums_of_all_sessions() {
        let ledger = ledger_with_sessions(100_000);

        let totals = ledger.archive_totals().unwrap();

        assert_eq!((totals.documents, totals.bytes), (100_000, 5_000_050_000));
    }

    #[test]
    fn recent_sessions_are_read_without_the_older_ones() {
        let ledger = ledger_with_sessions(100_000);

        let recent = ledger.session_totals_since(Timestamp(99_998_000)).unwrap();

        let started: Vec<_> = recent.iter().map(|session| session.started_at.0).collect();
        assert_eq!(started, [99_998_000, 99_999_000, 100_000_000], "oldest first");
        assert_eq!((recent[2].documents, recent[2].bytes), (1, 100_000));
        let statement = ledger.connection.prepare_cached(SELECT_NEWEST_SESSIONS).unwrap();
        assert!(statement.get_status(StatementStatus::Run) > 0, "not the cached statement");
        let steps = statement.get_status(StatementStatus::VmStep);
        assert!(steps < 200, "{steps} steps for 3 of 100,000 sessions");
    }

    #[test]
    fn the_last_completed_session_may_have_stored_nothing() {
        let mut ledger = ledger_with_sessions(2);
        insert(
            &ledger,
            "INSERT INTO sessions (id, kind, started, completed, is_listed)
             VALUES ('session_3', 3, 3000, 3000, 1)",
        );
        let open = NewSession {
            id: SessionId::new("session_4"),
            kind: SessionKind::Changes,
            started_at: Timestamp(4_000),
            start_cursor: None,
        };
        ledger.begin_session(&open).unwrap();

        let last = ledger.last_session().unwrap().unwrap();

        let (session, with_documents) = (last.session, last.transfer.unwrap());
        assert_eq!(
            (session.id.as_str(), session.completed_at),
            ("session_3", Some(Timestamp(3_000)))
        );
        assert_eq!(with_documents.id.as_str(), "session_2");
        assert_eq!(with_documents.counts.bytes, 2);
    }

    #[test]
    fn folders_without_documents_are_not_counted() {
        let ledger = ledger_in_memory();
        insert(
            &ledger,
            "INSERT INTO folders (no, name) VALUES (1, 'INBOX'), (2, 'Sent'), (3, 'Empty');
             INSERT INTO locations (document, folder, uid_validity, uid)
             VALUES (1, 1, 7, 1), (2, 1, 7, 2), (2, 2, 0, 0);",
        );

        assert_eq!(count_folders(&ledger.connection).unwrap(), 2);
    }

    #[test]
    fn missing_items_are_counted_by_cause() {
        let ledger = ledger_in_memory();
        insert(
            &ledger,
            "INSERT INTO items (id, session, status, attempts, next_at, cause) VALUES
                 ('a', 1, 1, 0, 0, NULL), ('b', 1, 0, 1, 5, 'server'), ('c', 1, 2, 0, 0, NULL),
                 ('d', 1, 3, 1, 5, 'forbidden'), ('e', 1, 3, 1, 5, 'too_large'),
                 ('f', 1, 3, 1, 5, 'too_large'), ('g', 1, 3, 1, 5, 'of a newer version');",
        );

        let quarantined = count_quarantined_items(&ledger.connection).unwrap();

        assert_eq!(
            quarantined,
            [(Some(Cause::TooLarge), 2), (Some(Cause::Forbidden), 1), (None, 1)]
        );
        assert_eq!(count_gone_items(&ledger.connection).unwrap(), 1);
    }

    #[test]
    fn stored_items_are_not_read_to_count_missing_ones() {
        let ledger = ledger_in_memory();

        for (sql, index) in [
            (COUNT_GONE_ITEMS, "items_gone"),
            (COUNT_QUARANTINED_BY_CAUSE, "items_quarantined"),
            (COUNT_FOLDERS, "locations_uid (folder=?)"),
        ] {
            let plan = query_plan(&ledger, sql);
            assert!(plan.contains(index), "{plan}");
        }
    }
}
