//! Connection to the PostgreSQL database of a fleet.
//!
//! A thread of its own holds one connection to the primary, and searches for the primary again when
//! the connection breaks. Each statement commits by itself, so that no transaction ever waits for
//! this program. A statement without an answer is sent again. It may then be carried out twice, and
//! must allow for that.

mod connection;
mod dial;
mod error;
mod open_connection;
mod settings;
mod tls;

use std::sync::{Arc, mpsc};
use std::thread;

use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
pub use tokio_postgres::Row;

use self::connection::{
    AnswerSender, CallLimits, DatabaseCall, DatabaseRequest, SharedConnection, serve_calls,
};
pub use self::error::DatabaseError;
pub use self::open_connection::Parameter;
pub use self::settings::DatabaseSettings;

/// Database of a fleet: one connection, made again when it breaks. Clones share it, and the last
/// one that is dropped closes it.
#[derive(Clone, Debug)]
pub struct Database {
    name: Arc<str>,
    calls: UnboundedSender<DatabaseCall>,
    /// Time limits of its calls that replace those of others.
    limits: Option<CallLimits>,
}

impl Database {
    /// Starts the thread of the connection. Nothing is sent before the first call.
    ///
    /// # Errors
    /// [`DatabaseError::NotStarted`] if there are no trusted certificates or no more threads.
    pub fn open(settings: DatabaseSettings) -> Result<Self, DatabaseError> {
        Self::open_with(settings, CallLimits::DEFAULT)
    }

    /// Starts the thread of a connection whose calls give up after a few seconds, for tests.
    #[cfg(test)]
    pub(crate) fn open_impatient(settings: DatabaseSettings) -> Result<Self, DatabaseError> {
        let limit = std::time::Duration::from_secs(5);
        Self::open_with(settings, CallLimits { attempt: limit, script: limit, patience: limit })
    }

    fn open_with(settings: DatabaseSettings, limits: CallLimits) -> Result<Self, DatabaseError> {
        let name = settings.name();
        let connection = SharedConnection::new(settings, limits)?;
        let (calls, receiver) = unbounded_channel();
        start_thread(connection, receiver)
            .map_err(|error| DatabaseError::NotStarted { reason: error.to_string() })?;
        Ok(Self { name: name.into(), calls, limits: None })
    }

    /// Runs a statement, which commits by itself, and returns its rows. Blocks the thread.
    ///
    /// If the connection breaks, or there is no answer within 5 s, the statement is sent again. So
    /// is one that failed because of other sessions, such as a deadlock. A call ends after 40 s.
    ///
    /// # Errors
    /// [`DatabaseError::Statement`] if the server refuses the statement, and another error if there
    /// is no answer. The statement may have been carried out then.
    pub fn query(
        &self,
        sql: &'static str,
        parameters: Vec<Parameter>,
    ) -> Result<Vec<Row>, DatabaseError> {
        self.call(DatabaseRequest::Statement { sql, parameters })
    }

    /// Runs a statement as [`query`](Self::query) does, without blocking the thread.
    ///
    /// # Errors
    /// As `query`.
    pub async fn query_async(
        &self,
        sql: &'static str,
        parameters: Vec<Parameter>,
    ) -> Result<Vec<Row>, DatabaseError> {
        let (sender, receiver) = oneshot::channel();
        let request = DatabaseRequest::Statement { sql, parameters };
        self.send(request, AnswerSender::Task(sender))?;
        receiver.await.map_err(|_ended| DatabaseError::Stopped)?
    }

    /// Runs statements as one simple query, for migrations. Blocks the thread. A script has 30 s,
    /// and is repeated as a statement is.
    ///
    /// # Errors
    /// As [`query`](Self::query). An open transaction of the script is rolled back.
    pub fn run_script(&self, sql: &str) -> Result<(), DatabaseError> {
        self.call(DatabaseRequest::Script(sql.to_owned())).map(drop)
    }

    /// Returns the database for statements that read very many rows, of which each may take minutes.
    #[must_use]
    pub fn for_long_statements(&self) -> Self {
        Self { limits: Some(CallLimits::LONG), ..self.clone() }
    }

    /// Returns the hosts and the name of the database, for messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn call(&self, request: DatabaseRequest) -> Result<Vec<Row>, DatabaseError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.send(request, AnswerSender::Thread(sender))?;
        receiver.recv().map_err(|_ended| DatabaseError::Stopped)?
    }

    fn send(&self, request: DatabaseRequest, answer: AnswerSender) -> Result<(), DatabaseError> {
        let call = DatabaseCall { request, answer, limits: self.limits };
        self.calls.send(call).map_err(|_ended| DatabaseError::Stopped)
    }
}

fn start_thread(
    connection: SharedConnection,
    calls: UnboundedReceiver<DatabaseCall>,
) -> std::io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("database".to_owned()).spawn(move || {
        runtime.block_on(serve_calls(connection, calls));
        // The name server may not answer a lookup that nobody needs any more.
        runtime.shutdown_background();
    })?;
    Ok(())
}

#[cfg(test)]
mod tests;
