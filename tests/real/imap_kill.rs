//! Extraction over IMAP that is killed sixty times, at random instants.

use crate::corpus;
use crate::dovecot::DovecotServer;
use crate::imap_server::{ImapServer as _, imap_source_config, imap_test_folder};
use crate::kill::KillPlan;
use crate::test_program::assert_same_mails;

const KILLS: u64 = 60;

const SEED: u64 = 6_046;

/// Folders of the mailbox, with the same number of messages each. The content of a message is known
/// only after its download.
const FOLDERS: [&str; 3] = ["INBOX", "Archive", "Sent"];

#[test]
fn sixty_kills_over_imap_lose_nothing_and_store_nothing_twice() {
    let Some(server) = DovecotServer::start() else { return };
    let Some(mails) = corpus::real_mails(corpus::MAILS) else { return };
    let mut imap = server.session();
    for (folder, part) in FOLDERS.iter().zip(mails.chunks(mails.len().div_ceil(FOLDERS.len()))) {
        imap.append(folder, part);
    }
    let test_folder = imap_test_folder(&imap_source_config(server.imap_port(), "none"));

    let plan = KillPlan {
        kills: KILLS,
        // A batch is a large part of so few documents, which makes the pace uneven.
        kills_planned: KILLS + KILLS / 2,
        documents: to_u64(mails.len()),
        seed: SEED,
    };
    plan.carry_out(&test_folder, || to_u64(test_folder.archive_files().len()));
    test_folder.run_successfully(&["run", "--once"]);

    test_folder.run_successfully(&["verify"]);
    let served: Vec<_> = FOLDERS.iter().flat_map(|folder| imap.messages(folder)).collect();
    let stored = test_folder.sessions().into_values().flatten().collect();
    assert_same_mails(stored, &served);
}

fn to_u64(count: usize) -> u64 {
    u64::try_from(count).expect("a count of messages is small")
}
