//! Decisions, and nothing else.
//!
//! Nothing in this folder reads a clock, a file, a socket, the environment or a
//! random number, and nothing is logged. Whatever it needs arrives as an argument;
//! whatever it wants done leaves as a value. `tests/tidy.rs` keeps it that way.

pub mod alert;
mod backoff;
pub mod breaker;
mod bridge;
mod budget;
mod classify;
mod clock;
mod concurrency;
pub mod degradation;
mod failure;
pub mod figures;
pub mod health;
mod item;
mod judge;
mod liveness;
mod machine;
mod mask;
mod moment;
mod names;
mod printable;
mod proxy;
pub mod quota;
mod reply;
mod restart;
pub mod retry_after;
mod rules;
mod size;
mod span;
mod strikes;
mod successes;
pub mod trend;
pub mod watch;

pub use self::backoff::{Backoff, TOLD_MARGIN, TOLD_SPREAD};
pub use self::bridge::{Bridge, BridgePolicy};
pub use self::budget::{BudgetMemory, BudgetPolicy, RetryBudget};
pub use self::classify::{Answer, Rule, Said};
pub use self::clock::{ClockStep, Time};
pub use self::concurrency::{Concurrency, ConcurrencyMemory, Health, Taken};
pub use self::failure::{Cause, Failure, Kind, Scope, Verdict};
pub use self::item::{ItemPolicy, ItemStep, Recheck, Trial};
pub use self::judge::{Judgement, Matched, judge};
pub use self::liveness::{Clocks, Keep, Keeper, Overdue, Promise, overdue};
pub use self::machine::{
    Credential, Effect, Event, Extent, LastError, LastRestart, Machine, RestartCause, Rules,
    Session, State, Status, Step, Then, Work,
};
pub use self::mask::Secrets;
pub use self::moment::{Draw, Moment};
pub use self::names::{AccountId, BlobId, Cursor, DocumentId, ItemId, LedgerId, Place, SessionId};
pub use self::printable::{is_disruptive, printable, printable_lines};
pub use self::proxy::{Life, ProxyChange, ProxyHealth, ProxyNo, ProxyPolicy, ProxyPool};
pub use self::reply::{BODY_BYTES_KEPT, RecordedReply, is_secret_header};
pub use self::restart::{Grant, Looping, Restarts};
pub use self::rules::{
    BodyCondition, CLASSES, ErrorRule, HeaderCondition, HeaderTest, Reach, Scalar, ServerReply,
    StatusRange,
};
pub use self::size::size;
pub use self::span::span;
pub use self::strikes::Strikes;
pub use self::successes::Successes;
