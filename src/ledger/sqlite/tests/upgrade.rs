//! Migration of ledgers of every older schema version, without loss of data.

use std::collections::BTreeMap;

use cynosure_engine::RecordedResponse;

use super::*;

const VERSION_1: &str = include_str!("../../../../tests/fixtures/ledger-1.sql");

/// A session in the middle of its downloads, and one that is completed.
const VERSION_2: [&str; 2] = [
    include_str!("../../../../tests/fixtures/state-1/ledger-downloading.sql"),
    include_str!("../../../../tests/fixtures/state-1/ledger-completed.sql"),
];

#[test]
fn a_version_1_ledger_is_migrated() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("ledger.sqlite");
    Connection::open(&path).unwrap().execute_batch(VERSION_1).unwrap();
    let error = SqliteLedger::open_read_only(&path).unwrap_err().to_string();
    assert!(error.contains("run the worker once, which brings it up to date"), "{error}");

    let mut ledger = SqliteLedger::open(&path).unwrap();

    assert!(ledger.check_counters().unwrap().is_consistent());
    assert_eq!(ledger.check_integrity().unwrap(), [""; 0]);
    let found = ledger.failures(FailureFilter::default(), 9).unwrap();
    let rows: Vec<_> = found
        .iter()
        .map(|row| (row.item.as_str(), row.quarantine_count, row.failed_at.map(|at| at.0)))
        .collect();
    assert_eq!(
        rows,
        [
            ("forbidden", 1, Some(1_772_874_304_000)),
            ("broken", 1, Some(1_772_874_305_000)),
            ("gone", 0, None),
        ]
    );
    let now = found[0].next_attempt_at.unwrap();
    begin_session(&mut ledger, "session_2", SessionKind::Recheck, now);
    assert_eq!(describe_items(&due_items(&ledger, now)), ["forbidden: m3"]);
    let response = RecordedResponse {
        status: 403,
        headers: Vec::new(),
        body: "no".to_owned(),
        is_truncated: false,
    };
    let failure = Failure::new(Cause::Forbidden, "403").with_response(response);
    let failed = LedgerUpdate::Failed { document: due_row_id(&ledger, "m3"), failure };
    ledger.commit(&[failed], RecheckPolicy { interval: DAY, max_interval: 7 * DAY }, now).unwrap();
    let row = SqliteLedger::open_read_only(&path)
        .unwrap()
        .unwrap()
        .item_report(&ItemId::new("forbidden"));
    let row = row.unwrap().unwrap();
    assert_eq!(row.next_attempt_at, Some(now.after(2 * DAY)), "it was quarantined once before");
    assert_eq!(row.last_response.map(|stored| stored.response.body).as_deref(), Some("no"));
}

#[test]
fn a_version_2_ledger_is_migrated_without_loss() {
    for text in VERSION_2 {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("ledger.sqlite");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch(text).unwrap();
        let columns = column_names(&connection);
        let before = table_rows(&connection, &columns);
        assert_eq!(before.len(), 6, "its tables");
        drop(connection);

        let ledger = SqliteLedger::open(&path).unwrap();

        assert!(ledger.check_counters().unwrap().is_consistent());
        assert_eq!(ledger.check_integrity().unwrap(), [""; 0]);
        drop(ledger);
        assert_eq!(table_rows(&Connection::open(&path).unwrap(), &columns), before);
        let reader = SqliteLedger::open_read_only(&path).unwrap().unwrap();
        assert!(
            reader.state_snapshot().unwrap().is_some_and(|json| json.contains("\"schema\": 1"))
        );
    }
}

#[test]
fn a_version_3_ledger_is_migrated() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("ledger.sqlite");
    let mut ledger = SqliteLedger::open(&path).unwrap();
    begin_session(&mut ledger, "session_1", SessionKind::Full, NOW);
    record_page(&mut ledger, &["a/1"]);
    let to_version_3 = "DROP TABLE labels; DROP TABLE listed_contents;
        ALTER TABLE source DROP COLUMN lists_contents; PRAGMA user_version = 3;";
    ledger.connection.execute_batch(to_version_3).unwrap();
    drop(ledger);

    let ledger = SqliteLedger::open(&path).unwrap();

    assert_eq!(describe_items(&due_items(&ledger, NOW)), ["a: 1"]);
    assert!(!ledger.lists_contents().unwrap());
    assert_eq!(ledger.check_integrity().unwrap(), [""; 0]);
}

/// Returns the names of all columns, by table.
fn column_names(connection: &Connection) -> BTreeMap<String, Vec<String>> {
    let mut tables = connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
        .unwrap();
    let names: Vec<String> =
        tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let columns = |table: &String| {
        let mut columns = connection.prepare("SELECT name FROM pragma_table_info(?1)").unwrap();
        columns.query_map([table], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    names.into_iter().map(|name| (name.clone(), columns(&name))).collect()
}

/// Returns the rows of each table, sorted, as SQL literals of these columns.
fn table_rows(
    connection: &Connection,
    columns: &BTreeMap<String, Vec<String>>,
) -> BTreeMap<String, Vec<String>> {
    let rows = |(table, columns): (&String, &Vec<String>)| {
        let quoted: Vec<String> = columns.iter().map(|name| format!("quote({name})")).collect();
        let query = format!("SELECT {} FROM {table} ORDER BY 1", quoted.join(" || ', ' || "));
        let mut query = connection.prepare(&query).unwrap();
        let rows = query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        (table.clone(), rows)
    };
    columns.iter().map(rows).collect()
}
