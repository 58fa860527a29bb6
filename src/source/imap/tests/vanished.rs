//! Messages that vanished, as listings of changes report them.

use cynosure_engine::{Cursor, VanishedMessages};

use super::*;

/// Capabilities with which vanished messages are asked for.
const QRESYNC: &str = "LIST-EXTENDED LIST-STATUS CONDSTORE ENABLE QRESYNC OBJECTID";

/// The same without ids of contents: each document has one location, which stays in the ledger.
const QRESYNC_WITHOUT_IDS: &str = "LIST-EXTENDED LIST-STATUS CONDSTORE ENABLE QRESYNC";

/// Ten times as many messages as a listing holds in memory.
const MANY_MESSAGES: u32 = 100_000;

/// Starts a server whose folders have each a message that vanished since a cursor, and returns the
/// cursor. A message has arrived in the second folder.
async fn start(capabilities: &'static str) -> (ListingServer, ImapSource, Cursor) {
    let mut folders = [ServerFolder::new("INBOX", [1, 2]), ServerFolder::new("Work", [4, 5])];
    folders[0].mod_seq = 10;
    folders[1].mod_seq = 20;
    let server = ListingServer::start(capabilities, folders).await;
    let source = source(&server);
    let cursor = source.current_cursor().await.unwrap();
    server.change(|script| {
        let [inbox, work] = &mut script.folders[..] else { panic!("there are two folders") };
        inbox.uids.remove(&1);
        inbox.mod_seq = 12;
        inbox.vanished = answer(&["* VANISHED (EARLIER) 1"]);
        work.uids.remove(&4);
        work.deliver();
        work.mod_seq = 22;
        work.vanished = answer(&["* VANISHED (EARLIER) 4", "* 2 FETCH (UID 6 MODSEQ (22))"]);
    });
    server.take_commands();
    (server, source, cursor)
}

fn answer(lines: &[&str]) -> Vec<String> {
    lines.iter().chain(&["OK done"]).map(|&line| line.to_owned()).collect()
}

/// Lists the changes to their end. Returns the vanished messages, as `folder;uidvalidity;uid`, and
/// the commands about them. The message that has arrived must be listed.
async fn list(
    server: &ListingServer,
    source: &ImapSource,
    cursor: Cursor,
) -> (Vec<String>, Vec<String>) {
    let pages = list_pages(source, &Listing::Since(cursor)).await;
    assert_eq!(places(&entries(&pages)), ["Work;3;6"]);
    let Ok(NextPage::Done(Some(end))) = &pages.last().unwrap().next else {
        panic!("a listing ends with a cursor: {pages:?}");
    };
    assert_eq!(source.current_cursor().await.as_ref(), Ok(end));
    let vanished = pages.iter().flat_map(|page| &page.vanished).flat_map(|messages| {
        let VanishedMessages { folder, uid_validity, uids } = messages;
        let uids = uids.iter().cloned().flatten();
        uids.map(move |uid| format!("{folder};{uid_validity};{uid}"))
    });
    let is_about_vanished = |command: &String| {
        command.starts_with("ENABLE") || command.contains("VANISHED") || command.contains("INBOX")
    };
    (vanished.collect(), server.take_commands().into_iter().filter(is_about_vanished).collect())
}

#[tokio::test]
async fn vanished_messages_are_listed_after_the_new_ones() {
    run_test(async {
        let (server, source, cursor) = start(QRESYNC).await;

        let pages = list_pages(&source, &Listing::Since(cursor.clone())).await;
        let commands = server.take_commands();
        let (vanished, _commands) = list(&server, &source, cursor).await;

        assert_eq!(vanished, ["INBOX;3;1", "Work;3;4"]);
        assert_eq!(pages.len(), 1);
        let new = commands.iter().position(|command| command.starts_with("UID FETCH 6:6 "));
        let expected = [
            "NOOP",
            "ENABLE QRESYNC",
            "EXAMINE INBOX",
            "UID FETCH 1:2 (UID) (CHANGEDSINCE 10 VANISHED)",
            "EXAMINE Work",
            "UID FETCH 1:5 (UID) (CHANGEDSINCE 20 VANISHED)",
        ];
        assert_eq!(commands[new.unwrap() + 1..], expected);
    })
    .await;
}

#[tokio::test]
async fn the_extension_is_turned_on_once_per_connection() {
    run_test(async {
        let (server, source, cursor) = start(QRESYNC).await;
        let (_vanished, first) = list(&server, &source, cursor.clone()).await;

        let (vanished, again) = list(&server, &source, cursor).await;

        let enabled =
            [first, again].map(|commands| commands.contains(&"ENABLE QRESYNC".to_owned()));
        assert_eq!((vanished.len(), enabled, server.logins()), (2, [true, false], 1));
    })
    .await;
}

#[tokio::test]
async fn a_server_without_the_extension_or_ids_is_not_asked() {
    run_test(async {
        for capabilities in ["LIST-EXTENDED LIST-STATUS CONDSTORE OBJECTID", QRESYNC_WITHOUT_IDS] {
            let (server, source, cursor) = start(capabilities).await;

            let listed = list(&server, &source, cursor).await;

            assert_eq!(listed, (Vec::new(), Vec::new()), "{capabilities}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_refusal_is_no_failure_and_is_not_repeated() {
    run_test(async {
        let (server, source, cursor) = start(QRESYNC).await;
        server.change(|script| {
            script.folders[0].vanished = vec!["BAD Unknown modifier".to_owned()];
        });

        let (vanished, commands) = list(&server, &source, cursor).await;

        assert!(vanished.is_empty(), "{vanished:?}");
        let expected =
            ["ENABLE QRESYNC", "EXAMINE INBOX", "UID FETCH 1:2 (UID) (CHANGEDSINCE 10 VANISHED)"];
        assert_eq!(commands, expected);
    })
    .await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_asked_does_not_hide_the_others() {
    run_test(async {
        for refusal in [Some("NO [NOPERM] Access denied"), None] {
            let (server, source, cursor) = start(QRESYNC).await;
            server.change(|script| {
                script.before_command = Box::new(move |command, folders| {
                    let is_inbox = command.starts_with("EXAMINE INBOX");
                    folders[0].refusal = refusal.filter(|_| is_inbox);
                    // Without a refusal, it was made again.
                    folders[0].uid_validity = if is_inbox { 4 } else { 3 };
                });
            });

            let (vanished, commands) = list(&server, &source, cursor).await;

            assert_eq!(vanished, ["Work;3;4"], "{refusal:?}");
            let asked = commands.iter().filter(|command| command.contains("VANISHED"));
            assert_eq!(asked.count(), 1, "{refusal:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn any_number_of_changed_flags_may_come_with_them() {
    run_test(async {
        let (server, source, cursor) = start(QRESYNC).await;
        server.change(|script| {
            let uids = 1..=MANY_MESSAGES;
            let rows = uids.map(|uid| format!("* {uid} FETCH (UID {uid} MODSEQ (11))"));
            let found = ["* VANISHED (EARLIER) 1", "OK done"].map(str::to_owned);
            script.folders[0].vanished = rows.chain(found).collect();
        });

        let (vanished, _commands) = list(&server, &source, cursor).await;

        assert_eq!(vanished, ["INBOX;3;1", "Work;3;4"]);
    })
    .await;
}

#[tokio::test]
async fn an_answer_beyond_all_limits_is_dropped() {
    run_test(async {
        let (server, source, cursor) = start(QRESYNC).await;
        server.change(|script| {
            let uids = (1..MANY_MESSAGES).map(|number| (4_000_000_000 + 2 * number).to_string());
            let uids: Vec<String> = uids.collect();
            let line = format!("* VANISHED (EARLIER) {}", uids.join(","));
            script.folders[0].vanished = answer(&[&line]);
        });

        let (vanished, _commands) = list(&server, &source, cursor).await;

        assert!(vanished.is_empty(), "{vanished:?}");
    })
    .await;
}
