//! Requests for the bodies of messages, and the events that answer them.

use bytes::Bytes;
use cynosure_engine::{DocumentLocation, Failure, ThrottleStrikes};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::limiter::AttemptKind;

/// Events that wait for the reader of one body. With one, a slow disk stops the reading from the
/// connection instead of filling the memory.
const EVENTS_MAX: usize = 1;

/// Lost connections after which a request is made again, although it may not be their cause.
const LOST_CONNECTIONS_MAX: u32 = 2;

/// Answer to a request, or a part of it.
#[derive(Debug)]
pub(super) enum BodyEvent {
    /// Next bytes of the body, at most 64 KiB.
    Chunk(Bytes),
    /// The bytes so far belong to another message.
    Restart,
    /// End of the answer: the length of the body, or the failure.
    Done(Result<u64, Failure>),
}

/// Request for the body of one message.
#[derive(Debug)]
pub(super) struct BodyRequest {
    pub(super) location: DocumentLocation,
    /// Kind of its next attempt.
    pub(super) attempt: AttemptKind,
    /// Earlier throttles of the message.
    pub(super) strikes: ThrottleStrikes,
    /// True if it is sent alone, because the message may harm the others of its set, or cannot be
    /// told apart from them.
    pub(super) is_single: bool,
    /// True if a successful command did not answer it, for a reason that may pass.
    pub(super) has_gone_unanswered: bool,
    /// Number in the order of arrival, given by the queue.
    pub(super) number: u64,
    lost_connections: u32,
    events: Sender<BodyEvent>,
}

impl BodyRequest {
    /// Creates a request, and the receiver of its events. Dropping the receiver abandons it.
    ///
    /// A message that failed or was throttled before is requested alone, so that another failure is
    /// its own.
    pub(super) fn new(
        location: DocumentLocation,
        attempt: AttemptKind,
        strikes: ThrottleStrikes,
    ) -> (Self, Receiver<BodyEvent>) {
        let (events, receiver) = channel(EVENTS_MAX);
        let request = Self {
            location,
            attempt,
            strikes,
            is_single: attempt != AttemptKind::First || strikes.count() > 0,
            has_gone_unanswered: false,
            number: 0,
            lost_connections: 0,
            events,
        };
        (request, receiver)
    }

    /// True if nobody waits for the answer any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.events.is_closed()
    }

    /// Counts a lost connection. Returns true if the request may be made again.
    pub(super) fn count_lost_connection(&mut self) -> bool {
        self.lost_connections = self.lost_connections.saturating_add(1);
        self.lost_connections <= LOST_CONNECTIONS_MAX
    }

    /// Sends an event, after the one before it was received. Returns false if the request is
    /// abandoned.
    pub(super) async fn send(&self, event: BodyEvent) -> bool {
        self.events.send(event).await.is_ok()
    }

    /// Ends the answer.
    pub(super) async fn finish(self, result: Result<u64, Failure>) {
        self.send(BodyEvent::Done(result)).await;
    }
}
