//! The archive of a source as commands look at it: is it there, and does it belong to the ledger.

use std::path::Path;
use std::sync::Arc;

use crate::archive::ArchiveMarker;
use crate::disk::RealDisk;
use crate::engine::Failure;
use crate::ledger::LedgerReader;
use crate::worker::claim;

/// Returns the reason why a ledger may not use an archive, if there is one; without a ledger, the reason
/// why none may be begun for it. Changes nothing.
///
/// # Errors
/// A ledger failure.
pub(super) fn archive_problem(
    archive: &Path,
    source: &str,
    ledger: Option<&LedgerReader>,
) -> Result<Option<Failure>, Failure> {
    let identity = ledger.map(|ledger| ledger.identity()).transpose()?;
    let claim = claim(identity.unwrap_or_default());
    let marker = ArchiveMarker::new(Arc::new(RealDisk), archive, source);
    Ok(marker.check_claim(&claim).err())
}

/// The same by where the ledger is. `None` also where the ledger cannot be read, which others tell.
#[must_use]
pub(super) fn archive_mismatch(state_dir: &Path, archive: &Path, source: &str) -> Option<String> {
    let path = super::context::ledger_file(&super::context::source_dir(state_dir, source));
    let failure = match LedgerReader::open(&path) {
        Ok(ledger) => archive_problem(archive, source, ledger.as_ref()).ok()?,
        Err(crate::ledger::LedgerOpenError::Damaged(failure)) => Some(failure),
        Err(_) => None,
    };
    failure.map(|failure| failure.message)
}
