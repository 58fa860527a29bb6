//! Collects the inputs of the health evaluation in parallel, each with its own time limit.
//!
//! An input that does not arrive in time is reported as unknown, with the reason. A collector that
//! hangs, for example on an unreachable network disk, is not started again before it has ended.

mod config;
mod journal;
mod sources;
mod system;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

pub use self::config::{CollectConfig, SourceIdentity};
use cynosure_engine::health::{CollectResult, Finding, HealthInputs, HostMetrics};
use cynosure_engine::{Timestamp, format_duration};

use self::sources::SourceData;
use self::system::CpuSampler;
use crate::disk::FsUsage;
use crate::monitor::status_collector::SourceStates;

/// Collectors, and the state that they keep between two cycles.
#[derive(Debug, Default)]
pub struct Collectors {
    cpu_sampler: Arc<Mutex<CpuSampler>>,
    sources_busy: BusyFlag,
    archives_busy: BusyFlag,
    system_busy: BusyFlag,
    /// By folder, so that a hanging disk does not keep another from being measured.
    folders_busy: Mutex<BTreeMap<PathBuf, BusyFlag>>,
    journal_busy: BusyFlag,
}

/// True while a collector runs.
type BusyFlag = Arc<AtomicBool>;

impl Collectors {
    /// Collects what the evaluation of `cynosure_engine::health::watch`, which made `findings` from
    /// `states`, does not cover.
    #[must_use]
    pub fn collect_all(
        &self,
        config: &CollectConfig,
        states: SourceStates,
        findings: Vec<Finding>,
        now: Timestamp,
    ) -> HealthInputs {
        let source_task = start_collector(&self.sources_busy, {
            let (config, units) =
                (config.clone(), sources::group_sources_by_unit(&config.unit, &findings));
            move || Ok(sources::collect_sources(&config, &states, &units, now))
        });
        let archive_task = start_collector(&self.archives_busy, {
            let config = config.clone();
            move || Ok(config.find_archive_mismatches())
        });
        let system_task = start_collector(&self.system_busy, {
            let sampler = Arc::clone(&self.cpu_sampler);
            move || Ok(sampler.lock().unwrap_or_else(PoisonError::into_inner).sample())
        });
        let disk_tasks = self.start_disk_measurements(config);
        let units: Vec<String> = findings
            .iter()
            .filter(|finding| finding.is_about_known_unit())
            .map(|finding| finding.subject.clone())
            .collect();
        let journal_task = (!units.is_empty()).then(|| {
            let (window, timeout) = (config.journal_window, config.timeout);
            start_collector(&self.journal_busy, move || {
                journal::count_errors(&units, window, timeout, now)
            })
        });
        let source_data: CollectResult<SourceData> = source_task.wait(config.timeout);
        // A hanging disk is reported by the measurement of its folder.
        let archive_mismatches = archive_task.wait(config.timeout).unwrap_or_default();
        let system: CollectResult<HostMetrics> = system_task.wait(config.timeout);
        let measurements =
            disk_tasks.into_iter().map(|(folder, task)| (folder, task.wait(config.timeout)));
        let (disks, unmeasured_folders) = system::collect_disks(measurements);
        let journal_errors = journal_task.map(|task| task.wait(config.timeout));
        let SourceData { sources, uncollected_reason, breakers, crash_loops, proxy_pool } =
            source_data.unwrap_or_else(|reason| SourceData::unknown(config, &reason));
        HealthInputs {
            unit: config.unit.clone(),
            findings,
            sources,
            uncollected_reason,
            breakers,
            crash_loops,
            proxy_pool,
            system: system.map(|system| HostMetrics { disks, ..system }),
            unmeasured_folders,
            archive_mismatches,
            journal_errors,
        }
    }

    /// Starts to measure the filesystem of each folder.
    fn start_disk_measurements(
        &self,
        config: &CollectConfig,
    ) -> Vec<(PathBuf, CollectorTask<FsUsage>)> {
        let mut busy_flags = self.folders_busy.lock().unwrap_or_else(PoisonError::into_inner);
        let folders = config.data_folders();
        busy_flags.retain(|folder, _| folders.contains(folder));
        let start = |folder: PathBuf| {
            let busy = busy_flags.entry(folder.clone()).or_default();
            let path = folder.clone();
            (folder, start_collector(busy, move || system::measure_filesystem(&path)))
        };
        folders.into_iter().map(start).collect()
    }
}

/// Collector that runs on a separate thread.
enum CollectorTask<T> {
    Started(Receiver<CollectResult<T>>),
    /// The previous run has not ended yet.
    StillRunning,
}

fn start_collector<T: Send + 'static>(
    busy: &BusyFlag,
    collect: impl FnOnce() -> CollectResult<T> + Send + 'static,
) -> CollectorTask<T> {
    if busy.swap(true, Ordering::AcqRel) {
        return CollectorTask::StillRunning;
    }
    let (sender, receiver) = mpsc::sync_channel(1);
    let guard = RunningGuard(Arc::clone(busy));
    thread::spawn(move || {
        let result = collect();
        drop(guard);
        // The receiver may have timed out and been dropped.
        drop(sender.send(result));
    });
    CollectorTask::Started(receiver)
}

/// Guard that clears the flag when the collector ends, even by a panic.
struct RunningGuard(BusyFlag);

impl Drop for RunningGuard {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl<T> CollectorTask<T> {
    /// Waits for the result. All collectors run in parallel, but are awaited one after the other,
    /// so that the last may get more time than `timeout`.
    fn wait(self, timeout: Duration) -> CollectResult<T> {
        let Self::Started(receiver) = self else {
            return Err("the previous collection has not ended yet".to_owned());
        };
        match receiver.recv_timeout(timeout) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => {
                Err(format!("no response within {}", format_duration(timeout)))
            }
            Err(RecvTimeoutError::Disconnected) => Err("the collector crashed".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hanging_collector_is_reported_and_not_restarted() {
        let busy = BusyFlag::default();
        let (sender, receiver) = mpsc::channel::<()>();
        let short = Duration::from_millis(20);

        let first =
            start_collector(&busy, move || receiver.recv().map_err(|error| error.to_string()));
        assert_eq!(first.wait(short), Err("no response within 20 ms".to_owned()));
        let second = start_collector(&busy, || Ok(()));
        assert_eq!(second.wait(short), Err("the previous collection has not ended yet".to_owned()));

        sender.send(()).unwrap();
        while busy.load(Ordering::Acquire) {
            thread::yield_now();
        }
        assert_eq!(start_collector(&busy, || Ok(7)).wait(Duration::from_secs(30)), Ok(7));
    }

    #[test]
    fn a_panicking_collector_is_reported_and_may_run_again() {
        let busy = BusyFlag::default();

        let broken: CollectorTask<()> = start_collector(&busy, || panic!("a test"));
        assert_eq!(broken.wait(Duration::from_secs(30)), Err("the collector crashed".to_owned()));
        assert!(!busy.load(Ordering::Acquire));
    }
}
