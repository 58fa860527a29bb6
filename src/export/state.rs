//! State file of an export: its options, and how far it has come.
//!
//! It is written durably after everything that it counts is durable. So after a crash, what is in
//! the target folder and not in the state file is removed and exported again.

use std::path::Path;

use cynosure_engine::{Timestamp, sanitize_line};
use serde::{Deserialize, Serialize};

use crate::disk::{Disk, read_small_file, storage_failure, write_durable};
use crate::export::failure::{ExportFailure, write_failure};
use crate::export::folder_names::{ExportedFolder, FOLDERS_MAX};
use crate::export::options::ExportOptions;
use crate::export::target::state_file;

/// Schema version that this program reads and writes.
const SCHEMA: u64 = 1;

/// Maximum size of the entry of a folder, in bytes: a name of control characters, each written with
/// six bytes, and its path.
const FOLDER_BYTES_MAX: u64 = 10 * 1024;

/// Maximum size of a state file, in bytes.
const STATE_BYTES_MAX: u64 = FOLDER_BYTES_MAX * FOLDERS_MAX as u64;

/// Damaged documents that are named. All of them are counted.
pub(super) const DAMAGED_NAMED_MAX: usize = 20;

/// State of an export.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ExportState {
    schema: u64,
    pub options: ExportOptions,
    pub started_at: Timestamp,
    /// `None` until everything is exported.
    pub completed_at: Option<Timestamp>,
    pub sources: Vec<ExportedSource>,
}

/// Progress of one source.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ExportedSource {
    pub name: String,
    pub account: Option<String>,
    /// Id of the ledger, whose row numbers the progress consists of.
    pub ledger: Option<String>,
    /// Last row to export: the newest at the beginning.
    pub newest_row: i64,
    /// Last row that is exported; 0 for none.
    pub last_row: i64,
    pub is_complete: bool,
    pub counts: ExportCounts,
    /// The first damaged documents.
    pub damaged: Vec<DamagedFile>,
    /// Folders of the source; empty once the source is complete.
    pub(super) folders: Vec<ExportedFolder>,
    #[serde(default)]
    pub(super) zip: ZipLengths,
}

/// Counts of one source, or of all.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ExportCounts {
    /// Messages, each once.
    pub messages: u64,
    /// Bytes of the messages and of their earlier versions, each once, as archived.
    pub bytes: u64,
    /// Folders with messages.
    pub folders: u64,
    /// Further copies of messages that are in several folders.
    pub copies: u64,
    /// Earlier versions of messages.
    pub earlier_versions: u64,
    /// Documents that are no messages, which the format cannot hold.
    pub skipped: u64,
    /// Messages from before `--since`.
    pub older: u64,
    /// Documents that are missing in the archive, or damaged there.
    pub damaged: u64,
}

/// Document that is missing in the archive, or damaged there.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DamagedFile {
    /// Path in the archive.
    pub path: String,
    /// Kind of the damage, as a few words.
    pub reason: String,
}

/// Lengths of the files of a ZIP export that count.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct ZipLengths {
    /// Bytes of the ZIP file without its central directory.
    pub(super) archive: u64,
    /// Bytes of the central directory, which is a separate file until the end.
    pub(super) directory: u64,
    pub(super) entries: u64,
}

/// Header of the file: the one key that every version has.
#[derive(Deserialize)]
struct ExportStateHeader {
    schema: u64,
}

impl ExportState {
    #[must_use]
    pub(super) fn new(
        options: ExportOptions,
        started_at: Timestamp,
        sources: Vec<ExportedSource>,
    ) -> Self {
        Self { schema: SCHEMA, options, started_at, completed_at: None, sources }
    }

    /// Reads the state of the export in the folder `dir`; `None` if there is none.
    ///
    /// # Errors
    /// A storage failure, or a file that this program cannot read.
    pub fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, ExportFailure> {
        let path = state_file(dir);
        let read = read_small_file(disk, &path, STATE_BYTES_MAX)
            .map_err(|error| storage_failure("read", &path, &error))?;
        let Some(bytes) = read else { return Ok(None) };
        let state = bytes.and_then(|bytes| Self::parse(&bytes)).map_err(|reason| {
            let path = sanitize_line(&path.to_string_lossy());
            ExportFailure::Refused(format!(
                "{path} cannot be read: {reason}; choose an empty or new folder"
            ))
        })?;
        Ok(Some(state))
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let to_reason = |error: serde_json::Error| sanitize_line(&error.to_string());
        let ExportStateHeader { schema } = serde_json::from_slice(bytes).map_err(to_reason)?;
        if schema > SCHEMA {
            return Err(format!(
                "a newer cynosure wrote it: schema {schema}, this one knows {SCHEMA}"
            ));
        }
        serde_json::from_slice(bytes).map_err(to_reason)
    }

    /// Writes the state durably.
    ///
    /// # Errors
    /// A storage failure.
    pub(super) fn write(&self, disk: &dyn Disk, dir: &Path) -> Result<(), ExportFailure> {
        let path = state_file(dir);
        // Without spaces, because it has every folder, and is written after each group.
        // Serialization cannot fail: all keys are strings, and there are no fractions.
        let mut json = serde_json::to_vec(self).unwrap_or_default();
        json.push(b'\n');
        write_durable(disk, &path, &json).map_err(|error| write_failure("write", &path, &error))?;
        Ok(())
    }

    /// Checks that an export with these options continues this one. The time of an age such as `2h`
    /// counts from the beginning, so it may differ.
    ///
    /// # Errors
    /// The options are others.
    pub fn check_options(&self, given: &ExportOptions) -> Result<(), ExportFailure> {
        let (begun, given) = (self.options.to_arguments(), given.to_arguments());
        if begun == given {
            return Ok(());
        }
        let begun = sanitize_line(&begun);
        Err(ExportFailure::Refused(format!(
            "the export into this folder began with other options: continue it with `{begun}`, or \
             choose an empty or new folder"
        )))
    }

    /// Returns the counts of all sources together.
    #[must_use]
    pub fn total(&self) -> ExportCounts {
        let mut total = ExportCounts::default();
        for source in &self.sources {
            total.add(&source.counts);
        }
        total
    }
}

impl ExportCounts {
    fn add(&mut self, other: &Self) {
        let Self { messages, bytes, folders, copies, earlier_versions, skipped, older, damaged } =
            other;
        self.messages += messages;
        self.bytes += bytes;
        self.folders += folders;
        self.copies += copies;
        self.earlier_versions += earlier_versions;
        self.skipped += skipped;
        self.older += older;
        self.damaged += damaged;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{MemoryDisk, ensure_folder};
    use crate::export::folder_names::FolderKey;
    use crate::export::options::{ExportFormat, LineEnds, MaildirLayout, SinceLimit};
    use crate::export::target::work_folder;

    fn state() -> ExportState {
        let options = ExportOptions {
            format: ExportFormat::Mbox,
            line_ends: LineEnds::Lf,
            layout: MaildirLayout::Folders,
            source: None,
            since: None,
        };
        let source = |name: &str, messages| ExportedSource {
            name: name.to_owned(),
            account: None,
            ledger: Some("id".to_owned()),
            newest_row: 9,
            last_row: 7,
            is_complete: false,
            counts: ExportCounts { messages, damaged: 1, ..ExportCounts::default() },
            damaged: vec![DamagedFile { path: "/a".to_owned(), reason: "missing".to_owned() }],
            folders: vec![
                ExportedFolder { key: FolderKey::NoFolder, path: "x".to_owned(), length: 5 },
                ExportedFolder {
                    key: FolderKey::Named("INBOX".to_owned()),
                    path: "INBOX".to_owned(),
                    length: 0,
                },
            ],
            zip: ZipLengths::default(),
        };
        ExportState::new(options, Timestamp(1_000), vec![source("one", 3), source("two", 4)])
    }

    fn disk_with_work_folder() -> MemoryDisk {
        let disk = MemoryDisk::default();
        ensure_folder(&disk, &work_folder(Path::new("/out"))).unwrap();
        disk
    }

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let disk = disk_with_work_folder();
        let dir = Path::new("/out");
        assert_eq!(ExportState::read(&disk, dir), Ok(None));

        state().write(&disk, dir).unwrap();

        assert_eq!(ExportState::read(&disk, dir), Ok(Some(state())));
        let total = state().total();
        assert_eq!((total.messages, total.damaged, total.bytes), (7, 2, 0));
    }

    #[test]
    fn only_the_same_options_continue_an_export() {
        let since = |at| SinceLimit { text: "2h".to_owned(), at: Timestamp(at) };
        let mut begun = state();
        begun.options.since = Some(since(1));
        let same = ExportOptions { since: Some(since(2)), ..begun.options.clone() };
        let other = ExportOptions { line_ends: LineEnds::Keep, ..same.clone() };

        assert_eq!(begun.check_options(&same), Ok(()));
        let error = begun.check_options(&other).unwrap_err().to_string();
        assert!(error.contains("`--format mbox --line-ends lf --since 2h`"), "{error}");
    }

    #[test]
    fn a_state_that_cannot_be_read_is_refused() {
        let newer = br#"{"schema": 2, "options": "other"}"#.as_slice();
        for (bytes, reason) in [
            (b"{\"schema\"".as_slice(), "EOF while parsing"),
            (newer, "a newer cynosure wrote it: schema 2, this one knows 1"),
            (b"{\"schema\": 1}".as_slice(), "missing field"),
        ] {
            let disk = disk_with_work_folder();
            let path = state_file(Path::new("/out"));
            disk.create_file(&path).unwrap().append(bytes).unwrap();

            let error = ExportState::read(&disk, Path::new("/out")).unwrap_err().to_string();

            assert!(error.contains(reason), "{error}");
            assert!(error.ends_with("; choose an empty or new folder"), "{error}");
        }
    }
}
