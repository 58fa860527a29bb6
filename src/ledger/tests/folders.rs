//! Folders of documents that a source names without numbers.

use cynosure_engine::VanishedMessages;

use super::*;

/// Returns the entry of a document, as [`listing_entries`] parses it, in folders.
pub(in crate::ledger) fn entry_in(name: &str, folders: &[&str]) -> ListedDocument {
    ListedDocument { folders: to_names(folders), ..listing_entries(&[name]).remove(0) }
}

fn to_names(folders: &[&str]) -> Vec<String> {
    folders.iter().map(|&folder| folder.to_owned()).collect()
}

fn folders(ledger: &dyn Ledger, document: &str) -> Vec<String> {
    facts(ledger, row_id(ledger, document)).folders
}

/// Returns the update of a stored document whose fetch reported these folders.
fn stored_in(ledger: &dyn Ledger, document: &str, names: &[&str]) -> LedgerUpdate {
    let mut update = stored_update(&find_due(ledger, document));
    let LedgerUpdate::Stored { folders, .. } = &mut update else { panic!("it is stored") };
    *folders = to_names(names);
    update
}

#[test]
fn folders_of_an_entry_replace_those_before() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    let page = [entry_in("a/1", &["Work", "Inbox"]), entry_in("b/2", &["Inbox"])];
    record_entries(&mut *ledger, &page);
    assert_eq!(folders(&*ledger, "1"), ["Inbox", "Work"]);

    record_entries(&mut *ledger, &[entry_in("a/1", &["Work", "Old", "Work", ""])]);
    assert_eq!(folders(&*ledger, "1"), ["Old", "Work"]);
    assert_eq!(folders(&*ledger, "2"), ["Inbox"]);

    record_entries(&mut *ledger, &[entry_in("a/1", &[]), entry_in("b/2", &[""])]);
    assert_eq!(folders(&*ledger, "1"), ["Old", "Work"], "the entry names none");
    assert_eq!(folders(&*ledger, "2"), ["Inbox"], "an empty name is none");
}

#[test]
fn a_stored_document_that_moved_is_not_fetched_again() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_entries(&mut *ledger, &[entry_in("a/1", &["Inbox"])]);
    store_documents(&mut *ledger, &["1"]);
    end_listing(&mut *ledger);
    ledger.complete_session(&SessionId::new("session_1"), NOW).unwrap();
    begin_session(&mut *ledger, "session_2", SessionKind::Reconcile, LATER);

    let counted = record_entries(&mut *ledger, &[entry_in("a/1", &["Archive"])]);

    assert_eq!(counted, PageCounts::default());
    assert!(due_items(&*ledger, LATER).is_empty(), "it is not fetched again");
    assert_eq!(folders(&*ledger, "1"), ["Archive"]);
}

#[test]
fn a_fetch_does_not_use_folders_without_numbers() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_entries(&mut *ledger, &[entry_in("a/1", &["Inbox", "Work"])]);

    let gone = gone_update(&*ledger, "1");
    assert_eq!(find_due(&*ledger, "1").locations, []);
    commit_updates(&mut *ledger, &[gone]);

    assert_eq!(counts(&*ledger), [1, 0, 1, 0], "there is no other place to look at");
}

#[test]
fn folders_are_kept_beside_numbered_locations() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    let place = |uid_validity| ListedDocument {
        location: Some(location("INBOX", uid_validity, 1)),
        ..entry_in("a/1", &["INBOX", "Work"])
    };
    record_entries(&mut *ledger, &[place(7)]);
    assert_eq!(find_due(&*ledger, "1").locations, [location("INBOX", 7, 1)]);

    let vanished =
        VanishedMessages { folder: "INBOX".to_owned(), uid_validity: 7, uids: vec![1..=9] };
    let next = NextPage::More(PageToken::new("more"));
    ledger.record_page(&[], &[vanished], &next, NOW).unwrap();
    let found = find_due(&*ledger, "1").locations;
    assert_eq!(found, [location("INBOX", 7, 1)], "a folder is no other place to look at");

    record_entries(&mut *ledger, &[ListedDocument { folders: Vec::new(), ..place(8) }]);
    assert_eq!(find_due(&*ledger, "1").locations, [location("INBOX", 8, 1)]);
    assert_eq!(folders(&*ledger, "1"), ["INBOX", "Work"], "no numbering is void for them");
}

#[test]
fn a_fetch_reports_the_folders_with_its_document() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_entries(&mut *ledger, &[entry_in("a/1", &["Inbox"]), entry_in("b/2", &["Inbox"])]);
    let updates = [stored_in(&*ledger, "1", &["Sent"]), stored_in(&*ledger, "2", &[])];
    let late = stored_in(&*ledger, "1", &["Late"]);

    commit_updates(&mut *ledger, &updates);
    commit_updates(&mut *ledger, &[late]);

    assert_eq!(folders(&*ledger, "1"), ["Sent"], "a late update changes nothing");
    assert_eq!(folders(&*ledger, "2"), ["Inbox"], "its fetch reported none");
}

#[test]
fn a_copy_has_its_own_folders() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    let place = |name: &str, uid| ListedDocument {
        location: Some(location("INBOX", 1, uid)),
        ..listing_entries(&[name]).remove(0)
    };
    record_entries(&mut *ledger, &[place("a/INBOX;1;1", 1), place("b/INBOX;1;2", 2)]);
    let first = stored_in(&*ledger, "INBOX;1;1", &["Sent"]);
    let pending = find_due(&*ledger, "INBOX;1;2");
    let copy = LedgerUpdate::Copied {
        document: pending.row_id,
        expected_blob: pending.blob.clone(),
        fetched_blob: pending.blob,
        size: pending.size,
        length: 4,
        sha256: [7; 32],
        folders: to_names(&["Work"]),
    };

    commit_updates(&mut *ledger, &[first, copy]);

    assert_eq!(counts(&*ledger), [2, 2, 0, 0]);
    assert_eq!(folders(&*ledger, "INBOX;1;1"), ["Sent"]);
    assert_eq!(folders(&*ledger, "INBOX;1;2"), ["Work"]);
}

#[test]
fn long_names_and_long_lists_are_cut() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    let long = "ü".repeat(600);
    let many: Vec<String> = (0..300).map(|number| format!("{number:03}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();

    record_entries(&mut *ledger, &[entry_in("a/1", &[&long]), entry_in("b/2", &many)]);

    assert_eq!(folders(&*ledger, "1"), ["ü".repeat(512)]);
    assert_eq!(folders(&*ledger, "2"), many[..256]);
}

#[test]
fn adopted_folders_are_replaced_by_the_next_listing() {
    let mut ledger = LedgerHome::new().open();
    let document = AdoptedDocument {
        item: ItemId::new("a"),
        document: DocumentId::new("1"),
        blob: Some(BlobId::new("1")),
        size: Some(4),
        length: 4,
        sha256: [7; 32],
        file: "a/1.eml".to_owned(),
        labels: Vec::new(),
        folders: to_names(&["Inbox"]),
    };
    ledger.adopt_folder("folder", NOW, &[document]).unwrap();
    assert_eq!(folders(&*ledger, "1"), ["Inbox"]);
    assert_eq!(ledger.cursor().unwrap(), None, "everything is listed next");

    begin_session(&mut *ledger, "session_2", SessionKind::Full, NOW);
    record_entries(&mut *ledger, &[entry_in("a/1", &["Archive"])]);

    assert_eq!(folders(&*ledger, "1"), ["Archive"]);
    assert_eq!(due_items(&*ledger, NOW), []);
}
