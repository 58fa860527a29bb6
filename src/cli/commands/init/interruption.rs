//! End of `init` by a signal: the terminal is restored, temporary files are removed, and the last
//! line says what was written.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::app::runtime::new_runtime;
use crate::cli::print::{print_error, print_note};
use crate::config::EnvVars;
use crate::disk::{Disk, RealDisk};
use crate::env::{Env, RealEnv};

/// End of the messages of a dialog that ends before it has written anything.
pub(super) const NOTHING_WRITTEN: &str = "nothing was written";

/// Folder of temporary files, unless the environment names another.
const TEMPORARY_FOLDER: &str = "/tmp";

/// Attempts to remove a folder into which the main thread may still write.
const REMOVE_ATTEMPTS: u32 = 3;

/// Work that is left to do when a signal ends the program.
#[derive(Clone, Debug)]
pub(super) struct SignalCleanup(Arc<Mutex<CleanupState>>);

#[derive(Debug)]
struct CleanupState {
    /// Settings of the terminal at the start. `None` without a terminal.
    terminal: Option<Termios>,
    temporary_folder: Option<PathBuf>,
    /// Clause that says what was written so far.
    written: String,
}

/// Signals that end the program.
struct EndSignals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

/// Temporary folder for its owner only. It is removed with its files when this value is dropped,
/// and when a signal ends the program.
#[derive(Debug)]
pub(super) struct TemporaryFolder {
    path: PathBuf,
    cleanup: SignalCleanup,
}

impl SignalCleanup {
    /// Starts the thread that waits for signals.
    ///
    /// # Errors
    /// If the signals cannot be received.
    pub(super) fn start() -> Result<Self, ProgramError> {
        let state = CleanupState {
            terminal: tcgetattr(io::stdin()).ok(),
            temporary_folder: None,
            written: NOTHING_WRITTEN.to_owned(),
        };
        let cleanup = Self(Arc::new(Mutex::new(state)));
        let runtime = new_runtime()?;
        let listen = || {
            let _entered = runtime.enter();
            EndSignals::listen()
        };
        let signals = listen().map_err(|error| signal_error(&error))?;
        let of_thread = cleanup.clone();
        let wait = move || {
            let exit = runtime.block_on(signals.wait());
            of_thread.end_program(exit);
        };
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(wait)
            .map_err(|error| signal_error(&error))?;
        Ok(cleanup)
    }

    /// Runs `write`, and records the clause about what it has written. A signal ends the program
    /// before or after it, so that the last line is true.
    ///
    /// # Errors
    /// The error of `write`.
    pub(super) fn run_uninterrupted(
        &self,
        write: impl FnOnce() -> Result<String, ProgramError>,
    ) -> Result<(), ProgramError> {
        let mut state = self.lock();
        state.written = write()?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, CleanupState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end_program(&self, exit: ProgramExit) {
        let state = self.lock();
        if let Some(terminal) = &state.terminal {
            tcsetattr(io::stdin(), OptionalActions::Now, terminal).ok();
        }
        if let Some(folder) = &state.temporary_folder {
            remove_folder(folder);
        }
        // The line with the question is not complete.
        print_note("");
        let exit = print_error(exit, format!("interrupted; {}", state.written));
        std::process::exit(i32::from(exit.code()))
    }
}

impl EndSignals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn wait(mut self) -> ProgramExit {
        tokio::select! {
            _ = self.interrupt.recv() => ProgramExit::Interrupted,
            _ = self.terminate.recv() => ProgramExit::Terminated,
            _ = self.hangup.recv() => ProgramExit::Terminated,
        }
    }
}

impl TemporaryFolder {
    /// Creates the folder, with a random name.
    ///
    /// # Errors
    /// If the folder cannot be created.
    pub(super) fn create(
        environment: &EnvVars,
        cleanup: &SignalCleanup,
    ) -> Result<Self, ProgramError> {
        let parent = environment.get("TMPDIR").filter(|folder| !folder.is_empty());
        let parent = parent.map_or_else(|| PathBuf::from(TEMPORARY_FOLDER), PathBuf::from);
        let (high, low) = (RealEnv.random_sample().0, RealEnv.random_sample().0);
        let path = parent.join(format!("cynosure-init-{high:08x}{low:08x}"));
        let mut state = cleanup.lock();
        RealDisk.create_dir(&path).map_err(|error| {
            let message = format!(
                "cannot create the temporary folder {}: {error}; set TMPDIR to a folder that can \
                 be written",
                path.display()
            );
            ProgramError::new(ProgramExit::Other, message)
        })?;
        state.temporary_folder = Some(path.clone());
        drop(state);
        Ok(Self { path, cleanup: cleanup.clone() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        remove_folder(&self.path);
        self.cleanup.lock().temporary_folder = None;
    }
}

fn remove_folder(folder: &Path) {
    for _ in 0..REMOVE_ATTEMPTS {
        match fs_err::remove_dir_all(folder) {
            Ok(()) => return,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(_) => {}
        }
    }
    print_note(format!(
        "cynosure: cannot remove {}, which may hold a password; remove it",
        folder.display()
    ));
}

fn signal_error(error: &io::Error) -> ProgramError {
    ProgramError::new(ProgramExit::Other, format!("cannot listen for signals: {error}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn cleanup() -> SignalCleanup {
        let written = NOTHING_WRITTEN.to_owned();
        let state = CleanupState { terminal: None, temporary_folder: None, written };
        SignalCleanup(Arc::new(Mutex::new(state)))
    }

    #[test]
    fn a_temporary_folder_is_for_its_owner_and_removed_at_the_end() {
        let home = tempfile::tempdir().unwrap();
        let environment = EnvVars::from_iter([("TMPDIR", home.path())]);
        let cleanup = cleanup();

        let folder = TemporaryFolder::create(&environment, &cleanup).unwrap();
        fs_err::create_dir(folder.path().join("state")).unwrap();
        fs_err::File::create(folder.path().join("password")).unwrap();

        let mode = fs_err::metadata(folder.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert_eq!(cleanup.lock().temporary_folder.as_deref(), Some(folder.path()));
        drop(folder);
        assert_eq!(fs_err::read_dir(home.path()).unwrap().count(), 0);
        assert_eq!(cleanup.lock().temporary_folder, None);
    }

    #[test]
    fn the_clause_changes_only_if_something_was_written() {
        let cleanup = cleanup();
        let failed = || Err(ProgramError::new(ProgramExit::Storage, "the disk is full"));

        assert!(cleanup.run_uninterrupted(failed).is_err());
        assert_eq!(cleanup.lock().written, NOTHING_WRITTEN);
        let written = || {
            assert!(cleanup.0.try_lock().is_err(), "a signal would not wait");
            Ok("source work is written".to_owned())
        };
        cleanup.run_uninterrupted(written).unwrap();
        assert_eq!(cleanup.lock().written, "source work is written");
    }

    #[test]
    fn two_temporary_folders_have_different_names() {
        let home = tempfile::tempdir().unwrap();
        let environment = EnvVars::from_iter([("TMPDIR", home.path())]);

        let one = TemporaryFolder::create(&environment, &cleanup()).unwrap();
        let other = TemporaryFolder::create(&environment, &cleanup()).unwrap();

        assert_ne!(one.path(), other.path());
    }

    #[test]
    fn a_folder_that_cannot_be_created_is_named() {
        let environment = EnvVars::from_iter([("TMPDIR", "/nowhere")]);

        let error = TemporaryFolder::create(&environment, &cleanup()).unwrap_err();

        assert!(error.message().contains("/nowhere/cynosure-init-"), "{}", error.message());
    }
}
