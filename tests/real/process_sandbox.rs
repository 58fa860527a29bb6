//! A folder of a program that starts others, and what becomes of them when it is removed.

use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use fs_err as fs;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::wait::wait_until;

/// A temporary folder. Dropping it ends every process that names it on its command line, as one that
/// is still at work would bring back what is removed, and then removes it.
pub(crate) struct ProcessSandbox(TempDir);

impl ProcessSandbox {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().expect("a temporary folder"))
    }

    /// One in `/tmp` that every user of this machine can reach, wherever the environment wants ours.
    pub(crate) fn world_accessible() -> Self {
        let permissions = Permissions::from_mode(0o755);
        let folder = tempfile::Builder::new().permissions(permissions).tempdir_in("/tmp");
        Self(folder.expect("everybody may write to /tmp"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    fn processes(&self) -> Vec<Pid> {
        let folder = self.path().as_os_str().as_bytes();
        let is_named =
            |command_line: &[u8]| command_line.windows(folder.len()).any(|part| part == folder);
        let processes = fs::read_dir("/proc").expect("the kernel lists its processes");
        let pid = |name: &str| name.parse().ok().and_then(Pid::from_raw);
        processes
            .filter_map(|entry| entry.ok())
            // One that has ended meanwhile names nothing.
            .filter(|entry| fs::read(entry.path().join("cmdline")).is_ok_and(|all| is_named(&all)))
            .filter_map(|entry| pid(&entry.file_name().to_string_lossy()))
            .collect()
    }
}

impl Drop for ProcessSandbox {
    fn drop(&mut self) {
        wait_until("nobody is left on the premises", || {
            let residents = self.processes();
            for pid in &residents {
                // It may have ended by itself.
                kill_process(*pid, Signal::KILL).ok();
            }
            residents.is_empty()
        });
    }
}
