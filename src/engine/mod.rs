//! Decisions, and nothing else.
//!
//! Nothing in this folder reads a clock, a file, a socket, the environment or a
//! random number, and nothing is logged. Whatever it needs arrives as an argument;
//! whatever it wants done leaves as a value. `tests/tidy.rs` keeps it that way.

mod classify;
mod failure;
mod moment;
mod names;
pub mod retry_after;

pub use self::classify::{Answer, Said, table};
pub use self::failure::{Cause, Failure, Kind, Scope, Verdict, printable};
pub use self::moment::{Draw, Moment};
pub use self::names::{BlobId, Cursor, DocumentId, ItemId, Place, SessionId};
