//! One request and its answer: judged, counted, routed, answered in time.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderName};
use hyper::{Method, Request, StatusCode};
use serde::Serialize;
use serde_json::json;
use tokio::sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};

use super::EndpointConfig;
use super::auth::{AuthError, Token, authorize};
use super::limiter::{EndpointLimiter, RateLimitClass, RateLimitDecision, WINDOW};
use crate::endpoint::page::{self, DETAIL_ROWS_MAX, SourceDetail};
use crate::endpoint::response::{
    HTML_TYPE, HttpResponse, METRICS_TYPE, append_header, ceil_seconds, json_response,
    problem_response, response,
};
use crate::endpoint::route::{PageFilter, Route, RouteError};
use crate::endpoint::view::{DashboardData, LookupError, Snapshot};
use crate::endpoint::{api, events};

/// How long a look at everything is good for: however many ask, it is made once in this time.
const SNAPSHOT_MAX_AGE: Duration = Duration::from_secs(1);

/// The time for one answer: a ledger that is busy for longer is told to be.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Ledgers that are read at once, and readings of all that is measured. A place is held until the reading
/// is over, whether somebody still waits for it or not, so that a disk that hangs is not asked ever more.
const LEDGER_READS_MAX: usize = 2;
const METRICS_READS_MAX: usize = 1;

/// Calls that block at once: the look at everything is made by one at a time.
pub(super) const BLOCKING_THREADS_MAX: usize = 1 + LEDGER_READS_MAX + METRICS_READS_MAX;

/// Pages that are kept up to date at once; more of them still can be loaded again.
const EVENT_STREAMS_MAX: usize = 16;

/// When to come again where it is too much at once.
const BUSY_RETRY_AFTER: Duration = Duration::from_secs(5);

/// What all connections share.
#[derive(Debug)]
pub(in crate::endpoint) struct EndpointService {
    data: Arc<dyn DashboardData>,
    token: Option<Token>,
    limiter: Mutex<EndpointLimiter>,
    started_at: Instant,
    snapshot_cache: Arc<AsyncMutex<SnapshotCache>>,
    ledger_permits: Arc<Semaphore>,
    metrics_permits: Arc<Semaphore>,
    stream_permits: Arc<Semaphore>,
    shutdown: watch::Receiver<bool>,
}

/// The last look at everything, and when it was made.
type SnapshotCache = Option<(Instant, Arc<Snapshot>)>;

/// Why a question was not answered with what was asked for.
#[derive(Debug)]
pub(in crate::endpoint) enum ApiError {
    /// Whoever knows fell over.
    Panicked,
    Lookup(LookupError),
}

impl EndpointService {
    pub(super) fn new(offer: EndpointConfig, stopped: watch::Receiver<bool>) -> Self {
        Self {
            data: offer.data,
            token: offer.token,
            limiter: Mutex::new(EndpointLimiter::new(offer.requests_per_minute)),
            started_at: Instant::now(),
            snapshot_cache: Arc::default(),
            ledger_permits: Arc::new(Semaphore::new(LEDGER_READS_MAX)),
            metrics_permits: Arc::new(Semaphore::new(METRICS_READS_MAX)),
            stream_permits: Arc::new(Semaphore::new(EVENT_STREAMS_MAX)),
            shutdown: stopped,
        }
    }

    pub(super) async fn respond(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: IpAddr,
    ) -> Result<HttpResponse, Infallible> {
        let admitted =
            authorize(self.token.as_ref(), request.version(), request.uri(), request.headers());
        let purpose = match (admitted, request.uri().path()) {
            (Err(_), _) => RateLimitClass::Unauthenticated,
            (Ok(()), "/health" | "/metrics") => RateLimitClass::Probe,
            (Ok(()), _) => RateLimitClass::Dashboard,
        };
        let allowance = self.check_rate_limit(peer, purpose);
        let mut answer = match admitted {
            _ if !allowance.is_allowed => too_many_requests(&allowance),
            Ok(()) => self.dispatch(&request).await,
            Err(refusal) => auth_error_response(refusal),
        };
        append_rate_limit_headers(&mut answer, purpose, &allowance);
        if !request.body().is_end_stream() {
            // Nothing of it is read: the connection is of no more use.
            append_header(&mut answer, header::CONNECTION, "close");
        }
        Ok(answer)
    }

    fn check_rate_limit(&self, peer: IpAddr, purpose: RateLimitClass) -> RateLimitDecision {
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        limiter.check(peer, purpose, self.started_at.elapsed())
    }

    async fn dispatch(self: &Arc<Self>, request: &Request<Incoming>) -> HttpResponse {
        let route = match Route::parse(request.uri().path(), request.uri().query()) {
            Ok(route) => route,
            Err(RouteError::NotFound) => {
                return problem_response(
                    StatusCode::NOT_FOUND,
                    "there is nothing here; / shows what there is",
                );
            }
            Err(RouteError::InvalidParameter(what)) => {
                return problem_response(StatusCode::BAD_REQUEST, &what);
            }
        };
        let is_head = request.method() == Method::HEAD;
        if !is_head && request.method() != Method::GET {
            let mut answer = problem_response(
                StatusCode::METHOD_NOT_ALLOWED,
                "it can only be read: use GET or HEAD",
            );
            append_header(&mut answer, header::ALLOW, "GET, HEAD");
            return answer;
        }
        if !request.body().is_end_stream() {
            return problem_response(
                StatusCode::PAYLOAD_TOO_LARGE,
                "nothing here takes a body: send none",
            );
        }
        if is_head && let Route::Events(_) = route {
            return events::event_stream_head();
        }
        let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
        match timeout(RESPONSE_TIMEOUT, self.handle_route(route, accept)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(unanswered)) => unanswered.into(),
            Err(_elapsed) => {
                service_unavailable("it takes too long to find out; the disk may be busy")
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
            Route::Page(focus) => {
                let (snapshot, near) = self.page_data(&focus).await?;
                let is_missing = focus.source.is_some() && near.is_none();
                let status = if is_missing { StatusCode::NOT_FOUND } else { StatusCode::OK };
                response(status, HTML_TYPE, page::render_page(&snapshot, &focus, near.as_ref()))
            }
            Route::Events(focus) => match Arc::clone(&self.stream_permits).try_acquire_owned() {
                Ok(place) => {
                    events::event_stream(Arc::clone(self), focus, place, self.shutdown.clone())
                }
                Err(_full) => service_unavailable("too many pages are kept up to date already"),
            },
            Route::Health => {
                let snapshot = self.snapshot().await?;
                let status = if snapshot.is_healthy() {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                json_response(status, &api::health(&snapshot))
            }
            Route::Metrics => self.metrics(accept).await?,
            Route::Overview => ok_json(&api::overview(&*self.snapshot().await?)),
            Route::Sources => {
                let snapshot = self.snapshot().await?;
                ok_json(&json!({ "at": snapshot.at, "sources": snapshot.sources }))
            }
            Route::Providers => {
                let snapshot = self.snapshot().await?;
                ok_json(&json!({ "at": snapshot.at, "providers": snapshot.providers }))
            }
            Route::Alerts { limit, severity } => {
                ok_json(&api::alerts(&*self.snapshot().await?, limit, severity))
            }
            Route::Degradation => ok_json(&api::degradation(&*self.snapshot().await?)),
            Route::Trends => ok_json(&api::trends(&*self.snapshot().await?)),
            Route::Source { name } => {
                let snapshot = self.snapshot().await?;
                ok_json(snapshot.source(&name).ok_or(LookupError::NoSuchSource)?)
            }
            Route::History { source, limit } => {
                let name = source.clone();
                let passed =
                    self.read_ledger(move |lookout| lookout.history(&source, limit)).await?;
                ok_json(&json!({ "source": name, "history": passed }))
            }
            Route::Failures { source, limit } => {
                let name = source.clone();
                let failed =
                    self.read_ledger(move |lookout| lookout.failures(&source, limit)).await?;
                ok_json(&json!({ "source": name, "failures": failed }))
            }
        })
    }

    async fn metrics(&self, accept: Option<&str>) -> Result<HttpResponse, ApiError> {
        let place = acquire_permit(&self.metrics_permits).await?;
        let mut answer = if accept.is_some_and(prefers_json) {
            ok_json(&self.run_blocking(place, |lookout| lookout.metrics_json()).await?)
        } else {
            response(
                StatusCode::OK,
                METRICS_TYPE,
                self.run_blocking(place, |lookout| lookout.metrics()).await?,
            )
        };
        append_header(&mut answer, header::VARY, "accept");
        Ok(answer)
    }

    /// Everything, not older than [`FRESH`].
    pub(in crate::endpoint) async fn snapshot(&self) -> Result<Arc<Snapshot>, ApiError> {
        // Whoever comes while it is made waits here, and takes it too.
        let mut latest = Arc::clone(&self.snapshot_cache).lock_owned().await;
        if let Some((at, snapshot)) = &*latest
            && at.elapsed() < SNAPSHOT_MAX_AGE
        {
            return Ok(Arc::clone(snapshot));
        }
        let lookout = Arc::clone(&self.data);
        let made = spawn_blocking(move || {
            let snapshot = Arc::new(lookout.snapshot());
            *latest = Some((Instant::now(), Arc::clone(&snapshot)));
            snapshot
        });
        made.await.map_err(|_fell| ApiError::Panicked)
    }

    /// Everything, and what the page is about to show of one source from near.
    pub(in crate::endpoint) async fn page_data(
        &self,
        focus: &PageFilter,
    ) -> Result<(Arc<Snapshot>, Option<SourceDetail>), ApiError> {
        let snapshot = self.snapshot().await?;
        let source = focus.source.as_ref().filter(|name| snapshot.source(name).is_some());
        let Some(name) = source.cloned() else { return Ok((snapshot, None)) };
        let near = self.read_ledger(move |lookout| {
            Ok(SourceDetail {
                history: lookout.history(&name, DETAIL_ROWS_MAX),
                failures: lookout.failures(&name, DETAIL_ROWS_MAX),
                name,
            })
        });
        Ok((snapshot, Some(near.await?)))
    }

    async fn read_ledger<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn DashboardData) -> Result<T, LookupError> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.run_blocking(acquire_permit(&self.ledger_permits).await?, read).await
    }

    async fn run_blocking<T: Send + 'static>(
        &self,
        place: OwnedSemaphorePermit,
        read: impl FnOnce(&dyn DashboardData) -> Result<T, LookupError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let lookout = Arc::clone(&self.data);
        let read = spawn_blocking(move || {
            let _place = place;
            read(&*lookout)
        });
        Ok(read.await.map_err(|_fell| ApiError::Panicked)??)
    }
}

async fn acquire_permit(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, ApiError> {
    Arc::clone(places).acquire_owned().await.map_err(|_closed| ApiError::Panicked)
}

impl From<LookupError> for ApiError {
    fn from(untold: LookupError) -> Self {
        Self::Lookup(untold)
    }
}

impl From<ApiError> for HttpResponse {
    fn from(unanswered: ApiError) -> Self {
        match unanswered {
            ApiError::Panicked => problem_response(
                StatusCode::INTERNAL_SERVER_ERROR,
                "what looks fell over; the log of the monitor says where",
            ),
            ApiError::Lookup(LookupError::NoSuchSource) => problem_response(
                StatusCode::NOT_FOUND,
                "there is no such source; /api/health/sources has all",
            ),
            ApiError::Lookup(LookupError::Unreadable(why)) => service_unavailable(&why),
        }
    }
}

fn ok_json(value: &impl Serialize) -> HttpResponse {
    json_response(StatusCode::OK, value)
}

fn service_unavailable(why: &str) -> HttpResponse {
    let mut answer = problem_response(StatusCode::SERVICE_UNAVAILABLE, why);
    append_header(&mut answer, header::RETRY_AFTER, &ceil_seconds(BUSY_RETRY_AFTER).to_string());
    answer
}

fn auth_error_response(refusal: AuthError) -> HttpResponse {
    match refusal {
        AuthError::InvalidToken => {
            let mut answer = problem_response(
                StatusCode::UNAUTHORIZED,
                "send the token of the configuration, as a bearer token or as the password of basic auth",
            );
            for scheme in
                ["Bearer realm=\"cynosure\"", "Basic realm=\"cynosure\", charset=\"UTF-8\""]
            {
                append_header(&mut answer, header::WWW_AUTHENTICATE, scheme);
            }
            answer
        }
        AuthError::ForeignHost => problem_response(
            StatusCode::MISDIRECTED_REQUEST,
            "without a token only localhost and loopback addresses such as 127.0.0.1 are answered",
        ),
        AuthError::CrossSite => problem_response(
            StatusCode::FORBIDDEN,
            "pages from elsewhere may lead here, and not load anything from here",
        ),
        AuthError::InvalidHost => {
            problem_response(StatusCode::BAD_REQUEST, "the request needs one valid Host")
        }
    }
}

fn too_many_requests(allowance: &RateLimitDecision) -> HttpResponse {
    let wait = ceil_seconds(allowance.resets_in);
    let detail =
        format!("{} requests a minute are allowed; come back in {wait} s", allowance.quota);
    let mut answer = problem_response(StatusCode::TOO_MANY_REQUESTS, &detail);
    append_header(&mut answer, header::RETRY_AFTER, &wait.to_string());
    answer
}

/// In the words of the IETF's draft-ietf-httpapi-ratelimit-headers-10.
fn append_rate_limit_headers(
    answer: &mut HttpResponse,
    purpose: RateLimitClass,
    allowance: &RateLimitDecision,
) {
    let name = match purpose {
        RateLimitClass::Probe => "probe",
        RateLimitClass::Dashboard => "look",
        RateLimitClass::Unauthenticated => "stranger",
    };
    let RateLimitDecision { quota, remaining: left, resets_in, .. } = allowance;
    let policy = format!("\"{name}\";q={quota};w={}", WINDOW.as_secs());
    let state = format!("\"{name}\";r={left};t={}", ceil_seconds(*resets_in));
    append_header(answer, HeaderName::from_static("ratelimit-policy"), &policy);
    append_header(answer, HeaderName::from_static("ratelimit"), &state);
}

/// Whether JSON is named, and not after plain text: Prometheus asks for text, browsers for anything.
fn prefers_json(accept: &str) -> bool {
    let weight = |wanted: &str| {
        let ranges = accept.split(',').filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let is_meant = parts.next().is_some_and(|range| range.eq_ignore_ascii_case(wanted));
            let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
            is_meant.then(|| weight.unwrap_or(1.0))
        });
        ranges.fold(0.0, f32::max)
    };
    let text = weight("text/plain").max(weight("application/openmetrics-text"));
    weight("application/json") > text
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::endpoint::view::{FailedItem, StateTransition};

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

    /// Looks that last until they are let go.
    #[derive(Debug)]
    struct BlockedData(Mutex<std::sync::mpsc::Receiver<()>>);

    impl BlockedData {
        fn wait_for_release(&self) {
            // Whoever lets them go drops the sender.
            self.0.lock().unwrap_or_else(PoisonError::into_inner).recv().unwrap_err();
        }
    }

    impl DashboardData for BlockedData {
        fn snapshot(&self) -> Snapshot {
            self.wait_for_release();
            panic!("nobody waits for it")
        }

        fn history(
            &self,
            _source: &str,
            _limit: usize,
        ) -> Result<Vec<StateTransition>, LookupError> {
            self.wait_for_release();
            Ok(Vec::new())
        }

        fn failures(&self, _source: &str, _limit: usize) -> Result<Vec<FailedItem>, LookupError> {
            Ok(Vec::new())
        }

        fn metrics(&self) -> Result<String, LookupError> {
            self.wait_for_release();
            Ok(String::new())
        }

        fn metrics_json(&self) -> Result<Value, LookupError> {
            Ok(Value::Null)
        }
    }

    #[tokio::test]
    async fn an_abandoned_read_keeps_its_permit_until_it_ends() {
        let (let_go, stuck) = std::sync::mpsc::channel();
        let offer = EndpointConfig {
            data: Arc::new(BlockedData(Mutex::new(stuck))),
            token: None,
            requests_per_minute: 1,
        };
        let service = EndpointService::new(offer, watch::channel(false).1);
        // Each is begun, and given up at once.
        for _ in 0..BLOCKING_THREADS_MAX {
            let history = service.read_ledger(|lookout| lookout.history("work", 1));
            timeout(Duration::ZERO, history).await.unwrap_err();
            timeout(Duration::ZERO, service.metrics(None)).await.unwrap_err();
            timeout(Duration::ZERO, service.snapshot()).await.unwrap_err();
        }

        assert_eq!(service.ledger_permits.available_permits(), 0);
        assert_eq!(service.metrics_permits.available_permits(), 0);
        assert!(service.snapshot_cache.try_lock().is_err(), "one look is made at a time");

        drop(let_go);
        service.read_ledger(|lookout| lookout.history("work", 1)).await.unwrap();
        service.metrics(None).await.unwrap();
        drop(service.snapshot_cache.lock().await);
    }
}
