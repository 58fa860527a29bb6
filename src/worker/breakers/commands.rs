//! Manual commands for a breaker, applied to the file while workers may be running.

use cynosure_engine::breaker::{Breaker, BreakerPolicy, BreakerTransition, ManualCommand};
use cynosure_engine::{Failure, Timestamp};

use crate::state::BreakersFile;

/// Result of a manual command.
#[derive(Debug)]
pub struct CommandResult {
    /// Breaker after the command.
    pub breaker: Breaker,
    /// Change of state; `None` if there was none.
    pub change: Option<BreakerTransition>,
    /// Warning about the state of the file.
    pub warning: Option<String>,
}

/// Applies a command to the file, where the workers notice it.
///
/// # Errors
/// A storage failure; then nothing is changed.
pub fn apply_command(
    file: &BreakersFile,
    name: &str,
    command: ManualCommand,
    policy: BreakerPolicy,
    now: Timestamp,
) -> Result<CommandResult, Failure> {
    let ((breaker, change), warning) = file.update(|states| {
        let mut breaker = match states.get(name) {
            Some(state) => Breaker::restore(name, policy, state, now),
            None => Breaker::new(name, policy, now),
        };
        let change = breaker.apply_command(command, now);
        states.insert(name.to_owned(), breaker.to_persisted());
        (breaker, change)
    })?;
    Ok(CommandResult { breaker, change, warning })
}
