//! Extraction of real mail over IMAP from independent servers, in successive sessions.

use cynosure::ledger::{LedgerReader, SqliteLedger};

use crate::corpus;
use crate::cyrus::USER;
use crate::dovecot::DovecotServer;
use crate::imap_server::{ImapServer, imap_source_config, imap_test_folder};
use crate::test_program::{Hash, TestFolder, assert_same_mails};

/// Folders of a mailbox, as the protocol names them: one has a space and is below another, one has
/// a letter that is not ASCII.
const FOLDERS: [&str; 4] = ["INBOX", "Archive", "Projects/2024 Q1", "Entw&APw-rfe"];

/// Declares the tests of one server, which has a module of its own.
macro_rules! extraction_tests {
    ($module:ident, $server:ident) => {
        mod $module {
            use crate::$module::$server;

            #[test]
            fn every_message_is_stored_byte_for_byte() {
                super::every_message_is_stored_byte_for_byte::<$server>();
            }

            #[test]
            fn later_sessions_store_only_the_new_mail() {
                super::later_sessions_store_only_the_new_mail::<$server>();
            }

            #[test]
            fn a_deleted_copy_is_no_location_any_more() {
                super::a_deleted_copy_is_no_location_any_more::<$server>();
            }
        }
    };
}

extraction_tests!(dovecot, DovecotServer);
extraction_tests!(cyrus, CyrusServer);

/// It gives a message that is appended again another content id, so later sessions store it again.
mod pymap {
    use crate::pymap::PymapServer;

    #[test]
    fn every_message_is_stored_byte_for_byte() {
        super::every_message_is_stored_byte_for_byte::<PymapServer>();
    }
}

/// Dovecot ends the connection at such a message, also where only its size is asked for.
#[test]
fn one_message_that_the_server_cannot_read_is_quarantined() {
    let Some(server) = DovecotServer::start() else { return };
    let mails: Vec<Vec<u8>> =
        (0..5).map(|number| format!("Subject: {number}\r\n\r\ntext\r\n").into_bytes()).collect();
    server.session().append("INBOX", &mails);
    server.make_unreadable(USER, "Subject: 2\n");
    let config = imap_source_config(server.imap_port(), "none");
    let quick = "[item]\nretry_delay = \"1s\"\nmax_retry_delay = \"1s\"\n[request]\nattempts = 1\n";
    let test_folder = imap_test_folder(&format!("{config}\n{quick}"));

    let result = test_folder.run_once();

    let counts = "listed 5 = stored 4 + gone 0 + quarantined 1";
    assert!(result.output.contains(counts), "{}", result.output);
    let stored: Vec<Hash> = test_folder.sessions().into_values().flatten().collect();
    assert_same_mails(stored, &[&mails[..2], &mails[3..]].concat());
}

fn every_message_is_stored_byte_for_byte<S: ImapServer>() {
    let Some((server, mut mails)) = prepare::<S>(2_400) else { return };
    mails.extend(corpus::crafted_mails());
    let mut imap = server.session();
    imap.create(FOLDERS[2]);
    imap.create(FOLDERS[3]);
    for (folder, part) in FOLDERS.iter().zip(mails.chunks(mails.len().div_ceil(FOLDERS.len()))) {
        imap.append(folder, part);
    }
    // The same message in a second folder is stored once.
    imap.append(FOLDERS[1], &mails[..1]);
    let test_folder = test_folder(&server);

    let stored = test_folder.extract_all();

    // Compared with what the server has, because servers change line ends.
    let served: Vec<_> = FOLDERS.iter().flat_map(|folder| imap.messages(folder)).collect();
    assert_eq!(served.len(), mails.len() + 1);
    assert_same_mails(stored, &served);
    assert_eq!(FOLDERS.map(|folder| imap.seen_count(folder)), [0; 4], "mail was marked as read");
}

fn later_sessions_store_only_the_new_mail<S: ImapServer>() {
    let Some((server, mails)) = prepare::<S>(650) else { return };
    let (old, new) = mails.split_at(600);
    let (inbox, lists, projects) = (&old[..400], &old[400..500], &old[500..]);
    let mut imap = server.session();
    imap.create("Lists");
    imap.create("Projects");
    imap.append("INBOX", inbox);
    imap.append("Lists", lists);
    imap.append("Projects", projects);
    let test_folder = test_folder(&server);
    assert_same_mails(test_folder.extract_all(), old);

    imap.select("INBOX");
    let uids = imap.uids();
    imap.flag(&uids[..20]);
    imap.copy(&uids[20..40], "Archive");
    imap.move_to(&uids[40..60], "Archive");
    imap.delete(&uids[60..80]);
    imap.rename("Projects", "Projects 2024");
    // The folder that is made again has another UIDVALIDITY.
    imap.delete_folder("Lists");
    imap.create("Lists");
    imap.append("Lists", lists);
    imap.append("INBOX", &new[..40]);
    imap.append("Sent", &new[40..]);

    assert_same_mails(test_folder.extract_all(), new);
    assert_eq!(test_folder.extract_all().len(), 0, "a session without new mail stored some");
    test_folder.run_successfully(&["verify"]);
}

fn a_deleted_copy_is_no_location_any_more<S: ImapServer>() {
    let Some((server, mails)) = prepare::<S>(3) else { return };
    let mut imap = server.session();
    imap.append("INBOX", &mails[..2]);
    imap.select("INBOX");
    let uids = imap.uids();
    imap.copy(&uids[..1], "Archive");
    let test_folder = test_folder(&server);
    assert_same_mails(test_folder.extract_all(), &mails[..2]);

    imap.delete(&uids[..1]);
    imap.append("INBOX", &mails[2..]);
    assert_same_mails(test_folder.extract_all(), &mails[2..]);

    let path = test_folder.path().join("state/work/ledger.sqlite");
    let ledger =
        SqliteLedger::open_read_only(&path).expect("the ledger is intact").expect("there is one");
    let documents = ledger.known_good_documents(10).expect("the ledger can be read");
    let locations = documents.iter().flat_map(|document| &document.locations);
    let mut folders: Vec<_> = locations.map(|location| location.folder.as_str()).collect();
    folders.sort_unstable();
    // Without content ids the copy is another document, and each keeps its last location.
    let expected: &[_] = if S::HAS_CONTENT_IDS {
        &["Archive", "INBOX", "INBOX"]
    } else {
        &["Archive", "INBOX", "INBOX", "INBOX"]
    };
    assert_eq!(folders, expected);
}

/// Starts a server with an empty mailbox, and reads real mail to import.
fn prepare<S: ImapServer>(mails: usize) -> Option<(S, Vec<Vec<u8>>)> {
    Some((S::start()?, corpus::real_mails(mails)?))
}

fn test_folder(server: &impl ImapServer) -> TestFolder {
    imap_test_folder(&imap_source_config(server.imap_port(), "none"))
}
