//! Classifies unexpected responses by status, headers and the message in the body.

use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cynosure_engine::rate_limit::ReportedLimits;
use cynosure_engine::{
    ErrorRule, Failure, RecordedResponse, RequestScope, ResponseView, Secrets, classify_response,
};
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use reqwest::{Response, StatusCode};
use serde::Deserialize;

use crate::retry::Retryable;
use crate::source::http::body::TransferTimer;
use crate::source::http::request::{ExpectedContent, host};

/// Maximum bytes of an error response that are read. Problem details take one kilobyte.
const ERROR_BODY_BYTES_MAX: usize = 64 * 1024;

/// Error of a request: an unexpected response, or no response.
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
    fn from(error: HttpError) -> Self {
        error.failure
    }
}

/// True if status and headers of the response are as expected.
pub(super) fn is_expected(response: &Response, expected: ExpectedContent) -> bool {
    response.status() == StatusCode::OK
        && !is_compressed(response.headers())
        && is_expected_type(&media_type(response.headers()), expected)
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
    rate_limits: &ReportedLimits,
    timer: &mut TransferTimer<'_>,
    context: &ErrorContext<'_>,
) -> HttpError {
    let body = read_error_body(&mut response, timer).await;
    let headers = response.headers();
    let status = response.status().as_u16();
    let text = String::from_utf8_lossy(&body);
    let header_pairs = HeaderPairs::from_headers(headers);
    let header_pairs = header_pairs.as_pairs();
    let view = ResponseView { status, headers: &header_pairs, body: &text };
    let classification = classify_response(&view, rate_limits, context.scope, context.rules);

    let is_compressed = is_compressed(headers);
    let media_type = media_type(headers);
    let quote = if is_compressed { None } else { error_message(&media_type, &text) };
    let quote = quote.map(|quote| context.secrets.mask(&quote));

    let mut detail = format!("{status} from {}", host(response.url()));
    match quote {
        Some(quote) => detail.push_str(&format!(": \"{quote}\"")),
        None if is_compressed => detail.push_str(": compressed, although not requested"),
        None if status == 200 => {
            detail.push_str(&format!(": unexpected content type {media_type}"));
        }
        None => {}
    }
    let failure = Failure::new(classification.cause, detail)
        .with_retry_after(classification.retry_after)
        .with_response(context.capture_response(&view));
    HttpError { failure, body }
}

/// Reclassifies a response that looked successful but reports a `failure` in its body. The user's
/// error rules take precedence over the protocol's error type.
pub(super) fn reclassify(
    headers: &HeaderMap,
    body: &[u8],
    context: &ErrorContext<'_>,
    mut failure: Failure,
) -> Failure {
    let text = String::from_utf8_lossy(&body[..body.len().min(ERROR_BODY_BYTES_MAX)]);
    let header_pairs = HeaderPairs::from_headers(headers);
    let status = StatusCode::OK.as_u16();
    let view = ResponseView { status, headers: &header_pairs.as_pairs(), body: &text };
    if let Some(rule) = context.rules.iter().find(|rule| rule.matches(&view, context.scope)) {
        failure.cause = rule.cause;
        failure.retry_after = failure.retry_after.max(rule.wait);
    }
    failure.with_response(context.capture_response(&view))
}

impl ErrorContext<'_> {
    fn capture_response(&self, response: &ResponseView<'_>) -> RecordedResponse {
        let rule_headers = self.rules.iter().filter_map(|rule| rule.header.as_ref());
        let header_names: Vec<&str> = rule_headers.map(|header| header.name.as_str()).collect();
        RecordedResponse::capture(response, &header_names, &self.secrets)
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

async fn read_error_body(response: &mut Response, timer: &mut TransferTimer<'_>) -> Bytes {
    let mut body = BytesMut::new();
    // The status is known, so a truncated body changes nothing.
    while let Ok(Some(chunk)) = timer.next_chunk(response).await {
        let remaining = ERROR_BODY_BYTES_MAX - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(remaining)]);
        if body.len() == ERROR_BODY_BYTES_MAX {
            break;
        }
    }
    body.freeze()
}

/// True if the body is compressed. Names of codings are case-insensitive, and come in lists that
/// may have empty elements (RFC 9110 §5.6.1, §8.4.1).
fn is_compressed(headers: &HeaderMap) -> bool {
    let is_identity = |coding: &[u8]| {
        let coding = coding.trim_ascii();
        coding.is_empty() || coding.eq_ignore_ascii_case(b"identity")
    };
    let mut lists = headers.get_all(CONTENT_ENCODING).iter();
    lists.any(|list| !list.as_bytes().split(|byte| *byte == b',').all(is_identity))
}

/// Returns the media type in lower case without parameters; empty if there is none.
fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_expected_type(media_type: &str, expected: ExpectedContent) -> bool {
    let is_json = media_type == "application/json" || media_type.ends_with("+json");
    match expected {
        ExpectedContent::Json => is_json || media_type.is_empty(),
        ExpectedContent::Document => !is_json && !media_type.contains("html"),
    }
}

/// Returns a message to quote: a sentence of problem details (RFC 9457) or a line of plain text.
fn error_message(media_type: &str, text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct ProblemDetails {
        detail: Option<String>,
        title: Option<String>,
        #[serde(rename = "type")]
        kind: Option<String>,
    }

    if media_type.contains("json") {
        let problem: ProblemDetails = serde_json::from_str(text).ok()?;
        return problem.detail.or(problem.title).or(problem.kind);
    }
    let line = text.lines().next().unwrap_or_default().trim();
    (media_type == "text/plain" && !line.is_empty()).then(|| line.to_owned())
}
