//! Collects the metrics snapshot from the files of the state folder. An unreadable file yields no
//! metrics, because its worker or writer already reports the problem.

use std::path::Path;

use cynosure_engine::Timestamp;
use cynosure_engine::alert::{Alert, Severity};
use cynosure_engine::breaker::{BreakerState, PersistedBreaker};
use cynosure_engine::metrics::ItemTotals;

use crate::config::{Settings, SourceName, SourceSettings};
use crate::monitor::health_files::HealthFiles;
use crate::monitor::monitor_file::{FindingRecord, MonitorFile, MonitorRecord};
use crate::state::{BreakerStates, SourceFolder, SourceState, StateFolder};
use crate::telemetry::{
    AlertCount, BreakerSnapshot, MetricsSnapshot, RateLimitSnapshot, SourceSnapshot,
    SourceStateSnapshot, UnitSnapshot,
};

/// Reads all files. Blocks while a few small files are read.
#[must_use]
pub fn collect_metrics(settings: &Settings, state_dir: &Path, now: Timestamp) -> MetricsSnapshot {
    let files = HealthFiles::new(state_dir);
    let health = files.health.read().ok().flatten().and_then(Result::ok).unwrap_or_default();
    let alerts = files.alerts.read().ok().flatten().and_then(Result::ok).unwrap_or_default();
    let folder = StateFolder::new(state_dir);
    let enabled = settings.sources.iter().filter(|(_, source)| source.is_enabled);
    let breakers = folder.breakers_file().read().ok().and_then(Result::ok).unwrap_or_default();
    let limiters = folder.read_limiters().unwrap_or_default();
    let limiters = limiters.statuses(|provider| settings.rate_limit_policy(provider), now);
    MetricsSnapshot {
        taken_at: now,
        version: env!("CARGO_PKG_VERSION"),
        sources: enabled
            .map(|(name, source)| source_snapshot(&folder.source(name.as_str()), name, source))
            .collect(),
        providers: health.providers,
        breakers: breaker_snapshots(breakers),
        rate_limits: limiters
            .map(|(scope, status)| RateLimitSnapshot { scope: scope.to_string(), status })
            .collect(),
        alerts: count_alerts(alerts.all()),
        units: unit_snapshots(&MonitorFile::new(state_dir).read_or_default().unwrap_or_default()),
        report: health.report,
        system: health.system,
    }
}

fn source_snapshot(
    folder: &SourceFolder,
    name: &SourceName,
    settings: &SourceSettings,
) -> SourceSnapshot {
    let state = folder.read_state();
    let kind = state.execution_state().map(|state| state.kind.clone()).unwrap_or_default();
    SourceSnapshot {
        name: name.to_string(),
        provider: settings.provider.clone(),
        kind,
        state: state_snapshot(&state),
        metrics: folder.read_metrics().into_metrics().map(Box::new),
    }
}

fn state_snapshot(source_state: &SourceState) -> Option<SourceStateSnapshot> {
    let state = source_state.execution_state()?;
    Some(SourceStateSnapshot {
        status: state.status,
        state_since: state.state_since,
        until: state.state_until,
        last_progress: state.last_progress,
        last_updated: state.last_updated,
        is_running: source_state.is_running(),
        items: ItemTotals {
            listed: state.total_threads,
            stored: state.downloaded_threads,
            gone: state.gone,
            quarantined: state.quarantined,
        },
        waiting_for_retry: state.waiting_for_retry,
        items_per_second: state.rate_per_second,
        consecutive_errors: state.consecutive_errors,
    })
}

fn breaker_snapshots(breakers: BreakerStates) -> Vec<BreakerSnapshot> {
    let snapshot = |(name, breaker): (String, PersistedBreaker)| BreakerSnapshot {
        name,
        state: BreakerState::from_name(&breaker.state).unwrap_or(BreakerState::Closed),
        until: breaker.open_until.map(Timestamp),
        statistics: breaker.statistics,
    };
    breakers.into_iter().map(snapshot).collect()
}

fn count_alerts(alerts: &[Alert]) -> Vec<AlertCount> {
    let count = |severity| {
        let active = alerts.iter().filter(|alert| alert.is_firing() && alert.severity == severity);
        AlertCount { severity, active: u64::try_from(active.count()).unwrap_or(u64::MAX) }
    };
    [Severity::Info, Severity::Warning, Severity::Critical].map(count).into()
}

/// Returns the units as of the last monitor cycle: none before the first, and none without systemd.
fn unit_snapshots(record: &MonitorRecord) -> Vec<UnitSnapshot> {
    let snapshot = |entry: &FindingRecord| {
        let is_active = unit_is_active(&entry.finding)?;
        let counts = record.restart_counts.iter().filter(|count| count.unit == entry.subject);
        let restarts = counts.max_by_key(|count| count.at).map(|count| count.restarts.into());
        Some(UnitSnapshot { name: entry.subject.clone(), is_active, restarts })
    };
    record.findings.iter().filter_map(snapshot).collect()
}

/// Returns the unit state that a finding implies; `None` if it is about a source, or the state is
/// unknown.
fn unit_is_active(finding: &str) -> Option<bool> {
    match finding {
        "unit_running" | "unit_transitioning" | "crash_loop" => Some(true),
        "unit_not_loaded" | "unit_failed" | "unit_not_running" | "unit_stuck_transitioning" => {
            Some(false)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::monitor_file::RestartCountSample;
    use cynosure_engine::health::watch::{ActiveState, Diagnosis, LoadState};
    use std::time::Duration;

    const NOW: Timestamp = Timestamp(1_772_874_303_000);
    const UNIT: &str = "cynosure.service";

    fn finding_record(subject: &str, kind: &Diagnosis) -> FindingRecord {
        FindingRecord {
            level: "WARNING".to_owned(),
            subject: subject.to_owned(),
            finding: kind.name().to_owned(),
            message: kind.to_string(),
            value: None,
            advice: None,
        }
    }

    fn restart_count(unit: &str, restarts: u32) -> RestartCountSample {
        RestartCountSample { at: NOW, unit: unit.to_owned(), restarts }
    }

    fn snapshot_is_active(kind: &Diagnosis) -> Option<bool> {
        let findings =
            vec![finding_record(UNIT, kind), finding_record("work", &Diagnosis::NeverRun)];
        let record = MonitorRecord {
            findings,
            restart_counts: vec![restart_count(UNIT, 3)],
            ..MonitorRecord::default()
        };
        let units = unit_snapshots(&record);
        assert!(units.iter().all(|unit| unit.name == UNIT && unit.restarts == Some(3)));
        units.first().map(|unit| unit.is_active)
    }

    #[test]
    fn a_unit_is_active_according_to_its_finding() {
        let reason = || "reason".to_owned();
        let duration = Duration::from_secs(600);
        for (kind, is_active) in [
            (Diagnosis::UnitRunning { uptime: None, restarts: 3 }, Some(true)),
            (Diagnosis::UnitTransitioning, Some(true)),
            (Diagnosis::UnitNotRunning, Some(false)),
            (Diagnosis::UnitNotLoaded { load_state: LoadState::Masked }, Some(false)),
            (
                Diagnosis::UnitFailed { result: reason(), exit_status: 1, start_limit: None },
                Some(false),
            ),
            (
                Diagnosis::UnitStuckTransitioning {
                    active_state: ActiveState::Activating,
                    duration,
                },
                Some(false),
            ),
            (Diagnosis::UnitNotInstalled, None),
            (Diagnosis::NoSystemd { reason: reason() }, None),
            (Diagnosis::UnitStateUnknown { reason: reason(), advice: reason() }, None),
        ] {
            assert_eq!(snapshot_is_active(&kind), is_active, "{}", kind.name());
        }
    }

    #[test]
    fn each_unit_has_its_own_restart_count() {
        let instance = "cynosure@home.service";
        let running = Diagnosis::UnitRunning { uptime: None, restarts: 0 };
        let record = MonitorRecord {
            findings: vec![
                finding_record(UNIT, &Diagnosis::UnitNotRunning),
                finding_record(instance, &running),
            ],
            restart_counts: vec![restart_count(UNIT, 7), restart_count(instance, 1)],
            ..MonitorRecord::default()
        };

        let units = unit_snapshots(&record);

        let statuses: Vec<_> =
            units.iter().map(|unit| (unit.name.as_str(), unit.is_active, unit.restarts)).collect();
        assert_eq!(statuses, [(UNIT, false, Some(7)), (instance, true, Some(1))]);
    }

    #[test]
    fn no_units_before_the_first_cycle() {
        assert!(unit_snapshots(&MonitorRecord::default()).is_empty());
    }
}
