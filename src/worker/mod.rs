//! Drives: wait, decide, perform.
//!
//! [`drive`] is the loop of one source; [`run()`] gives it its lives. What the loop
//! needs from outside comes through seams, so that a test can be the world:
//! [`World`] for time, chance and threads, `Source` for the server, `Disk` and the
//! ledger behind [`Store`].

mod binding;
mod breakers;
mod downloads;
mod driver;
mod egress;
mod gate;
mod group;
mod jobs;
mod life;
mod liveness;
mod probe;
mod rate;
mod reconcile;
mod refusal;
mod retries;
mod rows;
mod rules;
mod run;
mod saved;
mod snapshot;
mod store;
mod tracer;
mod view;
mod watchdog;
mod world;

pub use self::binding::claim;
pub use self::breakers::{
    ARCHIVE, Breakers, BreakersFile, Circuits, LEDGER, Memories, Ordered, order,
};
pub use self::downloads::Policies;
pub use self::driver::{Ended, Exit, Mode, Opening, Parts, Stop, TURN_SPAN, drive};
pub use self::egress::Outlet;
pub use self::gate::{Door, GateRules, Gates};
pub use self::jobs::Shared;
pub use self::life::{LastSecret, new_ledger_id};
pub use self::liveness::{Board, Seat};
pub use self::probe::probe;
pub use self::refusal::Refusal;
pub use self::retries::Retries;
pub use self::rules::{backoff, breaker_policy, gate_rules, policies, rules};
pub use self::run::{End, Reading, Supervision, Task, run};
pub use self::store::{Facts, LEDGER_FILE, LOCK_FILE, Opened, STATE_FILE, Store};
pub use self::tracer::Tracer;
pub use self::view::View;
pub use self::watchdog::{AskRestart, Watch, beat, start as watch};
pub use self::world::{RealWorld, World};
pub use crate::state::QUOTA_FILE;
