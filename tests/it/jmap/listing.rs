//! Full listings on servers that change, lack features or send wrong responses.

use std::sync::atomic::{AtomicUsize, Ordering};

use cynosure::source::{Listing, Source as _};
use cynosure_engine::{Cause, NextPage};
use serde_json::json;

use super::{email_ids, fetch, list, list_everything, page_ids};
use crate::fake_mailbox::FakeMailbox;

#[tokio::test]
async fn everything_is_listed_page_by_page_and_fetched() {
    let served = FakeMailbox::with_emails(10).serve().await;
    let source = served.source();

    let first = source.list_page(&Listing::Full, None).await.unwrap();
    assert_eq!(first.total_documents, Some(10));
    assert_eq!(first.entries.len(), 4, "the server's maxObjectsInGet");
    assert_eq!(first.entries[0].item.as_str(), "TM0");
    assert_eq!(first.entries[0].size, Some(2));
    assert_eq!(list_everything(&source).await.unwrap(), email_ids(0, 10));
    assert_eq!(fetch(&source, "M7").await.unwrap(), b"M7");
}

/// FAULTS 53: the server returns more ids than requested.
#[tokio::test]
async fn a_page_is_truncated_if_the_server_ignores_its_limit() {
    let served = FakeMailbox { ignores_limits: true, ..FakeMailbox::with_emails(10) }.serve().await;
    let source = served.source();

    let (first, _) = page_ids(&source, &Listing::Full, None).await.unwrap();

    assert_eq!(first, email_ids(0, 4));
    assert_eq!(list_everything(&source).await.unwrap(), email_ids(0, 10));
}

#[tokio::test]
async fn an_empty_mailbox_is_listed_at_once() {
    let served = FakeMailbox::with_emails(0).serve().await;

    assert!(list_everything(&served.source()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_listing_survives_a_restart() {
    let served = FakeMailbox::with_emails(10).serve().await;
    let (_, next) = page_ids(&served.source(), &Listing::Full, None).await.unwrap();
    let NextPage::More(page_token) = next else { panic!("expected another page") };

    let (ids, _) = page_ids(&served.source(), &Listing::Full, Some(&page_token)).await.unwrap();

    assert_eq!(ids, email_ids(4, 8));
}

#[tokio::test]
async fn mail_changing_during_a_listing_loses_nothing() {
    let served = FakeMailbox::with_emails(12).serve().await;
    let (listed, _) = list(&served.source(), &Listing::Full, |page| {
        if 1 < page {
            return;
        }
        served.with_mailbox(|mailbox| {
            mailbox.deliver(&format!("N{page}"));
            // Deletes the last listed mail, which is the anchor, and the first one.
            let first = mailbox.emails[0].clone();
            mailbox.destroy(|id| id == format!("M{}", 4 * page + 3) || id == first);
        });
    })
    .await
    .unwrap();

    for id in email_ids(0, 12).iter().chain(&["N0".to_owned(), "N1".to_owned()]) {
        assert!(listed.contains(id), "{id} in {listed:?}");
    }
}

#[tokio::test]
async fn a_listing_whose_page_vanished_restarts() {
    let served = FakeMailbox::with_emails(12).serve().await;
    let (listed, _) = list(&served.source(), &Listing::Full, |page| {
        if page == 1 {
            served.with_mailbox(|mailbox| {
                mailbox.destroy(|id| email_ids(4, 8).iter().any(|deleted| deleted == id));
            });
        }
    })
    .await
    .unwrap();

    let expected: Vec<_> = [email_ids(0, 8), email_ids(0, 4), email_ids(8, 12)].concat();
    assert_eq!(listed, expected);
}

#[tokio::test]
async fn a_listing_that_keeps_losing_its_anchor_gives_up() {
    let served = FakeMailbox::with_emails(12).serve().await;
    served.with_mailbox(|mailbox| {
        mailbox.override_method("Email/query", |arguments| {
            arguments.get("anchor").map(|_| json!({"type": "anchorNotFound"}))
        });
    });

    let failure = list_everything(&served.source()).await.unwrap_err();

    assert_eq!(failure.cause, Cause::CursorExpired);
}

#[tokio::test]
async fn a_server_without_anchors_is_listed_by_position() {
    let served = FakeMailbox::with_emails(23).serve().await;
    served.with_mailbox(|mailbox| {
        mailbox.override_method("Email/query", |arguments| {
            arguments.get("anchor").map(|_| json!({"type": "invalidArguments"}))
        });
    });
    let (listed, _) = list(&served.source(), &Listing::Full, |page| {
        if page == 2 {
            // Deletes listed mails, so that the positions of all others decrease by six.
            served.with_mailbox(|mailbox| {
                mailbox.destroy(|id| email_ids(0, 6).iter().any(|deleted| deleted == id));
            });
        }
    })
    .await
    .unwrap();

    assert_eq!(listed, email_ids(0, 23));
}

#[tokio::test]
async fn a_server_that_cannot_sort_is_listed_in_its_own_order() {
    let served = FakeMailbox::with_emails(9).serve().await;
    served.with_mailbox(|mailbox| {
        mailbox.override_method("Email/query", |arguments| {
            arguments.get("sort").map(|_| json!({"type": "unsupportedSort"}))
        });
    });

    assert_eq!(list_everything(&served.source()).await.unwrap(), email_ids(0, 9));
}

#[tokio::test]
async fn a_listing_loop_is_detected() {
    for cycle in [1, 3] {
        let served = FakeMailbox::with_emails(12).serve().await;
        let calls = AtomicUsize::new(0);
        served.with_mailbox(|mailbox| {
            mailbox.override_method("Email/query", move |_| {
                let page = calls.fetch_add(1, Ordering::Relaxed) % cycle;
                Some(json!({"ids": email_ids(page * 4, page * 4 + 4)}))
            });
        });

        let failure = list_everything(&served.source()).await.unwrap_err();

        assert_eq!(failure.message, "the server's list contains a cycle");
    }
}

#[tokio::test]
async fn an_id_that_the_server_passes_over_is_not_lost() {
    let served = FakeMailbox::with_emails(4).serve().await;
    served.with_mailbox(|mailbox| {
        mailbox.override_method("Email/get", |arguments| {
            let has_ids = arguments["ids"] != json!([]);
            has_ids.then(|| json!({"list": [], "notFound": ["M0"]}))
        });
    });

    let failure = list_everything(&served.source()).await.unwrap_err();

    assert_eq!(failure.cause, Cause::Truncated);
    assert_eq!(failure.message, "the response to Email/get omits 3 of 4 ids");
}

#[tokio::test]
async fn too_many_ids_are_requested_in_smaller_portions() {
    let mut mailbox = FakeMailbox::with_emails(10);
    mailbox.session["capabilities"]["urn:ietf:params:jmap:core"]["maxObjectsInGet"] = json!(500);
    let served = mailbox.serve().await;

    assert_eq!(list_everything(&served.source()).await.unwrap(), email_ids(0, 10));
}
