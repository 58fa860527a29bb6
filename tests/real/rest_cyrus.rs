//! Extraction by a profile file from an independent server whose requests are JSON: Cyrus's JMAP.

use std::collections::BTreeSet;

use fs_err as fs;

use crate::account::JmapAccount;
use crate::corpus;
use crate::cyrus::{CyrusServer, PASSWORD, USER};
use crate::test_program::{TestFolder, assert_same_mails};

const PROFILE: &str = include_str!("../fixtures/jmap.profile.toml");

#[test]
fn every_message_is_stored_byte_for_byte() {
    let Some((server, mut mails)) = prepare(corpus::MAILS) else { return };
    mails.extend(corpus::crafted_mails());
    server.imap().append("INBOX", &mails);
    // JMAP shows the same content in a second folder as the same message.
    server.imap().append("Archive", &mails[..1]);
    let test_folder = test_folder(&server);

    let (output, stored) = test_folder.extract();

    assert_same_mails(stored, &mails);
    let emails = account(&server).emails();
    let threads = emails.iter().map(|email| &email.thread).collect::<BTreeSet<_>>().len();
    let summary = format!("listed {threads} = stored {threads} + gone 0 + quarantined 0");
    assert!(output.contains(&summary), "{summary} is not in: {output}");
}

#[test]
fn later_sessions_ask_for_the_changes_only() {
    let Some((server, mails)) = prepare(660) else { return };
    let (old, new) = mails.split_at(600);
    let test_folder = test_folder(&server);
    let mut imap = server.imap();
    imap.append("INBOX", old);
    assert_same_mails(test_folder.extract_all(), old);

    imap.select("INBOX");
    let uids = imap.uids();
    imap.flag(&uids[..20]);
    imap.move_to(&uids[20..40], "Archive");
    imap.append("INBOX", &new[..20]);
    imap.append("Sent", &new[20..40]);
    assert_same_mails(test_folder.extract_all(), &new[..40]);
    assert_eq!(test_folder.extract_all().len(), 0, "a session without new mail stored some");

    // The error that the profile names: it is in a response whose status is 200.
    let cursor = account(&server).state();
    imap.delete(&uids[..20]);
    server.expire_history();
    imap.append("INBOX", &new[40..]);
    let error = account(&server).changes_error(&cursor);
    assert_eq!(error.as_deref(), Some("cannotCalculateChanges"));
    assert_same_mails(test_folder.extract().1, &new[40..]);
    assert_eq!(test_folder.extract_all().len(), 0, "the new cursor was not saved");
    test_folder.run_successfully(&["verify"]);
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
kind = "rest"
profile = {{ file = "jmap.profile.toml" }}
base_url = "{}"
account = "{USER}@example.com"
auth = {{ username = "{USER}", password = {{ file = "password" }} }}
options = {{ user = "{USER}" }}
"#,
        server.base_url()
    ));
    let profile = test_folder.path().join("jmap.profile.toml");
    fs::write(profile, PROFILE).expect("the folder is ours");
    test_folder.put_secret("password", PASSWORD);
    test_folder
}
