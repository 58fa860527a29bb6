//! Watches the workers from outside: looks, judges, and has systemd start anew what no longer helps itself.
//!
//! ```text
//! state files, unit ──▶ Lookout ──▶ engine::watch ──findings──▶ Monitor ──▶ systemd, monitor.json
//! ```
//!
//! It changes nothing of a worker's: it reads state files as anyone does, and what it did itself it
//! writes into a file of its own. A round ends within the time limits of its calls over the bus, so
//! that it can be fed to a watchdog.

mod lookout;
mod record;
mod round;

pub use self::lookout::Lookout;
pub use self::record::{Count, Entry, MONITOR_FILE, Outcome, Record, RecordFile, Restarted};
pub use self::round::{Act, Judged, Monitor, Permit, Powers, Round};
