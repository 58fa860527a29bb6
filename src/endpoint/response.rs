//! HTTP responses. Each has security headers that restrict what a browser may do with it.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::Value;

/// Response body: complete, or a stream.
pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;
pub(super) type HttpResponse = Response<Body>;

pub(super) const HTML_TYPE: &str = "text/html; charset=utf-8";
pub(super) const JSON_TYPE: &str = "application/json";
/// The text format of Prometheus.
pub(super) const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// RFC 9457.
const PROBLEM_TYPE: &str = "application/problem+json";

/// Headers of every response. Scripts and styles are our own files; nothing is loaded from or sent
/// to other hosts.
const SECURITY_HEADERS: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// Problem document (RFC 9457).
#[derive(Serialize)]
struct ProblemJson<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
}

/// Response with a complete body.
pub(super) fn response(
    status: StatusCode,
    media_type: &'static str,
    body: impl Into<Bytes>,
) -> HttpResponse {
    streaming_response(status, media_type, Full::new(body.into()).boxed_unsync())
}

/// Response whose body may be a stream.
pub(super) fn streaming_response(
    status: StatusCode,
    media_type: &'static str,
    body: Body,
) -> HttpResponse {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    for (name, value) in SECURITY_HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

pub(super) fn json_response(status: StatusCode, value: &impl Serialize) -> HttpResponse {
    match serde_json::to_vec(value) {
        Ok(mut bytes) => {
            bytes.push(b'\n');
            response(status, JSON_TYPE, bytes)
        }
        Err(error) => problem_response(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// Converts a body to JSON, with the keys of each object in alphabetical order.
pub(super) fn sorted_json(body: &impl Serialize) -> Value {
    // Serialization cannot fail: all keys are strings.
    serde_json::to_value(body).unwrap_or_default()
}

/// Response with a problem document.
pub(super) fn problem_response(status: StatusCode, detail: &str) -> HttpResponse {
    let problem = sorted_json(&ProblemJson {
        kind: "about:blank",
        title: status.canonical_reason().unwrap_or_default(),
        status: status.as_u16(),
        detail,
    });
    response(status, PROBLEM_TYPE, format!("{problem}\n"))
}

/// Adds a header with a value that is built at run time.
pub(super) fn append_header(response: &mut HttpResponse, name: HeaderName, value: &str) {
    // Always valid: the values contain only numbers and constant ASCII text.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().append(name, value);
    }
}

/// Rounds up to whole seconds, so that a remaining time is never reported as 0.
pub(super) fn ceil_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
