//! Request handling: authorization, rate limit, routing and response, with a timeout.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderName};
use hyper::{Method, Request, StatusCode};
use serde::Serialize;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};

use super::auth::{AuthError, Token, authorize};
use super::data_reader::{ApiError, DataReader};
use super::limiter::{EndpointLimiter, RateLimitClass, RateLimitDecision, WINDOW};
use crate::endpoint::page;
use crate::endpoint::response::{
    HTML_TYPE, HttpResponse, METRICS_TYPE, append_header, ceil_seconds, json_response,
    problem_response, response,
};
use crate::endpoint::route::{Route, RouteError};
use crate::endpoint::view::{DashboardData, LookupError};
use crate::endpoint::{api, events};

/// Timeout for one response. A ledger that is busy for longer is reported as unavailable.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Concurrent event streams. Further pages can still be reloaded.
const EVENT_STREAMS_MAX: usize = 16;

/// `Retry-After` of a response that reports too much load.
const BUSY_RETRY_AFTER: Duration = Duration::from_secs(5);

/// Data and access rules of a server.
#[derive(Debug)]
pub struct EndpointConfig {
    pub data: Arc<dyn DashboardData>,
    pub token: Option<Token>,
    /// Limit per client address.
    pub requests_per_minute: u32,
}

/// Request handler, shared by all connections.
#[derive(Debug)]
pub(super) struct EndpointService {
    pub(super) reader: Arc<DataReader>,
    token: Option<Token>,
    limiter: Mutex<EndpointLimiter>,
    started_at: Instant,
    stream_permits: Arc<Semaphore>,
    shutdown: watch::Receiver<bool>,
}

impl EndpointService {
    pub(super) fn new(config: EndpointConfig, shutdown: watch::Receiver<bool>) -> Self {
        Self {
            reader: Arc::new(DataReader::new(config.data)),
            token: config.token,
            limiter: Mutex::new(EndpointLimiter::new(config.requests_per_minute)),
            started_at: Instant::now(),
            stream_permits: Arc::new(Semaphore::new(EVENT_STREAMS_MAX)),
            shutdown,
        }
    }

    pub(super) async fn respond(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: IpAddr,
    ) -> Result<HttpResponse, Infallible> {
        let authorization =
            authorize(self.token.as_ref(), request.version(), request.uri(), request.headers());
        let class = match (authorization, request.uri().path()) {
            (Err(_), _) => RateLimitClass::Unauthenticated,
            (Ok(()), "/health" | "/metrics") => RateLimitClass::Probe,
            (Ok(()), _) => RateLimitClass::Dashboard,
        };
        let decision = self.check_rate_limit(peer, class);
        let mut response = match authorization {
            _ if !decision.is_allowed => too_many_requests(&decision),
            Ok(()) => self.dispatch(&request).await,
            Err(error) => auth_error_response(error),
        };
        append_rate_limit_headers(&mut response, class, &decision);
        if !request.body().is_end_stream() {
            // The body is not read, so the connection cannot be reused.
            append_header(&mut response, header::CONNECTION, "close");
        }
        Ok(response)
    }

    fn check_rate_limit(&self, peer: IpAddr, class: RateLimitClass) -> RateLimitDecision {
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        limiter.check(peer, class, self.started_at.elapsed())
    }

    async fn dispatch(self: &Arc<Self>, request: &Request<Incoming>) -> HttpResponse {
        let route = match Route::parse(request.uri().path(), request.uri().query()) {
            Ok(route) => route,
            Err(RouteError::NotFound) => {
                return problem_response(
                    StatusCode::NOT_FOUND,
                    "no such path; / is the dashboard, /api/openapi.json describes the API",
                );
            }
            Err(RouteError::InvalidParameter(reason)) => {
                return problem_response(StatusCode::BAD_REQUEST, &reason);
            }
        };
        let is_head = request.method() == Method::HEAD;
        if !is_head && request.method() != Method::GET {
            let mut response =
                problem_response(StatusCode::METHOD_NOT_ALLOWED, "read-only: use GET or HEAD");
            append_header(&mut response, header::ALLOW, "GET, HEAD");
            return response;
        }
        if !request.body().is_end_stream() {
            return problem_response(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the request must not have a body",
            );
        }
        if is_head && let Route::Events(_) = route {
            return events::event_stream_head();
        }
        let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
        match timeout(RESPONSE_TIMEOUT, self.handle_route(route, accept)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => error.into(),
            Err(_elapsed) => {
                service_unavailable("timed out while reading the data; the disk may be busy")
            }
        }
    }

    async fn handle_route(
        self: &Arc<Self>,
        route: Route,
        accept: Option<&str>,
    ) -> Result<HttpResponse, ApiError> {
        Ok(match route {
            Route::Style => response(StatusCode::OK, "text/css; charset=utf-8", page::STYLESHEET),
            Route::Script => {
                response(StatusCode::OK, "text/javascript; charset=utf-8", page::SCRIPT)
            }
            Route::Icon => response(StatusCode::OK, "image/svg+xml", page::ICON),
            Route::OpenApi => ok_json(&api::openapi(self.token.is_some())),
            Route::Page(filter) => {
                let (snapshot, detail) = self.reader.page_data(&filter).await?;
                let is_missing = filter.source.is_some() && detail.is_none();
                let status = if is_missing { StatusCode::NOT_FOUND } else { StatusCode::OK };
                response(status, HTML_TYPE, page::render_page(&snapshot, &filter, detail.as_ref()))
            }
            Route::Events(filter) => match Arc::clone(&self.stream_permits).try_acquire_owned() {
                Ok(permit) => events::event_stream(
                    Arc::clone(&self.reader),
                    filter,
                    permit,
                    self.shutdown.clone(),
                ),
                Err(_full) => service_unavailable("too many event streams; close a dashboard page"),
            },
            Route::Health => {
                let snapshot = self.reader.snapshot().await?;
                let status = if snapshot.health.is_healthy() {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                json_response(status, &api::health(&snapshot))
            }
            Route::Metrics => self.metrics(accept).await?,
            Route::Overview => ok_json(&api::overview(&*self.reader.snapshot().await?)),
            Route::Sources => ok_json(&api::sources(&*self.reader.snapshot().await?)),
            Route::Providers => ok_json(&api::providers(&*self.reader.snapshot().await?)),
            Route::Alerts { limit, severity } => {
                ok_json(&api::alerts(&*self.reader.snapshot().await?, limit, severity))
            }
            Route::Degradation => ok_json(&api::degradation(&*self.reader.snapshot().await?)),
            Route::Trends => ok_json(&api::trends(&*self.reader.snapshot().await?)),
            Route::Source { name } => {
                let snapshot = self.reader.snapshot().await?;
                ok_json(snapshot.source(&name).ok_or(LookupError::NoSuchSource)?)
            }
            Route::History { source, limit } => {
                let name = source.clone();
                let transitions =
                    self.reader.read_ledger(move |data| data.history(&source, limit)).await?;
                ok_json(&api::history(&name, &transitions))
            }
            Route::Failures { source, limit } => {
                let name = source.clone();
                let items =
                    self.reader.read_ledger(move |data| data.failures(&source, limit)).await?;
                ok_json(&api::failures(&name, &items))
            }
            Route::Summary { source } => {
                let name = source.clone();
                let summary = self.reader.read_ledger(move |data| data.summary(&source)).await?;
                ok_json(&api::summary(&name, &summary))
            }
        })
    }

    async fn metrics(&self, accept: Option<&str>) -> Result<HttpResponse, ApiError> {
        let mut response = if accept.is_some_and(prefers_json) {
            ok_json(&self.reader.read_metrics(|data| data.metrics_json()).await?)
        } else {
            let metrics = self.reader.read_metrics(|data| data.metrics()).await?;
            response(StatusCode::OK, METRICS_TYPE, metrics)
        };
        append_header(&mut response, header::VARY, "accept");
        Ok(response)
    }
}

impl From<ApiError> for HttpResponse {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Panicked => problem_response(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal error; see the log of the monitor",
            ),
            ApiError::Lookup(LookupError::NoSuchSource) => problem_response(
                StatusCode::NOT_FOUND,
                "no such source; /api/health/sources lists all sources",
            ),
            ApiError::Lookup(LookupError::Unreadable(reason)) => service_unavailable(&reason),
        }
    }
}

fn ok_json(value: &impl Serialize) -> HttpResponse {
    json_response(StatusCode::OK, value)
}

fn service_unavailable(reason: &str) -> HttpResponse {
    let mut response = problem_response(StatusCode::SERVICE_UNAVAILABLE, reason);
    append_header(&mut response, header::RETRY_AFTER, &ceil_seconds(BUSY_RETRY_AFTER).to_string());
    response
}

fn auth_error_response(error: AuthError) -> HttpResponse {
    match error {
        AuthError::InvalidToken => {
            let mut response = problem_response(
                StatusCode::UNAUTHORIZED,
                "send the configured token, as a bearer token or as the password of basic auth",
            );
            for scheme in
                ["Bearer realm=\"cynosure\"", "Basic realm=\"cynosure\", charset=\"UTF-8\""]
            {
                append_header(&mut response, header::WWW_AUTHENTICATE, scheme);
            }
            response
        }
        AuthError::ForeignHost => problem_response(
            StatusCode::MISDIRECTED_REQUEST,
            "without endpoint.token, Host must be localhost or a loopback address like 127.0.0.1",
        ),
        AuthError::CrossSite => problem_response(
            StatusCode::FORBIDDEN,
            "cross-site requests are refused; other sites may only link to the page",
        ),
        AuthError::InvalidHost => {
            problem_response(StatusCode::BAD_REQUEST, "the request needs one valid Host header")
        }
    }
}

fn too_many_requests(decision: &RateLimitDecision) -> HttpResponse {
    let wait = ceil_seconds(decision.resets_in);
    let detail = format!("{} requests a minute are allowed; retry in {wait} s", decision.quota);
    let mut response = problem_response(StatusCode::TOO_MANY_REQUESTS, &detail);
    append_header(&mut response, header::RETRY_AFTER, &wait.to_string());
    response
}

/// Appends the headers of draft-ietf-httpapi-ratelimit-headers-10.
fn append_rate_limit_headers(
    response: &mut HttpResponse,
    class: RateLimitClass,
    decision: &RateLimitDecision,
) {
    let name = match class {
        RateLimitClass::Probe => "probe",
        RateLimitClass::Dashboard => "dashboard",
        RateLimitClass::Unauthenticated => "unauthenticated",
    };
    let RateLimitDecision { quota, remaining, resets_in, .. } = decision;
    let policy = format!("\"{name}\";q={quota};w={}", WINDOW.as_secs());
    let state = format!("\"{name}\";r={remaining};t={}", ceil_seconds(*resets_in));
    append_header(response, HeaderName::from_static("ratelimit-policy"), &policy);
    append_header(response, HeaderName::from_static("ratelimit"), &state);
}

/// True if `Accept` names JSON with a higher weight than plain text. Prometheus asks for text, and
/// browsers accept anything.
fn prefers_json(accept: &str) -> bool {
    let weight = |media_type: &str| {
        let ranges = accept.split(',').filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let is_match = parts.next().is_some_and(|range| range.eq_ignore_ascii_case(media_type));
            let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
            is_match.then(|| weight.unwrap_or(1.0))
        });
        ranges.fold(0.0, f32::max)
    };
    let text = weight("text/plain").max(weight("application/openmetrics-text"));
    weight("application/json") > text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_sent_where_accept_prefers_it() {
        for accept in ["application/json", "text/html, Application/JSON;q=0.9, */*"] {
            assert!(prefers_json(accept), "{accept}");
        }
        for accept in [
            "*/*",
            "",
            "text/plain",
            "application/json;q=0.5,text/plain",
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/json;q=0",
        ] {
            assert!(!prefers_json(accept), "{accept}");
        }
    }
}
