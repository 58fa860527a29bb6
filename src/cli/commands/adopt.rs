//! `adopt`: rebuilds the ledger of a source from its archive.
//!
//! Reads the archive and prints a plan. Then writes a new ledger next to the old one, records its
//! id in the archive's marker, and moves it into place. No document is changed.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cynosure_engine::{Failure, LedgerId, Timestamp, format_bytes, format_count};

use crate::app::context::AppContext;
use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::app::sources::{SourceRef, all_sources, select_sources};
use crate::archive::{
    ArchiveMarker, ArchiveOwner, FileExtension, FolderContents, FolderName, SkipReason,
};
use crate::cli::args::{AdoptArgs, CommonArgs};
use crate::cli::print::print_result;
use crate::cli::table::table;
use crate::disk::{
    Disk, FileLock, RealDisk, ensure_folder, parent_folder, quarantine_file, storage_failure,
};
use crate::env::RealEnv;
use crate::human::pluralize;
use crate::ledger::{
    AdoptedDocument, AdoptionCounts, Ledger, LedgerOpenError, LedgerReader, LedgerReports,
    SqliteLedger,
};
use crate::worker::{document_format, new_ledger_id};

/// Suffix of the new ledger's file name until it is complete.
const UNFINISHED_SUFFIX: &str = ".adopted";

/// Maximum number of skipped files that are printed, because a folder may contain any number.
const SKIPPED_SHOWN_MAX: usize = 20;

/// Session folder with the documents to adopt.
struct SessionFolder {
    name: FolderName,
    started: Timestamp,
    contents: FolderContents,
}

/// State of the ledger to replace.
#[derive(Clone, Copy, PartialEq)]
enum ExistingLedger {
    Absent,
    /// Damaged or without documents. It is quarantined.
    Replaceable,
}

pub(super) fn adopt(common: &CommonArgs, args: &AdoptArgs) -> Result<ProgramExit, ProgramError> {
    let context = AppContext::load(&common.config_location())?;
    for source in select_sources(&context, Some(&args.source))? {
        adopt_source(&context, &source, args)?;
    }
    Ok(ProgramExit::Success)
}

fn adopt_source(
    context: &AppContext,
    source: &SourceRef,
    args: &AdoptArgs,
) -> Result<(), ProgramError> {
    let (folder, archive) = (&source.folder, &context.loaded.settings.archive.dir);
    let Some(settings) = &source.settings else {
        let message = format!(
            "{} is not in the configuration, so its account is not known; add it to the \
             configuration",
            source.name
        );
        return Err(ProgramError::new(ProgramExit::Configuration, message));
    };
    let marker = ArchiveMarker::new(Arc::new(RealDisk), archive, source.name.as_str());
    ensure_folder(&RealDisk, folder.path())
        .map_err(|error| storage_failure("create the folder", folder.path(), &error))?;
    // Both locks are held until the end, so that no worker starts meanwhile.
    let _source_lock = FileLock::acquire(&folder.lock_file())?;
    let _archive_lock = match parent_folder(&marker.lock_file()).exists() {
        true => Some(FileLock::acquire(&marker.lock_file())?),
        false => None,
    };
    let existing = check_existing_ledger(source)?;
    let other_folders = folders_of_other_sources(context, source)?;
    let extension = document_format(settings).extension;
    let folders = find_session_folders(archive, &settings.account, &extension, &other_folders)?;
    if folders.is_empty() {
        let message = format!(
            "there is no session folder of {} in {}: nothing to adopt; correct `dir` of [archive] \
             or `account` of the source",
            settings.account,
            archive.display()
        );
        return Err(ProgramError::new(ProgramExit::Other, message));
    }
    print_result(plan_table(&folders))?;
    print_skipped_files(&folders)?;
    if args.dry_run {
        print_result(format!(
            "Nothing was changed. Run `cynosure adopt {}` to adopt these documents.",
            source.name
        ))?;
        return Ok(());
    }
    let counts = rebuild_ledger(source, archive, &marker, existing, &folders)?;
    let AdoptionCounts { documents, versions, copies } = counts;
    let details = [
        (versions > 0).then(|| format!("{} of them", pluralize(versions, "earlier version"))),
        (copies > 0).then(|| format!("{} with the same bytes skipped", pluralize(copies, "file"))),
    ];
    let details: String =
        details.into_iter().flatten().map(|detail| format!(", {detail}")).collect();
    print_result(format!(
        "{}: {} adopted{details}; the next run lists everything and fetches what is missing",
        source.name,
        pluralize(documents, "document"),
    ))
}

/// Checks the existing ledger. One that contains documents is not replaced.
fn check_existing_ledger(source: &SourceRef) -> Result<ExistingLedger, ProgramError> {
    let path = source.folder.ledger_file();
    let reader = match SqliteLedger::open_read_only(&path) {
        Ok(None) => return Ok(ExistingLedger::Absent),
        Err(LedgerOpenError::Damaged(_)) => return Ok(ExistingLedger::Replaceable),
        Err(error) => return Err(error.into()),
        Ok(Some(reader)) => reader,
    };
    let is_damaged = reader.check_integrity().map_or(true, |problems| !problems.is_empty());
    let has_documents = !is_damaged && reader.identity()?.has_stored_documents;
    if has_documents {
        let message = format!(
            "{} contains documents: there is nothing to rebuild; `cynosure verify {}` compares it \
             with the archive (if it is the wrong one, move it and its -wal and -shm away first)",
            path.display(),
            source.name
        );
        return Err(ProgramError::new(ProgramExit::Other, message));
    }
    Ok(ExistingLedger::Replaceable)
}

/// Returns the session folders in the ledgers of other sources, each with the source's name.
fn folders_of_other_sources(
    context: &AppContext,
    source: &SourceRef,
) -> Result<BTreeMap<String, String>, ProgramError> {
    let mut folders = BTreeMap::new();
    for other in all_sources(context)?.iter().filter(|other| other.name != source.name) {
        // An unreadable ledger of another source must not prevent the adoption.
        let Ok(Some(ledger)) = other.open_ledger() else { continue };
        for folder in ledger.session_folders()? {
            folders.insert(folder, other.name.to_string());
        }
    }
    Ok(folders)
}

/// Reads the session folders of an account, oldest first. Skips those of other sources.
fn find_session_folders(
    archive: &Path,
    account: &str,
    extension: &FileExtension,
    other_folders: &BTreeMap<String, String>,
) -> Result<Vec<SessionFolder>, ProgramError> {
    let names = match RealDisk.list_dir(archive) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        names => names.map_err(|error| storage_failure("read the folder", archive, &error))?,
    };
    let mut folders = Vec::new();
    for name in names.iter().filter_map(|name| FolderName::parse(name.to_str()?)) {
        let Some(started) = name.session_start(account) else { continue };
        if let Some(other) = other_folders.get(name.as_str()) {
            print_result(format!("{} belongs to the source {other}: skipped", name.as_str()))?;
            continue;
        }
        let contents = FolderContents::read(&RealDisk, archive, &name, extension)?;
        folders.push(SessionFolder { name, started, contents });
    }
    folders.sort_by(|a, b| (a.started, &a.name).cmp(&(b.started, &b.name)));
    Ok(folders)
}

fn plan_table(folders: &[SessionFolder]) -> String {
    let rows = folders.iter().map(|SessionFolder { name, contents, .. }| {
        let FolderContents { documents, skipped } = contents;
        let bytes = documents.iter().map(|document| document.length).sum();
        let in_manifest = documents.iter().filter(|document| document.blob.is_some()).count();
        vec![
            name.as_str().to_owned(),
            format_count(documents.len() as u64),
            format_bytes(bytes),
            format_count(in_manifest as u64),
            format_count(skipped.len() as u64),
        ]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let header = ["FOLDER", "DOCUMENTS", "BYTES", "IN MANIFEST", "SKIPPED"];
    table(&header, &rows).trim_end().to_owned()
}

/// Prints the first skipped files, and the number of skipped files by reason.
fn print_skipped_files(folders: &[SessionFolder]) -> Result<(), ProgramError> {
    let skipped = || folders.iter().flat_map(|folder| &folder.contents.skipped);
    for (path, reason) in skipped().take(SKIPPED_SHOWN_MAX) {
        print_result(format!("{}: skipped: {}", path.display(), reason.text()))?;
    }
    let mut counts: BTreeMap<SkipReason, u64> = BTreeMap::new();
    skipped().for_each(|(_, reason)| *counts.entry(*reason).or_default() += 1);
    for (reason, files) in counts {
        print_result(format!("{} skipped: {}", pluralize(files, "file"), reason.text()))?;
    }
    Ok(())
}

fn rebuild_ledger(
    source: &SourceRef,
    archive: &Path,
    marker: &ArchiveMarker,
    existing: ExistingLedger,
    folders: &[SessionFolder],
) -> Result<AdoptionCounts, ProgramError> {
    let path = source.folder.ledger_file();
    let unfinished = with_suffix(&path, UNFINISHED_SUFFIX);
    for suffix in ["", "-wal", "-shm"] {
        remove_if_exists(&with_suffix(&unfinished, suffix))?;
    }
    let id = new_ledger_id(&RealEnv);
    let counts = write_ledger(&unfinished, archive, &id, folders)?;
    if existing == ExistingLedger::Replaceable {
        for file in [with_suffix(&path, "-wal"), with_suffix(&path, "-shm"), path.clone()] {
            if file.exists() {
                let quarantined = quarantine_file(&RealDisk, &file)?;
                print_result(format!("{} is kept as {}", file.display(), quarantined.display()))?;
            }
        }
    }
    // The marker first: after a crash here, the archive counts as one whose ledger is missing.
    marker.create_folder()?;
    marker.write(&ArchiveOwner::new(&id, None, source.name.as_str()).with_documents())?;
    marker.remove_intents()?;
    RealDisk
        .rename(&unfinished, &path)
        .and_then(|()| RealDisk.sync_dir(source.folder.path()))
        .map_err(|error| storage_failure("move the ledger to", &path, &error))?;
    Ok(counts)
}

fn write_ledger(
    path: &Path,
    archive: &Path,
    id: &LedgerId,
    folders: &[SessionFolder],
) -> Result<AdoptionCounts, ProgramError> {
    let mut ledger = SqliteLedger::open(path)?;
    ledger.init_id(id)?;
    let mut total = AdoptionCounts::default();
    for SessionFolder { name, started, contents } in folders {
        let documents = contents.documents.iter().map(|document| {
            let sha256 = document.compute_sha256(&RealDisk, archive, name)?;
            Ok(AdoptedDocument {
                item: document.item.clone(),
                document: document.document.clone(),
                blob: document.blob.clone(),
                size: document.size,
                length: document.length,
                sha256,
                file: document.file.clone(),
                labels: document.labels.clone(),
                folders: document.folders.clone(),
            })
        });
        let documents = documents.collect::<Result<Vec<_>, Failure>>()?;
        let counts = ledger.adopt_folder(name.as_str(), *started, &documents)?;
        total.documents += counts.documents;
        total.versions += counts.versions;
        total.copies += counts.copies;
    }
    ledger.rebuild_session_counts()?;
    Ok(total)
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
