//! Other processes: the service, and those that are measured.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use fs_err as fs;
use tempfile::TempDir;

/// How often a process is looked at. The kernel keeps count, so that only the last moment is missed.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The unit of CPU time in `/proc`, in seconds: the same on every Linux that Rust knows.
const CLOCK_TICK_SECONDS: f64 = 0.01;

/// What a process took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ResourceUsage {
    /// The most memory it had resident.
    pub(crate) peak_bytes: u64,
    pub(crate) cpu_seconds: f64,
}

/// The program that is measured.
pub(crate) fn cynosure_command() -> Command {
    clean_command(Path::new(env!("CARGO_BIN_EXE_cynosure")))
}

/// A command that the environment of the benchmark cannot configure.
pub(crate) fn clean_command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null());
    command
}

/// The embedded mailbox service; dropping it ends it.
pub(crate) struct DemoProcess {
    /// The configuration that extracts it.
    pub(crate) config: PathBuf,
    process: Child,
}

impl DemoProcess {
    /// Serves a mailbox of `items` threads, with its files in `folder`.
    pub(crate) fn start(items: u32, folder: &Path) -> Self {
        let config = folder.join("config.toml");
        let log = folder.join("service.log");
        let create = |path| fs::File::create(path).expect("the folder is ours").into_file();
        let mut process = cynosure_command()
            .args(["demo", "--serve", "--faults", "none", "--listen", "127.0.0.1:0"])
            .args(["--items", &items.to_string()])
            .current_dir(folder)
            .stdout(create(config.clone()))
            .stderr(create(log.clone()))
            .spawn()
            .expect("the service starts");
        loop {
            let said = fs::read_to_string(&log).expect("the log is UTF-8");
            if said.contains("serving") {
                return Self { config, process };
            }
            let ended = process.try_wait().expect("it is our child");
            assert_eq!(ended, None, "{said}");
            sleep_poll_interval();
        }
    }
}

impl Drop for DemoProcess {
    fn drop(&mut self) {
        // Both do nothing to one that has ended.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Runs a command to its end, which must be a success; returns what it printed, and what it took.
pub(crate) fn measure(command: &mut Command) -> (String, ResourceUsage) {
    let command = command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = command.spawn().expect("the program starts");
    let mut usage = ResourceUsage::default();
    let ended = loop {
        // One that has ended is looked at once more before it is forgotten.
        usage.sample(process.id());
        match process.try_wait().expect("it is our child") {
            Some(ended) => break ended,
            None => sleep_poll_interval(),
        }
    };
    assert!(ended.success(), "{command:?} ended with {ended}");
    let mut said = String::new();
    let mut output = process.stdout.take().expect("it is piped");
    output.read_to_string(&mut said).expect("it is UTF-8");
    (said, usage)
}

/// Removes what was made, when nothing is measured any more, and without waiting for it: a disk
/// mounted with the option `discard` is told of each of 400,000 files, which takes minutes.
#[expect(clippy::zombie_processes, reason = "it outlives this program")]
pub(crate) fn delete_later(folders: Vec<TempDir>) {
    let mut command = Command::new("rm");
    command.arg("-rf").args(folders.into_iter().map(TempDir::keep));
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("there is rm");
}

impl ResourceUsage {
    fn sample(&mut self, process: u32) {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        // One that has ended has no memory, and keeps its CPU time.
        self.peak_bytes = peak.map_or(self.peak_bytes, |kib| kib * 1024);

        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        // Behind the name, which may contain anything, utime and stime are the 12th and 13th.
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let ticks = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
        self.cpu_seconds = ticks.sum::<f64>() * CLOCK_TICK_SECONDS;
    }
}

#[expect(clippy::disallowed_methods, reason = "another process tells nobody when it is ready")]
fn sleep_poll_interval() {
    thread::sleep(POLL_INTERVAL);
}
