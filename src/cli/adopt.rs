//! `adopt`: rebuilds the ledger of a source from its archive.
//!
//! It reads first what is there and says what becomes of it; then it writes a new ledger beside the
//! old one, has the archive's marker name it, and moves it into its place. No document is touched.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::archive::{ArchiveMarker, ArchiveOwner, FolderContents, FolderName, SkipReason};
use crate::cli::args::{AdoptArgs, Common};
use crate::cli::exit::Exit;
use crate::cli::place::{Ground, ledger_file, lock_file};
use crate::cli::print::show;
use crate::cli::sources::{Known, all, chosen, ground};
use crate::cli::table::table;
use crate::cli::trouble::Trouble;
use crate::disk::{
    Disk, FileLock, RealDisk, ensure_folder, parent_folder, quarantine_file, storage_failure,
};
use crate::engine::{Failure, LedgerId, Timestamp};
use crate::human::{format_bytes, format_count, pluralize};
use crate::ledger::{AdoptedDocument, AdoptionCounts, Ledger, LedgerOpenError, LedgerReader};
use crate::worker::{RealEnv, new_ledger_id};

/// The ending of the new ledger's name until it is whole.
const UNFINISHED: &str = ".adopted";

/// Files left alone that are named; a folder may hold any number.
const NAMED_MAX: usize = 20;

/// A session's folder, and what of it is taken over.
struct Folder {
    name: FolderName,
    started: Timestamp,
    contents: FolderContents,
}

/// What is there of the old ledger.
#[derive(Clone, Copy, PartialEq)]
enum OldLedger {
    Absent,
    /// It is put aside.
    Useless,
}

pub(super) fn adopt(common: &Common, args: &AdoptArgs) -> Result<Exit, Trouble> {
    let ground = ground(common)?;
    for source in chosen(&ground, Some(&args.source))? {
        adopt_source(&ground, &source, args)?;
    }
    Ok(Exit::Done)
}

fn adopt_source(ground: &Ground, source: &Known, args: &AdoptArgs) -> Result<(), Trouble> {
    let (dir, archive) = (&source.dir, &ground.loaded.settings.archive.dir);
    let Some(settings) = &source.settings else {
        let why = format!("{} is not in the configuration, which names its account", source.name);
        return Err(Trouble::new(Exit::Configuration, why));
    };
    let marker = ArchiveMarker::new(Arc::new(RealDisk), archive, source.name.as_str());
    ensure_folder(&RealDisk, dir)
        .map_err(|error| storage_failure("make the folder", dir, &error))?;
    // Held to the end, so that no worker starts in the middle.
    let _alone = FileLock::acquire(&lock_file(dir))?;
    let _of_archive = match parent_folder(&marker.lock_file()).exists() {
        true => Some(FileLock::acquire(&marker.lock_file())?),
        false => None,
    };
    let old = old_ledger(source)?;
    let taken = folders_of_others(ground, source)?;
    let folders = find_folders(archive, &settings.account, &taken)?;
    if folders.is_empty() {
        let why = format!(
            "there is no session folder of {} in {}: nothing to adopt; correct `dir` of [archive] \
             or `account` of the source",
            settings.account,
            archive.display()
        );
        return Err(Trouble::new(Exit::Other, why));
    }
    show(plan(&folders))?;
    show_left_alone(&folders)?;
    if args.dry_run {
        show(format!("Nothing is changed yet: `cynosure adopt {}` does it.", source.name))?;
        return Ok(());
    }
    let adoption = carry_out(source, archive, &marker, old, &folders)?;
    let AdoptionCounts { documents, versions, copies } = adoption;
    let also = [
        (versions > 0).then(|| format!("{} of them", pluralize(versions, "earlier version"))),
        (copies > 0)
            .then(|| format!("{} with the same bytes left alone", pluralize(copies, "file"))),
    ];
    let also: String = also.into_iter().flatten().map(|also| format!(", {also}")).collect();
    show(format!(
        "{}: {} adopted{also}; the next run lists everything and fetches what is missing",
        source.name,
        pluralize(documents, "document"),
    ))
}

/// Looks at the ledger that is there. One that knows documents is not replaced.
fn old_ledger(source: &Known) -> Result<OldLedger, Trouble> {
    let path = ledger_file(&source.dir);
    let reader = match LedgerReader::open(&path) {
        Ok(None) => return Ok(OldLedger::Absent),
        Err(LedgerOpenError::Damaged(_)) => return Ok(OldLedger::Useless),
        Err(error) => return Err(error.into()),
        Ok(Some(reader)) => reader,
    };
    let is_damaged = reader.check_integrity().map_or(true, |found| !found.is_empty());
    let knows_documents = !is_damaged && reader.identity()?.has_stored_documents;
    if knows_documents {
        let why = format!(
            "{} knows documents: there is nothing to rebuild; `cynosure verify {}` compares it with \
             the archive (if it is the wrong one, move it and its -wal and -shm away first)",
            path.display(),
            source.name
        );
        return Err(Trouble::new(Exit::Other, why));
    }
    Ok(OldLedger::Useless)
}

/// The folders that the ledgers of other sources know, each with the source's name.
fn folders_of_others(ground: &Ground, ours: &Known) -> Result<BTreeMap<String, String>, Trouble> {
    let mut taken = BTreeMap::new();
    for other in all(ground)?.iter().filter(|other| other.name != ours.name) {
        // One that cannot be read keeps nothing from ours.
        let Ok(Some(ledger)) = other.ledger() else { continue };
        for folder in ledger.session_folders()? {
            taken.insert(folder, other.name.to_string());
        }
    }
    Ok(taken)
}

/// Reads the session folders of an account, from the oldest to the newest.
fn find_folders(
    archive: &Path,
    account: &str,
    taken: &BTreeMap<String, String>,
) -> Result<Vec<Folder>, Trouble> {
    let names = match RealDisk.list_dir(archive) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        names => names.map_err(|error| storage_failure("read the folder", archive, &error))?,
    };
    let mut found = Vec::new();
    for name in names.iter().filter_map(|name| FolderName::parse(name.to_str()?)) {
        let Some(started) = name.session_start(account) else { continue };
        if let Some(other) = taken.get(name.as_str()) {
            show(format!("{} is of the source {other}: left alone", name.as_str()))?;
            continue;
        }
        let contents = FolderContents::read(&RealDisk, archive, &name)?;
        found.push(Folder { name, started, contents });
    }
    found.sort_by(|a, b| (a.started, &a.name).cmp(&(b.started, &b.name)));
    Ok(found)
}

fn plan(folders: &[Folder]) -> String {
    let rows = folders.iter().map(|Folder { name, contents, .. }| {
        let FolderContents { documents, skipped: left_alone } = contents;
        let bytes = documents.iter().map(|document| document.length).sum();
        let in_manifest = documents.iter().filter(|document| document.blob.is_some()).count();
        vec![
            name.as_str().to_owned(),
            format_count(documents.len() as u64),
            format_bytes(bytes),
            format_count(in_manifest as u64),
            format_count(left_alone.len() as u64),
        ]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let head = ["FOLDER", "DOCUMENTS", "BYTES", "IN A MANIFEST", "LEFT ALONE"];
    table(&head, &rows).trim_end().to_owned()
}

/// Names the first files that are left alone, and counts all of them by their reason.
fn show_left_alone(folders: &[Folder]) -> Result<(), Trouble> {
    let left = || folders.iter().flat_map(|folder| &folder.contents.skipped);
    for (path, why) in left().take(NAMED_MAX) {
        show(format!("{}: left alone: {}", path.display(), why.reason()))?;
    }
    let mut counts: BTreeMap<SkipReason, u64> = BTreeMap::new();
    left().for_each(|(_, why)| *counts.entry(*why).or_default() += 1);
    for (why, files) in counts {
        show(format!("{} left alone: {}", pluralize(files, "file"), why.reason()))?;
    }
    Ok(())
}

fn carry_out(
    source: &Known,
    archive: &Path,
    marker: &ArchiveMarker,
    old: OldLedger,
    folders: &[Folder],
) -> Result<AdoptionCounts, Trouble> {
    let path = ledger_file(&source.dir);
    let unfinished = named(&path, UNFINISHED);
    for suffix in ["", "-wal", "-shm"] {
        remove_if_there(&named(&unfinished, suffix))?;
    }
    let id = new_ledger_id(&RealEnv);
    let adoption = write_ledger(&unfinished, archive, &id, folders)?;
    if old == OldLedger::Useless {
        for file in [named(&path, "-wal"), named(&path, "-shm"), path.clone()] {
            if file.exists() {
                let kept_as = quarantine_file(&RealDisk, &file)?;
                show(format!("{} is kept as {}", file.display(), kept_as.display()))?;
            }
        }
    }
    // The marker first: if this ends here, the archive is one whose ledger is gone.
    marker.create_folder()?;
    marker.write(&ArchiveOwner::new(&id, None, source.name.as_str()).with_documents())?;
    marker.remove_intents()?;
    let moved = RealDisk.rename(&unfinished, &path);
    moved
        .and_then(|()| RealDisk.sync_dir(&source.dir))
        .map_err(|error| storage_failure("move the ledger to", &path, &error))?;
    Ok(adoption)
}

fn write_ledger(
    path: &Path,
    archive: &Path,
    id: &LedgerId,
    folders: &[Folder],
) -> Result<AdoptionCounts, Trouble> {
    let mut ledger = Ledger::open(path)?;
    ledger.init_id(id)?;
    let mut all = AdoptionCounts::default();
    for Folder { name, started, contents } in folders {
        let documents = contents.documents.iter().map(|found| {
            let sha256 = found.compute_sha256(&RealDisk, archive, name)?;
            Ok(AdoptedDocument {
                item: found.item.clone(),
                document: found.document.clone(),
                blob: found.blob.clone(),
                size: found.size,
                length: found.length,
                sha256,
                file: found.file.clone(),
            })
        });
        let documents = documents.collect::<Result<Vec<_>, Failure>>()?;
        let adoption = ledger.adopt_folder(name.as_str(), *started, &documents)?;
        all.documents += adoption.documents;
        all.versions += adoption.versions;
        all.copies += adoption.copies;
    }
    ledger.rebuild_session_counts()?;
    Ok(all)
}

fn remove_if_there(path: &Path) -> Result<(), Failure> {
    match RealDisk.remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(storage_failure("remove", path, &error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn named(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
