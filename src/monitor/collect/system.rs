//! Metrics of the host, read from the kernel (proc(5)).
//!
//! The crate procfs would replace about forty lines, here and in `systemd::own_unit`. It adds two
//! crates and 21 s of build time.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use cynosure_engine::health::{CollectResult, DiskUsage, HostMetrics};

use crate::disk::{FsUsage, fs_usage};

const STAT_FILE: &str = "/proc/stat";
const MEMORY_FILE: &str = "/proc/meminfo";
const LOAD_FILE: &str = "/proc/loadavg";

/// Duration of the first CPU sample. A shorter burst does not count as load.
const FIRST_SAMPLE_PERIOD: Duration = Duration::from_secs(1);

/// Minimum number of CPU ticks for a usage ratio: half a second of one processor.
const TICKS_MIN: u64 = 50;

/// CPU sampler that keeps the previous ticks and the last usage ratio.
#[derive(Debug, Default)]
pub(super) struct CpuSampler {
    previous: Option<CpuTicks>,
    last_ratio: Option<f64>,
}

/// CPU ticks of all processors since boot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct CpuTicks {
    busy: u64,
    total: u64,
}

impl CpuSampler {
    /// Samples CPU and memory. Blocks for 1 s at the first call.
    pub(super) fn sample(&mut self) -> HostMetrics {
        let memory = fs_err::read_to_string(MEMORY_FILE).ok();
        let memory_ratio = memory.as_deref().and_then(parse_memory_ratio);
        HostMetrics { cpu_ratio: self.sample_cpu(), memory_ratio, disks: Vec::new() }
    }

    fn sample_cpu(&mut self) -> Option<f64> {
        if self.previous.is_some() {
            return self.update(read_cpu_ticks()?);
        }
        self.previous = read_cpu_ticks();
        thread::park_timeout(FIRST_SAMPLE_PERIOD);
        let sampled = self.update(read_cpu_ticks()?)?;
        // One busy second may be chance, but a busy minute is not.
        let load = fs_err::read_to_string(LOAD_FILE).ok();
        let load = load.as_deref().and_then(|load| load_ratio(load, processor_count()));
        Some(load.map_or(sampled, |load| sampled.min(load)))
    }

    /// Updates the usage ratio with the current ticks. The last ratio is kept if too few ticks have
    /// passed, or if there are fewer than before because a processor was removed.
    fn update(&mut self, ticks: CpuTicks) -> Option<f64> {
        match self
            .previous
            .map(|before| (ticks.busy_ratio_since(before), ticks.total.checked_sub(before.total)))
        {
            Some((_, Some(elapsed))) if elapsed < TICKS_MIN => {}
            Some((ratio @ Some(_), _)) => (self.previous, self.last_ratio) = (Some(ticks), ratio),
            Some((None, _)) | None => self.previous = Some(ticks),
        }
        self.last_ratio
    }
}

impl CpuTicks {
    /// Returns the busy share of the ticks since `before`, over all processors.
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    fn busy_ratio_since(self, before: Self) -> Option<f64> {
        let (busy, total) =
            (self.busy.checked_sub(before.busy)?, self.total.checked_sub(before.total)?);
        (total > 0).then(|| busy as f64 / total as f64)
    }
}

fn read_cpu_ticks() -> Option<CpuTicks> {
    parse_cpu_ticks(&fs_err::read_to_string(STAT_FILE).ok()?)
}

fn processor_count() -> Option<u32> {
    let count = thread::available_parallelism().ok()?;
    u32::try_from(count.get()).ok()
}

/// Returns the load average of the last minute as a share of the number of processors, at most 1.
fn load_ratio(text: &str, processors: Option<u32>) -> Option<f64> {
    let load: f64 = text.split_whitespace().next()?.parse().ok()?;
    Some((load / f64::from(processors?.max(1))).clamp(0.0, 1.0))
}

/// Parses the first line: user, nice, system, idle, iowait, irq, softirq, steal. The remaining
/// values are already part of user.
fn parse_cpu_ticks(text: &str) -> Option<CpuTicks> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let times: Vec<u64> = line.split_whitespace().take(8).map_while(|t| t.parse().ok()).collect();
    let total = times.iter().fold(0_u64, |sum, time| sum.saturating_add(*time));
    let [_, _, _, idle, iowait, ..] = times[..] else { return None };
    Some(CpuTicks { busy: total.saturating_sub(idle).saturating_sub(iowait), total })
}

/// Returns the share of memory that is not available.
#[expect(clippy::cast_precision_loss, reason = "a share")]
fn parse_memory_ratio(text: &str) -> Option<f64> {
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    let (total, available) = (field("MemTotal:")?, field("MemAvailable:")?);
    (total > 0).then(|| total.saturating_sub(available) as f64 / total as f64)
}

/// Measures the filesystem of a folder. If the folder does not exist yet, its nearest existing
/// parent is measured, because the folder will be created there.
pub(super) fn measure_filesystem(folder: &Path) -> CollectResult<FsUsage> {
    let paths = folder.ancestors().filter(|path| !path.as_os_str().is_empty());
    let found = paths
        .map(fs_usage)
        .find(|found| !matches!(found, Err(error) if error.kind() == io::ErrorKind::NotFound));
    found.unwrap_or_else(|| fs_usage(Path::new("."))).map_err(|error| error.to_string())
}

/// Returns each filesystem once, and the folders whose filesystem could not be measured, with the
/// reason.
pub(super) fn collect_disks(
    measurements: impl Iterator<Item = (PathBuf, CollectResult<FsUsage>)>,
) -> (Vec<DiskUsage>, Vec<(String, String)>) {
    let (mut disks, mut unmeasured, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    for (folder, measurement) in measurements {
        let path = folder.display().to_string();
        match measurement {
            Ok(usage) if ids.contains(&usage.filesystem_id) => {}
            Ok(usage) => {
                ids.push(usage.filesystem_id);
                disks.push(DiskUsage {
                    path,
                    used_ratio: usage.used_share(),
                    free_bytes: usage.free_bytes,
                    inode_ratio: usage.used_inode_share(),
                });
            }
            Err(reason) => unmeasured.push((path, reason)),
        }
    }
    (disks, unmeasured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_excludes_guest_time_counted_twice() {
        let text = "cpu  100 10 40 800 50 0 0 0 70 5\ncpu0 1 2 3 4 5 6 7 8 9 10\n";

        let ticks = parse_cpu_ticks(text).unwrap();

        assert_eq!(ticks, CpuTicks { busy: 150, total: 1000 });
        let later = CpuTicks { busy: 240, total: 1100 };
        assert_eq!(later.busy_ratio_since(ticks), Some(0.9));
        assert_eq!(ticks.busy_ratio_since(ticks), None);
        assert_eq!(ticks.busy_ratio_since(later), None);
    }

    #[test]
    fn samples_taken_too_soon_repeat_the_last_ratio() {
        let mut sampler =
            CpuSampler { previous: Some(CpuTicks { busy: 0, total: 1000 }), last_ratio: None };
        let mut update = |busy, total| sampler.update(CpuTicks { busy, total });

        assert_eq!(update(90, 1100), Some(0.9));
        assert_eq!(update(90, 1100), Some(0.9));
        assert_eq!(update(91, 1149), Some(0.9));
        assert_eq!(update(100, 1200), Some(0.1));
        assert_eq!(update(7, 70), Some(0.1), "a processor was removed");
        assert_eq!(update(57, 170), Some(0.5));
    }

    #[test]
    fn load_is_a_ratio_of_the_processors() {
        assert_eq!(load_ratio("1.00 0.50 0.25 1/100 4711\n", Some(2)), Some(0.5));
        assert_eq!(load_ratio("9.00 0.50 0.25 1/100 4711\n", Some(2)), Some(1.0));
        assert_eq!(load_ratio("", Some(2)), None);
    }

    #[test]
    fn available_memory_counts_as_free() {
        let text = "MemTotal:        1000 kB\nMemFree:   10 kB\nMemAvailable:     250 kB\n";

        assert_eq!(parse_memory_ratio(text), Some(0.75));
    }

    #[test]
    fn malformed_proc_files_yield_none() {
        for text in
            ["", "cpu", "cpu  1 2\n", "MemTotal: 10 kB\n", "MemTotal: x\nMemAvailable: 1 kB"]
        {
            assert_eq!((parse_cpu_ticks(text), parse_memory_ratio(text)), (None, None), "{text}");
        }
    }

    #[test]
    fn the_local_host_is_sampled() {
        let system = CpuSampler::default().sample();

        let ratio = system.memory_ratio.unwrap();
        assert!((0.0..=1.0).contains(&ratio), "{system:?}");
    }

    #[test]
    fn shared_disks_count_once_and_failures_hide_no_other() {
        let home = tempfile::tempdir().unwrap();
        fs_err::write(home.path().join("file"), "").unwrap();
        let folders = ["state", "file/in/it", "not/there/yet"].map(|name| home.path().join(name));
        let failing = folders[1].display().to_string();

        let measurements =
            folders.into_iter().map(|folder| (folder.clone(), measure_filesystem(&folder)));
        let (disks, unmeasured) = collect_disks(measurements);

        assert_eq!(disks.len(), 1);
        assert!((0.0..=1.0).contains(&disks[0].used_ratio), "{disks:?}");
        assert_eq!(unmeasured.len(), 1, "{unmeasured:?}");
        assert_eq!(unmeasured[0].0, failing);
        assert!(unmeasured[0].1.contains("Not a directory"), "{unmeasured:?}");
    }
}
