//! Opens the ledger of a source, for writing or for reading.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::disk::{Disk, PathKind, RealDisk, folder_of, storage_failure};
use crate::engine::Failure;
use crate::ledger::failure::{DAMAGED, Trouble, is_damage, is_locked};
use crate::ledger::schema::{APPLICATION_ID, VERSION, migrate};
use crate::retry::{RetryError, RetryPolicy};

/// Pages that SQLite keeps in memory, in KiB: an eighth of what the worker may use.
const CACHE_KIB: i64 = 8 * 1024;

/// How long a call waits for another program that has the ledger open: longer than
/// any commit of a reader's tool, shorter than any deadline of a state.
const BUSY_WAIT: Duration = Duration::from_secs(5);

/// How long each of several attempts waits for it: all of them together, a little longer.
const BUSY_WAIT_AGAIN: Duration = Duration::from_secs(2);

/// Statements that are kept ready: the dozen that run for each row, and some to spare.
/// Reading one anew takes longer than running it.
const STATEMENTS_KEPT: usize = 24;

/// The size to which the log is cut back after a checkpoint, in bytes.
const WAL_BYTES_KEPT: i64 = 16 * 1024 * 1024;

/// The ledger of one source, open for its one writer. Reads as a [`Reader`].
#[derive(Debug)]
pub struct Ledger {
    reader: Reader,
    retry: Option<RetryPolicy>,
}

/// The ledger of one source, open for reading beside its writer.
#[derive(Debug)]
pub struct Reader {
    pub(super) connection: Connection,
    path: PathBuf,
}

/// Why a ledger was not opened.
#[derive(Debug)]
pub enum OpenError {
    /// A newer program wrote it. Nothing was changed.
    Newer {
        path: PathBuf,
        found: usize,
    },
    /// What is there is no ledger, or not a whole one.
    Damaged(Failure),
    Failed(Failure),
}

impl Ledger {
    /// Opens the ledger at `path`, making it where there is none; its folder must be there.
    ///
    /// # Errors
    /// [`OpenError`]; an empty or damaged file is never taken for a new one.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        if !is_there(path)? {
            create(path)?;
        }
        let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        Self::open_in(connection, path)
    }

    /// Takes a connection that is open already, such as one in memory, as a ledger;
    /// `path` is what failures call it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_in(mut connection: Connection, path: &Path) -> Result<Self, OpenError> {
        let version = version(&connection, path)?;
        prepare(&mut connection, version)
            .map_err(|error| failed("open the ledger", path, error))?;
        Ok(Self { reader: Reader { connection, path: path.to_owned() }, retry: None })
    }

    /// Has a transaction that finds the ledger locked begun again, on the thread that calls.
    #[must_use]
    pub fn patient(mut self, policy: RetryPolicy) -> Self {
        // If it cannot be set, each attempt waits longer than it need.
        self.connection.busy_timeout(BUSY_WAIT_AGAIN).ok();
        self.retry = Some(policy);
        self
    }

    /// Runs `work` in one transaction.
    ///
    /// Only its beginning is tried again: a writer that has begun meets no lock before its end
    /// (sqlite.org/wal.html, "Concurrency"), and an I/O error may be that of a sync.
    pub(super) fn write<T>(
        &mut self,
        what: &str,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Trouble>,
    ) -> Result<T, Failure> {
        let Reader { connection, path } = &mut self.reader;
        let outcome = (|| {
            let transaction = begin(connection, self.retry.as_ref())?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })();
        outcome.map_err(|trouble: Trouble| trouble.failure(what, path))
    }
}

impl Deref for Ledger {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

impl Reader {
    /// Opens the ledger at `path` for reading only; `None` where there is none yet.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path) -> Result<Option<Self>, OpenError> {
        if !is_there(path)? {
            return Ok(None);
        }
        let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        if version(&connection, path)? < VERSION {
            let why = "it is of an older version; run the worker once, which brings it up to date";
            let trouble = Trouble::Unfit(why.to_owned());
            return Err(OpenError::Failed(trouble.failure("read", path)));
        }
        Ok(Some(Self { connection, path: path.to_owned() }))
    }

    pub(super) fn read<T>(
        &self,
        what: &str,
        work: impl FnOnce(&Connection) -> Result<T, Trouble>,
    ) -> Result<T, Failure> {
        work(&self.connection).map_err(|trouble| trouble.failure(what, &self.path))
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newer { path, found } => write!(
                f,
                "{} was written by a newer cynosure (format {found}, this one knows {VERSION}); \
                 install that version again, nothing was changed",
                path.display()
            ),
            Self::Damaged(failure) | Self::Failed(failure) => failure.fmt(f),
        }
    }
}

impl std::error::Error for OpenError {}

/// Begins a transaction as the one writer.
fn begin<'c>(
    connection: &'c Connection,
    retry: Option<&RetryPolicy>,
) -> Result<Transaction<'c>, Trouble> {
    let once = || Transaction::new_unchecked(connection, TransactionBehavior::Immediate);
    let Some(policy) = retry else { return Ok(once()?) };
    policy.when(is_locked).run_blocking(once).map_err(|gave_up| match gave_up {
        RetryError::Failed { failure, .. } => Trouble::Sql(failure),
        RetryError::Rejected { breaker: guard } => {
            Trouble::Unfit(format!("the breaker {guard} is open"))
        }
    })
}

fn is_there(path: &Path) -> Result<bool, OpenError> {
    match RealDisk.kind(path) {
        Ok(None) => Ok(false),
        // SQLite would take it for a new one, and all would be listed from zero unasked.
        Ok(Some(PathKind::File { bytes: 0 })) => Err(damaged(path)),
        Ok(Some(_)) => Ok(true),
        Err(error) => Err(OpenError::Failed(storage_failure("look at", path, &error))),
    }
}

/// Makes an empty ledger under another name and moves it into place whole, so that
/// an empty file can only be a damaged one.
fn create(path: &Path) -> Result<(), OpenError> {
    let storage = |error| OpenError::Failed(storage_failure("make the ledger", path, &error));
    let named = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let temporary = named(".new");
    for leftover in [temporary.clone(), named(".new-wal"), named(".new-shm")] {
        match RealDisk.remove_file(&leftover) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(storage(error)),
            Ok(()) | Err(_) => {}
        }
    }
    // Made here, so that it is for its owner only; SQLite gives its log the same mode.
    drop(RealDisk.create(&temporary).map_err(storage)?);
    let mut connection = connect(&temporary, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    prepare(&mut connection, 0)
        .and_then(|()| connection.close().map_err(|(_, error)| error))
        .map_err(|error| failed("make the ledger", path, error))?;

    RealDisk.rename(&temporary, path).map_err(storage)?;
    RealDisk.sync_dir(folder_of(path)).map_err(storage)
}

fn connect(path: &Path, mode: OpenFlags) -> Result<Connection, OpenError> {
    let flags = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags);
    connection
        .and_then(|connection| connection.busy_timeout(BUSY_WAIT).map(|()| connection))
        .map_err(|error| failed("open the ledger", path, error))
}

/// Reads the version of a ledger, and refuses what is none or a newer one.
fn version(connection: &Connection, path: &Path) -> Result<usize, OpenError> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let read = || Ok((pragma("application_id")?, pragma("user_version")?, pragma("page_count")?));
    let (application, version, pages) =
        read().map_err(|error| failed("open the ledger", path, error))?;

    if pages == 0 {
        return Ok(0);
    }
    let found = usize::try_from(version).unwrap_or(0);
    if application != APPLICATION_ID || found == 0 {
        return Err(damaged(path));
    }
    if found > VERSION {
        return Err(OpenError::Newer { path: path.to_owned(), found });
    }
    Ok(found)
}

fn prepare(connection: &mut Connection, version: usize) -> rusqlite::Result<()> {
    // A database in memory has no log, and says so instead of obeying.
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    // Not NORMAL: a commit must outlive a power cut, since files are removed on its word.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    connection.pragma_update_and_check(None, "journal_size_limit", WAL_BYTES_KEPT, |_| Ok(()))?;
    migrate(connection, version)
}

fn damaged(path: &Path) -> OpenError {
    OpenError::Damaged(Trouble::Unfit(DAMAGED.to_owned()).failure("find a ledger", path))
}

fn failed(what: &str, path: &Path, error: rusqlite::Error) -> OpenError {
    let is_damage = is_damage(&error);
    let failure = Trouble::from(error).failure(what, path);
    if is_damage { OpenError::Damaged(failure) } else { OpenError::Failed(failure) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Mutex;

    use futures_util::future::BoxFuture;

    use super::*;
    use crate::engine::{RandomSample, SessionId, Timestamp};
    use crate::ledger::{SessionKind, SessionStart};
    use crate::retry::{BackoffConfig, Timer};

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("ledger.sqlite");
        (home, path)
    }

    #[test]
    fn a_ledger_file_is_found_again_and_read_beside_its_writer() {
        let (_home, path) = folder();
        assert!(Reader::open(&path).unwrap().is_none());
        let mut ledger = Ledger::open(&path).unwrap();
        let start = SessionStart {
            id: SessionId::new("session_1"),
            kind: SessionKind::Full,
            started: Timestamp(0),
            pinned: None,
        };
        ledger.begin(&start).unwrap();

        let reader = Reader::open(&path).unwrap().unwrap();

        assert_eq!(reader.open_session().unwrap().unwrap().id, start.id);
        drop(ledger);
        assert_eq!(Ledger::open(&path).unwrap().open_session().unwrap().unwrap().id, start.id);
    }

    #[test]
    fn a_ledger_of_a_newer_version_is_refused_untouched() {
        let (_home, path) = folder();
        drop(Ledger::open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let before = fs::read(&path).unwrap();

        let writing = Ledger::open(&path).unwrap_err();
        let reading = Reader::open(&path).unwrap_err();

        assert!(matches!(writing, OpenError::Newer { found: 99, .. }), "{writing}");
        assert!(matches!(reading, OpenError::Newer { found: 99, .. }), "{reading}");
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_damaged_ledger_is_named_and_never_begun_anew() {
        let (home, path) = folder();
        drop(Ledger::open(&path).unwrap());
        let whole = fs::read(&path).unwrap();
        let damages: [(&str, Vec<u8>); 4] = [
            ("empty", Vec::new()),
            ("junk", b"junk".repeat(2000)),
            ("cut", whole[..5000].to_vec()),
            ("zeros", vec![0; whole.len()]),
        ];
        for (name, bytes) in damages {
            let path = home.path().join(name);
            RealDisk.create(&path).unwrap().append(&bytes).unwrap();

            let outcome = Ledger::open(&path).and_then(|ledger| {
                let found = ledger.damage().map_err(OpenError::Failed)?;
                assert_eq!(found, [""; 0], "{name}");
                Ok(ledger)
            });

            let error = outcome.unwrap_err().to_string();
            assert!(
                error.contains(name) && error.contains("it is damaged; stop cynosure"),
                "{error}"
            );
        }
    }

    /// Lets go of the lock in place of waiting, after so many waits.
    struct LetsGo(Mutex<(u32, Option<Connection>)>);

    impl Timer for LetsGo {
        fn random_sample(&self) -> RandomSample {
            RandomSample(0)
        }

        fn sleep(&self, delay: Duration) -> BoxFuture<'static, ()> {
            self.sleep_blocking(delay);
            Box::pin(std::future::ready(()))
        }

        fn sleep_blocking(&self, _delay: Duration) {
            let mut holder = self.0.lock().unwrap();
            holder.0 -= 1;
            if holder.0 == 0 {
                holder.1 = None;
            }
        }
    }

    /// What a write fails with while another program holds the lock for so many waits.
    fn write_locked(waits: u32) -> String {
        let (_home, path) = folder();
        let mut ledger = Ledger::open(&path).unwrap();
        let other = Connection::open(&path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let pauses = LetsGo(Mutex::new((waits, Some(other))));
        ledger =
            ledger.patient(RetryPolicy::new("storage", BackoffConfig::FAST).with_timer(pauses));
        ledger.connection.busy_timeout(Duration::ZERO).unwrap();
        ledger.list_anew(None).unwrap_err().message
    }

    #[test]
    fn a_ledger_that_is_locked_for_a_moment_is_waited_for() {
        // There is no session in it, which only who gets in can tell.
        let (inside, outside) = (write_locked(2), write_locked(3));

        assert!(inside.contains("no session is open"), "{inside}");
        assert!(outside.contains("another program holds it locked"), "{outside}");
    }

    #[test]
    fn a_ledger_that_cannot_be_made_says_where() {
        let error = Ledger::open(Path::new("/nowhere/ledger.sqlite")).unwrap_err();

        assert!(error.to_string().starts_with("cannot make the ledger /nowhere/ledger.sqlite: "));
    }
}
