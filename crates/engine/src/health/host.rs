//! Checks of proxies, host, archives and journals.

use crate::health::{
    CheckKind, CollectResult, DiskThresholds, DiskUsage, Finding, HealthInputs, HealthLevel,
    JournalErrors, ProxyPoolStatus, Thresholds, or_healthy,
};
use crate::text::format_percent;
use crate::{format_bytes, format_duration, number_with_noun, sanitize_line};

/// Checks the proxy pool; no check without a pool, or if no running worker uses it.
pub(super) fn check_proxies(
    pool: Option<&CollectResult<Option<ProxyPoolStatus>>>,
    thresholds: &Thresholds,
) -> Vec<Finding> {
    let pool = match pool {
        None | Some(Ok(None)) => return Vec::new(),
        Some(Ok(Some(pool))) => *pool,
        Some(Err(reason)) => return vec![Finding::unknown(CheckKind::Proxies, reason)],
    };
    let ProxyPoolStatus { total, healthy, failing, dead, cooling_down, mean_latency } = pool;
    // A pool smaller than the threshold is healthy if all its proxies are.
    let healthy_min = thresholds.proxies.min(total).max(1);
    let latency = mean_latency.map(|mean| format!(", mean latency {}", format_duration(mean)));
    let latency = latency.unwrap_or_default();
    let value = format!("{healthy} of {total}");
    let threshold = format!("fewer than {healthy_min}");
    let message = format!(
        "{healthy} of {total} healthy, {failing} failing, {dead} dead ({cooling_down} in cooldown){latency}"
    );
    let finding = if healthy == 0 {
        Finding::new(CheckKind::Proxies, "none_healthy", HealthLevel::Critical, message)
    } else if healthy < healthy_min {
        Finding::new(CheckKind::Proxies, "too_few_healthy", HealthLevel::Critical, message)
    } else {
        Finding::new(CheckKind::Proxies, "enough", HealthLevel::Healthy, message)
    };
    let finding = finding.with_measurement(value, threshold);
    vec![if healthy < healthy_min {
        finding
            .with_advice("see which fail: `cynosure doctor`; repair them, or change `proxy.pool`")
    } else {
        finding
    }]
}

/// Checks processor, memory, and each disk that is written to. A disk that cannot be measured
/// hides no other.
pub(super) fn check_system(inputs: &HealthInputs, thresholds: &Thresholds) -> Vec<Finding> {
    let unmeasured = inputs.unmeasured_folders.iter();
    let unmeasured = unmeasured
        .map(|(folder, reason)| Finding::unknown(CheckKind::System, reason).with_subject(folder));
    let system = match &inputs.system {
        Ok(system) => system,
        Err(reason) => {
            return std::iter::once(Finding::unknown(CheckKind::System, reason))
                .chain(unmeasured)
                .collect();
        }
    };
    let cpu = check_usage("processor", system.cpu_ratio, thresholds.cpu, "cpu_busy");
    let memory = check_usage("memory", system.memory_ratio, thresholds.memory, "memory_low");
    let mut findings = vec![cpu, memory];
    findings.extend(system.disks.iter().flat_map(|disk| check_disk(disk, &thresholds.disk)));
    findings.extend(unmeasured);
    findings
}

/// Returns a check for each archive that its source cannot use; none if all are usable.
pub(super) fn check_archives(inputs: &HealthInputs) -> Vec<Finding> {
    let finding = |(source, reason): &(String, String)| {
        Finding::new(
            CheckKind::System,
            "archive_mismatch",
            HealthLevel::Critical,
            sanitize_line(reason),
        )
        .with_subject(format!("archive of {source}"))
        .with_advice("mount it, or do what the message says; nothing is written until then")
    };
    inputs.archive_mismatches.iter().map(finding).collect()
}

fn check_usage(subject: &str, used: Option<f64>, limit: f64, kind: &str) -> Finding {
    let Some(used) = used else {
        let reason = "the kernel does not report the usage";
        return Finding::unknown(CheckKind::System, reason).with_subject(subject);
    };
    let finding = if used > limit {
        Finding::new(CheckKind::System, kind, HealthLevel::Warning, "nearly all of it is used")
            .with_advice("see what uses it: `top`")
    } else {
        Finding::new(CheckKind::System, "enough", HealthLevel::Healthy, "there is enough")
    };
    let value = format!("{} used", format_percent(used));
    finding
        .with_subject(subject)
        .with_measurement(value, format!("more than {}", format_percent(limit)))
}

fn check_disk(disk: &DiskUsage, thresholds: &DiskThresholds) -> Vec<Finding> {
    let advice = "make room, or move `archive.dir` to a larger disk";
    let value =
        format!("{} used, {} free", format_percent(disk.used_ratio), format_bytes(disk.free_bytes));
    let (critical, warning) = (thresholds.critical, thresholds.warning);
    let critical_threshold = format!(
        "more than {}, or less than {} free",
        format_percent(critical),
        format_bytes(thresholds.free_bytes)
    );
    let new = |kind, level, message: &str| {
        Finding::new(CheckKind::System, kind, level, message).with_subject(&disk.path)
    };
    let finding = if disk.used_ratio > critical || disk.free_bytes < thresholds.free_bytes {
        new("disk_full", HealthLevel::Critical, "its disk is nearly full")
            .with_measurement(value, critical_threshold)
            .with_advice(advice)
    } else if disk.used_ratio > warning {
        new("disk_full", HealthLevel::Warning, "its disk is filling up")
            .with_measurement(value, format!("more than {}", format_percent(warning)))
            .with_advice(advice)
    } else {
        new("enough", HealthLevel::Healthy, "its disk has room")
            .with_measurement(value, format!("more than {}", format_percent(warning)))
    };
    let inodes = disk.inode_ratio.filter(|used| *used > thresholds.inodes).map(|used| {
        new("inodes_low", HealthLevel::Critical, "its disk can hold few more files")
            .with_measurement(
                format!("{} of its inodes used", format_percent(used)),
                format!("more than {}", format_percent(thresholds.inodes)),
            )
            .with_advice("remove small files, or make a filesystem with more inodes")
    });
    std::iter::once(finding).chain(inodes).collect()
}

/// Checks the recent journal errors of each unit; no check without a unit.
pub(super) fn check_journal(inputs: &HealthInputs, thresholds: &Thresholds) -> Vec<Finding> {
    let units = match &inputs.journal_errors {
        None => return Vec::new(),
        Some(Ok(units)) => units,
        Some(Err(reason)) => {
            return vec![Finding::unknown(CheckKind::Journal, reason).with_subject(&inputs.unit)];
        }
    };
    let reaches_threshold = |journal: &&JournalErrors| journal.count >= thresholds.journal_errors;
    let failing =
        units.iter().filter(reaches_threshold).map(|JournalErrors { unit, count, newest }| {
            let newest =
                newest.as_deref().map(|text| format!(", the last: {}", sanitize_line(text)));
            let message = format!("errors in its journal{}", newest.unwrap_or_default());
            Finding::new(CheckKind::Journal, "errors", HealthLevel::Warning, message)
                .with_subject(unit)
                .with_measurement(errors_in_window(*count, thresholds), error_threshold(thresholds))
                .with_advice(format!("read them: `journalctl -u {unit} -p err -n 50`"))
        });
    or_healthy(failing.collect(), || {
        let message = "few or no errors in its journal";
        let most = units.iter().max_by_key(|journal| journal.count);
        let (unit, count) =
            most.map_or((&inputs.unit, 0), |journal| (&journal.unit, journal.count));
        Finding::new(CheckKind::Journal, "quiet", HealthLevel::Healthy, message)
            .with_subject(unit)
            .with_measurement(errors_in_window(count, thresholds), error_threshold(thresholds))
    })
}

fn errors_in_window(count: u32, thresholds: &Thresholds) -> String {
    let errors = number_with_noun(count.into(), "error");
    format!("{errors} in {}", format_duration(thresholds.journal_window))
}

fn error_threshold(thresholds: &Thresholds) -> String {
    format!("{} or more", thresholds.journal_errors)
}
