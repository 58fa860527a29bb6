//! Full listings of accounts with a folder that the server fails to list.

use std::collections::BTreeSet;

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
            // A list that fails is asked for again without sizes.
            for (start, times) in [("EXAMINE Bad", 1), ("UID FETCH", 2), ("STATUS Bad", 1)] {
                let server = ListingServer::start(LIST_STATUS, folders()).await;
                fail_commands(&server, start, reply, times);

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

/// A server may read a message for its size. Dovecot ends the connection if it cannot.
#[tokio::test]
async fn messages_that_fail_with_their_sizes_are_listed_without() {
    run_test(async {
        for reply in [FAILURES[0], "BYE FETCH failed: Internal error occurred."] {
            let server = ListingServer::start(LIST_STATUS, folders()).await;
            server.change(|script| {
                script.row = |_uid| " RFC822.SIZE 812".to_owned();
                script.before_command = Box::new(move |command, folders| {
                    folders[0].refusal = command.contains("RFC822.SIZE").then_some(reply);
                });
            });

            let pages = list_pages(&source(&server), &Listing::Full).await;

            let end = &pages.last().unwrap().next;
            assert!(matches!(end, Ok(NextPage::Done(Some(_)))), "{reply}: {end:?}");
            let places = places(&entries(&pages));
            assert_eq!(places, ["Bad;3;1", "INBOX;3;1", "INBOX;3;2", "Work;3;5"], "{reply}");
            let commands = server.take_commands();
            let lists = commands.iter().filter(|command| command.starts_with("UID FETCH"));
            let expected = [
                "UID FETCH 1:1 (UID RFC822.SIZE)",
                "UID FETCH 1:1 (UID)",
                "UID FETCH 1:2 (UID RFC822.SIZE)",
                "UID FETCH 1:5 (UID RFC822.SIZE)",
            ];
            assert_eq!(lists.collect::<Vec<_>>(), expected, "{reply}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_folder_that_fails_again_fails_the_listing_after_the_others() {
    run_test(Box::pin(async {
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
    }))
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

#[tokio::test]
async fn a_folder_that_always_fails_holds_back_none_that_failed_once() {
    run_test(async {
        let server = ListingServer::start(LIST_STATUS, folders()).await;
        let mut has_failed = false;
        server.change(|script| {
            script.before_command = Box::new(move |command, folders| {
                folders[0].refusal = command.starts_with("EXAMINE Bad").then_some(FAILURES[0]);
                let fails_now = command.starts_with("EXAMINE INBOX") && !has_failed;
                has_failed |= fails_now;
                folders[1].refusal = fails_now.then_some(FAILURES[0]);
            });
        });

        let FailedListing { places: listed, failure, .. } =
            list_until_failure(&source(&server)).await;

        assert_eq!(listed, ["Work;3;5", "INBOX;3;1", "INBOX;3;2"]);
        assert!(failure.message.starts_with("folder \"Bad\": "), "{failure}");
    })
    .await;
}

#[tokio::test]
async fn a_listing_fails_once_all_that_are_left_have_failed_again() {
    run_test(async {
        // As many as the steps of a page.
        let names = (1..=128).map(|number| format!("Bad{number}"));
        let folders: Vec<_> = names.map(|name| ServerFolder::new(&name, [1])).collect();
        let server = ListingServer::start(LIST_STATUS, folders).await;
        server.change(|script| {
            script.before_command = Box::new(|command, folders| {
                let refusal = command.starts_with("EXAMINE").then_some(FAILURES[0]);
                folders.iter_mut().for_each(|folder| folder.refusal = refusal);
            });
        });

        let FailedListing { places: listed, failure, page_token } =
            list_until_failure(&source(&server)).await;

        assert!(listed.is_empty(), "{listed:?}");
        assert_eq!(failure.cause, Cause::Server);
        server.take_commands();
        let again = source(&server).list_page(&Listing::Full, page_token.as_ref()).await;
        assert_eq!(again.unwrap_err().cause, Cause::Server);
        let opened = server.take_commands().into_iter().filter(|line| line.starts_with("EXAMINE"));
        assert_eq!(opened.collect::<BTreeSet<_>>().len(), 33, "not all of many are opened again");
    })
    .await;
}

#[tokio::test]
async fn a_folder_that_is_excluded_meanwhile_is_not_listed() {
    run_test(async {
        let server = ListingServer::start(LIST_STATUS, folders()).await;
        fail_commands(&server, "EXAMINE Bad", FAILURES[0], usize::MAX);
        let FailedListing { page_token, .. } = list_until_failure(&source(&server)).await;
        let folders = FolderFilter { include: Vec::new(), exclude: vec!["Bad".to_owned()] };
        let source = source_with(ImapOptions { folders, ..options(&server) });

        let page = source.list_page(&Listing::Full, page_token.as_ref()).await.unwrap();

        assert_eq!(places(&page.entries), ["INBOX;3;1", "INBOX;3;2", "Work;3;5"]);
        assert!(matches!(&page.next, Ok(NextPage::Done(Some(_)))), "{:?}", page.next);
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
