//! The answers, and the body that carries them out.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Sleep, sleep};

use super::Slot;
use crate::demo::mailbox::{Message, MessageNo};

/// Drops in which the first piece of a slow body comes.
const DROPS: u32 = 5;
const DROP_PAUSE: Duration = Duration::from_millis(150);
/// So long a body pauses before it is cut, for what was written to leave the machine.
const CUT_PAUSE: Duration = Duration::from_millis(20);

/// A body on its way.
#[derive(Debug)]
pub(super) struct Outgoing {
    content: Content,
    left: u64,
    slot: Option<Slot>,
}

#[derive(Debug)]
enum Content {
    Whole(Bytes),
    Mail(Box<Mail>),
}

#[derive(Debug)]
struct Mail {
    number: MessageNo,
    size: u64,
    message: Message,
    pending: Bytes,
    manner: Manner,
    pause: Option<Pin<Box<Sleep>>>,
}

/// How a body is handed out.
#[derive(Clone, Copy, Debug)]
pub(super) enum Manner {
    AtOnce,
    /// Half of the first piece, then the end of the connection.
    Cut,
    /// The first piece in so many drops.
    Drip {
        drops: u32,
    },
}

impl Manner {
    pub(super) const DRIP: Self = Self::Drip { drops: DROPS };
}

impl Outgoing {
    fn whole(bytes: Bytes) -> Self {
        Self { left: bytes.len() as u64, content: Content::Whole(bytes), slot: None }
    }

    /// Keeps the request counted as in progress until the last byte is handed over.
    pub(super) fn hold(&mut self, slot: Slot) {
        if self.left != 0 {
            self.slot = Some(slot);
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let frame = match &mut this.content {
            Content::Whole(bytes) => std::mem::take(bytes),
            Content::Mail(mail) => ready!(mail.poll_piece(context))?,
        };
        if frame.is_empty() {
            return Poll::Ready(None);
        }
        this.left -= frame.len() as u64;
        if this.left == 0
            && let Some(slot) = this.slot.take()
            && let Content::Mail(mail) = &this.content
        {
            slot.served(mail.number, mail.size);
        }
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

impl Mail {
    /// Returns the next piece; an empty one at the end.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
            if matches!(self.manner, Manner::Cut) {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
        }
        if self.pending.is_empty() {
            self.pending = self.message.next().unwrap_or_default();
        }
        let bytes = match &mut self.manner {
            Manner::AtOnce | Manner::Drip { drops: 0 } => self.pending.len(),
            Manner::Cut => {
                self.pause = Some(Box::pin(sleep(CUT_PAUSE)));
                self.pending.len() / 2
            }
            Manner::Drip { drops } => {
                self.pause = Some(Box::pin(sleep(DROP_PAUSE)));
                *drops -= 1;
                self.pending.len().div_ceil(*drops as usize + 1)
            }
        };
        Poll::Ready(Ok(self.pending.split_to(bytes)))
    }
}

/// The raw message, with its length (RFC 8620 §6.2).
pub(super) fn mail(
    number: MessageNo,
    message: Message,
    size: usize,
    media_type: &str,
    manner: Manner,
    slot: Slot,
) -> Response<Outgoing> {
    let (size, pending) = (size as u64, Bytes::new());
    let mail = Mail { number, size, message, pending, manner, pause: None };
    let content = Content::Mail(Box::new(mail));
    let mut response = Response::new(Outgoing { content, left: size, slot: Some(slot) });
    let media_type = HeaderValue::from_str(media_type)
        .unwrap_or(HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    set(&mut response, header::CACHE_CONTROL, "private, immutable, max-age=31536000");
    response
}

pub(super) fn json(value: &impl serde::Serialize) -> Response<Outgoing> {
    match serde_json::to_vec(value) {
        Ok(bytes) => typed(StatusCode::OK, "application/json; charset=utf-8", bytes.into()),
        Err(_unserializable) => problem(StatusCode::INTERNAL_SERVER_ERROR, "about:blank", "", None),
    }
}

/// A request-level error (RFC 8620 §3.6.1, RFC 7807); `limit` names the limit that was passed.
pub(super) fn problem(
    status: StatusCode,
    kind: &str,
    detail: &str,
    limit: Option<&str>,
) -> Response<Outgoing> {
    let mut body = json!({ "type": kind, "status": status.as_u16(), "detail": detail });
    if let (Some(limit), Some(body)) = (limit, body.as_object_mut()) {
        body.insert("limit".to_owned(), Value::from(limit));
    }
    typed(status, "application/problem+json", body.to_string().into())
}

/// What stands between a client and the service when a login has lapsed at the wrong layer.
pub(super) fn login_page() -> Response<Outgoing> {
    let page = "<!DOCTYPE html><html><head><title>Sign in</title></head>\
                <body><form method=\"post\"><input name=\"user\"></form></body></html>";
    typed(StatusCode::OK, "text/html; charset=utf-8", page.into())
}

pub(super) fn redirect(location: &'static str) -> Response<Outgoing> {
    let mut response = typed(StatusCode::TEMPORARY_REDIRECT, "text/plain", Bytes::new());
    set(&mut response, header::LOCATION, location);
    response
}

/// Says in whole seconds, rounded up, when to come back (RFC 9110 §10.2.3).
pub(super) fn retry_after(response: &mut Response<Outgoing>, wait: Duration) {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() != 0);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
}

pub(super) fn set(response: &mut Response<Outgoing>, name: HeaderName, value: &'static str) {
    response.headers_mut().append(name, HeaderValue::from_static(value));
}

fn typed(status: StatusCode, media_type: &'static str, bytes: Bytes) -> Response<Outgoing> {
    let mut response = Response::new(Outgoing::whole(bytes));
    *response.status_mut() = status;
    set(&mut response, header::CONTENT_TYPE, media_type);
    response
}
