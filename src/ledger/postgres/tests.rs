//! Tests of the ledger in PostgreSQL: those of every ledger, on a server that the test run starts.

use self::PostgresHome as LedgerHome;
use super::migrate;
use crate::database::{Database, DatabaseSettings, Row};
use crate::ledger::sqlite::tests::home::SqliteHome;
use crate::ledger::*;

#[path = "../tests/mod.rs"]
#[expect(clippy::duplicate_mod, reason = "the tests run for each kind of ledger")]
mod every_ledger;
#[path = "../proptests.rs"]
#[expect(clippy::duplicate_mod, reason = "the laws hold for each kind of ledger")]
mod proptests;

/// Environment variable with the URL of a database that tests may use.
const DATABASE_VARIABLE: &str = "TEST_DATABASE_URL";

/// Environment variable that forbids skipping.
const REQUIRE_VARIABLE: &str = "CYNOSURE_REQUIRE_REAL";

/// Source of its own in the database of the test run.
enum PostgresHome {
    Database {
        database: Database,
        source: String,
    },
    /// There is no database: the test counts as skipped, and uses SQLite.
    Skipped(SqliteHome),
}

impl PostgresHome {
    /// Cases of the laws in one run: each call is a round trip.
    const LAW_CASES: u32 = 48;

    fn new() -> Self {
        let Some(database) = test_database() else { return Self::Skipped(SqliteHome::new()) };
        let source = format!("{:032x}", fastrand::u128(..));
        Self::Database { database, source }
    }

    fn open(&self) -> Box<dyn Ledger> {
        match self {
            Self::Database { database, source } => {
                Box::new(PostgresLedger::open(database.clone(), source).unwrap())
            }
            Self::Skipped(home) => home.open(),
        }
    }

    /// Returns a text as the ledger keeps it. PostgreSQL has no character 0.
    fn kept_text(text: &str) -> String {
        text.replace('\0', "\u{fffd}")
    }

    fn count_misplaced_contents(&self) -> i64 {
        match self {
            Self::Database { .. } => self
                .query(
                    "SELECT count(*) FROM cynosure.listed_contents c
                     JOIN cynosure.documents d ON d.source = c.source AND d.no = c.document
                     WHERE c.source = (SELECT no FROM cynosure.sources WHERE name = $1)
                         AND (d.status NOT IN (0, 3) OR c.content <> d.blob)",
                    &[],
                )
                .get(0),
            Self::Skipped(home) => home.count_misplaced_contents(),
        }
    }

    fn lacks_content(&self, item: &str, document: &str) -> bool {
        match self {
            Self::Database { .. } => self
                .query(
                    "SELECT d.status IN (0, 3) AND c.content IS NULL FROM cynosure.documents d
                     JOIN cynosure.items i ON i.source = d.source AND i.no = d.item
                     LEFT JOIN cynosure.listed_contents c
                         ON c.source = d.source AND c.document = d.no
                     WHERE d.source = (SELECT no FROM cynosure.sources WHERE name = $1)
                         AND i.id = $2 AND d.id = $3",
                    &[item, document],
                )
                .get(0),
            Self::Skipped(home) => home.lacks_content(item, document),
        }
    }

    fn recorded_blob(&self, item: &str, document: &str) -> String {
        match self {
            Self::Database { .. } => self
                .query(
                    "SELECT d.blob FROM cynosure.documents d
                     JOIN cynosure.items i ON i.source = d.source AND i.no = d.item
                     WHERE d.source = (SELECT no FROM cynosure.sources WHERE name = $1)
                         AND i.id = $2 AND d.id = $3",
                    &[item, document],
                )
                .get(0),
            Self::Skipped(home) => home.recorded_blob(item, document),
        }
    }

    /// Returns the row that a query about the source finds.
    fn query(&self, sql: &'static str, texts: &[&str]) -> Row {
        let Self::Database { database, source } = self else { panic!("there is no database") };
        let texts = [source.as_str()].into_iter().chain(texts.iter().copied());
        let parameters = texts.map(|text| Box::new(text.to_owned()) as _).collect();
        database.query(sql, parameters).unwrap().remove(0)
    }
}

/// Returns the database of the test run, migrated; `None` if there is none.
pub(super) fn test_database() -> Option<Database> {
    let database = Database::open(DatabaseSettings::parse(&test_database_url()?).unwrap()).unwrap();
    migrate(&database).unwrap();
    Some(database)
}

/// Returns the URL of the database of the test run; `None` if there is none.
pub(super) fn test_database_url() -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "the test run names its database")]
    let variable = |name| std::env::var(name).ok();
    let url = variable(DATABASE_VARIABLE);
    if url.is_none() {
        assert!(variable(REQUIRE_VARIABLE).as_deref() != Some("1"), "there is no database");
        println!("SKIPPED: {DATABASE_VARIABLE} names no database; install postgresql");
    }
    url
}
