//! Extraction over IMAP from a distant server.

use std::time::Duration;

use crate::corpus;
use crate::dovecot::DovecotServer;
use crate::imap_server::{ImapServer as _, imap_source_config, imap_test_folder};
use crate::recording_proxy::RecordingProxy;
use crate::test_program::assert_same_mails;

const MAILS: usize = 500;

/// Time to the server or back. A round trip takes 50 ms, as between continents.
const DELAY: Duration = Duration::from_millis(25);

/// Maximum number of commands, each of which takes a round trip, apart from those that are in
/// flight at once. With a command for each message there would be ten times as many.
const COMMANDS_MAX: usize = 60;

#[test]
fn five_hundred_messages_take_few_round_trips() {
    let Some(server) = DovecotServer::start() else { return };
    let Some(mails) = corpus::real_mails(MAILS) else { return };
    server.session().append("INBOX", &mails);
    let proxy = RecordingProxy::start(server.imap_port(), DELAY);
    let test_folder = imap_test_folder(&imap_source_config(proxy.port, "none"));

    let (_output, stored) = test_folder.extract();

    assert_same_mails(stored, &mails);
    let commands = proxy.commands();
    assert!(commands.len() <= COMMANDS_MAX, "{}: {commands:#?}", commands.len());
}
