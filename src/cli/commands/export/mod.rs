//! `export`: copies the archive into a Maildir, into mbox files or into a ZIP file.
//!
//! Only reads the archive and the ledger, and can run next to a worker.

pub(in crate::cli) mod args;
mod background;
mod place;
mod report;

use std::path::Path;
use std::sync::Arc;

use cynosure_engine::sanitize_line;

use self::args::ExportArgs;
use self::background::{ExportEnd, run_in_background};
use self::place::find_target;
use self::report::{export_error, report_outcome};
use crate::app::archive_check::archive_problem;
use crate::app::context::AppContext;
use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::app::sources::{SourceRef, select_sources};
use crate::archive::ArchiveMarker;
use crate::cli::args::CommonArgs;
use crate::cli::print::print_note;
use crate::disk::{Disk, FileLock, LockFileError, PathKind, RealDisk};
use crate::env::{Env, RealEnv};
use crate::export::{ExportOutcome, ExportSource, ExportState, prepare_target, target_lock_file};
use crate::human::pluralize;
use crate::ledger::LedgerReports;

pub(super) fn export(common: &CommonArgs, args: &ExportArgs) -> Result<ProgramExit, ProgramError> {
    let options = args.to_options(RealEnv.now())?;
    let context = AppContext::load(&common.config_location())?;
    let archive = context.loaded.settings.archive.dir.clone();
    let sources = open_sources(common, &context, args.source.as_deref())?;
    let dir = find_target(&args.dir, &archive, &context.state_dir)?;
    prepare_target(&RealDisk, &dir).map_err(export_error)?;
    // An export that is complete is not even locked, because nothing of it is written.
    if let Some(state) = ExportState::read(&RealDisk, &dir).map_err(export_error)?
        && state.completed_at.is_some()
    {
        state.check_options(&options).map_err(export_error)?;
        return report_outcome(&ExportOutcome::AlreadyComplete(state), &dir, ProgramExit::Success);
    }
    let _lock = lock_target(&dir)?;
    match run_in_background(common, dir.clone(), archive, options, sources)? {
        ExportEnd::Ended { outcome, stop_exit } => {
            report_outcome(&outcome.map_err(export_error)?, &dir, stop_exit)
        }
        ExportEnd::Aborted(exit) => Ok(exit),
    }
}

/// Opens the ledgers of the selected sources, and checks that their archive is there.
fn open_sources(
    common: &CommonArgs,
    context: &AppContext,
    name: Option<&str>,
) -> Result<Vec<ExportSource>, ProgramError> {
    let selected = select_sources(context, name)?;
    if selected.is_empty() {
        let config = context.config_file.display();
        let message = format!("{config} has no source; add one, and run it");
        return Err(ProgramError::new(ProgramExit::Configuration, message));
    }
    let archive = &context.loaded.settings.archive.dir;
    let mut sources = Vec::new();
    let mut never_run = Vec::new();
    for source in &selected {
        match source.open_ledger()? {
            Some(ledger) => sources.push(to_export_source(source, archive, ledger)?),
            None => never_run.push(source.name.as_str()),
        }
    }
    let mut has_documents = false;
    for source in &sources {
        has_documents |= !source.ledger.documents_to_export(None, None, 1)?.is_empty();
    }
    if !has_documents {
        let names: Vec<&str> = selected.iter().map(|source| source.name.as_str()).collect();
        let reason = if sources.is_empty() { "has never run" } else { "has stored nothing yet" };
        let message = format!(
            "{} {reason}: there is nothing to export; run `cynosure run` first",
            names.join(", ")
        );
        return Err(ProgramError::new(ProgramExit::Other, message));
    }
    for name in never_run.iter().filter(|_| !common.quiet) {
        print_note(format!("cynosure: {name} has never run, so nothing of it is exported"));
    }
    for ExportSource { name, ledger, .. } in sources.iter().filter(|_| !common.quiet) {
        let pending = ledger.session_counts()?.pending();
        if pending > 0 {
            let items = pluralize(pending, "item");
            print_note(format!("cynosure: {name} has {items} left to fetch, not in this export"));
        }
    }
    Ok(sources)
}

fn to_export_source(
    source: &SourceRef,
    archive: &Path,
    ledger: Box<dyn LedgerReports>,
) -> Result<ExportSource, ProgramError> {
    let name = source.name.as_str();
    if let Some(failure) = archive_problem(archive, name, Some(&*ledger))? {
        return Err(failure.into());
    }
    let marker = ArchiveMarker::new(Arc::new(RealDisk), archive, name).path();
    let has_marker = matches!(RealDisk.path_kind(&marker), Ok(Some(PathKind::File { .. })));
    let account = match &source.settings {
        Some(settings) => Some(settings.account.clone()),
        None => ledger.bound_account()?.map(|account| account.as_str().to_owned()),
    };
    let marker = has_marker.then_some(marker);
    Ok(ExportSource { name: name.to_owned(), account, ledger, marker })
}

/// Takes the lock of the export, so that no other process writes into the folder.
fn lock_target(dir: &Path) -> Result<FileLock, ProgramError> {
    FileLock::acquire(&target_lock_file(dir)).map_err(|error| match error {
        LockFileError::Held { pid, .. } => {
            let process = pid.map_or_else(String::new, |pid| format!(" (process {pid})"));
            let dir = sanitize_line(&dir.to_string_lossy());
            let message = format!(
                "another export{process} writes into {dir}; wait for its end, or stop it first"
            );
            ProgramError::new(ProgramExit::Other, message)
        }
        LockFileError::Storage(failure) => failure.into(),
    })
}
