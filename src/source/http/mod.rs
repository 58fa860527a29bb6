//! HTTP client shared by all kinds of sources; each account has its own.
//!
//! It follows allowed redirects only, retries broken requests quickly, and returns a complete
//! response or an [`HttpError`]. No other module handles status codes or transport errors.

mod array_truncator;
mod attempts;
mod body;
mod error_response;
mod link_header;
mod options;
mod proxies;
mod proxy_clients;
mod quota_rules;
mod reconnect;
mod request;
mod response;
mod transport;

use std::rc::Rc;
use std::time::Duration;

use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, LOCATION};
pub use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Request, Response, StatusCode};
use serde_json::Value;
use tokio::time::Instant;
use url::Url;

pub use self::array_truncator::BufferLimits;
pub use self::attempts::AttemptTracker;
use self::body::TransferTimer;
use self::error_response::ErrorContext;
pub use self::error_response::HttpError;
pub use self::options::{HttpOptions, RequestLimits};
pub use self::proxies::{Proxy, ProxyMode, ProxyPoolHealth};
pub use self::quota_rules::QuotaRules;
use self::reconnect::ReconnectingClient;
use self::request::host;
pub use self::request::{Authorization, ExpectedContent, HttpRequest, QuotaUse, RequestBody};
pub use self::response::BufferedResponse;
use self::response::ResponseHead;
use cynosure_engine::rate_limit::ResponseOutcome;
use cynosure_engine::{Cause, Failure, ThrottleStrikes, Timestamp};

use crate::limiter::{AttemptKind, Permit, PermitRequest, RequestLimiter};
use crate::retry::Retryable as _;
use crate::source::Sink;

/// Maximum redirects of one request: a service that moved twice and a login page; more is a loop.
const REDIRECTS_MAX: u32 = 5;

/// HTTP client of one account.
#[derive(Debug)]
pub struct HttpClient {
    inner: ReconnectingClient,
    options: Rc<HttpOptions>,
    limiter: Rc<dyn RequestLimiter>,
}

struct StreamingResponse {
    response: Response,
    permit: Box<dyn Permit>,
    latency: Duration,
}

impl HttpClient {
    /// Creates a client. Nothing is sent before the first request.
    ///
    /// # Errors
    /// [`Cause::Tls`] without trusted certificates; [`Cause::Proxy`] for an invalid proxy address.
    pub fn new(options: HttpOptions, limiter: Rc<dyn RequestLimiter>) -> Result<Self, Failure> {
        let options = Rc::new(options);
        let inner = ReconnectingClient::new(Rc::clone(&options))?;
        Ok(Self { inner, options, limiter })
    }

    /// Returns the time until which a request waits for the rate limiter; `None` if none waits.
    #[must_use]
    pub fn blocked_until(&self) -> Option<Timestamp> {
        self.limiter.blocked_until()
    }

    /// Returns the current time by the clock of the rate limiter.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.limiter.now()
    }

    /// Checks that the configuration names the URL's server.
    ///
    /// # Errors
    /// [`Cause::Challenge`] for another server: nothing is sent, and no document is blamed.
    pub fn check_origin(&self, url: &Url) -> Result<(), Failure> {
        let has_no_login = url.username().is_empty() && url.password().is_none();
        if has_no_login && self.options.allowed_origins.contains(&url.origin()) {
            return Ok(());
        }
        let origin = url.origin().ascii_serialization();
        Err(Failure::new(
            Cause::Challenge,
            format!(
                "the server refers to {origin}, which is not the origin that the configuration \
                 names: add it to `allow_hosts` if that is intended"
            ),
        ))
    }

    /// Sends a request and reads its response into memory.
    ///
    /// # Errors
    /// The failure of the last attempt, with the body of the error response if there was one.
    pub async fn fetch_buffered(
        &self,
        request: &HttpRequest<'_>,
    ) -> Result<BufferedResponse, HttpError> {
        self.fetch_limited(request, None).await
    }

    /// Sends a request for JSON and holds no more of the response than `buffer_limits` allows.
    ///
    /// # Errors
    /// Like [`fetch_buffered`](Self::fetch_buffered); [`Cause::TooLarge`] beyond `buffer_limits`.
    pub async fn fetch_limited(
        &self,
        request: &HttpRequest<'_>,
        buffer_limits: Option<BufferLimits>,
    ) -> Result<BufferedResponse, HttpError> {
        self.with_retries(request, AttemptKind::First, async |attempt| {
            let mut timer = TransferTimer::new(&self.options.limits);
            let streaming = self.send_request(request, None, attempt, &mut timer).await?;
            let StreamingResponse { response, mut permit, latency } = streaming;
            let head = ResponseHead::of(&response);
            let collected = body::collect(response, buffer_limits, &mut timer).await;
            let (body, received) = match collected {
                Ok(collected) => collected,
                Err(failure) => {
                    self.inner.record_response(latency, Err(&failure));
                    return Err(on_aborted(permit, failure).into());
                }
            };
            // The caller reports JSON that cannot be parsed.
            let json: Option<Value> = request.ok.and_then(|_| serde_json::from_slice(&body).ok());
            let refusal = json.and_then(|json| self.find_refusal(request, &head, &body, &json));
            if let Some(failure) = refusal {
                let failure = self.record_refusal(permit.as_mut(), latency, failure);
                return Err(HttpError { failure, body });
            }
            self.inner.record_response(latency, Ok(received));
            let ResponseHead { url, headers } = head;
            Ok(BufferedResponse { url, body, headers, permit })
        })
        .await
    }

    /// Records that the body of a successful response reports a `failure`. An error rule of the
    /// user or of the profile may replace the cause. The returned failure keeps the response.
    #[must_use]
    pub fn report_body_error(
        &self,
        request: &HttpRequest<'_>,
        response: &mut BufferedResponse,
        failure: Failure,
    ) -> Failure {
        let context = self.error_context(request);
        let failure =
            error_response::reclassify(&response.headers, &response.body, &context, failure);
        record_failed_outcome(response.permit.as_mut(), failure)
    }

    /// Writes a document to `sink` and returns its length, verified against the known lengths.
    ///
    /// # Errors
    /// The failure of the last attempt, or the sink's own failure.
    pub async fn fetch_streaming(
        &self,
        request: &HttpRequest<'_>,
        size: Option<u64>,
        strikes: ThrottleStrikes,
        first: AttemptKind,
        sink: &mut impl Sink,
    ) -> Result<u64, Failure> {
        self.fetch_enveloped(request, size, strikes, first, sink, |_| None).await
    }

    /// Writes the body of a response to `sink`, and returns its length as
    /// [`fetch_streaming`](Self::fetch_streaming) does.
    ///
    /// The body, or what surrounds the document in it, may be JSON: at the end of the body,
    /// `envelope` returns it. JSON that cannot be parsed, and JSON without the sign of success of
    /// the profile, is the failure of the attempt.
    ///
    /// # Errors
    /// Like [`fetch_streaming`](Self::fetch_streaming).
    pub async fn fetch_enveloped<S: Sink>(
        &self,
        request: &HttpRequest<'_>,
        size: Option<u64>,
        strikes: ThrottleStrikes,
        first: AttemptKind,
        sink: &mut S,
        envelope: fn(&S) -> Option<&[u8]>,
    ) -> Result<u64, Failure> {
        body::check_document_size(
            host(request.url),
            size.unwrap_or(0),
            self.options.limits.max_document,
        )?;
        let result = self.with_retries(request, first, async |attempt| {
            if attempt == AttemptKind::Retry {
                sink.rewind().await?;
            }
            let mut timer = TransferTimer::new(&self.options.limits);
            let streaming = self.send_request(request, Some(strikes), attempt, &mut timer).await?;
            let StreamingResponse { response, mut permit, latency } = streaming;
            let head = ResponseHead::of(&response);
            // A body may take minutes, but the rate limit headers of the head are valid now. With a
            // sign of success in the body, only that shows the outcome.
            if request.ok.is_none() || envelope(&*sink).is_none() {
                permit.record_outcome(ResponseOutcome::Accepted);
            }
            let result = body::stream_to(response, size, &mut timer, permit.as_mut(), sink).await;
            let failure = match &result {
                Ok(_) => envelope(&*sink)
                    .and_then(|envelope| self.find_envelope_failure(request, &head, envelope)),
                Err(_) => None,
            };
            if let Some(failure) = failure {
                return Err(self.record_refusal(permit.as_mut(), latency, failure).into());
            }
            self.inner.record_response(latency, result.as_ref().copied());
            match result {
                Ok(length) => Ok(length),
                Err(failure) if failure.is_transient() => Err(on_aborted(permit, failure).into()),
                Err(failure) => Err(failure.into()),
            }
        });
        Ok(result.await?)
    }

    /// Returns the failure of a response by the JSON around its document.
    fn find_envelope_failure(
        &self,
        request: &HttpRequest<'_>,
        head: &ResponseHead,
        envelope: &[u8],
    ) -> Option<Failure> {
        match serde_json::from_slice::<Value>(envelope) {
            Ok(json) => self.find_refusal(request, head, envelope, &json),
            Err(error) => {
                let cause = if error.is_eof() { Cause::Truncated } else { Cause::Challenge };
                let error = request.authorization.secrets().mask(&error.to_string());
                let message = format!("the JSON of {} cannot be parsed: {error}", host(&head.url));
                Some(Failure::new(cause, message))
            }
        }
    }

    /// Returns the failure that a JSON body without the sign of success reports.
    fn find_refusal(
        &self,
        request: &HttpRequest<'_>,
        head: &ResponseHead,
        body: &[u8],
        json: &Value,
    ) -> Option<Failure> {
        request.ok?;
        let ResponseHead { url, headers } = head;
        let reported = self.options.quota_rules.parse_limits(&text_headers(headers), self.now());
        let context = self.error_context(request);
        error_response::find_refusal(url, headers, body, json, &reported, &context)
    }

    /// Records a complete response that reports a failure.
    fn record_refusal(
        &self,
        permit: &mut dyn Permit,
        latency: Duration,
        failure: Failure,
    ) -> Failure {
        let failure = record_failed_outcome(permit, failure);
        self.inner.record_response(latency, Err(&failure));
        failure
    }

    /// Retries failures that may pass within a second; the engine handles all others.
    async fn with_retries<T>(
        &self,
        request: &HttpRequest<'_>,
        first: AttemptKind,
        mut send_once: impl AsyncFnMut(AttemptKind) -> Result<T, HttpError>,
    ) -> Result<T, HttpError> {
        let policy = &self.options.limits.retry_policy;
        let mut tracker = AttemptTracker::default();
        let outcome = policy.run(async || {
            let attempt = tracker.start_attempt(first);
            match send_once(attempt).await {
                Ok(result) => Ok(result),
                Err(error) => {
                    tracker.record_failure(&error.failure);
                    let (scope, _) =
                        self.options.quota_rules.scope_and_cost(request.url, request.quota);
                    let is_budget_exhausted = error.is_retryable()
                        && tracker.attempts() < policy.backoff().max_attempts
                        && !self.limiter.try_take_retry(scope);
                    Err(if is_budget_exhausted { error.into_deferred() } else { error })
                }
            }
        });
        outcome.await.map_err(|retry_error| {
            let error: HttpError = retry_error.into_failure(|breaker| {
                Failure::new(Cause::Server, format!("the circuit breaker {breaker} is open")).into()
            });
            HttpError { failure: tracker.annotate(error.failure), ..error }
        })
    }

    /// Sends the request, follows redirects, and returns an expected response with an unread body.
    async fn send_request(
        &self,
        request: &HttpRequest<'_>,
        strikes: Option<ThrottleStrikes>,
        attempt: AttemptKind,
        timer: &mut TransferTimer<'_>,
    ) -> Result<StreamingResponse, HttpError> {
        let authorization = request.authorization.to_headers()?;
        let mut url = request.url.clone();
        for _ in 0..=REDIRECTS_MAX {
            self.check_origin(&url)?;
            request.expected.check_url(&url)?;
            let outgoing = self.build_request(request, &url, &authorization)?;
            let (scope, cost) = self.options.quota_rules.scope_and_cost(&url, request.quota);
            let permit_request = PermitRequest { scope, cost, attempt, strikes };
            let mut permit = self.limiter.acquire(permit_request).await?;
            let sent_at = Instant::now();
            let response = match self.inner.send(outgoing, attempt, timer).await {
                Ok(response) => response,
                Err(failure) => {
                    if has_reached_server(&failure) {
                        self.options.recorder.record_no_response();
                    }
                    return Err(on_aborted(permit, failure).into());
                }
            };
            let latency = sent_at.elapsed();
            let headers = text_headers(response.headers());
            let status = response.status().as_u16();
            self.options
                .recorder
                .record_response(status, latency, &headers, || request.authorization.secrets());
            let reported = self.options.quota_rules.parse_limits(&headers, self.limiter.now());
            permit.record_response_start(reported.clone(), latency);
            match self.redirect_target(request, &response) {
                Err(failure) => {
                    self.inner.record_response(latency, Err(&failure));
                    return Err(failure.into());
                }
                Ok(Some(next)) => {
                    self.inner.record_response(latency, Ok(0));
                    url = next;
                }
                Ok(None) if error_response::is_expected(&response, request.expected) => {
                    return Ok(StreamingResponse { response, permit, latency });
                }
                Ok(None) => {
                    let context = self.error_context(request);
                    let HttpError { failure, body } =
                        error_response::read_error(response, &reported, timer, &context).await;
                    let failure = self.record_refusal(permit.as_mut(), latency, failure);
                    return Err(HttpError { failure, body });
                }
            }
        }
        let message = format!("more than {REDIRECTS_MAX} redirects at {}", host(&url));
        Err(Failure::new(Cause::Challenge, message).into())
    }

    fn error_context<'a>(&'a self, request: &HttpRequest<'a>) -> ErrorContext<'a> {
        ErrorContext {
            rules: &self.options.error_rules,
            profile: request.rules,
            ok: request.ok,
            scope: request.expected.request_scope(),
            secrets: request.authorization.secrets(),
            now: self.now(),
        }
    }

    fn build_request(
        &self,
        request: &HttpRequest<'_>,
        url: &Url,
        authorization: &[(HeaderName, HeaderValue)],
    ) -> Result<Request, Failure> {
        let content = request.body.content();
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(request.expected.accept()));
        if let Some((media_type, _)) = content {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        }
        for (name, value) in request.headers.iter().chain(authorization) {
            headers.insert(name, value.clone());
        }
        // A compressed body has no length to check, and could be a decompression bomb.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let builder = self.inner.request_builder(request.body.method(), url).headers(headers);
        let builder = match content {
            Some((_, bytes)) => builder.body(bytes.clone()),
            None => builder,
        };
        builder.build().map_err(|error| transport::to_failure(&error, host(url)))
    }

    fn redirect_target(
        &self,
        request: &HttpRequest<'_>,
        response: &Response,
    ) -> Result<Option<Url>, Failure> {
        let is_redirect = matches!(
            response.status(),
            StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT
        );
        if !is_redirect || request.body != RequestBody::None {
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

/// Records the outcome of a response that reports a failure, and returns the failure with the state
/// of the rate limiter.
fn record_failed_outcome(permit: &mut dyn Permit, failure: Failure) -> Failure {
    if let Some(retry_after) = failure.retry_after {
        permit.record_retry_after(retry_after);
    }
    let blocked_until = permit.record_outcome(failure.cause.rate_limit_signal());
    failure.with_blocked_until(blocked_until).with_strikes(permit.strikes())
}

/// Records an aborted request: it counts for the server's health, not for its rate limit.
fn on_aborted(mut permit: Box<dyn Permit>, failure: Failure) -> Failure {
    if has_reached_server(&failure) {
        permit.record_outcome(ResponseOutcome::Failed);
    }
    failure
}

fn has_reached_server(failure: &Failure) -> bool {
    !matches!(failure.cause, Cause::Proxy | Cause::LocalNetwork)
}

fn text_headers(headers: &HeaderMap) -> Vec<(&str, &str)> {
    headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))).collect()
}
