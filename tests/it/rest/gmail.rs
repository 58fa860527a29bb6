//! Gmail: errors that only their bodies distinguish, mail in spam and trash, and messages that
//! vanish.

use std::collections::BTreeSet;
use std::time::Duration;

use cynosure::source::{DynSource, Listing, Source as _};
use cynosure_engine::Cause;
use serde_json::json;

use super::{InterceptedApi, assert_failure, failure_of_fetch, fetch_folders};
use crate::hostile_server::plain_response;
use crate::sources::gmail::{Gmail, JSON_TYPE, gmail_error, json_response};
use crate::sources::rest_embedded::ProviderApi;
use crate::sources::suite::SourceOptions;
use crate::sources::suite::extraction::{
    assert_same_contents, fetch, fetch_all, fetch_remaining, list_everything, list_with_cursor,
};

const BAD_REQUEST: &str = "400 Bad Request";
const FORBIDDEN: &str = "403 Forbidden";
const NOT_FOUND: &str = "404 Not Found";
const TOO_MANY: &str = "429 Too Many Requests";

/// Limit that ends 600.5 seconds after the time of the clock, which is the Unix epoch.
const LIMIT_WITH_END: &str = "User-rate limit exceeded.  Retry after 1970-01-01T00:10:00.500Z";

/// Returns an error in the form of other Google services, which has the reason in its details.
fn detailed_error(reason: &str) -> Vec<u8> {
    let detail = json!({ "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason });
    let message = "The request was refused.";
    let error = json!({ "code": 403, "message": message, "details": [detail] });
    json_response(FORBIDDEN, &json!({ "error": error }))
}

#[tokio::test]
async fn each_limit_is_waited_for_as_long_as_it_says() {
    let day_limit = Some(Duration::from_secs(4 * 3600));
    let told = Some(Duration::from_millis(600_500));
    let quota = "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute per user'";
    let quota = json!({ "error": { "code": 403, "message": quota } });
    let limit = |reason, message| gmail_error(FORBIDDEN, reason, message);
    let with_header = |seconds: u32| {
        let body = json!({ "error": { "code": 429, "message": LIMIT_WITH_END } });
        let headers = format!("{JSON_TYPE}Retry-After: {seconds}\r\n");
        plain_response(TOO_MANY, &headers, body.to_string())
    };
    for (response, wait, words) in [
        (limit("rateLimitExceeded", "Rate Limit Exceeded"), None, "\"Rate Limit Exceeded\""),
        (limit("userRateLimitExceeded", LIMIT_WITH_END), told, "\"User-rate limit exceeded."),
        (limit("dailyLimitExceeded", "Daily Limit Exceeded"), day_limit, "; a daily limit: see"),
        (limit("quotaExceeded", "Quota exceeded"), day_limit, "; a daily limit: see"),
        (json_response(FORBIDDEN, &quota), None, "'Queries per minute per user'"),
        (gmail_error(TOO_MANY, "rateLimitExceeded", LIMIT_WITH_END), told, "Retry after 1970"),
        (gmail_error(TOO_MANY, "x", "Retry after 1969-12-31T23:59:59Z"), None, "429 from"),
        (gmail_error(TOO_MANY, "x", "Too many concurrent requests for user"), None, "concurrent"),
        // The longer of two waits counts.
        (with_header(30), told, "429 from"),
        (with_header(3600), Some(Duration::from_secs(3600)), "429 from"),
        (plain_response(TOO_MANY, "Retry-After: 30\r\n", ""), Some(Duration::from_secs(30)), "429"),
    ] {
        let failure = failure_of_fetch::<Gmail>(response).await;

        assert_failure(&failure, Cause::RateLimit, words);
        assert_eq!(failure.retry_after, wait, "{failure}");
    }
}

#[tokio::test]
async fn a_refusal_that_a_person_must_end_says_how() {
    let enable = "; enable the Gmail API in the Google Cloud project of the client";
    let allow = "; the sign-in does not allow to read mail: sign in again with `cynosure auth`";
    let refused = |reason, message| gmail_error(FORBIDDEN, reason, message);
    let not_enabled = "Mail service not enabled";
    for (response, words) in [
        (refused("accessNotConfigured", "Gmail API has not been used in project 1"), enable),
        (detailed_error("SERVICE_DISABLED"), enable),
        (refused("insufficientPermissions", "Insufficient Permission"), allow),
        (detailed_error("ACCESS_TOKEN_SCOPE_INSUFFICIENT"), allow),
        (
            refused("domainPolicy", "No"),
            "; the administrator of the domain has to allow the client",
        ),
        (
            refused("forbidden", "Delegation denied for me@example.com"),
            "; the administrator of the",
        ),
        (gmail_error(BAD_REQUEST, "failedPrecondition", not_enabled), "; the account has no Gmail"),
        (gmail_error("401 Unauthorized", "authError", "Invalid Credentials"), "\"Invalid Cred"),
    ] {
        let failure = failure_of_fetch::<Gmail>(response).await;

        assert_failure(&failure, Cause::Unauthorized, words);
    }
}

#[tokio::test]
async fn any_other_response_is_no_message() {
    let forbidden = gmail_error(FORBIDDEN, "forbidden", "The caller does not have permission");
    let precondition = gmail_error(BAD_REQUEST, "failedPrecondition", "Precondition check failed.");
    let unavailable = "503 Service Unavailable";
    let page = |status| plain_response(status, "Content-Type: text/html\r\n", "<html></html>");
    let raw = |raw| json_response("200 OK", &json!({ "raw": raw }));
    for (response, cause, words) in [
        (forbidden, Cause::Forbidden, "403 from 127.0.0.1: \"The caller does not"),
        (page(FORBIDDEN), Cause::Forbidden, "403 from 127.0.0.1"),
        (plain_response(FORBIDDEN, JSON_TYPE, "{"), Cause::Forbidden, "403 from 127.0.0.1"),
        (precondition, Cause::Server, "\"Precondition check failed.\""),
        (gmail_error(BAD_REQUEST, "invalidArgument", "No"), Cause::Unknown, "400 from 127.0.0.1"),
        (gmail_error(NOT_FOUND, "notFound", "No such entity"), Cause::NotFound, "\"No such"),
        (gmail_error("500 Error", "backendError", "Internal error"), Cause::Server, "500 from"),
        (gmail_error(unavailable, "backendError", "Wait"), Cause::Server, "503 from"),
        (page("200 OK"), Cause::Challenge, "unexpected content type text/html"),
        (raw(json!("")), Cause::Server, "sent an empty document"),
        (raw(json!("QUI*")), Cause::Truncated, "is not valid base64"),
        (raw(json!(7)), Cause::Unknown, "`[fetch] body.at` = \"/raw\" selects a value that is not"),
        (json_response("200 OK", &json!({})), Cause::Unknown, "\"/raw\" selects nothing"),
    ] {
        let failure = failure_of_fetch::<Gmail>(response).await;

        assert_failure(&failure, cause, words);
    }
}

/// Starts the service, with a server before it that finds nothing below a path.
async fn without_path(path: &'static str) -> InterceptedApi<Gmail> {
    InterceptedApi::start(5, move |_, request| {
        let is_missing = request.path().contains(path);
        is_missing.then(|| gmail_error(NOT_FOUND, "notFound", "Requested entity was not found."))
    })
    .await
}

#[tokio::test]
async fn a_404_has_another_meaning_for_each_request() {
    let options = SourceOptions::new(Gmail::SECRET);
    let profile = without_path("/me/profile").await.source(&options);
    let failure = profile.current_cursor().await.unwrap_err();
    assert_failure(&failure, Cause::NotFound, "check `base_url`");

    let list = without_path("/me/messages?").await.source(&options);
    let failure = list.list_page(&Listing::Full, None).await.unwrap_err();
    assert_failure(&failure, Cause::NotFound, "\"Requested entity was not found.\"");

    let history = without_path("/me/history").await.source(&options);
    let (listing, cursor) = list_with_cursor(&history).await;
    let failure = history.poll_changes(&cursor).await.unwrap_err();
    assert_failure(&failure, Cause::CursorExpired, "404 from 127.0.0.1");
    fetch_all(&history, &listing.documents()).await;
}

/// FAULTS 34: the history is kept for a week at most.
#[tokio::test]
async fn a_forgotten_history_leads_to_a_full_listing() {
    let api = InterceptedApi::<Gmail>::start(20, |_, _| None).await;
    let source = api.source(&SourceOptions::new(Gmail::SECRET));
    let (_, cursor) = list_with_cursor(&source).await;
    api.service.lock_mailbox().deliver(3);
    api.service.lock_mailbox().expire_states();

    let failure = source.list_page(&Listing::Since(cursor), None).await.unwrap_err();

    assert_failure(&failure, Cause::CursorExpired, "404 from 127.0.0.1");
    let documents = list_everything(&source).await.documents();
    assert_same_contents(&fetch_all(&source, &documents).await, &api.contents());
}

#[tokio::test]
async fn spam_and_trash_are_listed_unless_they_are_left_out() {
    let api = InterceptedApi::<Gmail>::start(40, |_, _| None).await;
    let options = SourceOptions::new(Gmail::SECRET);
    let with_trash = api.source(&options);
    let table = format!("{}options = {{ spam_and_trash = false }}\n", Gmail::TABLE);
    let without_trash = api.source_of(&options, &table);
    let count = async |source: &DynSource| list_everything(source).await.documents().len();

    let all = count(&with_trash).await;
    let before = count(&without_trash).await;
    api.service.lock_mailbox().move_to_trash(5);

    assert_eq!(all, api.contents().len());
    assert_eq!(count(&with_trash).await, all);
    assert_eq!(count(&without_trash).await, before - 5);
    assert_eq!(api.count_requests("includeSpamTrash=true"), 2);
    assert_eq!(api.count_requests("includeSpamTrash=false"), 2);
}

#[tokio::test]
async fn a_message_that_vanishes_after_the_listing_is_gone() {
    let api = InterceptedApi::<Gmail>::start(20, |_, _| None).await;
    let source = api.source(&SourceOptions::new(Gmail::SECRET));
    let documents = list_everything(&source).await.documents();
    api.service.lock_mailbox().destroy(2);

    let stored = fetch_remaining(&source, &documents).await;

    assert_eq!(documents.len() - stored.len(), 2);
    assert_same_contents(&stored, &api.contents());
    assert_eq!(api.count_requests("/messages/"), documents.len(), "each is requested once");
}

#[tokio::test]
async fn the_labels_of_a_message_are_its_folders() {
    let api = InterceptedApi::<Gmail>::start(60, |_, _| None).await;
    api.service.lock_mailbox().move_to_trash(1);
    let source = api.source(&SourceOptions::new(Gmail::SECRET));
    let listing = list_everything(&source).await;
    assert!(listing.entries.iter().all(|entry| entry.folders.is_empty()), "the list has no labels");

    let mut folders = BTreeSet::new();
    for document in listing.documents() {
        let labels = fetch_folders(&source, &document).await;
        assert!(!labels.is_empty(), "{document:?}");
        folders.extend(labels);
    }

    let folders: Vec<String> = folders.into_iter().collect();
    assert_eq!(folders, ["All Mail", "INBOX", "SENT", "TRASH"], "UNREAD is no folder");
    assert_eq!(api.count_requests("/labels?"), 1, "the names are read once");
}

/// Starts an API that answers requests for the labels with this status.
async fn start_without_labels(status: &'static str) -> InterceptedApi<Gmail> {
    InterceptedApi::start(20, move |_, request| {
        let is_labels = request.path().contains("/me/labels?");
        is_labels.then(|| gmail_error(status, "forbidden", "No"))
    })
    .await
}

#[tokio::test]
async fn labels_that_the_service_refuses_to_list_are_named_by_their_ids() {
    for status in [NOT_FOUND, FORBIDDEN] {
        let api = start_without_labels(status).await;
        let source = api.source(&SourceOptions::new(Gmail::SECRET));

        let documents = list_everything(&source).await.documents();
        let mut folders = BTreeSet::new();
        for document in &documents {
            folders.extend(fetch_folders(&source, document).await);
        }

        assert!(folders.contains("INBOX"), "{folders:?}");
        assert_eq!(api.count_requests("/labels?"), 1, "they are asked for once");
        assert_eq!(api.count_requests("/messages/"), documents.len(), "every message is fetched");
    }
}

#[tokio::test]
async fn no_message_is_fetched_while_the_labels_fail() {
    let api = start_without_labels("503 Service Unavailable").await;
    let options = SourceOptions { attempts: 1, ..SourceOptions::new(Gmail::SECRET) };
    let source = api.source(&options);
    let documents = list_everything(&source).await.documents();

    let failure = fetch(&source, &documents[0]).await.unwrap_err();

    assert_failure(&failure, Cause::Server, "from 127.0.0.1");
    assert_eq!(api.count_requests("/messages/"), 0, "no message is fetched in vain");
}
