//! Opens the ledger of a source in the database of a fleet.

use std::fmt;

use cynosure_engine::{Cause, Failure};

use crate::database::{Database, DatabaseError, Parameter, Row};
use crate::ledger::LedgerOpenError;
use crate::ledger::postgres::schema::{SCHEMA_VERSION, schema_version};

/// Error code of a change by an earlier owner of the source.
const FENCED: &str = "CY001";

/// Error code of a change whose rows were changed meanwhile.
const CONFLICT: &str = "CY002";

/// Error code of a call that does not fit the content of the ledger.
const INCONSISTENT: &str = "CY003";

/// Changes in a row that may meet rows that another worker has changed. Two workers change the same
/// row only if a listing replaces a document while it is fetched.
const CONFLICTS_MAX: u32 = 10;

/// Ledger of one source in PostgreSQL, changed by the owner of the source.
pub struct PostgresLedger {
    pub(super) database: Database,
    /// Number of the source's row.
    pub(super) source: i64,
    /// Epoch of this owner.
    pub(super) epoch: i64,
    /// Number of this worker's counters.
    pub(super) shard: i32,
    name: String,
}

impl PostgresLedger {
    /// Opens the ledger of a source as its next owner. Adds the source if there is none of this
    /// name.
    ///
    /// # Errors
    /// [`LedgerOpenError`]; also if the database has another schema version.
    pub fn open(database: Database, name: &str) -> Result<Self, LedgerOpenError> {
        let place = format!("the database {}", database.name());
        let to_error = |error: DatabaseError| LedgerOpenError::Failed(to_failure(&error));
        let version = schema_version(&database).map_err(to_error)?;
        if version > SCHEMA_VERSION {
            let known_version = SCHEMA_VERSION;
            return Err(LedgerOpenError::NewerVersion { place, version, known_version });
        }
        if version < SCHEMA_VERSION {
            let message = format!(
                "cannot open the ledger of {name}: {place} has the schema version {version}, and \
                 this cynosure needs {SCHEMA_VERSION}; run `cynosure fleet init`"
            );
            return Err(LedgerOpenError::Failed(Failure::new(Cause::Ledger, message)));
        }
        let sql = "SELECT no, epoch FROM cynosure.open_source($1::TEXT)";
        let rows = database.query(sql, vec![Box::new(name.to_owned())]).map_err(to_error)?;
        let numbers = rows.first().map(|row| (row.try_get(0), row.try_get(1)));
        let Some((Ok(source), Ok(epoch))) = numbers else {
            let missing = DatabaseError::unexpected("no row of the source".to_owned());
            return Err(to_error(missing));
        };
        Ok(Self { database, source, epoch, shard: 0, name: name.to_owned() })
    }

    /// Turns the result of a read into that of the trait. `action` is a verb phrase.
    pub(super) fn answer<T>(
        &self,
        action: &str,
        result: Result<T, DatabaseError>,
    ) -> Result<T, Failure> {
        result.map_err(|error| self.failure(action, &error))
    }

    /// Makes a change by a function of the database. The source and the epoch come before
    /// `parameters`.
    pub(super) fn change(
        &self,
        action: &str,
        sql: &'static str,
        parameters: Vec<Parameter>,
    ) -> Result<Vec<Row>, Failure> {
        self.answer(action, self.try_change(sql, parameters))
    }

    pub(super) fn try_change(
        &self,
        sql: &'static str,
        parameters: Vec<Parameter>,
    ) -> Result<Vec<Row>, DatabaseError> {
        let mut all: Vec<Parameter> = vec![Box::new(self.source), Box::new(self.epoch)];
        all.extend(parameters);
        self.database.query(sql, all)
    }

    /// Makes a change that depends on rows: `attempt` loads them, decides, and writes.
    pub(super) fn decide<T>(
        &self,
        action: &str,
        attempt: impl Fn() -> Result<T, DecisionError>,
    ) -> Result<T, Failure> {
        let mut conflicts = 0;
        loop {
            let error = match attempt() {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            match error {
                DecisionError::Inconsistent(reason) => {
                    return Err(self.inconsistent(action, &reason));
                }
                DecisionError::Database(error)
                    if error.sql_state() == Some(CONFLICT) && conflicts < CONFLICTS_MAX =>
                {
                    conflicts += 1;
                }
                DecisionError::Database(error) => return Err(self.failure(action, &error)),
            }
        }
    }

    fn failure(&self, action: &str, error: &DatabaseError) -> Failure {
        let reason = match error.sql_state() {
            Some(FENCED) => "another worker has taken over the source".to_owned(),
            Some(INCONSISTENT) => error.statement_message().to_owned(),
            Some(_) | None => error.to_string(),
        };
        self.inconsistent(action, &reason)
    }

    fn inconsistent(&self, action: &str, reason: &str) -> Failure {
        let Self { name, database, .. } = self;
        let place = database.name();
        let message = format!("cannot {action} in the ledger of {name} in {place}: {reason}");
        Failure::new(Cause::Ledger, message)
    }
}

/// Error of a change that depends on rows.
#[derive(Debug)]
pub(super) enum DecisionError {
    Database(DatabaseError),
    /// The call does not fit the content of the ledger.
    Inconsistent(String),
}

impl From<DatabaseError> for DecisionError {
    fn from(error: DatabaseError) -> Self {
        Self::Database(error)
    }
}

fn to_failure(error: &DatabaseError) -> Failure {
    Failure::new(Cause::Ledger, format!("cannot open the ledger: {error}"))
}

impl fmt::Debug for PostgresLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, source, epoch, .. } = self;
        f.debug_struct("PostgresLedger")
            .field("name", name)
            .field("source", source)
            .field("epoch", epoch)
            .finish_non_exhaustive()
    }
}
