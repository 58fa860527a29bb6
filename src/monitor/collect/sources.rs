//! Data that the workers wrote: metrics, breakers and restarts, joined with the states.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cynosure_engine::breaker::BreakerState;
use cynosure_engine::health::watch::WorkerStatus;
use cynosure_engine::health::{
    BreakerObservation, CheckKind, CollectResult, CounterObservation, Finding, ProxyPoolStatus,
    SourceObservation, findings_by_unit,
};
use cynosure_engine::metrics::{Histogram, ProxyMetrics, SourceMetrics};
use cynosure_engine::{Failure, Timestamp};

use crate::monitor::collect::config::{CollectConfig, SourceIdentity};
use crate::monitor::status_collector::{SourceStates, worker_status};
use crate::state::{MetricsFile, SourceState, StateFolder};
use crate::systemd::RestartBudgetFile;

/// Data of all sources.
pub(super) struct SourceData {
    pub sources: Vec<SourceObservation>,
    /// Reason why nothing was collected.
    pub uncollected_reason: Option<String>,
    pub breakers: CollectResult<Vec<BreakerObservation>>,
    pub crash_loops: CollectResult<Vec<(String, u32)>>,
    pub proxy_pool: Option<CollectResult<Option<ProxyPoolStatus>>>,
}

/// Units that were found, with the sources of each.
pub(super) type SourcesByUnit = BTreeMap<String, BTreeSet<String>>;

/// Files of one source.
struct SourceFiles<'a> {
    state: &'a SourceState,
    /// `None` before anything was counted.
    metrics: CollectResult<Option<SourceMetrics>>,
}

impl SourceData {
    /// Returns data in which everything is unknown for the given reason.
    pub(super) fn unknown(config: &CollectConfig, reason: &str) -> Self {
        let sources = config
            .sources
            .iter()
            .map(|source| to_source_observation(source, None, Err(reason.to_owned())));
        Self {
            sources: sources.collect(),
            uncollected_reason: Some(reason.to_owned()),
            breakers: Err(reason.to_owned()),
            crash_loops: Err(reason.to_owned()),
            proxy_pool: config.has_proxy_pool.then(|| Err(reason.to_owned())),
        }
    }
}

/// Groups the sources by the unit that runs them, according to the findings.
pub(super) fn group_sources_by_unit(unit: &str, findings: &[Finding]) -> SourcesByUnit {
    // The restarts of the shared unit count even if the unit is not found.
    let mut units = SourcesByUnit::from([(unit.to_owned(), BTreeSet::new())]);
    for (unit, finding) in findings_by_unit(unit, findings) {
        let sources = units.entry(unit.to_owned()).or_default();
        if finding.check == CheckKind::Execution {
            sources.insert(finding.subject.clone());
        }
    }
    units
}

/// Reads all files and changes nothing.
pub(super) fn collect_sources(
    config: &CollectConfig,
    states: &SourceStates,
    units: &SourcesByUnit,
    now: Timestamp,
) -> SourceData {
    let folder = StateFolder::new(&config.state_dir);
    let read_files = |source: &SourceIdentity| SourceFiles {
        state: states.get(&source.name).unwrap_or(&SourceState::NeverRun),
        metrics: read_metrics(&folder, &source.name),
    };
    let files: Vec<SourceFiles<'_>> = config.sources.iter().map(read_files).collect();
    let recent_latencies = latencies_by_provider(config, &files, now);
    let sources = config.sources.iter().zip(&files).map(|(source, files)| {
        let recent_latency = recent_latencies.get(source.provider.as_str());
        let metrics = files.metrics.as_ref().map_err(String::clone);
        let counters = metrics.map(|metrics| {
            metrics.as_ref().map(|metrics| to_counter_observation(metrics, recent_latency))
        });
        to_source_observation(source, to_worker_status(files.state), counters)
    });
    SourceData {
        sources: sources.collect(),
        uncollected_reason: None,
        breakers: collect_breakers(&folder),
        crash_loops: find_crash_loops(config, units, &files),
        proxy_pool: collect_proxy_pool(config, &files),
    }
}

fn read_metrics(folder: &StateFolder, source: &str) -> CollectResult<Option<SourceMetrics>> {
    let folder = folder.source(source);
    match folder.read_metrics() {
        MetricsFile::Absent => Ok(None),
        MetricsFile::Read(metrics) => Ok(Some(*metrics)),
        MetricsFile::Unusable { reason } => Err(unreadable_reason(&folder.metrics_file(), &reason)),
    }
}

fn unreadable_reason(path: &Path, reason: &str) -> String {
    format!("{} cannot be read: {reason}", path.display())
}

fn to_source_observation(
    source: &SourceIdentity,
    state: Option<WorkerStatus>,
    counters: CollectResult<Option<CounterObservation>>,
) -> SourceObservation {
    let SourceIdentity { name, provider } = source.clone();
    SourceObservation { name, provider, state, counters }
}

/// Returns the status in a readable state file. An unreadable one has a finding already.
fn to_worker_status(source_state: &SourceState) -> Option<WorkerStatus> {
    match source_state {
        SourceState::Read(state, process) => Some(worker_status(state, *process)),
        SourceState::NeverRun | SourceState::Unreadable(_) => None,
    }
}

fn to_counter_observation(
    metrics: &SourceMetrics,
    recent_latency: Option<&Histogram>,
) -> CounterObservation {
    CounterObservation {
        attempts: metrics.recent_outcomes.count(),
        success_rate: metrics.success_rate(),
        connection_failures: metrics.connection.consecutive_failures,
        reconnects: metrics.connection.reconnects,
        p95_latency: recent_latency.and_then(|latency| latency.quantile(0.95)),
        sessions_completed: metrics.lifecycle.sessions_completed,
    }
}

/// Merges the latencies of the requests of the last minutes, by provider.
fn latencies_by_provider<'a>(
    config: &'a CollectConfig,
    files: &[SourceFiles<'_>],
    now: Timestamp,
) -> BTreeMap<&'a str, Histogram> {
    let mut latencies: BTreeMap<&str, Histogram> = BTreeMap::new();
    for (source, files) in config.sources.iter().zip(files) {
        if let Ok(Some(metrics)) = &files.metrics {
            let latency = latencies.entry(&source.provider).or_default();
            latency.merge(&metrics.requests.recent_latency.merged(now));
        }
    }
    latencies
}

fn collect_breakers(folder: &StateFolder) -> CollectResult<Vec<BreakerObservation>> {
    let file = folder.breakers_file();
    let breakers = flatten_read(file.path(), file.read())?;
    let observations = breakers.into_iter().map(|(name, breaker)| BreakerObservation {
        name,
        open_periods: breaker.open_periods(),
        state: BreakerState::from_name(&breaker.state).unwrap_or(BreakerState::Closed),
        reason: breaker.last_transition.map(|transition| transition.reason).unwrap_or_default(),
    });
    Ok(observations.collect())
}

fn flatten_read<T>(path: &Path, read: Result<Result<T, String>, Failure>) -> CollectResult<T> {
    read.map_err(|failure| failure.message)?.map_err(|reason| unreadable_reason(path, &reason))
}

/// Returns the crash loops of units and of sources that are still configured. The progress of a
/// unit is the latest progress of its sources, or of all sources if none belongs to it.
fn find_crash_loops(
    config: &CollectConfig,
    units: &SourcesByUnit,
    files: &[SourceFiles<'_>],
) -> CollectResult<Vec<(String, u32)>> {
    let file = RestartBudgetFile::new(&config.state_dir);
    let budgets = flatten_read(file.path(), file.read())?;
    let progress = |files: &SourceFiles<'_>| Some(files.state.execution_state()?.last_progress);
    let sources = config.sources.iter().zip(files);
    let source_progress: Vec<(&str, Option<Timestamp>)> =
        sources.map(|(source, files)| (source.name.as_str(), progress(files))).collect();
    let unit_progress = units.iter().map(|(unit, sources)| {
        let belongs_to_unit = |name: &str| sources.is_empty() || sources.contains(name);
        let of_unit = source_progress.iter().filter(|(name, _)| belongs_to_unit(name));
        (unit.as_str(), of_unit.filter_map(|(_, progress)| *progress).max())
    });
    let all_progress = source_progress.iter().copied().chain(unit_progress);
    let crash_loops = all_progress.filter_map(|(name, progress)| {
        let budget = budgets.get(name)?;
        let is_looping = budget.is_crash_looping(progress.unwrap_or_default());
        is_looping.then(|| (name.to_owned(), budget.consecutive_restarts))
    });
    Ok(crash_loops.collect())
}

/// Returns the proxy pool with the fewest healthy proxies among the running workers. Metrics of a
/// stopped worker say nothing about the current state of the proxies.
fn collect_proxy_pool(
    config: &CollectConfig,
    files: &[SourceFiles<'_>],
) -> Option<CollectResult<Option<ProxyPoolStatus>>> {
    let running = || files.iter().filter(|files| files.state.is_running());
    if !config.has_proxy_pool {
        return None;
    }
    if running().next().is_none() {
        return Some(Ok(None));
    }
    let reported = running().filter_map(|files| files.metrics.as_ref().ok()?.as_ref()?.proxies);
    let worst = reported.min_by_key(|proxies| proxies.healthy).map(to_proxy_pool_status);
    Some(worst.map(Some).ok_or_else(|| "no worker has reported its proxies yet".to_owned()))
}

fn to_proxy_pool_status(metrics: ProxyMetrics) -> ProxyPoolStatus {
    ProxyPoolStatus {
        total: metrics.total(),
        healthy: metrics.healthy,
        failing: metrics.failing,
        dead: metrics.dead,
        cooling_down: metrics.cooling_down,
        mean_latency: metrics.mean_latency_millis.map(std::time::Duration::from_millis),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;
    use crate::disk::RealDisk;
    use crate::state::save_metrics;
    use cynosure_engine::health::HealthLevel;

    const NOW: Timestamp = Timestamp(1_772_874_303_000);
    const UNIT: &str = "cynosure.service";
    const INSTANCE: &str = "cynosure@work.service";

    fn collect_config(state_dir: PathBuf) -> CollectConfig {
        let source =
            |name: &str| SourceIdentity { name: name.to_owned(), provider: "example".to_owned() };
        CollectConfig {
            archive_dir: state_dir.clone(),
            state_dir,
            sources: vec![source("home"), source("work")],
            archive_mismatch: |_, _, _| None,
            unit: UNIT.to_owned(),
            has_proxy_pool: true,
            journal_window: Duration::from_secs(900),
            timeout: Duration::from_secs(10),
        }
    }

    fn sample_findings() -> Vec<Finding> {
        let finding = |check, kind, name: &str| {
            Finding::new(check, kind, HealthLevel::Healthy, "").with_subject(name)
        };
        let unit = |name: &str| finding(CheckKind::Service, "unit_transitioning", name);
        let source = |name: &str| finding(CheckKind::Execution, "never_run", name);
        vec![unit(UNIT), source("home"), unit(INSTANCE), source("work")]
    }

    #[test]
    fn restarts_are_read_for_every_unit_found() {
        let home = tempfile::tempdir().unwrap();
        let file = RestartBudgetFile::new(home.path());
        for _ in 0..9 {
            file.request_restart(INSTANCE, Timestamp(0), NOW).unwrap();
        }

        let units = group_sources_by_unit(UNIT, &sample_findings());
        let config = collect_config(home.path().to_owned());
        let data = collect_sources(&config, &SourceStates::new(), &units, NOW);

        assert_eq!(data.crash_loops, Ok(vec![(INSTANCE.to_owned(), 9)]));
        assert_eq!(units[INSTANCE], ["work".to_owned()].into());
    }

    #[test]
    fn unreadable_files_are_errors_and_absent_ones_are_empty() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path();
        let collect = || {
            collect_sources(
                &collect_config(dir.to_owned()),
                &SourceStates::new(),
                &group_sources_by_unit(UNIT, &sample_findings()),
                NOW,
            )
        };
        let before = collect();
        assert!(before.sources.iter().all(|source| matches!(source.counters, Ok(None))));
        assert_eq!((before.crash_loops, before.breakers.unwrap().len()), (Ok(Vec::new()), 0));
        assert!(matches!(before.proxy_pool, Some(Ok(None))), "no worker is running");

        for name in ["home", "work"] {
            fs_err::create_dir(dir.join(name)).unwrap();
        }
        let metrics_file = |name| StateFolder::new(dir).source(name).metrics_file();
        fs_err::write(metrics_file("home"), "{\"schema\":").unwrap();
        let path = metrics_file("work");
        save_metrics(&RealDisk, &path, &SourceMetrics::default(), NOW).unwrap();
        let breakers_file = StateFolder::new(dir).breakers_file();
        for file in [breakers_file.path(), RestartBudgetFile::new(dir).path()] {
            fs_err::write(file, "rot").unwrap();
        }
        let after = collect();

        let [unreadable, readable] = &after.sources[..] else { panic!("two sources") };
        let reason = unreadable.counters.as_ref().unwrap_err();
        assert!(reason.contains("figures.json cannot be read: EOF"), "{reason}");
        assert!(readable.known_counters().is_some());
        assert!(after.crash_loops.unwrap_err().contains("restarts.json cannot be read: expected"));
        assert!(after.breakers.unwrap_err().contains("breakers.json cannot be read: expected"));
    }
}
