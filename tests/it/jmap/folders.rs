//! Folders of listed mails: the paths of their mailboxes.

use std::collections::BTreeMap;

use cynosure::source::jmap::{JmapOptions, JmapSource};
use cynosure::source::{Listing, Source as _};
use cynosure_engine::{Cause, NextPage};
use serde_json::{Value, json};

use super::list_everything;
use crate::fake_mailbox::{FakeMailbox, ServedMailbox};

/// Lists to the end. Returns the folders of each mail, by its id.
async fn list_folders(source: &JmapSource, listing: &Listing) -> BTreeMap<String, Vec<String>> {
    let (mut folders, mut page_token) = (BTreeMap::new(), None);
    loop {
        let page = source.list_page(listing, page_token.as_ref()).await.unwrap();
        let entries = page.entries.into_iter();
        folders.extend(entries.map(|entry| (entry.document.as_str().to_owned(), entry.folders)));
        match page.next.expect("the end is verified") {
            NextPage::More(next) => page_token = Some(next),
            NextPage::Done(_) => return folders,
        }
    }
}

fn mailbox(id: &str, name: &str, parent: Option<&str>) -> Value {
    json!({"id": id, "name": name, "parentId": parent, "role": null})
}

/// Overrides the response to Mailbox/get. `respond` returns the mailboxes for the requested ids.
fn override_mailboxes(
    served: &ServedMailbox,
    mut respond: impl FnMut(&Value) -> Value + Send + 'static,
) {
    served.with_mailbox(|mailbox| {
        mailbox.method_override = Some(Box::new(move |name, arguments| {
            if name != "Mailbox/get" {
                return None;
            }
            let body = respond(&arguments["ids"]);
            let name = if body.get("type").is_some() { "error" } else { name };
            Some((name.to_owned(), body))
        }));
    });
}

/// Serves twelve mails, four on each page, of which some are in the folder `old`.
async fn served_with_old(old: &[&str]) -> ServedMailbox {
    let mut mailbox = FakeMailbox::with_emails(12);
    mailbox.in_old_folder = old.iter().map(|&id| id.to_owned()).collect();
    mailbox.serve().await
}

#[tokio::test]
async fn mails_have_the_paths_of_their_mailboxes() {
    let served = served_with_old(&["M1", "M7"]).await;

    let folders = list_folders(&served.source(), &Listing::Full).await;

    assert_eq!(folders.len(), 12);
    assert_eq!(folders["M0"], ["Inbox"]);
    assert_eq!(folders["M1"], ["Inbox/Old"]);
    assert_eq!(folders["M7"], ["Inbox/Old"]);
    assert_eq!(served.calls("Mailbox/get").len(), 1, "once for all pages");
}

#[tokio::test]
async fn changed_mails_have_folders() {
    let served = served_with_old(&[]).await;
    let source = served.source_with(JmapOptions {
        mailboxes: vec!["Inbox".to_owned(), "Old".to_owned()],
        ..served.options()
    });
    let cursor = source.current_cursor().await.unwrap();
    served.with_mailbox(|mailbox| {
        mailbox.deliver("N0");
        mailbox.move_to_other_folder("M3");
    });

    let folders = list_folders(&source, &Listing::Since(cursor)).await;

    assert_eq!(folders.len(), 2);
    assert_eq!(folders["N0"], ["Inbox"]);
    assert_eq!(folders["M3"], ["Inbox/Old"]);
    assert_eq!(served.calls("Mailbox/get").len(), 1, "the filter has read them");
}

#[tokio::test]
async fn a_moved_mail_and_a_renamed_mailbox_are_found_by_a_reconcile() {
    let served = served_with_old(&[]).await;
    let source = served.source();
    let before = source.list_page(&Listing::Full, None).await.unwrap().entries.remove(1);
    assert_eq!(before.document.as_str(), "M1");
    assert_eq!(before.folders, ["Inbox"]);

    served.with_mailbox(|mailbox| mailbox.move_to_other_folder("M1"));
    override_mailboxes(
        &served,
        |_| json!({"list": [mailbox("in", "Eingang", None), mailbox("old", "Alt", Some("in"))]}),
    );
    let after = source.list_page(&Listing::Full, None).await.unwrap().entries;

    assert_eq!(after[0].folders, ["Eingang"]);
    assert_eq!(after[1].folders, ["Eingang/Alt"]);
    assert_eq!((&after[1].blob, after[1].size), (&before.blob, before.size));
}

#[tokio::test]
async fn a_mailbox_created_during_a_listing_is_named() {
    let served = served_with_old(&["M6"]).await;
    let mut reads = 0;
    override_mailboxes(&served, move |_| {
        reads += 1;
        let all = [mailbox("in", "Inbox", None), mailbox("old", "New", None)];
        json!({"list": all[..reads.min(2)]})
    });

    let folders = list_folders(&served.source(), &Listing::Full).await;

    assert_eq!(folders["M6"], ["New"]);
    assert_eq!(served.calls("Mailbox/get").len(), 2);
}

#[tokio::test]
async fn a_mailbox_that_stays_unknown_is_read_once() {
    let served = served_with_old(&["M4", "M5", "M8", "M9"]).await;
    override_mailboxes(&served, |_| json!({"list": [mailbox("in", "Inbox", None)]}));

    let folders = list_folders(&served.source(), &Listing::Full).await;

    assert_eq!(folders["M3"], ["Inbox"]);
    assert_eq!(folders["M8"], ["old"]);
    assert_eq!(served.calls("Mailbox/get").len(), 2, "once, and once more for the unknown one");
}

/// An account may have more mailboxes than the server returns at once (RFC 8620 §5.1).
#[tokio::test]
async fn very_many_mailboxes_are_read_by_their_ids() {
    let truncated = json!({"list": vec![mailbox("x", "X", Some("cut off")); 4]});
    for response_to_all in [json!({"type": "requestTooLarge"}), truncated] {
        let served = served_with_old(&["M1"]).await;
        override_mailboxes(&served, move |ids| {
            let Some(ids) = ids.as_array() else { return response_to_all.clone() };
            let all = [
                mailbox("in", "Inbox", Some("top")),
                mailbox("old", "Old", Some("in")),
                mailbox("top", "Top", None),
            ];
            let list: Vec<_> = all.into_iter().filter(|found| ids.contains(&found["id"])).collect();
            json!({"list": list, "notFound": []})
        });

        let folders = list_folders(&served.source(), &Listing::Full).await;

        assert_eq!(folders["M0"], ["Top/Inbox"]);
        assert_eq!(folders["M1"], ["Top/Inbox/Old"]);
        let calls = served.calls("Mailbox/get");
        let ids: Vec<&Value> = calls.iter().map(|arguments| &arguments["ids"]).collect();
        assert_eq!(ids, [&Value::Null, &json!(["in", "old"]), &json!(["top"])]);
    }
}

#[tokio::test]
async fn mailboxes_that_the_server_refuses_to_list_are_named_by_their_ids() {
    for error_type in ["unknownMethod", "forbidden", "invalidArguments"] {
        let served = served_with_old(&["M9"]).await;
        override_mailboxes(&served, move |_| json!({"type": error_type}));
        let source = served.source();

        for listings in 1..=2 {
            let folders = list_folders(&source, &Listing::Full).await;

            assert_eq!(folders.len(), 12, "{error_type}");
            assert_eq!(folders["M0"], ["in"]);
            assert_eq!(folders["M9"], ["old"]);
            assert_eq!(served.calls("Mailbox/get").len(), listings, "once for each listing");
        }
    }
}

#[tokio::test]
async fn a_passing_failure_of_the_mailboxes_fails_the_page() {
    let served = served_with_old(&[]).await;
    override_mailboxes(&served, |_| json!({"type": "serverFail"}));

    let failure = list_everything(&served.source()).await.unwrap_err();

    assert_eq!(failure.cause, Cause::Server);
    assert!(failure.message.contains("Mailbox/get"), "{failure}");
}
