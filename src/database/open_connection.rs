//! Open connection to one server.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Error, NoTls, Row, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Longest wait for the server when a connection is closed.
const CLOSE_WAIT_MAX: Duration = Duration::from_secs(1);

/// Value of a parameter of a statement.
pub type Parameter = Box<dyn ToSql + Sync + Send>;

/// Open connection. Several statements may be in flight; the server answers them in order.
#[derive(Debug)]
pub(super) struct OpenConnection {
    client: Client,
    /// Statements that the server has parsed.
    statements: Mutex<BTreeMap<&'static str, Statement>>,
    task: ConnectionTask,
}

/// Task that moves the bytes of a connection. Its end closes the socket.
#[derive(Debug)]
struct ConnectionTask(JoinHandle<()>);

impl Drop for ConnectionTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl OpenConnection {
    /// Connects to the host of a configuration and logs in. Without `tls` the configuration must
    /// not ask for it.
    ///
    /// # Errors
    /// An error of the network, of TLS or of the login.
    pub(super) async fn open(
        config: &Config,
        tls: Option<MakeRustlsConnect>,
    ) -> Result<Self, Error> {
        match tls {
            Some(tls) => {
                let (client, connection) = config.connect(tls).await?;
                Ok(Self::start(client, connection))
            }
            None => {
                let (client, connection) = config.connect(NoTls).await?;
                Ok(Self::start(client, connection))
            }
        }
    }

    fn start(
        client: Client,
        connection: impl Future<Output = Result<(), Error>> + Send + 'static,
    ) -> Self {
        let task = tokio::spawn(async move {
            // The statements in flight get the error too.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "database connection ended");
            }
        });
        Self { client, statements: Mutex::default(), task: ConnectionTask(task) }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Runs a statement without parameters in one round trip.
    ///
    /// # Errors
    /// An error of the connection or of the statement.
    pub(super) async fn query_once(&self, sql: &str) -> Result<Vec<Row>, Error> {
        self.client.query_typed(sql, &[]).await
    }

    /// Runs a statement, which is prepared at its first use.
    ///
    /// # Errors
    /// An error of the connection or of the statement.
    pub(super) async fn query(
        &self,
        sql: &'static str,
        parameters: &[Parameter],
    ) -> Result<Vec<Row>, Error> {
        let statement = self.prepare(sql).await?;
        let parameters: Vec<&(dyn ToSql + Sync)> = parameters
            .iter()
            .map(|parameter| {
                let parameter: &(dyn ToSql + Sync) = &**parameter;
                parameter
            })
            .collect();
        self.client.query(&statement, &parameters).await
    }

    /// Runs statements as one simple query. If one fails, a transaction may be left open.
    ///
    /// # Errors
    /// An error of the connection or of a statement.
    pub(super) async fn run_script(&self, sql: &str) -> Result<(), Error> {
        self.client.batch_execute(sql).await
    }

    /// Closes the socket. Statements in flight fail. Dropping the client alone would keep it open
    /// until they are answered.
    pub(super) fn abort(&self) {
        self.task.0.abort();
    }

    /// Tells the server that the connection ends, and closes it.
    pub(super) async fn close(self) {
        let Self { client, statements, mut task } = self;
        drop(client);
        drop(statements);
        // A server that does not answer is left alone: the end of the task closes the socket.
        timeout(CLOSE_WAIT_MAX, &mut task.0).await.ok();
    }

    async fn prepare(&self, sql: &'static str) -> Result<Statement, Error> {
        let known =
            self.statements.lock().unwrap_or_else(PoisonError::into_inner).get(sql).cloned();
        if let Some(statement) = known {
            return Ok(statement);
        }
        let statement = self.client.prepare(sql).await?;
        let mut statements = self.statements.lock().unwrap_or_else(PoisonError::into_inner);
        statements.insert(sql, statement.clone());
        Ok(statement)
    }
}
