//! Estimate of the bytes to fetch in a session.

use super::*;

/// Returns an entry whose size is only estimated.
fn estimated(name: &str, size: u64) -> ListedDocument {
    let entry = listing_entries(&[name]).remove(0);
    ListedDocument { size: None, size_estimate: Some(size), ..entry }
}

/// Returns an entry of message 9 in a folder, with an estimated size of 100 bytes.
fn estimated_in(folder: &str, name: &str) -> ListedDocument {
    ListedDocument { location: Some(location(folder, 1, 9)), ..estimated(name, 100) }
}

fn expected_bytes(ledger: &dyn Ledger) -> Option<u64> {
    ledger.session_counts().unwrap().expected_bytes
}

#[test]
fn the_sizes_of_new_documents_are_summed() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_page(&mut *ledger, &["a/1:"]);
    assert_eq!(expected_bytes(&*ledger), None, "its size is unknown");

    record_page(&mut *ledger, &["a/2:30", "b/3:"]);
    record_entries(&mut *ledger, &[estimated("b/4", 500)]);
    record_page(&mut *ledger, &["a/1:", "a/2:30"]);
    record_entries(&mut *ledger, &[estimated("b/4", 600)]);

    assert_eq!(expected_bytes(&*ledger), Some(530));
    assert_eq!(find_due(&*ledger, "4").size, None, "an estimate is no size");
}

#[test]
fn what_is_not_fetched_is_not_expected() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_page(&mut *ledger, &["a/1=x:7"]);
    store_documents(&mut *ledger, &["1"]);

    record_page(&mut *ledger, &["b/2=x:7"]);
    assert_eq!(expected_bytes(&*ledger), Some(7), "a copy of what is stored");

    record_entries(&mut *ledger, &[estimated_in("INBOX", "c/3"), estimated_in("Work", "c/3")]);
    record_entries(&mut *ledger, &[estimated_in("Sent", "c/3")]);
    assert_eq!(expected_bytes(&*ledger), Some(107), "one document at three locations");
    assert_eq!(ledger.session_counts().unwrap().fetched_bytes(), 7);
}

#[test]
fn a_gone_document_listed_again_is_expected_once_a_session() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_entries(&mut *ledger, &[estimated_in("INBOX", "a/1")]);
    let gone = gone_update(&*ledger, "1");
    commit_updates(&mut *ledger, &[gone]);

    record_entries(&mut *ledger, &[estimated_in("Work", "a/1")]);
    assert_eq!((due_items(&*ledger, NOW).len(), expected_bytes(&*ledger)), (1, Some(100)));

    let gone = gone_update(&*ledger, "1");
    commit_updates(&mut *ledger, &[gone]);
    end_listing(&mut *ledger);
    ledger.complete_session(&SessionId::new("session_1"), NOW).unwrap();
    begin_session(&mut *ledger, "session_2", SessionKind::Full, NOW);
    record_entries(&mut *ledger, &[estimated_in("Work", "a/1")]);
    assert_eq!((due_items(&*ledger, NOW).len(), expected_bytes(&*ledger)), (1, Some(100)));
}

#[test]
fn new_content_is_expected_unless_the_old_is_pending() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_page(&mut *ledger, &["a/1=x:10"]);
    record_page(&mut *ledger, &["a/1=y:20"]);
    assert_eq!(expected_bytes(&*ledger), Some(10));

    store_documents(&mut *ledger, &["1"]);
    record_page(&mut *ledger, &["a/1=z:30"]);

    assert_eq!(expected_bytes(&*ledger), Some(40));
}

#[test]
fn absurd_sizes_do_not_overflow() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    let absurd =
        |name: &str| ListedDocument { size: Some(u64::MAX), ..listing_entries(&[name]).remove(0) };

    record_entries(&mut *ledger, &[absurd("a/1"), absurd("a/2")]);
    record_entries(&mut *ledger, &[absurd("b/3")]);

    assert_eq!((counts(&*ledger), expected_bytes(&*ledger)), ([2, 0, 0, 0], Some(1_u64 << 53)));
}
