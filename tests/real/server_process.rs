//! Process of a server that needs no user of its own, for one test.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use fs_err as fs;
use tempfile::TempDir;

use crate::test_program::RunningProgram;
use crate::wait::wait_until;

/// File with the output of the server, in its folder.
const LOG_NAME: &str = "log";

/// Running server on loopback. Dropping it ends it, and removes its folder.
pub(crate) struct ServerProcess {
    _process: RunningProgram,
    folder: TempDir,
}

impl ServerProcess {
    /// Starts a program, and returns when it listens on `port`. It ends with the thread that
    /// started it, however that thread ends. Its log is in `folder`.
    pub(crate) fn start(
        program: &Path,
        arguments: impl IntoIterator<Item: AsRef<OsStr>>,
        port: u16,
        folder: TempDir,
    ) -> Self {
        let log_path = folder.path().join(LOG_NAME);
        let log = fs::File::create(&log_path).expect("the folder is ours").into_file();
        let output = log.try_clone().expect("a descriptor is free");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]).arg(program).args(arguments);
        command.stdin(Stdio::null()).stdout(output).stderr(log);
        let mut process = RunningProgram::start(&mut command);

        wait_until("the server listens", || {
            let log = fs::read_to_string(&log_path).unwrap_or_default();
            assert_eq!(process.try_wait(), None, "{log}");
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
        });
        Self { _process: process, folder }
    }

    /// Returns what the server has printed.
    pub(crate) fn log(&self) -> String {
        let log = fs::read(self.folder.path().join(LOG_NAME)).expect("the folder is ours");
        String::from_utf8_lossy(&log).into_owned()
    }
}
