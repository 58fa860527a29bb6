//! `verify`: the archive against the ledger, byte for byte, and the ledger against itself.
//!
//! It changes nothing, and works beside a running worker: a file is in its place before its row
//! is in the ledger, so that what is there too early is told and does no harm.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::Duration;

use indicatif::ProgressBar;

use crate::archive::FolderName;
use crate::archive::verify::{FileCheck, check_file, list_orphans};
use crate::cli::archive_check::archive_problem;
use crate::cli::args::{CommonArgs, VerifyArgs};
use crate::cli::error::{CliError, report_error};
use crate::cli::exit::ProgramExit;
use crate::cli::print::{print_error, print_result};
use crate::cli::sources::{SourceRef, load_context, select_sources};
use crate::cli::verify_report::{ORPHANS_SHOWN_MAX, VerifyProblem, VerifySummary};
use crate::disk::{Disk, PathKind, RealDisk, storage_failure};
use crate::human::{format_bytes, pluralize};
use crate::ledger::{CounterCheck, LedgerReader};

/// Rows that are read at once. Any number would do.
const PAGE_ROWS_MAX: usize = 1000;

/// Counts of the rows that are tried while a worker keeps changing them.
const RECOUNTS_MAX: usize = 10;

/// How often the progress line moves.
const DRAW_INTERVAL: Duration = Duration::from_millis(250);

pub(super) fn verify(common: &CommonArgs, args: &VerifyArgs) -> Result<ProgramExit, CliError> {
    let ground = load_context(common)?;
    let sources = select_sources(&ground, args.source.as_deref())?;
    let bar = progress_line(common);
    let mut exits = Vec::new();
    for source in &sources {
        let archive = &ground.loaded.settings.archive.dir;
        let verifier = Verifier { source, archive, as_json: args.json, progress_bar: &bar };
        // One source that cannot be verified keeps no other from it.
        match verifier.verify_source() {
            Err(trouble @ CliError::StdoutFailed(_)) => return Err(trouble),
            outcome => exits.push(bar.suspend(|| report_error(outcome))),
        }
    }
    bar.finish_and_clear();
    Ok(ProgramExit::most_severe(exits))
}

/// A line that moves, where a person looks at it.
fn progress_line(common: &CommonArgs) -> ProgressBar {
    if common.quiet || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(DRAW_INTERVAL);
    bar
}

struct Verifier<'a> {
    source: &'a SourceRef,
    archive: &'a Path,
    as_json: bool,
    progress_bar: &'a ProgressBar,
}

impl Verifier<'_> {
    fn verify_source(&self) -> Result<ProgramExit, CliError> {
        let name = &self.source.name;
        let Some(ledger) = self.source.open_ledger()? else {
            self.check_archive_owner(None)?;
            if !self.as_json {
                print_result(format!("{name} has never run: there is nothing to verify"))?;
            }
            return Ok(ProgramExit::Success);
        };
        let mut summary = VerifySummary::default();
        self.check_ledger(&ledger, &mut summary)?;
        if ledger.count_stored_items()? > 0 {
            self.check_archive_exists()?;
        }
        self.check_archive_owner(Some(&ledger))?;
        let folders = self.check_documents(&ledger, &mut summary)?;
        self.find_orphans(&ledger, &folders, &mut summary)?;
        summary.items = ledger.count_stored_items()?;
        self.print_summary(&summary)
    }

    /// Prints a finding, beside the progress line.
    fn print_problem(&self, found: &VerifyProblem) -> Result<(), CliError> {
        let line = if self.as_json {
            found.to_json(&self.source.name).to_string()
        } else {
            found.to_string()
        };
        self.progress_bar.suspend(|| print_result(line))
    }

    fn check_ledger(
        &self,
        ledger: &LedgerReader,
        summary: &mut VerifySummary,
    ) -> Result<(), CliError> {
        self.progress_bar.set_message("checking the ledger");
        let mut found: Vec<VerifyProblem> = ledger
            .check_integrity()?
            .into_iter()
            .map(|what| VerifyProblem::LedgerDamaged { details: what })
            .collect();
        found.extend(stable_recount(ledger)?.map(VerifyProblem::CounterMismatch));
        for found in &found {
            summary.ledger_problems += 1;
            self.print_problem(found)?;
        }
        Ok(())
    }

    /// Reads every stored document; returns the folders that they are in.
    fn check_documents(
        &self,
        ledger: &LedgerReader,
        summary: &mut VerifySummary,
    ) -> Result<BTreeSet<String>, CliError> {
        let newest = ledger.newest_session()?.and_then(|session| session.folder);
        let mut folders: BTreeSet<String> = newest.into_iter().collect();
        let mut after = None;
        loop {
            let page = ledger.stored_files(after, PAGE_ROWS_MAX)?;
            let Some(last) = page.last() else { return Ok(folders) };
            after = Some(last.row_id);
            for stored in page {
                let path = self.archive.join(&stored.folder).join(&stored.file);
                let finding = check_file(&RealDisk, &path, stored.length, &stored.sha256);
                summary.documents += 1;
                summary.bytes += stored.length;
                if finding != FileCheck::Intact {
                    summary.damaged += 1;
                    self.print_problem(&VerifyProblem::Damaged {
                        path,
                        item: stored.item,
                        check: finding,
                    })?;
                }
                folders.insert(stored.folder);
                self.progress_bar.set_message(format!(
                    "{}: {} verified, {}",
                    self.source.name,
                    pluralize(summary.documents, "document"),
                    format_bytes(summary.bytes)
                ));
            }
        }
    }

    /// Says once that the archive is not there, rather than for every document in it.
    fn check_archive_exists(&self) -> Result<(), CliError> {
        let archive = self.archive;
        let kind = RealDisk.path_kind(archive);
        match kind.map_err(|error| storage_failure("look at", archive, &error))? {
            Some(PathKind::Folder | PathKind::Other) => Ok(()),
            Some(PathKind::File { .. }) | None => Err(CliError::new(
                ProgramExit::Storage,
                format!(
                    "{}: the archive {} is not there; mount it, or correct `dir` of [archive] in \
                     the configuration",
                    self.source.name,
                    archive.display()
                ),
            )),
        }
    }

    /// Fails where the archive is not the ledger's.
    fn check_archive_owner(&self, ledger: Option<&LedgerReader>) -> Result<(), CliError> {
        match archive_problem(self.archive, self.source.name.as_str(), ledger)? {
            Some(failure) => Err(failure.into()),
            None => Ok(()),
        }
    }

    fn find_orphans(
        &self,
        ledger: &LedgerReader,
        folders: &BTreeSet<String>,
        summary: &mut VerifySummary,
    ) -> Result<(), CliError> {
        self.progress_bar.set_message("looking for files that the ledger does not know");
        for folder in folders.iter().filter_map(|folder| FolderName::parse(folder)) {
            let path = self.archive.join(folder.as_str());
            // Where the whole folder is gone, each of its documents has been told.
            if RealDisk.path_kind(&path).ok().flatten() != Some(PathKind::Folder) {
                continue;
            }
            let room = ORPHANS_SHOWN_MAX - summary.orphans;
            let found =
                list_orphans(&RealDisk, self.archive, &folder, room, |item, document, at| {
                    ledger.is_stored_at(item, document, &at.folder, &at.file)
                })?;
            summary.orphans += found.len();
            for path in found {
                self.print_problem(&VerifyProblem::OrphanFile { path })?;
            }
        }
        Ok(())
    }

    fn print_summary(&self, summary: &VerifySummary) -> Result<ProgramExit, CliError> {
        let name = &self.source.name;
        let line = if self.as_json {
            summary.to_json(name).to_string()
        } else {
            format!("{name}: {summary}")
        };
        self.progress_bar.suspend(|| print_result(line))?;
        if summary.is_ok() {
            return Ok(ProgramExit::Success);
        }
        let wrong = pluralize(summary.problems(), "finding");
        let advice = format!(
            "{wrong} in {name}: put back what is wrong from a copy, or have it fetched again: \
             `cynosure requeue --damaged --source {name}`, then `cynosure run {name}`"
        );
        Ok(self.progress_bar.suspend(|| print_error(ProgramExit::Storage, advice)))
    }
}

/// Counts until the rows hold still; returns a count that disagrees with the counters for good.
///
/// Counters and rows are read one after the other, so that a worker may move both between. Only
/// a disagreement that two counts see alike is one.
fn stable_recount(ledger: &LedgerReader) -> Result<Option<CounterCheck>, CliError> {
    let mut last = ledger.check_counters()?;
    for _ in 1..RECOUNTS_MAX {
        if last.is_consistent() {
            break;
        }
        let again = ledger.check_counters()?;
        if again == last {
            return Ok(Some(last));
        }
        last = again;
    }
    Ok(None)
}
