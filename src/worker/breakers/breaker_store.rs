//! Store of the states of circuit breakers, for other processes and the next one.

use std::fmt;

use cynosure_engine::Failure;

use crate::state::{BreakerStates, BreakersFile};

/// States of all circuit breakers, changed by several processes. Each call blocks.
pub trait BreakerStore: fmt::Debug + Send + Sync {
    /// Reads the states and changes nothing; `Ok(Err(reason))` if the content cannot be read.
    ///
    /// # Errors
    /// A storage failure.
    fn read(&self) -> Result<Result<BreakerStates, String>, Failure>;

    /// Changes the states. `change` gets those of the moment; it is called again if another process
    /// changed them meanwhile. Returns a note for the operator if the content could not be read and
    /// was replaced.
    ///
    /// # Errors
    /// A storage failure; then nothing is changed.
    fn update(&self, change: &mut dyn FnMut(&mut BreakerStates))
    -> Result<Option<String>, Failure>;
}

impl BreakerStore for BreakersFile {
    fn read(&self) -> Result<Result<BreakerStates, String>, Failure> {
        Self::read(self)
    }

    fn update(
        &self,
        change: &mut dyn FnMut(&mut BreakerStates),
    ) -> Result<Option<String>, Failure> {
        // The lock of the file excludes a change by another process: once is enough.
        let ((), note) = Self::update(self, |states| change(states))?;
        Ok(note)
    }
}
