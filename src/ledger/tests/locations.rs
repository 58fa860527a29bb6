//! Places of documents on the server.

use crate::ledger::locations::SELECT_LOCATIONS;

use super::*;

/// Returns the entry of a document, as [`listing_entries`] parses it, at a location.
fn entry_at(name: &str, location: DocumentLocation) -> ListedDocument {
    ListedDocument { location: Some(location), ..listing_entries(&[name]).remove(0) }
}

fn due_locations(ledger: &Ledger, document: &str) -> Vec<DocumentLocation> {
    find_due(ledger, document).locations
}

#[test]
fn a_document_in_two_folders_counts_once() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    let places = [location("INBOX", 7, 1), location("Archive/2026", 3, 9)];
    let page = places.clone().map(|place| entry_at("a/1", place));

    assert_eq!(record_entries(&mut ledger, &page), PageCounts { new_items: 1, new_documents: 1 });
    assert_eq!(record_entries(&mut ledger, &page), PageCounts::default(), "the page is repeated");

    assert_eq!(counts(&ledger), [1, 0, 0, 0]);
    assert_eq!(due_locations(&ledger, "1"), places);
}

#[test]
fn the_newest_locations_of_a_folder_come_first() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    let numbers = (1..=20).map(|uid| (1, uid)).chain([(2, 5)]);
    let places: Vec<_> = numbers.map(|(validity, uid)| location("INBOX", validity, uid)).collect();
    let page: Vec<_> = places.iter().map(|place| entry_at("a/1", place.clone())).collect();

    record_entries(&mut ledger, &page);

    let newest: Vec<_> = places.into_iter().rev().take(16).collect();
    assert_eq!(due_locations(&ledger, "1"), newest);
}

#[test]
fn a_new_location_of_a_stored_document_is_no_news() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    let places = [location("INBOX", 7, 1), location("Spam", 1, 1)];
    record_entries(&mut ledger, &[entry_at("a/1", places[0].clone())]);
    store_documents(&mut ledger, &["1"]);

    let counted = record_entries(&mut ledger, &[entry_at("a/1", places[1].clone())]);

    assert_eq!((counted, counts(&ledger)), (PageCounts::default(), [1, 1, 0, 0]));
    assert_eq!(ledger.known_good_documents(1).unwrap()[0].locations, places);
}

#[test]
fn a_gone_document_is_fetched_again_from_another_folder() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    let places = [location("INBOX", 7, 1), location("Archive", 3, 9)];
    record_entries(&mut ledger, &[entry_at("a/1", places[0].clone())]);
    let gone = gone_update(&ledger, "1");
    commit_updates(&mut ledger, &[gone]);
    record_entries(&mut ledger, &[entry_at("a/1", places[0].clone())]);
    assert_eq!((due_items(&ledger, NOW).len(), counts(&ledger)), (0, [1, 0, 1, 0]));

    record_entries(&mut ledger, &[entry_at("a/1", places[1].clone())]);

    assert_eq!((due_locations(&ledger, "1"), counts(&ledger)), (places.to_vec(), [1, 0, 0, 0]));
    let gone = gone_update(&ledger, "1");
    commit_updates(&mut ledger, &[gone]);
    record_entries(&mut ledger, &[entry_at("a/1", places[1].clone())]);
    assert_eq!((due_items(&ledger, NOW).len(), counts(&ledger)), (0, [1, 0, 1, 0]));
}

#[test]
fn a_document_listed_elsewhere_during_its_fetch_is_not_gone() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_entries(&mut ledger, &[entry_at("a/1", location("INBOX", 7, 1))]);
    let gone = gone_update(&ledger, "1");
    record_entries(&mut ledger, &[entry_at("a/1", location("Archive", 3, 9))]);

    commit_updates(&mut ledger, &[gone]);

    assert_eq!((due_items(&ledger, NOW).len(), counts(&ledger)), (1, [1, 0, 0, 0]));
    let gone = gone_update(&ledger, "1");
    commit_updates(&mut ledger, &[gone]);
    assert_eq!(counts(&ledger), [1, 0, 1, 0]);
}

#[test]
fn a_document_at_many_locations_can_be_gone() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    let page: Vec<_> = (1..=20).map(|uid| entry_at("a/1", location("INBOX", 1, uid))).collect();
    record_entries(&mut ledger, &page);

    let gone = gone_update(&ledger, "1");
    commit_updates(&mut ledger, &[gone]);

    assert_eq!(counts(&ledger), [1, 0, 1, 0]);
}

#[test]
fn no_locations_are_searched_where_there_are_none() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_page(&mut ledger, &["a/1", "b/2"]);
    let searches = |ledger: &Ledger| {
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
