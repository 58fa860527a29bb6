//! `requeue --damaged`: has stored documents fetched again whose files are missing or damaged.

use std::path::Path;

use crate::archive::verify::{FileCheck, check_file};
use crate::cli::exit::Exit;
use crate::cli::findings::Found;
use crate::cli::print::{fail, show};
use crate::cli::sources::Known;
use crate::cli::trouble::Trouble;
use crate::disk::RealDisk;
use crate::engine::Timestamp;
use crate::human::pluralize;
use crate::ledger::{FileRowId, Ledger};

/// Rows that are read at once. Any number would do.
const PAGE_ROWS: usize = 1000;

/// Looks through the archive as `verify` does, and makes the documents that are damaged wanted
/// again. An earlier version cannot be fetched again: the server has only the present one.
pub(super) fn requeue_damaged(
    source: &Known,
    archive: &Path,
    ledger: &mut Ledger,
    outlook: &str,
    now: Timestamp,
) -> Result<Exit, Trouble> {
    let (mut wanted, mut lost, mut after) = (0, 0, None);
    loop {
        let page = ledger.stored_files(after, PAGE_ROWS)?;
        let Some(last) = page.last() else { break };
        after = Some(last.row_id);
        for stored in page {
            let path = archive.join(&stored.folder).join(&stored.file);
            let finding = check_file(&RealDisk, &path, stored.length, &stored.sha256);
            if finding == FileCheck::Intact {
                continue;
            }
            let why = format!("the file of a document is {}", finding.name().replace('_', " "));
            show(Found::Damaged { path, item: stored.item, finding })?;
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
        fail(
            Exit::Storage,
            format!(
                "{versions} of {} cannot be fetched again, since the server has only the present \
                 one; put back what is damaged from a copy",
                source.name
            ),
        );
    }
    if wanted > 0 {
        show(format!("{} of {}: {outlook}", pluralize(wanted, "document"), source.name))?;
    } else if lost == 0 {
        show(format!("{}: no document is missing or damaged", source.name))?;
    }
    Ok(if lost > 0 { Exit::Storage } else { Exit::Done })
}
