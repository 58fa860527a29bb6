//! Speaks to systemd: tells it how the service is, and keeps account of the restarts asked for.

mod notify;
mod own;
mod restarts;

pub use self::notify::{Notifier, Word, watchdog_interval};
pub use self::own::own_unit;
pub use self::restarts::{RESTARTS_FILE, RestartsFile};
