//! Binds a ledger to its archive, or refuses an archive that belongs to another ledger.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cynosure_engine::{Failure, LedgerId, StateMachine, Timestamp};

use crate::archive::{
    ArchiveBinding, ArchiveMarker, ArchiveOwner, DocumentFormat, FileArchive, FileExtension,
    LedgerClaim, RecordLayout, RecoveryReport,
};
use crate::config::SourceSettings;
use crate::disk::{Disk, FileLock, LockFileError, RealDisk};
use crate::ledger::{Ledger, LedgerIdentity};
use crate::state::{self, LOCK_FILE, STATE_FILE};
use crate::worker::start_error::StartError;
use crate::worker::state_mapping::{self, SessionProgress, SourceInfo};

/// Folder of an archive, and the format in which the documents of a source are stored there.
#[derive(Clone, Debug)]
pub struct ArchiveConfig {
    pub dir: PathBuf,
    pub format: DocumentFormat,
}

/// Returns the format in which the documents of a source are stored.
#[must_use]
pub fn document_format(source: &SourceSettings) -> DocumentFormat {
    let format = source.kind.document_format();
    let layout = if format.is_lines { RecordLayout::Lines } else { RecordLayout::Files };
    // The configuration has checked the extension.
    let extension = FileExtension::parse(&format.extension).unwrap_or_default();
    DocumentFormat { extension, layout }
}

/// Takes the lock beside the marker, so that no other worker uses the archive for this source.
/// Changes nothing in a folder that is not the ledger's archive.
pub(super) fn lock_archive(
    disk: &Arc<dyn Disk>,
    archive_dir: &Path,
    source: &str,
    ledger: &dyn Ledger,
) -> Result<FileLock, StartError> {
    let marker = ArchiveMarker::new(Arc::clone(disk), archive_dir, source);
    marker.check_claim(&ledger_claim(ledger.identity()?)).map_err(StartError::StorageUnusable)?;
    marker.create_folder()?;
    Ok(FileLock::acquire(&marker.lock_file())?)
}

/// Opens the archive that belongs to a ledger. A ledger without an id gets `new_id`.
///
/// The marker is written before the ledger gets the id that the marker names. A ledger with an id
/// and stored documents therefore always has a marker somewhere.
pub(super) fn open_archive(
    disk: &Arc<dyn Disk>,
    archive: &ArchiveConfig,
    source: &str,
    ledger: &mut dyn Ledger,
    new_id: &LedgerId,
) -> Result<(FileArchive, RecoveryReport), StartError> {
    let marker = ArchiveMarker::new(Arc::clone(disk), &archive.dir, source);
    let claim = ledger_claim(ledger.identity()?);
    let binding = marker.check_claim(&claim).map_err(StartError::StorageUnusable)?;
    marker.create_folder()?;
    let id = claim.ledger.as_ref().unwrap_or(new_id);
    let mut owner = ArchiveOwner::new(id, claim.account.clone(), source);
    let recorded_owner = match binding {
        ArchiveBinding::Ours(recorded) => Some(recorded),
        ArchiveBinding::Unclaimed => {
            marker.write(&owner)?;
            ledger.init_id(id)?;
            Some(owner.clone())
        }
    };
    let holds_documents = recorded_owner.as_ref().is_some_and(ArchiveOwner::has_documents);
    if claim.has_stored_documents || holds_documents {
        owner = owner.with_documents();
    }
    if recorded_owner.as_ref() != Some(&owner) {
        marker.write(&owner)?;
    }
    let opened =
        FileArchive::open(marker, owner, archive.format.clone(), |item, document, location| {
            ledger.is_stored_at(item, document, &location.folder, &location.file)
        })?;
    Ok(opened)
}

/// Returns the identity that a ledger presents to an archive.
#[must_use]
pub fn ledger_claim(identity: LedgerIdentity) -> LedgerClaim {
    let LedgerIdentity { id, account, has_stored_documents } = identity;
    LedgerClaim { ledger: id, account, has_stored_documents }
}

/// Writes into the state file that a source waits until `until` for its archive or ledger. Returns
/// the waiting machine.
pub(super) fn save_waiting_state(
    dir: &Path,
    info: &SourceInfo,
    failure: &Failure,
    until: Timestamp,
    now: Timestamp,
) -> Result<StateMachine, Failure> {
    let _lock = match FileLock::acquire(&dir.join(LOCK_FILE)) {
        Ok(lock) => lock,
        Err(LockFileError::Held { .. }) => {
            return Ok(StateMachine::new(now).with_store_error(failure, until, now));
        }
        Err(LockFileError::Storage(failure)) => return Err(failure),
    };
    let file = dir.join(STATE_FILE);
    let (saved_machine, progress) = match state::read_state_file(&RealDisk, &file)? {
        state::StateFile::Read(state) => {
            (state_mapping::to_machine(&state, now), state_mapping::to_progress(&state))
        }
        state::StateFile::Absent => (StateMachine::new(now), SessionProgress::default()),
        // The next successful start moves the file aside.
        state::StateFile::Unreadable { .. } | state::StateFile::Newer { .. } => {
            return Ok(StateMachine::new(now).with_store_error(failure, until, now));
        }
    };
    let machine = saved_machine.with_store_error(failure, until, now);
    let pid = Some(std::process::id());
    let state = state_mapping::to_execution_state(&machine, Some(until), &progress, info, pid, now);
    state::save_state_file(&RealDisk, &file, &state)?;
    Ok(machine)
}
