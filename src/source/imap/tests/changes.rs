//! Polls and listings of changes since a cursor.

use cynosure_engine::Cursor;

use super::*;
use crate::source::PollResult;

async fn server_with_two_folders() -> ListingServer {
    let folders = [ServerFolder::new("INBOX", [1, 2]), ServerFolder::new("Work", [5])];
    ListingServer::start(LIST_STATUS, folders).await
}

/// Lists to the end. Returns the locations of the documents and the new cursor.
async fn list(source: &ImapSource, listing: Listing) -> (Vec<String>, Cursor) {
    let pages = list_pages(source, &listing).await;
    let Ok(NextPage::Done(Some(cursor))) = &pages.last().unwrap().next else {
        panic!("a listing ends with a cursor: {pages:?}");
    };
    (places(&entries(&pages)), cursor.clone())
}

async fn list_changes(source: &ImapSource, since: Cursor) -> (Vec<String>, Cursor) {
    list(source, Listing::Since(since)).await
}

#[tokio::test]
async fn only_new_messages_are_changes() {
    run_test(async {
        let server = server_with_two_folders().await;
        let source = source(&server);
        let cursor = source.current_cursor().await.unwrap();
        assert_eq!(source.poll_changes(&cursor).await, Ok(PollResult::Unchanged));
        server.take_commands();

        server.change(|script| {
            script.folders[0].uids.remove(&1);
            script.folders[1].deliver();
        });

        assert_eq!(source.poll_changes(&cursor).await, Ok(PollResult::Changed));
        assert_eq!(server.take_commands(), [LIST_STATUS_COMMAND]);
        let (places, new_cursor) = list_changes(&source, cursor).await;
        assert_eq!(places, ["Work;3;6"]);
        // The listing begins with what the poll has read.
        let commands = ["EXAMINE Work", "UID FETCH 6:6 (UID RFC822.SIZE)"];
        assert_eq!(server.take_commands(), commands);
        assert_eq!(source.current_cursor().await, Ok(new_cursor.clone()));
        assert_eq!(source.poll_changes(&new_cursor).await, Ok(PollResult::Unchanged));
    })
    .await;
}

#[tokio::test]
async fn a_new_or_renumbered_folder_is_listed_as_a_whole() {
    run_test(async {
        let server = server_with_two_folders().await;
        let source = source(&server);
        let cursor = source.current_cursor().await.unwrap();

        server.change(|script| {
            script.folders[0].uid_validity = 9;
            script.folders[1] = ServerFolder::new("Renamed", [5]);
        });

        assert_eq!(source.poll_changes(&cursor).await, Ok(PollResult::Changed));
        let (places, new_cursor) = list_changes(&source, cursor).await;
        assert_eq!(places, ["INBOX;9;1", "INBOX;9;2", "Renamed;3;5"]);
        let expected = r#"{"version":1,"folders":{"INBOX":[9,3,0],"Renamed":[3,6,0]}}"#;
        assert_eq!(new_cursor.as_str(), expected);
    })
    .await;
}

#[tokio::test]
async fn a_deleted_folder_is_no_change() {
    run_test(async {
        let server = server_with_two_folders().await;
        let source = source(&server);
        let cursor = source.current_cursor().await.unwrap();

        server.change(|script| script.folders.truncate(1));

        assert_eq!(source.poll_changes(&cursor).await, Ok(PollResult::Unchanged));
        let (places, new_cursor) = list_changes(&source, cursor).await;
        assert!(places.is_empty());
        assert_eq!(new_cursor.as_str(), r#"{"version":1,"folders":{"INBOX":[3,3,0]}}"#);
    })
    .await;
}

#[tokio::test]
async fn a_message_that_arrives_during_a_listing_is_in_the_next_changes() {
    run_test(async {
        let server = server_with_two_folders().await;
        let source = source(&server);
        let cursor = source.current_cursor().await.unwrap();
        server.change(|script| {
            script.before_command = Box::new(|command, folders| {
                if command.starts_with("EXAMINE INBOX") {
                    folders[0].deliver();
                }
            });
        });

        assert_eq!(list_places(&source).await, ["INBOX;3;1", "INBOX;3;2", "Work;3;5"]);

        let (places, _cursor) = list_changes(&source, cursor).await;
        assert_eq!(places, ["INBOX;3;3"]);
    })
    .await;
}

#[tokio::test]
async fn a_folder_that_is_refused_for_a_while_loses_nothing() {
    run_test(async {
        let server = server_with_two_folders().await;
        let source = source(&server);
        let cursor = source.current_cursor().await.unwrap();
        server.change(|script| script.folders[1].refusal = Some("NO [NOPERM] Access denied"));
        let (places, cursor) = list_changes(&source, cursor).await;
        assert!(places.is_empty());

        server.change(|script| {
            script.folders[1].refusal = None;
            script.folders[1].deliver();
        });

        assert_eq!(list_changes(&source, cursor).await.0, ["Work;3;6"]);
    })
    .await;
}

#[tokio::test]
async fn a_folder_that_a_full_listing_cannot_read_is_new_later() {
    run_test(async {
        let server = server_with_two_folders().await;
        let source = source(&server);
        // The worker reads this cursor before the listing.
        source.current_cursor().await.unwrap();
        server.change(|script| {
            script.before_command = Box::new(|command, folders| {
                folders[1].refusal =
                    command.starts_with("EXAMINE Work").then_some("NO [NOPERM] Access denied");
            });
        });
        let (places, cursor) = list(&source, Listing::Full).await;
        assert_eq!(places, ["INBOX;3;1", "INBOX;3;2"]);

        server.change(|script| {
            script.before_command = Box::new(|_command, folders| folders[1].refusal = None);
            script.folders[0].deliver();
        });

        assert_eq!(source.poll_changes(&cursor).await, Ok(PollResult::Changed));
        assert_eq!(list_changes(&source, cursor).await.0, ["INBOX;3;3", "Work;3;5"]);
    })
    .await;
}

#[tokio::test]
async fn a_folder_that_stays_refused_is_a_change_only_with_new_mail() {
    run_test(async {
        let server = server_with_two_folders().await;
        let source = source(&server);
        server.change(|script| {
            script.before_command = Box::new(|command, folders| {
                folders[1].refusal =
                    command.starts_with("EXAMINE Work").then_some("NO [NOPERM] Access denied");
            });
        });
        let (_places, cursor) = list(&source, Listing::Full).await;
        assert_eq!(source.poll_changes(&cursor).await, Ok(PollResult::Unchanged));

        server.change(|script| script.folders[1].deliver());
        assert_eq!(source.poll_changes(&cursor).await, Ok(PollResult::Changed));
        let (places, cursor) = list_changes(&source, cursor).await;
        assert!(places.is_empty(), "{places:?}");
        assert_eq!(source.poll_changes(&cursor).await, Ok(PollResult::Unchanged));

        server.change(|script| {
            script.before_command = Box::new(|_command, folders| folders[1].refusal = None);
            script.folders[1].deliver();
        });
        assert_eq!(source.poll_changes(&cursor).await, Ok(PollResult::Changed));
        let (places, cursor) = list_changes(&source, cursor).await;
        assert_eq!(places, ["Work;3;5", "Work;3;6", "Work;3;7"]);
        assert_eq!(source.current_cursor().await, Ok(cursor));
    })
    .await;
}

#[tokio::test]
async fn a_full_listing_tries_a_refused_folder_again() {
    run_test(async {
        let server = server_with_two_folders().await;
        let source = source(&server);
        let refusal = Some("NO [NOPERM] Access denied");
        server.change(|script| {
            script.before_command = Box::new(move |command, folders| {
                folders[1].refusal = refusal.filter(|_| command.starts_with("EXAMINE Work"));
            });
        });
        assert_eq!(list(&source, Listing::Full).await.0, ["INBOX;3;1", "INBOX;3;2"]);

        server.change(|script| {
            script.before_command = Box::new(|_command, folders| folders[1].refusal = None);
        });

        let (places, cursor) = list(&source, Listing::Full).await;
        assert_eq!(places, ["INBOX;3;1", "INBOX;3;2", "Work;3;5"]);
        assert_eq!(source.current_cursor().await, Ok(cursor));
    })
    .await;
}

#[tokio::test]
async fn a_cursor_of_another_version_has_expired() {
    run_test(async {
        let server = server_with_two_folders().await;
        let (source, cursor) = (source(&server), Cursor::new("s123"));

        let polled = source.poll_changes(&cursor).await.unwrap_err();
        let listed = source.list_page(&Listing::Since(cursor), None).await.unwrap_err();

        assert_eq!([polled.cause, listed.cause], [Cause::CursorExpired; 2]);
        assert_eq!(server.logins(), 0);
    })
    .await;
}
