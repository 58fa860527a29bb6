//! Tokio runtimes of the process.

use tokio::runtime::{Builder, Runtime};

use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;

/// Creates a runtime with one thread, because the work mostly waits; blocking calls have separate
/// threads.
///
/// # Errors
/// If the runtime cannot be created.
pub(crate) fn new_runtime() -> Result<Runtime, ProgramError> {
    Builder::new_current_thread().enable_all().build().map_err(|error| {
        ProgramError::new(ProgramExit::Other, format!("cannot create the runtime: {error}"))
    })
}

/// Runs a future on a new runtime, for a command that has none.
///
/// # Errors
/// If the runtime cannot be created.
pub(crate) fn block_on_new_runtime<T>(future: impl Future<Output = T>) -> Result<T, ProgramError> {
    let runtime = new_runtime()?;
    let output = runtime.block_on(future);
    // A command that prints a credential may still be running, and is not waited for.
    runtime.shutdown_background();
    Ok(output)
}
