//! Commands of a connection that have no reply yet.

use std::cell::RefCell;
use std::rc::Rc;

use cynosure_engine::ImapPhase;
use tokio::time::Instant;

use crate::source::imap::connection::request::ImapRequest;

/// Request of a command, until its end. The connection and the sender of the command share it,
/// because either may see that end.
type SharedRequest = Rc<RefCell<Option<ImapRequest>>>;

/// Command without its tagged reply, as its sender holds it.
#[derive(Debug)]
pub(in crate::source::imap) struct CommandInFlight {
    tag: String,
    phase: ImapPhase,
    request: SharedRequest,
}

/// Command without its tagged reply, as the connection holds it.
#[derive(Debug)]
pub(super) struct PendingCommand {
    pub(super) tag: String,
    pub(super) phase: ImapPhase,
    request: SharedRequest,
}

impl CommandInFlight {
    pub(in crate::source::imap) fn tag(&self) -> &str {
        &self.tag
    }

    /// Records received bytes of messages, also of discarded ones, because the server counts them
    /// too.
    pub(in crate::source::imap) fn record_bytes(&mut self, bytes: u64) {
        if let Some(request) = self.request.borrow_mut().as_mut() {
            request.record_bytes(bytes);
        }
    }

    /// Returns tag, phase and request. There is no request if the connection has ended.
    pub(super) fn into_parts(self) -> (String, ImapPhase, Option<ImapRequest>) {
        (self.tag, self.phase, self.request.take())
    }
}

impl PendingCommand {
    pub(super) fn new(tag: String, phase: ImapPhase, request: ImapRequest) -> Self {
        Self { tag, phase, request: Rc::new(RefCell::new(Some(request))) }
    }

    pub(super) fn to_in_flight(&self) -> CommandInFlight {
        let (tag, request) = (self.tag.clone(), Rc::clone(&self.request));
        CommandInFlight { tag, phase: self.phase, request }
    }

    pub(super) fn take_request(&self) -> Option<ImapRequest> {
        self.request.take()
    }

    /// Records that the command before it has ended.
    pub(super) fn record_turn(&self, at: Instant) {
        if let Some(request) = self.request.borrow_mut().as_mut() {
            request.record_turn(at);
        }
    }

    /// Records the first data of the response.
    pub(super) fn record_data(&self, at: Instant) {
        if let Some(request) = self.request.borrow_mut().as_mut() {
            request.record_data(at);
        }
    }
}
