//! Temporary folder of a program that starts other processes, which are killed with it.

use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use fs_err as fs;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::wait::wait_until;

/// Temporary folder. Dropping it first kills every process that names it on its command line,
/// because a running process could recreate removed files, and then removes it.
pub(crate) struct ProcessSandbox(TempDir);

impl ProcessSandbox {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().expect("a temporary folder"))
    }

    /// Creates one that every user of this machine can access: in `/tmp`, even if the environment
    /// names another temporary folder.
    pub(crate) fn world_accessible() -> Self {
        let permissions = Permissions::from_mode(0o755);
        let folder = tempfile::Builder::new().permissions(permissions).tempdir_in("/tmp");
        Self(folder.expect("everybody may write to /tmp"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Returns the processes that name the folder on their command line.
    fn processes(&self) -> Vec<Pid> {
        let folder = self.path().as_os_str().as_bytes();
        let names_folder =
            |command_line: &[u8]| command_line.windows(folder.len()).any(|part| part == folder);
        let processes = fs::read_dir("/proc").expect("the kernel lists its processes");
        let pid = |name: &str| name.parse().ok().and_then(Pid::from_raw);
        processes
            .filter_map(|entry| entry.ok())
            // A process that has ended meanwhile has no command line.
            .filter(|entry| {
                fs::read(entry.path().join("cmdline")).is_ok_and(|line| names_folder(&line))
            })
            .filter_map(|entry| pid(&entry.file_name().to_string_lossy()))
            .collect()
    }
}

impl Drop for ProcessSandbox {
    fn drop(&mut self) {
        wait_until("every process of the folder has ended", || {
            let processes = self.processes();
            for pid in &processes {
                // Fails if it has ended by itself.
                kill_process(*pid, Signal::KILL).ok();
            }
            processes.is_empty()
        });
    }
}
