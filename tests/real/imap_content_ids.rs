//! Ids that IMAP servers give to contents and threads: a message in several folders is downloaded
//! once, and its thread is its item.

use std::collections::BTreeSet;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::corpus;
use crate::cyrus::CyrusServer;
use crate::hoodiecrow::HoodiecrowServer;
use crate::imap_server::{ImapServer, imap_source_config, imap_test_folder};
use crate::pymap::PymapServer;
use crate::recording_proxy::RecordingProxy;
use crate::test_program::{TestFolder, assert_same_mails};

/// Threads of a mailbox, and messages of each.
const THREADS: usize = 40;
const THREAD_MESSAGES: usize = 3;

const MAILS: usize = THREADS * THREAD_MESSAGES;

/// Messages that are moved between two sessions.
const MOVED: usize = 10;

/// First digits of each id at Gmail: its ids have 64 bits.
const GMAIL_ID_PREFIX: &str = "12784553442303";

/// Messages of Gmail's INBOX, which are in All Mail as well, and of its Spam, which are not.
const INBOX_MAILS: usize = 50;
const SPAM_MAILS: usize = 6;

#[test]
fn object_ids_of_cyrus_save_downloads_and_name_threads() {
    object_ids_save_downloads_and_name_threads::<CyrusServer>();
}

#[test]
fn object_ids_of_pymap_save_downloads_and_name_threads() {
    object_ids_save_downloads_and_name_threads::<PymapServer>();
}

/// EMAILID and THREADID (RFC 8474).
fn object_ids_save_downloads_and_name_threads<S: ImapServer>() {
    let Some(server) = S::start() else { return };
    let mails: Vec<_> = (0..MAILS).map(reply).collect();
    let mut imap = server.session();
    imap.append("INBOX", &mails);
    imap.select("INBOX");
    let uids = imap.uids();
    imap.copy(&uids, "Archive");
    let session = RecordedSession::new(server.imap_port(), "");

    session.assert_extracts(&mails, THREADS);
    assert_eq!(session.location_count(), 2 * MAILS);

    imap.move_to(&uids[..MOVED], "Sent");
    assert_eq!(session.test_folder.extract().1.len(), 0, "a moved message was stored again");
    assert_eq!(session.downloads(), MAILS, "a moved message was downloaded again");
}

#[test]
fn gmail_ids_save_downloads_and_name_threads() {
    let Some(mails) = corpus::real_mails(MAILS) else { return };
    let Some(server) = HoodiecrowServer::start(&gmail_mailbox(&mails)) else { return };

    let all_labels = "folders = [\"INBOX\", \"[Gmail]/*\"]\n";
    for (folders, locations) in [(all_labels, MAILS + INBOX_MAILS), ("", MAILS)] {
        let session = RecordedSession::new(server.imap_port, folders);

        session.assert_extracts(&mails, THREADS);
        assert_eq!(session.location_count(), locations, "{folders}");
    }
}

/// Folder of the program, whose commands to the server are recorded.
struct RecordedSession {
    test_folder: TestFolder,
    proxy: RecordingProxy,
}

impl RecordedSession {
    /// Prepares the extraction of the mailbox at a port, with these further settings.
    fn new(imap_port: u16, settings: &str) -> Self {
        let proxy = RecordingProxy::start(imap_port, Duration::ZERO);
        let config = imap_source_config(proxy.port, "none") + settings;
        Self { test_folder: imap_test_folder(&config), proxy }
    }

    /// Runs the program, which must download each of these mails once, and store them in the
    /// folders of this number of items.
    fn assert_extracts(&self, mails: &[Vec<u8>], items: usize) {
        let (output, stored) = self.test_folder.extract();

        assert_same_mails(stored, mails);
        let summary = format!("listed {items} = stored {items} + gone 0 + quarantined 0");
        assert!(output.contains(&summary), "{summary} is not in: {output}");
        let files = self.test_folder.archive_files();
        let item_folders: BTreeSet<_> = files.iter().filter_map(|file| file.parent()).collect();
        assert_eq!(item_folders.len(), items);
        assert_eq!(self.downloads(), mails.len());
    }

    /// Returns the number of messages that were downloaded in all runs.
    fn downloads(&self) -> usize {
        usize::try_from(self.proxy.fetched_bodies()).expect("the mailbox is small")
    }

    /// Returns the number of places at which the program knows the documents.
    fn location_count(&self) -> usize {
        let path = self.test_folder.path().join("state/work/ledger.sqlite");
        let ledger = Connection::open(path).expect("the program has created the ledger");
        let sql = "SELECT count(*) FROM locations WHERE uid <> 0";
        let count: i64 = ledger.query_row(sql, [], |row| row.get(0)).expect("the table exists");
        usize::try_from(count).expect("a count is not negative")
    }
}

/// Returns a message of a thread. The threads have their first messages first, then their second
/// ones, and so on.
fn reply(number: usize) -> Vec<u8> {
    let (thread, position) = (number % THREADS, number / THREADS);
    let id = |position: usize| format!("<{position}.{thread}@example.com>");
    let subject = if position == 0 { "" } else { "Re: " };
    let references = match position.checked_sub(1) {
        None => String::new(),
        Some(last) => {
            let earlier: Vec<_> = (0..position).map(id).collect();
            format!("In-Reply-To: {}\r\nReferences: {}\r\n", id(last), earlier.join(" "))
        }
    };
    format!(
        "From: a@example.com\r\nTo: b@example.com\r\nSubject: {subject}topic {thread}\r\n\
         Message-ID: {}\r\n{references}Date: Mon, 1 Jan 2024 00:00:00 +0000\r\n\r\n\
         Message {position}.\r\n",
        id(position)
    )
    .into_bytes()
}

/// Returns a mailbox with these messages in All Mail and Spam, and some of them in INBOX as well.
fn gmail_mailbox(mails: &[Vec<u8>]) -> Value {
    let messages: Vec<_> = mails.iter().enumerate().map(gmail_message).collect();
    let (all_mail, spam) = messages.split_at(mails.len() - SPAM_MAILS);
    let gmail_folders = json!({
        "All Mail": { "special-use": "\\All", "messages": all_mail },
        "Spam": { "special-use": "\\Junk", "messages": spam },
        "Trash": { "special-use": "\\Trash" },
    });
    json!({
        "INBOX": { "messages": &all_mail[..INBOX_MAILS] },
        "": {
            "separator": "/",
            "folders": { "[Gmail]": { "flags": ["\\Noselect"], "folders": gmail_folders } },
        },
    })
}

fn gmail_message((number, mail): (usize, &Vec<u8>)) -> Value {
    // Its strings have a character for each byte.
    let raw: String = mail.iter().copied().map(char::from).collect();
    let id = |number: usize| format!("{GMAIL_ID_PREFIX}{number:05}");
    json!({
        "raw": raw,
        "X-GM-MSGID": id(number),
        // That of its first message.
        "X-GM-THRID": id(number / THREAD_MESSAGES * THREAD_MESSAGES),
    })
}
