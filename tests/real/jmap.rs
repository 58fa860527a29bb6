//! Extraction of real mail from an independent JMAP server, in successive sessions.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::account::JmapAccount;
use crate::corpus;
use crate::cyrus::{CyrusServer, PASSWORD, USER};
use crate::test_program::{RunningProgram, TestFolder, assert_same_mails, hash, hashes};
use crate::wait::{sleep, wait_until};

/// Duration of the freeze: long enough to be noticed, shorter than any timeout of a request.
const FREEZE_DURATION: Duration = Duration::from_secs(4);

#[test]
fn the_server_returns_the_imported_mail() {
    let Some(server) = CyrusServer::start() else { return };
    let mails = corpus::crafted_mails();
    server.imap().append("INBOX", &mails);
    let account = account(&server);

    let downloaded = account.emails().iter().map(|email| hash(&account.download(email))).collect();

    assert_same_mails(downloaded, &mails);
}

#[test]
fn every_message_of_a_mailbox_is_stored_byte_for_byte() {
    let Some((server, mut mails)) = prepare(corpus::MAILS) else { return };
    mails.extend(corpus::crafted_mails());
    server.imap().append("INBOX", &mails);
    // JMAP shows the same content in a second folder as the same message.
    server.imap().append("Archive", &mails[..1]);
    let emails = account(&server).emails();
    assert_eq!(emails.len(), hashes(&mails).len());
    let test_folder = test_folder(&server);

    let (output, stored) = test_folder.extract();

    assert_same_mails(stored, &mails);
    let threads = emails.iter().map(|email| &email.thread).collect::<BTreeSet<_>>().len();
    let summary = format!("listed {threads} = stored {threads} + gone 0 + quarantined 0");
    assert!(output.contains(&summary), "{summary} is not in: {output}");
    let folders = test_folder.sessions().into_keys().map(|name| digits_as_zeros(&name));
    assert_eq!(folders.collect::<Vec<_>>(), ["0000-00-00_000000_alice_example.com"]);
}

#[test]
fn a_later_session_stores_only_the_new_mail() {
    let Some((server, mails)) = prepare(650) else { return };
    let (old, new) = mails.split_at(600);
    let test_folder = test_folder(&server);
    let mut imap = server.imap();
    imap.append("INBOX", old);
    assert_same_mails(test_folder.extract().1, old);

    imap.select("INBOX");
    let uids = imap.uids();
    imap.flag(&uids[..20]);
    imap.copy(&uids[20..40], "Archive");
    imap.move_to(&uids[40..60], "Archive");
    imap.delete(&uids[60..80]);
    imap.append("INBOX", &new[..40]);
    imap.append("Sent", &new[40..]);

    assert_same_mails(test_folder.extract().1, new);
    assert_eq!(test_folder.extract().1.len(), 0, "a session without new mail stored some");
}

#[test]
fn an_expired_cursor_costs_a_listing_and_no_download() {
    let Some((server, mails)) = prepare(640) else { return };
    let (old, new) = mails.split_at(600);
    let test_folder = test_folder(&server);
    let mut imap = server.imap();
    imap.append("INBOX", old);
    assert_same_mails(test_folder.extract().1, old);
    imap.append("INBOX", &new[..20]);
    assert_same_mails(test_folder.extract().1, &new[..20]);
    let account = account(&server);
    let cursor = account.state();

    imap.select("INBOX");
    let uids = imap.uids();
    imap.delete(&uids[..30]);
    server.expire_history();
    imap.append("INBOX", &new[20..]);
    assert_eq!(account.changes_error(&cursor).as_deref(), Some("cannotCalculateChanges"));

    assert_same_mails(test_folder.extract().1, &new[20..]);
    assert_eq!(test_folder.extract().1.len(), 0, "the new cursor was not saved");
}

#[test]
fn a_run_waits_for_a_frozen_server() {
    let Some((server, mails)) = prepare(corpus::MAILS) else { return };
    server.imap().append("INBOX", &mails);
    let test_folder = test_folder(&server);
    let mut run = RunningProgram::start(&mut test_folder.command(&["run", "--once"]));

    wait_until("the first messages are stored", || {
        assert_eq!(run.try_wait(), None, "the run ended before it stored a message");
        !test_folder.archive_files().is_empty()
    });
    let frozen = server.freeze();
    sleep(FREEZE_DURATION);
    assert_eq!(run.try_wait(), None, "the run ended while its server was frozen");
    drop(frozen);

    assert!(run.wait().success());
    assert_same_mails(test_folder.sessions().into_values().flatten().collect(), &mails);
}

/// Starts a server with an empty mailbox, and reads real mail to import.
fn prepare(mails: usize) -> Option<(CyrusServer, Vec<Vec<u8>>)> {
    Some((CyrusServer::start()?, corpus::real_mails(mails)?))
}

fn account(server: &CyrusServer) -> JmapAccount {
    JmapAccount::open(&server.url(), USER, PASSWORD)
}

fn test_folder(server: &CyrusServer) -> TestFolder {
    let test_folder = TestFolder::new(&format!(
        r#"[source.work]
kind = "jmap"
url = "{}"
account = "{USER}@example.com"
auth = {{ type = "basic", username = "{USER}", password = {{ file = "password" }} }}
"#,
        server.url()
    ));
    test_folder.put_secret("password", PASSWORD);
    test_folder
}

fn digits_as_zeros(name: &str) -> String {
    name.chars().map(|letter| if letter.is_ascii_digit() { '0' } else { letter }).collect()
}
