//! HTTP client shared by all kinds of sources; each account has its own.
//!
//! It follows allowed redirects only, retries broken requests quickly, and returns a complete
//! response or an [`HttpError`]. No other module handles status codes or transport errors.

mod array_truncator;
mod attempts;
mod body;
mod error_response;
mod options;
mod proxies;
mod proxy_clients;
mod quota_rules;
mod reconnect;
mod request;
mod transport;

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION,
};
use reqwest::{Method, Request, Response, StatusCode};
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
pub use self::request::{Authorization, ExpectedContent, HttpRequest};
use cynosure_engine::rate_limit::ResponseOutcome;
use cynosure_engine::{Cause, Failure, ThrottleStrikes, Timestamp};

use crate::limiter::{AttemptKind, Permit, PermitRequest, RequestLimiter};
use crate::retry::Retryable as _;
use crate::source::Sink;

/// Maximum redirects of one request: a service that moved twice and a login page; more is a loop.
const REDIRECTS_MAX: u32 = 5;

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
                "the server refers to {origin}, which is not the origin of `url`: \
                 add it to `allow_hosts` if that is intended"
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
            let StreamingResponse { response, permit, latency } = streaming;
            let (url, headers) = (response.url().clone(), response.headers().clone());
            let result = body::collect(response, buffer_limits, &mut timer).await;
            self.inner.record_response(latency, result.as_ref().map(|(_, received)| *received));
            match result {
                Ok((body, _)) => Ok(BufferedResponse { url, body, headers, permit }),
                Err(failure) => Err(on_aborted(permit, failure).into()),
            }
        })
        .await
    }

    /// Records that the body of a successful response reports a `failure`. A user's error rule may
    /// replace the cause. The returned failure keeps the response.
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
        if let Some(retry_after) = failure.retry_after {
            response.permit.record_retry_after(retry_after);
        }
        let blocked_until = response.permit.record_outcome(failure.cause.rate_limit_signal());
        failure.with_blocked_until(blocked_until)
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
            // A body may take minutes, but the rate limit headers of the head are valid now.
            permit.record_outcome(ResponseOutcome::Accepted);
            let result = body::stream_to(response, size, &mut timer, permit.as_mut(), sink).await;
            self.inner.record_response(latency, result.as_ref().copied());
            match result {
                Ok(length) => Ok(length),
                Err(failure) if failure.is_transient() => Err(on_aborted(permit, failure).into()),
                Err(failure) => Err(failure.into()),
            }
        });
        Ok(result.await?)
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
                    let (scope, _) = self.options.quota_rules.scope_and_cost(request.url);
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
        let authorization = request.authorization.to_header_value()?;
        let mut url = request.url.clone();
        for _ in 0..=REDIRECTS_MAX {
            self.check_origin(&url)?;
            request.expected.check_url(&url)?;
            let outgoing = self.build_request(request, &url, authorization.clone())?;
            let (scope, cost) = self.options.quota_rules.scope_and_cost(&url);
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
                    let mut error =
                        error_response::read_error(response, &reported, timer, &context).await;
                    if let Some(retry_after) = error.failure.retry_after {
                        permit.record_retry_after(retry_after);
                    }
                    error.failure.blocked_until =
                        permit.record_outcome(error.failure.cause.rate_limit_signal());
                    error.failure = error.failure.with_strikes(permit.strikes());
                    self.inner.record_response(latency, Err(&error.failure));
                    return Err(error);
                }
            }
        }
        let message = format!("more than {REDIRECTS_MAX} redirects at {}", host(&url));
        Err(Failure::new(Cause::Challenge, message).into())
    }

    fn error_context(&self, request: &HttpRequest<'_>) -> ErrorContext<'_> {
        let secrets = request.authorization.secrets();
        ErrorContext {
            rules: &self.options.error_rules,
            scope: request.expected.request_scope(),
            secrets,
        }
    }

    fn build_request(
        &self,
        request: &HttpRequest<'_>,
        url: &Url,
        authorization: HeaderValue,
    ) -> Result<Request, Failure> {
        let accept = match request.expected {
            ExpectedContent::Json => "application/json",
            ExpectedContent::Document => "*/*",
        };
        let builder = match &request.json_body {
            None => self.inner.request_builder(Method::GET, url),
            Some(json) => self
                .inner
                .request_builder(Method::POST, url)
                .header(CONTENT_TYPE, "application/json")
                .body(json.clone()),
        };
        // A compressed body has no length to check, and could be a decompression bomb.
        let builder = builder.header(ACCEPT, accept).header(ACCEPT_ENCODING, "identity");
        let builder = builder.header(AUTHORIZATION, authorization);
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
        if !is_redirect || request.json_body.is_some() {
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
