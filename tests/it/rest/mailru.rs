//! mail.ru: sessions of a browser, true statuses in the body of a 200, and threads that move while
//! they are listed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cynosure::source::{CredentialChange, Listing, PollResult, Source as _};
use cynosure_engine::{Cause, ItemId};
use cynosure_lab::demo::DemoOptions;
use serde_json::{Value, json};

use super::{
    InterceptedApi, assert_each_folder_has_its_documents, assert_failure, failure_of_fetch,
    failure_of_listing,
};
use crate::hostile_server::plain_response;
use crate::sources::mailru::{Mailru, mailru_response};
use crate::sources::rest_embedded::ProviderApi;
use crate::sources::suite::SourceOptions;
use crate::sources::suite::extraction::{
    ListingProgress, assert_same_contents, fetch_all, fetch_remaining, list_everything, list_since,
    list_with_cursor,
};

/// Remedy of the profile for a session that has ended.
const ENDED: &str =
    "; the session has ended: open the mailbox in the browser, and save its session again";

/// Remedy of the profile for a CAPTCHA.
const CAPTCHA: &str = "; the service wants to see a person: open the mailbox in the browser";

fn page(status: &str) -> Vec<u8> {
    plain_response(status, "Content-Type: text/html\r\n", "<html><body>Sign in</body></html>")
}

fn message(body: &str) -> Vec<u8> {
    plain_response("200 OK", "Content-Type: message/rfc822\r\n", body)
}

#[tokio::test]
async fn an_ended_session_is_refused_and_a_fresh_one_continues() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mailru.session");
    let (kind, token_file) = (Mailru::KIND, Some(file.clone()));
    let service = DemoOptions { kind, items: 30, token_file, ..DemoOptions::default() };
    let has_ended = Arc::new(AtomicBool::new(false));
    let shared = Arc::clone(&has_ended);
    let api = InterceptedApi::<Mailru>::start_with(service, move |_, request| {
        let is_ended = request.head.contains("Mpop=demo;") && shared.load(Ordering::Relaxed);
        is_ended.then(|| mailru_response(403, &json!("nosdc")))
    })
    .await;
    let options = SourceOptions::new(Mailru::SECRET);
    let source = api.source(&options);
    let mut listing = ListingProgress::default();
    listing.list_page(&source, &Listing::Full).await;

    has_ended.store(true, Ordering::Relaxed);
    let refused = source.list_page(&Listing::Full, listing.page_token.as_ref()).await;

    assert_failure(&refused.unwrap_err(), Cause::Unauthorized, ENDED);
    assert_eq!(source.refresh_credential().await, Ok(CredentialChange::Unchanged));
    options.replace_secret(&fs_err::read_to_string(&file).unwrap());
    assert_eq!(source.refresh_credential().await, Ok(CredentialChange::Changed));
    listing.finish(&source, &Listing::Full).await;
    listing.assert_complete(api.contents().len(), 1);
    let stored = fetch_all(&source, &listing.documents()).await;
    assert_same_contents(&stored, &api.contents());
}

#[tokio::test]
async fn a_challenge_is_no_list_and_no_message() {
    for (response, words) in [
        (page("200 OK"), "unexpected content type text/html"),
        (mailru_response(403, &json!("captcha_required")), CAPTCHA),
        (message("<html><body>Are you a robot?</body></html>"), "begins with no header line"),
        (message("Are you a robot?"), "begins with no header line"),
        (message(""), "begins with no header line"),
    ] {
        let failure = failure_of_fetch::<Mailru>(response).await;

        assert_failure(&failure, Cause::Challenge, words);
    }
    for (response, words) in [
        (page("200 OK"), "unexpected content type text/html"),
        (mailru_response(200, &json!("captcha")), "`[list] items` = \"/body/threads\" selects"),
        (mailru_response(403, &json!("captcha")), CAPTCHA),
    ] {
        let api = InterceptedApi::<Mailru>::start(5, move |_, request| {
            request.path().contains("/threads/status/smart").then(|| response.clone())
        })
        .await;
        let source = api.source(&SourceOptions::new(Mailru::SECRET));

        let failure = failure_of_listing(&source).await;

        let is_list = words.starts_with("`[list]");
        let cause = if is_list { Cause::Unknown } else { Cause::Challenge };
        assert_failure(&failure, cause, words);
    }
}

#[tokio::test]
async fn the_status_in_the_body_counts() {
    let field = |error: &str| json!({ "id": { "error": error, "value": "1" } });
    let wait = Some(Duration::from_secs(600));
    for (status, body, cause, retry_after, words) in [
        (429, json!({}), Cause::RateLimit, wait, "is \"429\""),
        (400, json!("WAIT_AND_RETRY"), Cause::RateLimit, wait, "is \"400\""),
        (403, json!("ATTEMPTS_EXCEEDED"), Cause::RateLimit, wait, "is \"403\""),
        (401, json!({}), Cause::Unauthorized, None, ENDED),
        (403, json!("token"), Cause::Unauthorized, None, ENDED),
        (403, json!("NO_AUTH_COOKIE"), Cause::Unauthorized, None, ENDED),
        (403, field("access_denied"), Cause::Forbidden, None, "is \"403\""),
        (400, field("not_exist"), Cause::NotFound, None, "is \"400\""),
        (404, json!({}), Cause::NotFound, None, "is \"404\""),
        (400, json!("MESSAGE_NOT_EXIST"), Cause::NotFound, None, "is \"400\""),
        (500, json!("STORAGE_UNAVAILABLE"), Cause::Server, None, "is \"500\""),
        (418, json!({}), Cause::Unknown, None, "is \"418\""),
    ] {
        let failure = failure_of_fetch::<Mailru>(mailru_response(status, &body)).await;

        assert_failure(&failure, cause, words);
        assert_eq!(failure.retry_after, retry_after, "{failure}");
    }
    let failure = failure_of_fetch::<Mailru>(page("503 Service Unavailable")).await;
    assert_failure(&failure, Cause::Server, "503 from 127.0.0.1");
}

#[tokio::test]
async fn no_request_marks_mail_as_read() {
    let api = InterceptedApi::<Mailru>::start(40, |_, _| None).await;
    let source = api.source(&SourceOptions::new(Mailru::SECRET));
    let (mut listing, cursor) = list_with_cursor(&source).await;
    api.service.lock_mailbox().deliver(5);
    source.poll_changes(&cursor).await.unwrap();
    listing.entries.append(&mut list_since(&source, cursor).await.entries);

    let stored = fetch_all(&source, &listing.documents()).await;

    assert_same_contents(&stored, &api.contents());
    let counters = api.service.counters();
    assert_eq!(counters.mark_read_requests, 0, "{counters:?}");
    assert!(0 < api.count_requests("/threads/thread?"), "{counters:?}");
}

#[tokio::test]
async fn a_thread_in_two_folders_has_each_message_once() {
    let api = InterceptedApi::<Mailru>::start(60, |_, _| None).await;
    let source = api.source(&SourceOptions::new(Mailru::SECRET));

    let listing = list_everything(&source).await;

    listing.assert_complete(api.contents().len(), 1);
    let mut folders = BTreeMap::<&ItemId, BTreeSet<String>>::new();
    for entry in &listing.entries {
        // The folder of a message is what its fetch needs besides its id.
        let values: Value = serde_json::from_str(entry.blob.as_str()).unwrap();
        folders.entry(&entry.item).or_default().insert(values[3][0][1].to_string());
    }
    assert!(folders.values().any(|folders| 1 < folders.len()), "{folders:?}");
    let stored = fetch_all(&source, &listing.documents()).await;
    assert_same_contents(&stored, &api.contents());
}

#[tokio::test]
async fn each_message_of_a_thread_is_in_its_own_folder() {
    let api = InterceptedApi::<Mailru>::start(60, |_, _| None).await;

    assert_each_folder_has_its_documents(&api.source(&SourceOptions::new(Mailru::SECRET))).await;
}

#[tokio::test]
async fn threads_that_move_during_the_listing_are_all_listed() {
    /// Pages before which the list moves.
    const MOVES: usize = 6;
    let pages = AtomicUsize::new(0);
    let api = InterceptedApi::<Mailru>::start(60, move |service, request| {
        let is_page = request.path().contains("/threads/status/smart");
        if is_page && pages.fetch_add(1, Ordering::Relaxed) < MOVES {
            let mut mailbox = service.lock_mailbox();
            // About half of them are replies, whose threads move to the beginning.
            mailbox.deliver(4);
            mailbox.destroy(2);
        }
        None
    })
    .await;
    let source = api.source(&SourceOptions::new(Mailru::SECRET));

    let (mut listing, cursor) = list_with_cursor(&source).await;
    listing.entries.append(&mut list_since(&source, cursor).await.entries);

    let stored = fetch_remaining(&source, &listing.documents()).await;
    assert_same_contents(&stored, &api.contents());
}

#[tokio::test]
async fn a_new_message_in_an_old_thread_is_found() {
    let api = InterceptedApi::<Mailru>::start(60, |_, _| None).await;
    let source = api.source(&SourceOptions::new(Mailru::SECRET));
    let (mut listing, cursor) = list_with_cursor(&source).await;
    let old_items: BTreeSet<ItemId> =
        listing.entries.iter().map(|entry| entry.item.clone()).collect();
    let old_documents: BTreeSet<_> =
        listing.entries.iter().map(|entry| entry.document.clone()).collect();

    api.service.lock_mailbox().deliver(20);
    assert_eq!(source.poll_changes(&cursor).await, Ok(PollResult::Changed));
    let mut changes = list_since(&source, cursor).await;

    let mut new = changes.entries.iter().filter(|entry| !old_documents.contains(&entry.document));
    assert!(new.any(|entry| old_items.contains(&entry.item)), "no message is a reply");
    listing.entries.append(&mut changes.entries);
    let stored = fetch_all(&source, &listing.documents()).await;
    assert_same_contents(&stored, &api.contents());
}
