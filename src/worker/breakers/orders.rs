//! What a person wants of a breaker, by a command, beside whatever worker runs.

use crate::engine::breaker::{Breaker, BreakerPolicy, Change, Order};
use crate::engine::{Failure, Timestamp};
use crate::state::BreakersFile;

/// What an order led to.
#[derive(Debug)]
pub struct Ordered {
    /// The breaker as it is now.
    pub breaker: Breaker,
    /// `None` where it was so already.
    pub change: Option<Change>,
    /// What a person should know about how the file was found.
    pub note: Option<String>,
}

/// Carries out an order in the file, where the workers find it.
///
/// # Errors
/// A storage failure; then nothing is changed.
pub fn order(
    file: &BreakersFile,
    name: &str,
    order: Order,
    policy: BreakerPolicy,
    now: Timestamp,
) -> Result<Ordered, Failure> {
    let ((breaker, change), note) = file.change(|memories| {
        let mut breaker = match memories.get(name) {
            Some(memory) => Breaker::recall(name, policy, memory, now),
            None => Breaker::new(name, policy, now),
        };
        let change = breaker.obey(order, now);
        memories.insert(name.to_owned(), breaker.memory());
        (breaker, change)
    })?;
    Ok(Ordered { breaker, change, note })
}
