//! Listings of what has come since, and of what is wanted only.

use chrono::NaiveDate;
use cynosure::engine::{Cause, Cursor};
use cynosure::source::jmap::JmapOptions;
use cynosure::source::{Listing, PollResult, Source as _};
use serde_json::json;

use super::{everything, list, page};
use crate::hostile::plain;
use crate::mailbox::Mailbox;

#[tokio::test]
async fn what_came_since_the_cursor_is_listed_and_nothing_else() {
    let served = Mailbox::of(3).serve().await;
    let source = served.source();
    let cursor = source.current_cursor().await.unwrap();
    assert_eq!(source.poll_changes(&cursor).await, Ok(PollResult::Unchanged));

    served.change(|mailbox| (0..6).for_each(|n| mailbox.arrive(&format!("N{n}"))));
    served.change(|mailbox| mailbox.emails.retain(|id| id != "N2"));
    assert_eq!(source.poll_changes(&cursor).await, Ok(PollResult::Changed));
    let (listed, next) = list(&source, &Listing::Since(cursor), |_| {}).await.unwrap();

    assert_eq!(listed, ["N0", "N1", "N3", "N4", "N5"]);
    assert_eq!(source.poll_changes(&next.unwrap()).await, Ok(PollResult::Unchanged));
}

#[tokio::test]
async fn a_cursor_that_the_server_forgot_or_cannot_read_has_expired() {
    let served = Mailbox::of(3).serve().await;
    let source = served.source();
    for cursor in ["99", "junk"] {
        let failure = source.poll_changes(&Cursor::new(cursor)).await.unwrap_err();
        assert_eq!(failure.cause, Cause::CursorExpired, "{failure}");
    }
    let problem = r#"{"type": "urn:ietf:params:jmap:error:notRequest", "detail": "trailing"}"#;
    let refusal = plain("400 Bad", "Content-Type: application/problem+json\r\n", problem);
    served.change(|mailbox| mailbox.instead = Some(("/jmap/", refusal)));
    let failure = page(&source, &Listing::Since(Cursor::new("x,")), None).await.unwrap_err();
    assert_eq!(failure.cause, Cause::CursorExpired, "{failure}");
}

#[tokio::test]
async fn changes_that_stand_still_are_noticed() {
    let served = Mailbox::of(3).serve().await;
    served.change(|mailbox| {
        mailbox.bend("Email/changes", |_| {
            Some(json!({"newState": "5", "hasMoreChanges": true, "created": []}))
        });
    });

    let listing = Listing::Since(Cursor::new("5"));
    let failure = list(&served.source(), &listing, |_| {}).await.unwrap_err();

    assert_eq!(failure.cause, Cause::Unknown);
}

#[tokio::test]
async fn only_the_wanted_mailboxes_and_days_are_listed() {
    let served = Mailbox::of(3).serve().await;
    let since = NaiveDate::from_ymd_opt(2020, 1, 1);
    let options = |mailbox: &str, since| JmapOptions {
        mailboxes: vec![mailbox.to_owned()],
        since,
        ..served.options()
    };
    let source = served.source_with(options("inbox", since));
    everything(&source).await.unwrap();
    assert_eq!(
        served.calls("Email/query")[0]["filter"],
        json!({"operator": "AND", "conditions":
            [{"inMailbox": "in"}, {"after": "2020-01-01T00:00:00Z"}]})
    );
    assert_eq!(served.calls("Mailbox/get").len(), 1, "looked up once");

    served.change(|mailbox| {
        mailbox.bend("Email/changes", |_| {
            Some(
                json!({"newState": "9", "hasMoreChanges": false, "created": [], "updated": ["M1"]}),
            )
        });
    });
    let cursor = Cursor::new("0");
    assert_eq!(source.poll_changes(&cursor).await, Ok(PollResult::Changed), "it may have moved in");
    let since_cursor = Listing::Since(cursor);
    assert_eq!(page(&source, &since_cursor, None).await.unwrap().0, ["M1"]);
    let elsewhere = served.source_with(options("Inbox/Old", since));
    assert!(page(&elsewhere, &since_cursor, None).await.unwrap().0.is_empty());
    let later = NaiveDate::from_ymd_opt(2024, 5, 2);
    let younger = served.source_with(options("inbox", later));
    assert!(page(&younger, &since_cursor, None).await.unwrap().0.is_empty());

    let failure = everything(&served.source_with(options("Sent", None))).await.unwrap_err();
    assert!(failure.message.contains("Inbox, Inbox/Old"), "{failure}");
}

/// FAULTS 53: they cannot be cut, and a listing of everything goes page by page.
#[tokio::test]
async fn far_more_changes_than_asked_for_are_listed_in_full() {
    let served = Mailbox { ignores_limits: true, ..Mailbox::of(0) }.serve().await;
    let source = served.source();
    let cursor = source.current_cursor().await.unwrap();
    served.change(|mailbox| (0..10_000).for_each(|n| mailbox.arrive(&format!("N{n}"))));

    let failure = source.list_page(&Listing::Since(cursor), None).await.unwrap_err();

    assert_eq!(failure.cause, Cause::CursorExpired);
    assert_eq!(failure.message, "the server names 10000 changes or more where 4 were asked for");
}
