//! Folders with unusual names, in large numbers, or that cannot be opened.

use std::collections::BTreeSet;

use cynosure::source::PollResult;
use cynosure::source::Source as _;
use cynosure::source::imap::{FolderFilter, ImapOptions};
use cynosure_engine::{Cause, ListedDocument};

use super::server::{
    Answer, CAPABILITIES, ReceivedCommand, ScriptedServer, ServedFolder, message_bytes,
};
use super::{extract, list_everything, options, run_locally, source, source_with};

/// Names as servers send them. The first ones are valid modified UTF-7.
const NAMES: [&[u8]; 30] = [
    b"INBOX",
    b"inbox/a",
    b"Entw&APw-rfe",
    b"&2D3eAA-",
    b"~peter/mail/&U,BTFw-/&ZeVnLIqe-",
    b"R&-D",
    b"A \"quoted\" name",
    b"back\\slash",
    b"\\",
    b"\"",
    b"(a) b) c",
    b"%*]",
    b"{5}",
    b"a {5}",
    b"NIL",
    b"a;b;7;1",
    b" before and after ",
    b"new\nline",
    b"a\r\nb",
    b"tab\tand nul\0",
    b"R&D",
    b"&",
    b"&AGE-",
    b"&2D0-",
    b"&APx-",
    b"caf\xc3\xa9",
    b"caf\xe9",
    b"\xff\xfe{3}",
    b"\xef\xbf\xbdR&D",
    b"A1 OK done",
];

/// Number of folders in which nothing is kept.
const EMPTY_FOLDERS: usize = 10_000;

/// Servers with and without the status of all folders in one answer.
const BOTH_CAPABILITIES: [&str; 2] = [CAPABILITIES, "IMAP4rev1 SASL-IR AUTH=PLAIN"];

fn folder_names(documents: &[ListedDocument]) -> BTreeSet<String> {
    let locations = documents.iter().filter_map(|document| document.location.as_ref());
    locations.map(|location| location.folder.clone()).collect()
}

#[tokio::test]
async fn folders_of_any_name_are_extracted() {
    run_locally(async {
        for capabilities in BOTH_CAPABILITIES {
            let folders = NAMES.map(|name| ServedFolder::new(name, [1]));
            let server = ScriptedServer::start_with(capabilities, folders).await;
            let source = source(&server);

            let documents = list_everything(&source).await.unwrap();
            let messages: BTreeSet<_> = extract(&source).await.unwrap().into_iter().collect();

            let expected: BTreeSet<_> = NAMES.iter().map(|name| message_bytes(name, 1)).collect();
            assert_eq!(messages, expected);
            assert_eq!(folder_names(&documents).len(), NAMES.len(), "each has its own name");
        }
    })
    .await;
}

#[tokio::test]
async fn a_name_in_another_case_is_another_folder() {
    run_locally(async {
        for (name, other) in [("Work", "work"), ("work", "Work"), ("WORK", "work")] {
            let folders = ["INBOX", name, other].map(|name| ServedFolder::new(name, [1]));
            let server = ScriptedServer::start(folders).await;
            let mut options = options(&server);
            options.folders.include = vec![name.to_owned()];

            let messages = extract(&source_with(options)).await.unwrap();

            assert_eq!(messages, [message_bytes(name.as_bytes(), 1)]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_missing_folder_is_named() {
    run_locally(async {
        let folders = ["INBOX", "work", "Sent"].map(|name| ServedFolder::new(name, [1]));
        let server = ScriptedServer::start(folders).await;
        for (name, nearest) in [("Work", "work"), ("Sentt", "Sent")] {
            let include = vec!["INBOX".to_owned(), name.to_owned()];
            let folders = FolderFilter { include, exclude: Vec::new() };
            let source = source_with(ImapOptions { folders, ..options(&server) });

            let failure = list_everything(&source).await.unwrap_err();

            assert_eq!(failure.cause, Cause::NotFound);
            let expected =
                format!("folder \"{name}\" is not on the server; did you mean \"{nearest}\"?");
            assert!(failure.message.starts_with(&expected), "{failure}");
        }
        assert_eq!(server.count("EXAMINE"), 0);
    })
    .await;
}

#[tokio::test]
async fn ten_thousand_folders_are_listed() {
    run_locally(async {
        for capabilities in BOTH_CAPABILITIES {
            let empty = (0..EMPTY_FOLDERS).map(|n| ServedFolder::new(format!("Folder {n}"), []));
            let folders = empty.chain([ServedFolder::inbox([1])]);
            let server = ScriptedServer::start_with(capabilities, folders).await;
            let source = source(&server);

            let cursor = source.current_cursor().await.unwrap();
            let unchanged = source.poll_changes(&cursor).await;
            let documents = list_everything(&source).await.unwrap();

            assert_eq!(unchanged, Ok(PollResult::Unchanged));
            assert_eq!(documents.len(), 1);
            assert_eq!(server.count("EXAMINE"), 1, "empty folders are not opened");
            let is_at_once = capabilities == CAPABILITIES;
            assert_eq!(server.count("LIST"), 2, "the listing begins with what was read before");
            assert_eq!(server.count("STATUS \"Folder 7\""), if is_at_once { 0 } else { 2 });
        }
    })
    .await;
}

#[tokio::test]
async fn a_refused_folder_does_not_hide_the_others() {
    run_locally(async {
        let refuses = |command: &ReceivedCommand| {
            let is_refused = command.arguments.first().is_some_and(|name| name == b"private");
            is_refused.then(|| Answer::new().tagged("NO [NOPERM] Access denied"))
        };
        for (capabilities, command) in [(CAPABILITIES, "EXAMINE"), (BOTH_CAPABILITIES[1], "STATUS")]
        {
            let folders = ["INBOX", "private", "Sent"].map(|name| ServedFolder::new(name, [1]));
            let server = ScriptedServer::start_with(capabilities, folders).await;
            server.answer_with(command, refuses);

            let messages = extract(&source(&server)).await.unwrap();

            let expected = [b"INBOX".as_slice(), b"Sent"].map(|name| message_bytes(name, 1));
            assert_eq!(messages, expected, "{command}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_folder_that_disappears_is_skipped() {
    run_locally(async {
        for reply in
            ["NO [NONEXISTENT] gone", "NO Mailbox doesn't exist: Old", "NO Mailbox does not exist"]
        {
            let folders = ["INBOX", "Old", "Sent"].map(|name| ServedFolder::new(name, [1]));
            let server = ScriptedServer::start(folders).await;
            server.answer_always("EXAMINE Old", Answer::new().tagged(reply));

            let messages = extract(&source(&server)).await.unwrap();

            let expected = [b"INBOX".as_slice(), b"Sent"].map(|name| message_bytes(name, 1));
            assert_eq!(messages, expected, "{reply}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_without_folders_fails() {
    run_locally(async {
        let server = ScriptedServer::start([]).await;
        let source = source(&server);

        assert_eq!(list_everything(&source).await.unwrap_err().cause, Cause::Server);
        assert_eq!(source.current_cursor().await.unwrap_err().cause, Cause::Server);
    })
    .await;
}
