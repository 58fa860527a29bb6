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
use crate::cli::archive::examine;
use crate::cli::args::{Common, VerifyArgs};
use crate::cli::exit::Exit;
use crate::cli::findings::{Found, STRAYS_MAX, Summary};
use crate::cli::print::{fail, show};
use crate::cli::sources::{Known, chosen, ground};
use crate::cli::trouble::{Trouble, told};
use crate::disk::{Disk, PathKind, RealDisk, storage_failure};
use crate::human::{format_bytes, pluralize};
use crate::ledger::{CounterCheck, LedgerReader};

/// Rows that are read at once. Any number would do.
const PAGE_ROWS: usize = 1000;

/// Counts of the rows that are tried while a worker keeps changing them.
const RECOUNTS_MAX: usize = 10;

/// How often the progress line moves.
const DRAW_INTERVAL: Duration = Duration::from_millis(250);

pub(super) fn verify(common: &Common, args: &VerifyArgs) -> Result<Exit, Trouble> {
    let ground = ground(common)?;
    let sources = chosen(&ground, args.source.as_deref())?;
    let bar = progress_line(common);
    let mut exits = Vec::new();
    for source in &sources {
        let archive = &ground.loaded.settings.archive.dir;
        let verifier = Verifier { source, archive, as_json: args.json, bar: &bar };
        // One source that cannot be verified keeps no other from it.
        match verifier.run() {
            Err(trouble @ Trouble::Unread(_)) => return Err(trouble),
            outcome => exits.push(bar.suspend(|| told(outcome))),
        }
    }
    bar.finish_and_clear();
    Ok(Exit::worst(exits))
}

/// A line that moves, where a person looks at it.
fn progress_line(common: &Common) -> ProgressBar {
    if common.quiet || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(DRAW_INTERVAL);
    bar
}

struct Verifier<'a> {
    source: &'a Known,
    archive: &'a Path,
    as_json: bool,
    bar: &'a ProgressBar,
}

impl Verifier<'_> {
    fn run(&self) -> Result<Exit, Trouble> {
        let name = &self.source.name;
        let Some(ledger) = self.source.ledger()? else {
            self.find_mismatch(None)?;
            if !self.as_json {
                show(format!("{name} has never run: there is nothing to verify"))?;
            }
            return Ok(Exit::Done);
        };
        let mut summary = Summary::default();
        self.check_ledger(&ledger, &mut summary)?;
        if ledger.count_stored_items()? > 0 {
            self.find_archive()?;
        }
        self.find_mismatch(Some(&ledger))?;
        let folders = self.check_documents(&ledger, &mut summary)?;
        self.find_strays(&ledger, &folders, &mut summary)?;
        summary.items = ledger.count_stored_items()?;
        self.conclude(&summary)
    }

    /// Prints a finding, beside the progress line.
    fn tell(&self, found: &Found) -> Result<(), Trouble> {
        let line = if self.as_json {
            found.to_json(&self.source.name).to_string()
        } else {
            found.to_string()
        };
        self.bar.suspend(|| show(line))
    }

    fn check_ledger(&self, ledger: &LedgerReader, summary: &mut Summary) -> Result<(), Trouble> {
        self.bar.set_message("checking the ledger");
        let mut found: Vec<Found> = ledger
            .check_integrity()?
            .into_iter()
            .map(|what| Found::LedgerDamaged { what })
            .collect();
        found.extend(settled_recount(ledger)?.map(Found::Miscounted));
        for found in &found {
            summary.ledger_findings += 1;
            self.tell(found)?;
        }
        Ok(())
    }

    /// Reads every stored document; returns the folders that they are in.
    fn check_documents(
        &self,
        ledger: &LedgerReader,
        summary: &mut Summary,
    ) -> Result<BTreeSet<String>, Trouble> {
        let newest = ledger.newest_session()?.and_then(|session| session.folder);
        let mut folders: BTreeSet<String> = newest.into_iter().collect();
        let mut after = None;
        loop {
            let page = ledger.stored_files(after, PAGE_ROWS)?;
            let Some(last) = page.last() else { return Ok(folders) };
            after = Some(last.row_id);
            for stored in page {
                let path = self.archive.join(&stored.folder).join(&stored.file);
                let finding = check_file(&RealDisk, &path, stored.length, &stored.sha256);
                summary.documents += 1;
                summary.bytes += stored.length;
                if finding != FileCheck::Intact {
                    summary.damaged += 1;
                    self.tell(&Found::Damaged { path, item: stored.item, finding })?;
                }
                folders.insert(stored.folder);
                self.bar.set_message(format!(
                    "{}: {} verified, {}",
                    self.source.name,
                    pluralize(summary.documents, "document"),
                    format_bytes(summary.bytes)
                ));
            }
        }
    }

    /// Says once that the archive is not there, rather than for every document in it.
    fn find_archive(&self) -> Result<(), Trouble> {
        let archive = self.archive;
        let kind = RealDisk.path_kind(archive);
        match kind.map_err(|error| storage_failure("look at", archive, &error))? {
            Some(PathKind::Folder | PathKind::Other) => Ok(()),
            Some(PathKind::File { .. }) | None => Err(Trouble::new(
                Exit::Storage,
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
    fn find_mismatch(&self, ledger: Option<&LedgerReader>) -> Result<(), Trouble> {
        match examine(self.archive, self.source.name.as_str(), ledger)? {
            Some(failure) => Err(failure.into()),
            None => Ok(()),
        }
    }

    fn find_strays(
        &self,
        ledger: &LedgerReader,
        folders: &BTreeSet<String>,
        summary: &mut Summary,
    ) -> Result<(), Trouble> {
        self.bar.set_message("looking for files that the ledger does not know");
        for folder in folders.iter().filter_map(|folder| FolderName::parse(folder)) {
            let path = self.archive.join(folder.as_str());
            // Where the whole folder is gone, each of its documents has been told.
            if RealDisk.path_kind(&path).ok().flatten() != Some(PathKind::Folder) {
                continue;
            }
            let room = STRAYS_MAX - summary.strays;
            let found =
                list_orphans(&RealDisk, self.archive, &folder, room, |item, document, at| {
                    ledger.is_stored_at(item, document, &at.folder, &at.file)
                })?;
            summary.strays += found.len();
            for path in found {
                self.tell(&Found::Stray { path })?;
            }
        }
        Ok(())
    }

    fn conclude(&self, summary: &Summary) -> Result<Exit, Trouble> {
        let name = &self.source.name;
        let line = if self.as_json {
            summary.to_json(name).to_string()
        } else {
            format!("{name}: {summary}")
        };
        self.bar.suspend(|| show(line))?;
        if summary.is_well() {
            return Ok(Exit::Done);
        }
        let wrong = pluralize(summary.findings(), "finding");
        let advice = format!(
            "{wrong} in {name}: put back what is wrong from a copy, or have it fetched again: \
             `cynosure requeue --damaged --source {name}`, then `cynosure run {name}`"
        );
        Ok(self.bar.suspend(|| fail(Exit::Storage, advice)))
    }
}

/// Counts until the rows hold still; returns a count that disagrees with the counters for good.
///
/// Counters and rows are read one after the other, so that a worker may move both between. Only
/// a disagreement that two counts see alike is one.
fn settled_recount(ledger: &LedgerReader) -> Result<Option<CounterCheck>, Trouble> {
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
