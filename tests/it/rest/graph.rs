//! Microsoft Graph: a delta query for each folder, moves that only the sweep finds, and a limit of
//! requests at once.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cynosure::source::{PollResult, Source as _};
use cynosure_engine::Cause;
use cynosure_lab::demo::{DemoOptions, start};
use futures_util::future::join_all;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::yield_now;

use super::{
    InterceptedApi, assert_each_folder_has_its_documents, assert_failure, failure_of_fetch,
};
use crate::hostile_server::{ConnectionAction, HostileServer, ReceivedRequest, plain_response};
use crate::sources::gmail::json_response;
use crate::sources::graph::{Graph, graph_error};
use crate::sources::rest_embedded::ProviderApi;
use crate::sources::suite::SourceOptions;
use crate::sources::suite::extraction::{
    assert_same_contents, fetch, fetch_all, list_everything, list_since, list_with_cursor,
};
use crate::sources::suite::options::rest_source;

/// Folders of the service. The inbox is the first.
const FOLDERS: usize = 4;

/// Returns the folder whose list a request begins, if it is one for a first page.
fn begun_folder(request: &ReceivedRequest) -> Option<String> {
    let (path, query) = request.path().split_once('?')?;
    let folder = path.strip_prefix("/v1.0/me/mailFolders/")?.strip_suffix("/messages/delta")?;
    query.starts_with("%24select=").then(|| folder.to_owned())
}

/// Returns the folders whose lists were begun, in the order of the requests.
fn begun_folders(api: &InterceptedApi<Graph>) -> Vec<String> {
    api.server.requests().iter().filter_map(begun_folder).collect()
}

#[tokio::test]
async fn a_410_in_the_middle_of_a_listing_begins_that_folder_only() {
    let is_due = AtomicBool::new(true);
    let api = InterceptedApi::<Graph>::start(50, move |_, request| {
        let is_further_page = request.path().contains("/messages/delta?$skiptoken=");
        let is_refused = is_further_page && is_due.swap(false, Ordering::Relaxed);
        is_refused.then(|| graph_error("410 Gone", "", "resyncRequired"))
    })
    .await;
    let source = api.source(&SourceOptions::new(Graph::SECRET));

    let documents = list_everything(&source).await.documents();

    assert_same_contents(&fetch_all(&source, &documents).await, &api.contents());
    let begun = begun_folders(&api);
    assert_eq!(begun.len(), FOLDERS + 1, "{begun:?}");
    assert_eq!(begun[0], begun[1]);
    assert_eq!(begun.iter().collect::<BTreeSet<_>>().len(), FOLDERS);
}

#[tokio::test]
async fn a_message_moved_into_a_listed_folder_is_found_by_the_sweep() {
    const MOVED: u32 = 3;
    let begun = Mutex::new(BTreeSet::new());
    let api = InterceptedApi::<Graph>::start(100, move |service, request| {
        let mut begun = begun.lock().unwrap();
        let is_new = begun_folder(request).is_some_and(|folder| begun.insert(folder));
        if is_new && begun.len() == 2 {
            // The inbox is complete, and the other folders are not begun.
            service.lock_mailbox().move_to_inbox(MOVED);
        }
        None
    })
    .await;
    let source = api.source(&SourceOptions::new(Graph::SECRET));

    let (listing, cursor) = list_with_cursor(&source).await;

    listing.assert_complete(api.contents().len(), Graph::LISTED_MAX);
    let counts = listing.count_by_place();
    let found_by_sweep = counts.values().filter(|count| **count == 1).count();
    assert_eq!(u32::try_from(found_by_sweep), Ok(MOVED));
    let changes = list_since(&source, cursor).await;
    assert!(changes.entries.is_empty(), "the changes have them: {:?}", changes.entries);
}

#[tokio::test]
async fn a_message_is_in_the_folder_to_which_it_was_moved() {
    let api = InterceptedApi::<Graph>::start(40, |_, _| None).await;
    let source = api.source(&SourceOptions::new(Graph::SECRET));

    assert_each_folder_has_its_documents(&source).await;
    api.service.lock_mailbox().move_to_trash(4);
    assert_each_folder_has_its_documents(&source).await;
}

#[tokio::test]
async fn a_new_folder_is_found_by_a_poll() {
    let is_hidden = Arc::new(AtomicBool::new(true));
    let shared = Arc::clone(&is_hidden);
    let api = InterceptedApi::<Graph>::start(40, move |_, request| {
        // The last folder is on a page of its own.
        let is_last_folder = request.path().contains("/mailFolders/delta?$skiptoken=");
        let is_hidden = is_last_folder && shared.load(Ordering::Relaxed);
        is_hidden.then(|| json_response("200 OK", &json!({ "value": [] })))
    })
    .await;
    api.service.lock_mailbox().move_to_trash(4);
    let source = api.source(&SourceOptions::new(Graph::SECRET));
    let (_, cursor) = list_with_cursor(&source).await;
    assert_eq!(begun_folders(&api).len(), FOLDERS - 1);
    assert_eq!(source.poll_changes(&cursor).await, Ok(PollResult::Unchanged));

    is_hidden.store(false, Ordering::Relaxed);
    assert_eq!(source.poll_changes(&cursor).await, Ok(PollResult::Changed));
    let changes = list_since(&source, cursor).await;

    let folders = source.folders().await.unwrap();
    let trash = folders.iter().find(|folder| folder.name == "Trash").unwrap();
    assert_eq!(trash.messages, Some(changes.entries.len() as u64));
    assert!(4 <= changes.entries.len());
    assert_eq!(begun_folders(&api).len(), FOLDERS, "no other folder is listed again");
    let cursor = changes.cursor.unwrap();
    assert_eq!(source.poll_changes(&cursor).await, Ok(PollResult::Unchanged));
}

/// FAULTS 34: the cursor of a folder is kept for a limited time.
#[tokio::test]
async fn folders_with_forgotten_cursors_are_listed_in_full() {
    let api = InterceptedApi::<Graph>::start(20, |_, _| None).await;
    let source = api.source(&SourceOptions::new(Graph::SECRET));
    let (_, cursor) = list_with_cursor(&source).await;
    api.service.lock_mailbox().deliver(1);
    api.service.lock_mailbox().expire_states();

    assert_eq!(source.poll_changes(&cursor).await, Ok(PollResult::Changed));
    let changes = list_since(&source, cursor).await;

    assert_eq!(begun_folders(&api).len(), 2 * FOLDERS);
    let documents = changes.documents();
    assert_same_contents(&fetch_all(&source, &documents).await, &api.contents());
    let cursor = changes.cursor.unwrap();
    assert_eq!(source.poll_changes(&cursor).await, Ok(PollResult::Unchanged));
}

#[tokio::test]
async fn every_request_prefers_ids_that_survive_a_move() {
    let api = InterceptedApi::<Graph>::start(40, |_, _| None).await;
    let source = api.source(&SourceOptions::new(Graph::SECRET));
    let (listing, cursor) = list_with_cursor(&source).await;
    fetch(&source, &listing.documents()[0]).await.unwrap();
    source.poll_changes(&cursor).await.unwrap();

    for part in ["$skiptoken=", "$deltatoken=", "/messages?", "/$value", "/mailFolders/delta"] {
        assert!(0 < api.count_requests(part), "no request has {part}");
    }
    let prefer = "\r\nprefer: idtype=\"immutableid\", odata.maxpagesize=10\r\n";
    for ReceivedRequest { head, .. } in api.server.requests() {
        assert!(head.to_ascii_lowercase().contains(prefer), "{head}");
    }
}

#[tokio::test]
async fn no_more_requests_are_in_flight_than_the_profile_allows() {
    const IN_FLIGHT: usize = 4;
    const YIELDS: usize = 1_000;
    let service =
        start(DemoOptions { kind: Graph::KIND, items: 20, ..DemoOptions::default() }).unwrap();
    let address = service.address();
    let (release, released) = watch::channel(false);
    let (count, mut arrived) = watch::channel(0_usize);
    let server = HostileServer::start(move |_, request| {
        let forward = [ConnectionAction::Forward(address), ConnectionAction::Close];
        if !request.path().starts_with(Graph::PROXIED.document_prefix) {
            return forward.to_vec();
        }
        count.send_modify(|count| *count += 1);
        [ConnectionAction::Wait(released.clone())].into_iter().chain(forward).collect()
    })
    .await;
    let url = server.url.join(Graph::BASE_PATH).unwrap();
    let source = rest_source(&SourceOptions::new(Graph::SECRET), Graph::TABLE, &url);
    let documents = list_everything(&source).await.documents();

    let mut fetches = pin!(join_all(documents.iter().map(|document| fetch(&source, document))));
    let is_full = async {
        arrived.wait_for(|count| IN_FLIGHT <= *count).await.unwrap();
        // Any other request would be sent now.
        for _ in 0..YIELDS {
            yield_now().await;
        }
    };
    tokio::select! {
        results = &mut fetches => unreachable!("nothing was sent: {results:?}"),
        () = is_full => {}
    }
    assert_eq!(*arrived.borrow(), IN_FLIGHT);

    release.send(true).unwrap();
    let results = fetches.await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(service.counters().concurrency_limited, 0);
}

#[tokio::test]
async fn each_error_counts_as_what_it_means() {
    let refused = |status, code| graph_error(status, "", code);
    let no_mailbox = "; the account has no mailbox at Exchange Online";
    let no_permission = "; the application may not read this mailbox: allow Mail.Read";
    let (forbidden, missing) = ("403 Forbidden", "404 Not Found");
    let (busy, unavailable) = ("429 Too Many Requests", "503 Service Unavailable");
    let text = |body| plain_response("200 OK", "Content-Type: text/plain\r\n", body);
    let page = plain_response("200 OK", "Content-Type: text/html\r\n", "<html></html>");
    for (response, cause, words) in [
        (refused(missing, "MailboxNotEnabledForRESTAPI"), Cause::Unauthorized, no_mailbox),
        (refused(missing, "ErrorInvalidUser"), Cause::Unauthorized, no_mailbox),
        (refused(missing, "ErrorItemNotFound"), Cause::NotFound, "404 from 127.0.0.1"),
        (refused("410 Gone", "resyncRequired"), Cause::NotFound, "410 from 127.0.0.1"),
        (refused(forbidden, "ErrorAccessDenied"), Cause::Unauthorized, no_permission),
        (refused(forbidden, "Authorization_RequestDenied"), Cause::Unauthorized, no_permission),
        (refused(forbidden, "accessDenied"), Cause::Forbidden, "403 from 127.0.0.1"),
        (
            refused("401 Unauthorized", "InvalidAuthenticationToken"),
            Cause::Unauthorized,
            "401 from 127.0.0.1",
        ),
        (refused(busy, "TooManyRequests"), Cause::RateLimit, "429 from 127.0.0.1"),
        (refused(unavailable, "serviceNotAvailable"), Cause::RateLimit, "503 from 127.0.0.1"),
        (refused("504 Timeout", "activityLimitReached"), Cause::RateLimit, "504 from 127.0.0.1"),
        (refused(unavailable, "UnknownError"), Cause::Server, "503 from 127.0.0.1"),
        (text(""), Cause::Server, "sent an empty document"),
        (page, Cause::Challenge, "unexpected content type text/html"),
    ] {
        let failure = failure_of_fetch::<Graph>(response).await;

        assert_failure(&failure, cause, words);
        assert_eq!(failure.retry_after, None, "{failure}");
    }
    let throttled = graph_error(busy, "Retry-After: 7\r\n", "ApplicationThrottled");
    let failure = failure_of_fetch::<Graph>(throttled).await;
    assert_failure(&failure, Cause::RateLimit, "\"The request was refused.\"");
    assert_eq!(failure.retry_after, Some(Duration::from_secs(7)));
}
