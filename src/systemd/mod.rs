//! Speaks to systemd, which may be absent, deny what is asked, or never answer.
//!
//! What goes over the bus blocks, for as long as the [`Bus`] was told at most, and needs no runtime
//! of the caller: it also works from a thread of its own beside a runtime that is stuck.

mod bus;
mod error;
mod machine;
mod notify;
mod own;
mod restarts;
mod unit;

pub use self::bus::{Bus, SYSTEM_BUS};
pub use self::error::{BusError, BusTrouble};
pub use self::machine::Permission;
pub use self::notify::{Notifier, Word, watchdog_interval};
pub use self::own::own_unit;
pub use self::restarts::{RESTARTS_FILE, RestartsFile};
pub use self::unit::{NotAUnit, UnitName};
