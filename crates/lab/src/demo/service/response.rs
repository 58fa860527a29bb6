//! Responses, and the body type that sends them.

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

use super::server_state::RequestSlot;
use crate::demo::faults::{SLOW_BODY_PARTS, SLOW_BODY_PAUSE};
use crate::demo::mailbox::{MessageNumber, RawMessage};

/// Pause before a body is truncated, so that the bytes already written are sent first.
const TRUNCATE_PAUSE: Duration = Duration::from_millis(20);

/// Response body that is being sent.
#[derive(Debug)]
pub(super) struct ResponseBody {
    content: BodyContent,
    remaining_bytes: u64,
    slot: Option<RequestSlot>,
}

#[derive(Debug)]
enum BodyContent {
    Buffered(Bytes),
    Mail(Box<MailBody>),
}

#[derive(Debug)]
struct MailBody {
    number: MessageNumber,
    size: u64,
    message: RawMessage,
    pending: Bytes,
    pacing: BodyPacing,
    pause: Option<Pin<Box<Sleep>>>,
}

/// Pacing of a mail body.
#[derive(Clone, Copy, Debug)]
pub(super) enum BodyPacing {
    Immediate,
    /// Half of the first chunk, then the end of the connection.
    Truncate,
    /// The first chunk in this many parts, with pauses.
    Slow {
        chunks: u32,
    },
}

impl BodyPacing {
    pub(super) const SLOW: Self = Self::Slow { chunks: SLOW_BODY_PARTS };
}

impl ResponseBody {
    fn from_bytes(bytes: Bytes) -> Self {
        Self {
            remaining_bytes: bytes.len() as u64,
            content: BodyContent::Buffered(bytes),
            slot: None,
        }
    }

    /// Keeps the request counted as in progress until the last byte is handed over.
    pub(super) fn attach_slot(&mut self, slot: RequestSlot) {
        if self.remaining_bytes != 0 {
            self.slot = Some(slot);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let frame = match &mut this.content {
            BodyContent::Buffered(bytes) => std::mem::take(bytes),
            BodyContent::Mail(mail) => ready!(mail.poll_chunk(context))?,
        };
        if frame.is_empty() {
            return Poll::Ready(None);
        }
        this.remaining_bytes -= frame.len() as u64;
        if this.remaining_bytes == 0
            && let Some(slot) = this.slot.take()
            && let BodyContent::Mail(mail) = &this.content
        {
            slot.record_served(mail.number, mail.size);
        }
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining_bytes == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining_bytes)
    }
}

impl MailBody {
    /// Returns the next chunk; an empty one at the end.
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
            if matches!(self.pacing, BodyPacing::Truncate) {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
        }
        if self.pending.is_empty() {
            self.pending = self.message.next().unwrap_or_default();
        }
        let bytes = match &mut self.pacing {
            BodyPacing::Immediate | BodyPacing::Slow { chunks: 0 } => self.pending.len(),
            BodyPacing::Truncate => {
                self.pause = Some(Box::pin(sleep(TRUNCATE_PAUSE)));
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

/// Builds the response to a download: the raw message, with its length (RFC 8620 §6.2).
pub(super) fn mail_response(
    number: MessageNumber,
    message: RawMessage,
    size: usize,
    media_type: &str,
    pacing: BodyPacing,
    slot: RequestSlot,
) -> Response<ResponseBody> {
    let (size, pending) = (size as u64, Bytes::new());
    let mail = MailBody { number, size, message, pending, pacing, pause: None };
    let content = BodyContent::Mail(Box::new(mail));
    let mut response =
        Response::new(ResponseBody { content, remaining_bytes: size, slot: Some(slot) });
    let media_type = HeaderValue::from_str(media_type)
        .unwrap_or(HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    append_header(&mut response, header::CACHE_CONTROL, "private, immutable, max-age=31536000");
    response
}

pub(super) fn json_response(value: &impl serde::Serialize) -> Response<ResponseBody> {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            typed_response(StatusCode::OK, "application/json; charset=utf-8", bytes.into())
        }
        Err(_unserializable) => {
            problem_response(StatusCode::INTERNAL_SERVER_ERROR, "about:blank", "", None)
        }
    }
}

/// Builds a request-level error (RFC 8620 §3.6.1, RFC 7807). `limit` names the exceeded limit.
pub(super) fn problem_response(
    status: StatusCode,
    kind: &str,
    detail: &str,
    limit: Option<&str>,
) -> Response<ResponseBody> {
    let mut body = json!({ "type": kind, "status": status.as_u16(), "detail": detail });
    if let (Some(limit), Some(body)) = (limit, body.as_object_mut()) {
        body.insert("limit".to_owned(), Value::from(limit));
    }
    typed_response(status, "application/problem+json", body.to_string().into())
}

/// Builds the login page that a proxy in front of a service sends once its own login has expired.
pub(super) fn login_page() -> Response<ResponseBody> {
    let page = "<!DOCTYPE html><html><head><title>Sign in</title></head>\
                <body><form method=\"post\"><input name=\"user\"></form></body></html>";
    typed_response(StatusCode::OK, "text/html; charset=utf-8", page.into())
}

pub(super) fn redirect_response(location: &'static str) -> Response<ResponseBody> {
    let mut response = typed_response(StatusCode::TEMPORARY_REDIRECT, "text/plain", Bytes::new());
    append_header(&mut response, header::LOCATION, location);
    response
}

/// Sets Retry-After in whole seconds, rounded up, at least one (RFC 9110 §10.2.3).
pub(super) fn set_retry_after(response: &mut Response<ResponseBody>, retry_after: Duration) {
    let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() != 0);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
}

pub(super) fn append_header(
    response: &mut Response<ResponseBody>,
    name: HeaderName,
    value: &'static str,
) {
    response.headers_mut().append(name, HeaderValue::from_static(value));
}

fn typed_response(
    status: StatusCode,
    media_type: &'static str,
    bytes: Bytes,
) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::from_bytes(bytes));
    *response.status_mut() = status;
    append_header(&mut response, header::CONTENT_TYPE, media_type);
    response
}
