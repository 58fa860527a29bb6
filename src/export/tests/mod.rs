//! Tests of whole exports, on a disk in memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cynosure_engine::{DocumentId, ItemId, Timestamp};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::mboxrd::tests::read_mboxrd;
use super::*;
use crate::disk::{Disk, DiskFault, FaultDuration, MemoryDisk};
use crate::ledger::{AdoptedDocument, Ledger, SqliteLedger};

mod formats;
mod interruptions;
mod selection;

const OUT: &str = "/out";
const ARCHIVE: &str = "/archive";

/// 2026-03-07 09:05:03 UTC.
const NOW: Timestamp = Timestamp(1_772_874_303_000);

/// Small groups, so that a short export has several.
const SMALL_GROUP: GroupSize = GroupSize { messages: 2, bytes: u64::MAX };

/// Stored document of a test: id, bytes, and folders.
type TestDocument<'a> = (&'a str, &'a str, &'a [&'a str]);

/// Mailbox with messages in no folder, in one, and in two.
const MAILBOX: [TestDocument<'static>; 5] = [
    ("a.eml", "Date: 7 Mar 2026 08:00:00 +0000\r\n\r\nFrom me\r\n>From you\r\n", &["INBOX"]),
    ("b.eml", "Date: 6 Mar 2026 08:00:00 +0000\r\n\r\nshared", &["INBOX", "Work/2026"]),
    ("c.eml", "Subject: no date\r\n\r\nnowhere\r\n", &[]),
    ("d.eml", "Date: 5 Mar 2026 08:00:00 +0000\r\n\r\nother case\r\n", &["work/2026"]),
    ("e.eml", "", &["INBOX"]),
];

/// Archive of one source: its ledger in a folder, and the files to put on a disk.
struct TestArchive {
    home: TempDir,
    ledger: SqliteLedger,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

/// Control of an export that stops after a number of documents.
struct TestControl {
    documents_left: Option<u64>,
}

impl TestArchive {
    fn empty() -> Self {
        let home = tempfile::tempdir().unwrap();
        let ledger = SqliteLedger::open(&home.path().join("ledger.sqlite")).unwrap();
        Self { home, ledger, files: BTreeMap::new() }
    }

    /// Creates the archive of [`MAILBOX`], in which the first message has an earlier version.
    fn of_mailbox() -> Self {
        let mut archive = Self::empty();
        archive.adopt("one", &[("a.eml", "Subject: draft\r\n\r\n", &["INBOX"])]);
        archive.adopt("two", &MAILBOX);
        archive
    }

    /// Stores documents in the folder of a session. The id is the name of the file.
    fn adopt(&mut self, session: &str, documents: &[TestDocument<'_>]) {
        let mut adopted = Vec::new();
        for (file, bytes, folders) in documents {
            let file = format!("t/{file}");
            let path = Path::new(ARCHIVE).join(session).join(&file);
            self.files.insert(path, bytes.as_bytes().into());
            adopted.push(to_adopted(&file, bytes, folders));
        }
        self.ledger.adopt_folder(session, NOW, &adopted).unwrap();
    }

    /// Returns a disk with the files of the archive.
    fn disk(&self) -> MemoryDisk {
        let disk = MemoryDisk::default();
        let mut filesystem = disk.open_filesystem(Path::new("/")).unwrap();
        for (path, bytes) in &self.files {
            let folder = path.parent().unwrap().strip_prefix("/").unwrap();
            writer::create_folders(&disk, Path::new("/"), folder).unwrap();
            disk.create_file(path).unwrap().append(bytes).unwrap();
        }
        filesystem.sync().unwrap();
        disk
    }

    fn source(&self, name: &str) -> ExportSource {
        let path = self.home.path().join("ledger.sqlite");
        ExportSource {
            name: name.to_owned(),
            account: Some("me@example.com".to_owned()),
            ledger: Box::new(SqliteLedger::open_read_only(&path).unwrap().unwrap()),
            marker: None,
        }
    }

    fn export(
        &self,
        disk: &MemoryDisk,
        options: &ExportOptions,
    ) -> Result<ExportOutcome, ExportFailure> {
        let control = TestControl { documents_left: None };
        run_export(disk, vec![self.source("work")], options, control)
    }

    /// Exports everything to a new disk, and returns what is on it, with the counts.
    fn exported(&self, options: &ExportOptions) -> (MemoryDisk, ExportCounts) {
        let disk = self.disk();
        let state = complete_state(self.export(&disk, options).unwrap());
        (disk, state.total())
    }
}

impl ExportControl for TestControl {
    fn now(&self) -> Timestamp {
        NOW
    }

    fn should_stop(&self) -> bool {
        self.documents_left == Some(0)
    }

    fn show_progress(&mut self, progress: &ExportProgress<'_>) {
        assert!(progress.row <= progress.newest_row, "{progress:?}");
        if let Some(left) = &mut self.documents_left {
            *left -= 1;
        }
    }
}

fn to_adopted(file: &str, bytes: &str, folders: &[&str]) -> AdoptedDocument {
    let name = file.rsplit('/').next().unwrap();
    AdoptedDocument {
        item: ItemId::new("t"),
        document: DocumentId::new(name.split('.').next().unwrap()),
        blob: None,
        size: None,
        length: bytes.len() as u64,
        sha256: Sha256::digest(bytes).into(),
        file: file.to_owned(),
        labels: Vec::new(),
        folders: folders.iter().map(|&folder| folder.to_owned()).collect(),
    }
}

fn run_export(
    disk: &MemoryDisk,
    sources: Vec<ExportSource>,
    options: &ExportOptions,
    mut control: TestControl,
) -> Result<ExportOutcome, ExportFailure> {
    let (dir, archive) = (Path::new(OUT), Path::new(ARCHIVE));
    prepare_target(disk, dir)?;
    let options = options.clone();
    let job = ExportJob { disk, dir, archive, options, sources, group_max: SMALL_GROUP };
    job.run(&mut control)
}

fn complete_state(outcome: ExportOutcome) -> ExportState {
    let ExportOutcome::Complete(state) = outcome else { panic!("not complete: {outcome:?}") };
    state
}

fn options(format: ExportFormat) -> ExportOptions {
    ExportOptions {
        format,
        line_ends: LineEnds::Keep,
        layout: MaildirLayout::Folders,
        source: None,
        since: None,
    }
}

fn all_options() -> [ExportOptions; 4] {
    let plus_plus =
        ExportOptions { layout: MaildirLayout::PlusPlus, ..options(ExportFormat::Maildir) };
    [
        options(ExportFormat::Maildir),
        plus_plus,
        options(ExportFormat::Mbox),
        options(ExportFormat::Zip),
    ]
}

/// Returns the exported files by their paths below the target folder.
fn exported_files(disk: &MemoryDisk) -> BTreeMap<String, Vec<u8>> {
    let files = disk.files().into_iter().filter_map(|(path, bytes)| {
        let path = path.strip_prefix(OUT).ok()?.to_str()?.to_owned();
        (!path.starts_with(".cynosure-export")).then_some((path, bytes))
    });
    files.collect()
}

fn names(files: &BTreeMap<String, Vec<u8>>) -> Vec<&str> {
    files.keys().map(String::as_str).collect()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}
