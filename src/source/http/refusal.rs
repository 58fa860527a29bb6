//! Reads answers that are not what was asked for: status, headers, and the words in the body.

use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use reqwest::{Response, StatusCode};
use serde::Deserialize;

use crate::engine::quota::Signals;
use crate::engine::{Answer, Failure, Said};
use crate::retry::Fault;
use crate::source::http::body::Pace;
use crate::source::http::{Wants, host};

/// How much of a refusal is read for its words, in bytes. Problem details take one kilobyte.
const WORDS_BYTES_MAX: usize = 64 * 1024;

/// Words for "too often", in lower case. Each is the least that a known server says:
/// problem titles and plain bodies of 429, Cyrus's 401, Gmail's 403, and the limit
/// of RFC 8620 §3.6.1 that is about rate.
const TOO_MANY: &[&str] = &[
    "too many",
    "rate limit",
    "ratelimit",
    "limit for logins",
    "quota exceeded",
    "maxconcurrentrequests",
];

/// Words for "this credential is wrong", in lower case. Nothing vaguer: a 401 alone
/// may be a limit in disguise, and these stop the worker until a person comes.
const BAD_CREDENTIAL: &[&str] = &["authentication failed", "invalid credentials"];

/// An answer that is not one, or none at all.
#[derive(Debug)]
pub struct Refusal {
    pub failure: Failure,
    /// What the server wrote about it, cut at a limit; often empty.
    pub body: Bytes,
}

impl Refusal {
    /// It would be tried again at once, had there not been so many retries already.
    pub(super) fn deferred(mut self) -> Self {
        self.failure.is_deferred = true;
        self
    }
}

impl Fault for Refusal {
    fn is_retryable(&self) -> bool {
        self.failure.is_retryable()
    }

    fn told(&self) -> Option<Duration> {
        self.failure.told
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failure.fmt(f)
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self { failure, body: Bytes::new() }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        refusal.failure
    }
}

/// Whether the answer, by its head, is of the wanted kind.
pub(super) fn is_wanted(response: &Response, wants: Wants) -> bool {
    response.status() == StatusCode::OK
        && !is_encoded(response.headers())
        && is_type(&content_type(response.headers()), wants)
}

/// Reads why an answer is not what was asked for.
///
/// A server may repeat to us what it refused: the `secrets` are never quoted.
pub(super) async fn read(
    mut response: Response,
    signals: &Signals,
    pace: &mut Pace<'_>,
    secrets: &[&str],
) -> Refusal {
    let body = words(&mut response, pace).await;
    let headers = response.headers();
    let status = response.status().as_u16();
    let text = String::from_utf8_lossy(&body);
    let answer = Answer {
        status,
        retry_after: signals.told,
        is_exhausted: signals.is_exhausted(),
        said: said(status, &text),
    };
    let encoded = is_encoded(headers);
    let media_type = content_type(headers);
    let quote = if encoded { None } else { quote(&media_type, &text) };
    let quote = quote.map(|quote| without(secrets, quote));

    let mut detail = format!("{status} from {}", host(response.url()));
    match quote {
        Some(quote) => detail.push_str(&format!(": \"{quote}\"")),
        None if encoded => detail.push_str(": compressed, which nobody asked for"),
        None if answer.status == 200 => {
            detail.push_str(&format!(": {media_type} in place of what was asked for"));
        }
        None => {}
    }
    let failure = Failure::new(answer.cause(), detail).told(answer.retry_after);
    Refusal { failure, body }
}

async fn words(response: &mut Response, pace: &mut Pace<'_>) -> Bytes {
    let mut body = BytesMut::new();
    // The status is known; a body that breaks off takes nothing from it.
    while let Ok(Some(chunk)) = pace.chunk(response).await {
        let room = WORDS_BYTES_MAX - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == WORDS_BYTES_MAX {
            break;
        }
    }
    body.freeze()
}

/// Finds out what a body says, where its status leaves a doubt.
pub(in crate::source) fn said(status: u16, text: &str) -> Said {
    let text = text.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    match status {
        200 | 400 | 401 | 403 | 500..=599 if says(TOO_MANY) => Said::TooMany,
        400 | 401 | 403 if says(BAD_CREDENTIAL) => Said::BadCredential,
        _ => Said::Nothing,
    }
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get_all(CONTENT_ENCODING).iter().any(|coding| coding != "identity")
}

/// The media type in lower case without parameters, empty where there is none.
fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_type(media_type: &str, wants: Wants) -> bool {
    let json = media_type == "application/json" || media_type.ends_with("+json");
    match wants {
        Wants::Json => json || media_type.is_empty(),
        Wants::Document => !json && !media_type.contains("html"),
    }
}

/// Returns what is worth quoting: a sentence of problem details (RFC 9457) or a plain line.
fn quote(media_type: &str, text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Problem {
        detail: Option<String>,
        title: Option<String>,
        #[serde(rename = "type")]
        kind: Option<String>,
    }

    if media_type.contains("json") {
        let problem: Problem = serde_json::from_str(text).ok()?;
        return problem.detail.or(problem.title).or(problem.kind);
    }
    let line = text.lines().next().unwrap_or_default().trim();
    (media_type == "text/plain" && !line.is_empty()).then(|| line.to_owned())
}

fn without(secrets: &[&str], quote: String) -> String {
    let secrets = secrets.iter().filter(|secret| !secret.is_empty());
    secrets.fold(quote, |quote, secret| quote.replace(secret, "[secret]"))
}
