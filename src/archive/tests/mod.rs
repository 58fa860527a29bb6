//! The archive under crashes and faults at every operation, beside a ledger of the simplest kind.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

use rustix::io::Errno;

use super::layout::FIRST_VERSION;
use super::manifest::MANIFEST_FILE;
use super::verify::{Finding, check, strays};
use super::*;
use crate::disk::{Fault, Lasting, MemoryDisk, RealDisk};
use crate::engine::{BlobId, Cause, DocumentId, ItemId, LedgerId};

mod unmounted;
mod versions;

const STARTED: Timestamp = Timestamp(1_772_874_303_456);
const ACCOUNT: &str = "me@example.com";

/// Threads and messages of each group: one synced file by file, one by the
/// filesystem with many folders, one with few folders and a spilled document.
const GROUPS: [(usize, usize); 3] = [(2, 3), (12, 12), (2, 10)];

/// The one document that is too long for memory.
const LONG: &str = "m-2-0";

/// How the groups follow each other.
#[derive(Clone, Copy, Debug)]
enum Order {
    /// Each is durable before the next is written.
    OneByOne,
    /// Each is written before the one before it is placed.
    Overlapping,
}

const ORDERS: [Order; 2] = [Order::OneByOne, Order::Overlapping];

/// What a real ledger would have after its last commit.
#[derive(Default)]
struct Remembered {
    folder: Option<FolderName>,
    stored: BTreeMap<(ItemId, DocumentId), (StoredAt, Kept)>,
}

/// A worker's life on one disk.
struct World {
    disk: MemoryDisk,
    order: Order,
    remembered: Remembered,
    fetched: Cell<usize>,
}

/// A group that is written, and its documents in their order.
type Pending = (Vec<(ItemId, DocumentId)>, Written);

fn paper(item: &ItemId, document: &DocumentId, version: u32, draft: Draft) -> Paper {
    let blob = BlobId::new(document.as_str());
    Paper { item: item.clone(), document: document.clone(), blob, size: None, version, draft }
}

impl World {
    fn new(order: Order) -> Self {
        let disk = MemoryDisk::default();
        Self { disk, order, remembered: Remembered::default(), fetched: Cell::new(0) }
    }

    /// Runs a worker from its start to the end of all groups, or to its first failure.
    fn run(&mut self) -> Result<Recovered, Failure> {
        let (archive, recovered) = self.open()?;
        self.work(&archive)?;
        Ok(recovered)
    }

    fn open(&self) -> Result<(Archive, Recovered), Failure> {
        let disk = Arc::new(self.disk.clone());
        let (marker, owner) = bound(disk, "/downloads", self.remembered.folder.is_some())?;
        Archive::open(marker, owner, |item, document, at| {
            let stored = self.remembered.stored.get(&(item.clone(), document.clone()));
            Ok(stored.is_some_and(|(stored_at, _)| stored_at == at))
        })
    }

    /// The files that are neither a manifest, nor the marker, nor a temporary one of that.
    fn files(&self) -> Vec<PathBuf> {
        let is_ours = |path: &PathBuf| {
            let path = path.to_string_lossy();
            !path.contains(OWNER_FILE) && !path.ends_with(MANIFEST_FILE)
        };
        self.disk.files().into_keys().filter(is_ours).collect()
    }

    /// What the manifest and the files say without a ledger is what the ledger has.
    ///
    /// After a kill a document may be in no manifest: to this disk a call that a kill prevents is a
    /// sync that failed, after which the file is never durable. Its name then says what it is.
    fn assert_can_be_adopted(&self, is_in_manifest: bool, when: &str) {
        let Some(folder) = &self.remembered.folder else { return };
        let root = Path::new("/downloads");
        let contents = FolderContents::read(&self.disk, root, folder).unwrap();
        assert_eq!(contents.left_alone, [], "{when}");
        assert_eq!(contents.documents.len(), self.remembered.stored.len(), "{when}");
        let kept: BTreeMap<&str, &Kept> =
            self.remembered.stored.values().map(|(_, kept)| (&*kept.file, kept)).collect();
        for found in &contents.documents {
            let sha256 = found.hashed(&self.disk, root, folder).unwrap();
            let kept = kept[&*found.file];
            assert_eq!((found.length, sha256), (kept.length, kept.sha256), "{when}");
            assert!(
                found.blob.is_some() || !is_in_manifest,
                "{when}: {} is in no manifest",
                found.file
            );
        }
    }

    fn work(&mut self, archive: &Archive) -> Result<(), Failure> {
        let folder = match self.remembered.folder.clone() {
            Some(folder) => folder,
            None => archive.create_folder(STARTED, ACCOUNT)?,
        };
        self.remembered.folder = Some(folder.clone());
        let mut pending: Option<Pending> = None;
        for number in 0..GROUPS.len() {
            let wanted: Vec<_> =
                documents(number).filter(|key| !self.remembered.stored.contains_key(key)).collect();
            if wanted.is_empty() {
                continue;
            }
            let written = self.write(archive, &folder, &wanted);
            // The one before goes on, whatever becomes of this one.
            if let Some(before) = pending.take() {
                self.settle(archive, &folder, before)?;
            }
            let written = (wanted, written?);
            match self.order {
                Order::OneByOne => self.settle(archive, &folder, written)?,
                Order::Overlapping => pending = Some(written),
            }
        }
        pending.map_or(Ok(()), |last| self.settle(archive, &folder, last))
    }

    fn write(
        &self,
        archive: &Archive,
        folder: &FolderName,
        wanted: &[(ItemId, DocumentId)],
    ) -> Result<Written, Failure> {
        let mut group = Group::new(folder.clone());
        for (item, document) in wanted {
            let mut draft = archive.draft();
            for chunk in bytes(document).chunks(100_000) {
                draft.append(chunk)?;
            }
            self.fetched.set(self.fetched.get() + 1);
            group.push(paper(item, document, FIRST_VERSION, draft));
        }
        archive.write(group)
    }

    fn settle(
        &mut self,
        archive: &Archive,
        folder: &FolderName,
        (wanted, written): Pending,
    ) -> Result<(), Failure> {
        let (answers, intent) = archive.place(written)?;
        // Dying between the archive and the ledger is a case of its own.
        self.disk
            .kind(Path::new("/"))
            .map_err(|e| storage_failure("commit", archive.root(), &e))?;
        let mut refused = None;
        for (key, answer) in wanted.into_iter().zip(answers) {
            match answer {
                Ok(kept) => {
                    let at = StoredAt { folder: folder.as_str().into(), file: kept.file.clone() };
                    self.remembered.stored.insert(key, (at, kept));
                }
                Err(failure) => refused = Some(failure),
            }
        }
        archive.forget(intent);
        refused.map_or(Ok(()), Err)
    }

    fn assert_stored_is_sound(&self, when: &str) {
        for (key, (at, kept)) in &self.remembered.stored {
            let path = Path::new("/downloads").join(&at.folder).join(&at.file);
            let finding = check(&self.disk, &path, kept.length, &kept.sha256);
            assert_eq!(finding, Finding::Sound, "{when}: {key:?}");
        }
    }

    /// The disk has no file that the ledger does not know.
    fn assert_nothing_else(&self, when: &str) {
        let files = self.files();
        assert_eq!(files.len(), self.remembered.stored.len(), "{when}: {files:?}");
    }

    /// All is stored, all is sound, and there is nothing else on the disk.
    fn assert_complete(&self, when: &str) {
        self.assert_stored_is_sound(when);
        assert_eq!(self.remembered.stored.len(), documents_total(), "{when}");
        self.assert_nothing_else(when);
    }
}

/// Writes the marker of the ledger as the worker does.
fn bound(disk: Arc<dyn Disk>, root: &str, has_stored: bool) -> Result<(Marker, Owner), Failure> {
    let id = LedgerId::new("a");
    let marker = Marker::new(disk, Path::new(root), "work");
    let owner = Owner::new(&id, None, "work");
    let owner = match marker.examine(&Claim { ledger: Some(id), account: None, has_stored })? {
        Binding::Ours(owner) => owner,
        Binding::Free => {
            marker.prepare()?;
            marker.write(&owner)?;
            owner
        }
    };
    Ok((marker, owner))
}

fn documents(group: usize) -> impl Iterator<Item = (ItemId, DocumentId)> {
    let (threads, messages) = GROUPS[group];
    (0..messages).map(move |message| {
        let item = ItemId::new(format!("T{group}-{}", message % threads));
        (item, DocumentId::new(format!("m-{group}-{message}")))
    })
}

fn documents_total() -> usize {
    GROUPS.iter().map(|(_, messages)| messages).sum()
}

/// The documents that are fetched again after a crash, at most: those of the groups under way.
fn repeated_max(order: Order) -> usize {
    let mut sizes = GROUPS.map(|(_, messages)| messages);
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    match order {
        Order::OneByOne => sizes[0],
        Order::Overlapping => sizes[0] + sizes[1],
    }
}

fn bytes(document: &DocumentId) -> Vec<u8> {
    let line = format!("Subject: {document}\r\n\r\n");
    let repeats = if document.as_str() == LONG { DRAFT_BYTES_MAX / line.len() + 1 } else { 1 };
    line.into_bytes().repeat(repeats)
}

fn operations_of_a_run(order: Order) -> u64 {
    let mut world = World::new(order);
    world.run().unwrap();
    let operations = world.disk.operations();
    world.assert_complete("undisturbed");
    operations
}

#[test]
fn a_power_cut_at_any_operation_loses_and_tears_nothing_and_repeats_what_was_under_way() {
    for order in ORDERS {
        for at in 0..=operations_of_a_run(order) {
            for seed in 0..6 {
                let mut world = World::new(order);
                world.disk.fail(Fault::stop(at));
                drop(world.run());
                world.disk.power_cut(seed);
                let when = format!("{order:?}, operation {at}, seed {seed}");
                world.assert_stored_is_sound(&when);

                drop(world.open().unwrap());
                world.assert_nothing_else(&when);
                world.assert_can_be_adopted(true, &when);
                world.run().unwrap();

                world.assert_complete(&format!("{when}, resumed"));
                world.assert_can_be_adopted(true, &format!("{when}, resumed"));
                assert!(world.fetched.get() <= documents_total() + repeated_max(order), "{when}");
                world.disk.power_cut(seed);
                world.assert_stored_is_sound(&format!("{when}, cut again"));
            }
        }
    }
}

#[test]
fn a_kill_at_any_operation_and_a_power_cut_during_the_recovery_lose_nothing() {
    for order in ORDERS {
        for at in 0..=operations_of_a_run(order) {
            for later in (0..40).step_by(3) {
                let mut world = World::new(order);
                world.disk.fail(Fault::stop(at));
                drop(world.run());
                // A kill leaves everything as a running system sees it.
                world.disk.fail(Fault::stop(world.disk.operations() + later));
                drop(world.run());
                world.disk.power_cut(later % 5);
                let when = format!("{order:?}, operations {at} and {later}");
                world.assert_stored_is_sound(&when);

                drop(world.open().unwrap());
                world.assert_nothing_else(&when);
                world.assert_can_be_adopted(false, &when);
                world.run().unwrap();

                world.assert_complete(&format!("{when}, resumed"));
                world.assert_can_be_adopted(false, &format!("{when}, resumed"));
            }
        }
    }
}

#[test]
fn a_failing_operation_stores_nothing_false_and_the_work_goes_on_when_it_is_over() {
    for order in ORDERS {
        for at in 0..operations_of_a_run(order) {
            for errno in [Errno::NOSPC, Errno::IO, Errno::ROFS] {
                for lasting in [Lasting::Once, Lasting::FromThenOn] {
                    fails_for_a_while(order, Fault { at, lasting, errno });
                }
            }
        }
    }
}

fn fails_for_a_while(order: Order, fault: Fault) {
    let when = format!("{order:?}, {fault:?}");
    let mut world = World::new(order);
    world.disk.fail(fault);
    let Ok((archive, _)) = world.open() else {
        assert!(world.remembered.stored.is_empty());
        return;
    };
    let outcome = world.work(&archive);
    world.disk.heal();
    if let Err(failure) = outcome {
        assert_eq!(failure.cause, Cause::Storage);
        world.work(&archive).unwrap();
    }

    world.disk.power_cut(0);

    world.assert_stored_is_sound(&when);
    world.run().unwrap();
    world.assert_complete(&when);
}

#[test]
fn a_group_that_cannot_be_written_leaves_the_one_before_it_alone() {
    let mut world = World::new(Order::Overlapping);
    let (archive, _) = world.open().unwrap();
    let folder = archive.create_folder(STARTED, ACCOUNT).unwrap();
    let wanted: [Vec<_>; 2] = [1, 2].map(|number| documents(number).collect());
    let first = world.write(&archive, &folder, &wanted[0]).unwrap();

    let at = world.disk.operations();
    world.disk.fail(Fault { at, lasting: Lasting::FromThenOn, errno: Errno::NOSPC });
    world.write(&archive, &folder, &wanted[1]).unwrap_err();
    world.disk.heal();
    world.settle(&archive, &folder, (wanted[0].clone(), first)).unwrap();
    world.disk.power_cut(0);

    assert_eq!(world.remembered.stored.len(), wanted[0].len());
    world.assert_stored_is_sound("the first");
    drop(world.open().unwrap());
    world.assert_nothing_else("the second");
}

#[test]
fn opening_twice_clears_nothing_more() {
    let mut world = World::new(Order::OneByOne);
    world.disk.fail(Fault::stop(operations_of_a_run(Order::OneByOne) - 2));
    drop(world.run());
    world.disk.heal();

    let (_, first) = world.open().unwrap();
    let (_, second) = world.open().unwrap();

    assert!(first.documents > 0 && first.staged > 0, "{first:?}");
    assert_eq!(second, Recovered::default());
}

#[test]
fn sessions_that_start_together_never_share_a_folder() {
    let (archive, _) = World::new(Order::OneByOne).open().unwrap();

    let first = archive.create_folder(STARTED, ACCOUNT).unwrap();
    let second = archive.create_folder(STARTED, ACCOUNT).unwrap();

    assert_eq!(first.as_str(), "2026-03-07_090503_me_example.com");
    assert_eq!(second.as_str(), "2026-03-07_090503_me_example.com_2");
}

#[test]
fn a_draft_that_is_rewound_or_dropped_leaves_nothing() {
    let world = World::new(Order::OneByOne);
    let (archive, _) = world.open().unwrap();
    let mut draft = archive.draft();

    draft.append(&vec![b'x'; DRAFT_BYTES_MAX]).unwrap();
    assert!(!draft.fits(1));
    draft.append(b"x").unwrap();
    assert_eq!(world.files().len(), 1, "spilled");
    draft.rewind();

    assert_eq!((draft.length(), world.files().len()), (0, 0));
}

#[test]
fn a_group_is_full_before_it_holds_too_much() {
    let (archive, _) = World::new(Order::OneByOne).open().unwrap();
    let mut group = Group::new(archive.create_folder(STARTED, ACCOUNT).unwrap());

    while !group.is_full() {
        let mut draft = archive.draft();
        draft.append(&vec![b'x'; DRAFT_BYTES_MAX]).unwrap();
        let document = DocumentId::new(group.len().to_string());
        group.push(paper(&ItemId::new("t"), &document, FIRST_VERSION, draft));
    }

    assert_eq!(group.len() * DRAFT_BYTES_MAX, GROUP_BYTES_MAX);
}

#[test]
fn a_real_archive_keeps_verifies_and_refuses_a_planted_link() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("downloads");
    let open = || {
        let (marker, owner) =
            bound(Arc::new(RealDisk), root.to_str().unwrap(), root.exists()).unwrap();
        Archive::open(marker, owner, |_, _, _| Ok(false)).unwrap()
    };
    let (archive, _) = open();
    let folder = archive.create_folder(STARTED, ACCOUNT).unwrap();
    let session = root.join(folder.as_str());
    let outside = home.path().join("outside");
    RealDisk.create_dir(&outside).unwrap();
    symlink(&outside, session.join(layout::safe_name("T1-0"))).unwrap();

    let mut group = Group::new(folder.clone());
    for (item, document) in documents(1) {
        let mut draft = archive.draft();
        draft.append(&bytes(&document)).unwrap();
        group.push(paper(&item, &document, FIRST_VERSION, draft));
    }
    let (answers, intent) = archive.place(archive.write(group).unwrap()).unwrap();
    archive.forget(intent);

    let (kept, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((kept.len(), refused.len()), (11, 1), "the others are kept");
    assert_eq!(RealDisk.list(&outside).unwrap().len(), 0, "nothing went through the link");
    for kept in kept.into_iter().flatten() {
        let path = session.join(&kept.file);
        assert_eq!(check(&RealDisk, &path, kept.length, &kept.sha256), Finding::Sound);
    }
    let known = strays(&RealDisk, &root, &folder, 100, |item, document, at| {
        let file = layout::document_path(item, document, FIRST_VERSION);
        Ok(*at == StoredAt { folder: folder.as_str().into(), file })
    });
    assert_eq!(known.unwrap(), [session.join("+t1-0")], "only the link is unknown");
    assert_eq!(open().1, Recovered::default());
}

#[test]
fn each_kind_of_damage_has_a_name() {
    let home = tempfile::tempdir().unwrap();
    let path = |name| home.path().join(name);
    for (name, text) in [("sound", "mail"), ("cut", "mai"), ("flipped", "nail")] {
        RealDisk.create(&path(name)).unwrap().append(text.as_bytes()).unwrap();
    }
    symlink(path("sound"), path("link")).unwrap();
    let sha256 = sha2::Digest::finalize(<sha2::Sha256 as sha2::Digest>::new_with_prefix("mail"));

    let found = ["sound", "cut", "flipped", "link", "absent"]
        .map(|name| check(&RealDisk, &path(name), 4, &sha256.into()).name());

    assert_eq!(found, ["sound", "wrong_length", "wrong_bytes", "not_a_file", "missing"]);
}
