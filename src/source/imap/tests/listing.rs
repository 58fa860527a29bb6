//! Full listings: pages, changes of the mailbox meanwhile, and lists that are too short.

use std::collections::BTreeSet;

use chrono::NaiveDate;

use super::*;

/// Calls `change` before the first command that begins with `start`.
fn change_before(
    server: &ListingServer,
    start: &'static str,
    change: impl FnOnce(&mut Vec<ServerFolder>) + 'static,
) {
    let mut change = Some(change);
    server.change(|script| {
        script.before_command = Box::new(move |command, folders| {
            if command.starts_with(start)
                && let Some(change) = change.take()
            {
                change(folders);
            }
        });
    });
}

fn assert_complete(pages: &[Page]) {
    let end = &pages.last().unwrap().next;
    assert!(matches!(end, Ok(NextPage::Done(Some(_)))), "{end:?}");
}

#[tokio::test]
async fn every_message_is_listed_by_its_location() {
    run_test(async {
        let folders = [
            ServerFolder::new("INBOX", [1, 2, 900]),
            ServerFolder::new("Empty", []),
            ServerFolder::new("Sent Items", [4]),
        ];
        let server = ListingServer::start(LIST_STATUS, folders).await;

        let pages = list_pages(&source(&server), &Listing::Full).await;

        assert_complete(&pages);
        assert_eq!(pages[0].total_documents, Some(4));
        let entries = entries(&pages);
        let expected = ["INBOX;3;1", "INBOX;3;2", "INBOX;3;900", "Sent Items;3;4"];
        assert_eq!(places(&entries), expected);
        assert!(entries.iter().all(|entry| entry.document.as_str() == entry.item.as_str()));
        assert_eq!(
            server.take_commands(),
            [
                LIST_STATUS_COMMAND,
                "EXAMINE INBOX",
                "UID FETCH 1:900 (UID RFC822.SIZE)",
                "STATUS INBOX (MESSAGES UIDNEXT UIDVALIDITY)",
                r#"EXAMINE "Sent Items""#,
                "UID FETCH 1:4 (UID RFC822.SIZE)",
                r#"STATUS "Sent Items" (MESSAGES UIDNEXT UIDVALIDITY)"#,
            ]
        );
    })
    .await;
}

#[tokio::test]
async fn a_large_folder_is_listed_in_pages() {
    run_test(async {
        let inbox = ServerFolder::new("INBOX", 1..=9_000);
        let server = ListingServer::start(LIST_STATUS, [inbox]).await;

        let pages = list_pages(&source(&server), &Listing::Full).await;

        assert_complete(&pages);
        let sizes: Vec<usize> = pages.iter().map(|page| page.entries.len()).collect();
        assert_eq!(sizes, [3_000, 4_000, 2_000]);
        let listed: BTreeSet<String> = places(&entries(&pages)).into_iter().collect();
        assert_eq!(listed.len(), 9_000);
        let commands = server.take_commands();
        let fetches: Vec<&String> =
            commands.iter().filter(|command| command.starts_with("UID FETCH")).collect();
        let expected = ["1:1000", "1001:3000", "3001:7000", "7001:9000"]
            .map(|window| format!("UID FETCH {window} (UID RFC822.SIZE)"));
        assert!(fetches.into_iter().eq(expected.iter()), "{commands:?}");
    })
    .await;
}

#[tokio::test]
async fn many_small_folders_are_listed_in_pages() {
    run_test(async {
        let folders = (100..200).map(|number| ServerFolder::new(&format!("F{number}"), [1]));
        let server = ListingServer::start(LIST_STATUS, folders).await;

        let pages = list_pages(&source(&server), &Listing::Full).await;

        assert_complete(&pages);
        let sizes: Vec<usize> = pages.iter().map(|page| page.entries.len()).collect();
        assert_eq!(sizes, [64, 36]);
    })
    .await;
}

#[tokio::test]
async fn more_messages_than_reported_take_narrow_windows() {
    run_test(async {
        let inbox =
            ServerFolder { reported_messages: Some(5), ..ServerFolder::new("INBOX", 1..=10_500) };
        let server = ListingServer::start(LIST_STATUS, [inbox]).await;

        let listed = list_places(&source(&server)).await;

        assert_eq!(listed.into_iter().collect::<BTreeSet<_>>().len(), 10_500);
        let commands = server.take_commands();
        assert_eq!(commands[2], "UID FETCH 1:10500 (UID RFC822.SIZE)");
        assert_eq!(commands[3], "UID FETCH 1:1000 (UID RFC822.SIZE)");
    })
    .await;
}

#[tokio::test]
async fn a_message_in_two_folders_is_one_document_with_two_locations() {
    run_test(async {
        let folders = [ServerFolder::new("INBOX", [7]), ServerFolder::new("Work", [7])];
        let server = ListingServer::start("OBJECTID LIST-EXTENDED LIST-STATUS", folders).await;
        server.change(|script| {
            script.row = |uid| format!(" EMAILID (M{uid}) THREADID (T1) RFC822.SIZE 812");
        });

        let entries = entries(&list_pages(&source(&server), &Listing::Full).await);

        assert_eq!(places(&entries), ["INBOX;3;7", "Work;3;7"]);
        for entry in entries {
            assert_eq!(entry.document.as_str(), "em:M7");
            assert_eq!(entry.blob.as_str(), "em:M7");
            assert_eq!(entry.item.as_str(), "thread:T1");
            assert_eq!((entry.size, entry.size_estimate), (None, Some(812)));
        }
    })
    .await;
}

#[tokio::test]
async fn unsolicited_responses_are_no_messages() {
    run_test(async {
        let server = ListingServer::start("OBJECTID", [ServerFolder::new("INBOX", [7])]).await;
        server.change(|script| {
            script.row = |uid| format!(" EMAILID (M{uid})");
            script.unsolicited = &[
                "* 1 FETCH (FLAGS (\\Seen))",
                "* 1 FETCH (UID 7 FLAGS (\\Seen))",
                "* 2 FETCH (UID 8 FLAGS ())",
                "* 9 EXISTS",
                "* OK [ALERT] maintenance",
            ];
        });

        let entries = entries(&list_pages(&source(&server), &Listing::Full).await);

        let documents: Vec<&str> = entries.iter().map(|entry| entry.document.as_str()).collect();
        assert_eq!(documents, ["em:M7"]);
    })
    .await;
}

#[tokio::test]
async fn a_folder_that_is_made_again_is_listed_anew() {
    run_test(async {
        let folders = [ServerFolder::new("INBOX", [1, 2]), ServerFolder::new("Work", [5])];
        let server = ListingServer::start(LIST_STATUS, folders).await;
        change_before(&server, "EXAMINE INBOX", |folders| {
            folders[0] = ServerFolder { uid_validity: 4, ..ServerFolder::new("INBOX", [8]) };
        });

        let pages = list_pages(&source(&server), &Listing::Full).await;

        assert_complete(&pages);
        assert_eq!(places(&entries(&pages)), ["INBOX;4;8", "Work;3;5"]);
    })
    .await;
}

#[tokio::test]
async fn a_folder_that_is_made_again_all_the_time_is_no_complete_list() {
    run_test(async {
        let server = ListingServer::start(LIST_STATUS, [ServerFolder::new("INBOX", [1])]).await;
        server.change(|script| {
            script.before_command = Box::new(|command, folders| {
                if command.starts_with("STATUS") {
                    folders[0].uid_validity += 1;
                }
            });
        });

        // Each status differs from the folder that is open, and from the status before.
        let pages = list_pages(&source(&server), &Listing::Full).await;

        let end = pages.last().unwrap().next.as_ref().unwrap_err();
        assert!(end.reason.contains("\"INBOX\""), "{}", end.reason);
        assert!(pages.last().unwrap().entries.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_deleted_folder_is_left_out() {
    run_test(async {
        for start in ["EXAMINE INBOX", "STATUS INBOX"] {
            let folders = [ServerFolder::new("INBOX", [1]), ServerFolder::new("Work", [5])];
            let server = ListingServer::start(LIST_STATUS, folders).await;
            change_before(&server, start, |folders| {
                folders.remove(0);
            });

            let pages = list_pages(&source(&server), &Listing::Full).await;

            assert_complete(&pages);
            assert_eq!(places(&entries(&pages)).last().unwrap(), "Work;3;5", "{start}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_message_that_arrives_or_vanishes_meanwhile_is_no_contradiction() {
    run_test(async {
        let inbox = ServerFolder::new("INBOX", [1, 2, 3]);
        let server = ListingServer::start(LIST_STATUS, [inbox]).await;
        change_before(&server, "STATUS", |folders| {
            folders[0].uids.remove(&2);
            folders[0].deliver();
            folders[0].deliver();
        });

        let pages = list_pages(&source(&server), &Listing::Full).await;

        assert_complete(&pages);
        assert_eq!(places(&entries(&pages)), ["INBOX;3;1", "INBOX;3;2", "INBOX;3;3"]);
    })
    .await;
}

#[tokio::test]
async fn a_short_list_is_requested_once_more() {
    run_test(async {
        let inbox =
            ServerFolder { unlisted: BTreeSet::from([2]), ..ServerFolder::new("INBOX", [1, 2]) };
        let server = ListingServer::start(LIST_STATUS, [inbox]).await;
        change_before(&server, "STATUS", |folders| folders[0].unlisted.clear());

        let pages = list_pages(&source(&server), &Listing::Full).await;

        assert_complete(&pages);
        let listed: BTreeSet<String> = places(&entries(&pages)).into_iter().collect();
        assert_eq!(listed, BTreeSet::from(["INBOX;3;1", "INBOX;3;2"].map(str::to_owned)));
    })
    .await;
}

#[tokio::test]
async fn a_list_that_stays_short_is_never_complete() {
    run_test(async {
        let inbox = ServerFolder {
            unlisted: BTreeSet::from([2, 3]),
            ..ServerFolder::new("INBOX", [1, 2, 3])
        };
        let server = ListingServer::start(LIST_STATUS, [inbox]).await;
        let source = source(&server);

        let pages = list_pages(&source, &Listing::Full).await;

        let last = pages.last().unwrap();
        let end = last.next.as_ref().unwrap_err();
        let reason = "the server's list of folder \"INBOX\" ended after 1 of 3 messages";
        assert_eq!((end.reason.as_str(), last.entries.len()), (reason, 0));
        // What was listed is in the pages before, and asking again finds the same.
        assert_eq!(places(&entries(&pages))[0], "INBOX;3;1");
        let again = source.list_page(&Listing::Full, Some(&end.resume_from)).await.unwrap();
        assert_eq!(again.next.as_ref().unwrap_err(), end);
    })
    .await;
}

#[tokio::test]
async fn messages_before_the_first_day_are_left_out_and_counted() {
    run_test(async {
        let inbox = ServerFolder::new("INBOX", [1, 2, 3]);
        let server = ListingServer::start(LIST_STATUS, [inbox]).await;
        server.change(|script| {
            script.row = |uid| format!(" INTERNALDATE \" {uid}-Jan-2020 12:00:00 +0000\"");
        });
        let since = NaiveDate::from_ymd_opt(2020, 1, 3);
        let source = source_with(ImapOptions { since, ..options(&server) });

        let pages = list_pages(&source, &Listing::Full).await;

        assert_complete(&pages);
        assert_eq!(places(&entries(&pages)), ["INBOX;3;3"]);
        let command = "UID FETCH 1:3 (UID RFC822.SIZE INTERNALDATE)";
        assert!(server.take_commands().contains(&command.to_owned()));
    })
    .await;
}

#[tokio::test]
async fn a_folder_that_is_made_again_while_it_is_listed_is_opened_again() {
    run_test(async {
        let server = ListingServer::start(LIST_STATUS, [ServerFolder::new("INBOX", [1, 2])]).await;
        change_before(&server, "STATUS", |folders| {
            folders[0] = ServerFolder { uid_validity: 4, ..ServerFolder::new("INBOX", [8]) };
        });

        let pages = list_pages(&source(&server), &Listing::Full).await;

        assert_complete(&pages);
        assert_eq!(places(&entries(&pages)), ["INBOX;3;1", "INBOX;3;2", "INBOX;4;8"]);
        let commands = server.take_commands();
        let count = |start: &str| commands.iter().filter(|text| text.starts_with(start)).count();
        assert_eq!([count("EXAMINE"), count("STATUS")], [2, 2], "{commands:?}");
    })
    .await;
}

#[tokio::test]
async fn a_folder_whose_messages_may_not_be_listed_is_left_out() {
    run_test(async {
        let folders = [ServerFolder::new("INBOX", [1]), ServerFolder::new("Work", [5])];
        let server = ListingServer::start(LIST_STATUS, folders).await;
        server.change(|script| {
            script.before_command = Box::new(|command, folders| {
                folders[0].refusal =
                    command.starts_with("UID FETCH").then_some("NO [NOPERM] Access denied");
            });
        });

        let pages = list_pages(&source(&server), &Listing::Full).await;

        assert_eq!(places(&entries(&pages)), ["Work;3;5"]);
        let Ok(NextPage::Done(Some(cursor))) = &pages.last().unwrap().next else {
            panic!("the listing is complete: {pages:?}");
        };
        let expected = r#"{"version":1,"folders":{"Work":[3,6,0]},"refused":{"INBOX":[3,2,0]}}"#;
        assert_eq!(cursor.as_str(), expected);
    })
    .await;
}

#[tokio::test]
async fn a_folder_whose_messages_cannot_be_listed_is_named() {
    run_test(async {
        let server = ListingServer::start(LIST_STATUS, [ServerFolder::new("Old", [1])]).await;
        server.change(|script| {
            script.before_command = Box::new(|command, folders| {
                folders[0].refusal =
                    command.starts_with("UID FETCH").then_some("NO [SERVERBUG] Broken index");
            });
        });

        let failure = source(&server).list_page(&Listing::Full, None).await.unwrap_err();

        assert_eq!(failure.cause, Cause::Server);
        assert!(failure.message.starts_with("folder \"Old\": "), "{failure}");
        assert!(failure.message.contains("`exclude`"), "{failure}");
    })
    .await;
}

#[tokio::test]
async fn the_largest_uid_is_listed() {
    run_test(async {
        let mut inbox = ServerFolder::new("INBOX", [1]);
        inbox.uids.insert(u32::MAX);
        // It cannot be larger.
        inbox.uid_next = u32::MAX;
        let server = ListingServer::start(LIST_STATUS, [inbox]).await;

        assert_eq!(list_places(&source(&server)).await, ["INBOX;3;1", "INBOX;3;4294967295"]);
    })
    .await;
}

#[tokio::test]
async fn an_older_state_of_a_folder_is_no_complete_list() {
    run_test(async {
        let (older, newer) = (ServerFolder::new("INBOX", [1]), ServerFolder::new("INBOX", [1, 2]));
        let server = ListingServer::start(LIST_STATUS, [older.clone()]).await;
        let cursor = source(&server).current_cursor().await.unwrap();
        let source = source(&server);
        server.change(|script| {
            script.before_command = Box::new(move |command, folders| {
                let is_list = command.starts_with("LIST");
                folders[0] = if is_list { newer.clone() } else { older.clone() };
            });
        });

        for listing in [Listing::Full, Listing::Since(cursor)] {
            let pages = Box::pin(list_pages(&source, &listing)).await;

            let end = pages.last().unwrap().next.as_ref().unwrap_err();
            assert!(end.reason.contains("older state of folder \"INBOX\""), "{}", end.reason);
        }
    })
    .await;
}

#[tokio::test]
async fn a_wrong_uidnext_of_an_open_folder_is_ignored() {
    run_test(async {
        let server = ListingServer::start(LIST_STATUS, [ServerFolder::new("INBOX", [1, 2])]).await;
        server.change(|script| {
            script.before_command = Box::new(|command, folders| {
                folders[0].uid_next = if command.starts_with("EXAMINE") { 1 } else { 3 };
            });
        });

        let pages = list_pages(&source(&server), &Listing::Full).await;

        assert_complete(&pages);
        assert_eq!(places(&entries(&pages)), ["INBOX;3;1", "INBOX;3;2"]);
    })
    .await;
}

#[tokio::test]
async fn a_page_ends_after_many_messages_that_are_left_out() {
    run_test(async {
        let inbox = ServerFolder::new("INBOX", 1..=30_000);
        let server = ListingServer::start(LIST_STATUS, [inbox]).await;
        server.change(|script| {
            script.row = |_uid| " INTERNALDATE \" 1-Jan-2020 12:00:00 +0000\"".to_owned();
        });
        let since = NaiveDate::from_ymd_opt(2020, 1, 3);
        let source = source_with(ImapOptions { since, ..options(&server) });

        let pages = list_pages(&source, &Listing::Full).await;

        assert_complete(&pages);
        assert_eq!((pages.len(), entries(&pages).len()), (2, 0));
    })
    .await;
}
