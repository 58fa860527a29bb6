//! Binds a ledger to its archive, or refuses the one for the other.

use std::path::Path;
use std::sync::Arc;

use crate::archive::{Archive, Binding, Claim, Marker, Owner, Recovered};
use crate::disk::{Disk, Lock, LockError, RealDisk};
use crate::engine::{Failure, LedgerId, StateMachine, Timestamp};
use crate::ledger::{Identity, Ledger, Tally};
use crate::state::{self, ExecutionState, STATE_FILE};
use crate::worker::start_error::StartError;
use crate::worker::state_mapping;
use crate::worker::store::{LOCK_FILE, SessionProgress, SourceInfo};

/// Takes the lock beside the marker, so that no other worker uses the archive for this source.
/// Changes nothing in a folder that is not the ledger's archive.
pub(super) fn lock_archive(
    disk: &Arc<dyn Disk>,
    archive_dir: &Path,
    source: &str,
    ledger: &Ledger,
) -> Result<Lock, StartError> {
    let marker = Marker::new(Arc::clone(disk), archive_dir, source);
    marker.examine(&claim(ledger.identity()?)).map_err(StartError::StorageUnusable)?;
    marker.prepare()?;
    Ok(Lock::acquire(&marker.lock_file())?)
}

/// Opens the archive that belongs to a ledger. A ledger without an id gets `new_id`.
///
/// The marker is written before the ledger has the id that it names: so a ledger with an id and
/// stored documents always has a marker somewhere.
pub(super) fn open_archive(
    disk: &Arc<dyn Disk>,
    archive_dir: &Path,
    source: &str,
    ledger: &mut Ledger,
    new_id: &LedgerId,
) -> Result<(Archive, Recovered), StartError> {
    let marker = Marker::new(Arc::clone(disk), archive_dir, source);
    let claim = claim(ledger.identity()?);
    let binding = marker.examine(&claim).map_err(StartError::StorageUnusable)?;
    marker.prepare()?;
    let id = claim.ledger.as_ref().unwrap_or(new_id);
    let mut owner = Owner::new(id, claim.account.clone(), source);
    let written = match binding {
        Binding::Ours(found) => Some(found),
        Binding::Free => {
            marker.write(&owner)?;
            ledger.set_id(id)?;
            Some(owner.clone())
        }
    };
    let holds_documents = written.as_ref().is_some_and(Owner::holds_documents);
    if claim.has_stored || holds_documents {
        owner = owner.with_documents();
    }
    if written.as_ref() != Some(&owner) {
        marker.write(&owner)?;
    }
    let opened = Archive::open(marker, owner, |item, document, at| {
        ledger.is_stored_at(item, document, &at.folder, &at.file)
    })?;
    Ok(opened)
}

/// What a ledger says of itself to an archive.
#[must_use]
pub fn claim(identity: Identity) -> Claim {
    let Identity { id, account, has_stored } = identity;
    Claim { ledger: id, account, has_stored }
}

/// Writes into the state file that a source waits until `until` for its archive or ledger.
/// Returns the machine as it waits.
pub(super) fn save_waiting_state(
    dir: &Path,
    facts: &SourceInfo,
    failure: &Failure,
    until: Timestamp,
    now: Timestamp,
) -> Result<StateMachine, Failure> {
    let _alone = match Lock::acquire(&dir.join(LOCK_FILE)) {
        Ok(lock) => lock,
        Err(LockError::Held { .. }) => {
            return Ok(StateMachine::new(now).with_store_error(failure, until, now));
        }
        Err(LockError::Storage(failure)) => return Err(failure),
    };
    let file = dir.join(STATE_FILE);
    let (saved, progress) = match state::examine(&RealDisk, &file)? {
        state::Found::Read(state) => {
            (state_mapping::to_machine(&state, now), saved_progress(&state))
        }
        state::Found::Absent => (StateMachine::new(now), SessionProgress::default()),
        // The next start that succeeds puts it aside.
        state::Found::Unreadable { .. } | state::Found::Newer { .. } => {
            return Ok(StateMachine::new(now).with_store_error(failure, until, now));
        }
    };
    let machine = saved.with_store_error(failure, until, now);
    let pid = Some(std::process::id());
    let state =
        state_mapping::to_execution_state(&machine, Some(until), &progress, facts, pid, now);
    state::save(&RealDisk, &file, &state)?;
    Ok(machine)
}

fn saved_progress(state: &ExecutionState) -> SessionProgress {
    SessionProgress {
        counts: Tally {
            listed: state.total_threads,
            stored: state.downloaded_threads,
            gone: state.gone,
            quarantined: state.quarantined,
            versions: state.versions,
            copies: state.copies,
            ..Tally::default()
        },
        waiting_items: state.waiting_for_retry,
        expected_documents: state.expected_documents,
        items_per_second: None,
        last_success_at: state.last_success,
    }
}
