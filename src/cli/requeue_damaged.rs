//! `requeue --damaged`: has stored documents fetched again whose files are missing or damaged.

use std::path::Path;

use crate::archive::verify::{FileCheck, check_file};
use crate::cli::error::CliError;
use crate::cli::exit::ProgramExit;
use crate::cli::print::{print_error, print_result};
use crate::cli::sources::SourceRef;
use crate::cli::verify_report::VerifyProblem;
use crate::disk::RealDisk;
use crate::engine::Timestamp;
use crate::human::pluralize;
use crate::ledger::{FileRowId, Ledger};

/// Rows that are read at once. Any number would do.
const PAGE_ROWS_MAX: usize = 1000;

/// Looks through the archive as `verify` does, and makes the documents that are damaged wanted
/// again. An earlier version cannot be fetched again: the server has only the present one.
pub(super) fn requeue_damaged(
    source: &SourceRef,
    archive: &Path,
    ledger: &mut Ledger,
    outlook: &str,
    now: Timestamp,
) -> Result<ProgramExit, CliError> {
    let (mut wanted, mut lost, mut after) = (0, 0, None);
    loop {
        let page = ledger.stored_files(after, PAGE_ROWS_MAX)?;
        let Some(last) = page.last() else { break };
        after = Some(last.row_id);
        for stored in page {
            let path = archive.join(&stored.folder).join(&stored.file);
            let finding = check_file(&RealDisk, &path, stored.length, &stored.sha256);
            if finding == FileCheck::Intact {
                continue;
            }
            let why = format!("the file of a document is {}", finding.name().replace('_', " "));
            print_result(VerifyProblem::Damaged { path, item: stored.item, check: finding })?;
            match stored.row_id {
                FileRowId::Current(document) => {
                    wanted += u64::from(ledger.requeue_damaged(document, &why, now)?);
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
                "{versions} of {} cannot be fetched again, since the server has only the present \
                 one; put back what is damaged from a copy",
                source.name
            ),
        );
    }
    if wanted > 0 {
        print_result(format!("{} of {}: {outlook}", pluralize(wanted, "document"), source.name))?;
    } else if lost == 0 {
        print_result(format!("{}: no document is missing or damaged", source.name))?;
    }
    Ok(if lost > 0 { ProgramExit::Storage } else { ProgramExit::Success })
}
