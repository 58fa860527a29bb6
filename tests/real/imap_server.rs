//! IMAP servers of the tests, and the configuration that extracts the mailbox of their user.

use crate::cyrus::{PASSWORD, USER};
use crate::imap::ImapSession;
use crate::test_program::TestFolder;

/// Running IMAP server with one mailbox, which has at least the folders INBOX, Archive and Sent.
/// Dropping it stops it.
pub(crate) trait ImapServer: Sized {
    /// Name of its column in the table of the conformance suite.
    const RIG_NAME: &'static str;
    /// True if it names the contents of messages, so that copies are known before the download.
    const HAS_CONTENT_IDS: bool;
    /// True if a session that has a folder open still gets the messages that another one expunged
    /// there.
    const SERVES_EXPUNGED: bool;

    /// Starts a server with an empty mailbox. Reports the test as skipped, and returns `None`, if
    /// something is missing.
    fn start() -> Option<Self>;

    /// Returns the port without encryption.
    fn imap_port(&self) -> u16;

    /// Opens a session of the user.
    fn session(&self) -> ImapSession {
        ImapSession::login(self.imap_port(), USER, PASSWORD)
    }
}

/// Returns the table of a source that extracts the mailbox at a port of this machine.
pub(crate) fn imap_source_config(port: u16, security: &str) -> String {
    let auth = r#"type = "password", password = { file = "password" }"#;
    imap_source_config_with(port, security, auth)
}

/// Returns the table of a source that logs in with these settings, apart from the user name.
pub(crate) fn imap_source_config_with(port: u16, security: &str, auth: &str) -> String {
    format!(
        r#"[source.work]
kind = "imap"
account = "{USER}@example.com"
host = "127.0.0.1"
port = {port}
security = "{security}"
auth = {{ username = "{USER}", {auth} }}
"#
    )
}

/// Creates a folder with this configuration, and the password of the user.
pub(crate) fn imap_test_folder(config: &str) -> TestFolder {
    let test_folder = TestFolder::new(config);
    test_folder.put_secret("password", PASSWORD);
    test_folder
}
