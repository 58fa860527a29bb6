//! Tests of the archive with crashes and faults at every operation, beside a minimal ledger.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

use cynosure_engine::{BlobId, Cause, DocumentId, ItemId, LedgerId};
use rustix::io::Errno;

use super::layout::FIRST_VERSION;
use super::line_file::LINES_FILE;
use super::manifest::MANIFEST_FILE;
use super::verify::{FileCheck, check_document, check_file, list_orphans};
use super::*;
use crate::disk::{DiskFault, FaultDuration, MemoryDisk, RealDisk};

mod damage;
mod lines;
mod spool_memory;
mod unmounted;
mod versions;

const STARTED: Timestamp = Timestamp(1_772_874_303_456);
const ACCOUNT: &str = "me@example.com";

/// Numbers of threads and messages of each batch: one synced file by file, one by `syncfs` with
/// many folders, one with few folders and a spilled document.
const BATCHES: [(usize, usize); 3] = [(2, 3), (12, 12), (2, 10)];

/// The only document that is too long for memory.
const LONG_DOCUMENT: &str = "m-2-0";

/// Order in which batches are staged and published.
#[derive(Clone, Copy, Debug)]
enum BatchOrder {
    /// Each batch is published before the next is staged.
    Sequential,
    /// Each batch is staged before the previous one is published.
    Overlapping,
}

const BATCH_ORDERS: [BatchOrder; 2] = [BatchOrder::Sequential, BatchOrder::Overlapping];

/// Rows that a real ledger would have after its last commit.
#[derive(Default)]
struct ModelLedger {
    folder: Option<FolderName>,
    stored: BTreeMap<(ItemId, DocumentId), (ArchiveLocation, PublishedFile)>,
}

impl ModelLedger {
    fn is_stored(&self, item: &ItemId, document: &DocumentId, location: &ArchiveLocation) -> bool {
        let stored = self.stored.get(&(item.clone(), document.clone()));
        stored.is_some_and(|(stored_location, _)| stored_location == location)
    }
}

/// Worker with a model ledger on one disk.
struct TestWorker {
    disk: MemoryDisk,
    order: BatchOrder,
    layout: RecordLayout,
    ledger: ModelLedger,
    fetch_count: Cell<usize>,
}

/// Staged batch and its documents in order.
type StagedDocuments = (Vec<(ItemId, DocumentId)>, StagedFiles);

fn batch_entry(
    item: &ItemId,
    document: &DocumentId,
    version: u32,
    spooled: SpooledDocument,
) -> BatchEntry {
    let blob = BlobId::new(document.as_str());
    BatchEntry {
        item: item.clone(),
        document: document.clone(),
        blob,
        size: None,
        version,
        labels: Vec::new(),
        folders: Vec::new(),
        spooled,
    }
}

impl TestWorker {
    fn new(order: BatchOrder) -> Self {
        Self::with_layout(order, RecordLayout::Files)
    }

    fn with_layout(order: BatchOrder, layout: RecordLayout) -> Self {
        let (disk, ledger) = (MemoryDisk::default(), ModelLedger::default());
        Self { disk, order, layout, ledger, fetch_count: Cell::new(0) }
    }

    /// Runs a worker from its start to the end of all batches, or to its first failure.
    fn run_to_end(&mut self) -> Result<RecoveryReport, Failure> {
        let (archive, report) = self.open_archive()?;
        self.store_batches(&archive)?;
        Ok(report)
    }

    fn open_archive(&self) -> Result<(FileArchive, RecoveryReport), Failure> {
        let disk = Arc::new(self.disk.clone());
        let (marker, owner) = write_marker(disk, "/downloads", self.ledger.folder.is_some())?;
        let format = DocumentFormat { layout: self.layout, ..DocumentFormat::default() };
        FileArchive::open(marker, owner, format, |item, id, location| {
            Ok(self.ledger.is_stored(item, id, location))
        })
    }

    /// Lists the files except manifests, files of lines, the marker and the marker's temporary
    /// file.
    fn files(&self) -> Vec<PathBuf> {
        let is_listed = |path: &PathBuf| {
            let path = path.to_string_lossy();
            !path.contains(MARKER_FILE)
                && !path.ends_with(MANIFEST_FILE)
                && !path.ends_with(LINES_FILE)
        };
        self.disk.files().into_keys().filter(is_listed).collect()
    }

    /// Asserts that the manifest and the files alone yield the documents of the ledger.
    ///
    /// After a kill a document may be missing from the manifest: this disk treats a call that a
    /// kill prevents as a failed sync, after which the file is never durable. Its name then gives
    /// its ids, unless it is a line.
    fn assert_adoptable(&self, is_in_manifest: bool, context: &str) {
        let Some(folder) = &self.ledger.folder else { return };
        if self.layout == RecordLayout::Lines && !is_in_manifest {
            return;
        }
        let root = Path::new("/downloads");
        let extension = FileExtension::default();
        let contents = FolderContents::read(&self.disk, root, folder, &extension).unwrap();
        assert_eq!(contents.skipped, [], "{context}");
        assert_eq!(contents.documents.len(), self.ledger.stored.len(), "{context}");
        let files: BTreeMap<&str, &PublishedFile> =
            self.ledger.stored.values().map(|(_, file)| (&*file.file, file)).collect();
        for found in &contents.documents {
            let sha256 = found.compute_sha256(&self.disk, root, folder).unwrap();
            let file = files[&*found.file];
            assert_eq!((found.length, sha256), (file.length, file.sha256), "{context}");
            assert!(
                found.blob.is_some() || !is_in_manifest,
                "{context}: {} is in no manifest",
                found.file
            );
        }
    }

    fn store_batches(&mut self, archive: &FileArchive) -> Result<(), Failure> {
        archive.settle_lines(|item, id, location| Ok(self.ledger.is_stored(item, id, location)))?;
        let folder = match self.ledger.folder.clone() {
            Some(folder) => folder,
            None => archive.create_session_folder(STARTED, ACCOUNT)?,
        };
        self.ledger.folder = Some(folder.clone());
        let mut pending: Option<StagedDocuments> = None;
        for number in 0..BATCHES.len() {
            let documents: Vec<_> = documents_of_batch(number)
                .filter(|key| !self.ledger.stored.contains_key(key))
                .collect();
            if documents.is_empty() {
                continue;
            }
            let staged = self.stage_batch(archive, &folder, &documents);
            // The previous batch is committed even if this one failed.
            if let Some(previous) = pending.take() {
                self.publish_and_commit(archive, &folder, previous)?;
            }
            let staged = (documents, staged?);
            match self.order {
                BatchOrder::Sequential => self.publish_and_commit(archive, &folder, staged)?,
                BatchOrder::Overlapping => pending = Some(staged),
            }
        }
        pending.map_or(Ok(()), |last| self.publish_and_commit(archive, &folder, last))
    }

    fn stage_batch(
        &self,
        archive: &FileArchive,
        folder: &FolderName,
        documents: &[(ItemId, DocumentId)],
    ) -> Result<StagedFiles, Failure> {
        let mut batch = WriteBatch::new(folder.clone());
        for (item, document) in documents {
            let mut spooled = archive.spool_document();
            let bytes = match self.layout {
                RecordLayout::Files => document_bytes(document),
                RecordLayout::Lines => lines::record_bytes(document),
            };
            for chunk in bytes.chunks(100_000) {
                spooled.append(chunk)?;
            }
            self.fetch_count.set(self.fetch_count.get() + 1);
            batch.push(batch_entry(item, document, FIRST_VERSION, spooled));
        }
        archive.stage(batch)
    }

    fn publish_and_commit(
        &mut self,
        archive: &FileArchive,
        folder: &FolderName,
        (documents, staged): StagedDocuments,
    ) -> Result<(), Failure> {
        let (results, intent) = archive.publish(staged)?;
        // An extra operation, so that a fault can occur between the archive and the ledger.
        self.disk
            .path_kind(Path::new("/"))
            .map_err(|e| storage_failure("commit", archive.root(), &e))?;
        let mut last_failure = None;
        for (key, result) in documents.into_iter().zip(results) {
            match result {
                Ok(published) => {
                    let location = ArchiveLocation {
                        folder: folder.as_str().into(),
                        file: published.file.clone(),
                    };
                    self.ledger.stored.insert(key, (location, published));
                }
                Err(failure) => last_failure = Some(failure),
            }
        }
        archive.clear_intent(intent);
        last_failure.map_or(Ok(()), Err)
    }

    fn assert_stored_intact(&self, context: &str) {
        for (key, (location, published)) in &self.ledger.stored {
            let (folder, file) = (Path::new("/downloads").join(&location.folder), &location.file);
            let PublishedFile { length, sha256, .. } = published;
            let check = check_document(&self.disk, &folder, file, *length, sha256);
            assert_eq!(check, FileCheck::Intact, "{context}: {key:?}");
        }
    }

    /// Asserts that the ledger knows every file and line on the disk.
    fn assert_no_orphans(&self, context: &str) {
        let files = self.files();
        let stored = self.ledger.stored.values();
        let stored = stored.filter(|(_, published)| parse_line_place(&published.file).is_none());
        assert_eq!(files.len(), stored.count(), "{context}: {files:?}");
        self.assert_no_other_lines(context);
    }

    /// Asserts that all documents are stored and intact, and that there are no other files.
    fn assert_complete(&self, context: &str) {
        self.assert_stored_intact(context);
        assert_eq!(self.ledger.stored.len(), total_documents(), "{context}");
        self.assert_no_orphans(context);
    }
}

/// Writes the marker of the ledger as the worker does.
fn write_marker(
    disk: Arc<dyn Disk>,
    root: &str,
    has_stored_documents: bool,
) -> Result<(ArchiveMarker, ArchiveOwner), Failure> {
    let id = LedgerId::new("a");
    let marker = ArchiveMarker::new(disk, Path::new(root), "work");
    let owner = ArchiveOwner::new(&id, None, "work");
    let owner = match marker.check_claim(&LedgerClaim {
        ledger: Some(id),
        account: None,
        has_stored_documents,
    })? {
        ArchiveBinding::Ours(owner) => owner,
        ArchiveBinding::Unclaimed => {
            marker.create_folder()?;
            marker.write(&owner)?;
            owner
        }
    };
    Ok((marker, owner))
}

fn documents_of_batch(batch: usize) -> impl Iterator<Item = (ItemId, DocumentId)> {
    let (threads, messages) = BATCHES[batch];
    (0..messages).map(move |message| {
        let item = ItemId::new(format!("T{batch}-{}", message % threads));
        (item, DocumentId::new(format!("m-{batch}-{message}")))
    })
}

fn total_documents() -> usize {
    BATCHES.iter().map(|(_, messages)| messages).sum()
}

/// Maximum number of documents fetched again after a crash: those of the batches in flight.
fn max_refetched(order: BatchOrder) -> usize {
    let mut sizes = BATCHES.map(|(_, messages)| messages);
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    match order {
        BatchOrder::Sequential => sizes[0],
        BatchOrder::Overlapping => sizes[0] + sizes[1],
    }
}

fn document_bytes(document: &DocumentId) -> Vec<u8> {
    let line = format!("Subject: {document}\r\n\r\n");
    let repeats = if document.as_str() == LONG_DOCUMENT {
        SPOOL_MEMORY_BYTES_MAX / line.len() + 1
    } else {
        1
    };
    line.into_bytes().repeat(repeats)
}

fn operation_count(order: BatchOrder, layout: RecordLayout) -> u64 {
    let mut worker = TestWorker::with_layout(order, layout);
    worker.run_to_end().unwrap();
    let operations = worker.disk.operation_count();
    worker.assert_complete("undisturbed");
    operations
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing() {
    assert_power_cuts_lose_nothing(RecordLayout::Files);
}

fn assert_power_cuts_lose_nothing(layout: RecordLayout) {
    for order in BATCH_ORDERS {
        for at in 0..=operation_count(order, layout) {
            for seed in 0..6 {
                let mut worker = TestWorker::with_layout(order, layout);
                worker.disk.set_fault(DiskFault::stop_at(at));
                drop(worker.run_to_end());
                worker.disk.power_cut(seed);
                let context = format!("{order:?}, operation {at}, seed {seed}");
                worker.assert_stored_intact(&context);

                drop(worker.open_archive().unwrap());
                worker.assert_no_orphans(&context);
                worker.assert_adoptable(true, &context);
                worker.run_to_end().unwrap();

                worker.assert_complete(&format!("{context}, resumed"));
                worker.assert_adoptable(true, &format!("{context}, resumed"));
                assert!(
                    worker.fetch_count.get() <= total_documents() + max_refetched(order),
                    "{context}"
                );
                worker.disk.power_cut(seed);
                worker.assert_stored_intact(&format!("{context}, cut again"));
            }
        }
    }
}

#[test]
fn a_kill_and_a_power_cut_during_recovery_lose_nothing() {
    assert_cut_recoveries_lose_nothing(RecordLayout::Files);
}

fn assert_cut_recoveries_lose_nothing(layout: RecordLayout) {
    for order in BATCH_ORDERS {
        for at in 0..=operation_count(order, layout) {
            for later in (0..40).step_by(3) {
                let mut worker = TestWorker::with_layout(order, layout);
                worker.disk.set_fault(DiskFault::stop_at(at));
                drop(worker.run_to_end());
                // Unlike a power cut, a kill loses no unsynced writes.
                worker.disk.set_fault(DiskFault::stop_at(worker.disk.operation_count() + later));
                drop(worker.run_to_end());
                worker.disk.power_cut(later % 5);
                let context = format!("{order:?}, operations {at} and {later}");
                worker.assert_stored_intact(&context);

                drop(worker.open_archive().unwrap());
                worker.assert_no_orphans(&context);
                worker.assert_adoptable(false, &context);
                worker.run_to_end().unwrap();

                worker.assert_complete(&format!("{context}, resumed"));
                worker.assert_adoptable(false, &format!("{context}, resumed"));
            }
        }
    }
}

#[test]
fn a_failed_operation_stores_nothing_wrong_and_work_resumes() {
    assert_recovery_from_faults(RecordLayout::Files);
}

fn assert_recovery_from_faults(layout: RecordLayout) {
    for order in BATCH_ORDERS {
        for at_operation in 0..operation_count(order, layout) {
            for errno in [Errno::NOSPC, Errno::IO, Errno::ROFS] {
                for duration in [FaultDuration::Once, FaultDuration::Permanent] {
                    let mut worker = TestWorker::with_layout(order, layout);
                    let fault = DiskFault { at_operation, duration, errno };
                    assert_recovery_from(&mut worker, fault);
                }
            }
        }
    }
}

/// Asserts that a fault loses nothing that is stored, and that the work resumes after it.
fn assert_recovery_from(worker: &mut TestWorker, fault: DiskFault) {
    let context = format!("{:?}, {fault:?}", worker.order);
    worker.disk.set_fault(fault);
    let Ok((archive, _)) = worker.open_archive() else {
        assert!(worker.ledger.stored.is_empty());
        return;
    };
    let result = worker.store_batches(&archive);
    worker.disk.clear_fault();
    if let Err(failure) = result {
        assert_eq!(failure.cause, Cause::Storage);
        worker.store_batches(&archive).unwrap();
    }

    worker.disk.power_cut(0);

    worker.assert_stored_intact(&context);
    worker.run_to_end().unwrap();
    worker.assert_complete(&context);
}

#[test]
fn a_failed_batch_does_not_affect_the_previous_one() {
    let mut worker = TestWorker::new(BatchOrder::Overlapping);
    let (archive, _) = worker.open_archive().unwrap();
    let folder = archive.create_session_folder(STARTED, ACCOUNT).unwrap();
    let documents: [Vec<_>; 2] = [1, 2].map(|number| documents_of_batch(number).collect());
    let first = worker.stage_batch(&archive, &folder, &documents[0]).unwrap();

    let at = worker.disk.operation_count();
    worker.disk.set_fault(DiskFault {
        at_operation: at,
        duration: FaultDuration::Permanent,
        errno: Errno::NOSPC,
    });
    worker.stage_batch(&archive, &folder, &documents[1]).unwrap_err();
    worker.disk.clear_fault();
    worker.publish_and_commit(&archive, &folder, (documents[0].clone(), first)).unwrap();
    worker.disk.power_cut(0);

    assert_eq!(worker.ledger.stored.len(), documents[0].len());
    worker.assert_stored_intact("the first");
    drop(worker.open_archive().unwrap());
    worker.assert_no_orphans("the second");
}

#[test]
fn opening_twice_removes_nothing_more() {
    let mut worker = TestWorker::new(BatchOrder::Sequential);
    let operations = operation_count(BatchOrder::Sequential, RecordLayout::Files);
    worker.disk.set_fault(DiskFault::stop_at(operations - 2));
    drop(worker.run_to_end());
    worker.disk.clear_fault();

    let (_, first) = worker.open_archive().unwrap();
    let (_, second) = worker.open_archive().unwrap();

    assert!(first.removed_documents > 0 && first.removed_staged_files > 0, "{first:?}");
    assert_eq!(second, RecoveryReport::default());
}

#[test]
fn sessions_that_start_together_never_share_a_folder() {
    let (archive, _) = TestWorker::new(BatchOrder::Sequential).open_archive().unwrap();

    let first = archive.create_session_folder(STARTED, ACCOUNT).unwrap();
    let second = archive.create_session_folder(STARTED, ACCOUNT).unwrap();

    assert_eq!(first.as_str(), "2026-03-07_090503_me_example.com");
    assert_eq!(second.as_str(), "2026-03-07_090503_me_example.com_2");
}
