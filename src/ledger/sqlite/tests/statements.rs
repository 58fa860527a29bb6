//! Statements of the ledger: which indexes they use, how often they are planned, and what they
//! leave in the tables.

use rusqlite::StatementStatus;

use super::*;
use crate::ledger::sqlite::contents::has_content;
use crate::ledger::sqlite::due_items::SELECT_PENDING;
use crate::ledger::sqlite::item_state::COUNT_BY_STATUS;
use crate::ledger::sqlite::locations::{
    DELETE_OTHER_NUMBERINGS, DELETE_VANISHED, SELECT_LOCATIONS, SELECT_UNNUMBERED,
};
use crate::ledger::tests::copies::{HASH, LENGTH, document_id, listed_by_location};
use crate::ledger::tests::due::known_good_ids;
use crate::ledger::tests::failures::recorded_response;
use crate::ledger::tests::folders::entry_in;
use crate::ledger::tests::listed_contents::list;
use crate::ledger::tests::locations::{due_locations, entry_at, record_moves};

/// Returns the number of rows that the connection has written.
fn total_rows_written(ledger: &SqliteLedger) -> i64 {
    ledger.connection.query_row("SELECT total_changes()", [], |row| row.get(0)).unwrap()
}

/// Records a page. Returns the number of rows that were written for it.
fn rows_written(ledger: &mut SqliteLedger, entries: &[ListedDocument]) -> i64 {
    let before = total_rows_written(ledger);
    record_entries(ledger, entries);
    total_rows_written(ledger) - before
}

fn count_rows(ledger: &SqliteLedger, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    ledger.connection.query_row(&sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn per_item_statements_are_planned_once() {
    let mut ledger = ledger_with_open_session();
    record_page(&mut ledger, &["a/1", "b/2", "c/3"]);
    store_documents(&mut ledger, &["1", "2", "3"]);

    for sql in [SELECT_PENDING, COUNT_BY_STATUS] {
        let statement = ledger.connection.prepare_cached(sql).unwrap();
        assert!(statement.get_status(StatementStatus::Run) > 1, "not the cached statement: {sql}");
        assert_eq!(statement.get_status(StatementStatus::RePrepare), 0, "{sql}");
    }
}

#[test]
fn known_good_documents_come_from_both_ends() {
    let mut ledger = ledger_with_open_session();
    record_page(&mut ledger, &["a/1", "b/2", "c/3", "d/4", "e/5", "f/6"]);
    store_documents(&mut ledger, &["1", "2", "3", "4", "5", "6"]);
    assert_eq!(known_good_ids(&ledger, 9), ["6", "5", "4", "3", "2", "1"]);

    // Spreads the rows, as if documents that are only listed lay between them.
    for (row, new_row) in [(6, 50_000), (5, 40_001), (4, 40_000), (3, 10_001), (2, 10_000)] {
        let sql = format!("UPDATE documents SET no = {new_row} WHERE no = {row}");
        assert_eq!(ledger.connection.execute(&sql, []), Ok(1));
    }

    assert_eq!(known_good_ids(&ledger, 9), ["6", "5", "2", "1"]);
}

#[test]
fn an_index_entry_of_a_replaced_document_finds_nothing() {
    let mut ledger = ledger_with_open_session();
    record_entries(&mut ledger, &listed_by_location(&[1]));
    store_documents(&mut ledger, &[&document_id(1)]);
    assert!(has_content(&ledger.connection, &HASH, LENGTH).unwrap());
    let sql = "UPDATE documents SET sha256 = zeroblob(32)";
    ledger.connection.execute(sql, []).unwrap();

    assert!(!has_content(&ledger.connection, &HASH, LENGTH).unwrap());
}

#[test]
fn unchanged_folders_are_not_written() {
    let mut ledger = ledger_with_open_session();
    record_entries(&mut ledger, &[entry_in("a/1", &["Inbox", "Work"])]);

    let without = rows_written(&mut ledger, &[entry_in("a/1", &[])]);
    let unchanged = rows_written(&mut ledger, &[entry_in("a/1", &["Work", "Inbox"])]);
    let moved = rows_written(&mut ledger, &[entry_in("a/1", &["Work", "Old"])]);

    assert_eq!(unchanged, without);
    assert_eq!(moved, without + 3, "a folder and its location are added, and another is deleted");
}

#[test]
fn folders_are_found_by_an_index_and_planned_once() {
    let mut ledger = ledger_with_open_session();
    let page = ["a/1", "b/2", "c/3"].map(|name| entry_in(name, &["Inbox"]));
    record_entries(&mut ledger, &page);
    record_entries(&mut ledger, &page);

    let statement = ledger.connection.prepare_cached(SELECT_UNNUMBERED).unwrap();
    let [runs, plans] = [StatementStatus::Run, StatementStatus::RePrepare]
        .map(|status| statement.get_status(status));
    assert_eq!((runs, plans), (6, 0), "once for each entry");
    let sql = format!("EXPLAIN QUERY PLAN {SELECT_UNNUMBERED}");
    let mut statement = ledger.connection.prepare(&sql).unwrap();
    let steps = statement.query_map([1; 2], |row| row.get::<_, String>("detail")).unwrap();
    let plan: Vec<String> = steps.map(Result::unwrap).collect();
    let is_search = |step: &String| step.starts_with("SEARCH locations USING PRIMARY KEY");
    assert!(plan.iter().any(is_search), "{plan:?}");
}

#[test]
fn no_contents_are_searched_where_there_are_none() {
    let mut ledger = ledger_with_open_session();
    record_page(&mut ledger, &["a/1", "b/2"]);
    let searches = |ledger: &SqliteLedger| {
        let sql = "SELECT content FROM listed_contents WHERE document = ?1";
        ledger.connection.prepare_cached(sql).unwrap().get_status(StatementStatus::Run)
    };

    assert_eq!(due_items(&ledger, NOW).len(), 2);
    assert_eq!(searches(&ledger), 0);

    list(&mut ledger, &["c/3"]);
    assert_eq!(due_items(&ledger, NOW).len(), 3);
    assert_eq!(searches(&ledger), 3);
}

#[test]
fn vanished_locations_are_found_by_an_index() {
    let ledger = SqliteLedger::in_memory();
    let sql = format!("EXPLAIN QUERY PLAN {DELETE_VANISHED}");
    let mut statement = ledger.connection.prepare(&sql).unwrap();

    let steps = statement.query_map([1; 4], |row| row.get::<_, String>("detail")).unwrap();
    let plan: Vec<String> = steps.map(Result::unwrap).collect();

    assert!(plan.iter().any(|step| step.contains("INDEX locations_uid")), "{plan:?}");
    assert!(!plan.iter().any(|step| step.starts_with("SCAN")), "{plan:?}");
}

/// A server may give one id to everything. The cost of a location must not grow with their number.
#[test]
fn very_many_locations_of_one_document_are_served_by_the_index() {
    const COUNT: u32 = 1_000;
    // 200 steps of SQLite for each. A search without the index takes thousands.
    const STEPS_MAX: i32 = 200_000;
    let mut ledger = ledger_with_open_session();
    let page: Vec<_> = (1..=COUNT).map(|uid| entry_at("a/1", location("INBOX", 7, uid))).collect();
    record_entries(&mut ledger, &page);

    record_moves(&mut ledger, &[], ("INBOX", 7, 1..=COUNT));

    let [lower, higher] = DELETE_OTHER_NUMBERINGS;
    for sql in [lower, higher, DELETE_VANISHED] {
        let statement = ledger.connection.prepare_cached(sql).unwrap();
        assert!(statement.get_status(StatementStatus::Run) > 0, "not the cached statement: {sql}");
        let steps = statement.get_status(StatementStatus::VmStep);
        assert!(steps < STEPS_MAX, "{steps} steps: {sql}");
    }
    assert_eq!(due_locations(&ledger, "1"), [location("INBOX", 7, COUNT)]);
    let sql = format!("EXPLAIN QUERY PLAN {SELECT_LOCATIONS}");
    let mut statement = ledger.connection.prepare(&sql).unwrap();
    let steps = statement.query_map([1; 2], |row| row.get::<_, String>("detail")).unwrap();
    let plan: Vec<String> = steps.map(Result::unwrap).collect();
    assert!(!plan.iter().any(|step| step.contains("TEMP B-TREE")), "{plan:?}");
}

#[test]
fn no_locations_are_searched_where_there_are_none() {
    let mut ledger = ledger_with_open_session();
    record_page(&mut ledger, &["a/1", "b/2"]);
    let searches = |ledger: &SqliteLedger| {
        let statement = ledger.connection.prepare_cached(SELECT_LOCATIONS).unwrap();
        let statuses = [StatementStatus::Run, StatementStatus::RePrepare];
        statuses.map(|status| statement.get_status(status))
    };

    assert_eq!(due_locations(&ledger, "1"), []);
    assert_eq!(searches(&ledger), [0, 0]);

    record_entries(&mut ledger, &[entry_at("a/1", location("INBOX", 7, 1))]);
    assert_eq!(due_items(&ledger, NOW).len(), 2);
    assert_eq!(searches(&ledger), [2, 0], "once for each document, and planned once");
}

#[test]
fn the_content_of_a_settled_document_is_deleted() {
    let mut ledger = ledger_with_open_session();
    list(&mut ledger, &["a/1=x", "b/2=y", "c/3=z"]);
    store_documents(&mut ledger, &["1"]);
    assert_eq!(count_rows(&ledger, "listed_contents"), 2);

    list(&mut ledger, &["b/2=x"]);
    assert_eq!(count_rows(&ledger, "listed_contents"), 1, "a copy of a stored document");

    let gone = gone_update(&ledger, "3");
    commit_updates(&mut ledger, &[gone]);
    list(&mut ledger, &["a/1=x", "c/3=z"]);
    assert_eq!(count_rows(&ledger, "listed_contents"), 0);
}

#[test]
fn old_responses_are_deleted() {
    let mut ledger = ledger_with_open_session();
    let failure =
        |body: &str| Failure::new(Cause::Server, "503").with_response(recorded_response(body));
    ledger.record_session_response(&failure("first"), NOW).unwrap();
    ledger.record_session_response(&failure("last"), LATER).unwrap();
    assert_eq!(count_rows(&ledger, "replies"), 1);

    // As if ten thousand other responses had been stored since.
    let sql = "INSERT INTO replies (no, item, at, status, headers, body, is_cut)
               VALUES (10002, 7, 0, 500, '[]', '', 0)";
    ledger.connection.execute(sql, []).unwrap();
    record_page(&mut ledger, &["a/1"]);
    let update =
        LedgerUpdate::Quarantined { item: item_row_id(&ledger, "a"), failure: failure("new") };
    commit_updates(&mut ledger, &[update]);

    assert_eq!(ledger.session_response().unwrap(), None);
    assert!(ledger.item_report(&ItemId::new("a")).unwrap().unwrap().last_response.is_some());
}
