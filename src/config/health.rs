//! `[health]`: from where on something is amiss.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::build::{POSITIVE_COUNT, POSITIVE_DURATION, seconds};
use super::reader::Section;
use crate::engine::health::Thresholds;

/// Bytes: a free disk of more than a PiB is a slip.
const FREE_DISK_BYTES: RangeInclusive<u64> = 0..=1 << 50;

/// One check must end while the watchdog still waits.
const CHECK_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);

/// Thresholds, and how long a check may take.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthSettings {
    pub thresholds: Thresholds,
    pub timeout: Duration,
}

/// Reads `[health]`.
pub(super) fn read_health(table: &mut Section<'_, '_>) -> HealthSettings {
    let usual = Thresholds::DEFAULT;
    let failures = usual.connection_failures;
    let thresholds = Thresholds {
        restarts: table.count("restarts", usual.restarts, POSITIVE_COUNT),
        heartbeat: table.duration("heartbeat", usual.heartbeat, POSITIVE_DURATION),
        success_rate: table.share("success_rate", usual.success_rate),
        connection_failures: table.count("connection_failures", failures, POSITIVE_COUNT),
        proxies: table.count("proxies", usual.proxies, POSITIVE_COUNT),
        cpu: table.share("cpu", usual.cpu),
        memory: table.share("memory", usual.memory),
        disk_warning: table.share("disk_warning", usual.disk_warning),
        disk_critical: table.share("disk_critical", usual.disk_critical),
        disk_free_bytes: table.size("disk_free", usual.disk_free_bytes, FREE_DISK_BYTES),
        inodes: table.share("inodes", usual.inodes),
        journal_errors: table.count("journal_errors", usual.journal_errors, POSITIVE_COUNT),
        journal_window: table.duration("journal_window", usual.journal_window, POSITIVE_DURATION),
    };
    if thresholds.disk_warning > thresholds.disk_critical {
        let what = format!(
            "`{}` is larger than `{}`; lower the one or raise the other",
            table.key("disk_warning"),
            table.key("disk_critical")
        );
        table.refuse_written(&["disk_warning", "disk_critical"], what);
    }
    HealthSettings { thresholds, timeout: table.duration("timeout", seconds(10), CHECK_TIMEOUT) }
}
