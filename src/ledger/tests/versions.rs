//! Documents that are listed with another content than the one that is known.

use super::*;

/// What is stored of a document: its present file, and the number of the next.
fn standing(ledger: &Ledger, item: &str, document: &str) -> (Option<String>, u32) {
    let (item, document) = (ItemId::new(item), DocumentId::new(document));
    let present = ledger.stored_file(&item, &document).unwrap();
    let sql = "SELECT d.no FROM documents d JOIN items i ON i.no = d.item
               WHERE i.id = ?1 AND d.id = ?2";
    let ids = [item.as_str(), document.as_str()];
    let no = ledger.connection.query_row(sql, ids, |row| row.get(0).map(DocumentNo)).unwrap();
    (present.map(|stored| stored.file), ledger.next_version(no).unwrap())
}

/// All files that are stored, the present ones first.
fn files(ledger: &Ledger) -> Vec<String> {
    let (mut files, mut after) = (Vec::new(), None);
    loop {
        let page = ledger.stored_files(after, 1).unwrap();
        let Some(last) = page.last() else { return files };
        after = Some(last.no);
        files.extend(page.into_iter().map(|stored| stored.file));
    }
}

/// Versions and copies of the session.
fn beside(ledger: &Ledger) -> [u64; 2] {
    let Tally { versions, copies, .. } = ledger.tally().unwrap();
    [versions, copies]
}

fn next_session(ledger: &mut Ledger) {
    end_listing(ledger);
    let open = ledger.open_session().unwrap().unwrap().id;
    ledger.finish(&open, NOW).unwrap();
    begin(ledger, "session_2", SessionKind::Full, NOW);
}

fn store_as(ledger: &mut Ledger, document: &str, file: &str) {
    let outcome = stored_as(&find(ledger, document), file);
    commit(ledger, &[outcome]);
}

/// FAULTS 44.
#[test]
fn another_blob_under_a_known_id_is_fetched_and_the_old_kept() {
    let mut ledger = begun(SessionKind::Full);
    record(&mut ledger, &["a/1=x", "b/2=y"]);
    store_as(&mut ledger, "1", "a/1.eml");
    store_as(&mut ledger, "2", "b/2.eml");
    next_session(&mut ledger);

    record(&mut ledger, &["a/1=z", "b/2=y"]);

    assert_eq!(names(&due(&ledger, NOW)), ["a: 1"]);
    assert_eq!(find(&ledger, "1").blob.as_str(), "z");
    assert_eq!((tally(&ledger), beside(&ledger)), ([1, 0, 0, 0], [1, 0]));
    assert_eq!(standing(&ledger, "a", "1"), (None, 2));
    store_as(&mut ledger, "1", "a/1.2.eml");
    assert_eq!(tally(&ledger), [1, 1, 0, 0]);
    assert_eq!(files(&ledger), ["a/1.2.eml", "b/2.eml", "a/1.eml"]);
    let is_at = |file| {
        ledger.is_stored_at(&ItemId::new("a"), &DocumentId::new("1"), "folder", file).unwrap()
    };
    assert!(is_at("a/1.eml") && is_at("a/1.2.eml") && !is_at("a/1.3.eml") && !is_at("b/2.eml"));
    assert_eq!(ledger.stored_items().unwrap(), 2);
    assert_eq!(record(&mut ledger, &["a/1=z"]), PageOutcome::default(), "it is known now");
}

/// FAULTS 44.
#[test]
fn another_size_under_a_known_blob_is_another_version() {
    let mut ledger = begun(SessionKind::Full);
    record(&mut ledger, &["a/1=x:4", "b/2=y:"]);
    store(&mut ledger, &["1", "2"]);
    next_session(&mut ledger);

    record(&mut ledger, &["a/1=x:5", "b/2=y:9"]);
    assert_eq!(names(&due(&ledger, NOW)), ["a: 1", "b: 2"], "the stored length is exact as well");

    record(&mut ledger, &["a/1=x:5", "b/2=y:"]);
    assert_eq!((tally(&ledger), beside(&ledger)), ([2, 0, 0, 0], [2, 0]), "no size says nothing");
}

/// FAULTS 44.
#[test]
fn a_version_in_the_same_session_is_counted_once() {
    let mut ledger = begun(SessionKind::Full);
    record(&mut ledger, &["a/1=x"]);
    store_as(&mut ledger, "1", "a/1.eml");

    record(&mut ledger, &["a/1=y"]);

    assert_eq!((tally(&ledger), beside(&ledger)), ([1, 0, 0, 0], [1, 0]));
    store_as(&mut ledger, "1", "a/1.2.eml");
    assert_eq!(tally(&ledger), [1, 1, 0, 0]);
    assert_eq!(standing(&ledger, "a", "1"), (Some("a/1.2.eml".to_owned()), 2));
}

/// FAULTS 48.
#[test]
fn what_is_not_stored_takes_over_the_blob_listed_last() {
    let mut ledger = begun(SessionKind::Full);
    record(&mut ledger, &["wanted/1", "refused/2", "aside/3", "gone/4"]);
    let failure = || Failure::new(Cause::Server, "500");
    let refused = Outcome::Refused { document: wanted(&ledger, "2"), failure: failure() };
    let aside = Outcome::Quarantined { item: item(&ledger, "aside"), failure: failure() };
    let gone = gone(&ledger, "4");
    commit(&mut ledger, &[refused, aside, gone]);
    assert_eq!(tally(&ledger), [4, 0, 1, 2]);

    record(&mut ledger, &["wanted/1=a:9", "refused/2=b:9", "aside/3=c:9", "gone/4=d:9"]);

    assert_eq!((tally(&ledger), beside(&ledger)), ([4, 0, 0, 0], [0, 0]));
    let all: Vec<_> = due(&ledger, NOW).into_iter().flat_map(|work| work.documents).collect();
    let blobs: Vec<_> = all.iter().map(|wanted| (wanted.blob.as_str(), wanted.size)).collect();
    assert_eq!(blobs, ["a", "b", "c", "d"].map(|blob| (blob, Some(9))));
}

/// FAULTS 44.
#[test]
fn a_blob_that_was_used_before_is_a_copy_only_of_its_size() {
    let mut ledger = begun(SessionKind::Full);
    record(&mut ledger, &["a/1=x:4", "b/2=y:"]);
    store(&mut ledger, &["1", "2"]);
    next_session(&mut ledger);

    record(&mut ledger, &["c/3=x:5", "d/4=x:4", "e/5=x:", "f/6=y:", "g/7=y:9"]);

    assert_eq!(names(&due(&ledger, NOW)), ["c: 3", "e: 5", "g: 7"]);
    assert_eq!((tally(&ledger), beside(&ledger)), ([5, 2, 0, 0], [0, 2]));
}

#[test]
fn a_content_that_comes_back_is_taken_from_its_old_file() {
    let mut ledger = begun(SessionKind::Full);
    record(&mut ledger, &["a/1=x"]);
    store_as(&mut ledger, "1", "a/1.eml");
    record(&mut ledger, &["a/1=y"]);
    store_as(&mut ledger, "1", "a/1.2.eml");
    next_session(&mut ledger);

    record(&mut ledger, &["a/1=x"]);

    assert_eq!(
        (tally(&ledger), beside(&ledger)),
        ([0, 0, 0, 0], [1, 1]),
        "nothing is to be fetched"
    );
    assert_eq!(standing(&ledger, "a", "1"), (Some("a/1.eml".to_owned()), 2));
    record(&mut ledger, &["a/1=z"]);
    assert_eq!(standing(&ledger, "a", "1"), (None, 3), "no file has the number of another");
    assert_eq!(files(&ledger), ["a/1.2.eml", "a/1.eml"]);
}

/// FAULTS 48.
#[test]
fn a_blob_that_changed_on_the_way_is_taken_over() {
    let mut ledger = begun(SessionKind::Full);
    record(&mut ledger, &["a/1=x:4"]);
    let listed = find(&ledger, "1");
    let fetched = WantedDocument { blob: BlobId::new("y"), size: Some(6), ..listed.clone() };
    let Outcome::Stored { document, blob, size, file, length, sha256, .. } = stored(&fetched)
    else {
        panic!("it is stored")
    };
    let listed = listed.blob;

    commit(&mut ledger, &[Outcome::Stored { document, listed, blob, size, file, length, sha256 }]);

    assert_eq!(tally(&ledger), [1, 1, 0, 0]);
    assert_eq!(record(&mut ledger, &["a/1=y:6"]), PageOutcome::default());
    assert_eq!((tally(&ledger), beside(&ledger)), ([1, 1, 0, 0], [0, 0]), "and nothing is new");
}

/// FAULTS 48.
#[test]
fn an_answer_that_a_page_overtook_settles_nothing() {
    let mut ledger = begun(SessionKind::Full);
    record(&mut ledger, &["a/1=x", "b/2=x2"]);
    let late = [stored_as(&find(&ledger, "1"), "a/1.eml"), gone(&ledger, "2")];
    record(&mut ledger, &["a/1=y", "b/2=y2"]);

    commit(&mut ledger, &late);
    commit(&mut ledger, &late);

    assert_eq!(names(&due(&ledger, NOW)), ["a: 1", "b: 2"], "the blob listed last is wanted");
    assert_eq!((tally(&ledger), beside(&ledger)), ([2, 0, 0, 0], [1, 0]));
    assert_eq!((files(&ledger), standing(&ledger, "a", "1").1), (vec!["a/1.eml".to_owned()], 2));
}
