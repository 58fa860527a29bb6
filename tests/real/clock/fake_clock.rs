//! Fake wall clock that a test sets, for the programs that it starts.

use std::path::{Path, PathBuf};
use std::process::Command;

use cynosure::env::{Env as _, RealEnv};
use fs_err as fs;

use crate::prerequisites::skip;

/// One day, in seconds.
pub(crate) const DAY: i64 = 86_400;

/// Fake wall clock of some programs. Their other clocks are those of the machine.
pub(crate) struct FakeClock {
    library: PathBuf,
    file: PathBuf,
}

impl FakeClock {
    /// Creates a clock that shows the true time; `None` if the library is missing.
    pub(crate) fn new(folder: &Path) -> Option<Self> {
        let Some(library) = library() else { return skip("Debian's package libfaketime") };
        let clock = Self { library, file: folder.join("clock") };
        clock.set(0);
        Some(clock)
    }

    /// Sets it `ahead` seconds ahead of the true time, or behind if negative. Running programs see
    /// the change.
    pub(crate) fn set(&self, ahead: i64) {
        let new_file = self.file.with_extension("new");
        fs::write(&new_file, format!("{ahead:+}\n")).expect("the folder is ours");
        // A reader sees the old file or the new one, because a rename is atomic.
        fs::rename(&new_file, &self.file).expect("the folder is ours");
    }

    /// Makes a program use it.
    pub(crate) fn apply_to<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1")
    }
}

/// Returns the true time, in seconds since the epoch.
pub(crate) fn now() -> i64 {
    RealEnv.now().unix_seconds()
}

/// Returns the offset of a clock that shows one day after the epoch, in seconds; it is negative.
pub(crate) fn offset_to_1970() -> i64 {
    DAY - now()
}

fn library() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten();
    let mut paths = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    paths.find(|path| path.exists())
}
