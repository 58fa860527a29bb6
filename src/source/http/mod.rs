//! HTTP client shared by all kinds of sources; each account has its own.
//!
//! It follows allowed redirects only, retries broken requests quickly, and returns a complete
//! response or an [`HttpError`]. No other module handles status codes or transport errors.

mod array_truncator;
mod attempts;
mod body;
mod error_response;
mod limiter;
mod proxies;
mod reconnect;
mod transport;

use std::rc::Rc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use hyper::Uri;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION,
};
use reqwest::{Method, Request, Response, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;
use url::{Origin, Url};

pub use self::array_truncator::BufferLimits;
pub use self::attempts::AttemptTracker;
pub use self::error_response::HttpError;
pub use self::limiter::{AttemptKind, Permit, RequestInfo, RequestLimiter, Unlimited};
pub use self::proxies::{Proxy, ProxyMode, ProxyPoolHealth};

use self::body::TransferTimer;
use self::error_response::ErrorContext;
use self::reconnect::ReconnectingClient;
use crate::engine::rate_limit::ReplyOutcome;
use crate::engine::{Cause, ErrorRule, Failure, RequestScope, Secrets, ThrottleStrikes, Timestamp};
use crate::retry::{RetryPolicy, Retryable as _};
use crate::source::{MetricsHandle, ResponseRecorder, Sink};

/// Maximum redirects of one request: a service that moved twice and a login page; more is a loop.
const REDIRECTS_MAX: u32 = 5;

/// Timeouts, size limits and retry policy of one request.
#[derive(Clone, Debug)]
pub struct RequestLimits {
    /// Quick retries of a broken request, before its failure is returned.
    pub retry_policy: RetryPolicy,
    /// DNS lookup, connection and TLS handshake.
    pub connect_timeout: Duration,
    /// Longest time without data, and the window over which the rate is measured.
    pub idle_timeout: Duration,
    /// Duration of one whole attempt, not counting the time spent on our own disk.
    pub total_timeout: Duration,
    /// Bytes per second of a body; a slower server counts as timed out.
    pub min_rate: u64,
    /// Largest response that is held in memory, in bytes.
    pub max_response: u64,
    /// Largest document, in bytes.
    pub max_document: u64,
}

/// Credential sent with a request.
#[derive(Clone, Debug)]
pub enum Authorization {
    Basic { username: String, password: SecretString },
    Bearer { token: SecretString },
}

/// HTTP request to a server.
#[derive(Debug)]
pub struct HttpRequest<'a> {
    pub url: &'a Url,
    /// JSON body of a POST request; `None` for a GET request.
    pub json_body: Option<Bytes>,
    pub expected: ExpectedContent,
    pub authorization: &'a Authorization,
}

/// Content type that a successful response must have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ExpectedContent {
    Json,
    /// Any type except HTML and JSON, because those are pages and errors in place of a document.
    Document,
}

/// Response held in memory.
#[derive(Debug)]
pub struct BufferedResponse {
    /// URL after redirects: the base of relative URLs in the body.
    pub url: Url,
    pub body: Bytes,
    headers: HeaderMap,
    permit: Box<dyn Permit>,
}

/// HTTP client of one account.
#[derive(Debug)]
pub struct HttpClient {
    inner: ReconnectingClient,
    limits: RequestLimits,
    allowed_origins: Vec<Origin>,
    limiter: Rc<dyn RequestLimiter>,
    error_rules: Vec<ErrorRule>,
    recorder: ResponseRecorder,
}

struct StreamingResponse {
    response: Response,
    permit: Box<dyn Permit>,
    latency: Duration,
}

impl HttpClient {
    /// Creates a client for the `trusted` origins only. `meter` counts its requests.
    ///
    /// # Errors
    /// [`Cause::Tls`] without trusted certificates; [`Cause::Proxy`] for an invalid proxy address.
    pub fn new(
        limits: RequestLimits,
        trusted: Vec<Origin>,
        egress: &ProxyMode,
        gate: Rc<dyn RequestLimiter>,
        meter: MetricsHandle,
    ) -> Result<Self, Failure> {
        let line = ReconnectingClient::new(egress, &limits, &trusted, meter)?;
        Ok(Self {
            inner: line,
            limits,
            allowed_origins: trusted,
            limiter: gate,
            error_rules: Vec::new(),
            recorder: ResponseRecorder::default(),
        })
    }

    /// Returns the time until which a request waits for the rate limiter; `None` if none waits.
    #[must_use]
    pub fn blocked_until(&self) -> Option<Timestamp> {
        self.limiter.blocked_until()
    }

    /// Sets the user's error rules, which take precedence over the built-in ones.
    #[must_use]
    pub fn with_error_rules(mut self, rules: Vec<ErrorRule>) -> Self {
        self.error_rules = rules;
        self
    }

    /// Sets the recorder of all responses, and of requests without a response.
    #[must_use]
    pub fn with_recorder(mut self, recorder: ResponseRecorder) -> Self {
        self.recorder = recorder;
        self
    }

    /// Checks that the configuration names the URL's server.
    ///
    /// # Errors
    /// [`Cause::Challenge`] for another server: nothing is sent, and no document is blamed.
    pub fn check_origin(&self, url: &Url) -> Result<(), Failure> {
        let plain = url.username().is_empty() && url.password().is_none();
        if plain && self.allowed_origins.contains(&url.origin()) {
            return Ok(());
        }
        let origin = url.origin().ascii_serialization();
        Err(Failure::new(
            Cause::Challenge,
            format!(
                "the server sends us to {origin}, which is not where `url` points: \
                 add it to `allow_hosts` if it is right"
            ),
        ))
    }

    /// Sends a request and reads its response into memory.
    ///
    /// # Errors
    /// The failure of the last attempt, with the body of the error response if there was one.
    pub async fn fetch_buffered(
        &self,
        ask: &HttpRequest<'_>,
    ) -> Result<BufferedResponse, HttpError> {
        self.fetch_limited(ask, None).await
    }

    /// Sends a request for JSON and holds no more of the response than `room` allows.
    ///
    /// # Errors
    /// Like [`fetch_buffered`](Self::fetch_buffered); [`Cause::TooLarge`] beyond `room`.
    pub async fn fetch_limited(
        &self,
        ask: &HttpRequest<'_>,
        room: Option<BufferLimits>,
    ) -> Result<BufferedResponse, HttpError> {
        self.with_retries(ask, AttemptKind::First, async |attempt| {
            let mut pace = TransferTimer::new(&self.limits);
            let opened = self.send_request(ask, None, attempt, &mut pace).await?;
            let StreamingResponse { response, permit: passage, latency } = opened;
            let (url, headers) = (response.url().clone(), response.headers().clone());
            let collected = body::collect(response, room, &mut pace).await;
            self.inner.record_response(latency, collected.as_ref().map(|(_, received)| *received));
            match collected {
                Ok((body, _)) => Ok(BufferedResponse { url, body, headers, permit: passage }),
                Err(failure) => Err(on_aborted(passage, failure).into()),
            }
        })
        .await
    }

    /// Records that the body of a successful response reports a `failure`. A user's error rule may
    /// replace the cause. The returned failure keeps the response.
    #[must_use]
    pub fn report_body_error(
        &self,
        ask: &HttpRequest<'_>,
        answered: &mut BufferedResponse,
        failure: Failure,
    ) -> Failure {
        let reading = self.error_context(ask);
        let failure =
            error_response::reclassify(&answered.headers, &answered.body, &reading, failure);
        failure.retry_after.into_iter().for_each(|wait| answered.permit.record_retry_after(wait));
        let held_until = answered.permit.record_outcome(failure.cause.rate_limit_signal());
        failure.with_blocked_until(held_until)
    }

    /// Writes a document to `sink` and returns its length, verified against the known lengths.
    ///
    /// # Errors
    /// The failure of the last attempt, or the sink's own failure.
    pub async fn fetch_streaming(
        &self,
        ask: &HttpRequest<'_>,
        size: Option<u64>,
        strikes: ThrottleStrikes,
        first: AttemptKind,
        sink: &mut impl Sink,
    ) -> Result<u64, Failure> {
        body::check_document_size(host(ask.url), size.unwrap_or(0), self.limits.max_document)?;
        let brought = self.with_retries(ask, first, async |attempt| {
            if attempt == AttemptKind::Retry {
                sink.rewind().await?;
            }
            let mut pace = TransferTimer::new(&self.limits);
            let opened = self.send_request(ask, Some(strikes), attempt, &mut pace).await?;
            let StreamingResponse { response, permit: mut passage, latency } = opened;
            // A body may take minutes, but the rate limit headers of the head are valid now.
            passage.record_outcome(ReplyOutcome::Accepted);
            let poured = body::stream_to(response, size, &mut pace, sink).await;
            self.inner.record_response(latency, poured.as_ref().copied());
            match poured {
                Ok(length) => Ok(length),
                Err(failure) if failure.is_transient() => Err(on_aborted(passage, failure).into()),
                Err(failure) => Err(failure.into()),
            }
        });
        Ok(brought.await?)
    }

    /// Retries failures that may pass within a second; the engine handles all others.
    async fn with_retries<T>(
        &self,
        ask: &HttpRequest<'_>,
        first: AttemptKind,
        mut once: impl AsyncFnMut(AttemptKind) -> Result<T, HttpError>,
    ) -> Result<T, HttpError> {
        let policy = &self.limits.retry_policy;
        let mut tries = AttemptTracker::default();
        let outcome = policy.run(async || {
            let attempt = tries.start_attempt(first);
            match once(attempt).await {
                Ok(result) => Ok(result),
                Err(refusal) => {
                    tries.record_failure(&refusal.failure);
                    let is_cut_short = refusal.is_retryable()
                        && tries.attempts() < policy.backoff().max_attempts
                        && !self.limiter.try_take_retry(request_info(ask.url, AttemptKind::Retry));
                    Err(if is_cut_short { refusal.into_deferred() } else { refusal })
                }
            }
        });
        let outcome = outcome.await;
        outcome.map_err(|gave_up| {
            let refusal: HttpError = gave_up.into_failure(|guard| {
                Failure::new(Cause::Server, format!("{guard} is left alone for a while")).into()
            });
            HttpError { failure: tries.annotate(refusal.failure), ..refusal }
        })
    }

    /// Sends the request, follows redirects, and returns an expected response with an unread body.
    async fn send_request(
        &self,
        ask: &HttpRequest<'_>,
        strikes: Option<ThrottleStrikes>,
        attempt: AttemptKind,
        pace: &mut TransferTimer<'_>,
    ) -> Result<StreamingResponse, HttpError> {
        let authorization = ask.authorization.to_header_value()?;
        let mut url = ask.url.clone();
        for _ in 0..=REDIRECTS_MAX {
            self.check_origin(&url)?;
            ask.expected.check_url(&url)?;
            let request = self.build_request(ask, &url, authorization.clone())?;
            let mut passage = self
                .limiter
                .acquire(RequestInfo { strikes, ..request_info(&url, attempt) })
                .await?;
            let sent_at = Instant::now();
            let response = match self.inner.send(request, attempt, pace).await {
                Ok(response) => response,
                Err(failure) => {
                    if has_reached_server(&failure) {
                        self.recorder.record_no_response();
                    }
                    return Err(on_aborted(passage, failure).into());
                }
            };
            let latency = sent_at.elapsed();
            let headers = text_headers(response.headers());
            let status = response.status().as_u16();
            self.recorder
                .record_response(status, latency, &headers, || ask.authorization.secrets());
            let signals = self.limiter.parse_headers(&headers);
            passage.record_head(signals.clone(), latency);
            match self.redirect_target(ask, &response) {
                Err(failure) => {
                    self.inner.record_response(latency, Err(&failure));
                    return Err(failure.into());
                }
                Ok(Some(next)) => {
                    self.inner.record_response(latency, Ok(0));
                    url = next;
                }
                Ok(None) if error_response::is_expected(&response, ask.expected) => {
                    return Ok(StreamingResponse { response, permit: passage, latency });
                }
                Ok(None) => {
                    let reading = self.error_context(ask);
                    let mut refusal =
                        error_response::read_error(response, &signals, pace, &reading).await;
                    refusal
                        .failure
                        .retry_after
                        .into_iter()
                        .for_each(|wait| passage.record_retry_after(wait));
                    refusal.failure.blocked_until =
                        passage.record_outcome(refusal.failure.cause.rate_limit_signal());
                    refusal.failure = refusal.failure.with_strikes(passage.strikes());
                    self.inner.record_response(latency, Err(&refusal.failure));
                    return Err(refusal);
                }
            }
        }
        let why = format!("more than {REDIRECTS_MAX} redirects at {}", host(&url));
        Err(Failure::new(Cause::Challenge, why).into())
    }

    fn error_context(&self, ask: &HttpRequest<'_>) -> ErrorContext<'_> {
        let secrets = ask.authorization.secrets();
        ErrorContext { rules: &self.error_rules, scope: ask.expected.request_scope(), secrets }
    }

    fn build_request(
        &self,
        ask: &HttpRequest<'_>,
        url: &Url,
        authorization: HeaderValue,
    ) -> Result<Request, Failure> {
        let accept = match ask.expected {
            ExpectedContent::Json => "application/json",
            ExpectedContent::Document => "*/*",
        };
        let request = match &ask.json_body {
            None => self.inner.request_builder(Method::GET, url),
            Some(json) => self
                .inner
                .request_builder(Method::POST, url)
                .header(CONTENT_TYPE, "application/json")
                .body(json.clone()),
        };
        // A compressed body has no length to check, and could be a decompression bomb.
        let request = request.header(ACCEPT, accept).header(ACCEPT_ENCODING, "identity");
        let request = request.header(AUTHORIZATION, authorization);
        request.build().map_err(|error| transport::to_failure(&error, host(url)))
    }

    fn redirect_target(
        &self,
        ask: &HttpRequest<'_>,
        response: &Response,
    ) -> Result<Option<Url>, Failure> {
        let moved = matches!(
            response.status(),
            StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT
        );
        if !moved || ask.json_body.is_some() {
            return Ok(None);
        }
        let location = response.headers().get(LOCATION).map(HeaderValue::to_str);
        let Some(Ok(Ok(next))) = location.map(|text| text.map(|text| response.url().join(text)))
        else {
            return Ok(None);
        };
        self.check_origin(&next)?;
        Ok(Some(next))
    }
}

impl Authorization {
    fn to_header_value(&self) -> Result<HeaderValue, Failure> {
        let value = match self {
            Self::Basic { username, password } => {
                format!("Basic {}", BASE64.encode(basic_credentials(username, password)))
            }
            Self::Bearer { token } => format!("Bearer {}", token.expose_secret()),
        };
        let mut value = HeaderValue::try_from(value).map_err(|_invalid| {
            let why = "the credential has characters that no HTTP header can carry";
            Failure::new(Cause::Unauthorized, why)
        })?;
        value.set_sensitive(true);
        Ok(value)
    }

    pub(in crate::source) fn secrets(&self) -> Secrets {
        match self {
            Self::Basic { username, password } => {
                let user_pass = basic_credentials(username, password);
                let sent = BASE64.encode(&user_pass);
                Secrets::new([password.expose_secret(), &user_pass, &sent])
            }
            Self::Bearer { token } => Secrets::new([token.expose_secret()]),
        }
    }
}

impl ExpectedContent {
    fn request_scope(self) -> RequestScope {
        match self {
            Self::Json => RequestScope::Listing,
            Self::Document => RequestScope::Item,
        }
    }

    /// Rejects a URL over the 64 kB limit of HTTP crates: `TooLarge` for a document, whose URL is
    /// fixed; `Challenge` for a listing, because the server made its URL.
    fn check_url(self, url: &Url) -> Result<(), Failure> {
        let Err(invalid) = Uri::try_from(url.as_str()) else { return Ok(()) };
        let length = url.as_str().len();
        let (cause, what) = match self.request_scope() {
            RequestScope::Item => (Cause::TooLarge, "a document"),
            RequestScope::Listing | RequestScope::Session => (Cause::Challenge, "a listing"),
        };
        let why = format!(
            "{what} of {} has a URL of {length} bytes that no request can be sent to: {invalid}",
            host(url)
        );
        Err(Failure::new(cause, why))
    }
}

/// Returns the user-pass that Basic encodes (RFC 7617 §2).
fn basic_credentials(username: &str, password: &SecretString) -> String {
    format!("{username}:{}", password.expose_secret())
}

/// Records an aborted request: it counts for the server's health, not for its rate limit.
fn on_aborted(mut passage: Box<dyn Permit>, failure: Failure) -> Failure {
    if has_reached_server(&failure) {
        passage.record_outcome(ReplyOutcome::Failed);
    }
    failure
}

fn has_reached_server(failure: &Failure) -> bool {
    !matches!(failure.cause, Cause::Proxy | Cause::LocalNetwork)
}

fn request_info(url: &Url, attempt: AttemptKind) -> RequestInfo<'_> {
    RequestInfo { host: host(url), path: url.path(), attempt, strikes: None }
}

fn text_headers(headers: &HeaderMap) -> Vec<(&str, &str)> {
    headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))).collect()
}

/// Returns the host, the only part of a URL that is ever shown.
fn host(url: &Url) -> &str {
    url.host_str().unwrap_or("the server")
}
