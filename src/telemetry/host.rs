//! Metrics of the program, its units, its health and the host.

use cynosure_engine::alert::Severity;
use cynosure_engine::health::{CheckKind, Finding, HealthCheckReport, HealthLevel, HostMetrics};

use crate::telemetry::{MetricFamily, MetricValue, MetricsSnapshot, UnitSnapshot};

pub(super) fn families(input: &MetricsSnapshot) -> Vec<MetricFamily> {
    let mut build =
        MetricFamily::gauge("cynosure_build_info", "Always 1; the label is the running version.");
    build.push(&[("version", input.version)], 1.0.into());
    let mut families = vec![build, alerts(input)];
    families.extend(input.report.iter().flat_map(health));
    families.extend(units(&input.units));
    families.extend(input.system.iter().flat_map(system));
    families
}

fn alerts(input: &MetricsSnapshot) -> MetricFamily {
    let mut active = MetricFamily::gauge("cynosure_alerts_active", "Firing alerts, by severity.");
    for severity in [Severity::Info, Severity::Warning, Severity::Critical] {
        let counts = input.alerts.iter().filter(|count| count.severity == severity);
        let count = counts.fold(0_u64, |sum, count| sum.saturating_add(count.active));
        active.push(&[("severity", severity.name())], count.into());
    }
    active
}

fn health(report: &HealthCheckReport) -> [MetricFamily; 3] {
    let labels = || HealthLevel::ALL.into_iter().map(level_label);
    let mut overall = MetricFamily::gauge(
        "cynosure_health_level",
        "1 for the worst level of all checks, 0 for the other levels.",
    );
    overall.push_state_set(&[], "level", labels(), level_label(report.level));
    let mut level = MetricFamily::gauge(
        "cynosure_health_check_level",
        "1 for the worst level of a kind of check, 0 for the other levels.",
    );
    for check in CheckKind::ALL {
        let of_check = |finding: &&Finding| finding.check == check;
        let levels = report.findings.iter().filter(of_check).map(|finding| finding.level);
        let Some(worst) = levels.max() else {
            continue;
        };
        level.push_state_set(&[("check", check.name())], "level", labels(), level_label(worst));
    }
    let mut checked_at = MetricFamily::gauge(
        "cynosure_health_looked_timestamp_seconds",
        "Unix time of the last health evaluation.",
    );
    checked_at.push(&[], report.checked_at.into());
    [overall, level, checked_at]
}

fn units(units: &[UnitSnapshot]) -> [MetricFamily; 2] {
    let mut active =
        MetricFamily::gauge("cynosure_unit_active", "1 if a worker unit is active, 0 otherwise.");
    let mut restarts = MetricFamily::counter(
        "cynosure_unit_restarts_total",
        "Starts of a unit by systemd since its last manual start.",
    );
    for unit in units {
        let labels = [("unit", unit.name.as_str())];
        active.push(&labels, unit.is_active.into());
        unit.restarts.into_iter().for_each(|count| restarts.push(&labels, count.into()));
    }
    [active, restarts]
}

fn system(system: &HostMetrics) -> Vec<MetricFamily> {
    let optional_gauge = |name, help, value: Option<f64>| {
        let mut family = MetricFamily::gauge(name, help);
        value.into_iter().for_each(|value| family.push(&[], value.into()));
        family
    };
    let mut used = MetricFamily::gauge(
        "cynosure_disk_usage_ratio",
        "Used share of a filesystem that is written to.",
    );
    let mut free = MetricFamily::gauge(
        "cynosure_disk_free_bytes",
        "Free bytes of a filesystem that is written to.",
    );
    let mut inodes = MetricFamily::gauge(
        "cynosure_disk_inode_usage_ratio",
        "Used share of the inodes of a filesystem that is written to.",
    );
    for disk in &system.disks {
        let path = [("path", disk.path.as_str())];
        used.push(&path, disk.used_ratio.into());
        free.push(&path, disk.free_bytes.into());
        disk.inode_ratio.into_iter().for_each(|ratio| inodes.push(&path, MetricValue::from(ratio)));
    }
    vec![
        optional_gauge(
            "cynosure_cpu_usage_ratio",
            "Used share of the CPU time of all processors.",
            system.cpu_ratio,
        ),
        optional_gauge(
            "cynosure_memory_usage_ratio",
            "Share of the memory of the host that is not available.",
            system.memory_ratio,
        ),
        used,
        free,
        inodes,
    ]
}

fn level_label(level: HealthLevel) -> &'static str {
    match level {
        HealthLevel::Skipped => "skipped",
        HealthLevel::Healthy => "healthy",
        HealthLevel::Warning => "warning",
        HealthLevel::Unknown => "unknown",
        HealthLevel::Critical => "critical",
    }
}
