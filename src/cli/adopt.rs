//! `adopt`: rebuilds the ledger of a source from its archive.
//!
//! It reads first what is there and says what becomes of it; then it writes a new ledger beside the
//! old one, has the archive's marker name it, and moves it into its place. No document is touched.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::archive::{ArchiveMarker, ArchiveOwner, FolderContents, FolderName, SkipReason};
use crate::cli::args::{AdoptArgs, CommonArgs};
use crate::cli::context::{AppContext, ledger_file, lock_file};
use crate::cli::error::CliError;
use crate::cli::exit::ProgramExit;
use crate::cli::print::print_result;
use crate::cli::sources::{SourceRef, all_sources, load_context, select_sources};
use crate::cli::table::table;
use crate::disk::{
    Disk, FileLock, RealDisk, ensure_folder, parent_folder, quarantine_file, storage_failure,
};
use crate::engine::{Failure, LedgerId, Timestamp};
use crate::human::{format_bytes, format_count, pluralize};
use crate::ledger::{AdoptedDocument, AdoptionCounts, Ledger, LedgerOpenError, LedgerReader};
use crate::worker::{RealEnv, new_ledger_id};

/// The ending of the new ledger's name until it is whole.
const UNFINISHED_SUFFIX: &str = ".adopted";

/// Files left alone that are named; a folder may hold any number.
const SKIPPED_SHOWN_MAX: usize = 20;

/// A session's folder, and what of it is taken over.
struct SessionFolder {
    name: FolderName,
    started: Timestamp,
    contents: FolderContents,
}

/// What is there of the old ledger.
#[derive(Clone, Copy, PartialEq)]
enum ExistingLedger {
    Absent,
    /// It is put aside.
    Replaceable,
}

pub(super) fn adopt(common: &CommonArgs, args: &AdoptArgs) -> Result<ProgramExit, CliError> {
    let ground = load_context(common)?;
    for source in select_sources(&ground, Some(&args.source))? {
        adopt_source(&ground, &source, args)?;
    }
    Ok(ProgramExit::Success)
}

fn adopt_source(ground: &AppContext, source: &SourceRef, args: &AdoptArgs) -> Result<(), CliError> {
    let (dir, archive) = (&source.dir, &ground.loaded.settings.archive.dir);
    let Some(settings) = &source.settings else {
        let why = format!("{} is not in the configuration, which names its account", source.name);
        return Err(CliError::new(ProgramExit::Configuration, why));
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
    let old = check_existing_ledger(source)?;
    let taken = folders_of_other_sources(ground, source)?;
    let folders = find_session_folders(archive, &settings.account, &taken)?;
    if folders.is_empty() {
        let why = format!(
            "there is no session folder of {} in {}: nothing to adopt; correct `dir` of [archive] \
             or `account` of the source",
            settings.account,
            archive.display()
        );
        return Err(CliError::new(ProgramExit::Other, why));
    }
    print_result(plan_table(&folders))?;
    print_skipped_files(&folders)?;
    if args.dry_run {
        print_result(format!("Nothing is changed yet: `cynosure adopt {}` does it.", source.name))?;
        return Ok(());
    }
    let adoption = rebuild_ledger(source, archive, &marker, old, &folders)?;
    let AdoptionCounts { documents, versions, copies } = adoption;
    let also = [
        (versions > 0).then(|| format!("{} of them", pluralize(versions, "earlier version"))),
        (copies > 0)
            .then(|| format!("{} with the same bytes left alone", pluralize(copies, "file"))),
    ];
    let also: String = also.into_iter().flatten().map(|also| format!(", {also}")).collect();
    print_result(format!(
        "{}: {} adopted{also}; the next run lists everything and fetches what is missing",
        source.name,
        pluralize(documents, "document"),
    ))
}

/// Looks at the ledger that is there. One that knows documents is not replaced.
fn check_existing_ledger(source: &SourceRef) -> Result<ExistingLedger, CliError> {
    let path = ledger_file(&source.dir);
    let reader = match LedgerReader::open(&path) {
        Ok(None) => return Ok(ExistingLedger::Absent),
        Err(LedgerOpenError::Damaged(_)) => return Ok(ExistingLedger::Replaceable),
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
        return Err(CliError::new(ProgramExit::Other, why));
    }
    Ok(ExistingLedger::Replaceable)
}

/// The folders that the ledgers of other sources know, each with the source's name.
fn folders_of_other_sources(
    ground: &AppContext,
    ours: &SourceRef,
) -> Result<BTreeMap<String, String>, CliError> {
    let mut taken = BTreeMap::new();
    for other in all_sources(ground)?.iter().filter(|other| other.name != ours.name) {
        // One that cannot be read keeps nothing from ours.
        let Ok(Some(ledger)) = other.open_ledger() else { continue };
        for folder in ledger.session_folders()? {
            taken.insert(folder, other.name.to_string());
        }
    }
    Ok(taken)
}

/// Reads the session folders of an account, from the oldest to the newest.
fn find_session_folders(
    archive: &Path,
    account: &str,
    taken: &BTreeMap<String, String>,
) -> Result<Vec<SessionFolder>, CliError> {
    let names = match RealDisk.list_dir(archive) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        names => names.map_err(|error| storage_failure("read the folder", archive, &error))?,
    };
    let mut found = Vec::new();
    for name in names.iter().filter_map(|name| FolderName::parse(name.to_str()?)) {
        let Some(started) = name.session_start(account) else { continue };
        if let Some(other) = taken.get(name.as_str()) {
            print_result(format!("{} is of the source {other}: left alone", name.as_str()))?;
            continue;
        }
        let contents = FolderContents::read(&RealDisk, archive, &name)?;
        found.push(SessionFolder { name, started, contents });
    }
    found.sort_by(|a, b| (a.started, &a.name).cmp(&(b.started, &b.name)));
    Ok(found)
}

fn plan_table(folders: &[SessionFolder]) -> String {
    let rows = folders.iter().map(|SessionFolder { name, contents, .. }| {
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
fn print_skipped_files(folders: &[SessionFolder]) -> Result<(), CliError> {
    let left = || folders.iter().flat_map(|folder| &folder.contents.skipped);
    for (path, why) in left().take(SKIPPED_SHOWN_MAX) {
        print_result(format!("{}: left alone: {}", path.display(), why.reason()))?;
    }
    let mut counts: BTreeMap<SkipReason, u64> = BTreeMap::new();
    left().for_each(|(_, why)| *counts.entry(*why).or_default() += 1);
    for (why, files) in counts {
        print_result(format!("{} left alone: {}", pluralize(files, "file"), why.reason()))?;
    }
    Ok(())
}

fn rebuild_ledger(
    source: &SourceRef,
    archive: &Path,
    marker: &ArchiveMarker,
    old: ExistingLedger,
    folders: &[SessionFolder],
) -> Result<AdoptionCounts, CliError> {
    let path = ledger_file(&source.dir);
    let unfinished = with_suffix(&path, UNFINISHED_SUFFIX);
    for suffix in ["", "-wal", "-shm"] {
        remove_if_exists(&with_suffix(&unfinished, suffix))?;
    }
    let id = new_ledger_id(&RealEnv);
    let adoption = write_ledger(&unfinished, archive, &id, folders)?;
    if old == ExistingLedger::Replaceable {
        for file in [with_suffix(&path, "-wal"), with_suffix(&path, "-shm"), path.clone()] {
            if file.exists() {
                let kept_as = quarantine_file(&RealDisk, &file)?;
                print_result(format!("{} is kept as {}", file.display(), kept_as.display()))?;
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
    folders: &[SessionFolder],
) -> Result<AdoptionCounts, CliError> {
    let mut ledger = Ledger::open(path)?;
    ledger.init_id(id)?;
    let mut all = AdoptionCounts::default();
    for SessionFolder { name, started, contents } in folders {
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

fn remove_if_exists(path: &Path) -> Result<(), Failure> {
    match RealDisk.remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(storage_failure("remove", path, &error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
