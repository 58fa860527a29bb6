//! Listings of changes since a cursor, and of selected mailboxes and days.

use chrono::NaiveDate;
use cynosure::source::jmap::JmapOptions;
use cynosure::source::{Listing, PollResult, Source as _};
use cynosure_engine::{Cause, Cursor};
use serde_json::json;

use super::{list, list_everything, page_ids};
use crate::fake_mailbox::FakeMailbox;
use crate::hostile_server::plain_response;

#[tokio::test]
async fn only_changes_since_the_cursor_are_listed() {
    let served = FakeMailbox::with_emails(3).serve().await;
    let source = served.source();
    let cursor = source.current_cursor().await.unwrap();
    assert_eq!(source.poll_changes(&cursor).await, Ok(PollResult::Unchanged));

    served.with_mailbox(|mailbox| (0..6).for_each(|n| mailbox.deliver(&format!("N{n}"))));
    served.with_mailbox(|mailbox| mailbox.emails.retain(|id| id != "N2"));
    assert_eq!(source.poll_changes(&cursor).await, Ok(PollResult::Changed));
    let (listed, next) = list(&source, &Listing::Since(cursor), |_| {}).await.unwrap();

    assert_eq!(listed, ["N0", "N1", "N3", "N4", "N5"]);
    assert_eq!(source.poll_changes(&next.unwrap()).await, Ok(PollResult::Unchanged));
}

#[tokio::test]
async fn a_forgotten_or_malformed_cursor_has_expired() {
    let served = FakeMailbox::with_emails(3).serve().await;
    let source = served.source();
    for cursor in ["99", "junk"] {
        let failure = source.poll_changes(&Cursor::new(cursor)).await.unwrap_err();
        assert_eq!(failure.cause, Cause::CursorExpired, "{failure}");
    }
    let problem = r#"{"type": "urn:ietf:params:jmap:error:notRequest", "detail": "trailing"}"#;
    let response = plain_response("400 Bad", "Content-Type: application/problem+json\r\n", problem);
    served.with_mailbox(|mailbox| mailbox.request_override = Some(("/jmap/", response)));
    let failure = page_ids(&source, &Listing::Since(Cursor::new("x,")), None).await.unwrap_err();
    assert_eq!(failure.cause, Cause::CursorExpired, "{failure}");
}

#[tokio::test]
async fn changes_without_progress_are_detected() {
    let served = FakeMailbox::with_emails(3).serve().await;
    served.with_mailbox(|mailbox| {
        mailbox.override_method("Email/changes", |_| {
            Some(json!({"newState": "5", "hasMoreChanges": true, "created": []}))
        });
    });

    let listing = Listing::Since(Cursor::new("5"));
    let failure = list(&served.source(), &listing, |_| {}).await.unwrap_err();

    assert_eq!(failure.cause, Cause::Unknown);
}

#[tokio::test]
async fn only_the_configured_mailboxes_and_days_are_listed() {
    let served = FakeMailbox::with_emails(3).serve().await;
    let since = NaiveDate::from_ymd_opt(2020, 1, 1);
    let options = |mailbox: &str, since| JmapOptions {
        mailboxes: vec![mailbox.to_owned()],
        since,
        ..served.options()
    };
    let source = served.source_with(options("inbox", since));
    list_everything(&source).await.unwrap();
    assert_eq!(
        served.calls("Email/query")[0]["filter"],
        json!({"operator": "AND", "conditions":
            [{"inMailbox": "in"}, {"after": "2020-01-01T00:00:00Z"}]})
    );
    assert_eq!(served.calls("Mailbox/get").len(), 1, "the mailboxes are requested once");

    served.with_mailbox(|mailbox| {
        mailbox.override_method("Email/changes", |_| {
            Some(
                json!({"newState": "9", "hasMoreChanges": false, "created": [], "updated": ["M1"]}),
            )
        });
    });
    let cursor = Cursor::new("0");
    assert_eq!(
        source.poll_changes(&cursor).await,
        Ok(PollResult::Changed),
        "the mail may have been moved into the mailbox"
    );
    let since_cursor = Listing::Since(cursor);
    assert_eq!(page_ids(&source, &since_cursor, None).await.unwrap().0, ["M1"]);
    let other_mailbox = served.source_with(options("Inbox/Old", since));
    assert!(page_ids(&other_mailbox, &since_cursor, None).await.unwrap().0.is_empty());
    let later = NaiveDate::from_ymd_opt(2024, 5, 2);
    let later_only = served.source_with(options("inbox", later));
    assert!(page_ids(&later_only, &since_cursor, None).await.unwrap().0.is_empty());

    let failure = list_everything(&served.source_with(options("Sent", None))).await.unwrap_err();
    assert!(failure.message.contains("Inbox, Inbox/Old"), "{failure}");
}

/// FAULTS 53: a list of changes cannot be truncated. A full listing follows, which has pages.
#[tokio::test]
async fn far_more_changes_than_requested_expire_the_cursor() {
    let served = FakeMailbox { ignores_limits: true, ..FakeMailbox::with_emails(0) }.serve().await;
    let source = served.source();
    let cursor = source.current_cursor().await.unwrap();
    served.with_mailbox(|mailbox| (0..10_000).for_each(|n| mailbox.deliver(&format!("N{n}"))));

    let failure = source.list_page(&Listing::Since(cursor), None).await.unwrap_err();

    assert_eq!(failure.cause, Cause::CursorExpired);
    assert_eq!(failure.message, "the server returned 10000 or more changes instead of at most 4");
}
