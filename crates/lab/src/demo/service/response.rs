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

use super::mail_body::MailBody;
use super::server_state::RequestSlot;

/// Response body that is being sent.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    content: BodyContent,
    remaining_bytes: u64,
    framing: BodyFraming,
    slot: Option<RequestSlot>,
}

#[derive(Debug)]
enum BodyContent {
    Buffered(Bytes),
    Mail(Box<MailBody>),
}

/// Way in which a client learns where a body ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum BodyFraming {
    /// Content-Length.
    Length,
    /// Chunks, the last of which is empty (RFC 9112 §7.1).
    Chunked,
}

impl ResponseBody {
    fn from_bytes(bytes: Bytes) -> Self {
        Self {
            remaining_bytes: bytes.len() as u64,
            content: BodyContent::Buffered(bytes),
            framing: BodyFraming::Length,
            slot: None,
        }
    }

    /// Keeps the request counted as in progress until the last byte is handed over.
    pub(crate) fn attach_slot(&mut self, slot: RequestSlot) {
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
            mail.record_served(&slot);
        }
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining_bytes == 0
    }

    fn size_hint(&self) -> SizeHint {
        match self.framing {
            BodyFraming::Length => SizeHint::with_exact(self.remaining_bytes),
            BodyFraming::Chunked => SizeHint::default(),
        }
    }
}

/// Builds the response to a download.
pub(crate) fn mail_response(
    mail: MailBody,
    framing: BodyFraming,
    media_type: &str,
    slot: RequestSlot,
) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody {
        remaining_bytes: mail.length(),
        content: BodyContent::Mail(Box::new(mail)),
        framing,
        slot: Some(slot),
    });
    let media_type = HeaderValue::from_str(media_type)
        .unwrap_or(HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
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

/// Builds a response with this status and JSON.
pub(crate) fn json_status_response(status: StatusCode, value: &Value) -> Response<ResponseBody> {
    typed_response(status, "application/json; charset=utf-8", value.to_string().into())
}

/// Builds a response with an HTML page.
pub(crate) fn page_response(status: StatusCode, page: &'static str) -> Response<ResponseBody> {
    typed_response(status, "text/html; charset=utf-8", page.into())
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
pub(crate) fn login_page() -> Response<ResponseBody> {
    let page = "<!DOCTYPE html><html><head><title>Sign in</title></head>\
                <body><form method=\"post\"><input name=\"user\"></form></body></html>";
    page_response(StatusCode::OK, page)
}

pub(super) fn redirect_response(location: &'static str) -> Response<ResponseBody> {
    let mut response = typed_response(StatusCode::TEMPORARY_REDIRECT, "text/plain", Bytes::new());
    append_header(&mut response, header::LOCATION, location);
    response
}

/// Sets Retry-After in whole seconds, rounded up, at least one (RFC 9110 §10.2.3).
pub(crate) fn set_retry_after(response: &mut Response<ResponseBody>, retry_after: Duration) {
    let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() != 0);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
}

pub(crate) fn append_header(
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
