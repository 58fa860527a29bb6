//! Folders that are extracted, and the requests for their status.

use cynosure_engine::FolderCount;

use super::*;

fn attributed(name: &str, attributes: &'static str) -> ServerFolder {
    ServerFolder { attributes, ..ServerFolder::new(name, [1]) }
}

fn cursor_text(folders: &str) -> String {
    format!("{{\"version\":1,\"folders\":{{{folders}}}}}")
}

async fn current_cursor(source: &ImapSource) -> String {
    source.current_cursor().await.unwrap().to_string()
}

#[tokio::test]
async fn one_request_returns_the_status_of_all_folders() {
    run_test(async {
        let folders = [
            ServerFolder::new("INBOX", [1, 5]),
            attributed("Level", "\\Noselect"),
            ServerFolder::new("Sent Items", []),
        ];
        let server = ListingServer::start(LIST_STATUS, folders).await;

        let cursor = current_cursor(&source(&server)).await;

        assert_eq!(cursor, cursor_text(r#""INBOX":[3,6,0],"Sent Items":[3,1,0]"#));
        assert_eq!(server.take_commands(), [LIST_STATUS_COMMAND]);
    })
    .await;
}

#[tokio::test]
async fn each_selected_folder_is_asked_for_where_needed() {
    run_test(async {
        let folders = ["INBOX", "Sent Items", "Trash"].map(|name| ServerFolder::new(name, [7]));
        let server = ListingServer::start("", folders).await;
        let exclude = vec!["Trash".to_owned()];
        let folders = FolderFilter { include: Vec::new(), exclude };
        let source = source_with(ImapOptions { folders, ..options(&server) });

        let cursor = current_cursor(&source).await;

        assert_eq!(cursor, cursor_text(r#""INBOX":[3,8,0],"Sent Items":[3,8,0]"#));
        let commands = server.take_commands();
        assert_eq!(
            commands,
            [
                r#"LIST "" "*""#,
                "STATUS INBOX (MESSAGES UIDNEXT UIDVALIDITY)",
                r#"STATUS "Sent Items" (MESSAGES UIDNEXT UIDVALIDITY)"#,
            ]
        );
    })
    .await;
}

#[tokio::test]
async fn more_folders_than_may_be_in_flight_are_all_asked_for() {
    run_test(async {
        let folders = (100..220).map(|number| ServerFolder::new(&format!("F{number}"), [1]));
        let server = ListingServer::start("CONDSTORE", folders).await;

        let cursor = current_cursor(&source(&server)).await;

        assert_eq!(cursor.matches("[3,2,0]").count(), 120);
        let commands = server.take_commands();
        assert_eq!(commands.len(), 121);
        assert_eq!(commands[1], "STATUS F100 (MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ)");
    })
    .await;
}

#[tokio::test]
async fn a_refused_folder_does_not_keep_the_others_from_being_listed() {
    run_test(async {
        for (refusal, is_skipped) in [
            ("NO [NOPERM] Access denied", true),
            ("NO [SERVERBUG] Internal error", true),
            ("NO Mailbox doesn't exist: Shared", true),
            ("NO [LIMIT] Rate limit hit.", false),
        ] {
            let mut shared = ServerFolder::new("Shared", [1]);
            shared.refusal = Some(refusal);
            let folders = [shared, ServerFolder::new("INBOX", [7])];
            let server = ListingServer::start(LIST_STATUS, folders).await;

            let result = source(&server).list_page(&Listing::Full, None).await;

            let listed = result.map(|page| places(&page.entries)).map_err(|error| error.cause);
            let expected =
                if is_skipped { Ok(vec!["INBOX;3;7".to_owned()]) } else { Err(Cause::RateLimit) };
            assert_eq!(listed, expected, "{refusal}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_refuses_every_folder_has_failed() {
    run_test(async {
        let refusal = Some("NO [UNAVAILABLE] The storage is not mounted");
        let inbox = ServerFolder { refusal, ..ServerFolder::new("INBOX", [1]) };
        let server = ListingServer::start(LIST_STATUS, [inbox]).await;

        let failure = source(&server).current_cursor().await.unwrap_err();

        assert_eq!(failure.cause, Cause::Server);
        assert!(failure.message.contains("not mounted"), "{failure}");
    })
    .await;
}

#[tokio::test]
async fn an_empty_list_of_folders_is_a_failure() {
    run_test(async {
        let server = ListingServer::start(LIST_STATUS, []).await;

        let failure = source(&server).current_cursor().await.unwrap_err();

        assert_eq!(failure.cause, Cause::Server);
    })
    .await;
}

#[tokio::test]
async fn a_folder_that_vanishes_before_its_status_is_left_out() {
    run_test(async {
        let folders = ["INBOX", "Old"].map(|name| ServerFolder::new(name, [1]));
        let server = ListingServer::start("", folders).await;
        server.change(|script| {
            script.before_command = Box::new(|command, folders| {
                if command.starts_with("STATUS Old") {
                    folders.retain(|folder| folder.name != "Old");
                }
            });
        });

        let cursor = current_cursor(&source(&server)).await;

        assert_eq!(cursor, cursor_text(r#""INBOX":[3,2,0]"#));
    })
    .await;
}

#[tokio::test]
async fn gmail_is_listed_by_its_folders_of_all_mail() {
    run_test(async {
        let folders = [
            ServerFolder::new("INBOX", [1]),
            attributed("[Gmail]/Alle", "\\HasNoChildren \\All"),
            attributed("[Gmail]/Spam", "\\Junk"),
            attributed("[Gmail]/Gesendet", "\\Sent"),
            attributed("[Gmail]/Papierkorb", "\\Trash"),
        ];
        let server = ListingServer::start("X-GM-EXT-1 LIST-EXTENDED LIST-STATUS", folders).await;
        server.change(|script| script.row = |uid| format!(" X-GM-MSGID 12{uid} X-GM-THRID 5"));

        let entries = entries(&list_pages(&source(&server), &Listing::Full).await);

        let expected = ["[Gmail]/Alle;3;1", "[Gmail]/Spam;3;1", "[Gmail]/Papierkorb;3;1"];
        assert_eq!(places(&entries), expected);
        assert_eq!(entries[0].document.as_str(), "gm:121");
        assert_eq!(entries[0].item.as_str(), "gm-thread:5");
        assert!(server.take_commands().contains(
            &"UID FETCH 1:1 (UID RFC822.SIZE X-GM-MSGID X-GM-THRID X-GM-LABELS)".to_owned()
        ));
    })
    .await;
}

#[tokio::test]
async fn a_folder_without_a_valid_uidnext_is_named() {
    run_test(async {
        for capabilities in [LIST_STATUS, ""] {
            let full = ServerFolder { uid_next: 0, ..ServerFolder::new("Full", [1]) };
            let folders = [ServerFolder::new("INBOX", [1]), full];
            let server = ListingServer::start(capabilities, folders).await;

            let failure = source(&server).current_cursor().await.unwrap_err();

            assert_eq!(failure.cause, Cause::Server);
            let expected = "no valid MESSAGES, UIDNEXT and UIDVALIDITY of folder \"Full\"";
            assert!(failure.message.contains(expected), "{failure}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_hundred_thousand_folders_are_listed_by_one_request() {
    run_test(async {
        let folders = (0..100_000).map(|number| ServerFolder::new(&format!("F{number}"), []));
        let server = ListingServer::start(LIST_STATUS, folders).await;

        let cursor = current_cursor(&source(&server)).await;

        assert_eq!(cursor.matches("[3,1,0]").count(), 100_000);
        assert_eq!(server.take_commands(), [LIST_STATUS_COMMAND]);
    })
    .await;
}

#[tokio::test]
async fn a_folder_of_the_configuration_must_exist() {
    run_test(async {
        let server = ListingServer::start(LIST_STATUS, [ServerFolder::new("Archive", [1])]).await;
        let folders = FolderFilter { include: vec!["Archiv".to_owned()], exclude: Vec::new() };
        let source = source_with(ImapOptions { folders, ..options(&server) });

        let failure = source.current_cursor().await.unwrap_err();

        assert_eq!(failure.cause, Cause::NotFound);
        assert!(failure.message.contains("did you mean \"Archive\"?"), "{failure}");
    })
    .await;
}

#[tokio::test]
async fn folders_are_counted_and_only_selected_ones_extracted() {
    run_test(async {
        for (capabilities, trash) in [(LIST_STATUS, Some(1)), ("", None)] {
            let mut shared = ServerFolder::new("Shared", [1, 2]);
            shared.refusal = Some("NO [NOPERM] Access denied");
            let folders = [
                ServerFolder::new("INBOX", [1, 5]),
                attributed("Level", "\\Noselect"),
                shared,
                ServerFolder::new("Trash", [7]),
            ];
            let server = ListingServer::start(capabilities, folders).await;
            let exclude = vec!["Trash".to_owned()];
            let folders = FolderFilter { include: Vec::new(), exclude };
            let source = source_with(ImapOptions { folders, ..options(&server) });

            let counts = source.folders().await.unwrap();

            let count = |name: &str, messages, is_extracted| {
                let name = name.to_owned();
                FolderCount { name, messages, is_extracted }
            };
            let expected = [
                count("INBOX", Some(2), true),
                count("Shared", None, false),
                count("Trash", trash, false),
            ];
            assert_eq!(counts, expected);
            let commands = server.take_commands();
            assert!(!commands.iter().any(|command| command.starts_with("EXAMINE")), "{commands:?}");
        }
    })
    .await;
}
