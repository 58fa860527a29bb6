//! Decisions, and nothing else.
//!
//! Nothing in this folder reads a clock, a file, a socket, the environment or a
//! random number, and nothing is logged. Whatever it needs arrives as an argument;
//! whatever it wants done leaves as a value. `tests/tidy.rs` keeps it that way.

mod backoff;
pub mod breaker;
mod bridge;
mod classify;
mod failure;
mod item;
mod machine;
mod moment;
mod names;
pub mod quota;
pub mod retry_after;

pub use self::backoff::Backoff;
pub use self::bridge::{Bridge, BridgePolicy};
pub use self::classify::{Answer, Said};
pub use self::failure::{Cause, Failure, Kind, Scope, Verdict, printable};
pub use self::item::{ItemPolicy, ItemStep};
pub use self::machine::{
    Credential, Effect, Event, Extent, LastError, Machine, RestartCause, Rules, Session, State,
    Status, Step, Then, Work,
};
pub use self::moment::{Draw, Moment};
pub use self::names::{BlobId, Cursor, DocumentId, ItemId, Place, SessionId};
