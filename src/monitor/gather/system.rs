//! The machine, as the kernel tells it (proc(5)).

use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::disk::{Room, room};
use crate::engine::health::{CollectResult, DiskUsage, HostMetrics};

const STAT_FILE: &str = "/proc/stat";
const MEMORY_FILE: &str = "/proc/meminfo";
const LOAD_FILE: &str = "/proc/loadavg";

/// How long the processors are watched where there was no look before: a shorter burst is no load.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// Ticks of all processors below which a share of them says nothing: half a second of one processor.
const TICKS_MIN: u64 = 50;

/// Remembers what the processors had done when it last looked, and the share that came of it.
#[derive(Debug, Default)]
pub(super) struct Meter {
    before: Option<Ticks>,
    share: Option<f64>,
}

/// The processors' time since the machine started.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Ticks {
    busy: u64,
    all: u64,
}

impl Meter {
    /// Looks at processors and memory. It blocks for a moment the first time.
    pub(super) fn look(&mut self) -> HostMetrics {
        let memory = fs_err::read_to_string(MEMORY_FILE).ok();
        let memory = memory.as_deref().and_then(memory_used);
        HostMetrics { cpu_ratio: self.cpu(), memory_ratio: memory, disks: Vec::new() }
    }

    fn cpu(&mut self) -> Option<f64> {
        if self.before.is_some() {
            return self.note(ticks()?);
        }
        self.before = ticks();
        thread::park_timeout(FIRST_LOOK);
        let brief = self.note(ticks()?)?;
        // A second may be busy by chance; a minute is not.
        let load = fs_err::read_to_string(LOAD_FILE).ok();
        let load = load.as_deref().and_then(|load| share_of_load(load, processors()));
        Some(load.map_or(brief, |load| brief.min(load)))
    }

    /// Takes in what the processors have done by now. What was counted too short a time ago, or is less
    /// than before since a processor has gone, says nothing new.
    fn note(&mut self, now: Ticks) -> Option<f64> {
        match self.before.map(|before| (now.share_since(before), now.all.checked_sub(before.all))) {
            Some((_, Some(passed))) if passed < TICKS_MIN => {}
            Some((share @ Some(_), _)) => (self.before, self.share) = (Some(now), share),
            Some((None, _)) | None => self.before = Some(now),
        }
        self.share
    }
}

impl Ticks {
    /// The share of the time since `before` that was spent, over all processors.
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    fn share_since(self, before: Self) -> Option<f64> {
        let (busy, all) = (self.busy.checked_sub(before.busy)?, self.all.checked_sub(before.all)?);
        (all > 0).then(|| busy as f64 / all as f64)
    }
}

fn ticks() -> Option<Ticks> {
    read_ticks(&fs_err::read_to_string(STAT_FILE).ok()?)
}

fn processors() -> Option<u32> {
    let count = thread::available_parallelism().ok()?;
    u32::try_from(count.get()).ok()
}

/// The programs that wanted a processor over the last minute, as a share of the processors there are.
fn share_of_load(text: &str, processors: Option<u32>) -> Option<f64> {
    let load: f64 = text.split_whitespace().next()?.parse().ok()?;
    Some((load / f64::from(processors?.max(1))).clamp(0.0, 1.0))
}

/// The first line: user, nice, system, idle, iowait, irq, softirq, steal, and more that is in user already.
fn read_ticks(text: &str) -> Option<Ticks> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let times: Vec<u64> = line.split_whitespace().take(8).map_while(|t| t.parse().ok()).collect();
    let all = times.iter().fold(0_u64, |sum, time| sum.saturating_add(*time));
    let [_, _, _, idle, waiting, ..] = times[..] else { return None };
    Some(Ticks { busy: all.saturating_sub(idle).saturating_sub(waiting), all })
}

/// The share of memory that cannot be had any more.
#[expect(clippy::cast_precision_loss, reason = "a share")]
fn memory_used(text: &str) -> Option<f64> {
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    let (total, available) = (field("MemTotal:")?, field("MemAvailable:")?);
    (total > 0).then(|| total.saturating_sub(available) as f64 / total as f64)
}

/// Measures the filesystem under a folder. One that is not there yet will be made in the nearest one
/// that is.
pub(super) fn room_under(folder: &Path) -> CollectResult<Room> {
    let standing = folder.ancestors().filter(|path| !path.as_os_str().is_empty());
    let found = standing
        .map(room)
        .find(|found| !matches!(found, Err(error) if error.kind() == io::ErrorKind::NotFound));
    found.unwrap_or_else(|| room(Path::new("."))).map_err(|error| error.to_string())
}

/// The filesystems under the folders, each once, and the folders under which there is none that could
/// be measured.
pub(super) fn disks(
    rooms: impl Iterator<Item = (PathBuf, CollectResult<Room>)>,
) -> (Vec<DiskUsage>, Vec<(String, String)>) {
    let (mut seen, mut unmeasured, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    for (folder, room) in rooms {
        let path = folder.display().to_string();
        match room {
            Ok(room) if ids.contains(&room.id) => {}
            Ok(room) => {
                ids.push(room.id);
                seen.push(DiskUsage {
                    path,
                    used_ratio: room.share_used(),
                    free_bytes: room.free,
                    inode_ratio: room.share_of_inodes(),
                });
            }
            Err(why) => unmeasured.push((path, why)),
        }
    }
    (seen, unmeasured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processors_time_is_read_without_what_counts_twice() {
        let text = "cpu  100 10 40 800 50 0 0 0 70 5\ncpu0 1 2 3 4 5 6 7 8 9 10\n";

        let ticks = read_ticks(text).unwrap();

        assert_eq!(ticks, Ticks { busy: 150, all: 1000 });
        let later = Ticks { busy: 240, all: 1100 };
        assert_eq!(later.share_since(ticks), Some(0.9));
        assert_eq!(ticks.share_since(ticks), None);
        assert_eq!(ticks.share_since(later), None);
    }

    #[test]
    fn looks_that_follow_one_another_closely_share_their_figure() {
        let mut meter = Meter { before: Some(Ticks { busy: 0, all: 1000 }), share: None };
        let mut note = |busy, all| meter.note(Ticks { busy, all });

        assert_eq!(note(90, 1100), Some(0.9));
        assert_eq!(note(90, 1100), Some(0.9));
        assert_eq!(note(91, 1149), Some(0.9));
        assert_eq!(note(100, 1200), Some(0.1));
        assert_eq!(note(7, 70), Some(0.1), "a processor has gone");
        assert_eq!(note(57, 170), Some(0.5));
    }

    #[test]
    fn a_load_is_a_share_of_the_processors() {
        assert_eq!(share_of_load("1.00 0.50 0.25 1/100 4711\n", Some(2)), Some(0.5));
        assert_eq!(share_of_load("9.00 0.50 0.25 1/100 4711\n", Some(2)), Some(1.0));
        assert_eq!(share_of_load("", Some(2)), None);
    }

    #[test]
    fn memory_that_can_be_had_counts_as_free() {
        let text = "MemTotal:        1000 kB\nMemFree:   10 kB\nMemAvailable:     250 kB\n";

        assert_eq!(memory_used(text), Some(0.75));
    }

    #[test]
    fn what_the_kernel_does_not_say_is_not_known() {
        for text in
            ["", "cpu", "cpu  1 2\n", "MemTotal: 10 kB\n", "MemTotal: x\nMemAvailable: 1 kB"]
        {
            assert_eq!((read_ticks(text), memory_used(text)), (None, None), "{text}");
        }
    }

    #[test]
    fn this_machine_is_measured() {
        let system = Meter::default().look();

        let share = system.memory_ratio.unwrap();
        assert!((0.0..=1.0).contains(&share), "{system:?}");
    }

    #[test]
    fn a_disk_of_two_folders_is_measured_once_and_one_that_cannot_be_hides_no_other() {
        let home = tempfile::tempdir().unwrap();
        fs_err::write(home.path().join("file"), "").unwrap();
        let folders = ["state", "file/in/it", "not/there/yet"].map(|name| home.path().join(name));
        let broken = folders[1].display().to_string();

        let rooms = folders.into_iter().map(|folder| (folder.clone(), room_under(&folder)));
        let (disks, unmeasured) = disks(rooms);

        assert_eq!(disks.len(), 1);
        assert!((0.0..=1.0).contains(&disks[0].used_ratio), "{disks:?}");
        assert_eq!(unmeasured.len(), 1, "{unmeasured:?}");
        assert_eq!(unmeasured[0].0, broken);
        assert!(unmeasured[0].1.contains("Not a directory"), "{unmeasured:?}");
    }
}
