//! Writes and reads the metrics of a source. They may be lost, so nothing is synced, and an
//! unusable file counts as absent.

use std::path::Path;

use cynosure_engine::metrics::{METRICS_SCHEMA, SourceMetrics};
use cynosure_engine::{Failure, Timestamp, sanitize_line};

use crate::disk::{Disk, read_small_file, storage_failure, write_unsynced};

/// Name of the metrics file, in the folder of its source.
pub const METRICS_FILE: &str = "figures.json";

/// Largest metrics file that is read, in bytes: ten times the usual size.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Result of reading a metrics file.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricsFile {
    /// No file: the source has never run, or only with a version that writes no metrics.
    Absent,
    Read(Box<SourceMetrics>),
    /// The file is truncated, damaged, of another version, or not a plain file.
    Unusable {
        reason: String,
    },
}

impl MetricsFile {
    /// Returns the metrics, if the file was read.
    #[must_use]
    pub fn into_metrics(self) -> Option<SourceMetrics> {
        match self {
            Self::Read(metrics) => Some(*metrics),
            Self::Absent | Self::Unusable { .. } => None,
        }
    }
}

/// Replaces the metrics file atomically. A power cut may undo it.
///
/// # Errors
/// A storage failure; the old file is then still there.
pub fn save_metrics(
    disk: &dyn Disk,
    path: &Path,
    metrics: &SourceMetrics,
    now: Timestamp,
) -> Result<(), Failure> {
    let to_failure = |error| storage_failure("write", path, &error);
    let metrics = SourceMetrics { schema: METRICS_SCHEMA, written_at: now.0, ..metrics.clone() };
    let json = serde_json::to_vec(&metrics).map_err(|error| to_failure(error.into()))?;
    write_unsynced(disk, path, &json).map_err(to_failure)
}

/// Reads the metrics file and changes nothing.
#[must_use]
pub fn read_metrics(disk: &dyn Disk, path: &Path) -> MetricsFile {
    match read_small_file(disk, path, FILE_BYTES_MAX) {
        Ok(None) => MetricsFile::Absent,
        Ok(Some(Ok(bytes))) => parse(&bytes),
        Ok(Some(Err(reason))) => unusable(&reason),
        Err(error) => unusable(&format!("it cannot be read: {error}")),
    }
}

fn parse(bytes: &[u8]) -> MetricsFile {
    match serde_json::from_slice::<SourceMetrics>(bytes) {
        Ok(metrics) if metrics.schema == METRICS_SCHEMA => MetricsFile::Read(Box::new(metrics)),
        Ok(SourceMetrics { schema, .. }) => unusable(&format!(
            "another version wrote it (schema {schema}, this one knows {METRICS_SCHEMA})"
        )),
        Err(error) => unusable(&error.to_string()),
    }
}

fn unusable(reason: &str) -> MetricsFile {
    MetricsFile::Unusable { reason: sanitize_line(reason) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::disk::{DiskFault, MemoryDisk};

    const PATH: &str = "/figures.json";
    const NOW: Timestamp = Timestamp(1_772_874_303_456);

    fn disk_with(bytes: &[u8]) -> MemoryDisk {
        let disk = MemoryDisk::default();
        write_unsynced(&disk, Path::new(PATH), bytes).unwrap();
        disk
    }

    #[test]
    fn saved_metrics_are_read_with_their_write_time() {
        let disk = MemoryDisk::default();
        assert_eq!(read_metrics(&disk, Path::new(PATH)), MetricsFile::Absent);
        let mut metrics = SourceMetrics::default();
        metrics.items.stored = 7;

        save_metrics(&disk, Path::new(PATH), &metrics, NOW).unwrap();

        let read = read_metrics(&disk, Path::new(PATH)).into_metrics().unwrap();
        assert_eq!((read.items.stored, read.written_at, read.schema), (7, NOW.0, METRICS_SCHEMA));
    }

    #[test]
    fn a_file_without_a_start_time_is_read() {
        let disk = disk_with(b"{\"schema\":1,\"written_at\":5,\"items\":{\"stored\":7}}");

        let read = read_metrics(&disk, Path::new(PATH)).into_metrics().unwrap();

        assert_eq!((read.items.stored, read.counting_since), (7, None));
    }

    #[test]
    fn an_unusable_file_is_reported_and_left_in_place() {
        let oversized = [b' '; 70_000];
        let damaged = [
            (&b""[..], "EOF"),
            (b"{\"schema\":1", "EOF"),
            (b"{\"schema\":2}", "another version wrote it (schema 2, this one knows 1)"),
            (b"{\"schema\":1,\"items\":{\"stored\":-1}}", "invalid value"),
            (b"{}", "another version"),
            (&oversized, "it has 70000 bytes, more than 65536"),
        ];
        for (bytes, expected) in damaged {
            let disk = disk_with(bytes);
            let MetricsFile::Unusable { reason } = read_metrics(&disk, Path::new(PATH)) else {
                panic!("{expected}")
            };
            assert!(reason.contains(expected), "{reason}");
            assert_eq!(disk.read_file(Path::new(PATH)).unwrap(), bytes);
        }
    }

    #[test]
    fn a_failed_write_keeps_the_old_file() {
        let disk = MemoryDisk::default();
        save_metrics(&disk, Path::new(PATH), &SourceMetrics::default(), NOW).unwrap();
        disk.set_fault(DiskFault::stop_at(0));

        let failure =
            save_metrics(&disk, Path::new(PATH), &SourceMetrics::default(), NOW).unwrap_err();

        assert!(failure.message.starts_with("cannot write /figures.json: "), "{failure}");
    }

    proptest! {
        #[test]
        fn a_truncated_file_is_unusable(cut in any::<prop::sample::Index>()) {
            let metrics = SourceMetrics { schema: METRICS_SCHEMA, ..SourceMetrics::default() };
            let json = serde_json::to_vec(&metrics).unwrap();
            let is_unusable =
                matches!(parse(&json[..cut.index(json.len())]), MetricsFile::Unusable { .. });
            prop_assert!(is_unusable);
        }
    }
}
