//! D-Bus daemon for tests.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// Configuration that allows every message. Only the same user reaches the socket, because it is in
/// a temporary folder.
const BUS_CONFIG: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>custom</type>
  <listen>unix:path=SOCKET</listen>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*" eavesdrop="true"/>
    <allow receive_sender="*"/>
  </policy>
</busconfig>
"#;

/// Running D-Bus daemon, killed when dropped.
pub(crate) struct BusDaemon {
    process: Child,
    address: String,
    _home: TempDir,
}

impl BusDaemon {
    pub(crate) fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let socket = home.path().join("bus").display().to_string();
        let file = home.path().join("bus.conf");
        fs_err::write(&file, BUS_CONFIG.replace("SOCKET", &socket)).unwrap();
        let mut process = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", file.display()))
            .args(["--nofork", "--nopidfile", "--nosyslog", "--print-address=1"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("dbus-daemon can be started (Debian package dbus-daemon)");
        let mut address = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut address).unwrap();
        let address = address.trim().to_owned();
        assert!(address.starts_with("unix:path="), "{address:?}");
        Self { process, address, _home: home }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for BusDaemon {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
