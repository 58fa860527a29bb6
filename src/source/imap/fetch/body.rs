//! Routing of the bodies on one connection to the requests that they answer.

use std::cell::RefCell;
use std::mem;
use std::rc::Rc;

use bytes::Bytes;
use cynosure_engine::{Cause, DocumentLocation, Failure};

use crate::source::imap::fetch::queue::{RequestQueue, SET_REQUESTS_MAX};
use crate::source::imap::fetch::request::BodyEvent;
use crate::source::imap::fetch::set::SetsInFlight;
use crate::source::imap::fetch::settlement::{InterruptedBody, message_gone};
use crate::source::imap::wire::{BodySink, Value, attribute};

/// Attribute of a whole message.
const WHOLE_MESSAGE: &str = "BODY[]";

/// Bytes of an unwanted body, or of its rest, that are read and thrown away, and bytes of all bodies
/// between two replies that were not asked for. Beyond that, another connection costs less.
const DISCARDED_BYTES_MAX: u64 = 256 * 1024;

/// Maximum number of bodies between two replies that cannot be assigned to a request: those of both
/// sets in flight, if the server names no UIDs. One that sends more may never end.
const UNASSIGNED_BODIES_MAX: usize = 2 * SET_REQUESTS_MAX;

/// Bytes of a body that are held in memory until its UID comes. Most messages are smaller.
const HELD_BYTES_MAX: u64 = 256 * 1024;

/// Size of the chunks of a body that was held, in bytes: that of all other bodies.
const CHUNK_BYTES: usize = 64 * 1024;

/// Sets in flight on one connection, and the body that is being received.
pub(super) struct BodyRouter {
    pub(super) sets: SetsInFlight,
    queue: Rc<RefCell<RequestQueue>>,
    /// Largest document, in bytes.
    max_document: u64,
    body: IncomingBody,
    received_bytes: u64,
    unassigned: UnassignedBodies,
    /// True if the connection is given up because of an unwanted body.
    is_giving_up: bool,
}

/// Body in the response that is being read.
#[derive(Debug)]
enum IncomingBody {
    None,
    /// It is given to the request of this UID. If the response has not named its UID yet, that is
    /// the only request without an answer.
    Routed {
        uid: u32,
        length: u64,
    },
    /// It is held until the response names its UID.
    Held(Vec<u8>),
    Discarded,
    /// It was not asked for, and is discarded.
    Unrequested,
}

/// Bodies since the last reply that could not be assigned to a request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct UnassignedBodies {
    count: usize,
    /// Bytes of those that were not asked for. Others have no UID.
    unrequested_bytes: u64,
}

/// Result of the search for the request of a body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum BodyClaim {
    Claimed,
    /// The request was abandoned, or its message is too large.
    Unwanted,
    /// No request in flight is for this message.
    Unknown,
}

impl BodyRouter {
    pub(super) fn new(queue: Rc<RefCell<RequestQueue>>, max_document: u64) -> Self {
        Self {
            sets: SetsInFlight::default(),
            queue,
            max_document,
            body: IncomingBody::None,
            received_bytes: 0,
            unassigned: UnassignedBodies::default(),
            is_giving_up: false,
        }
    }

    /// True if the router itself caused the failure of the connection.
    pub(super) fn is_giving_up(&self) -> bool {
        self.is_giving_up
    }

    /// Returns the body that is incomplete and was given to a request.
    pub(super) fn interrupted_body(&self) -> Option<InterruptedBody> {
        match self.body {
            IncomingBody::Routed { uid, length } => {
                Some(InterruptedBody { uid, received_bytes: self.received_bytes, length })
            }
            IncomingBody::None
            | IncomingBody::Held(_)
            | IncomingBody::Discarded
            | IncomingBody::Unrequested => None,
        }
    }

    /// Records a reply to a command, from which the bodies without a request are counted.
    pub(super) fn on_reply(&mut self) {
        self.unassigned = UnassignedBodies::default();
    }

    /// Ends a `FETCH` response, after its body if it has one. Returns true if the body may be one
    /// that was asked for, so that the server makes progress.
    ///
    /// # Errors
    /// Returns an error if the server sends too many bodies that were not asked for. The connection
    /// is unusable after that.
    pub(super) async fn on_fetch_response(&mut self, values: &[Value]) -> Result<bool, Failure> {
        let attributes = values.first().and_then(Value::as_list).unwrap_or_default();
        let uid = uid_of(attributes);
        match mem::replace(&mut self.body, IncomingBody::None) {
            IncomingBody::None => {
                // The message was expunged after the folder was opened.
                if attribute(attributes, WHOLE_MESSAGE) == Some(&Value::Nil)
                    && let Some(request) = uid.and_then(|uid| self.sets.take_request(uid))
                {
                    let failure = message_gone(&request.location.folder);
                    request.finish(Err(failure)).await;
                }
                Ok(false)
            }
            IncomingBody::Routed { uid: routed, length } if uid == Some(routed) => {
                if let Some(request) = self.sets.take_request(routed) {
                    request.finish(Ok(length)).await;
                }
                Ok(true)
            }
            IncomingBody::Routed { uid: routed, length } => {
                let unrequested_bytes = if uid.is_some() { length } else { 0 };
                let body = IncomingBody::Routed { uid: routed, length };
                self.withdraw(body, unrequested_bytes).await?;
                Ok(uid.is_none())
            }
            IncomingBody::Held(body) => match uid {
                Some(uid) => self.deliver(uid, body).await,
                None => self.withdraw(IncomingBody::Held(body), 0).await.map(|()| true),
            },
            IncomingBody::Discarded => Ok(true),
            IncomingBody::Unrequested => Ok(false),
        }
    }

    /// Takes back what was done with a body that belongs to no request.
    async fn withdraw(
        &mut self,
        body: IncomingBody,
        unrequested_bytes: u64,
    ) -> Result<(), Failure> {
        self.sets.mark_unclaimed_body();
        if let IncomingBody::Routed { uid, .. } = body
            && let Some(request) = self.sets.request(uid)
        {
            request.send(BodyEvent::Restart).await;
        }
        self.count_unassigned(unrequested_bytes)
    }

    /// Gives a body that was held to its request. Returns false if it was not asked for.
    async fn deliver(&mut self, uid: u32, body: Vec<u8>) -> Result<bool, Failure> {
        let length = to_u64(body.len());
        match self.claim(uid, length).await {
            BodyClaim::Claimed => {}
            BodyClaim::Unwanted => return Ok(true),
            BodyClaim::Unknown => return self.count_unassigned(length).map(|()| false),
        }
        let Some(request) = self.sets.take_request(uid) else {
            return Ok(false);
        };
        let mut rest = Bytes::from(body);
        while !rest.is_empty() {
            let chunk = rest.split_to(rest.len().min(CHUNK_BYTES));
            request.send(BodyEvent::Chunk(chunk)).await;
        }
        request.finish(Ok(length)).await;
        Ok(true)
    }

    /// Begins to give a body to its request.
    async fn route(&mut self, uid: u32, length: u64) -> Result<IncomingBody, Failure> {
        match self.claim(uid, length).await {
            BodyClaim::Claimed => Ok(IncomingBody::Routed { uid, length }),
            BodyClaim::Unwanted => self.discard(length),
            BodyClaim::Unknown => self.discard_unrequested(length),
        }
    }

    /// Finds a request in flight that can take the body of this message.
    async fn claim(&mut self, uid: u32, length: u64) -> BodyClaim {
        let Some(request) = self.sets.request(uid) else {
            return BodyClaim::Unknown;
        };
        if request.is_abandoned() && !self.sets.replace_abandoned(uid, &self.queue) {
            return BodyClaim::Unwanted;
        }
        if length <= self.max_document {
            return BodyClaim::Claimed;
        }
        if let Some(request) = self.sets.take_request(uid) {
            let failure = message_too_large(&request.location, length, self.max_document);
            request.finish(Err(failure)).await;
        }
        BodyClaim::Unwanted
    }

    /// Gives the next bytes of a body to its request. If that is abandoned meanwhile, the rest is
    /// discarded.
    async fn forward(&mut self, uid: u32, length: u64, bytes: &[u8]) -> Result<(), Failure> {
        let chunk = BodyEvent::Chunk(Bytes::copy_from_slice(bytes));
        let is_received = match self.sets.request(uid) {
            Some(request) => request.send(chunk).await,
            None => false,
        };
        if !is_received {
            drop(self.sets.take_request(uid));
            self.body = self.discard(length.saturating_sub(self.received_bytes))?;
        }
        Ok(())
    }

    /// Reads and throws away the `remaining` bytes of a body, or gives up the connection.
    fn discard(&mut self, remaining: u64) -> Result<IncomingBody, Failure> {
        if remaining <= DISCARDED_BYTES_MAX {
            return Ok(IncomingBody::Discarded);
        }
        self.is_giving_up = true;
        // No fault of the server, so no cause that counts for its health.
        let message = format!("{remaining} bytes of a message that is not wanted were not read");
        Err(Failure::new(Cause::TooLarge, message))
    }

    /// Reads and throws away a body that was not asked for, or fails.
    fn discard_unrequested(&mut self, length: u64) -> Result<IncomingBody, Failure> {
        self.count_unassigned(length)?;
        Ok(IncomingBody::Unrequested)
    }

    /// Counts a body without a request. Fails if there are too many.
    fn count_unassigned(&mut self, unrequested_bytes: u64) -> Result<(), Failure> {
        let UnassignedBodies { count, unrequested_bytes: bytes } = &mut self.unassigned;
        *count = count.saturating_add(1);
        *bytes = bytes.saturating_add(unrequested_bytes);
        if *count <= UNASSIGNED_BODIES_MAX && *bytes <= DISCARDED_BYTES_MAX {
            return Ok(());
        }
        let message = if *bytes <= DISCARDED_BYTES_MAX {
            format!("the server sends too many messages: {count} belong to no request")
        } else {
            format!("the server sends messages that were not asked for: {bytes} bytes")
        };
        Err(Failure::new(Cause::Server, message))
    }
}

impl BodySink for BodyRouter {
    async fn begin(&mut self, values: &[Value], length: u64) -> Result<(), Failure> {
        // Of two bodies in one response, only the last counts.
        match mem::replace(&mut self.body, IncomingBody::None) {
            body @ (IncomingBody::Routed { .. } | IncomingBody::Held(_)) => {
                self.withdraw(body, self.received_bytes).await?;
            }
            IncomingBody::None | IncomingBody::Discarded | IncomingBody::Unrequested => {}
        }
        self.received_bytes = 0;
        let name = values.last().and_then(Value::as_text);
        let is_whole = name.is_some_and(|name| name.eq_ignore_ascii_case(WHOLE_MESSAGE));
        self.body = match uid_of(values).or_else(|| self.sets.only_unanswered()) {
            Some(uid) if is_whole => self.route(uid, length).await?,
            None if is_whole && length <= HELD_BYTES_MAX => IncomingBody::Held(Vec::new()),
            None if is_whole => {
                self.sets.mark_unclaimed_body();
                self.count_unassigned(0)?;
                IncomingBody::Discarded
            }
            Some(_) | None => self.discard_unrequested(length)?,
        };
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let count = to_u64(bytes.len());
        self.received_bytes = self.received_bytes.saturating_add(count);
        self.sets.record_bytes(count);
        match &mut self.body {
            IncomingBody::Held(body) => body.extend_from_slice(bytes),
            IncomingBody::Routed { uid, length } => {
                let (uid, length) = (*uid, *length);
                self.forward(uid, length, bytes).await?;
            }
            IncomingBody::None | IncomingBody::Discarded | IncomingBody::Unrequested => {}
        }
        Ok(())
    }

    /// Does nothing, because the response that follows names the UID of the body.
    async fn end(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

fn uid_of(attributes: &[Value]) -> Option<u32> {
    attribute(attributes, "UID").and_then(Value::as_number).and_then(|uid| uid.try_into().ok())
}

fn message_too_large(location: &DocumentLocation, length: u64, max: u64) -> Failure {
    let DocumentLocation { folder, uid, .. } = location;
    let message =
        format!("message {uid} in \"{folder}\" has {length} bytes, more than {max} (max_document)");
    Failure::new(Cause::TooLarge, message)
}

fn to_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
