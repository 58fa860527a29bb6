//! `verify`: checks the archive against the ledger, byte for byte, and the ledger's consistency.
//!
//! Changes nothing, and can run next to a worker: a file is in place before its row is in the
//! ledger, so a new file may be reported as not in the ledger, which is harmless.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::Duration;

use cynosure_engine::format_bytes;
use indicatif::ProgressBar;

use crate::app::archive_check::archive_problem;
use crate::app::context::AppContext;
use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::app::sources::{SourceRef, select_sources};
use crate::archive::layout::is_document_path;
use crate::archive::verify::{FileCheck, check_document, list_orphans};
use crate::archive::{FolderName, RecordedLines, parse_line_place};
use crate::cli::args::{CommonArgs, VerifyArgs};
use crate::cli::commands::verify_report::{ORPHANS_SHOWN_MAX, VerifyProblem, VerifySummary};
use crate::cli::error::report_error;
use crate::cli::print::{print_error, print_result, sorted_json};
use crate::disk::{Disk, PathKind, RealDisk, storage_failure};
use crate::human::pluralize;
use crate::ledger::{CounterCheck, LedgerReports, StoredFile};

/// Rows per query. The number is not critical.
const PAGE_ROWS_MAX: usize = 1000;

/// Maximum number of recounts while a worker keeps changing the rows.
const RECOUNTS_MAX: usize = 10;

/// Redraw interval of the progress line.
const DRAW_INTERVAL: Duration = Duration::from_millis(250);

pub(super) fn verify(common: &CommonArgs, args: &VerifyArgs) -> Result<ProgramExit, ProgramError> {
    let context = AppContext::load(&common.config_location())?;
    let sources = select_sources(&context, args.source.as_deref())?;
    let bar = progress_line(common);
    let mut exits = Vec::new();
    for source in &sources {
        let archive = &context.loaded.settings.archive.dir;
        let verifier = Verifier { source, archive, as_json: args.json, progress_bar: &bar };
        // A source that cannot be verified must not prevent checking the others.
        match verifier.verify_source() {
            Err(error @ ProgramError::StdoutFailed(_)) => return Err(error),
            outcome => exits.push(bar.suspend(|| report_error(outcome))),
        }
    }
    bar.finish_and_clear();
    Ok(ProgramExit::most_severe(exits))
}

/// Returns an animated progress line if standard error is a terminal, else a hidden one.
fn progress_line(common: &CommonArgs) -> ProgressBar {
    if common.quiet || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(DRAW_INTERVAL);
    bar
}

/// Session folders in the ledger, each with its lines.
type SessionFolders = BTreeMap<String, RecordedLines>;

/// Verification of one source.
struct Verifier<'a> {
    source: &'a SourceRef,
    archive: &'a Path,
    as_json: bool,
    progress_bar: &'a ProgressBar,
}

impl Verifier<'_> {
    fn verify_source(&self) -> Result<ProgramExit, ProgramError> {
        let name = &self.source.name;
        let Some(ledger) = self.source.open_ledger()? else {
            self.check_archive_owner(None)?;
            if !self.as_json {
                print_result(format!("{name} has never run: there is nothing to verify"))?;
            }
            return Ok(ProgramExit::Success);
        };
        let mut summary = VerifySummary::default();
        self.check_ledger(&*ledger, &mut summary)?;
        if ledger.count_stored_items()? > 0 {
            self.check_archive_exists()?;
        }
        self.check_archive_owner(Some(&*ledger))?;
        let folders = self.check_documents(&*ledger, &mut summary)?;
        self.find_orphans(&*ledger, &folders, &mut summary)?;
        summary.items = ledger.count_stored_items()?;
        self.print_summary(&summary)
    }

    /// Prints a problem above the progress line.
    fn print_problem(&self, problem: &VerifyProblem) -> Result<(), ProgramError> {
        let line = if self.as_json {
            sorted_json(&problem.to_json(&self.source.name)).to_string()
        } else {
            problem.to_string()
        };
        self.progress_bar.suspend(|| print_result(line))
    }

    fn check_ledger(
        &self,
        ledger: &dyn LedgerReports,
        summary: &mut VerifySummary,
    ) -> Result<(), ProgramError> {
        self.progress_bar.set_message("checking the ledger");
        let mut problems: Vec<VerifyProblem> = ledger
            .check_integrity()?
            .into_iter()
            .map(|details| VerifyProblem::LedgerDamaged { details })
            .collect();
        problems.extend(stable_recount(ledger)?.map(VerifyProblem::CounterMismatch));
        for problem in &problems {
            summary.ledger_problems += 1;
            self.print_problem(problem)?;
        }
        Ok(())
    }

    /// Checks every stored document, and returns the session folders to search for orphans. A file
    /// or a line of several documents is checked for each of them, and its bytes count once.
    fn check_documents(
        &self,
        ledger: &dyn LedgerReports,
        summary: &mut VerifySummary,
    ) -> Result<SessionFolders, ProgramError> {
        let newest = ledger.newest_session()?.and_then(|session| session.folder);
        let newest = newest.map(|folder| (folder, RecordedLines::default()));
        let mut folders: SessionFolders = newest.into_iter().collect();
        let mut after = None;
        loop {
            let page = ledger.stored_files(after, PAGE_ROWS_MAX)?;
            let Some(last) = page.last() else { return Ok(folders) };
            after = Some(last.row_id);
            for stored in page {
                let folder = self.archive.join(&stored.folder);
                let (file, length) = (&stored.file, stored.length);
                let check = check_document(&RealDisk, &folder, file, length, &stored.sha256);
                summary.documents += 1;
                if is_first_of_its_bytes(&stored, &mut folders) {
                    summary.bytes += stored.length;
                } else {
                    summary.copies += 1;
                }
                if check != FileCheck::Intact {
                    summary.damaged += 1;
                    let path = folder.join(file);
                    self.print_problem(&VerifyProblem::Damaged { path, item: stored.item, check })?;
                }
                self.progress_bar.set_message(format!(
                    "{}: {} verified, {}",
                    self.source.name,
                    pluralize(summary.documents, "document"),
                    format_bytes(summary.bytes)
                ));
            }
        }
    }

    /// Returns one error if the archive does not exist, instead of one for each document in it.
    fn check_archive_exists(&self) -> Result<(), ProgramError> {
        let archive = self.archive;
        let kind = RealDisk.path_kind(archive);
        match kind.map_err(|error| storage_failure("access", archive, &error))? {
            Some(PathKind::Folder | PathKind::Other) => Ok(()),
            Some(PathKind::File { .. }) | None => Err(ProgramError::new(
                ProgramExit::Storage,
                format!(
                    "{}: the archive {} does not exist; mount it, or correct `dir` of [archive] in \
                     the configuration",
                    self.source.name,
                    archive.display()
                ),
            )),
        }
    }

    /// Returns an error if the archive does not belong to the ledger.
    fn check_archive_owner(&self, ledger: Option<&dyn LedgerReports>) -> Result<(), ProgramError> {
        match archive_problem(self.archive, self.source.name.as_str(), ledger)? {
            Some(failure) => Err(failure.into()),
            None => Ok(()),
        }
    }

    fn find_orphans(
        &self,
        ledger: &dyn LedgerReports,
        folders: &SessionFolders,
        summary: &mut VerifySummary,
    ) -> Result<(), ProgramError> {
        self.progress_bar.set_message("checking for files that are not in the ledger");
        for (folder, lines) in folders {
            let Some(folder) = FolderName::parse(folder) else { continue };
            let path = self.archive.join(folder.as_str());
            // If the whole folder is missing, each of its documents has been reported.
            if RealDisk.path_kind(&path).ok().flatten() != Some(PathKind::Folder) {
                continue;
            }
            let limit = ORPHANS_SHOWN_MAX - summary.orphans;
            let orphans =
                list_orphans(&RealDisk, self.archive, &folder, lines, limit, |item, id, at| {
                    ledger.is_stored_at(item, id, &at.folder, &at.file)
                })?;
            summary.orphans += orphans.len();
            for path in orphans {
                self.print_problem(&VerifyProblem::OrphanFile { path })?;
            }
        }
        Ok(())
    }

    fn print_summary(&self, summary: &VerifySummary) -> Result<ProgramExit, ProgramError> {
        let name = &self.source.name;
        let line = if self.as_json {
            sorted_json(&summary.to_json(name)).to_string()
        } else {
            format!("{name}: {summary}")
        };
        self.progress_bar.suspend(|| print_result(line))?;
        if summary.is_ok() {
            return Ok(ProgramExit::Success);
        }
        let findings = pluralize(summary.problems(), "finding");
        let advice = format!(
            "{findings} in {name}: restore the files from a backup, or fetch them again: \
             `cynosure requeue --damaged --source {name}`, then `cynosure run {name}`"
        );
        Ok(self.progress_bar.suspend(|| print_error(ProgramExit::Storage, advice)))
    }
}

/// Adds the folder and the line of a document. Returns false if its bytes are those of another
/// document, which has the file or the line.
fn is_first_of_its_bytes(stored: &StoredFile, folders: &mut SessionFolders) -> bool {
    let lines = folders.entry(stored.folder.clone()).or_default();
    match parse_line_place(&stored.file) {
        Some(offset) => lines.insert(offset, stored.length),
        None => is_document_path(&stored.file, &stored.item, &stored.document),
    }
}

/// Compares counters and rows until they agree, and returns a permanent mismatch.
///
/// Counters and rows are read one after the other, so a worker may change both in between. Only a
/// mismatch that is the same in two successive counts is returned.
fn stable_recount(ledger: &dyn LedgerReports) -> Result<Option<CounterCheck>, ProgramError> {
    let mut previous = ledger.check_counters()?;
    for _ in 1..RECOUNTS_MAX {
        if previous.is_consistent() {
            break;
        }
        let current = ledger.check_counters()?;
        if current == previous {
            return Ok(Some(previous));
        }
        previous = current;
    }
    Ok(None)
}
