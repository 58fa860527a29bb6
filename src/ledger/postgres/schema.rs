//! Tables and functions, as an append-only list of migrations.
//!
//! A released migration is never changed; another is added, which also replaces the functions that
//! change. Workers of an older version refuse the database from then on.

use crate::database::{Database, DatabaseError};

/// Schema version that this program reads and writes.
pub(super) const SCHEMA_VERSION: usize = MIGRATIONS.len();

const MIGRATIONS: &[&[&str]] = &[&[
    include_str!("tables.sql"),
    include_str!("loads.sql"),
    include_str!("sessions.sql"),
    include_str!("changes.sql"),
    include_str!("apply.sql"),
]];

/// Creates the table of the version, so that a migration can lock it.
const CREATE_VERSION: &str = "CREATE SCHEMA IF NOT EXISTS cynosure;
    CREATE TABLE IF NOT EXISTS cynosure.schema_version (version INTEGER NOT NULL);";

const SELECT_VERSION: &str = "SELECT CASE
        WHEN to_regclass('cynosure.schema_version') IS NULL THEN 0
        ELSE (xpath('//version/text()', query_to_xml(
                  'SELECT coalesce(max(version), 0) AS version FROM cynosure.schema_version',
                  TRUE, TRUE, '')))[1]::TEXT::INTEGER
    END";

/// Returns the schema version of a database; 0 if it has none.
///
/// # Errors
/// A database error.
pub fn schema_version(database: &Database) -> Result<usize, DatabaseError> {
    let rows = database.query(SELECT_VERSION, Vec::new())?;
    let version = rows.first().map(|row| row.try_get::<_, i32>(0)).transpose();
    let version = version.map_err(|error| DatabaseError::unexpected(error.to_string()))?;
    Ok(usize::try_from(version.unwrap_or(0)).unwrap_or(0))
}

/// Migrates a database to the version of this program, each step in a transaction of its own.
/// Programs that do this at once wait for each other. A newer version is left unchanged.
///
/// # Errors
/// A database error.
pub fn migrate(database: &Database) -> Result<(), DatabaseError> {
    create_version_table(database)?;
    for (version, scripts) in MIGRATIONS.iter().enumerate() {
        let script = migration_script(version, scripts);
        if schema_version(database)? > version {
            continue;
        }
        match database.run_script(&script) {
            // Another program made this step while this one waited for the lock.
            Err(error) if error.sql_state() == Some(OTHER_VERSION) => {}
            result => result?,
        }
    }
    Ok(())
}

/// Creates the table of the version, unless another program does.
fn create_version_table(database: &Database) -> Result<(), DatabaseError> {
    match database.run_script(CREATE_VERSION) {
        // `IF NOT EXISTS` does not see what another program is about to create: the second one to
        // commit meets its row in the catalog. It is there now.
        Err(error) if error.sql_state() == Some(UNIQUE_VIOLATION) => {
            database.run_script(CREATE_VERSION)
        }
        result => result,
    }
}

/// Error code of a row that is there already.
const UNIQUE_VIOLATION: &str = "23505";

/// Error code of a step that was made already.
const OTHER_VERSION: &str = "CY004";

fn migration_script(version: usize, scripts: &[&str]) -> String {
    let scripts = scripts.join("\n");
    let next = version + 1;
    format!(
        "BEGIN;
LOCK TABLE cynosure.schema_version IN ACCESS EXCLUSIVE MODE;
DO $step$ BEGIN
    IF (SELECT coalesce(max(version), 0) FROM cynosure.schema_version) <> {version} THEN
        RAISE EXCEPTION USING ERRCODE = '{OTHER_VERSION}', MESSAGE = 'another step was made';
    END IF;
END $step$;
{scripts}
DELETE FROM cynosure.schema_version;
INSERT INTO cynosure.schema_version (version) VALUES ({next});
COMMIT;"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_names_the_versions_before_and_after_it() {
        let script = migration_script(3, &["CREATE TABLE a ();", "CREATE TABLE b ();"]);

        assert!(script.contains("<> 3 THEN") && script.contains("VALUES (4);"), "{script}");
        assert!(script.contains("CREATE TABLE a ();\nCREATE TABLE b ();\n"), "{script}");
    }
}
