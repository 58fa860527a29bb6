//! Memory, wake-ups and processor time of sources that wait for their next poll.
//!
//! ```text
//! cargo bench --profile dist --bench idle_sources -- [SOURCES…]
//! ```
//!
//! For each number of sources, one process extracts a small mailbox with each of them. When all are
//! complete, the process is observed while no poll is due.
#![expect(clippy::print_stdout, reason = "a benchmark prints a table")]

#[path = "../extract/process.rs"]
mod process;

use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use cynosure::state::StateFolder;
use cynosure_engine::Status;
use fs_err as fs;
use tempfile::TempDir;

use crate::process::{DemoProcess, ResourceUsage, cynosure_command, delete_later};

/// Numbers of sources, unless the command line sets others. All have the same account, so that more
/// of them would run out of names for the folders of their sessions, which begin at once.
const SOURCES: [u32; 3] = [1, 50, 100];

/// Threads in the mailbox of each source.
const ITEMS: u32 = 10;

/// Duration of the observation.
const OBSERVATION: Duration = Duration::from_secs(60);

/// Interval between checks whether all sources are complete.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);

const KIBIBYTE: f64 = 1024.0;

/// Cost of a process with this number of idle sources.
struct IdleCost {
    sources: u32,
    resident_bytes: u64,
    wakeups_per_minute: f64,
    cpu_ms_per_minute: f64,
}

fn main() {
    // Cargo passes `--bench` to every benchmark.
    let arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let mut counts: Vec<u32> =
        arguments.map(|count| count.parse().expect("a number of sources")).collect();
    if counts.is_empty() {
        counts = SOURCES.to_vec();
    }
    println!(
        "{:>7} {:>12} {:>14} {:>13} {:>14} {:>13} {:>14}",
        "sources",
        "resident MiB",
        "KiB per source",
        "wake-ups/min",
        "per source/min",
        "CPU ms/min",
        "per source/min"
    );
    let mut folders = Vec::new();
    let mut first: Option<IdleCost> = None;
    for count in counts {
        let folder = TempDir::new().expect("a temporary folder");
        let cost = measure_idle(count, folder.path());
        print_row(&cost, first.as_ref());
        first = first.or(Some(cost));
        folders.push(folder);
    }
    delete_later(folders);
}

fn measure_idle(sources: u32, folder: &Path) -> IdleCost {
    let service = DemoProcess::start(ITEMS, folder);
    let config = folder.join("idle.toml");
    let text = fs::read_to_string(&service.config).expect("the configuration exists");
    fs::write(&config, with_sources(&text, sources)).expect("the folder is ours");
    let mut command = cynosure_command();
    command.arg("--config").arg(&config).args(["run", "--quiet"]);
    let worker = Worker(command.stderr(Stdio::null()).spawn().expect("the program starts"));

    wait_until_idle(&StateFolder::new(&folder.join("state")), sources);
    let (usage, wakeups) = (worker.usage(), worker.wakeups());
    wait(OBSERVATION);

    let minutes = OBSERVATION.as_secs_f64() / 60.0;
    IdleCost {
        sources,
        resident_bytes: worker.resident_bytes(),
        wakeups_per_minute: (worker.wakeups() - wakeups) as f64 / minutes,
        cpu_ms_per_minute: (worker.usage().cpu_seconds - usage.cpu_seconds) * 1000.0 / minutes,
    }
}

/// Returns the configuration with `count` sources of the same mailbox, which are polled rarely.
fn with_sources(config: &str, count: u32) -> String {
    let (head, rest) = config.split_once("[source.demo]").expect("it has a source");
    let (source, rest) = rest.split_once("\n[").expect("a table follows");
    let source = source.replace("poll_interval = \"2s\"", "poll_interval = \"1h\"");
    let sources: String =
        (0..count).map(|number| format!("[source.idle-{number}]{source}")).collect();
    format!("{head}{sources}\n[{rest}")
}

fn wait_until_idle(state: &StateFolder, sources: u32) {
    let is_idle = |number: u32| {
        let source = state.source(&format!("idle-{number}")).read_state();
        let state = source.execution_state();
        state.is_some_and(|state| matches!(state.status, Status::Idle | Status::Completed))
    };
    while !(0..sources).all(is_idle) {
        wait(CHECK_INTERVAL);
    }
}

fn print_row(cost: &IdleCost, first: Option<&IdleCost>) {
    let per_source = |total: f64, of_first: f64, first: &IdleCost| {
        format!("{:.1}", (total - of_first) / f64::from(cost.sources - first.sources))
    };
    let columns = first.map(|first| {
        let resident = [cost, first].map(|cost| cost.resident_bytes as f64 / KIBIBYTE);
        [
            per_source(resident[0], resident[1], first),
            per_source(cost.wakeups_per_minute, first.wakeups_per_minute, first),
            per_source(cost.cpu_ms_per_minute, first.cpu_ms_per_minute, first),
        ]
    });
    let [memory, wakeups, cpu] = columns.unwrap_or_default();
    println!(
        "{:>7} {:>12.1} {memory:>14} {:>13.0} {wakeups:>14} {:>13.0} {cpu:>14}",
        cost.sources,
        cost.resident_bytes as f64 / KIBIBYTE / KIBIBYTE,
        cost.wakeups_per_minute,
        cost.cpu_ms_per_minute,
    );
}

/// Worker process, killed when dropped.
struct Worker(Child);

impl Worker {
    fn usage(&self) -> ResourceUsage {
        let mut usage = ResourceUsage::default();
        usage.sample(self.0.id());
        usage
    }

    fn resident_bytes(&self) -> u64 {
        status_number(format!("/proc/{}/status", self.0.id()), "VmRSS:") * 1024
    }

    /// Returns the number of waits that the thread of all event loops has ended.
    fn wakeups(&self) -> u64 {
        let process = self.0.id();
        let path = format!("/proc/{process}/task/{process}/status");
        status_number(path, "voluntary_ctxt_switches:")
    }
}

/// Returns the number on a line of a status file; 0 if the process has ended.
fn status_number(path: String, name: &str) -> u64 {
    let status = fs::read_to_string(path).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Both have no effect if the process has already ended.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[expect(clippy::disallowed_methods, reason = "the process is observed for a time")]
fn wait(duration: Duration) {
    thread::sleep(duration);
}
