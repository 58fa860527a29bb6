//! mitmdump on loopback, with the addon that captures the session of a browser, for one test.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::free_ports::free_ports;
use crate::prerequisites::{skip, unpacked_root};
use crate::server_process::ServerProcess;

/// Host whose session is captured.
pub(crate) const CAPTURED_HOST: &str = "127.0.0.1";

/// Name of the folder in `target/real` into which `make setup` installs it.
const SETUP_NAME: &str = "mitmproxy";

const ADDON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/mitmproxy/cynosure_session.py");

/// Environment: the output is complete at any time, and nothing is written beside the addon.
const ENVIRONMENT: [&str; 2] = ["PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1"];

/// Running proxy. Dropping it ends it.
pub(crate) struct CaptureProxy {
    process: ServerProcess,
    pub(crate) port: u16,
}

impl CaptureProxy {
    /// Starts a proxy that writes the session of requests to [`CAPTURED_HOST`] to a file. Reports
    /// the test as skipped, and returns `None`, if something is missing.
    pub(crate) fn start(session_file: &Path) -> Option<Self> {
        let program = mitmdump()?;
        let folder = TempDir::new().expect("a temporary folder");
        let [port, _] = free_ports();
        let settings = [
            format!("session_hosts={CAPTURED_HOST}"),
            format!("session_file={}", session_file.display()),
            // The certificates of the tests are self-signed.
            "ssl_insecure=true".to_owned(),
        ];
        let arguments = arguments(&program, folder.path(), port, &settings);
        let process = ServerProcess::start(Path::new("env"), arguments, port, folder);
        Some(Self { process, port })
    }

    /// Returns what mitmdump has printed.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }
}

/// Runs mitmdump with these settings, which it cannot start with, and returns its output. Reports
/// the test as skipped, and returns `None`, if something is missing.
pub(crate) fn output_of_failed_start(settings: &[String]) -> Option<String> {
    let program = mitmdump()?;
    let folder = TempDir::new().expect("a temporary folder");
    let [port, _] = free_ports();
    let arguments = arguments(&program, folder.path(), port, settings);
    let mut command = Command::new("env");
    let output = command.args(arguments).stdin(Stdio::null()).output().expect("env starts");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn mitmdump() -> Option<PathBuf> {
    let program = unpacked_root(SETUP_NAME).join("bin/mitmdump");
    if program.exists() { Some(program) } else { skip("mitmproxy (make setup, python3)") }
}

/// Returns the arguments of `env`. The certificate authority of the proxy is in `folder`.
fn arguments(program: &Path, folder: &Path, port: u16, settings: &[String]) -> Vec<String> {
    let mut arguments = Vec::from(ENVIRONMENT.map(str::to_owned));
    arguments.push(program.display().to_string());
    for (option, value) in [
        ("--listen-host", "127.0.0.1".to_owned()),
        ("--listen-port", port.to_string()),
        ("--scripts", ADDON.to_owned()),
        ("--set", format!("confdir={}", folder.join("mitmproxy").display())),
    ] {
        arguments.extend([option.to_owned(), value]);
    }
    arguments.extend(settings.iter().flat_map(|setting| ["--set".to_owned(), setting.clone()]));
    arguments
}
