//! `requeue --damaged`: schedules stored documents to be fetched again if their files are missing
//! or damaged.

use std::path::Path;

use cynosure_engine::Timestamp;

use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::app::sources::SourceRef;
use crate::archive::verify::{FileCheck, check_document};
use crate::cli::commands::verify_report::VerifyProblem;
use crate::cli::print::{print_error, print_result};
use crate::disk::RealDisk;
use crate::human::{humanize, pluralize};
use crate::ledger::{FileRowId, Ledger};

/// Rows per query. The number is not critical.
const PAGE_ROWS_MAX: usize = 1000;

/// Checks the archive as `verify` does, and requeues the damaged documents. Earlier versions cannot
/// be fetched again, because the server has only the current one.
pub(super) fn requeue_damaged(
    source: &SourceRef,
    archive: &Path,
    ledger: &mut dyn Ledger,
    next_step: &str,
    now: Timestamp,
) -> Result<ProgramExit, ProgramError> {
    let (mut requeued, mut lost, mut after) = (0, 0, None);
    let lists_contents = ledger.lists_contents()?;
    loop {
        let page = ledger.stored_files(after, PAGE_ROWS_MAX)?;
        let Some(last) = page.last() else { break };
        after = Some(last.row_id);
        for stored in page {
            let folder = archive.join(&stored.folder);
            let (file, length) = (&stored.file, stored.length);
            let check = check_document(&RealDisk, &folder, file, length, &stored.sha256);
            if check == FileCheck::Intact {
                continue;
            }
            let path = folder.join(file);
            let mut reason = format!("the file of a document is {}", humanize(check.name()));
            if lists_contents {
                reason.push_str("; the next full listing brings it again");
            }
            print_result(VerifyProblem::Damaged { path, item: stored.item, check })?;
            match stored.row_id {
                FileRowId::Current(document) => {
                    requeued += u64::from(ledger.requeue_damaged(document, &reason, now)?);
                }
                FileRowId::Superseded(_) => lost += 1,
            }
        }
    }
    if lost > 0 {
        let versions = pluralize(lost, "earlier version");
        print_error(
            ProgramExit::Storage,
            format!(
                "{versions} of {} cannot be fetched again, because the server has only the current \
                 one; restore the damaged files from a backup",
                source.name
            ),
        );
    }
    if requeued > 0 {
        let documents = pluralize(requeued, "document");
        print_result(format!("{documents} of {}: {next_step}", source.name))?;
        if lists_contents {
            print_result("Only a listing brings them, so everything is listed again first.")?;
        }
    } else if lost == 0 {
        print_result(format!("{}: no document is missing or damaged", source.name))?;
    }
    Ok(if lost > 0 { ProgramExit::Storage } else { ProgramExit::Success })
}
