//! Gathers the facts of health, side by side, each within a time limit of its own.
//!
//! What does not come in time is a fact as well: that it is not known, and why. One that hangs, as on
//! a network disk that is gone, is not started a second time before it has ended.

mod journal;
mod sources;
mod system;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use self::sources::SourceData;
use self::system::CpuSampler;
use crate::disk::FsUsage;
use crate::engine::Timestamp;
use crate::engine::format_duration;
use crate::engine::health::{CollectResult, HealthInputs, HostMetrics};
use crate::engine::watch::{Finding, FindingKind, Subject};

/// A source of the configuration, and who is behind it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SourceIdentity {
    pub name: String,
    pub provider: String,
}

/// What is looked at.
#[derive(Clone, Debug)]
pub struct CollectConfig {
    pub state_dir: PathBuf,
    pub archive_dir: PathBuf,
    /// The enabled ones.
    pub sources: Vec<SourceIdentity>,
    pub unit: String,
    /// Says why a source cannot use its archive, if it cannot: by the folder of states, the
    /// archive and the name of the source.
    pub archive_mismatch: fn(&Path, &Path, &str) -> Option<String>,
    /// Requests go out by a pool of proxies.
    pub has_proxy_pool: bool,
    /// How far back the journal is read.
    pub journal_window: Duration,
    /// The longest that one of those who look may take.
    pub timeout: Duration,
}

/// Those who look, and what they remember between two looks.
#[derive(Debug, Default)]
pub struct Collectors {
    cpu_sampler: Arc<Mutex<CpuSampler>>,
    sources: BusyFlag,
    archives: BusyFlag,
    system: BusyFlag,
    /// By folder: what hangs on one disk does not keep another from being measured.
    folders: Mutex<BTreeMap<PathBuf, BusyFlag>>,
    journal: BusyFlag,
}

/// Whether one of them is still at it.
type BusyFlag = Arc<AtomicBool>;

impl Collectors {
    /// Looks at everything that the watch, which made `findings`, does not look at itself.
    #[must_use]
    pub fn collect_all(
        &self,
        scope: &CollectConfig,
        findings: Vec<Finding>,
        now: Timestamp,
    ) -> HealthInputs {
        let sources = start_collector(&self.sources, {
            let (scope, units) =
                (scope.clone(), sources::group_sources_by_unit(&scope.unit, &findings));
            move || Ok(sources::collect_sources(&scope, &units, now))
        });
        let archives = start_collector(&self.archives, {
            let scope = scope.clone();
            move || Ok(scope.find_archive_mismatches())
        });
        let system = start_collector(&self.system, {
            let meter = Arc::clone(&self.cpu_sampler);
            move || Ok(meter.lock().unwrap_or_else(PoisonError::into_inner).sample())
        });
        let rooms = self.start_disk_measurements(scope);
        let units = units_with_journal(&findings);
        let journal = (!units.is_empty()).then(|| {
            let (window, timeout) = (scope.journal_window, scope.timeout);
            start_collector(&self.journal, move || {
                journal::count_errors(&units, window, timeout, now)
            })
        });
        let gathered: CollectResult<SourceData> = sources.wait(scope.timeout);
        // A disk that hangs is told where its folder is measured.
        let archives = archives.wait(scope.timeout).unwrap_or_default();
        let system: CollectResult<HostMetrics> = system.wait(scope.timeout);
        let rooms = rooms.into_iter().map(|(folder, room)| (folder, room.wait(scope.timeout)));
        let (disks, unmeasured) = system::collect_disks(rooms);
        let journal = journal.map(|journal| journal.wait(scope.timeout));
        let SourceData {
            sources,
            uncollected_reason: unseen,
            breakers,
            crash_loops: loops,
            proxy_pool: pool,
        } = gathered.unwrap_or_else(|why| SourceData::unknown(scope, &why));
        HealthInputs {
            unit: scope.unit.clone(),
            findings,
            sources,
            uncollected_reason: unseen,
            breakers,
            crash_loops: loops,
            proxy_pool: pool,
            system: system.map(|system| HostMetrics { disks, ..system }),
            unmeasured_folders: unmeasured,
            archive_mismatches: archives,
            journal_errors: journal,
        }
    }

    /// Begins to measure the disk under each folder.
    fn start_disk_measurements(
        &self,
        scope: &CollectConfig,
    ) -> Vec<(PathBuf, CollectorTask<FsUsage>)> {
        let mut known = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        let folders = scope.data_folders();
        known.retain(|folder, _| folders.contains(folder));
        let begin = |folder: PathBuf| {
            let busy = known.entry(folder.clone()).or_default();
            let measured = folder.clone();
            (folder, start_collector(busy, move || system::measure_filesystem(&measured)))
        };
        folders.into_iter().map(begin).collect()
    }
}

impl CollectConfig {
    fn find_archive_mismatches(&self) -> Vec<(String, String)> {
        let mismatch = |named: &SourceIdentity| {
            let why = (self.archive_mismatch)(&self.state_dir, &self.archive_dir, &named.name)?;
            Some((named.name.clone(), why))
        };
        self.sources.iter().filter_map(mismatch).collect()
    }

    /// What we write to.
    fn data_folders(&self) -> Vec<PathBuf> {
        vec![self.state_dir.clone(), self.archive_dir.clone()]
    }
}

/// The units that systemd knows, so that they have a journal.
fn units_with_journal(findings: &[Finding]) -> Vec<String> {
    let of_unit = |finding: &Finding| match (&finding.subject, &finding.kind) {
        (
            Subject::Unit(_),
            FindingKind::NoSystemd { .. }
            | FindingKind::UnitNotInstalled
            | FindingKind::UnitStateUnknown { .. },
        )
        | (Subject::Source(_), _) => None,
        (Subject::Unit(name), _) => Some(name.clone()),
    };
    findings.iter().filter_map(of_unit).collect()
}

/// One who looks.
enum CollectorTask<T> {
    Started(Receiver<CollectResult<T>>),
    /// The one before is still at it.
    StillRunning,
}

fn start_collector<T: Send + 'static>(
    busy: &BusyFlag,
    look: impl FnOnce() -> CollectResult<T> + Send + 'static,
) -> CollectorTask<T> {
    if busy.swap(true, Ordering::AcqRel) {
        return CollectorTask::StillRunning;
    }
    let (sender, receiver) = mpsc::sync_channel(1);
    let at_work = RunningGuard(Arc::clone(busy));
    thread::spawn(move || {
        let seen = look();
        drop(at_work);
        // Whoever waited may have given up.
        drop(sender.send(seen));
    });
    CollectorTask::Started(receiver)
}

/// Also where it panics, it has ended.
struct RunningGuard(BusyFlag);

impl Drop for RunningGuard {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl<T> CollectorTask<T> {
    /// They wait one after the other, while all of them look: the last may get more time than it should.
    fn wait(self, timeout: Duration) -> CollectResult<T> {
        let Self::Started(receiver) = self else {
            return Err("the look before this one has not ended yet".to_owned());
        };
        match receiver.recv_timeout(timeout) {
            Ok(seen) => seen,
            Err(RecvTimeoutError::Timeout) => {
                Err(format!("no answer within {}", format_duration(timeout)))
            }
            Err(RecvTimeoutError::Disconnected) => Err("the look broke off".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hanging_collector_is_reported_and_not_restarted() {
        let busy = BusyFlag::default();
        let (go, wait) = mpsc::channel::<()>();
        let short = Duration::from_millis(20);

        let first = start_collector(&busy, move || wait.recv().map_err(|gone| gone.to_string()));
        assert_eq!(first.wait(short), Err("no answer within 20 ms".to_owned()));
        let second = start_collector(&busy, || Ok(()));
        assert_eq!(
            second.wait(short),
            Err("the look before this one has not ended yet".to_owned())
        );

        go.send(()).unwrap();
        while busy.load(Ordering::Acquire) {
            thread::yield_now();
        }
        assert_eq!(start_collector(&busy, || Ok(7)).wait(Duration::from_secs(30)), Ok(7));
    }

    #[test]
    fn a_panicking_collector_is_reported_and_may_run_again() {
        let busy = BusyFlag::default();

        let broken: CollectorTask<()> = start_collector(&busy, || panic!("a test"));
        assert_eq!(broken.wait(Duration::from_secs(30)), Err("the look broke off".to_owned()));
        assert!(!busy.load(Ordering::Acquire));
    }
}
