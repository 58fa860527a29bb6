//! Data that the workers wrote: states, metrics, breakers and restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::disk::{RealDisk, process_exists};
use crate::engine::breaker::BreakerState;
use crate::engine::health::{
    BreakerObservation, CollectResult, CounterObservation, ProxyPoolStatus, SourceObservation,
    StateObservation, findings_by_unit,
};
use crate::engine::metrics::{Histogram, ProxyMetrics, SourceMetrics};
use crate::engine::watch::{Finding, Subject};
use crate::engine::{Cause, Failure, Status, Timestamp};
use crate::monitor::collect::{CollectConfig, SourceIdentity};
use crate::state::{
    BreakersFile, ExecutionState, METRICS_FILE, MetricsFile, STATE_FILE, StateFile, read_metrics,
    read_state_file, running_worker_pid,
};
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
struct SourceFiles {
    state: Option<ExecutionState>,
    /// `None` before anything was counted.
    metrics: CollectResult<Option<SourceMetrics>>,
}

impl SourceData {
    /// Returns data in which everything is unknown for the reason `why`.
    pub(super) fn unknown(scope: &CollectConfig, why: &str) -> Self {
        let sources = scope
            .sources
            .iter()
            .map(|named| to_source_observation(named, None, Err(why.to_owned())));
        Self {
            sources: sources.collect(),
            uncollected_reason: Some(why.to_owned()),
            breakers: Err(why.to_owned()),
            crash_loops: Err(why.to_owned()),
            proxy_pool: scope.has_proxy_pool.then(|| Err(why.to_owned())),
        }
    }
}

/// Groups the sources by the unit that runs them, according to the findings of the watch.
pub(super) fn group_sources_by_unit(unit: &str, findings: &[Finding]) -> SourcesByUnit {
    // The restarts of the shared unit count even if the unit is not found.
    let mut units = SourcesByUnit::from([(unit.to_owned(), BTreeSet::new())]);
    for (unit, finding) in findings_by_unit(unit, findings) {
        let sources = units.entry(unit.to_owned()).or_default();
        if let Subject::Source(name) = &finding.subject {
            sources.insert(name.clone());
        }
    }
    units
}

/// Reads all files and changes nothing.
pub(super) fn collect_sources(
    scope: &CollectConfig,
    units: &SourcesByUnit,
    now: Timestamp,
) -> SourceData {
    let left: Vec<SourceFiles> =
        scope.sources.iter().map(|named| read_source_files(scope, named)).collect();
    let recent = recent_requests(scope, &left, now);
    let sources = scope.sources.iter().zip(&left).map(|(named, left)| {
        let recent = recent.get(named.provider.as_str());
        let figures = left.metrics.as_ref().map_err(String::clone);
        let counts = figures
            .map(|figures| figures.as_ref().map(|figures| to_counter_observation(figures, recent)));
        to_source_observation(named, left.state.as_ref(), counts)
    });
    SourceData {
        sources: sources.collect(),
        uncollected_reason: None,
        breakers: collect_breakers(scope),
        crash_loops: find_crash_loops(scope, units, &left),
        proxy_pool: collect_proxy_pool(scope, &left),
    }
}

fn read_source_files(scope: &CollectConfig, named: &SourceIdentity) -> SourceFiles {
    let dir = scope.state_dir.join(&named.name);
    let state = match read_state_file(&RealDisk, &dir.join(STATE_FILE)) {
        Ok(StateFile::Read(state)) => {
            Some(ExecutionState { pid: running_worker_pid(&dir, state.pid), ..*state })
        }
        // The watch reports the reason.
        Ok(StateFile::Absent | StateFile::Unreadable { .. } | StateFile::Newer { .. }) | Err(_) => {
            None
        }
    };
    let path = dir.join(METRICS_FILE);
    let figures = match read_metrics(&RealDisk, &path) {
        MetricsFile::Absent => Ok(None),
        MetricsFile::Read(figures) => Ok(Some(*figures)),
        MetricsFile::Unusable { reason: why } => Err(unreadable_reason(&path, &why)),
    };
    SourceFiles { state, metrics: figures }
}

fn unreadable_reason(path: &Path, why: &str) -> String {
    format!("{} cannot be read: {why}", path.display())
}

fn to_source_observation(
    named: &SourceIdentity,
    state: Option<&ExecutionState>,
    counts: CollectResult<Option<CounterObservation>>,
) -> SourceObservation {
    let SourceIdentity { name, provider } = named.clone();
    SourceObservation { name, provider, state: state.map(to_state_observation), counters: counts }
}

fn to_state_observation(state: &ExecutionState) -> StateObservation {
    let of_storage =
        |cause: &str| matches!(Cause::from_name(cause), Some(Cause::Storage | Cause::Ledger));
    let error = state.last_error.as_ref().filter(|error| of_storage(&error.cause));
    StateObservation {
        status: state.status,
        until: state.state_until,
        last_updated: state.last_updated,
        session_started_at: state.start_time.filter(|_| state.completion_time.is_none()),
        is_running: is_running(state),
        quarantined: state.quarantined,
        storage_error: error
            .filter(|_| state.status == Status::Error)
            .map(|error| error.message.clone()),
    }
}

fn is_running(state: &ExecutionState) -> bool {
    state.pid.is_some_and(process_exists)
}

fn to_counter_observation(
    figures: &SourceMetrics,
    recent: Option<&Histogram>,
) -> CounterObservation {
    CounterObservation {
        attempts: figures.recent_outcomes.count(),
        success_rate: figures.success_rate(),
        connection_failures: figures.connection.consecutive_failures,
        client_rebuilds: figures.connection.reconnects,
        p95_latency: recent.and_then(|recent| recent.quantile(0.95)),
        sessions_completed: figures.lifecycle.sessions_completed,
    }
}

/// Returns the latencies of the requests of the last minutes, by provider.
fn recent_requests<'a>(
    scope: &'a CollectConfig,
    left: &[SourceFiles],
    now: Timestamp,
) -> BTreeMap<&'a str, Histogram> {
    let mut recent: BTreeMap<&str, Histogram> = BTreeMap::new();
    for (named, left) in scope.sources.iter().zip(left) {
        if let Ok(Some(figures)) = &left.metrics {
            let of_provider = recent.entry(&named.provider).or_default();
            of_provider.merge(&figures.requests.recent_latency.merged(now));
        }
    }
    recent
}

fn collect_breakers(scope: &CollectConfig) -> CollectResult<Vec<BreakerObservation>> {
    let file = BreakersFile::new(&scope.state_dir);
    let memories = flatten_read(file.path(), file.read())?;
    let seen = memories.into_iter().map(|(name, memory)| BreakerObservation {
        name,
        openings: memory.open_periods(),
        state: BreakerState::from_name(&memory.state).unwrap_or(BreakerState::Closed),
        reason: memory.last_transition.map(|change| change.reason).unwrap_or_default(),
    });
    Ok(seen.collect())
}

fn flatten_read<T>(path: &Path, examined: Result<Result<T, String>, Failure>) -> CollectResult<T> {
    examined.map_err(|failure| failure.message)?.map_err(|why| unreadable_reason(path, &why))
}

/// Returns the crash loops of units and of sources that are still configured. The progress of a
/// unit is the latest progress of its sources, or of all sources if none belongs to it.
fn find_crash_loops(
    scope: &CollectConfig,
    units: &SourcesByUnit,
    left: &[SourceFiles],
) -> CollectResult<Vec<(String, u32)>> {
    let file = RestartBudgetFile::new(&scope.state_dir);
    let restarts = flatten_read(file.path(), file.read())?;
    let progress = |left: &SourceFiles| left.state.as_ref().map(|state| state.last_progress);
    let of_sources = scope.sources.iter().zip(left);
    let of_sources: Vec<(&str, Option<Timestamp>)> =
        of_sources.map(|(named, left)| (named.name.as_str(), progress(left))).collect();
    let of_units = units.iter().map(|(unit, sources)| {
        let is_its_own = |name: &str| sources.is_empty() || sources.contains(name);
        let its_own = of_sources.iter().filter(|(name, _)| is_its_own(name));
        (unit.as_str(), its_own.filter_map(|(_, progress)| *progress).max())
    });
    let all = of_sources.iter().copied().chain(of_units);
    let looping = all.filter_map(|(name, progress)| {
        let restarts = restarts.get(name)?;
        let is_looping = restarts.is_crash_looping(progress.unwrap_or_default());
        is_looping.then(|| (name.to_owned(), restarts.consecutive_restarts))
    });
    Ok(looping.collect())
}

/// Returns the proxy pool with the fewest healthy proxies among the running workers. Metrics of a
/// stopped worker say nothing about the current state of the proxies.
fn collect_proxy_pool(
    scope: &CollectConfig,
    left: &[SourceFiles],
) -> Option<CollectResult<Option<ProxyPoolStatus>>> {
    let running = || left.iter().filter(|left| left.state.as_ref().is_some_and(is_running));
    if !scope.has_proxy_pool {
        return None;
    }
    if running().next().is_none() {
        return Some(Ok(None));
    }
    let told = running().filter_map(|left| left.metrics.as_ref().ok()?.as_ref()?.proxies);
    let worst = told.min_by_key(|proxies| proxies.healthy).map(to_proxy_pool_status);
    Some(worst.map(Some).ok_or_else(|| "no worker has told yet".to_owned()))
}

fn to_proxy_pool_status(figures: ProxyMetrics) -> ProxyPoolStatus {
    ProxyPoolStatus {
        total: figures.total(),
        healthy: figures.healthy,
        suspect: figures.failing,
        dead: figures.dead,
        cooling_down: figures.cooling_down,
        mean_latency: figures.mean_latency_millis.map(std::time::Duration::from_millis),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;
    use crate::engine::watch::{FindingKind, HealthLevel, Remedy};
    use crate::state::save_metrics;

    const NOW: Timestamp = Timestamp(1_772_874_303_000);
    const UNIT: &str = "cynosure.service";
    const INSTANCE: &str = "cynosure@work.service";

    fn collect_config(state_dir: PathBuf) -> CollectConfig {
        let named =
            |name: &str| SourceIdentity { name: name.to_owned(), provider: "example".to_owned() };
        CollectConfig {
            archive_dir: state_dir.clone(),
            state_dir,
            sources: vec![named("home"), named("work")],
            archive_mismatch: |_, _, _| None,
            unit: UNIT.to_owned(),
            has_proxy_pool: true,
            journal_window: Duration::from_secs(900),
            timeout: Duration::from_secs(10),
        }
    }

    fn sample_findings() -> Vec<Finding> {
        let finding = |about, what| Finding {
            level: HealthLevel::Healthy,
            subject: about,
            kind: what,
            remedy: Remedy::None,
        };
        let unit =
            |name: &str| finding(Subject::Unit(name.to_owned()), FindingKind::UnitTransitioning);
        let source = |name: &str| finding(Subject::Source(name.to_owned()), FindingKind::NeverRun);
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
        let gathered = collect_sources(&collect_config(home.path().to_owned()), &units, NOW);

        assert_eq!(gathered.crash_loops, Ok(vec![(INSTANCE.to_owned(), 9)]));
        assert_eq!(units[INSTANCE], ["work".to_owned()].into());
    }

    #[test]
    fn unreadable_files_are_errors_and_absent_ones_are_empty() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path();
        let all = || {
            collect_sources(
                &collect_config(dir.to_owned()),
                &group_sources_by_unit(UNIT, &sample_findings()),
                NOW,
            )
        };
        let before = all();
        assert!(before.sources.iter().all(|source| matches!(source.counters, Ok(None))));
        assert_eq!((before.crash_loops, before.breakers.unwrap().len()), (Ok(Vec::new()), 0));
        assert!(matches!(before.proxy_pool, Some(Ok(None))), "no worker runs that could tell");

        for name in ["home", "work"] {
            fs_err::create_dir(dir.join(name)).unwrap();
        }
        fs_err::write(dir.join("home").join(METRICS_FILE), "{\"schema\":").unwrap();
        let path = dir.join("work").join(METRICS_FILE);
        save_metrics(&RealDisk, &path, &SourceMetrics::default(), NOW).unwrap();
        for file in [BreakersFile::new(dir).path(), RestartBudgetFile::new(dir).path()] {
            fs_err::write(file, "rot").unwrap();
        }
        let after = all();

        let [broken, whole] = &after.sources[..] else { panic!("two sources") };
        assert!(broken.counters.as_ref().unwrap_err().contains("figures.json cannot be read: EOF"));
        assert!(whole.known_counters().is_some());
        assert!(after.crash_loops.unwrap_err().contains("restarts.json cannot be read: expected"));
        assert!(after.breakers.unwrap_err().contains("breakers.json cannot be read: expected"));
    }
}
