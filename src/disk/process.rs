//! Check for a running process whose id was read from a file.

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// True if a process with this id exists.
#[must_use]
pub fn process_exists(pid: u32) -> bool {
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // Signalling a process of another user is denied, but the process exists.
    process.is_some_and(|process| !matches!(test_kill_process(process), Err(Errno::SRCH)))
}
