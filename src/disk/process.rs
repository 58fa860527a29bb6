//! Whether a process that wrote its number into a file is still there.

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// Whether there is a process of this number.
#[must_use]
pub fn process_exists(pid: u32) -> bool {
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // A process of another user may not be signalled, but is there.
    process.is_some_and(|process| !matches!(test_kill_process(process), Err(Errno::SRCH)))
}
