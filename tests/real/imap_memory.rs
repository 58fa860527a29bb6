//! Peak memory of a worker that extracts long messages over IMAP.

use std::slice;

use crate::dovecot::DovecotServer;
use crate::imap_server::{ImapServer as _, imap_source_config, imap_test_folder};
use crate::memory::{PEAK_KIB_MAX, peak_memory_of_run};
use crate::test_program::assert_same_mails;

const MESSAGES: usize = 3;
const MESSAGE_BYTES: usize = 50_000_000;

#[test]
fn messages_of_50_mb_over_imap_fit_into_64_mib() {
    let Some(server) = DovecotServer::start() else { return };
    let mails: Vec<_> = (0..MESSAGES).map(long_mail).collect();
    let mut imap = server.session();
    // One by one, because a command is in memory as a whole.
    mails.iter().for_each(|mail| imap.append("INBOX", slice::from_ref(mail)));
    let test_folder = imap_test_folder(&imap_source_config(server.imap_port(), "none"));

    let peak = peak_memory_of_run(&test_folder);

    println!("{MESSAGES} messages of {MESSAGE_BYTES} bytes over IMAP: peak {peak} KiB");
    assert_same_mails(test_folder.sessions().into_values().flatten().collect(), &mails);
    assert!(peak <= PEAK_KIB_MAX, "long messages take {peak} KiB");
}

/// Returns a mail that differs from those with other numbers, because equal ones are stored once.
fn long_mail(number: usize) -> Vec<u8> {
    let mut mail = format!("From: a@example.com\r\nSubject: message {number}\r\n\r\n").into_bytes();
    let lines = (0..MESSAGE_BYTES / 64).flat_map(|line| format!("{line:062}\r\n").into_bytes());
    mail.extend(lines);
    mail
}
