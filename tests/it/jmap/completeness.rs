//! Listings that end early, contain ids that are not found, or change while they are read.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cynosure::source::jmap::JmapOptions;
use cynosure::source::{Listing, Source as _};
use cynosure_engine::{Cause, NextPage};
use serde_json::{Value, json};

use super::{email_ids, list_completely, list_everything};
use crate::fake_mailbox::{FakeMailbox, ServedMailbox};

/// Number of overrides that is never used up.
const ALWAYS: usize = usize::MAX;

/// Serves a mailbox in which `query_override` replaces the first `times` responses to Email/query
/// for which it returns one.
async fn mailbox_with_override(
    mailbox: FakeMailbox,
    times: usize,
    query_override: impl Fn(&Value) -> Option<Value> + Send + Sync + 'static,
) -> ServedMailbox {
    let served = mailbox.serve().await;
    let used = Arc::new(AtomicUsize::new(0));
    served.with_mailbox(|mailbox| {
        mailbox.method_override = Some(Box::new(move |name, arguments| {
            let body = (name == "Email/query").then(|| query_override(arguments)).flatten()?;
            let is_overridden = used.fetch_add(1, Ordering::Relaxed) < times;
            is_overridden.then(|| (name.to_owned(), body))
        }));
    });
    served
}

/// Returns a response without ids, with the total if the request asks for it.
fn empty_query_response(arguments: &Value, total: usize) -> Value {
    let wants_total = arguments["calculateTotal"] == true;
    if wants_total { json!({"ids": [], "total": total}) } else { json!({"ids": []}) }
}

/// FAULTS 46: a page in the middle is empty once or several times.
#[tokio::test]
async fn an_empty_middle_page_loses_nothing() {
    for times in [1, 2, 3] {
        let served = mailbox_with_override(FakeMailbox::with_emails(289), times, |arguments| {
            (arguments["anchor"] == "M99").then(|| empty_query_response(arguments, 289))
        })
        .await;

        assert_eq!(
            list_everything(&served.source()).await.unwrap(),
            email_ids(0, 289),
            "{times} times"
        );
    }
}

/// FAULTS 46: the list ends early at every request.
#[tokio::test]
async fn a_list_that_always_ends_early_is_not_complete() {
    let responses: [fn(&Value) -> Value; 4] = [
        |arguments| empty_query_response(arguments, 289),
        // The anchor is found, but nothing after it.
        |arguments| match arguments["anchorOffset"].as_u64() {
            Some(0) => json!({"ids": ["M99"], "position": 99, "total": 289}),
            _ => json!({"ids": []}),
        },
        // The total shrinks to the number of listed mails.
        |arguments| empty_query_response(arguments, 100),
        // The total is missing.
        |_| json!({"ids": []}),
    ];
    for (number, response) in responses.into_iter().enumerate() {
        let served =
            mailbox_with_override(FakeMailbox::with_emails(289), ALWAYS, move |arguments| {
                (arguments["anchor"] == "M99").then(|| response(arguments))
            })
            .await;

        let failure = list_everything(&served.source()).await.unwrap_err();

        assert_eq!(failure.cause, Cause::ListingIncomplete, "{number}: {failure}");
        assert_eq!(
            failure.message, "the server's list ended after 100 of 289 messages",
            "{number}"
        );
    }
}

/// FAULTS 46: the first page is empty.
#[tokio::test]
async fn an_empty_first_page_is_no_empty_mailbox() {
    let empty_first_page = |arguments: &Value| {
        (arguments["position"] == 0).then(|| json!({"ids": [], "position": 0, "total": 9}))
    };
    let once = mailbox_with_override(FakeMailbox::with_emails(9), 1, empty_first_page).await;
    assert_eq!(list_everything(&once.source()).await.unwrap(), email_ids(0, 9));

    let always = mailbox_with_override(FakeMailbox::with_emails(9), ALWAYS, empty_first_page).await;
    let failure = list_everything(&always.source()).await.unwrap_err();
    assert_eq!(failure.cause, Cause::ListingIncomplete);
    assert_eq!(failure.message, "the server's list ended after 0 of 9 messages");
}

/// FAULTS 46: without a total, two empty responses in a row are the end.
#[tokio::test]
async fn without_totals_two_empty_pages_end_a_listing() {
    let mut mailbox = FakeMailbox::with_emails(12);
    mailbox.reports_total = false;
    let served = mailbox_with_override(mailbox, 1, |arguments| {
        (arguments["anchor"] == "M7").then(|| json!({"ids": []}))
    })
    .await;

    assert_eq!(list_everything(&served.source()).await.unwrap(), email_ids(0, 12));
}

/// FAULTS 46: also when listing by position.
#[tokio::test]
async fn an_empty_page_loses_nothing_when_listing_by_position() {
    for (times, is_complete) in [(2, true), (ALWAYS, false)] {
        let used = AtomicUsize::new(0);
        let served =
            mailbox_with_override(FakeMailbox::with_emails(40), ALWAYS, move |arguments| {
                if arguments.get("anchor").is_some() {
                    return Some(json!({"type": "invalidArguments"}));
                }
                let position = usize::try_from(arguments["position"].as_u64()?).unwrap();
                // The truncated list ends with M7.
                let is_truncated = 4 < position && used.fetch_add(1, Ordering::Relaxed) < times;
                let ids = email_ids(position.min(8), 8.min(position + 4));
                is_truncated.then(|| json!({"ids": ids, "position": position, "total": 40}))
            })
            .await;
        served.with_mailbox(|mailbox| {
            let mut query_override = mailbox.method_override.take().unwrap();
            mailbox.method_override = Some(Box::new(move |name, arguments| {
                let (name, body) = query_override(name, arguments)?;
                Some((if body.get("type").is_some() { "error".to_owned() } else { name }, body))
            }));
        });

        let listed = list_everything(&served.source()).await;

        match listed {
            Ok(ids) => {
                let ids: BTreeSet<String> = ids.into_iter().collect();
                assert_eq!((ids, is_complete), (email_ids(0, 40).into_iter().collect(), true));
            }
            Err(failure) => {
                assert_eq!((failure.cause, is_complete), (Cause::ListingIncomplete, false));
            }
        }
    }
}

/// FAULTS 28, 47: a page repeats ids.
#[tokio::test]
async fn an_id_that_is_named_twice_counts_once() {
    let served = mailbox_with_override(FakeMailbox::with_emails(12), ALWAYS, |arguments| {
        (arguments["position"] == 0).then(|| json!({"ids": ["M0", "M1", "M0", "M1"], "total": 12}))
    })
    .await;

    assert_eq!(list_everything(&served.source()).await.unwrap(), email_ids(0, 12));
}

/// FAULTS 47: ids that Email/query returns and Email/get does not find.
#[tokio::test]
async fn ids_not_found_are_requested_once_more_at_the_end() {
    for (times, is_found_later) in [(1, true), (ALWAYS, false)] {
        let mut mailbox = FakeMailbox::with_emails(100);
        mailbox.not_found_counts = email_ids(20, 70).into_iter().map(|id| (id, times)).collect();
        let served = mailbox.serve().await;

        let result = list_completely(&served.source(), &Listing::Full, |_| {}).await.unwrap();

        let not_found = email_ids(20, 70);
        let mut listed = [email_ids(0, 20), email_ids(70, 100)].concat();
        if is_found_later {
            listed.extend(not_found.clone());
        }
        listed.sort();
        let mut found = result.listed;
        found.sort();
        assert_eq!(found, listed);
        assert_eq!(result.missing, if is_found_later { Vec::new() } else { not_found });
    }
}

/// FAULTS 47: a new source, as after a restart, continues from the token of each page.
#[tokio::test]
async fn ids_not_found_survive_a_restart() {
    let mut mailbox = FakeMailbox::with_emails(12);
    mailbox.not_found_counts = [("M2".to_owned(), 1), ("M3".to_owned(), ALWAYS)].into();
    let served = mailbox.serve().await;
    let (mut page_token, mut listed, mut missing) = (None, Vec::new(), Vec::new());
    loop {
        let page = served.source().list_page(&Listing::Full, page_token.as_ref()).await.unwrap();
        listed.extend(page.entries.iter().map(|entry| entry.document.to_string()));
        missing.extend(page.missing_documents.iter().map(ToString::to_string));
        match page.next {
            Ok(NextPage::More(next)) => page_token = Some(next),
            Ok(NextPage::Done(_)) => break,
            Err(end) => panic!("{}", end.reason),
        }
    }

    assert_eq!(listed.len(), 11);
    assert_eq!((listed.last().unwrap().as_str(), missing), ("M2", vec!["M3".to_owned()]));
}

/// FAULTS 47: more ids than the 500 that are deferred to the end of a listing.
#[tokio::test]
async fn very_many_ids_not_found_are_requested_in_between() {
    let mut mailbox = FakeMailbox::with_emails(620);
    mailbox.not_found_counts = email_ids(0, 610).into_iter().map(|id| (id, ALWAYS)).collect();
    let served = mailbox.serve().await;

    let result = list_completely(&served.source(), &Listing::Full, |_| {}).await.unwrap();

    let missing: BTreeSet<String> = result.missing.iter().cloned().collect();
    assert_eq!((missing.len(), result.missing.len()), (610, 610));
    assert_eq!(result.listed, email_ids(610, 620));
}

/// FAULTS 47: also in a listing of changes.
#[tokio::test]
async fn ids_not_found_in_changes_are_reported_as_missing() {
    let served = FakeMailbox::with_emails(3).serve().await;
    let source = served.source();
    let cursor = source.current_cursor().await.unwrap();
    served.with_mailbox(|mailbox| {
        (0..9).for_each(|n| mailbox.deliver(&format!("N{n}")));
        mailbox.not_found_counts = [("N1".to_owned(), 1), ("N2".to_owned(), ALWAYS)].into();
    });

    let result = list_completely(&source, &Listing::Since(cursor), |_| {}).await.unwrap();

    assert_eq!(result.listed, ["N0", "N3", "N4", "N5", "N6", "N7", "N8", "N1"]);
    assert_eq!(result.missing, ["N2"]);
}

/// Makes up to three random changes to a mailbox, as between two pages.
fn mutate_mailbox(mailbox: &mut FakeMailbox, rng: &mut fastrand::Rng, next_number: &mut usize) {
    for _ in 0..rng.usize(0..4) {
        let index = (!mailbox.emails.is_empty()).then(|| rng.usize(0..mailbox.emails.len()));
        let new_id = format!("N{next_number}");
        match (rng.u32(0..8), index) {
            (0..3, _) => mailbox.deliver(&new_id),
            (3, _) => mailbox.insert(rng.usize(0..=mailbox.emails.len()), &new_id),
            (4..6, Some(index)) => {
                let deleted = mailbox.emails[index].clone();
                mailbox.destroy(|id| id == deleted);
            }
            (_, Some(index)) => {
                let moved = mailbox.emails[index].clone();
                mailbox.move_to_other_folder(&moved);
            }
            (_, None) => {}
        }
        *next_number += 1;
    }
}

/// FAULTS 46: changes are not mistaken for a listing that ends early, and no mail is lost.
#[tokio::test]
async fn a_changing_mailbox_is_listed_completely() {
    for seed in 0..60 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let served = FakeMailbox::with_emails(30 + rng.usize(0..20)).serve().await;
        let (is_filtered, supports_anchors) = (rng.bool(), 0 < seed % 4);
        served.with_mailbox(|mailbox| {
            mailbox.reports_total = 0 < seed % 5;
            mailbox.override_method("Email/query", move |arguments| {
                let is_rejected = !supports_anchors && arguments.get("anchor").is_some();
                is_rejected.then(|| json!({"type": "invalidArguments"}))
            });
        });
        let mailboxes = if is_filtered { vec!["Inbox".to_owned()] } else { Vec::new() };
        let source = served.source_with(JmapOptions { mailboxes, ..served.options() });
        let expected_ids = || -> BTreeSet<String> {
            let mailbox = served.mailbox.lock().unwrap();
            let in_inbox = |id: &&String| !is_filtered || !mailbox.in_old_folder.contains(*id);
            mailbox.emails.iter().filter(in_inbox).cloned().collect()
        };
        let cursor = source.current_cursor().await.unwrap();
        let mut next_number = 0;

        let result = list_completely(&source, &Listing::Full, |_| {
            served.with_mailbox(|mailbox| mutate_mailbox(mailbox, &mut rng, &mut next_number));
        })
        .await;

        let result = result.unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        let changes = list_completely(&source, &Listing::Since(cursor), |_| {}).await.unwrap();
        let found: BTreeSet<String> = result.listed.into_iter().chain(changes.listed).collect();
        let lost: Vec<_> = expected_ids().difference(&found).cloned().collect();
        assert!(lost.is_empty(), "seed {seed}: {lost:?}");
    }
}
