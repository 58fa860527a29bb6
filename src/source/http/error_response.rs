//! Classifies unexpected responses by status, headers and the message in the body.

use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use reqwest::{Response, StatusCode};
use serde::Deserialize;

use crate::engine::rate_limit::RateLimitHeaders;
use crate::engine::{
    ErrorRule, Failure, RecordedResponse, RequestScope, ResponseView, Secrets, classify_response,
};
use crate::retry::Retryable;
use crate::source::http::body::TransferTimer;
use crate::source::http::{ExpectedContent, host};

/// Maximum bytes of an error response that are read. Problem details take one kilobyte.
const ERROR_BODY_BYTES_MAX: usize = 64 * 1024;

/// Error of a request: an unexpected response, or none.
#[derive(Debug)]
pub struct HttpError {
    pub failure: Failure,
    /// Body of the error response, truncated at a limit; often empty.
    pub body: Bytes,
}

impl HttpError {
    /// Marks an error that would be retried at once if the retry budget were not exhausted.
    pub(super) fn into_deferred(mut self) -> Self {
        self.failure.is_retry_budget_exhausted = true;
        self
    }
}

impl Retryable for HttpError {
    fn is_retryable(&self) -> bool {
        self.failure.is_retryable()
    }

    fn retry_after(&self) -> Option<Duration> {
        self.failure.retry_after
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failure.fmt(f)
    }
}

impl From<Failure> for HttpError {
    fn from(failure: Failure) -> Self {
        Self { failure, body: Bytes::new() }
    }
}

impl From<HttpError> for Failure {
    fn from(refusal: HttpError) -> Self {
        refusal.failure
    }
}

/// True if status and headers of the response are as expected.
pub(super) fn is_expected(response: &Response, wants: ExpectedContent) -> bool {
    response.status() == StatusCode::OK
        && !is_compressed(response.headers())
        && is_expected_type(&media_type(response.headers()), wants)
}

/// Context for the classification of an error response.
pub(super) struct ErrorContext<'a> {
    /// User's error rules for this provider.
    pub rules: &'a [ErrorRule],
    pub scope: RequestScope,
    /// Secrets that are never quoted or stored: a server may echo a refused credential.
    pub secrets: Secrets,
}

/// Classifies a response that is not as expected.
pub(super) async fn read_error(
    mut response: Response,
    signals: &RateLimitHeaders,
    pace: &mut TransferTimer<'_>,
    reading: &ErrorContext<'_>,
) -> HttpError {
    let body = read_error_body(&mut response, pace).await;
    let headers = response.headers();
    let status = response.status().as_u16();
    let text = String::from_utf8_lossy(&body);
    let fields = HeaderPairs::from_headers(headers);
    let fields = fields.as_pairs();
    let reply = ResponseView { status, headers: &fields, body: &text };
    let judgement = classify_response(&reply, signals, reading.scope, reading.rules);

    let encoded = is_compressed(headers);
    let media_type = media_type(headers);
    let quote = if encoded { None } else { error_message(&media_type, &text) };
    let quote = quote.map(|quote| reading.secrets.mask(&quote));

    let mut detail = format!("{status} from {}", host(response.url()));
    match quote {
        Some(quote) => detail.push_str(&format!(": \"{quote}\"")),
        None if encoded => detail.push_str(": compressed, which nobody asked for"),
        None if status == 200 => {
            detail.push_str(&format!(": {media_type} in place of what was asked for"));
        }
        None => {}
    }
    let failure = Failure::new(judgement.cause, detail)
        .with_retry_after(judgement.retry_after)
        .with_response(reading.capture_response(&reply));
    HttpError { failure, body }
}

/// Reclassifies a response that looked successful but reports a `failure` in its body. The user's
/// error rules take precedence over the protocol's error type.
pub(super) fn reclassify(
    headers: &HeaderMap,
    body: &[u8],
    reading: &ErrorContext<'_>,
    mut failure: Failure,
) -> Failure {
    let text = String::from_utf8_lossy(&body[..body.len().min(ERROR_BODY_BYTES_MAX)]);
    let fields = HeaderPairs::from_headers(headers);
    let status = StatusCode::OK.as_u16();
    let reply = ResponseView { status, headers: &fields.as_pairs(), body: &text };
    if let Some(rule) = reading.rules.iter().find(|rule| rule.matches(&reply, reading.scope)) {
        failure.cause = rule.cause;
        failure.retry_after = failure.retry_after.max(rule.wait);
    }
    failure.with_response(reading.capture_response(&reply))
}

impl ErrorContext<'_> {
    fn capture_response(&self, reply: &ResponseView<'_>) -> RecordedResponse {
        let headers = self.rules.iter().filter_map(|rule| rule.header.as_ref());
        let named: Vec<&str> = headers.map(|header| header.name.as_str()).collect();
        RecordedResponse::capture(reply, &named, &self.secrets)
    }
}

/// Headers as text with lower-case names, as the error rules and the rate limiter read them.
struct HeaderPairs<'h>(Vec<(&'h str, String)>);

impl<'h> HeaderPairs<'h> {
    fn from_headers(headers: &'h HeaderMap) -> Self {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        Self(headers.iter().map(|(name, value)| (name.as_str(), text(value.as_bytes()))).collect())
    }

    fn as_pairs(&self) -> Vec<(&str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }
}

async fn read_error_body(response: &mut Response, pace: &mut TransferTimer<'_>) -> Bytes {
    let mut body = BytesMut::new();
    // The status is known, so a truncated body changes nothing.
    while let Ok(Some(chunk)) = pace.next_chunk(response).await {
        let room = ERROR_BODY_BYTES_MAX - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == ERROR_BODY_BYTES_MAX {
            break;
        }
    }
    body.freeze()
}

/// True if the body is compressed. Names of codings are case-insensitive, and come in lists that
/// may have empty elements (RFC 9110 §5.6.1, §8.4.1).
fn is_compressed(headers: &HeaderMap) -> bool {
    let changes_nothing = |coding: &[u8]| {
        let coding = coding.trim_ascii();
        coding.is_empty() || coding.eq_ignore_ascii_case(b"identity")
    };
    let mut lists = headers.get_all(CONTENT_ENCODING).iter();
    lists.any(|list| !list.as_bytes().split(|byte| *byte == b',').all(changes_nothing))
}

/// Returns the media type in lower case without parameters; empty if there is none.
fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_expected_type(media_type: &str, wants: ExpectedContent) -> bool {
    let json = media_type == "application/json" || media_type.ends_with("+json");
    match wants {
        ExpectedContent::Json => json || media_type.is_empty(),
        ExpectedContent::Document => !json && !media_type.contains("html"),
    }
}

/// Returns a message to quote: a sentence of problem details (RFC 9457) or a line of plain text.
fn error_message(media_type: &str, text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct CredentialErrorKind {
        detail: Option<String>,
        title: Option<String>,
        #[serde(rename = "type")]
        kind: Option<String>,
    }

    if media_type.contains("json") {
        let problem: CredentialErrorKind = serde_json::from_str(text).ok()?;
        return problem.detail.or(problem.title).or(problem.kind);
    }
    let line = text.lines().next().unwrap_or_default().trim();
    (media_type == "text/plain" && !line.is_empty()).then(|| line.to_owned())
}
