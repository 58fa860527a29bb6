//! Judges workers from outside: by what they publish, and by what systemd says of their unit.
//!
//! A worker heals itself as long as it decides at all: it begins a stuck stage anew, then leaves to be
//! started anew. What is looked for here is the worker that no longer does, so a deadline it has let
//! pass counts, and a wait before its deadline never does.

mod facts;
mod finding;
mod judge;
mod unit;

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;

pub use self::facts::{Course, Lately, Limits, Process, Told, UnitSeen, Watched};
pub(in crate::engine) use self::finding::see_why;
pub use self::finding::{Cure, Finding, Level, Subject, What, installed};
pub use self::judge::{judge, worst};
pub use self::unit::{Activity, Load, StartLimit, UnitStatus};
