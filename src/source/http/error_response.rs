//! Classifies unexpected responses by status, headers and the message in the body.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cynosure_engine::rate_limit::ReportedLimits;
use cynosure_engine::rest::{OkRule, ProfileRules, scalar_text};
use cynosure_engine::{
    BodyHint, Cause, Classification, ErrorRule, Failure, MatchedRule, RecordedResponse,
    RequestScope, ResponseFacts, ResponseView, Secrets, Timestamp, classify_response,
    sanitize_line, truncate_to_bytes,
};
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use reqwest::{Response, StatusCode};
use serde_json::Value;
use url::Url;

use crate::retry::Retryable;
use crate::source::http::body::TransferTimer;
use crate::source::http::request::{ExpectedContent, host, is_json_type};

/// Maximum bytes of an error response that are read. Problem details take one kilobyte.
const ERROR_BODY_BYTES_MAX: usize = 64 * 1024;

/// Maximum bytes of a server's message before the sentence of a rule, which must not be cut off.
const QUOTE_BYTES_MAX: usize = 120;

/// Maximum bytes of a value that is shown in place of the sign of success.
const FOUND_BYTES_MAX: usize = 40;

/// Paths of the messages that JSON bodies have: problem details (RFC 9457), errors of Google and
/// Microsoft, and those of OAuth 2.0 (RFC 6749 §5.2). The first text counts.
const MESSAGE_PATHS: [&str; 7] =
    ["/detail", "/title", "/error/message", "/message", "/error_description", "/error", "/type"];

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
pub(super) fn is_expected(response: &Response, expected: ExpectedContent<'_>) -> bool {
    response.status() == StatusCode::OK
        && !is_compressed(response.headers())
        && expected.includes(&media_type(response.headers()))
}

/// Context for the classification of an error response.
pub(super) struct ErrorContext<'a> {
    /// User's error rules for this provider.
    pub rules: &'a [ErrorRule],
    /// Rules of the profile, which come after those of the user.
    pub profile: Option<ProfileRules<'a>>,
    /// Sign of success of the profile.
    pub ok: Option<&'a OkRule>,
    pub scope: RequestScope,
    /// Secrets that are never quoted or stored: a server may echo a refused credential.
    pub secrets: Secrets,
    pub now: Timestamp,
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
    let is_compressed = is_compressed(headers);
    let media_type = media_type(headers);
    // A server may report a refusal as JSON with status 200 also in place of a document.
    let may_be_refusal = status == 200 && !is_compressed && is_json_type(&media_type);
    let json: Option<Value> = if may_be_refusal { serde_json::from_str(&text).ok() } else { None };
    let refusal = json.as_ref().and_then(|json| Refusal::find(json, context));
    let classification = context.classify(&view, rate_limits);

    let quote = if is_compressed { None } else { error_message(&media_type, &text) };
    let mut detail = format!("{status} from {}", host(response.url()));
    if let Some(refusal) = &refusal {
        detail.push_str(&refusal.detail);
    } else if is_compressed {
        detail.push_str(": compressed, although not requested");
    } else if status == 200 && quote.is_none() {
        detail.push_str(&format!(": unexpected content type {media_type}"));
    }
    let cause = match &refusal {
        Some(refusal) => refusal.cause(&classification, &text),
        None => classification.cause,
    };
    let detail = context.describe(detail, quote.as_deref(), &classification);
    let failure = Failure::new(cause, detail)
        .with_retry_after(classification.retry_after)
        .with_response(context.capture_response(&view));
    HttpError { failure, body }
}

/// Returns the failure that a JSON body with status 200 reports, because it lacks the sign of
/// success; `None` if it has it, or if the profile declares none.
pub(super) fn find_refusal(
    url: &Url,
    headers: &HeaderMap,
    body: &[u8],
    json: &Value,
    rate_limits: &ReportedLimits,
    context: &ErrorContext<'_>,
) -> Option<Failure> {
    let refusal = Refusal::find(json, context)?;
    let text = text_of(body);
    let header_pairs = HeaderPairs::from_headers(headers);
    let status = StatusCode::OK.as_u16();
    let view = ResponseView { status, headers: &header_pairs.as_pairs(), body: &text };
    let classification = context.classify(&view, rate_limits);
    let quote = error_message("application/json", &text);
    let detail = format!("{status} from {}{}", host(url), refusal.detail);
    let detail = context.describe(detail, quote.as_deref(), &classification);
    Some(
        Failure::new(refusal.cause(&classification, &text), detail)
            .with_retry_after(classification.retry_after)
            .with_response(context.capture_response(&view)),
    )
}

/// Reclassifies a response that looked successful but reports a `failure` in its body. The error
/// rules of the user, and after them those of the profile, take precedence over the protocol's
/// error type.
pub(super) fn reclassify(
    headers: &HeaderMap,
    body: &[u8],
    context: &ErrorContext<'_>,
    mut failure: Failure,
) -> Failure {
    let text = text_of(body);
    let header_pairs = HeaderPairs::from_headers(headers);
    let status = StatusCode::OK.as_u16();
    let view = ResponseView { status, headers: &header_pairs.as_pairs(), body: &text };
    let classification = context.classify(&view, &ReportedLimits::default());
    match classification.matched_rule {
        MatchedRule::BuiltIn(_) => {}
        MatchedRule::UserDefined(_) | MatchedRule::Profile(_) => {
            failure.cause = classification.cause;
            failure.retry_after = failure.retry_after.max(classification.retry_after);
            let message = context.describe(failure.message, None, &classification);
            failure.message = sanitize_line(&message);
        }
    }
    failure.with_response(context.capture_response(&view))
}

/// Value in place of the sign of success.
struct Refusal {
    /// HTTP status that the body has in place of that of the response.
    status: Option<u16>,
    /// Words that follow the name of the server.
    detail: String,
}

impl Refusal {
    /// Returns the refusal that a body is, if it lacks the sign of success.
    fn find(json: &Value, context: &ErrorContext<'_>) -> Option<Self> {
        let ok = context.ok.filter(|ok| !ok.is_met(json))?;
        let value = ok.at.first(json);
        let status = value.filter(|_| ok.is_http_status()).and_then(Value::as_u64);
        let status = status.and_then(|status| u16::try_from(status).ok());
        let found = match value.map(scalar_text) {
            Some(Some(text)) => {
                let text = context.secrets.mask(&text);
                format!("is \"{}\"", truncate_to_bytes(&text, FOUND_BYTES_MAX))
            }
            Some(None) => "is no text or whole number".to_owned(),
            None => "is missing".to_owned(),
        };
        Some(Self {
            status: status.filter(|status| (100..=599).contains(status)),
            detail: format!(", but `[ok] at` = {:?} {found}", ok.at.as_str()),
        })
    }

    /// Returns the cause: that of a rule, or that of the status in the body.
    fn cause(&self, classification: &Classification<'_>, body: &str) -> Cause {
        match (classification.matched_rule, self.status) {
            (MatchedRule::UserDefined(_) | MatchedRule::Profile(_), _) => classification.cause,
            (MatchedRule::BuiltIn(_), None) => Cause::Unknown,
            (MatchedRule::BuiltIn(_), Some(status)) => {
                let body_hint = BodyHint::from_body(status, body);
                ResponseFacts { status, body_hint, ..classification.facts }.cause()
            }
        }
    }
}

impl<'a> ErrorContext<'a> {
    fn classify(
        &self,
        view: &ResponseView<'_>,
        rate_limits: &ReportedLimits,
    ) -> Classification<'a> {
        classify_response(view, rate_limits, self.scope, self.rules, self.profile, self.now)
    }

    /// Appends the server's message, in which secrets are masked, and the sentence of the matched
    /// rule of a profile.
    fn describe(
        &self,
        mut detail: String,
        quote: Option<&str>,
        classification: &Classification<'_>,
    ) -> String {
        let sentence = match classification.matched_rule {
            MatchedRule::Profile(rule) => rule.message.as_deref(),
            MatchedRule::BuiltIn(_) | MatchedRule::UserDefined(_) => None,
        };
        if let Some(quote) = quote {
            let quote = self.secrets.mask(quote);
            let shown = match sentence {
                Some(_) => truncate_to_bytes(&quote, QUOTE_BYTES_MAX),
                None => quote.as_str(),
            };
            detail.push_str(&format!(": \"{shown}\""));
        }
        if let Some(sentence) = sentence {
            detail.push_str(&format!("; {sentence}"));
        }
        detail
    }

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

/// Returns the beginning of a body as text.
fn text_of(body: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(&body[..body.len().min(ERROR_BODY_BYTES_MAX)])
}

/// Returns a message to quote: a text of a JSON body, or a line of plain text.
fn error_message(media_type: &str, text: &str) -> Option<String> {
    if media_type.contains("json") {
        let json: Value = serde_json::from_str(text).ok()?;
        let texts = MESSAGE_PATHS.iter().filter_map(|path| json.pointer(path)?.as_str());
        return texts.map(str::to_owned).find(|text| !text.is_empty());
    }
    let line = text.lines().next().unwrap_or_default().trim();
    (media_type == "text/plain" && !line.is_empty()).then(|| line.to_owned())
}
