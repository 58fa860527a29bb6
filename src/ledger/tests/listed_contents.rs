//! Documents that their listing contains.

use super::*;
use crate::ledger::due_items::DUE_CONTENT_BYTES_MAX;

/// Returns entries, as [`listing_entries`] parses them, whose contents are this text and the blob.
fn entries_with_content(names: &[&str], text: &str) -> Vec<ListedDocument> {
    let mut entries = listing_entries(names);
    for entry in &mut entries {
        entry.content = Some(format!("{text}{}", entry.blob));
    }
    entries
}

pub(in crate::ledger) fn list(ledger: &mut dyn Ledger, names: &[&str]) -> PageCounts {
    record_entries(ledger, &entries_with_content(names, "content "))
}

/// Returns the contents of the due documents, each with its id.
fn due_contents(ledger: &dyn Ledger) -> Vec<(String, Option<String>)> {
    let items = due_items(ledger, LATER);
    let documents = items.into_iter().flat_map(|due| due.documents);
    documents.map(|pending| (pending.id.to_string(), pending.content)).collect()
}

fn begin_next_session(ledger: &mut dyn Ledger) {
    end_listing(ledger);
    let open = ledger.open_session().unwrap().unwrap().id;
    ledger.complete_session(&open, NOW).unwrap();
    begin_session(ledger, "session_2", SessionKind::Reconcile, NOW);
}

#[test]
fn a_content_is_kept_until_its_document_is_settled() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    list(&mut *ledger, &["a/1", "b/2", "c/3", "d/4"]);
    let failure = || Failure::new(Cause::Storage, "a folder is in the way");
    let updates = [
        stored_update(&find_due(&*ledger, "1")),
        gone_update(&*ledger, "2"),
        LedgerUpdate::Failed { document: due_row_id(&*ledger, "3"), failure: failure() },
        LedgerUpdate::Quarantined { item: item_row_id(&*ledger, "d"), failure: failure() },
    ];

    commit_updates(&mut *ledger, &updates);
    list(&mut *ledger, &["a/1", "b/2"]);

    assert_eq!(counts(&*ledger), [4, 1, 1, 2]);
    end_listing(&mut *ledger);
    ledger.complete_session(&SessionId::new("session_1"), NOW).unwrap();
    begin_session(&mut *ledger, "session_2", SessionKind::Recheck, LATER);
    let content = |id: &str| (id.to_owned(), Some(format!("content {id}")));
    assert_eq!(due_contents(&*ledger), [content("3"), content("4")]);
    store_documents(&mut *ledger, &["3", "4"]);
    assert_eq!(counts(&*ledger), [2, 2, 0, 0]);
}

#[test]
fn a_content_survives_a_restart_with_its_page() {
    let home = LedgerHome::new();
    let mut ledger = home.open();
    begin_session(&mut *ledger, "session_1", SessionKind::Full, NOW);
    list(&mut *ledger, &["a/1"]);
    drop(ledger);

    let ledger = home.open();

    assert_eq!(due_contents(&*ledger), [("1".to_owned(), Some("content 1".to_owned()))]);
}

#[test]
fn a_content_is_replaced_with_its_blob() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    list(&mut *ledger, &["a/1=x", "b/2=x2"]);

    list(&mut *ledger, &["a/1=y"]);
    record_page(&mut *ledger, &["b/2=y2"]);

    let content = |id: &str, content: Option<&str>| (id.to_owned(), content.map(str::to_owned));
    assert_eq!(due_contents(&*ledger), [content("1", Some("content y")), content("2", None)]);
    record_entries(&mut *ledger, &entries_with_content(&["a/1=y"], "later "));
    assert_eq!(due_contents(&*ledger)[0], content("1", Some("later y")), "listed last");
}

#[test]
fn a_copy_of_a_stored_document_needs_no_content() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    list(&mut *ledger, &["a/1=x", "b/2=y"]);
    store_documents(&mut *ledger, &["1"]);

    list(&mut *ledger, &["b/2=x", "c/3=x"]);

    assert_eq!(counts(&*ledger), [3, 3, 0, 0]);
}

#[test]
fn a_gone_document_that_is_listed_again_has_its_new_content() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    list(&mut *ledger, &["a/1"]);
    let update = gone_update(&*ledger, "1");
    commit_updates(&mut *ledger, &[update]);
    begin_next_session(&mut *ledger);

    record_entries(&mut *ledger, &entries_with_content(&["a/1"], "new "));

    assert_eq!(due_contents(&*ledger), [("1".to_owned(), Some("new 1".to_owned()))]);
}

/// FAULTS 17: the file of a document that only a listing brings is damaged.
#[test]
fn a_damaged_document_gets_its_content_from_a_listing() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    assert!(!ledger.lists_contents().unwrap());
    list(&mut *ledger, &["a/1", "b/2"]);
    assert!(ledger.lists_contents().unwrap());
    let document = due_row_id(&*ledger, "1");
    store_documents(&mut *ledger, &["1", "2"]);
    end_listing(&mut *ledger);
    assert_eq!(ledger.reconciled_at().unwrap(), Some(NOW));

    assert!(ledger.requeue_damaged(document, "missing", NOW).unwrap());

    assert_eq!(ledger.reconciled_at().unwrap(), Some(Timestamp(0)), "a full listing is due");
    assert!(!ledger.has_due_rechecks(LATER).unwrap());
    ledger.start_changes_listing(NOW).unwrap();
    assert_eq!(due_contents(&*ledger).len(), 0, "it has no content yet");
    begin_next_session(&mut *ledger);
    assert_eq!(due_contents(&*ledger).len(), 0);

    assert_eq!(list(&mut *ledger, &["a/1", "b/2"]), PageCounts { new_items: 1, new_documents: 0 });
    assert_eq!(list(&mut *ledger, &["a/1", "b/2"]), PageCounts::default());

    assert_eq!(due_contents(&*ledger), [("1".to_owned(), Some("content 1".to_owned()))]);
    store_documents(&mut *ledger, &["1"]);
    assert_eq!(counts(&*ledger), [1, 1, 0, 0]);
}

#[test]
fn a_damaged_document_of_other_sources_is_fetched_alone() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    list(&mut *ledger, &["a/1"]);
    record_page(&mut *ledger, &["b/2"]);
    assert!(!ledger.lists_contents().unwrap(), "no longer");
    let document = due_row_id(&*ledger, "2");
    store_documents(&mut *ledger, &["1", "2"]);
    end_listing(&mut *ledger);

    assert!(ledger.requeue_damaged(document, "missing", NOW).unwrap());

    assert_eq!(ledger.reconciled_at().unwrap(), Some(NOW));
}

#[test]
fn long_contents_are_returned_in_parts() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    let text = "x".repeat(DUE_CONTENT_BYTES_MAX / 2);
    record_entries(&mut *ledger, &entries_with_content(&["a/1", "b/2", "b/3", "c/4"], &text));
    let due_ids = |ledger: &dyn Ledger| -> Vec<String> {
        due_contents(ledger).into_iter().map(|(id, _)| id).collect()
    };

    assert_eq!(due_ids(&*ledger), ["1", "2"]);
    store_documents(&mut *ledger, &["1"]);
    assert_eq!(due_ids(&*ledger), ["2", "3"]);
    store_documents(&mut *ledger, &["2", "3"]);
    assert_eq!(due_ids(&*ledger), ["4"]);
}
