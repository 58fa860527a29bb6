//! Connections that no task uses.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::source::imap::connection::Connection;

/// Time after which an idle connection is closed. The tasks of a session follow each other within
/// seconds. Between sessions a connection only keeps a phone from getting one, as an account may
/// have few.
const IDLE_TIME_MAX: Duration = Duration::from_secs(60);

/// Connections that no task uses, the one used last at the end.
#[derive(Debug, Default)]
pub(super) struct IdleConnections {
    connections: RefCell<VecDeque<IdleConnection>>,
    /// Notified when the first connection becomes idle, and when there will be no more.
    changed: Rc<Notify>,
    has_task: Cell<bool>,
}

#[derive(Debug)]
struct IdleConnection {
    connection: Connection,
    expires_at: Instant,
}

impl IdleConnections {
    pub(super) fn push(&self, connection: Connection, now: Instant) {
        let mut connections = self.connections.borrow_mut();
        connections.push_back(IdleConnection { connection, expires_at: now + IDLE_TIME_MAX });
        if connections.len() == 1 {
            self.changed.notify_one();
        }
    }

    /// Takes the connection that was used last, so that unneeded ones expire.
    pub(super) fn take_newest(&self) -> Option<Connection> {
        self.connections.borrow_mut().pop_back().map(|idle| idle.connection)
    }

    /// Closes all but the `max` connections that were used last.
    pub(super) fn close_beyond(&self, max: usize) {
        let mut connections = self.connections.borrow_mut();
        let excess = connections.len().saturating_sub(max);
        connections.drain(..excess);
    }

    pub(super) fn close_all(&self) {
        self.connections.borrow_mut().clear();
    }

    /// Closes the connections that have been idle for too long. Returns the time at which the next
    /// one will be.
    pub(super) fn close_expired(&self, now: Instant) -> Option<Instant> {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|idle| now < idle.expires_at);
        connections.front().map(|idle| idle.expires_at)
    }

    /// Returns the notification of changes.
    pub(super) fn changed(&self) -> Rc<Notify> {
        Rc::clone(&self.changed)
    }

    /// Returns true at the first call: the caller starts the task that closes connections.
    pub(super) fn should_start_task(&self) -> bool {
        !self.has_task.replace(true)
    }
}

impl Drop for IdleConnections {
    fn drop(&mut self) {
        // Ends the task, which finds that the pool is gone.
        self.changed.notify_one();
    }
}
