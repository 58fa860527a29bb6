//! Connections of an account: at most as many as the server allows, kept for the next task.

mod idle;
#[cfg(test)]
mod tests;

use std::ops::{Deref, DerefMut};
use std::rc::{Rc, Weak};

use cynosure_engine::Failure;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until};
use tracing::info;

use self::idle::IdleConnections;
use crate::http_client::shared_tls_config;
use crate::limiter::RequestLimiter;
use crate::source::credential::Credential;
use crate::source::imap::connect::connect;
use crate::source::imap::connection::{CommandAttempt, Connection, ConnectionSlot, ImapAccount};
use crate::source::imap::login::{LoginError, log_in};
use crate::source::imap::options::ImapOptions;

/// Pool of the connections of one account, to be used within a `LocalSet`.
#[derive(Debug)]
pub(super) struct Pool(Rc<PoolState>);

#[derive(Debug)]
struct PoolState {
    account: Rc<ImapAccount>,
    idle: IdleConnections,
}

/// Connection that a task uses. Dropped, it returns to the pool if another task may use it;
/// otherwise it is closed.
#[derive(Debug)]
pub(super) struct PooledConnection {
    /// Present until it is dropped.
    connection: Option<Connection>,
    pool: Rc<PoolState>,
    /// Dropped last, so that the next task finds the connection.
    _slot: ConnectionSlot,
}

impl Pool {
    /// Creates the pool. Nothing is sent or read before the first connection is asked for.
    pub(super) fn new(
        options: ImapOptions,
        credential: Rc<Credential>,
        limiter: Rc<dyn RequestLimiter>,
    ) -> Self {
        Self::for_account(ImapAccount::new(options, credential, limiter, shared_tls_config))
    }

    fn for_account(account: ImapAccount) -> Self {
        Self(Rc::new(PoolState { account: Rc::new(account), idle: IdleConnections::default() }))
    }

    /// Waits for a slot, in the order of arrival. Takes an idle connection, or makes one.
    ///
    /// # Errors
    /// Returns the failure of the credential, the network, TLS or the login.
    pub(super) async fn acquire(&self) -> Result<PooledConnection, Failure> {
        let state = &self.0;
        state.raise_limit();
        let slot = state.account.slots.acquire().await?;
        state.start_closing_idle();
        let connection = match state.take_idle() {
            Some(connection) => connection,
            None => Box::pin(state.open_connection()).await?,
        };
        Ok(PooledConnection { connection: Some(connection), pool: Rc::clone(state), _slot: slot })
    }

    /// True if a task waits for a connection.
    pub(super) fn has_waiters(&self) -> bool {
        self.0.account.slots.has_waiters()
    }

    /// Closes the idle connections.
    pub(super) fn close_idle(&self) {
        self.0.idle.close_all();
    }

    /// Closes all connections, because the credential was replaced: the idle ones now, and those in
    /// use when their tasks end.
    pub(super) fn reset(&self) {
        self.0.account.reset();
        self.close_idle();
    }
}

impl PoolState {
    async fn open_connection(&self) -> Result<Connection, Failure> {
        let account = &self.account;
        let secret = account.credential.current().await?;
        let generation = account.generation();
        let request = account.acquire_request(CommandAttempt::FIRST).await?;
        let login = async {
            let stream = connect(&account.options, account.tls_config).await?;
            log_in(stream, account, &secret).await
        };
        match login.await {
            Ok(channel) => {
                request.succeed();
                Ok(Connection::new(channel, Rc::clone(account), generation))
            }
            Err(LoginError::Refused(failure)) => Err(request.refuse(failure)),
            Err(LoginError::Broken(failure)) => {
                request.abort(&failure, account.host());
                Err(failure)
            }
        }
    }

    /// Returns an idle connection that the server has not ended.
    fn take_idle(&self) -> Option<Connection> {
        // The limit may have been lowered since they became idle.
        self.idle.close_beyond(self.account.slots.free_count().saturating_add(1));
        loop {
            let mut connection = self.idle.take_newest()?;
            if connection.is_reusable() && connection.is_alive() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection for the next task, or closes it.
    fn keep(&self, connection: Connection) {
        if connection.is_reusable() && !self.account.slots.is_over_limit() {
            self.idle.push(connection, Instant::now());
        }
    }

    fn raise_limit(&self) {
        if let Some(connections) = self.account.slots.raise_if_due(Instant::now()) {
            info!(host = self.account.host(), connections, "using more connections again");
        }
    }

    /// Starts the task that closes idle connections, unless it runs already. It ends with the pool.
    fn start_closing_idle(self: &Rc<Self>) {
        if self.idle.should_start_task() {
            spawn_local(close_expired(Rc::downgrade(self)));
        }
    }
}

impl Deref for PooledConnection {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("it is present until it is dropped")
    }
}

impl DerefMut for PooledConnection {
    fn deref_mut(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("it is present until it is dropped")
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.keep(connection);
        }
    }
}

/// Closes connections that nobody has used for a while.
async fn close_expired(pool: Weak<PoolState>) {
    loop {
        let Some(state) = pool.upgrade() else { return };
        let next_expiry = state.idle.close_expired(Instant::now());
        let changed = state.idle.changed();
        drop(state);
        match next_expiry {
            Some(at) => {
                tokio::select! {
                    () = sleep_until(at) => {}
                    () = changed.notified() => {}
                }
            }
            None => changed.notified().await,
        }
    }
}
