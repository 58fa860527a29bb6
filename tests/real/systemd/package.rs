//! Debian package, from its build to its purge.

use std::path::{Path, PathBuf};
use std::process::Command;

use cynosure_lab::demo::{self, DemoServer};
use fs_err as fs;
use tempfile::TempDir;

use crate::prerequisites::skip;
use crate::systemd::install::{UNIT, configure, cynosure, status};
use crate::systemd::machine::TestMachine;
use crate::wait::wait_until;

const CONFIG: &str = "/etc/cynosure/config.toml";

const MONITOR: &str = "cynosure-monitor.service";

#[test]
fn the_package_is_installed_runs_is_upgraded_removed_and_purged() {
    let Some(packages) = PackageVersions::build() else { return };
    let Some(machine) = TestMachine::boot() else { return };
    let options = demo::DemoOptions { items: 20, ..demo::DemoOptions::default() };
    let demo = demo::start(options).expect("loopback has ports");

    packages.install(&machine, "0.1.0-1");
    assert_eq!(machine.property(UNIT, "ActiveState"), "inactive", "nothing starts by itself");
    machine.run_successfully(&["cynosure", "config", "check"]);
    let unconfigured = machine.read(CONFIG);
    assert!(unconfigured.contains("\ndir = \"/var/lib/cynosure/downloads\" "), "{unconfigured}");
    for unit in ["cynosure.service", "cynosure@work.service", "cynosure-monitor.service"] {
        machine.run_successfully(&["systemd-analyze", "verify", "--man=no", unit]);
    }

    extract_all(&machine, &demo);
    let edited = machine.read(CONFIG);
    let pid = machine.property(UNIT, "MainPID");

    packages.install(&machine, "0.1.0-2");
    assert_eq!(machine.read(CONFIG), edited, "an upgrade keeps the configuration");
    wait_until("the new program runs", || {
        !["0", &pid].contains(&&*machine.property(UNIT, "MainPID"))
    });
    for unit in [UNIT, MONITOR] {
        assert_eq!(machine.property(unit, "ActiveState"), "active", "{unit}");
    }
    assert_eq!(demo.counters().messages_served_repeatedly, 0);

    apt(&machine, &["remove", "cynosure"]);
    assert_eq!(machine.property(UNIT, "LoadState"), "not-found");
    assert_eq!(machine.run(&["pgrep", "-u", "cynosure"]).stdout, b"");
    assert_eq!(machine.read(CONFIG), edited);

    apt(&machine, &["purge", "cynosure"]);
    assert!(!machine.path(CONFIG).exists() && !machine.path("/etc/cynosure/credentials").exists());
    let mail = machine.run_successfully(&["find", "/var/lib/cynosure/downloads", "-name", "*.eml"]);
    let stored = u32::try_from(mail.lines().count()).expect("a small mailbox");
    assert_eq!(stored, demo.counters().messages_served, "a purge keeps the mail");
}

#[test]
fn lintian_finds_no_error_in_the_package() {
    let Some(packages) = PackageVersions::build() else { return };
    if !Path::new("/usr/bin/lintian").exists() {
        skip::<()>("lintian");
        return;
    }
    let report = Command::new("lintian")
        .args(["--no-tag-display-limit", "--fail-on", "error"])
        .arg(packages.file("0.1.0-1"))
        .output()
        .expect("lintian starts");
    let tags = String::from_utf8_lossy(&report.stdout);
    println!("{tags}");
    assert!(report.status.success(), "{tags}");
}

#[test]
fn make_install_puts_the_files_under_usr_local() {
    let folder = TempDir::new().expect("a temporary folder");
    let output = Command::new("make")
        .arg("install")
        .arg(format!("DESTDIR={}", folder.path().display()))
        .arg(concat!("BINARY=", env!("CARGO_BIN_EXE_cynosure")))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("make starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let unit = folder.path().join("usr/local/lib/systemd/system/cynosure.service");
    let unit = fs::read_to_string(unit).expect("the unit is installed");
    assert!(unit.contains("\nExecStart=/usr/local/bin/cynosure run "), "{unit}");
    for file in [
        "usr/local/bin/cynosure",
        "usr/local/share/man/man1/cynosure-run.1.gz",
        "usr/local/share/cynosure/grafana/cynosure.json",
        "usr/local/share/cynosure/prometheus/cynosure.rules.yml",
        "usr/local/share/doc/cynosure/contrib/mitmproxy/cynosure_session.py",
        "usr/local/share/bash-completion/completions/cynosure",
        "etc/polkit-1/rules.d/50-cynosure.rules",
        "etc/cynosure/config.toml",
    ] {
        assert!(folder.path().join(file).exists(), "{file} is missing");
    }
}

#[test]
fn make_install_runs_and_may_be_restarted() {
    let Some(machine) = TestMachine::boot() else { return };
    let options = demo::DemoOptions { items: 20, ..demo::DemoOptions::default() };
    let demo = demo::start(options).expect("loopback has ports");
    copy_source(&machine);

    machine.run_successfully(&["make", "-C", SOURCE_DIR, "install", "BINARY=./cynosure"]);

    let path = machine.run_successfully(&["systemctl", "show", "-P", "FragmentPath", UNIT]);
    assert_eq!(path.trim_end(), "/usr/local/lib/systemd/system/cynosure.service");
    extract_all(&machine, &demo);
    let report = cynosure(&machine, "cynosure", &["doctor"]);
    assert!(report.contains("ok      restart over D-Bus"), "{report}");
}

/// Folder on the machine for the part of the source tree that `make install` needs.
const SOURCE_DIR: &str = "/var/tmp/cynosure";

fn copy_source(machine: &TestMachine) {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::from(
        [
            "Makefile",
            "config.toml",
            "packaging/install",
            // Its folder may also have a cache of Python.
            "contrib/mitmproxy/cynosure_session.py",
            "contrib/mitmproxy/README.md",
        ]
        .map(PathBuf::from),
    );
    for folder in ["systemd", "packaging/grafana", "packaging/prometheus"].map(Path::new) {
        for entry in fs::read_dir(tree.join(folder)).expect("the folder is in the source tree") {
            files.push(folder.join(entry.expect("the folder can be read").file_name()));
        }
    }
    for file in &files {
        let text = fs::read(tree.join(file)).expect("the file is in the source tree");
        machine.write(&format!("{SOURCE_DIR}/{}", file.display()), text);
    }
    let program = fs::read(env!("CARGO_BIN_EXE_cynosure")).expect("the program is built");
    machine.write(&format!("{SOURCE_DIR}/cynosure"), program);
    for program in ["cynosure", "packaging/install"] {
        machine.run_successfully(&["chmod", "755", &format!("{SOURCE_DIR}/{program}")]);
    }
}

/// Runs apt, without prompts and without recommended packages.
fn apt(machine: &TestMachine, arguments: &[&str]) {
    let apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--yes"];
    machine.run_successfully(&[&apt[..], &["--no-install-recommends"], arguments].concat());
}

/// Writes a configuration, starts the service, and waits until it has extracted everything.
fn extract_all(machine: &TestMachine, demo: &DemoServer) {
    configure(machine, demo.address(), "");
    machine.run_successfully(&["systemctl", "enable", "--now", UNIT, MONITOR]);
    wait_until("everything is stored", || status(machine)["downloaded_threads"] == 20);
}

/// Two packages of the same program, with different versions.
struct PackageVersions {
    folder: TempDir,
}

impl PackageVersions {
    fn build() -> Option<Self> {
        let is_installed = |program: &str| Command::new(program).arg("--version").output().is_ok();
        if !is_installed("cargo-deb") {
            return skip("cargo-deb, which cargo installs");
        }
        let packages = Self { folder: TempDir::new().expect("a temporary folder") };
        for version in ["0.1.0-1", "0.1.0-2"] {
            // It contains the program under test; `--fast` only makes the compression worse.
            let output = Command::new("make")
                .args(["deb", concat!("BINARY=", env!("CARGO_BIN_EXE_cynosure"))])
                .arg(format!("DEB={}", packages.file(version).display()))
                .arg(format!("DEB_OPTIONS=--fast --deb-version {version}"))
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .output()
                .expect("make starts");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        Some(packages)
    }

    fn file(&self, version: &str) -> PathBuf {
        self.folder.path().join(format!("cynosure_{version}.deb"))
    }

    fn install(&self, machine: &TestMachine, version: &str) {
        let package = fs::read(self.file(version)).expect("the package is built");
        machine.write("/tmp/cynosure.deb", package);
        apt(machine, &["install", "/tmp/cynosure.deb"]);
    }
}
