//! Speaks to systemd, which may be absent, deny what is asked, or never answer.
//!
//! What goes over the bus blocks, for as long as the [`Bus`] was told at most, and needs no runtime
//! of the caller: it also works from a thread of its own beside a runtime that is stuck.

mod bus;
mod error;
mod host;
mod notify;
mod own_unit;
mod restart_budget;
mod unit;

pub use self::bus::{Bus, SYSTEM_BUS};
pub use self::error::{BusError, BusErrorKind};
pub use self::host::RestartPermission;
pub use self::notify::{Notifier, NotifyState, watchdog_interval};
pub use self::own_unit::own_unit;
pub use self::restart_budget::{RESTARTS_FILE, RestartBudgetFile};
pub use self::unit::{InvalidUnitName, UnitName};
