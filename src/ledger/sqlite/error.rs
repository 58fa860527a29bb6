//! Conversion of SQLite errors to failures with one sentence each.

use std::path::Path;

use cynosure_engine::{Cause, Failure};
use rusqlite::ErrorCode;

/// Remedies for the SQLite errors that an operator can resolve.
const REMEDIES: [(ErrorCode, &str); 9] = [
    (ErrorCode::DiskFull, "the disk is full; free some space, and the work resumes by itself"),
    (ErrorCode::DatabaseBusy, LOCKED_REMEDY),
    (ErrorCode::DatabaseLocked, LOCKED_REMEDY),
    (ErrorCode::ReadOnly, "it is read-only; make it and its folder writable"),
    (ErrorCode::PermissionDenied, UNREACHABLE_REMEDY),
    (ErrorCode::CannotOpen, UNREACHABLE_REMEDY),
    (ErrorCode::DatabaseCorrupt, DAMAGED_REMEDY),
    (ErrorCode::NotADatabase, DAMAGED_REMEDY),
    (ErrorCode::SystemIoFailure, "the disk fails; check it and the system's log"),
];

const LOCKED_REMEDY: &str = "another program has locked it; close that program";

const UNREACHABLE_REMEDY: &str =
    "it cannot be opened; give the user that runs cynosure access to it and its folder";

pub(super) const DAMAGED_REMEDY: &str = "it is damaged; stop cynosure and put back a copy of it, \
     or run `cynosure adopt` for the source, which rebuilds it from the archive";

/// Error of a call on the ledger.
#[derive(Debug)]
pub(super) enum LedgerError {
    Sql(rusqlite::Error),
    /// The call does not fit the content of the ledger, such as a page without an open session.
    Inconsistent(String),
}

impl From<rusqlite::Error> for LedgerError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl LedgerError {
    /// Returns a failure that names the operation, the path and the remedy. `action` is a
    /// verb phrase, such as "record a page".
    pub(super) fn to_failure(&self, action: &str, path: &Path) -> Failure {
        let reason = match self {
            Self::Inconsistent(reason) => reason.clone(),
            Self::Sql(error) => match find_remedy(error) {
                Some(remedy) => remedy.to_owned(),
                None => format!("{error}; run `cynosure verify`"),
            },
        };
        Failure::new(Cause::Ledger, format!("cannot {action} in {}: {reason}", path.display()))
    }
}

/// True if another connection holds the lock, which is usually released in a moment.
pub(super) fn is_locked(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// True if the file is corrupt or not a database.
pub(super) fn is_corrupt(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn find_remedy(error: &rusqlite::Error) -> Option<&'static str> {
    // A value of the wrong type means damage: this program never writes one.
    if matches!(
        error,
        rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..)
    ) {
        return Some(DAMAGED_REMEDY);
    }
    let code = error.sqlite_error_code()?;
    REMEDIES.iter().find(|(known, _)| *known == code).map(|(_, remedy)| *remedy)
}
