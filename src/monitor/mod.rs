//! Watches the workers from outside: looks, judges, and has systemd start anew what no longer helps itself.
//!
//! ```text
//! state files, unit ──▶ Lookout ──▶ engine::watch ──findings──▶ Monitor ──▶ systemd, monitor.json
//! ```
//!
//! It changes nothing of a worker's: it reads state files as anyone does, and what it did itself it
//! writes into a file of its own. A round ends within the time limits of its calls over the bus, so
//! that it can be fed to a watchdog.

mod gather;
mod health;
mod kept;
mod look;
mod lookout;
mod measure;
mod post;
mod postman;
mod record;
mod round;
mod trends;

pub use self::gather::{Gatherers, Named, Scope};
pub use self::health::{ALERTS_FILE, DEGRADATION_FILE, HEALTH_FILE, Health, HealthFiles};
pub use self::kept::Kept;
pub use self::look::{Look, Seen};
pub use self::lookout::Lookout;
pub use self::measure::measure;
pub use self::post::{OUTBOX_FILE, Post, Tried, host_name};
pub use self::postman::Postman;
pub use self::record::{Count, Entry, MONITOR_FILE, Outcome, Record, RecordFile, Restarted};
pub use self::round::{Act, Judged, Monitor, Permit, Powers, Round};
pub use self::trends::{
    DAY_STEP, DAY_STEPS, Days, Measured, NAMES_MAX, TRENDS_FILE, TrendsFile, add,
};

#[cfg(test)]
mod frozen;
