//! Child processes: the service and the program, and what a process uses.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use fs_err as fs;
use tempfile::TempDir;

/// Interval between samples of a process. The kernel accumulates the values, so only those of the
/// last interval are missed.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Unit of CPU time in `/proc`, in seconds: the same on every Linux that Rust supports.
const CLOCK_TICK_SECONDS: f64 = 0.01;

/// Resource usage of a process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ResourceUsage {
    /// Maximum resident memory.
    pub(crate) peak_bytes: u64,
    pub(crate) cpu_seconds: f64,
}

/// Returns a command that runs the measured program.
pub(crate) fn cynosure_command() -> Command {
    clean_command(Path::new(env!("CARGO_BIN_EXE_cynosure")))
}

/// Returns a command that does not inherit the environment of the benchmark.
pub(crate) fn clean_command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null());
    command
}

/// Embedded mailbox service, killed when dropped.
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
            let text = fs::read_to_string(&log).expect("the log is UTF-8");
            if text.contains("serving") {
                return Self { config, process };
            }
            let exit_status = process.try_wait().expect("it is our child");
            assert_eq!(exit_status, None, "{text}");
            sleep_poll_interval();
        }
    }
}

impl Drop for DemoProcess {
    fn drop(&mut self) {
        // Both have no effect if the process has already ended.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Deletes the folders after the last measurement, without waiting: a disk mounted with the option
/// `discard` is notified of each of 400,000 deleted files, which takes minutes.
#[expect(clippy::zombie_processes, reason = "it outlives this program")]
pub(crate) fn delete_later(folders: Vec<TempDir>) {
    let mut command = Command::new("rm");
    command.arg("-rf").args(folders.into_iter().map(TempDir::keep));
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("rm is installed");
}

impl ResourceUsage {
    /// Reads the values of a process so far.
    pub(crate) fn sample(&mut self, pid: u32) {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        // A process that has ended has no memory any more, but still its CPU time.
        self.peak_bytes = peak.map_or(self.peak_bytes, |kib| kib * 1024);

        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // After the name, which may contain any character, utime and stime are the 12th and 13th.
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let ticks = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
        self.cpu_seconds = ticks.sum::<f64>() * CLOCK_TICK_SECONDS;
    }
}

#[expect(clippy::disallowed_methods, reason = "another process does not announce that it is ready")]
pub(crate) fn sleep_poll_interval() {
    thread::sleep(POLL_INTERVAL);
}
