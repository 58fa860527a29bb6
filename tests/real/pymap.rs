//! Private pymap on loopback: an independent IMAP server that names contents and threads (RFC
//! 8474), with one user, for one test.

use tempfile::TempDir;

use crate::cyrus::{PASSWORD, USER};
use crate::free_ports::free_ports;
use crate::imap_server::ImapServer;
use crate::prerequisites::{skip, unpacked_root};
use crate::server_process::ServerProcess;

/// Name of the folder in `target/real` into which `make setup` installs it.
const SETUP_NAME: &str = "pymap";

/// Folders of the user, beside INBOX.
const FOLDERS: [&str; 2] = ["Archive", "Sent"];

/// Running server, which keeps its mail in memory. Dropping it ends it.
pub(crate) struct PymapServer {
    _process: ServerProcess,
    imap_port: u16,
}

impl ImapServer for PymapServer {
    const RIG_NAME: &'static str = "imap, pymap";
    // EMAILID and THREADID (RFC 8474).
    const HAS_CONTENT_IDS: bool = true;
    const SERVES_EXPUNGED: bool = true;

    fn start() -> Option<Self> {
        let program = unpacked_root(SETUP_NAME).join("bin/pymap");
        if !program.exists() {
            return skip("pymap (make setup, python3)");
        }
        let [imap_port, _] = free_ports();
        let port = imap_port.to_string();
        let address = ["--host", "127.0.0.1", "--port", &port, "--no-tls"];
        let mailbox = ["dict", "--demo-user", USER, "--demo-password", PASSWORD];
        let arguments = address.into_iter().chain(mailbox);
        let folder = TempDir::new().expect("a temporary folder");
        let process = ServerProcess::start(&program, arguments, imap_port, folder);
        let server = Self { _process: process, imap_port };

        let mut imap = server.session();
        FOLDERS.iter().for_each(|folder| imap.create(folder));
        Some(server)
    }

    fn imap_port(&self) -> u16 {
        self.imap_port
    }
}
