//! Judges workers from outside: by what they publish, and by what systemd says of their unit.
//!
//! A worker heals itself as long as it decides at all: it begins a stuck stage anew, then leaves to be
//! started anew. What is looked for here is the worker that no longer does, so a deadline it has let
//! pass counts, and a wait before its deadline never does.

mod evaluation;
mod finding;
mod inputs;
mod unit;

#[cfg(test)]
mod proptests;
#[cfg(test)]
mod tests;

pub use self::evaluation::{evaluate, worst_level};
pub(in crate::engine) use self::finding::log_advice;
pub use self::finding::{Finding, FindingKind, HealthLevel, Remedy, Subject, installed_unit};
pub use self::inputs::{
    ProcessStatus, RecentStarts, StateFileContent, UnitObservation, WatchLimits, WatchedSource,
    WorkerStatus,
};
pub use self::unit::{ActiveState, LoadState, StartLimit, UnitStatus};
