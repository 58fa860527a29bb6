//! Opens the ledger of a source, for writing or for reading.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cynosure_engine::Failure;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::disk::{Disk, PathKind, RealDisk, parent_folder, storage_failure};
use crate::ledger::LedgerOpenError;
use crate::ledger::sqlite::error::{DAMAGED_REMEDY, LedgerError, is_corrupt, is_locked};
use crate::ledger::sqlite::schema::{APPLICATION_ID, SCHEMA_VERSION, migrate};
use crate::retry::{RetryError, RetryPolicy};

/// Page cache of SQLite, in KiB: an eighth of the memory that the worker may use.
const CACHE_KIB: i64 = 8 * 1024;

/// Time that a call waits for another program that holds the lock: longer than a commit of any
/// other tool, shorter than the deadline of any state.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Busy timeout of each attempt under a retry policy. All attempts together wait a little longer
/// than [`BUSY_TIMEOUT`].
const BUSY_TIMEOUT_PER_RETRY: Duration = Duration::from_secs(2);

/// Prepared statements that are cached: the thirty that run for each row, and some to spare.
/// Preparing a statement takes longer than running it.
const STATEMENT_CACHE_SIZE: usize = 48;

/// Size to which the write-ahead log is truncated after a checkpoint, in bytes.
const WAL_BYTES_MAX: i64 = 16 * 1024 * 1024;

/// Ledger of one source in a file of SQLite.
#[derive(Debug)]
pub struct SqliteLedger {
    pub(super) connection: Connection,
    path: PathBuf,
    retry_policy: Option<RetryPolicy>,
}

impl SqliteLedger {
    /// Opens the ledger at `path`, and creates it if there is none. Its folder must exist.
    ///
    /// # Errors
    /// [`LedgerOpenError`]; an empty or damaged file is never taken for a new one.
    pub fn open(path: &Path) -> Result<Self, LedgerOpenError> {
        if !ledger_exists(path)? {
            create_empty(path)?;
        }
        let connection = open_connection(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        Self::from_connection(connection, path)
    }

    /// Opens an empty ledger in memory.
    #[cfg(test)]
    pub(crate) fn in_memory() -> Self {
        let connection = Connection::open_in_memory().expect("memory");
        Self::from_connection(connection, Path::new("memory")).expect("an empty ledger")
    }

    /// Wraps an open connection, such as one in memory, as a ledger. Failures name it as `path`.
    ///
    /// # Errors
    /// [`LedgerOpenError`].
    pub fn from_connection(
        mut connection: Connection,
        path: &Path,
    ) -> Result<Self, LedgerOpenError> {
        let version = read_version(&connection, path)?;
        prepare_connection(&mut connection, version)
            .map_err(|error| open_error("open the ledger", path, error))?;
        Ok(Self { connection, path: path.to_owned(), retry_policy: None })
    }

    /// Retries the beginning of a transaction while the ledger is locked. The calling thread
    /// blocks.
    #[must_use]
    pub fn with_retry(mut self, policy: RetryPolicy) -> Self {
        // If the timeout cannot be set, each attempt waits longer than necessary.
        self.connection.busy_timeout(BUSY_TIMEOUT_PER_RETRY).ok();
        self.retry_policy = Some(policy);
        self
    }

    /// Runs `work` in one transaction.
    ///
    /// Only its beginning is retried: a writer that has begun meets no lock before its end
    /// (sqlite.org/wal.html, "Concurrency"), and an I/O error may be that of a sync.
    pub(super) fn write<T>(
        &mut self,
        action: &str,
        work: impl FnOnce(&Connection) -> Result<T, LedgerError>,
    ) -> Result<T, Failure> {
        let result = (|| {
            let transaction = begin_immediate(&self.connection, self.retry_policy.as_ref())?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })();
        result.map_err(|error: LedgerError| error.to_failure(action, &self.path))
    }

    /// Opens the ledger at `path` for reading only; `None` if there is none yet.
    ///
    /// # Errors
    /// [`LedgerOpenError`].
    pub fn open_read_only(path: &Path) -> Result<Option<Self>, LedgerOpenError> {
        if !ledger_exists(path)? {
            return Ok(None);
        }
        let connection = open_connection(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        if read_version(&connection, path)? < SCHEMA_VERSION {
            let reason =
                "it is of an older version; run the worker once, which brings it up to date";
            let error = LedgerError::Inconsistent(reason.to_owned());
            return Err(LedgerOpenError::Failed(error.to_failure("read the ledger", path)));
        }
        Ok(Some(Self { connection, path: path.to_owned(), retry_policy: None }))
    }

    pub(super) fn read<T>(
        &self,
        action: &str,
        work: impl FnOnce(&Connection) -> Result<T, LedgerError>,
    ) -> Result<T, Failure> {
        work(&self.connection).map_err(|error| error.to_failure(action, &self.path))
    }
}

/// Begins a transaction that takes the write lock at once, with retries if there is a policy.
fn begin_immediate<'c>(
    connection: &'c Connection,
    retry_policy: Option<&RetryPolicy>,
) -> Result<Transaction<'c>, LedgerError> {
    let begin = || Transaction::new_unchecked(connection, TransactionBehavior::Immediate);
    let Some(policy) = retry_policy else { return Ok(begin()?) };
    policy.when(is_locked).run_blocking(begin).map_err(|error| match error {
        RetryError::Failed { failure, .. } => LedgerError::Sql(failure),
        RetryError::Rejected { breaker } => {
            LedgerError::Inconsistent(format!("the circuit breaker {breaker} is open"))
        }
    })
}

fn ledger_exists(path: &Path) -> Result<bool, LedgerOpenError> {
    match RealDisk.path_kind(path) {
        Ok(None) => Ok(false),
        // SQLite would treat it as a new database, and everything would be listed again unnoticed.
        Ok(Some(PathKind::File { bytes: 0 })) => Err(damaged_error(path)),
        Ok(Some(_)) => Ok(true),
        Err(error) => Err(LedgerOpenError::Failed(storage_failure("access", path, &error))),
    }
}

/// Creates an empty ledger under a temporary name and renames it into place, so that an empty file
/// at `path` can only be a damaged ledger.
fn create_empty(path: &Path) -> Result<(), LedgerOpenError> {
    let to_error =
        |error| LedgerOpenError::Failed(storage_failure("create the ledger", path, &error));
    let with_suffix = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let temporary = with_suffix(".new");
    for leftover in [temporary.clone(), with_suffix(".new-wal"), with_suffix(".new-shm")] {
        match RealDisk.remove_file(&leftover) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(to_error(error)),
            Ok(()) | Err(_) => {}
        }
    }
    // Created here so that only its owner can access it; SQLite gives its log the same mode.
    drop(RealDisk.create_file(&temporary).map_err(to_error)?);
    let mut connection = open_connection(&temporary, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    prepare_connection(&mut connection, 0)
        .and_then(|()| connection.close().map_err(|(_, error)| error))
        .map_err(|error| open_error("create the ledger", path, error))?;

    RealDisk.rename(&temporary, path).map_err(to_error)?;
    RealDisk.sync_dir(parent_folder(path)).map_err(to_error)
}

fn open_connection(path: &Path, mode: OpenFlags) -> Result<Connection, LedgerOpenError> {
    let flags = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags);
    connection
        .and_then(|connection| connection.busy_timeout(BUSY_TIMEOUT).map(|()| connection))
        .map_err(|error| open_error("open the ledger", path, error))
}

/// Reads the schema version of a ledger. Fails if the file is not a ledger or its version is newer.
fn read_version(connection: &Connection, path: &Path) -> Result<usize, LedgerOpenError> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let read = || Ok((pragma("application_id")?, pragma("user_version")?, pragma("page_count")?));
    let (application, user_version, pages) =
        read().map_err(|error| open_error("open the ledger", path, error))?;

    if pages == 0 {
        return Ok(0);
    }
    let version = usize::try_from(user_version).unwrap_or(0);
    if application != APPLICATION_ID || version == 0 {
        return Err(damaged_error(path));
    }
    if version > SCHEMA_VERSION {
        return Err(LedgerOpenError::NewerVersion {
            place: path.display().to_string(),
            version,
            known_version: SCHEMA_VERSION,
        });
    }
    Ok(version)
}

fn prepare_connection(connection: &mut Connection, version: usize) -> rusqlite::Result<()> {
    // A database in memory has no log and returns another mode, which is accepted.
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    // Not NORMAL: a commit must survive a power cut, because files are removed after it.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE_SIZE);
    connection.pragma_update_and_check(None, "journal_size_limit", WAL_BYTES_MAX, |_| Ok(()))?;
    migrate(connection, version)
}

fn damaged_error(path: &Path) -> LedgerOpenError {
    LedgerOpenError::Damaged(
        LedgerError::Inconsistent(DAMAGED_REMEDY.to_owned()).to_failure("open the ledger", path),
    )
}

fn open_error(action: &str, path: &Path, error: rusqlite::Error) -> LedgerOpenError {
    let is_damage = is_corrupt(&error);
    let failure = LedgerError::from(error).to_failure(action, path);
    if is_damage { LedgerOpenError::Damaged(failure) } else { LedgerOpenError::Failed(failure) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Mutex;

    use futures_util::future::BoxFuture;

    use super::*;
    use crate::ledger::{Ledger, LedgerReader, LedgerReports, NewSession, SessionKind};
    use crate::retry::{BackoffConfig, Timer};
    use cynosure_engine::{RandomSample, SessionId, Timestamp};

    fn temp_ledger() -> (tempfile::TempDir, PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("ledger.sqlite");
        (home, path)
    }

    #[test]
    fn a_ledger_is_reopened_and_read_beside_its_writer() {
        let (_home, path) = temp_ledger();
        assert!(SqliteLedger::open_read_only(&path).unwrap().is_none());
        let mut ledger = SqliteLedger::open(&path).unwrap();
        let session = NewSession {
            id: SessionId::new("session_1"),
            kind: SessionKind::Full,
            started_at: Timestamp(0),
            start_cursor: None,
        };
        ledger.begin_session(&session).unwrap();

        let reader = SqliteLedger::open_read_only(&path).unwrap().unwrap();

        assert_eq!(reader.open_session().unwrap().unwrap().id, session.id);
        drop(ledger);
        assert_eq!(
            SqliteLedger::open(&path).unwrap().open_session().unwrap().unwrap().id,
            session.id
        );
    }

    #[test]
    fn a_ledger_of_a_newer_version_is_refused_untouched() {
        let (_home, path) = temp_ledger();
        drop(SqliteLedger::open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let before = fs::read(&path).unwrap();

        let writing = SqliteLedger::open(&path).unwrap_err();
        let reading = SqliteLedger::open_read_only(&path).unwrap_err();

        assert!(matches!(writing, LedgerOpenError::NewerVersion { version: 99, .. }), "{writing}");
        assert!(matches!(reading, LedgerOpenError::NewerVersion { version: 99, .. }), "{reading}");
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_damaged_ledger_is_reported_and_never_recreated() {
        let (home, path) = temp_ledger();
        drop(SqliteLedger::open(&path).unwrap());
        let intact = fs::read(&path).unwrap();
        let damaged_files: [(&str, Vec<u8>); 4] = [
            ("empty", Vec::new()),
            ("junk", b"junk".repeat(2000)),
            ("cut", intact[..5000].to_vec()),
            ("zeros", vec![0; intact.len()]),
        ];
        for (name, bytes) in damaged_files {
            let path = home.path().join(name);
            RealDisk.create_file(&path).unwrap().append(&bytes).unwrap();

            let outcome = SqliteLedger::open(&path).and_then(|ledger| {
                let errors = ledger.check_integrity().map_err(LedgerOpenError::Failed)?;
                assert_eq!(errors, [""; 0], "{name}");
                Ok(ledger)
            });

            let error = outcome.unwrap_err().to_string();
            assert!(
                error.contains(name) && error.contains("it is damaged; stop cynosure"),
                "{error}"
            );
        }
    }

    /// Timer that does not sleep, and releases the lock after a number of waits.
    struct LockReleaser(Mutex<(u32, Option<Connection>)>);

    impl Timer for LockReleaser {
        fn random_sample(&self) -> RandomSample {
            RandomSample(0)
        }

        fn sleep(&self, delay: Duration) -> BoxFuture<'static, ()> {
            self.sleep_blocking(delay);
            Box::pin(std::future::ready(()))
        }

        fn sleep_blocking(&self, _delay: Duration) {
            let mut state = self.0.lock().unwrap();
            state.0 -= 1;
            if state.0 == 0 {
                state.1 = None;
            }
        }
    }

    /// Returns the failure of a write while another program holds the lock for `waits` waits.
    fn write_while_locked(waits: u32) -> String {
        let (_home, path) = temp_ledger();
        let mut ledger = SqliteLedger::open(&path).unwrap();
        let other = Connection::open(&path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let timer = LockReleaser(Mutex::new((waits, Some(other))));
        ledger =
            ledger.with_retry(RetryPolicy::new("storage", BackoffConfig::FAST).with_timer(timer));
        ledger.connection.busy_timeout(Duration::ZERO).unwrap();
        ledger.restart_listing(None).unwrap_err().message
    }

    #[test]
    fn a_briefly_locked_ledger_is_retried() {
        // A write that gets the lock fails because there is no session.
        let (released_in_time, released_too_late) = (write_while_locked(2), write_while_locked(3));

        assert!(released_in_time.contains("no session is open"), "{released_in_time}");
        assert!(released_too_late.contains("another program has locked it"), "{released_too_late}");
    }

    #[test]
    fn a_creation_failure_names_the_path() {
        let error = SqliteLedger::open(Path::new("/nowhere/ledger.sqlite")).unwrap_err();

        assert!(error.to_string().starts_with("cannot create the ledger /nowhere/ledger.sqlite: "));
    }
}
