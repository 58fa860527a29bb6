//! Manual commands for a breaker, applied to the store while workers may be running.

use cynosure_engine::breaker::{Breaker, BreakerPolicy, BreakerTransition, ManualCommand};
use cynosure_engine::{Failure, Timestamp};

use crate::worker::breakers::breaker_store::BreakerStore;

/// Result of a manual command.
#[derive(Debug)]
pub struct CommandResult {
    /// Breaker after the command.
    pub breaker: Breaker,
    /// Change of state; `None` if there was none.
    pub change: Option<BreakerTransition>,
    /// Warning about the state of the store.
    pub warning: Option<String>,
}

/// Applies a command to the store, where the workers notice it.
///
/// # Errors
/// A storage failure; then nothing is changed.
pub fn apply_command(
    store: &dyn BreakerStore,
    name: &str,
    command: ManualCommand,
    policy: BreakerPolicy,
    now: Timestamp,
) -> Result<CommandResult, Failure> {
    let (mut breaker, mut change) = (Breaker::new(name, policy, now), None);
    let warning = store.update(&mut |states| {
        if let Some(state) = states.get(name) {
            breaker = Breaker::restore(name, policy, state, now);
        }
        change = breaker.apply_command(command, now);
        states.insert(name.to_owned(), breaker.to_persisted());
    })?;
    Ok(CommandResult { breaker, change, warning })
}
