//! `[health]`: from where on something is amiss.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::build::{AT_LEAST_ONE, SOME_TIME, seconds};
use super::reader::Section;

/// Bytes: a free disk of more than a PiB is a slip.
const DISK: RangeInclusive<u64> = 0..=1 << 50;

/// One check must end while the watchdog still waits.
const CHECK_TIME: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);

/// Thresholds, and how long a check may take. Shares are from 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// Starts by systemd within ten minutes.
    pub restarts: u32,
    /// Beyond `restart.max_execution_time`.
    pub heartbeat: Duration,
    pub success_rate: f64,
    pub connection_failures: u32,
    pub proxies: u32,
    pub cpu: f64,
    pub memory: f64,
    /// Never larger than `disk_critical`.
    pub disk_warning: f64,
    pub disk_critical: f64,
    /// Bytes.
    pub disk_free: u64,
    pub inodes: f64,
    pub journal_errors: u32,
    pub journal_window: Duration,
    pub timeout: Duration,
}

/// Reads `[health]`.
pub(super) fn health(table: &mut Section<'_, '_>) -> Health {
    let health = Health {
        restarts: table.count("restarts", 5, AT_LEAST_ONE),
        heartbeat: table.duration("heartbeat", seconds(300), SOME_TIME),
        success_rate: table.share("success_rate", 0.3),
        connection_failures: table.count("connection_failures", 3, AT_LEAST_ONE),
        proxies: table.count("proxies", 3, AT_LEAST_ONE),
        cpu: table.share("cpu", 0.95),
        memory: table.share("memory", 0.9),
        disk_warning: table.share("disk_warning", 0.8),
        disk_critical: table.share("disk_critical", 0.9),
        disk_free: table.size("disk_free", 2_000_000_000, DISK),
        inodes: table.share("inodes", 0.9),
        journal_errors: table.count("journal_errors", 10, AT_LEAST_ONE),
        journal_window: table.duration("journal_window", seconds(900), SOME_TIME),
        timeout: table.duration("timeout", seconds(10), CHECK_TIME),
    };
    if health.disk_warning > health.disk_critical {
        let what = format!(
            "`{}` is larger than `{}`; lower the one or raise the other",
            table.key("disk_warning"),
            table.key("disk_critical")
        );
        table.refuse_written(&["disk_warning", "disk_critical"], what);
    }
    health
}
