//! Tests of the archive with crashes and faults at every operation, beside a minimal ledger.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

use rustix::io::Errno;

use super::layout::FIRST_VERSION;
use super::manifest::MANIFEST_FILE;
use super::verify::{FileCheck, check_file, list_orphans};
use super::*;
use crate::disk::{DiskFault, FaultDuration, MemoryDisk, RealDisk};
use crate::engine::{BlobId, Cause, DocumentId, ItemId, LedgerId};

mod damage;
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

/// Worker with a model ledger on one disk.
struct TestWorker {
    disk: MemoryDisk,
    order: BatchOrder,
    ledger: ModelLedger,
    fetch_count: Cell<usize>,
}

/// Staged batch and its documents in order.
type StagedDocuments = (Vec<(ItemId, DocumentId)>, StagedBatch);

fn batch_entry(
    item: &ItemId,
    document: &DocumentId,
    version: u32,
    draft: SpooledDocument,
) -> BatchEntry {
    let blob = BlobId::new(document.as_str());
    BatchEntry {
        item: item.clone(),
        document: document.clone(),
        blob,
        size: None,
        version,
        spooled: draft,
    }
}

impl TestWorker {
    fn new(order: BatchOrder) -> Self {
        let disk = MemoryDisk::default();
        Self { disk, order, ledger: ModelLedger::default(), fetch_count: Cell::new(0) }
    }

    /// Runs a worker from its start to the end of all batches, or to its first failure.
    fn run_to_end(&mut self) -> Result<RecoveryReport, Failure> {
        let (archive, recovered) = self.open_archive()?;
        self.store_batches(&archive)?;
        Ok(recovered)
    }

    fn open_archive(&self) -> Result<(Archive, RecoveryReport), Failure> {
        let disk = Arc::new(self.disk.clone());
        let (marker, owner) = write_marker(disk, "/downloads", self.ledger.folder.is_some())?;
        Archive::open(marker, owner, |item, document, at| {
            let stored = self.ledger.stored.get(&(item.clone(), document.clone()));
            Ok(stored.is_some_and(|(stored_at, _)| stored_at == at))
        })
    }

    /// Lists the files except manifests, the marker and the marker's temporary file.
    fn files(&self) -> Vec<PathBuf> {
        let is_ours = |path: &PathBuf| {
            let path = path.to_string_lossy();
            !path.contains(MARKER_FILE) && !path.ends_with(MANIFEST_FILE)
        };
        self.disk.files().into_keys().filter(is_ours).collect()
    }

    /// Asserts that the manifest and the files alone yield the documents of the ledger.
    ///
    /// After a kill a document may be missing from the manifest: this disk treats a call that a
    /// kill prevents as a failed sync, after which the file is never durable. Its name then gives
    /// its ids.
    fn assert_adoptable(&self, is_in_manifest: bool, when: &str) {
        let Some(folder) = &self.ledger.folder else { return };
        let root = Path::new("/downloads");
        let contents = FolderContents::read(&self.disk, root, folder).unwrap();
        assert_eq!(contents.skipped, [], "{when}");
        assert_eq!(contents.documents.len(), self.ledger.stored.len(), "{when}");
        let kept: BTreeMap<&str, &PublishedFile> =
            self.ledger.stored.values().map(|(_, kept)| (&*kept.file, kept)).collect();
        for found in &contents.documents {
            let sha256 = found.compute_sha256(&self.disk, root, folder).unwrap();
            let kept = kept[&*found.file];
            assert_eq!((found.length, sha256), (kept.length, kept.sha256), "{when}");
            assert!(
                found.blob.is_some() || !is_in_manifest,
                "{when}: {} is in no manifest",
                found.file
            );
        }
    }

    fn store_batches(&mut self, archive: &Archive) -> Result<(), Failure> {
        let folder = match self.ledger.folder.clone() {
            Some(folder) => folder,
            None => archive.create_session_folder(STARTED, ACCOUNT)?,
        };
        self.ledger.folder = Some(folder.clone());
        let mut pending: Option<StagedDocuments> = None;
        for number in 0..BATCHES.len() {
            let wanted: Vec<_> = documents_of_batch(number)
                .filter(|key| !self.ledger.stored.contains_key(key))
                .collect();
            if wanted.is_empty() {
                continue;
            }
            let written = self.stage_batch(archive, &folder, &wanted);
            // The previous batch is committed even if this one failed.
            if let Some(before) = pending.take() {
                self.publish_and_commit(archive, &folder, before)?;
            }
            let written = (wanted, written?);
            match self.order {
                BatchOrder::Sequential => self.publish_and_commit(archive, &folder, written)?,
                BatchOrder::Overlapping => pending = Some(written),
            }
        }
        pending.map_or(Ok(()), |last| self.publish_and_commit(archive, &folder, last))
    }

    fn stage_batch(
        &self,
        archive: &Archive,
        folder: &FolderName,
        wanted: &[(ItemId, DocumentId)],
    ) -> Result<StagedBatch, Failure> {
        let mut group = WriteBatch::new(folder.clone());
        for (item, document) in wanted {
            let mut draft = archive.spool_document();
            for chunk in document_bytes(document).chunks(100_000) {
                draft.append(chunk)?;
            }
            self.fetch_count.set(self.fetch_count.get() + 1);
            group.push(batch_entry(item, document, FIRST_VERSION, draft));
        }
        archive.stage_batch(group)
    }

    fn publish_and_commit(
        &mut self,
        archive: &Archive,
        folder: &FolderName,
        (wanted, written): StagedDocuments,
    ) -> Result<(), Failure> {
        let (answers, intent) = archive.publish(written)?;
        // An extra operation, so that a fault can occur between the archive and the ledger.
        self.disk
            .path_kind(Path::new("/"))
            .map_err(|e| storage_failure("commit", archive.root(), &e))?;
        let mut refused = None;
        for (key, answer) in wanted.into_iter().zip(answers) {
            match answer {
                Ok(kept) => {
                    let at =
                        ArchiveLocation { folder: folder.as_str().into(), file: kept.file.clone() };
                    self.ledger.stored.insert(key, (at, kept));
                }
                Err(failure) => refused = Some(failure),
            }
        }
        archive.clear_intent(intent);
        refused.map_or(Ok(()), Err)
    }

    fn assert_stored_intact(&self, when: &str) {
        for (key, (at, kept)) in &self.ledger.stored {
            let path = Path::new("/downloads").join(&at.folder).join(&at.file);
            let finding = check_file(&self.disk, &path, kept.length, &kept.sha256);
            assert_eq!(finding, FileCheck::Intact, "{when}: {key:?}");
        }
    }

    /// Asserts that the ledger knows every file on the disk.
    fn assert_no_orphans(&self, when: &str) {
        let files = self.files();
        assert_eq!(files.len(), self.ledger.stored.len(), "{when}: {files:?}");
    }

    /// Asserts that all documents are stored and intact, and that there are no other files.
    fn assert_complete(&self, when: &str) {
        self.assert_stored_intact(when);
        assert_eq!(self.ledger.stored.len(), total_documents(), "{when}");
        self.assert_no_orphans(when);
    }
}

/// Writes the marker of the ledger as the worker does.
fn write_marker(
    disk: Arc<dyn Disk>,
    root: &str,
    has_stored: bool,
) -> Result<(ArchiveMarker, ArchiveOwner), Failure> {
    let id = LedgerId::new("a");
    let marker = ArchiveMarker::new(disk, Path::new(root), "work");
    let owner = ArchiveOwner::new(&id, None, "work");
    let owner = match marker.check_claim(&LedgerClaim {
        ledger: Some(id),
        account: None,
        has_stored_documents: has_stored,
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

fn documents_of_batch(group: usize) -> impl Iterator<Item = (ItemId, DocumentId)> {
    let (threads, messages) = BATCHES[group];
    (0..messages).map(move |message| {
        let item = ItemId::new(format!("T{group}-{}", message % threads));
        (item, DocumentId::new(format!("m-{group}-{message}")))
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

fn operation_count(order: BatchOrder) -> u64 {
    let mut world = TestWorker::new(order);
    world.run_to_end().unwrap();
    let operations = world.disk.operation_count();
    world.assert_complete("undisturbed");
    operations
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing() {
    for order in BATCH_ORDERS {
        for at in 0..=operation_count(order) {
            for seed in 0..6 {
                let mut world = TestWorker::new(order);
                world.disk.set_fault(DiskFault::stop_at(at));
                drop(world.run_to_end());
                world.disk.power_cut(seed);
                let when = format!("{order:?}, operation {at}, seed {seed}");
                world.assert_stored_intact(&when);

                drop(world.open_archive().unwrap());
                world.assert_no_orphans(&when);
                world.assert_adoptable(true, &when);
                world.run_to_end().unwrap();

                world.assert_complete(&format!("{when}, resumed"));
                world.assert_adoptable(true, &format!("{when}, resumed"));
                assert!(
                    world.fetch_count.get() <= total_documents() + max_refetched(order),
                    "{when}"
                );
                world.disk.power_cut(seed);
                world.assert_stored_intact(&format!("{when}, cut again"));
            }
        }
    }
}

#[test]
fn a_kill_and_a_power_cut_during_recovery_lose_nothing() {
    for order in BATCH_ORDERS {
        for at in 0..=operation_count(order) {
            for later in (0..40).step_by(3) {
                let mut world = TestWorker::new(order);
                world.disk.set_fault(DiskFault::stop_at(at));
                drop(world.run_to_end());
                // Unlike a power cut, a kill loses no unsynced writes.
                world.disk.set_fault(DiskFault::stop_at(world.disk.operation_count() + later));
                drop(world.run_to_end());
                world.disk.power_cut(later % 5);
                let when = format!("{order:?}, operations {at} and {later}");
                world.assert_stored_intact(&when);

                drop(world.open_archive().unwrap());
                world.assert_no_orphans(&when);
                world.assert_adoptable(false, &when);
                world.run_to_end().unwrap();

                world.assert_complete(&format!("{when}, resumed"));
                world.assert_adoptable(false, &format!("{when}, resumed"));
            }
        }
    }
}

#[test]
fn a_failed_operation_stores_nothing_wrong_and_work_resumes() {
    for order in BATCH_ORDERS {
        for at in 0..operation_count(order) {
            for errno in [Errno::NOSPC, Errno::IO, Errno::ROFS] {
                for lasting in [FaultDuration::Once, FaultDuration::Permanent] {
                    fail_temporarily(
                        order,
                        DiskFault { at_operation: at, duration: lasting, errno },
                    );
                }
            }
        }
    }
}

fn fail_temporarily(order: BatchOrder, fault: DiskFault) {
    let when = format!("{order:?}, {fault:?}");
    let mut world = TestWorker::new(order);
    world.disk.set_fault(fault);
    let Ok((archive, _)) = world.open_archive() else {
        assert!(world.ledger.stored.is_empty());
        return;
    };
    let outcome = world.store_batches(&archive);
    world.disk.clear_fault();
    if let Err(failure) = outcome {
        assert_eq!(failure.cause, Cause::Storage);
        world.store_batches(&archive).unwrap();
    }

    world.disk.power_cut(0);

    world.assert_stored_intact(&when);
    world.run_to_end().unwrap();
    world.assert_complete(&when);
}

#[test]
fn a_failed_batch_does_not_affect_the_previous_one() {
    let mut world = TestWorker::new(BatchOrder::Overlapping);
    let (archive, _) = world.open_archive().unwrap();
    let folder = archive.create_session_folder(STARTED, ACCOUNT).unwrap();
    let wanted: [Vec<_>; 2] = [1, 2].map(|number| documents_of_batch(number).collect());
    let first = world.stage_batch(&archive, &folder, &wanted[0]).unwrap();

    let at = world.disk.operation_count();
    world.disk.set_fault(DiskFault {
        at_operation: at,
        duration: FaultDuration::Permanent,
        errno: Errno::NOSPC,
    });
    world.stage_batch(&archive, &folder, &wanted[1]).unwrap_err();
    world.disk.clear_fault();
    world.publish_and_commit(&archive, &folder, (wanted[0].clone(), first)).unwrap();
    world.disk.power_cut(0);

    assert_eq!(world.ledger.stored.len(), wanted[0].len());
    world.assert_stored_intact("the first");
    drop(world.open_archive().unwrap());
    world.assert_no_orphans("the second");
}

#[test]
fn opening_twice_removes_nothing_more() {
    let mut world = TestWorker::new(BatchOrder::Sequential);
    world.disk.set_fault(DiskFault::stop_at(operation_count(BatchOrder::Sequential) - 2));
    drop(world.run_to_end());
    world.disk.clear_fault();

    let (_, first) = world.open_archive().unwrap();
    let (_, second) = world.open_archive().unwrap();

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

#[test]
fn a_rewound_or_dropped_spool_leaves_no_files() {
    let world = TestWorker::new(BatchOrder::Sequential);
    let (archive, _) = world.open_archive().unwrap();
    let mut draft = archive.spool_document();

    draft.append(&vec![b'x'; SPOOL_MEMORY_BYTES_MAX]).unwrap();
    assert!(!draft.fits_in_memory(1));
    draft.append(b"x").unwrap();
    assert_eq!(world.files().len(), 1, "spilled");
    draft.rewind();

    assert_eq!((draft.length(), world.files().len()), (0, 0));
}

#[test]
fn a_batch_is_full_before_exceeding_its_limits() {
    let (archive, _) = TestWorker::new(BatchOrder::Sequential).open_archive().unwrap();
    let mut group = WriteBatch::new(archive.create_session_folder(STARTED, ACCOUNT).unwrap());

    while !group.is_full() {
        let mut draft = archive.spool_document();
        draft.append(&vec![b'x'; SPOOL_MEMORY_BYTES_MAX]).unwrap();
        let document = DocumentId::new(group.len().to_string());
        group.push(batch_entry(&ItemId::new("t"), &document, FIRST_VERSION, draft));
    }

    assert_eq!(group.len() * SPOOL_MEMORY_BYTES_MAX, BATCH_BYTES_MAX);
}
