//! Peak memory of a worker, which depends neither on the number nor on the size of the messages.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use cynosure_lab::demo::{self, DemoOptions};
use fs_err as fs;
use tempfile::TempDir;

use crate::large_messages::LargeMessageServer;
use crate::test_program::{RunningProgram, TestFolder};
use crate::wait::{sleep, timed};

/// Maximum resident memory of a worker, in KiB: 64 MiB.
pub(crate) const PEAK_KIB_MAX: u64 = 64 * 1024;

const ITEMS: u32 = 100_000;

/// Filesystem in memory, and the space that the items need there, with a margin.
const TMPFS: &str = "/dev/shm";
const ROOM_BYTES_MIN: u64 = 4_000_000_000;

/// Number of long messages: as many as the worker fetches at once.
const LARGE_MESSAGES: usize = 8;
const LARGE_BYTES: usize = 50_000_000;

/// Interval at which the peak is read. The kernel records it, so only an increase after the last
/// reading is missed.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

#[test]
fn a_hundred_thousand_threads_fit_into_64_mib() {
    let folder = TempDir::new().expect("a temporary folder");
    let demo = demo::start(DemoOptions {
        items: ITEMS,
        token_file: Some(folder.path().join("token")),
        ..DemoOptions::default()
    });
    let demo = demo.expect("the service starts");
    let config = demo::demo_config(&demo, Path::new("downloads"));
    let test_folder = TestFolder::in_folder(&folder_for_many_files(), &config);

    let (peak, took) = timed(|| peak_memory_of_run(&test_folder));

    let documents = f64::from(demo.counters().messages_served);
    let rate = documents / took.as_secs_f64();
    println!("{documents} documents, listing included: {took:.1?}, {rate:.0}/s, peak {peak} KiB");
    assert!(peak <= PEAK_KIB_MAX, "{ITEMS} threads take {peak} KiB");
}

#[test]
fn eight_messages_of_50_mb_at_once_fit_into_64_mib() {
    let server = LargeMessageServer::start(LARGE_MESSAGES, LARGE_BYTES);
    let test_folder = TestFolder::new(&server.config());
    test_folder.put_secret("token", "secret");

    let (peak, took) = timed(|| peak_memory_of_run(&test_folder));

    println!("{LARGE_MESSAGES} messages of {LARGE_BYTES} bytes: {took:.1?}, peak {peak} KiB");
    let files = test_folder.archive_files().into_iter();
    let sizes = files.map(|path| fs::metadata(path).expect("the archive can be read").len());
    assert_eq!(sizes.collect::<Vec<_>>(), [LARGE_BYTES as u64; LARGE_MESSAGES]);
    assert!(peak <= PEAK_KIB_MAX, "long messages take {peak} KiB");
}

/// Returns a folder in which 160,000 files are removed in a second. A disk with the mount option
/// `discard`, which is notified of each removal, takes minutes.
pub(crate) fn folder_for_many_files() -> PathBuf {
    let has_room = rustix::fs::statvfs(TMPFS)
        .is_ok_and(|stats| stats.f_bavail.saturating_mul(stats.f_frsize) >= ROOM_BYTES_MIN);
    if has_room { PathBuf::from(TMPFS) } else { std::env::temp_dir() }
}

/// Runs one session, which must succeed, and returns its peak resident memory, in KiB.
pub(crate) fn peak_memory_of_run(test_folder: &TestFolder) -> u64 {
    let mut command = test_folder.command(&["run", "--once"]);
    let mut run = RunningProgram::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
    let status_path = format!("/proc/{}/status", run.id());
    let mut peak = 0;
    let exit_status = loop {
        let text = fs::read_to_string(&status_path).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let value = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        // A process that has ended has no memory any more.
        peak = value.unwrap_or(peak);
        match run.try_wait() {
            Some(exit_status) => break exit_status,
            None => sleep(POLL_INTERVAL),
        }
    };
    assert!(exit_status.success(), "the run ended with {exit_status}");
    assert_ne!(peak, 0, "the kernel reported no peak");
    peak
}
