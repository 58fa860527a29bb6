//! Evaluation of workers from outside: by their published state, and by systemd's view of the unit.
//!
//! A worker recovers by itself while its event loop runs: it restarts a stuck phase, then exits to
//! be restarted. This evaluation detects a worker that no longer does, so a missed deadline counts,
//! and a wait before its deadline never does.

mod diagnosis;
mod evaluation;
mod inputs;
mod unit;

#[cfg(test)]
mod proptests;
#[cfg(test)]
mod tests;

pub use self::diagnosis::Diagnosis;
pub(in crate::health) use self::diagnosis::log_advice;
pub use self::evaluation::evaluate;
pub use self::inputs::{
    ProcessStatus, RecentStarts, StateFileContent, UnitObservation, WatchLimits, WatchedSource,
    WorkerStatus,
};
pub use self::unit::{ActiveState, LoadState, StartLimit, UnitStatus};
