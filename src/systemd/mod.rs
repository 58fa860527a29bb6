//! Client of systemd, which may be absent, deny a request, or never respond.
//!
//! A call over the bus blocks for at most the time that the [`Bus`] allows, and needs no runtime of
//! the caller. It therefore also works on a separate thread beside a runtime that hangs.

mod bus;
mod error;
mod host;
mod notify;
mod own_unit;
mod restart_budget;
mod unit;
mod unit_files;

pub use self::bus::{Bus, SYSTEM_BUS};
pub use self::error::{BusError, BusErrorKind};
pub use self::host::RestartPermission;
pub use self::notify::{Notifier, NotifyState, watchdog_interval};
pub use self::own_unit::own_unit;
pub use self::restart_budget::{RESTARTS_FILE, RestartBudgetFile};
pub use self::unit::{InvalidUnitName, UnitName};
pub use self::unit_files::{
    GeneratedFile, ManagerScope, UnitFileOptions, WorkerUnitPaths, generate_polkit_rule,
    generate_unit_files, is_generated_text, monitor_unit_file, polkit_rule_file, worker_unit_file,
};
