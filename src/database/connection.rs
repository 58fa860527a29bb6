//! Connection that is made again when it breaks, and the calls that share it.
//!
//! A call never cancels a statement at the server: a commit whose wait for a standby is cancelled
//! counts as committed. It closes the connection instead and sends the statement again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use cynosure_engine::{RandomSample, format_duration};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Mutex as AsyncMutex, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_postgres::Row;
use tracing::warn;

use super::dial::PrimaryFinder;
use super::error::{DatabaseError, StatementFailure};
use super::open_connection::{OpenConnection, Parameter};
use super::settings::DatabaseSettings;

/// First pause between two attempts, before jitter.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Longest pause between two attempts, before jitter.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Jitter of a pause, as a fraction of it.
const PAUSE_JITTER: f64 = 0.25;

/// Time limits of the calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallLimits {
    /// Of one attempt to run a statement.
    pub(super) attempt: Duration,
    /// Of one attempt to run a script.
    pub(super) script: Duration,
    /// Of all attempts of a call together.
    pub(super) patience: Duration,
}

impl CallLimits {
    /// An attempt outlasts the longest wait for a lock. A call outlasts a failover, which takes
    /// about 30 s.
    pub(super) const DEFAULT: Self = Self {
        attempt: Duration::from_secs(5),
        script: Duration::from_secs(30),
        patience: Duration::from_secs(40),
    };

    /// Those of statements that read ten million rows.
    pub(super) const LONG: Self = Self {
        attempt: Duration::from_secs(600),
        script: Duration::from_secs(600),
        patience: Duration::from_secs(700),
    };

    fn of_attempt(self, request: &DatabaseRequest) -> Duration {
        match request {
            DatabaseRequest::Statement { .. } => self.attempt,
            DatabaseRequest::Script(_) => self.script,
        }
    }
}

/// Call of a thread or a task, which waits for its answer.
#[derive(Debug)]
pub(super) struct DatabaseCall {
    pub(super) request: DatabaseRequest,
    pub(super) answer: AnswerSender,
    /// Its own limits, in place of those of the connection.
    pub(super) limits: Option<CallLimits>,
}

/// SQL that commits by itself.
#[derive(Debug)]
pub(super) enum DatabaseRequest {
    Statement { sql: &'static str, parameters: Vec<Parameter> },
    Script(String),
}

/// Result of a call.
pub(super) type DatabaseAnswer = Result<Vec<Row>, DatabaseError>;

/// Way back to a caller.
#[derive(Debug)]
pub(super) enum AnswerSender {
    /// To a thread. It may run the event loop, where tokio's blocking calls panic.
    Thread(mpsc::SyncSender<DatabaseAnswer>),
    Task(oneshot::Sender<DatabaseAnswer>),
}

impl AnswerSender {
    fn send(self, answer: DatabaseAnswer) {
        // A caller that has gone needs no answer.
        match self {
            Self::Thread(sender) => drop(sender.send(answer)),
            Self::Task(sender) => drop(sender.send(answer)),
        }
    }
}

/// Connection to the primary of a database, shared by all calls.
#[derive(Debug)]
pub(super) struct SharedConnection {
    database: String,
    limits: CallLimits,
    current: Mutex<Option<Arc<OpenConnection>>>,
    /// Locked while a call searches for the primary, so that one search runs at a time.
    search: AsyncMutex<PrimarySearch>,
    /// Error of the last search, for calls that give up while another one searches.
    search_error: Mutex<Option<DatabaseError>>,
}

/// Search for the primary, with a pause after each failure.
#[derive(Debug)]
struct PrimarySearch {
    finder: PrimaryFinder,
    failures: u32,
    next_at: Option<Instant>,
}

/// Failed attempt of a call.
enum AttemptError {
    /// Another attempt may succeed.
    Passing(DatabaseError),
    Final(DatabaseError),
}

/// Runs the calls until no caller is left, then closes the connection.
///
/// The queue has no limit, because each caller waits for its answer.
pub(super) async fn serve_calls(
    connection: SharedConnection,
    mut calls: UnboundedReceiver<DatabaseCall>,
) {
    let connection = Arc::new(connection);
    while let Some(DatabaseCall { request, answer, limits }) = calls.recv().await {
        let connection = Arc::clone(&connection);
        let limits = limits.unwrap_or(connection.limits);
        tokio::spawn(async move { answer.send(connection.run(&request, limits).await) });
    }
    connection.close().await;
}

impl SharedConnection {
    /// # Errors
    /// [`DatabaseError::NotStarted`] if TLS cannot be set up.
    pub(super) fn new(
        settings: DatabaseSettings,
        limits: CallLimits,
    ) -> Result<Self, DatabaseError> {
        let database = settings.name();
        let finder = PrimaryFinder::new(settings)?;
        Ok(Self {
            database,
            limits,
            current: Mutex::default(),
            search: AsyncMutex::new(PrimarySearch { finder, failures: 0, next_at: None }),
            search_error: Mutex::default(),
        })
    }

    /// Runs a request, again and again while its failures may pass.
    async fn run(&self, request: &DatabaseRequest, limits: CallLimits) -> DatabaseAnswer {
        let deadline = Instant::now() + limits.patience;
        let mut failures = 0;
        loop {
            let error = match self.attempt(request, limits, deadline).await {
                Ok(rows) => return Ok(rows),
                Err(AttemptError::Final(error)) => return Err(error),
                Err(AttemptError::Passing(error)) => error,
            };
            failures += 1;
            let pause = retry_pause(failures, RandomSample(fastrand::u32(..)));
            if Instant::now() + pause >= deadline {
                return Err(error);
            }
            sleep(pause).await;
        }
    }

    async fn attempt(
        &self,
        request: &DatabaseRequest,
        limits: CallLimits,
        deadline: Instant,
    ) -> Result<Vec<Row>, AttemptError> {
        let connection = match timeout_at(deadline, self.connected()).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(AttemptError::Final(error)),
            Err(_elapsed) => return Err(AttemptError::Final(self.no_connection())),
        };
        let wait_max = limits.of_attempt(request);
        let result = match request {
            &DatabaseRequest::Statement { sql, ref parameters } => {
                let query = connection.query(sql, parameters);
                timeout_at(deadline.min(Instant::now() + wait_max), query).await
            }
            DatabaseRequest::Script(sql) => {
                let script = connection.run_script(sql);
                let result = timeout_at(deadline.min(Instant::now() + wait_max), script).await;
                if matches!(result, Ok(Err(_))) {
                    // The failed script may have left a transaction open.
                    self.give_up(&connection);
                }
                result.map(|result| result.map(|()| Vec::new()))
            }
        };
        let failure = match result {
            Ok(Ok(rows)) => return Ok(rows),
            Ok(Err(error)) => StatementFailure::of(&error),
            Err(_elapsed) => StatementFailure::LostConnection(format!(
                "no answer within {}",
                format_duration(wait_max)
            )),
        };
        Err(self.after_failure(failure, &connection))
    }

    /// Returns the error of an attempt. Gives the connection up if it is of no more use.
    fn after_failure(
        &self,
        failure: StatementFailure,
        connection: &Arc<OpenConnection>,
    ) -> AttemptError {
        match failure {
            StatementFailure::Repeat(error) => AttemptError::Passing(error),
            StatementFailure::Final(error) => AttemptError::Final(error),
            StatementFailure::LostConnection(reason) => {
                if self.give_up(connection) {
                    warn!(database = self.database, reason, "connection to the database lost");
                }
                AttemptError::Passing(self.unreachable(reason))
            }
        }
    }

    /// Returns the open connection. Searches for the primary if there is none, until it is found.
    async fn connected(&self) -> Result<Arc<OpenConnection>, DatabaseError> {
        if let Some(connection) = self.open_connection() {
            return Ok(connection);
        }
        let mut search = self.search.lock().await;
        loop {
            // Another call may have searched while this one waited for the lock.
            if let Some(connection) = self.open_connection() {
                return Ok(connection);
            }
            if let Some(next_at) = search.next_at.filter(|at| Instant::now() < *at) {
                if let Some(error) = self.search_error().clone().filter(DatabaseError::is_permanent)
                {
                    return Err(error);
                }
                sleep_until(next_at).await;
            }
            match search.finder.connect().await {
                Ok(connection) => {
                    (search.failures, search.next_at) = (0, None);
                    *self.search_error() = None;
                    let connection = Arc::new(connection);
                    *self.current() = Some(Arc::clone(&connection));
                    return Ok(connection);
                }
                Err(error) => {
                    self.note_failed_search(&mut search, &error);
                    if error.is_permanent() {
                        return Err(error);
                    }
                }
            }
        }
    }

    fn note_failed_search(&self, search: &mut PrimarySearch, error: &DatabaseError) {
        if search.failures == 0 {
            warn!(%error, "not connected to the database");
        }
        search.failures = search.failures.saturating_add(1);
        let pause = retry_pause(search.failures, RandomSample(fastrand::u32(..)));
        search.next_at = Some(Instant::now() + pause);
        *self.search_error() = Some(error.clone());
    }

    fn open_connection(&self) -> Option<Arc<OpenConnection>> {
        self.current().clone().filter(|connection| !connection.is_closed())
    }

    /// Closes a connection. All its statements fail. Returns true for the first call with it.
    fn give_up(&self, connection: &Arc<OpenConnection>) -> bool {
        connection.abort();
        let mut current = self.current();
        let is_current = current.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection));
        if is_current {
            *current = None;
        }
        is_current
    }

    async fn close(&self) {
        let connection = self.current().take();
        if let Some(connection) = connection.and_then(Arc::into_inner) {
            connection.close().await;
        }
    }

    /// Returns the error of a call that got no connection in time.
    fn no_connection(&self) -> DatabaseError {
        let error = self.search_error().clone();
        error.unwrap_or_else(|| self.unreachable("no host has answered yet".to_owned()))
    }

    fn unreachable(&self, reason: String) -> DatabaseError {
        DatabaseError::Unreachable { database: self.database.clone(), reason }
    }

    fn current(&self) -> MutexGuard<'_, Option<Arc<OpenConnection>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn search_error(&self) -> MutexGuard<'_, Option<DatabaseError>> {
        self.search_error.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the pause after the `failures`-th failure in a row (from 1): 100 ms, doubled up to 2 s,
/// ± 25 %.
fn retry_pause(failures: u32, sample: RandomSample) -> Duration {
    let factor = 2_u32.saturating_pow(failures.saturating_sub(1));
    let pause = PAUSE_MIN.saturating_mul(factor).min(PAUSE_MAX);
    pause.mul_f64(1.0 + PAUSE_JITTER * (2.0 * sample.fraction() - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_doubles_up_to_two_seconds() {
        let middle = RandomSample(u32::MAX / 2);
        let millis = |failures| (retry_pause(failures, middle).as_secs_f64() * 1000.0).round();
        let pauses: Vec<f64> = (1..=7).map(millis).collect();
        assert_eq!(pauses, [100.0, 200.0, 400.0, 800.0, 1600.0, 2000.0, 2000.0]);
        assert_eq!(millis(u32::MAX), 2000.0);
    }

    #[test]
    fn a_pause_varies_by_a_quarter() {
        assert_eq!(retry_pause(1, RandomSample(0)), Duration::from_millis(75));
        assert_eq!(retry_pause(1, RandomSample(u32::MAX)), Duration::from_millis(125));
        assert_eq!(retry_pause(9, RandomSample(u32::MAX)), Duration::from_millis(2500));
    }
}
