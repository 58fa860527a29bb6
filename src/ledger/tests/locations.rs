//! Places of documents on the server.

use std::ops::RangeInclusive;

use cynosure_engine::VanishedMessages;

use super::*;

/// Returns the entry of a document, as [`listing_entries`] parses it, at a location.
pub(in crate::ledger) fn entry_at(name: &str, location: DocumentLocation) -> ListedDocument {
    ListedDocument { location: Some(location), ..listing_entries(&[name]).remove(0) }
}

pub(in crate::ledger) fn due_locations(
    ledger: &dyn Ledger,
    document: &str,
) -> Vec<DocumentLocation> {
    find_due(ledger, document).locations
}

/// Records a page with entries and with vanished messages of a folder.
pub(in crate::ledger) fn record_moves(
    ledger: &mut dyn Ledger,
    entries: &[ListedDocument],
    (folder, uid_validity, uids): (&str, u32, RangeInclusive<u32>),
) {
    let vanished = VanishedMessages { folder: folder.to_owned(), uid_validity, uids: vec![uids] };
    let next = NextPage::More(PageToken::new("more"));
    ledger.record_page(entries, &[vanished], &next, NOW).unwrap();
}

#[test]
fn a_document_in_two_folders_counts_once() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    let places = [location("INBOX", 7, 1), location("Archive/2026", 3, 9)];
    let page = places.clone().map(|place| entry_at("a/1", place));

    assert_eq!(record_entries(&mut *ledger, &page), PageCounts { new_items: 1, new_documents: 1 });
    assert_eq!(record_entries(&mut *ledger, &page), PageCounts::default(), "the page is repeated");

    assert_eq!(counts(&*ledger), [1, 0, 0, 0]);
    assert_eq!(due_locations(&*ledger, "1"), places);
}

#[test]
fn the_newest_location_of_each_folder_comes_first() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    let inbox = (1..=20).map(|uid| location("INBOX", 1, uid));
    let others = [location("Work", 2, 4), location("Work", 2, 9), location("Sent", 5, 1)];
    let page: Vec<_> = inbox.chain(others).map(|place| entry_at("a/1", place)).collect();

    record_entries(&mut *ledger, &page);

    let tried = due_locations(&*ledger, "1");
    let [first, second] = [("INBOX", 1, 20), ("INBOX", 1, 19)];
    let expected =
        [first, ("Work", 2, 9), ("Sent", 5, 1), second, ("Work", 2, 4), ("INBOX", 1, 18)];
    assert_eq!(tried[..6], expected.map(|(folder, validity, uid)| location(folder, validity, uid)));
    assert_eq!((tried.len(), &tried[15]), (16, &location("INBOX", 1, 8)));
}

#[test]
fn a_new_numbering_of_a_folder_voids_the_earlier_one() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    let places = [location("INBOX", 1, 7), location("INBOX", 1, 9), location("Work", 1, 2)];
    let page = places.map(|place| entry_at("a/1", place));
    record_entries(&mut *ledger, &page);
    record_entries(&mut *ledger, &[entry_at("b/2", location("INBOX", 1, 8))]);

    record_entries(&mut *ledger, &[entry_at("a/1", location("INBOX", 2, 3))]);

    let expected = [location("INBOX", 2, 3), location("Work", 1, 2)];
    assert_eq!(due_locations(&*ledger, "1"), expected);
    assert_eq!(due_locations(&*ledger, "2"), [location("INBOX", 1, 8)], "it was not listed again");
}

#[test]
fn a_vanished_location_is_not_tried() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    let archived = [location("Archive", 3, 8), location("Archive", 3, 9)];
    let [first, second] = archived.clone();
    let page = [
        entry_at("a/1", location("INBOX", 7, 1)),
        entry_at("a/1", first),
        entry_at("b/2", location("INBOX", 7, 5)),
        entry_at("b/2", second),
    ];
    record_entries(&mut *ledger, &page);

    record_moves(&mut *ledger, &[], ("INBOX", 7, 1..=4));
    record_moves(&mut *ledger, &[], ("INBOX", 8, 5..=5));
    record_moves(&mut *ledger, &[], ("Never listed", 7, 1..=9));

    assert_eq!(due_locations(&*ledger, "1"), archived[..1]);
    let kept = [location("INBOX", 7, 5), archived[1].clone()];
    assert_eq!(due_locations(&*ledger, "2"), kept, "another numbering vanished");
    assert_eq!(counts(&*ledger), [2, 0, 0, 0]);
}

#[test]
fn the_last_location_stays_until_a_fetch_finds_it_gone() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    let places = [location("INBOX", 7, 1), location("INBOX", 7, 2), location("Archive", 3, 9)];
    record_entries(&mut *ledger, &places.map(|place| entry_at("a/1", place)));

    record_moves(&mut *ledger, &[], ("Archive", 3, 1..=u32::MAX));
    record_moves(&mut *ledger, &[], ("INBOX", 7, 1..=u32::MAX));
    record_moves(&mut *ledger, &[], ("INBOX", 7, 2..=2));

    assert_eq!(due_locations(&*ledger, "1"), [location("INBOX", 7, 2)]);
    let gone = gone_update(&*ledger, "1");
    commit_updates(&mut *ledger, &[gone]);
    assert_eq!(counts(&*ledger), [1, 0, 1, 0]);
}

#[test]
fn a_moved_document_is_only_at_its_new_location() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_entries(&mut *ledger, &[entry_at("a/1", location("INBOX", 7, 1))]);
    let gone = gone_update(&*ledger, "1");
    let moved = entry_at("a/1", location("Archive", 3, 9));

    record_moves(&mut *ledger, &[moved], ("INBOX", 7, 1..=1));

    assert_eq!(due_locations(&*ledger, "1"), [location("Archive", 3, 9)]);
    commit_updates(&mut *ledger, &[gone]);
    assert_eq!(counts(&*ledger), [1, 0, 0, 0], "the fetch looked for it at the old one");
}

#[test]
fn a_new_location_of_a_stored_document_is_no_news() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    let places = [location("INBOX", 7, 1), location("Spam", 1, 1)];
    record_entries(&mut *ledger, &[entry_at("a/1", places[0].clone())]);
    store_documents(&mut *ledger, &["1"]);

    let counted = record_entries(&mut *ledger, &[entry_at("a/1", places[1].clone())]);

    assert_eq!((counted, counts(&*ledger)), (PageCounts::default(), [1, 1, 0, 0]));
    assert_eq!(ledger.known_good_documents(1).unwrap()[0].locations, places);
}

#[test]
fn a_gone_document_is_fetched_again_from_another_folder() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    let places = [location("INBOX", 7, 1), location("Archive", 3, 9)];
    record_entries(&mut *ledger, &[entry_at("a/1", places[0].clone())]);
    let gone = gone_update(&*ledger, "1");
    commit_updates(&mut *ledger, &[gone]);
    record_entries(&mut *ledger, &[entry_at("a/1", places[0].clone())]);
    assert_eq!((due_items(&*ledger, NOW).len(), counts(&*ledger)), (0, [1, 0, 1, 0]));

    record_entries(&mut *ledger, &[entry_at("a/1", places[1].clone())]);

    assert_eq!((due_locations(&*ledger, "1"), counts(&*ledger)), (places.to_vec(), [1, 0, 0, 0]));
    let gone = gone_update(&*ledger, "1");
    commit_updates(&mut *ledger, &[gone]);
    record_entries(&mut *ledger, &[entry_at("a/1", places[1].clone())]);
    assert_eq!((due_items(&*ledger, NOW).len(), counts(&*ledger)), (0, [1, 0, 1, 0]));
}

#[test]
fn a_document_listed_elsewhere_during_its_fetch_is_not_gone() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_entries(&mut *ledger, &[entry_at("a/1", location("INBOX", 7, 1))]);
    let gone = gone_update(&*ledger, "1");
    record_entries(&mut *ledger, &[entry_at("a/1", location("Archive", 3, 9))]);

    commit_updates(&mut *ledger, &[gone]);

    assert_eq!((due_items(&*ledger, NOW).len(), counts(&*ledger)), (1, [1, 0, 0, 0]));
    let gone = gone_update(&*ledger, "1");
    commit_updates(&mut *ledger, &[gone]);
    assert_eq!(counts(&*ledger), [1, 0, 1, 0]);
}

#[test]
fn a_document_is_gone_once_it_is_at_none_of_many_locations() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    let page: Vec<_> = (1..=20).map(|uid| entry_at("a/1", location("INBOX", 1, uid))).collect();
    record_entries(&mut *ledger, &page);

    let gone = gone_update(&*ledger, "1");
    commit_updates(&mut *ledger, std::slice::from_ref(&gone));
    commit_updates(&mut *ledger, &[gone]);

    let untried: Vec<_> = (1..=4).rev().map(|uid| location("INBOX", 1, uid)).collect();
    assert_eq!((due_locations(&*ledger, "1"), counts(&*ledger)), (untried, [1, 0, 0, 0]));
    let gone = gone_update(&*ledger, "1");
    commit_updates(&mut *ledger, &[gone]);
    assert_eq!(counts(&*ledger), [1, 0, 1, 0]);
}
