//! Documents that are listed with other content than is known of them.

use super::*;

/// Returns the current file of a document, and the number of its next version.
fn stored_state(ledger: &dyn Ledger, item: &str, document: &str) -> (Option<String>, u32) {
    let (item, document) = (ItemId::new(item), DocumentId::new(document));
    let current = ledger.stored_file(&item, &document).unwrap();
    let row_id = row_id(ledger, document.as_str());
    (current.map(|stored| stored.file), facts(ledger, row_id).next_version)
}

/// Returns the paths of all stored files, the current ones first.
fn stored_paths(ledger: &dyn Ledger) -> Vec<String> {
    let (mut files, mut after) = (Vec::new(), None);
    loop {
        let page = ledger.stored_files(after, 1).unwrap();
        let Some(last) = page.last() else { return files };
        after = Some(last.row_id);
        files.extend(page.into_iter().map(|stored| stored.file));
    }
}

/// Returns the session's counts of versions and copies.
fn version_and_copy_counts(ledger: &dyn Ledger) -> [u64; 2] {
    let SessionCounts { versions, copies, .. } = ledger.session_counts().unwrap();
    [versions, copies]
}

fn begin_next_session(ledger: &mut dyn Ledger) {
    end_listing(ledger);
    let open = ledger.open_session().unwrap().unwrap().id;
    ledger.complete_session(&open, NOW).unwrap();
    begin_session(ledger, "session_2", SessionKind::Full, NOW);
}

fn store_document_as(ledger: &mut dyn Ledger, document: &str, file: &str) {
    let update = stored_update_as(&find_due(ledger, document), file);
    commit_updates(ledger, &[update]);
}

/// FAULTS 44: a restored server has another blob under a known id.
#[test]
fn a_new_blob_of_a_known_id_is_fetched_and_the_old_kept() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_page(&mut *ledger, &["a/1=x", "b/2=y"]);
    store_document_as(&mut *ledger, "1", "a/1.eml");
    store_document_as(&mut *ledger, "2", "b/2.eml");
    begin_next_session(&mut *ledger);

    record_page(&mut *ledger, &["a/1=z", "b/2=y"]);

    assert_eq!(describe_items(&due_items(&*ledger, NOW)), ["a: 1"]);
    assert_eq!(find_due(&*ledger, "1").blob.as_str(), "z");
    assert_eq!((counts(&*ledger), version_and_copy_counts(&*ledger)), ([1, 0, 0, 0], [1, 0]));
    assert_eq!(stored_state(&*ledger, "a", "1"), (None, 2));
    store_document_as(&mut *ledger, "1", "a/1.2.eml");
    assert_eq!(counts(&*ledger), [1, 1, 0, 0]);
    assert_eq!(stored_paths(&*ledger), ["a/1.2.eml", "b/2.eml", "a/1.eml"]);
    let is_at = |file| {
        ledger.is_stored_at(&ItemId::new("a"), &DocumentId::new("1"), "folder", file).unwrap()
    };
    assert!(is_at("a/1.eml") && is_at("a/1.2.eml") && !is_at("a/1.3.eml") && !is_at("b/2.eml"));
    assert_eq!(ledger.count_stored_items().unwrap(), 2);
    assert_eq!(record_page(&mut *ledger, &["a/1=z"]), PageCounts::default(), "it is known now");
}

/// FAULTS 44: a restored server has another size under a known blob.
#[test]
fn a_new_size_of_a_known_blob_is_a_new_version() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_page(&mut *ledger, &["a/1=x:4", "b/2=y:"]);
    store_documents(&mut *ledger, &["1", "2"]);
    begin_next_session(&mut *ledger);

    record_page(&mut *ledger, &["a/1=x:5", "b/2=y:9"]);
    assert_eq!(
        describe_items(&due_items(&*ledger, NOW)),
        ["a: 1", "b: 2"],
        "the stored length is exact as well"
    );

    record_page(&mut *ledger, &["a/1=x:5", "b/2=y:"]);
    assert_eq!(
        (counts(&*ledger), version_and_copy_counts(&*ledger)),
        ([2, 0, 0, 0], [2, 0]),
        "a missing size changes nothing"
    );
}

/// FAULTS 44: the server is restored during a session.
#[test]
fn a_version_in_the_same_session_is_counted_once() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_page(&mut *ledger, &["a/1=x"]);
    store_document_as(&mut *ledger, "1", "a/1.eml");

    record_page(&mut *ledger, &["a/1=y"]);

    assert_eq!((counts(&*ledger), version_and_copy_counts(&*ledger)), ([1, 0, 0, 0], [1, 0]));
    store_document_as(&mut *ledger, "1", "a/1.2.eml");
    assert_eq!(counts(&*ledger), [1, 1, 0, 0]);
    assert_eq!(stored_state(&*ledger, "a", "1"), (Some("a/1.2.eml".to_owned()), 2));
}

/// FAULTS 48: the blob of a listed document changes before its download.
#[test]
fn a_pending_document_adopts_the_latest_listed_blob() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_page(&mut *ledger, &["wanted/1", "refused/2", "aside/3", "gone/4"]);
    let failure = || Failure::new(Cause::Server, "500");
    let failed = LedgerUpdate::Failed { document: due_row_id(&*ledger, "2"), failure: failure() };
    let quarantined =
        LedgerUpdate::Quarantined { item: item_row_id(&*ledger, "aside"), failure: failure() };
    let gone = gone_update(&*ledger, "4");
    commit_updates(&mut *ledger, &[failed, quarantined, gone]);
    assert_eq!(counts(&*ledger), [4, 0, 1, 2]);

    record_page(&mut *ledger, &["wanted/1=a:9", "refused/2=b:9", "aside/3=c:9", "gone/4=d:9"]);

    assert_eq!((counts(&*ledger), version_and_copy_counts(&*ledger)), ([4, 0, 0, 0], [0, 0]));
    let documents: Vec<_> =
        due_items(&*ledger, NOW).into_iter().flat_map(|due| due.documents).collect();
    let blobs: Vec<_> =
        documents.iter().map(|pending| (pending.blob.as_str(), pending.size)).collect();
    assert_eq!(blobs, ["a", "b", "c", "d"].map(|blob| (blob, Some(9))));
}

/// FAULTS 44: a restored server gives a known blob to another mail.
#[test]
fn a_known_blob_is_a_copy_only_when_sizes_match() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_page(&mut *ledger, &["a/1=x:4", "b/2=y:"]);
    store_documents(&mut *ledger, &["1", "2"]);
    begin_next_session(&mut *ledger);

    record_page(&mut *ledger, &["c/3=x:5", "d/4=x:4", "e/5=x:", "f/6=y:", "g/7=y:9"]);

    assert_eq!(describe_items(&due_items(&*ledger, NOW)), ["c: 3", "e: 5", "g: 7"]);
    assert_eq!((counts(&*ledger), version_and_copy_counts(&*ledger)), ([5, 2, 0, 0], [0, 2]));
}

#[test]
fn returning_content_is_restored_from_its_old_file() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_page(&mut *ledger, &["a/1=x"]);
    store_document_as(&mut *ledger, "1", "a/1.eml");
    record_page(&mut *ledger, &["a/1=y"]);
    store_document_as(&mut *ledger, "1", "a/1.2.eml");
    begin_next_session(&mut *ledger);

    record_page(&mut *ledger, &["a/1=x"]);

    assert_eq!(
        (counts(&*ledger), version_and_copy_counts(&*ledger)),
        ([0, 0, 0, 0], [1, 1]),
        "nothing is to be fetched"
    );
    assert_eq!(stored_state(&*ledger, "a", "1"), (Some("a/1.eml".to_owned()), 2));
    record_page(&mut *ledger, &["a/1=z"]);
    assert_eq!(stored_state(&*ledger, "a", "1"), (None, 3), "no file has the number of another");
    assert_eq!(stored_paths(&*ledger), ["a/1.2.eml", "a/1.eml"]);
}

/// FAULTS 48: the blob of a listed document changes during its download.
#[test]
fn a_blob_changed_during_the_fetch_is_adopted() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_page(&mut *ledger, &["a/1=x:4"]);
    let listed = find_due(&*ledger, "1");
    let fetched = DocumentRow { blob: BlobId::new("y"), size: Some(6), ..listed.clone() };
    let mut update = stored_update(&fetched);
    let LedgerUpdate::Stored { expected_blob, .. } = &mut update else { panic!("it is stored") };
    *expected_blob = listed.blob;

    commit_updates(&mut *ledger, &[update]);

    assert_eq!(counts(&*ledger), [1, 1, 0, 0]);
    assert_eq!(record_page(&mut *ledger, &["a/1=y:6"]), PageCounts::default());
    assert_eq!(
        (counts(&*ledger), version_and_copy_counts(&*ledger)),
        ([1, 1, 0, 0], [0, 0]),
        "and nothing is new"
    );
}

/// FAULTS 48: another blob is listed before the old one is recorded.
#[test]
fn a_fetch_overtaken_by_a_page_settles_nothing() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_page(&mut *ledger, &["a/1=x", "b/2=x2"]);
    let late = [stored_update_as(&find_due(&*ledger, "1"), "a/1.eml"), gone_update(&*ledger, "2")];
    record_page(&mut *ledger, &["a/1=y", "b/2=y2"]);

    commit_updates(&mut *ledger, &late);
    commit_updates(&mut *ledger, &late);

    assert_eq!(
        describe_items(&due_items(&*ledger, NOW)),
        ["a: 1", "b: 2"],
        "the blob listed last is fetched"
    );
    assert_eq!((counts(&*ledger), version_and_copy_counts(&*ledger)), ([2, 0, 0, 0], [1, 0]));
    assert_eq!(
        (stored_paths(&*ledger), stored_state(&*ledger, "a", "1").1),
        (vec!["a/1.eml".to_owned()], 2)
    );
}
