//! Settings of `[health]`: thresholds of the health checks.

use std::ops::RangeInclusive;
use std::time::Duration;

use cynosure_engine::health::{DiskThresholds, Thresholds};

use super::ranges::{POSITIVE_COUNT, POSITIVE_DURATION, seconds};
use super::reader::Section;

/// Range of `health.disk_free`, in bytes. More than 1 PiB is a typo.
const DISK_FREE_RANGE: RangeInclusive<u64> = 0..=1 << 50;

/// Range of the time limit of one check. At most 60 s, so that a check ends before the watchdog's
/// deadline.
const CHECK_TIMEOUT_RANGE: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(60);

/// Thresholds of the health checks, and the time limit of one check.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthSettings {
    pub thresholds: Thresholds,
    pub timeout: Duration,
}

/// Reads `[health]`.
pub(super) fn read_health(table: &mut Section<'_, '_>) -> HealthSettings {
    let defaults = Thresholds::DEFAULT;
    let failures = defaults.connection_failures;
    let thresholds = Thresholds {
        restarts: table.count("restarts", defaults.restarts, POSITIVE_COUNT),
        heartbeat: table.duration("heartbeat", defaults.heartbeat, POSITIVE_DURATION),
        success_rate: table.share("success_rate", defaults.success_rate),
        connection_failures: table.count("connection_failures", failures, POSITIVE_COUNT),
        proxies: table.count("proxies", defaults.proxies, POSITIVE_COUNT),
        cpu: table.share("cpu", defaults.cpu),
        memory: table.share("memory", defaults.memory),
        disk: DiskThresholds {
            warning: table.share("disk_warning", defaults.disk.warning),
            critical: table.share("disk_critical", defaults.disk.critical),
            free_bytes: table.size("disk_free", defaults.disk.free_bytes, DISK_FREE_RANGE),
            inodes: table.share("inodes", defaults.disk.inodes),
        },
        journal_errors: table.count("journal_errors", defaults.journal_errors, POSITIVE_COUNT),
        journal_window: table.duration(
            "journal_window",
            defaults.journal_window,
            POSITIVE_DURATION,
        ),
    };
    if thresholds.disk.warning > thresholds.disk.critical {
        let message = format!(
            "`{}` is larger than `{}`; lower the one or raise the other",
            table.key("disk_warning"),
            table.key("disk_critical")
        );
        table.report_settings(&["disk_warning", "disk_critical"], message);
    }
    HealthSettings {
        thresholds,
        timeout: table.duration("timeout", seconds(10), CHECK_TIMEOUT_RANGE),
    }
}
