//! Totals for people: what the archive holds, what each session stored, and what is missing.
//!
//! The totals are sums of the sessions' counters, because counting millions of documents takes
//! seconds. They count each file once, earlier versions of documents included: a document whose
//! bytes were stored before is a copy, which has no file and is not counted. A document that was
//! fetched again because its file was damaged counts twice.

use cynosure_engine::{Cause, Failure, Timestamp};

use crate::ledger::LedgerReader;
use crate::ledger::rows::{SessionRow, read_count};

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

/// Documents and bytes in the archive of a source, earlier versions included.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ArchiveTotals {
    pub documents: u64,
    pub bytes: u64,
}

/// Documents and bytes that one session stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SessionTotals {
    pub started_at: Timestamp,
    pub documents: u64,
    pub bytes: u64,
}

impl LedgerReader {
    /// Sums the sessions; adopted documents count too, because they belong to a session. Reads the
    /// row of each session.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn archive_totals(&self) -> Result<ArchiveTotals, Failure> {
        self.read("count the stored documents", |connection| {
            Ok(connection.query_row(SUM_SESSIONS, [], |row| {
                Ok(ArchiveTotals {
                    documents: read_count(row, "documents")?,
                    bytes: read_count(row, "bytes")?,
                })
            })?)
        })
    }

    /// Returns the sessions that started at `since` or later, oldest first. Reads from the newest
    /// session back to the first that started earlier.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn session_totals_since(&self, since: Timestamp) -> Result<Vec<SessionTotals>, Failure> {
        self.read("read the sessions", |connection| {
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
        })
    }

    /// Returns the number of folders in which documents were seen. 0 if the source names none.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn count_folders(&self) -> Result<u64, Failure> {
        self.read("count the folders", |connection| {
            Ok(connection.query_row(COUNT_FOLDERS, [], |row| row.get::<_, i64>(0))?.unsigned_abs())
        })
    }

    /// Returns the newest completed session, even if it found nothing.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn last_completed_session(&self) -> Result<Option<SessionRow>, Failure> {
        self.read("read the session", |connection| Ok(SessionRow::newest_completed(connection)?))
    }

    /// Returns the newest completed session that stored a document.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn last_session_with_documents(&self) -> Result<Option<SessionRow>, Failure> {
        self.read("read the session", |connection| {
            Ok(SessionRow::newest_with_documents(connection)?)
        })
    }

    /// Returns the number of items that were gone before they were fetched.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn count_gone_items(&self) -> Result<u64, Failure> {
        self.read("count the items", |connection| {
            let count = connection.query_row(COUNT_GONE_ITEMS, [], |row| row.get::<_, i64>(0))?;
            Ok(count.unsigned_abs())
        })
    }

    /// Returns the numbers of quarantined items by the cause of their last failure, the largest
    /// first. The cause is `None` if it is not recorded, or is that of another version.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn count_quarantined_items(&self) -> Result<Vec<(Option<Cause>, u64)>, Failure> {
        self.read("count the quarantined items", |connection| {
            let mut statement = connection.prepare(COUNT_QUARANTINED_BY_CAUSE)?;
            let rows = statement.query_map([], |row| {
                let cause = row.get::<_, Option<String>>("cause")?;
                Ok((cause.as_deref().and_then(Cause::from_name), read_count(row, "number")?))
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use cynosure_engine::SessionId;
    use rusqlite::{Connection, StatementStatus};

    use super::*;
    use crate::ledger::{Ledger, NewSession, SessionKind};

    fn ledger_in_memory() -> Ledger {
        let connection = Connection::open_in_memory().unwrap();
        Ledger::from_connection(connection, Path::new("memory")).unwrap()
    }

    /// Returns a ledger with this number of completed sessions. Session `n` started in second `n`
    /// and stored one document of `n` bytes.
    fn ledger_with_sessions(count: i64) -> Ledger {
        let ledger = ledger_in_memory();
        let sql = "WITH RECURSIVE numbers (n) AS
                       (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?1)
                   INSERT INTO sessions (id, kind, started, completed, is_listed, listed, stored,
                                         documents, bytes)
                   SELECT 'session_' || n, 1, n * 1000, n * 1000, 1, 1, 1, 1, n FROM numbers";
        ledger.connection.execute(sql, [count]).unwrap();
        ledger
    }

    fn insert(ledger: &Ledger, sql: &str) {
        ledger.connection.execute_batch(sql).unwrap();
    }

    fn query_plan(ledger: &Ledger, sql: &str) -> String {
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
        assert_eq!(ledger.last_completed_session().unwrap(), None);
        assert_eq!(ledger.last_session_with_documents().unwrap(), None);
        assert_eq!((ledger.count_folders().unwrap(), ledger.count_gone_items().unwrap()), (0, 0));
        assert!(ledger.count_quarantined_items().unwrap().is_empty());
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

        let last = ledger.last_completed_session().unwrap().unwrap();
        let with_documents = ledger.last_session_with_documents().unwrap().unwrap();

        assert_eq!((last.id.as_str(), last.completed_at), ("session_3", Some(Timestamp(3_000))));
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

        assert_eq!(ledger.count_folders().unwrap(), 2);
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

        let quarantined = ledger.count_quarantined_items().unwrap();

        assert_eq!(
            quarantined,
            [(Some(Cause::TooLarge), 2), (Some(Cause::Forbidden), 1), (None, 1)]
        );
        assert_eq!(ledger.count_gone_items().unwrap(), 1);
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
