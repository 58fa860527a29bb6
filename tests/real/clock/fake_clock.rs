//! A wall clock that a test sets, for the programs that it starts.

use std::path::{Path, PathBuf};
use std::process::Command;

use cynosure::worker::{Env as _, RealEnv};
use fs_err as fs;

use crate::prerequisites::skip;

pub(crate) const DAY: i64 = 86_400;

/// Stands between a program and its wall clock; the other clocks are those of the machine.
pub(crate) struct FakeClock {
    library: PathBuf,
    file: PathBuf,
}

impl FakeClock {
    /// A clock that is right so far; `None` where there is no such library.
    pub(crate) fn new(folder: &Path) -> Option<Self> {
        let Some(library) = library() else { return skip("Debian's package libfaketime") };
        let clock = Self { library, file: folder.join("clock") };
        clock.set(0);
        Some(clock)
    }

    /// Sets it so many seconds ahead of the right time, or behind, while programs run by it.
    pub(crate) fn set(&self, ahead: i64) {
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{ahead:+}\n")).expect("the folder is ours");
        // Whoever looks sees the one or the other.
        fs::rename(&new, &self.file).expect("the folder is ours");
    }

    /// Has a program go by it.
    pub(crate) fn apply_to<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1")
    }
}

/// The right time, in seconds since the epoch.
pub(crate) fn now() -> i64 {
    RealEnv.now().unix_seconds()
}

/// How far behind a clock is that has just begun to count.
pub(crate) fn to_1970() -> i64 {
    DAY - now()
}

fn library() -> Option<PathBuf> {
    let of_each_machine = fs::read_dir("/usr/lib").ok()?.flatten();
    let mut paths = of_each_machine.map(|of| of.path().join("faketime/libfaketime.so.1"));
    paths.find(|path| path.exists())
}
