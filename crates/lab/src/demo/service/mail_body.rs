//! Message in the body of a response, and the pace at which it is sent.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Sleep, sleep};

use super::server_state::RequestSlot;
use crate::demo::base64;
use crate::demo::faults::{SLOW_BODY_PARTS, SLOW_BODY_PAUSE};
use crate::demo::mailbox::{MessageNumber, RawMessage};

/// Pause before a body is truncated, so that the bytes already written are sent first.
const TRUNCATE_PAUSE: Duration = Duration::from_millis(20);

/// Message that is being sent.
#[derive(Debug)]
pub(crate) struct MailBody {
    number: MessageNumber,
    /// Octets of the message.
    size: u64,
    /// Bytes of the body.
    length: u64,
    chunks: MailChunks,
    pending: Bytes,
    pacing: BodyPacing,
    pause: Option<Pin<Box<Sleep>>>,
}

/// Pacing of a mail body.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BodyPacing {
    Immediate,
    /// Half of the first chunk, then the end of the connection.
    Truncate,
    /// Half of the first chunk, then the end of the body, as if it were complete. Only a body
    /// without Content-Length can end so.
    EndEarly,
    /// The first chunk in this many parts, with pauses.
    Slow {
        chunks: u32,
    },
    /// Nothing more.
    Ended,
}

/// Chunks of a body.
#[derive(Debug)]
enum MailChunks {
    Octets(RawMessage),
    Json(JsonMail),
}

/// Chunks of a JSON object with a message in base64url.
#[derive(Debug)]
struct JsonMail {
    /// Text before the encoded message, until it is sent.
    head: String,
    message: RawMessage,
    /// Octets that do not fill a group of three yet.
    rest: Vec<u8>,
    /// Text after the encoded message, until it is sent.
    tail: &'static str,
}

impl BodyPacing {
    pub(super) const SLOW: Self = Self::Slow { chunks: SLOW_BODY_PARTS };

    /// Returns the pacing that ends a body early where this one ends the connection.
    pub(crate) fn without_abort(self) -> Self {
        match self {
            Self::Truncate => Self::EndEarly,
            Self::Immediate | Self::EndEarly | Self::Slow { .. } | Self::Ended => self,
        }
    }
}

impl MailBody {
    /// Creates a body of the octets of a message.
    pub(crate) fn octets(
        number: MessageNumber,
        message: RawMessage,
        size: usize,
        pacing: BodyPacing,
    ) -> Self {
        let (chunks, pending, size) = (MailChunks::Octets(message), Bytes::new(), size as u64);
        Self { number, size, length: size, chunks, pending, pacing, pause: None }
    }

    /// Creates a body of JSON: `head`, the message in base64url, and `tail`.
    pub(crate) fn json(
        number: MessageNumber,
        message: RawMessage,
        size: usize,
        pacing: BodyPacing,
        (head, tail): (String, &'static str),
    ) -> Self {
        let length = (head.len() + (4 * size).div_ceil(3) + tail.len()) as u64;
        let chunks = MailChunks::Json(JsonMail { head, message, rest: Vec::new(), tail });
        let (pending, size) = (Bytes::new(), size as u64);
        Self { number, size, length, chunks, pending, pacing, pause: None }
    }

    /// Returns the bytes of the whole body.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Records that the message was served.
    pub(super) fn record_served(&self, slot: &RequestSlot) {
        slot.record_served(self.number, self.size);
    }

    /// Returns the next chunk; an empty one at the end.
    pub(super) fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
            if matches!(self.pacing, BodyPacing::Truncate) {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
        }
        if self.pending.is_empty() {
            self.pending = self.chunks.next().unwrap_or_default();
        }
        let bytes = match &mut self.pacing {
            BodyPacing::Immediate | BodyPacing::Slow { chunks: 0 } => self.pending.len(),
            BodyPacing::Ended => 0,
            BodyPacing::Truncate => {
                self.pause = Some(Box::pin(sleep(TRUNCATE_PAUSE)));
                self.pending.len() / 2
            }
            BodyPacing::EndEarly => {
                self.pacing = BodyPacing::Ended;
                self.pending.len() / 2
            }
            BodyPacing::Slow { chunks } => {
                self.pause = Some(Box::pin(sleep(SLOW_BODY_PAUSE)));
                *chunks -= 1;
                self.pending.len().div_ceil(*chunks as usize + 1)
            }
        };
        Poll::Ready(Ok(self.pending.split_to(bytes)))
    }
}

impl Iterator for MailChunks {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        match self {
            Self::Octets(message) => message.next(),
            Self::Json(json) => json.next(),
        }
    }
}

impl Iterator for JsonMail {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut text = std::mem::take(&mut self.head);
        for octets in self.message.by_ref() {
            self.rest.extend_from_slice(&octets);
            let whole = self.rest.len() - self.rest.len() % 3;
            text.push_str(&base64::encode_url(&self.rest[..whole]));
            self.rest.drain(..whole);
            if !text.is_empty() {
                return Some(text.into());
            }
        }
        text.push_str(&base64::encode_url(&std::mem::take(&mut self.rest)));
        text.push_str(std::mem::take(&mut self.tail));
        (!text.is_empty()).then(|| text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::mailbox::GeneratedMailbox;

    #[test]
    fn a_message_in_json_has_the_announced_length() {
        let mailbox = GeneratedMailbox::new(1, 2_000);
        let largest = (0..3_200).map(MessageNumber).max_by_key(|number| mailbox.size(*number));
        for number in (0..40).map(MessageNumber).chain(largest) {
            let size = mailbox.size(number);
            let frame = ("{\"raw\":\"".to_owned(), "\"}");
            let message = mailbox.message(number);
            let body = MailBody::json(number, message, size, BodyPacing::Immediate, frame);
            let length = body.length();

            let text: Vec<u8> = body.chunks.flatten().collect();

            assert_eq!(text.len() as u64, length);
            let octets: Vec<u8> = mailbox.message(number).flatten().collect();
            let encoded = base64::encode_url(&octets);
            assert!(text == format!("{{\"raw\":\"{encoded}\"}}").into_bytes());
        }
    }
}
