//! Private hoodiecrow on loopback: an independent IMAP server with the extension of Gmail
//! (X-GM-EXT-1), for one test.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use fs_err as fs;
use serde_json::Value;
use tempfile::TempDir;

use crate::free_ports::free_ports;
use crate::prerequisites::{skip, unpacked_root};
use crate::server_process::ServerProcess;

/// Name of the folder in `target/real` into which `make setup` installs it.
const SETUP_NAME: &str = "hoodiecrow";

/// Program that serves a mailbox with it.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/hoodiecrow.js");

/// Running server. Dropping it ends it.
pub(crate) struct HoodiecrowServer {
    _process: ServerProcess,
    pub(crate) imap_port: u16,
}

impl HoodiecrowServer {
    /// Starts a server with this mailbox, in the form of its option `storage`. Reports the test as
    /// skipped, and returns `None`, if something is missing.
    pub(crate) fn start(mailbox: &Value) -> Option<Self> {
        let module = unpacked_root(SETUP_NAME).join("node_modules/hoodiecrow-imap");
        if !module.exists() || Command::new("node").arg("--version").output().is_err() {
            return skip("hoodiecrow (make setup, node and npm)");
        }
        let folder = TempDir::new().expect("a temporary folder");
        let mailbox_file = folder.path().join("mailbox.json");
        fs::write(&mailbox_file, mailbox.to_string()).expect("the folder is ours");
        let [imap_port, _] = free_ports();
        let port = imap_port.to_string();
        let arguments =
            [OsStr::new(SCRIPT), module.as_os_str(), OsStr::new(&port), mailbox_file.as_os_str()];
        let process = ServerProcess::start(Path::new("node"), arguments, imap_port, folder);
        Some(Self { _process: process, imap_port })
    }
}
