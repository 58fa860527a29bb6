//! Ledger in memory that can be opened again, and its tables.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::{Connection, OpenFlags};

use crate::ledger::{Ledger, SqliteLedger};

/// Ledger in memory. It lasts as long as this or an opened ledger.
pub(in crate::ledger) struct SqliteHome {
    uri: String,
    tables: Connection,
}

impl SqliteHome {
    /// Cases of the laws in one run.
    pub(in crate::ledger) const LAW_CASES: u32 = 256;

    pub(in crate::ledger) fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let uri = format!("file:ledger-{number}?mode=memory&cache=shared");
        let tables = connect(&uri);
        Self { uri, tables }
    }

    pub(in crate::ledger) fn open(&self) -> Box<dyn Ledger> {
        let path = Path::new("memory");
        Box::new(SqliteLedger::from_connection(connect(&self.uri), path).unwrap())
    }

    /// Returns a text as the ledger keeps it.
    pub(in crate::ledger) fn kept_text(text: &str) -> String {
        text.to_owned()
    }

    /// Counts the listed contents of settled documents, and those of other blobs. The blob of a
    /// document is its content in the tests of the laws.
    pub(in crate::ledger) fn count_misplaced_contents(&self) -> i64 {
        let sql = "SELECT count(*) FROM listed_contents c JOIN documents d ON d.no = c.document
                   WHERE d.status NOT IN (0, 3) OR c.content <> d.blob";
        self.tables.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// True if a document is not settled and has no content.
    pub(in crate::ledger) fn lacks_content(&self, item: &str, document: &str) -> bool {
        let sql = "SELECT d.status IN (0, 3) AND c.content IS NULL FROM documents d
                   JOIN items i ON i.no = d.item LEFT JOIN listed_contents c ON c.document = d.no
                   WHERE i.id = ?1 AND d.id = ?2";
        self.tables.query_row(sql, [item, document], |row| row.get(0)).unwrap()
    }

    pub(in crate::ledger) fn recorded_blob(&self, item: &str, document: &str) -> String {
        let sql = "SELECT d.blob FROM documents d JOIN items i ON i.no = d.item
                   WHERE i.id = ?1 AND d.id = ?2";
        self.tables.query_row(sql, [item, document], |row| row.get(0)).unwrap()
    }
}

fn connect(uri: &str) -> Connection {
    Connection::open_with_flags(uri, OpenFlags::default() | OpenFlags::SQLITE_OPEN_URI).unwrap()
}
