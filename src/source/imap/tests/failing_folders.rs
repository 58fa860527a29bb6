//! Full listings of accounts with a folder that the server fails to list.

use cynosure_engine::Failure;

use super::*;

/// Replies of a server that fails, whatever it is asked for.
const FAILURES: [&str; 3] = [
    "NO [SERVERBUG] Internal error occurred",
    "NO [UNAVAILABLE] The storage is not mounted",
    "BAD Command Argument Error. 11",
];

/// Folders of which the first one fails.
fn folders() -> [ServerFolder; 3] {
    [
        ServerFolder::new("Bad", [1]),
        ServerFolder::new("INBOX", [1, 2]),
        ServerFolder::new("Work", [5]),
    ]
}

/// Fails the first commands of the first folder that begin with `start`.
fn fail_commands(server: &ListingServer, start: &'static str, reply: &'static str, times: usize) {
    let mut remaining = times;
    server.change(|script| {
        script.before_command = Box::new(move |command, folders| {
            let is_failing = remaining > 0 && command.starts_with(start);
            remaining -= usize::from(is_failing);
            folders[0].refusal = is_failing.then_some(reply);
        });
    });
}

/// Result of a listing that fails.
struct FailedListing {
    /// Locations of the documents in the pages before the failure.
    places: Vec<String>,
    failure: Failure,
    /// Token of the page that failed.
    page_token: Option<PageToken>,
}

async fn list_until_failure(source: &ImapSource) -> FailedListing {
    let (mut listed, mut page_token) = (Vec::new(), None);
    loop {
        match source.list_page(&Listing::Full, page_token.as_ref()).await {
            Ok(page) => {
                listed.extend(places(&page.entries));
                let Ok(NextPage::More(token)) = page.next else {
                    panic!("the listing does not fail: {page:?}");
                };
                page_token = Some(token);
            }
            Err(failure) => return FailedListing { places: listed, failure, page_token },
        }
    }
}

#[tokio::test]
async fn a_folder_that_fails_once_is_listed_after_the_others() {
    run_test(async {
        for reply in FAILURES {
            for start in ["EXAMINE Bad", "UID FETCH", "STATUS Bad"] {
                let server = ListingServer::start(LIST_STATUS, folders()).await;
                fail_commands(&server, start, reply, 1);

                let pages = list_pages(&source(&server), &Listing::Full).await;

                let end = &pages.last().unwrap().next;
                assert!(matches!(end, Ok(NextPage::Done(Some(_)))), "{start}: {end:?}");
                let mut expected = vec!["INBOX;3;1", "INBOX;3;2", "Work;3;5"];
                // It is listed before its status is asked for, and only once.
                let place_of_bad = if start == "STATUS Bad" { 0 } else { expected.len() };
                expected.insert(place_of_bad, "Bad;3;1");
                assert_eq!(places(&entries(&pages)), expected, "{start}: {reply}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_folder_that_fails_again_fails_the_listing_after_the_others() {
    run_test(async {
        for start in ["EXAMINE Bad", "STATUS Bad"] {
            let server = ListingServer::start(LIST_STATUS, folders()).await;
            fail_commands(&server, start, FAILURES[0], usize::MAX);
            let source = source(&server);

            let FailedListing { places: listed, failure, page_token } =
                list_until_failure(&source).await;

            assert_eq!(failure.cause, Cause::Server);
            assert!(failure.message.starts_with("folder \"Bad\": "), "{failure}");
            assert!(failure.message.contains("add it to `exclude`"), "{failure}");
            for place in ["INBOX;3;1", "INBOX;3;2", "Work;3;5"] {
                assert!(listed.iter().any(|listed| listed == place), "{start}: {listed:?}");
            }
            // The page is asked for again, until the server lists the folder.
            let again = source.list_page(&Listing::Full, page_token.as_ref()).await.unwrap_err();
            assert_eq!(again.cause, Cause::Server);
            fail_commands(&server, start, FAILURES[0], 0);
            let last = source.list_page(&Listing::Full, page_token.as_ref()).await.unwrap();
            assert!(matches!(&last.next, Ok(NextPage::Done(Some(_)))), "{last:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn several_folders_that_fail_once_are_listed_after_the_others() {
    run_test(async {
        let names = ["A", "B", "C", "D"];
        let folders = names.map(|name| ServerFolder::new(name, [1]));
        let server = ListingServer::start(LIST_STATUS, folders).await;
        let mut failing = vec!["EXAMINE A", "EXAMINE B", "EXAMINE C"];
        server.change(|script| {
            script.before_command = Box::new(move |command, folders| {
                let index = failing.iter().position(|failing| *failing == command);
                let refused = index.map(|index| failing.remove(index));
                for folder in folders {
                    let is_refused = refused.is_some_and(|command| command.ends_with(&folder.name));
                    folder.refusal = is_refused.then_some(FAILURES[1]);
                }
            });
        });

        assert_eq!(list_places(&source(&server)).await, ["D;3;1", "A;3;1", "B;3;1", "C;3;1"]);
    })
    .await;
}

/// A message that was not asked for ends the connection, so that the others need another one.
#[tokio::test]
async fn a_folder_that_breaks_its_connection_is_listed_after_the_others() {
    run_test(async {
        let folders = ["Bad", "INBOX", "Work"].into_iter().zip(1..);
        let folders = folders.map(|(name, uid)| ServerFolder::new(name, [uid]));
        let server = ListingServer::start(LIST_STATUS, folders).await;
        server.change(|script| {
            script.row = |uid| if uid == 1 { " BODY[] \"x\"".to_owned() } else { String::new() };
        });

        let FailedListing { places: listed, failure, .. } =
            list_until_failure(&source(&server)).await;

        assert_eq!(listed, ["INBOX;3;2", "Work;3;3"]);
        assert!(failure.message.contains("was not asked for"), "{failure}");
        assert!(failure.message.contains("folder \"Bad\""), "{failure}");
    })
    .await;
}
