//! Machine that a test may damage: a real systemd, PID 1 of separate namespaces, with a journal, a
//! system bus and polkit.
//!
//! It runs the programs of the host, or those of a newer Debian. Its writes to `/etc`, `/usr` and
//! `/var` are not visible to the host, and survive a reboot. It shares the network of the host, so
//! that it can connect to the servers of a test on loopback.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use fs_err as fs;
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use crate::prerequisites::skip;
use crate::wait::wait_until;

const BOOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/systemd/boot.sh");

/// Files that a machine needs, from Debian's packages `systemd`, `dbus` and `polkitd`, and the
/// program that starts it.
const MACHINE_FILES: [&str; 4] = [
    "/lib/systemd/systemd",
    "/usr/bin/dbus-daemon",
    "/usr/lib/polkit-1/polkitd",
    "/usr/bin/unshare",
];

/// Root filesystem of a Debian 13, created by `tests/setup/newer`.
const NEWER_ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/debian13");

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Test machine. Dropping it kills all of its processes.
pub(crate) struct TestMachine {
    folder: TempDir,
    /// Root filesystem with the programs that it runs; `None` for those of the host.
    root: Option<&'static Path>,
    /// Control group that is the root of the machine's groups.
    group: PathBuf,
    running_init: Option<RunningInit>,
}

/// Processes of a running machine.
struct RunningInit {
    /// `unshare`, the parent of PID 1.
    launcher: Child,
    /// PID 1 of the machine, by its pid on the host.
    init: Pid,
}

impl TestMachine {
    /// Creates a machine and boots it. Requires root, systemd and control groups of version 2;
    /// otherwise reports the test as skipped, and returns `None`.
    pub(crate) fn boot() -> Option<Self> {
        Self::boot_from(None)
    }

    /// Creates and boots a machine with the systemd of the next Debian; also requires its root
    /// filesystem.
    pub(crate) fn boot_newer() -> Option<Self> {
        let root = Path::new(NEWER_ROOT);
        if !root.exists() {
            return skip("target/debian13, which `make setup` creates");
        }
        Self::boot_from(Some(root))
    }

    fn boot_from(root: Option<&'static Path>) -> Option<Self> {
        if !geteuid().is_root() {
            return skip("root, to boot a separate systemd");
        }
        if let Some(missing) = MACHINE_FILES.iter().find(|path| !Path::new(path).exists()) {
            return skip(missing);
        }
        let Some(groups) = control_groups() else {
            return skip("a mount of cgroup2");
        };
        let mut machine = Self {
            folder: TempDir::new().expect("a temporary folder"),
            root,
            group: new_group(&groups),
            running_init: None,
        };
        machine.start();
        Some(machine)
    }

    /// Boots the machine, with all files that were written to it before.
    pub(crate) fn start(&mut self) {
        assert!(self.running_init.is_none(), "the machine is running already");
        let log =
            fs::File::create(self.folder.path().join("boot.log")).expect("the folder is ours");
        let mut launcher = Command::new("/bin/sh")
            .arg(BOOT)
            .args([self.folder.path(), &self.group])
            .args(self.root)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.into_file())
            .spawn()
            .expect("the shell starts");
        let mut init = None;
        wait_until("PID 1 is systemd", || {
            let ended = launcher.try_wait().expect("the launcher is our child");
            assert_eq!(ended, None, "{}", self.boot_log());
            init = child_of(launcher.id()).filter(|child| process_name(*child) == "systemd");
            init.is_some()
        });
        self.running_init = init.map(|init| RunningInit { launcher, init });
        wait_until("the machine has booted", || {
            let output = self.run(&["systemctl", "is-system-running"]);
            ["running\n", "degraded\n"].map(str::as_bytes).contains(&&*output.stdout)
        });
    }

    /// Kills all processes of the machine at once, as a power cut would.
    pub(crate) fn kill_all_processes(&mut self) {
        let Some(RunningInit { mut launcher, init }) = self.running_init.take() else { return };
        // The kernel kills all others with PID 1, and the wait returns when the last one has ended.
        kill_process(init, Signal::KILL).ok();
        launcher.wait().expect("the launcher is our child");
    }

    /// Runs a command in the machine as root, and returns its output.
    pub(crate) fn run(&self, command: &[&str]) -> Output {
        self.command(command).output().expect("nsenter starts")
    }

    /// Returns a command that runs in the machine as root.
    pub(crate) fn command(&self, command: &[&str]) -> Command {
        let mut nsenter = Command::new("nsenter");
        nsenter
            .args(["--target", &self.init().as_raw_nonzero().to_string()])
            .args(["--mount", "--pid", "--uts", "--ipc", "--cgroup", "--wd=/", "--"])
            .args(["env", "-i", PATH, "LC_ALL=C.UTF-8", "SYSTEMD_PAGER=", "SYSTEMD_COLORS=0"])
            .args(command)
            .stdin(Stdio::null());
        nsenter
    }

    /// Runs a command that has to succeed, and returns its standard output.
    pub(crate) fn run_successfully(&self, command: &[&str]) -> String {
        let output = self.run(command);
        let [stdout, stderr] =
            [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
        assert!(output.status.success(), "{command:?}: {}\n{stdout}{stderr}", output.status);
        stdout
    }

    /// Returns a property of a unit, as `systemctl show` prints it.
    pub(crate) fn property(&self, unit: &str, property: &str) -> String {
        let value =
            self.run_successfully(&["systemctl", "show", "--value", "--property", property, unit]);
        value.trim_end().to_owned()
    }

    /// Returns the log messages of a unit from all boots, one per line.
    pub(crate) fn journal(&self, unit: &str) -> String {
        self.run(&["journalctl", "--sync"]);
        self.run_successfully(&["journalctl", "--quiet", "--output", "cat", "--unit", unit])
    }

    /// Returns the path on the host of a file of the machine, which must be running.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.init().as_raw_nonzero()));
        root.join(path.trim_start_matches('/'))
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).expect("the machine has this file")
    }

    /// Writes a file, and creates the folders above it.
    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("it is writable");
        fs::write(path, text).expect("it is writable");
    }

    /// Writes a file that only its owner may read, who is a user of the machine.
    pub(crate) fn write_private(&self, path: &str, owner: &str, text: impl AsRef<[u8]>) {
        self.write(path, text);
        let id = self.run_successfully(&["id", "--user", owner]);
        let id = id.trim_end().parse().expect("a user id");
        chown(self.path(path), Some(id), Some(id)).expect("root may change the owner");
        self.run_successfully(&["chmod", "600", path]);
    }

    fn init(&self) -> Pid {
        self.running_init.as_ref().expect("the machine is running").init
    }

    fn boot_log(&self) -> String {
        fs::read_to_string(self.folder.path().join("boot.log")).unwrap_or_default()
    }
}

impl Drop for TestMachine {
    fn drop(&mut self) {
        self.kill_all_processes();
        remove_groups(&self.group);
    }
}

/// Returns the mount point of control groups of version 2, which may exist next to version 1.
fn control_groups() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    mounts.find(|mount| mount.get(2) == Some(&"cgroup2")).map(|mount| PathBuf::from(mount[1]))
}

fn new_group(groups: &Path) -> PathBuf {
    static CREATED: AtomicU32 = AtomicU32::new(0);
    let number = CREATED.fetch_add(1, Ordering::Relaxed);
    let group = groups.join(format!("cynosure-{}-{number}", std::process::id()));
    fs::create_dir(&group).expect("root makes control groups");
    group
}

/// Removes a control group and the groups in it, which have no processes any more.
fn remove_groups(group: &Path) {
    let Ok(entries) = fs::read_dir(group) else { return };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        if path.is_dir() {
            remove_groups(&path);
        }
    }
    // A group that is left is empty and harmless.
    fs::remove_dir(group).ok();
}

fn child_of(parent: u32) -> Option<Pid> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    Pid::from_raw(children.split(' ').next()?.parse().ok()?)
}

fn process_name(process: Pid) -> String {
    let name = fs::read_to_string(format!("/proc/{}/comm", process.as_raw_nonzero()));
    name.unwrap_or_default().trim_end().to_owned()
}
