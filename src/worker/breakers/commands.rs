//! What a person wants of a breaker, by a command, beside whatever worker runs.

use crate::engine::breaker::{Breaker, BreakerPolicy, BreakerTransition, ManualCommand};
use crate::engine::{Failure, Timestamp};
use crate::state::BreakersFile;

/// What an order led to.
#[derive(Debug)]
pub struct CommandResult {
    /// The breaker as it is now.
    pub breaker: Breaker,
    /// `None` where it was so already.
    pub change: Option<BreakerTransition>,
    /// What a person should know about how the file was found.
    pub warning: Option<String>,
}

/// Carries out an order in the file, where the workers find it.
///
/// # Errors
/// A storage failure; then nothing is changed.
pub fn apply_command(
    file: &BreakersFile,
    name: &str,
    order: ManualCommand,
    policy: BreakerPolicy,
    now: Timestamp,
) -> Result<CommandResult, Failure> {
    let ((breaker, change), note) = file.update(|memories| {
        let mut breaker = match memories.get(name) {
            Some(memory) => Breaker::restore(name, policy, memory, now),
            None => Breaker::new(name, policy, now),
        };
        let change = breaker.apply_command(order, now);
        memories.insert(name.to_owned(), breaker.to_persisted());
        (breaker, change)
    })?;
    Ok(CommandResult { breaker, change, warning: note })
}
