//! Peak memory of a worker that extracts long messages, or very many, over IMAP.

use std::slice;
use std::time::Duration;

use serde_json::Value;

use crate::cyrus::PASSWORD;
use crate::dovecot::{DovecotOptions, DovecotServer, MailFormat};
use crate::imap_server::{ImapServer as _, imap_source_config, imap_test_folder};
use crate::memory::{PEAK_KIB_MAX, folder_for_many_files, peak_memory_of_run};
use crate::recording_proxy::RecordingProxy;
use crate::test_program::{TestFolder, assert_same_mails};

/// Messages of a large folder, and the most that one command may list.
const FOLDER_MESSAGES: u32 = 100_000;
const WINDOW_MESSAGES_MAX: u32 = 5_000;

const MESSAGES: usize = 3;
const MESSAGE_BYTES: usize = 50_000_000;

/// Messages that just fit in memory, more than may be in flight.
const MEDIUM_MESSAGES: usize = 600;
const MEDIUM_MESSAGE_BYTES: usize = 250_000;

#[test]
fn messages_of_50_mb_over_imap_fit_into_64_mib() {
    let Some(server) = DovecotServer::start() else { return };
    let mails: Vec<_> = (0..MESSAGES).map(|number| long_mail(number, MESSAGE_BYTES)).collect();
    let mut imap = server.session();
    // One by one, because a command is in memory as a whole.
    mails.iter().for_each(|mail| imap.append("INBOX", slice::from_ref(mail)));
    let test_folder = imap_test_folder(&imap_source_config(server.imap_port(), "none"));

    let peak = peak_memory_of_run(&test_folder);

    println!("{MESSAGES} messages of {MESSAGE_BYTES} bytes over IMAP: peak {peak} KiB");
    assert_same_mails(test_folder.sessions().into_values().flatten().collect(), &mails);
    assert!(peak <= PEAK_KIB_MAX, "long messages take {peak} KiB");
}

#[test]
fn hundreds_of_messages_in_flight_over_imap_fit_into_64_mib() {
    let Some(server) = DovecotServer::start() else { return };
    let mails: Vec<_> =
        (0..MEDIUM_MESSAGES).map(|number| long_mail(number, MEDIUM_MESSAGE_BYTES)).collect();
    server.session().append("INBOX", &mails);
    let test_folder = imap_test_folder(&imap_source_config(server.imap_port(), "none"));

    let peak = peak_memory_of_run(&test_folder);

    println!("{MEDIUM_MESSAGES} messages of {MEDIUM_MESSAGE_BYTES} bytes: peak {peak} KiB");
    assert_same_mails(test_folder.sessions().into_values().flatten().collect(), &mails);
    assert!(peak <= PEAK_KIB_MAX, "messages in flight take {peak} KiB");
}

#[test]
fn a_folder_of_100_000_messages_over_imap_fits_into_64_mib() {
    let options = DovecotOptions { mail_format: MailFormat::Mdbox, ..DovecotOptions::default() };
    let Some(server) = DovecotServer::start_with(&options) else { return };
    let mails: Vec<_> = (0..FOLDER_MESSAGES).map(short_mail).collect();
    server.session().append("INBOX", &mails);
    let proxy = RecordingProxy::start(server.imap_port(), Duration::ZERO);
    let config = imap_source_config(proxy.port, "none");
    let test_folder = TestFolder::in_folder(&folder_for_many_files(), &config);
    test_folder.put_secret("password", PASSWORD);

    let peak = peak_memory_of_run(&test_folder);

    println!("{FOLDER_MESSAGES} messages of a folder over IMAP: peak {peak} KiB");
    let status = test_folder.run_successfully(&["status", "--json"]);
    let status: Value = serde_json::from_slice(&status.stdout).expect("the status is JSON");
    for count in ["total_threads", "downloaded_threads"] {
        assert_eq!(status["sources"][0][count], FOLDER_MESSAGES, "{count}: {status}");
    }
    assert_same_mails(test_folder.sessions().into_values().flatten().collect(), &mails);
    let windows = proxy.fetches().into_iter().filter(|fetch| !fetch.has_bodies);
    let window_max = windows.map(|window| window.uids).max().expect("the folder is listed");
    assert!(window_max <= WINDOW_MESSAGES_MAX, "one command listed {window_max} messages");
    assert!(peak <= PEAK_KIB_MAX, "a folder of {FOLDER_MESSAGES} messages takes {peak} KiB");
}

fn short_mail(number: u32) -> Vec<u8> {
    format!("From: a@example.com\r\nSubject: message {number}\r\n\r\nMessage {number}.\r\n")
        .into_bytes()
}

/// Returns a mail that differs from those with other numbers, because equal ones are stored once.
fn long_mail(number: usize, bytes: usize) -> Vec<u8> {
    let mut mail = format!("From: a@example.com\r\nSubject: message {number}\r\n\r\n").into_bytes();
    let lines = (0..bytes / 64).flat_map(|line| format!("{line:062}\r\n").into_bytes());
    mail.extend(lines);
    mail
}
