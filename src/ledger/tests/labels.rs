//! Labels of documents, as they were last listed.

use super::*;

fn to_labels(labels: &[(&str, &str)]) -> Vec<(String, String)> {
    labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Returns the entry of a document, as [`listing_entries`] parses it, with labels.
fn labeled_entry(name: &str, labels: &[(&str, &str)]) -> ListedDocument {
    ListedDocument { labels: to_labels(labels), ..listing_entries(&[name]).remove(0) }
}

/// Returns the documents of an item with their labels, each as a line.
fn label_lines(ledger: &dyn Ledger, item: &str, limit: usize) -> Vec<String> {
    let found = ledger.labeled_documents(&ItemId::new(item), limit).unwrap();
    let lines = found.into_iter().map(|LabeledDocument { document, labels }| {
        let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{document}: {}", labels.join(" "))
    });
    lines.collect()
}

#[test]
fn labels_are_kept_as_they_were_last_listed() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    let page = [
        labeled_entry("a/1", &[("subject", "old"), ("from", "me")]),
        labeled_entry("a/2", &[]),
        labeled_entry("a/3", &[("subject", "other")]),
        labeled_entry("b/4", &[("subject", "of another item")]),
    ];
    record_entries(&mut *ledger, &page);
    let pending = find_due(&*ledger, "1");
    store_documents(&mut *ledger, &["1"]);

    record_entries(&mut *ledger, &[labeled_entry("a/1", &[("subject", "new")])]);

    assert_eq!(label_lines(&*ledger, "a", 9), ["1: from=me subject=new", "3: subject=other"]);
    assert_eq!(label_lines(&*ledger, "a", 1), ["1: from=me subject=new"]);
    assert_eq!(label_lines(&*ledger, "none", 9), [""; 0]);
    let expected = to_labels(&[("from", "me"), ("subject", "new")]);
    assert_eq!(facts(&*ledger, pending.row_id).labels, expected);
}

#[test]
fn a_long_label_is_truncated() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    let subject = "ü".repeat(2000);

    record_entries(&mut *ledger, &[labeled_entry("a/1", &[("subject", subject.as_str())])]);

    let labels = facts(&*ledger, due_row_id(&*ledger, "1")).labels;
    assert_eq!(labels[0].1, "ü".repeat(512));
}

#[test]
fn adopted_documents_have_the_labels_of_their_manifest() {
    let mut ledger = LedgerHome::new().open();
    let document = AdoptedDocument {
        item: ItemId::new("a"),
        document: DocumentId::new("1"),
        blob: Some(BlobId::new("1")),
        size: None,
        length: 4,
        sha256: [7; 32],
        file: "a/1.eml".to_owned(),
        labels: to_labels(&[("subject", "kept")]),
        folders: Vec::new(),
    };

    ledger.adopt_folder("folder", NOW, &[document]).unwrap();

    assert_eq!(label_lines(&*ledger, "a", 9), ["1: subject=kept"]);
}
