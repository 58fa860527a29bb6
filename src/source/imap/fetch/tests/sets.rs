//! Messages of a set, and the order of the sets.

use std::sync::Arc;

use cynosure_engine::rate_limit::{ReportedLimits, ResponseOutcome};
use cynosure_engine::{BlobId, Timestamp};
use futures_util::future::{LocalBoxFuture, join};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::server::{FORBIDDEN_FOLDER, FetchReply, MISSING_FOLDER, REMADE_FOLDER};
use super::*;
use crate::limiter::{Permit, PermitRequest, QuotaScope};

/// Limiter that admits one request at a time.
#[derive(Debug)]
struct SerialLimiter(Arc<Semaphore>);

#[derive(Debug)]
struct SerialPermit {
    _permit: OwnedSemaphorePermit,
}

impl RequestLimiter for SerialLimiter {
    fn acquire<'a>(
        &'a self,
        _request: PermitRequest<'a>,
    ) -> LocalBoxFuture<'a, Result<Box<dyn Permit>, Failure>> {
        Box::pin(async {
            let permit = Arc::clone(&self.0).acquire_owned().await.unwrap();
            Ok(Box::new(SerialPermit { _permit: permit }) as Box<dyn Permit>)
        })
    }

    fn try_take_retry(&self, _scope: QuotaScope<'_>) -> bool {
        false
    }

    fn now(&self) -> Timestamp {
        Timestamp::default()
    }
}

impl Permit for SerialPermit {
    fn record_response_start(&mut self, _limits: ReportedLimits, _latency: Duration) {}

    fn record_retry_after(&mut self, _retry_after: Duration) {}

    fn record_outcome(&mut self, _outcome: ResponseOutcome) -> Option<Timestamp> {
        None
    }
}

#[tokio::test]
async fn one_command_fetches_a_set_in_any_order() {
    run_test(async {
        let server = FetchServer::start(|fetch| {
            let bodies: String =
                fetch.uids.iter().rev().map(|uid| response(*uid, &text_of(*uid))).collect();
            let flags = "* 1 FETCH (UID 2 FLAGS (\\Seen))\r\n* 3 EXISTS\r\n";
            FetchReply::Send(format!("{flags}{bodies}{} OK done\r\n", fetch.tag).into_bytes())
        })
        .await;
        let source = source(server.port, ONE_CONNECTION);

        let results = fetch_inbox(&source, [3, 1, 2]).await;

        assert_eq!(results, texts_of([3, 1, 2]));
        assert_eq!(server.commands(), ["1: EXAMINE INBOX", "1: FETCH 1:3"]);
    })
    .await;
}

#[tokio::test]
async fn two_sets_of_64_are_in_flight() {
    run_test(async {
        let mut first = None;
        let server = FetchServer::start(move |fetch| match first.take() {
            // It is answered only after the second.
            None => {
                first = Some(fetch);
                FetchReply::Send(Vec::new())
            }
            Some(earlier) => {
                let replies = [complete_reply(&fetch), complete_reply(&earlier)];
                FetchReply::Send(replies.concat().into_bytes())
            }
        })
        .await;
        let source = source(server.port, ONE_CONNECTION);

        let results = fetch_inbox(&source, 1..=128).await;

        assert_eq!(results, texts_of(1..=128));
        let expected = ["1: EXAMINE INBOX", "1: FETCH 1:64", "1: FETCH 65:128"];
        assert_eq!(server.commands(), expected);
    })
    .await;
}

#[tokio::test]
async fn a_second_set_waits_for_its_permit_while_the_first_is_read() {
    run_test(async {
        let server =
            FetchServer::start(|fetch| FetchReply::Send(complete_reply(&fetch).into_bytes())).await;
        let limiter = SerialLimiter(Arc::new(Semaphore::new(1)));
        let source = limited_source(server.port, ONE_CONNECTION, Rc::new(limiter));

        let results = fetch_inbox(&source, 1..=128).await;

        assert_eq!(results, texts_of(1..=128));
        let expected = ["1: EXAMINE INBOX", "1: FETCH 1:64", "1: FETCH 65:128"];
        assert_eq!(server.commands(), expected);
    })
    .await;
}

#[tokio::test]
async fn a_suspect_is_fetched_alone() {
    run_test(async {
        let server =
            FetchServer::start(|fetch| FetchReply::Send(complete_reply(&fetch).into_bytes())).await;
        let source = source(server.port, ONE_CONNECTION);
        let documents =
            [2, 1, 3].map(|uid| DocumentRef { is_suspect: uid == 1, ..document("INBOX", uid) });

        let results =
            join_all(documents.iter().map(|document| fetch_text(&source, document))).await;

        assert_eq!(results, texts_of([2, 1, 3]));
        assert_eq!(server.commands(), ["1: EXAMINE INBOX", "1: FETCH 2:3", "1: FETCH 1"]);
    })
    .await;
}

#[tokio::test]
async fn an_open_folder_is_fetched_before_the_next_one() {
    run_test(async {
        let server =
            FetchServer::start(|fetch| FetchReply::Send(complete_reply(&fetch).into_bytes())).await;
        let source = source(server.port, ONE_CONNECTION);
        let documents =
            [("b", 1), ("a", 2), ("b", 3), ("a", 4)].map(|(folder, uid)| document(folder, uid));

        let results =
            join_all(documents.iter().map(|document| fetch_text(&source, document))).await;

        assert_eq!(results, texts_of([1, 2, 3, 4]));
        let expected = ["1: EXAMINE b", "1: FETCH 1,3", "1: EXAMINE a", "1: FETCH 2,4"];
        assert_eq!(server.commands(), expected);
    })
    .await;
}

#[tokio::test]
async fn messages_of_a_folder_made_again_are_gone() {
    run_test(async {
        let server = FetchServer::start(|_fetch| panic!("nothing is fetched")).await;
        let source = source(server.port, ONE_CONNECTION);

        let failure = fetch_text(&source, &document(REMADE_FOLDER, 1)).await.unwrap_err();

        assert_eq!(failure.cause, Cause::NotFound);
        assert!(failure.message.contains("\"remade\" was made again"), "{failure}");
    })
    .await;
}

#[tokio::test]
async fn other_locations_are_tried_in_turn() {
    run_test(async {
        let server = FetchServer::start(|fetch| {
            let body = if fetch.uids == [3] { response(3, "found") } else { String::new() };
            FetchReply::Send(format!("{body}{} OK done\r\n", fetch.tag).into_bytes())
        })
        .await;
        let source = source(server.port, ONE_CONNECTION);
        let places = [(MISSING_FOLDER, 1), (REMADE_FOLDER, 2), ("a", 2), ("a", 3), ("a", 4)];
        let locations = places.map(|(folder, uid)| location(folder, uid)).to_vec();
        let copies = document("INBOX", 9).with_locations(locations);

        assert_eq!(fetch_text(&source, &copies).await.unwrap(), "found");
        let expected =
            ["1: EXAMINE missing", "1: EXAMINE remade", "1: EXAMINE a", "1: FETCH 2", "1: FETCH 3"];
        assert_eq!(server.commands(), expected);
    })
    .await;
}

#[tokio::test]
async fn a_message_that_is_refused_somewhere_is_fetched_elsewhere_or_kept() {
    run_test(async {
        let server = FetchServer::start(|fetch| {
            let body = if fetch.uids == [3] { response(3, "found") } else { String::new() };
            FetchReply::Send(format!("{body}{} OK done\r\n", fetch.tag).into_bytes())
        })
        .await;
        let source = source(server.port, ONE_CONNECTION);
        let copies = |places: [(&str, u32); 2]| {
            let locations = places.map(|(folder, uid)| location(folder, uid)).to_vec();
            document("INBOX", 9).with_locations(locations)
        };

        let found = fetch_text(&source, &copies([(FORBIDDEN_FOLDER, 1), ("a", 3)])).await;
        assert_eq!(found.unwrap(), "found");

        for places in [[(FORBIDDEN_FOLDER, 1), ("a", 2)], [("a", 2), (FORBIDDEN_FOLDER, 1)]] {
            let failure = fetch_text(&source, &copies(places)).await.unwrap_err();
            assert_eq!(failure.cause, Cause::Forbidden, "it is not gone: {failure}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_blob_that_names_no_place_is_no_deleted_message() {
    run_test(async {
        let server = FetchServer::start(|_fetch| panic!("nothing is fetched")).await;
        let source = source(server.port, ONE_CONNECTION);
        let mut unplaced = document("INBOX", 1);
        unplaced.blob = BlobId::new("em:M1");

        let failure = fetch_text(&source, &unplaced).await.unwrap_err();

        assert_eq!(failure.cause, Cause::Unknown);
    })
    .await;
}

#[tokio::test]
async fn others_get_the_connection_between_two_sets() {
    run_test(async {
        let has_begun = Rc::new(Notify::new());
        let script_has_begun = Rc::clone(&has_begun);
        let server = FetchServer::start(move |fetch| {
            script_has_begun.notify_one();
            FetchReply::Send(complete_reply(&fetch).into_bytes())
        })
        .await;
        let source = source(server.port, ONE_CONNECTION);
        let listing = async {
            has_begun.notified().await;
            let _connection = source.connect().await.unwrap();
            server.log.borrow_mut().push("listing".to_owned());
        };

        let (results, ()) = join(fetch_inbox(&source, 1..=70), listing).await;

        assert_eq!(results, texts_of(1..=70));
        let expected = ["1: EXAMINE INBOX", "1: FETCH 1:64", "listing", "1: FETCH 65:70"];
        assert_eq!(server.commands(), expected);
    })
    .await;
}

#[tokio::test]
async fn a_folder_open_since_an_earlier_fetch_is_opened_again_before_a_message_is_gone() {
    run_test(async {
        let mut fetch_count = 0;
        let server = FetchServer::start(move |fetch| {
            fetch_count += 1;
            let is_shown = fetch_count != 2;
            let body = if is_shown { response(fetch.uids[0], "shown") } else { String::new() };
            FetchReply::Send(format!("{body}{} OK done\r\n", fetch.tag).into_bytes())
        })
        .await;
        let source = source(server.port, ONE_CONNECTION);

        for uid in [1, 2] {
            assert_eq!(fetch_text(&source, &document("INBOX", uid)).await.unwrap(), "shown");
        }

        let expected =
            ["1: EXAMINE INBOX", "1: FETCH 1", "1: FETCH 2", "1: EXAMINE INBOX", "1: FETCH 2"];
        assert_eq!(server.commands(), expected);
    })
    .await;
}

/// A connection shows a folder as it was when it was opened, or newer. What it does not show may
/// have come since.
#[tokio::test]
async fn a_message_that_came_after_the_opening_is_no_deleted_one() {
    run_test(async {
        let has_begun = Rc::new(Notify::new());
        let is_second_requested = Rc::new(Notify::new());
        let (begun, requested) = (Rc::clone(&has_begun), Rc::clone(&is_second_requested));
        let mut fetch_count = 0;
        let server = FetchServer::start(move |fetch| {
            fetch_count += 1;
            let all = complete_reply(&fetch).into_bytes();
            match fetch_count {
                1 => {
                    begun.notify_one();
                    FetchReply::SendAfter(Rc::clone(&requested), all)
                }
                2 => FetchReply::Send(format!("{} OK done\r\n", fetch.tag).into_bytes()),
                _ => FetchReply::Send(all),
            }
        })
        .await;
        let source = source(server.port, ONE_CONNECTION);
        let second = async {
            has_begun.notified().await;
            let fetched = fetch_inbox(&source, 2..=2);
            join(fetched, async { is_second_requested.notify_one() }).await.0
        };

        let (first, second) = join(fetch_inbox(&source, 1..=1), second).await;

        assert_eq!([first, second], [texts_of(1..=1), texts_of(2..=2)]);
        let expected =
            ["1: EXAMINE INBOX", "1: FETCH 1", "1: FETCH 2", "1: EXAMINE INBOX", "1: FETCH 2"];
        assert_eq!(server.commands(), expected);
    })
    .await;
}
