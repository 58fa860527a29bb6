//! Read-only check that the archive of a source exists and belongs to its ledger.

use std::path::Path;
use std::sync::Arc;

use cynosure_engine::Failure;

use crate::archive::ArchiveMarker;
use crate::disk::RealDisk;
use crate::ledger::{LedgerOpenError, LedgerReports, SqliteLedger};
use crate::state::StateFolder;
use crate::worker::ledger_claim;

/// Returns the reason why a ledger must not use an archive; without a ledger, the reason why none
/// may be created for it. `None` if there is no problem. Changes nothing.
///
/// # Errors
/// A ledger failure.
pub(crate) fn archive_problem(
    archive: &Path,
    source: &str,
    ledger: Option<&dyn LedgerReports>,
) -> Result<Option<Failure>, Failure> {
    let identity = ledger.map(|ledger| ledger.identity()).transpose()?;
    let claim = ledger_claim(identity.unwrap_or_default());
    let marker = ArchiveMarker::new(Arc::new(RealDisk), archive, source);
    Ok(marker.check_claim(&claim).err())
}

/// Opens the ledger of a source and returns its archive problem, as text. A damaged ledger is a
/// problem, too. `None` also if the ledger cannot be read, which other checks report.
#[must_use]
pub(crate) fn archive_mismatch(state_dir: &Path, archive: &Path, source: &str) -> Option<String> {
    let path = StateFolder::new(state_dir).source(source).ledger_file();
    let failure = match SqliteLedger::open_read_only(&path) {
        Ok(ledger) => {
            archive_problem(archive, source, ledger.as_ref().map(|ledger| ledger as _)).ok()?
        }
        Err(LedgerOpenError::Damaged(failure)) => Some(failure),
        Err(_) => None,
    };
    failure.map(|failure| failure.message)
}
