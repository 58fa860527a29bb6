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

use super::Offer;
use super::guard::{Refusal, Token, admit};
use super::limiter::{Allowance, Limiter, Purpose, WINDOW};
use crate::endpoint::answer::{Answer, HTML, METRICS, answer, json, problem, seconds, set};
use crate::endpoint::page::{self, NEAR_MAX, Near};
use crate::endpoint::route::{Astray, Focus, Route};
use crate::endpoint::view::{Lookout, Snapshot, Untold};
use crate::endpoint::{documents, events};

/// How long a look at everything is good for: however many ask, it is made once in this time.
const FRESH: Duration = Duration::from_secs(1);

/// The time for one answer: a ledger that is busy for longer is told to be.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Ledgers that are read at once, and readings of all that is measured. A place is held until the reading
/// is over, whether somebody still waits for it or not, so that a disk that hangs is not asked ever more.
const LEDGERS_MAX: usize = 2;
const MEASURINGS_MAX: usize = 1;

/// Calls that block at once: the look at everything is made by one at a time.
pub(super) const BLOCKING_MAX: usize = 1 + LEDGERS_MAX + MEASURINGS_MAX;

/// Pages that are kept up to date at once; more of them still can be loaded again.
const STREAMS_MAX: usize = 16;

/// When to come again where it is too much at once.
const BUSY_PAUSE: Duration = Duration::from_secs(5);

/// What all connections share.
#[derive(Debug)]
pub(in crate::endpoint) struct Service {
    lookout: Arc<dyn Lookout>,
    token: Option<Token>,
    limiter: Mutex<Limiter>,
    started: Instant,
    latest: Arc<AsyncMutex<Latest>>,
    ledgers: Arc<Semaphore>,
    measurings: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    stopped: watch::Receiver<bool>,
}

/// The last look at everything, and when it was made.
type Latest = Option<(Instant, Arc<Snapshot>)>;

/// Why a question was not answered with what was asked for.
#[derive(Debug)]
pub(in crate::endpoint) enum Unanswered {
    /// Whoever knows fell over.
    Broken,
    Untold(Untold),
}

impl Service {
    pub(super) fn new(offer: Offer, stopped: watch::Receiver<bool>) -> Self {
        Self {
            lookout: offer.lookout,
            token: offer.token,
            limiter: Mutex::new(Limiter::new(offer.requests_per_minute)),
            started: Instant::now(),
            latest: Arc::default(),
            ledgers: Arc::new(Semaphore::new(LEDGERS_MAX)),
            measurings: Arc::new(Semaphore::new(MEASURINGS_MAX)),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            stopped,
        }
    }

    pub(super) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: IpAddr,
    ) -> Result<Answer, Infallible> {
        let admitted =
            admit(self.token.as_ref(), request.version(), request.uri(), request.headers());
        let purpose = match (admitted, request.uri().path()) {
            (Err(_), _) => Purpose::Stranger,
            (Ok(()), "/health" | "/metrics") => Purpose::Probe,
            (Ok(()), _) => Purpose::Look,
        };
        let allowance = self.count(peer, purpose);
        let mut answer = match admitted {
            _ if !allowance.is_granted => too_many(&allowance),
            Ok(()) => self.routed(&request).await,
            Err(refusal) => refused(refusal),
        };
        show_limits(&mut answer, purpose, &allowance);
        if !request.body().is_end_stream() {
            // Nothing of it is read: the connection is of no more use.
            set(&mut answer, header::CONNECTION, "close");
        }
        Ok(answer)
    }

    fn count(&self, peer: IpAddr, purpose: Purpose) -> Allowance {
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        limiter.ask(peer, purpose, self.started.elapsed())
    }

    async fn routed(self: &Arc<Self>, request: &Request<Incoming>) -> Answer {
        let route = match Route::of(request.uri().path(), request.uri().query()) {
            Ok(route) => route,
            Err(Astray::Nothing) => {
                return problem(
                    StatusCode::NOT_FOUND,
                    "there is nothing here; / shows what there is",
                );
            }
            Err(Astray::BadParameter(what)) => return problem(StatusCode::BAD_REQUEST, &what),
        };
        let is_head = request.method() == Method::HEAD;
        if !is_head && request.method() != Method::GET {
            let mut answer =
                problem(StatusCode::METHOD_NOT_ALLOWED, "it can only be read: use GET or HEAD");
            set(&mut answer, header::ALLOW, "GET, HEAD");
            return answer;
        }
        if !request.body().is_end_stream() {
            return problem(StatusCode::PAYLOAD_TOO_LARGE, "nothing here takes a body: send none");
        }
        if is_head && let Route::Events(_) = route {
            return events::head();
        }
        let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
        match timeout(ANSWER_TIME_MAX, self.of_route(route, accept)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(unanswered)) => unanswered.into(),
            Err(_elapsed) => unavailable("it takes too long to find out; the disk may be busy"),
        }
    }

    async fn of_route(
        self: &Arc<Self>,
        route: Route,
        accept: Option<&str>,
    ) -> Result<Answer, Unanswered> {
        Ok(match route {
            Route::Style => answer(StatusCode::OK, "text/css; charset=utf-8", page::STYLE),
            Route::Script => answer(StatusCode::OK, "text/javascript; charset=utf-8", page::SCRIPT),
            Route::Icon => answer(StatusCode::OK, "image/svg+xml", page::ICON),
            Route::Description => ok(&documents::description(self.token.is_some())),
            Route::Page(focus) => {
                let (snapshot, near) = self.seen(&focus).await?;
                let is_missing = focus.source.is_some() && near.is_none();
                let status = if is_missing { StatusCode::NOT_FOUND } else { StatusCode::OK };
                answer(status, HTML, page::whole(&snapshot, &focus, near.as_ref()))
            }
            Route::Events(focus) => match Arc::clone(&self.streams).try_acquire_owned() {
                Ok(place) => events::stream(Arc::clone(self), focus, place, self.stopped.clone()),
                Err(_full) => unavailable("too many pages are kept up to date already"),
            },
            Route::Health => {
                let snapshot = self.snapshot().await?;
                let status = if snapshot.is_well() {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                json(status, &documents::health(&snapshot))
            }
            Route::Metrics => self.metrics(accept).await?,
            Route::Overview => ok(&documents::overview(&*self.snapshot().await?)),
            Route::Sources => {
                let snapshot = self.snapshot().await?;
                ok(&json!({ "at": snapshot.at, "sources": snapshot.sources }))
            }
            Route::Providers => {
                let snapshot = self.snapshot().await?;
                ok(&json!({ "at": snapshot.at, "providers": snapshot.providers }))
            }
            Route::Alerts { limit, severity } => {
                ok(&documents::alerts(&*self.snapshot().await?, limit, severity))
            }
            Route::Degradation => ok(&documents::degradation(&*self.snapshot().await?)),
            Route::Trends => ok(&documents::trends(&*self.snapshot().await?)),
            Route::Source { name } => {
                let snapshot = self.snapshot().await?;
                ok(snapshot.source(&name).ok_or(Untold::NoSuchSource)?)
            }
            Route::History { source, limit } => {
                let name = source.clone();
                let passed =
                    self.read_ledger(move |lookout| lookout.history(&source, limit)).await?;
                ok(&json!({ "source": name, "history": passed }))
            }
            Route::Failures { source, limit } => {
                let name = source.clone();
                let failed =
                    self.read_ledger(move |lookout| lookout.failures(&source, limit)).await?;
                ok(&json!({ "source": name, "failures": failed }))
            }
        })
    }

    async fn metrics(&self, accept: Option<&str>) -> Result<Answer, Unanswered> {
        let place = place(&self.measurings).await?;
        let mut answer = if accept.is_some_and(prefers_json) {
            ok(&self.told(place, |lookout| lookout.metrics_json()).await?)
        } else {
            answer(StatusCode::OK, METRICS, self.told(place, |lookout| lookout.metrics()).await?)
        };
        set(&mut answer, header::VARY, "accept");
        Ok(answer)
    }

    /// Everything, not older than [`FRESH`].
    pub(in crate::endpoint) async fn snapshot(&self) -> Result<Arc<Snapshot>, Unanswered> {
        // Whoever comes while it is made waits here, and takes it too.
        let mut latest = Arc::clone(&self.latest).lock_owned().await;
        if let Some((at, snapshot)) = &*latest
            && at.elapsed() < FRESH
        {
            return Ok(Arc::clone(snapshot));
        }
        let lookout = Arc::clone(&self.lookout);
        let made = spawn_blocking(move || {
            let snapshot = Arc::new(lookout.snapshot());
            *latest = Some((Instant::now(), Arc::clone(&snapshot)));
            snapshot
        });
        made.await.map_err(|_fell| Unanswered::Broken)
    }

    /// Everything, and what the page is about to show of one source from near.
    pub(in crate::endpoint) async fn seen(
        &self,
        focus: &Focus,
    ) -> Result<(Arc<Snapshot>, Option<Near>), Unanswered> {
        let snapshot = self.snapshot().await?;
        let source = focus.source.as_ref().filter(|name| snapshot.source(name).is_some());
        let Some(name) = source.cloned() else { return Ok((snapshot, None)) };
        let near = self.read_ledger(move |lookout| {
            Ok(Near {
                history: lookout.history(&name, NEAR_MAX),
                failures: lookout.failures(&name, NEAR_MAX),
                name,
            })
        });
        Ok((snapshot, Some(near.await?)))
    }

    async fn read_ledger<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Lookout) -> Result<T, Untold> + Send + 'static,
    ) -> Result<T, Unanswered> {
        self.told(place(&self.ledgers).await?, read).await
    }

    async fn told<T: Send + 'static>(
        &self,
        place: OwnedSemaphorePermit,
        read: impl FnOnce(&dyn Lookout) -> Result<T, Untold> + Send + 'static,
    ) -> Result<T, Unanswered> {
        let lookout = Arc::clone(&self.lookout);
        let read = spawn_blocking(move || {
            let _place = place;
            read(&*lookout)
        });
        Ok(read.await.map_err(|_fell| Unanswered::Broken)??)
    }
}

async fn place(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Unanswered> {
    Arc::clone(places).acquire_owned().await.map_err(|_closed| Unanswered::Broken)
}

impl From<Untold> for Unanswered {
    fn from(untold: Untold) -> Self {
        Self::Untold(untold)
    }
}

impl From<Unanswered> for Answer {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Broken => problem(
                StatusCode::INTERNAL_SERVER_ERROR,
                "what looks fell over; the log of the monitor says where",
            ),
            Unanswered::Untold(Untold::NoSuchSource) => problem(
                StatusCode::NOT_FOUND,
                "there is no such source; /api/health/sources has all",
            ),
            Unanswered::Untold(Untold::Unreadable(why)) => unavailable(&why),
        }
    }
}

fn ok(value: &impl Serialize) -> Answer {
    json(StatusCode::OK, value)
}

fn unavailable(why: &str) -> Answer {
    let mut answer = problem(StatusCode::SERVICE_UNAVAILABLE, why);
    set(&mut answer, header::RETRY_AFTER, &seconds(BUSY_PAUSE).to_string());
    answer
}

fn refused(refusal: Refusal) -> Answer {
    match refusal {
        Refusal::Unknown => {
            let mut answer = problem(
                StatusCode::UNAUTHORIZED,
                "send the token of the configuration, as a bearer token or as the password of basic auth",
            );
            for scheme in
                ["Bearer realm=\"cynosure\"", "Basic realm=\"cynosure\", charset=\"UTF-8\""]
            {
                set(&mut answer, header::WWW_AUTHENTICATE, scheme);
            }
            answer
        }
        Refusal::WrongName => problem(
            StatusCode::MISDIRECTED_REQUEST,
            "without a token only localhost and loopback addresses such as 127.0.0.1 are answered",
        ),
        Refusal::Foreign => problem(
            StatusCode::FORBIDDEN,
            "pages from elsewhere may lead here, and not load anything from here",
        ),
        Refusal::NoName => problem(StatusCode::BAD_REQUEST, "the request needs one valid Host"),
    }
}

fn too_many(allowance: &Allowance) -> Answer {
    let wait = seconds(allowance.resets_in);
    let detail =
        format!("{} requests a minute are allowed; come back in {wait} s", allowance.quota);
    let mut answer = problem(StatusCode::TOO_MANY_REQUESTS, &detail);
    set(&mut answer, header::RETRY_AFTER, &wait.to_string());
    answer
}

/// In the words of the IETF's draft-ietf-httpapi-ratelimit-headers-10.
fn show_limits(answer: &mut Answer, purpose: Purpose, allowance: &Allowance) {
    let name = match purpose {
        Purpose::Probe => "probe",
        Purpose::Look => "look",
        Purpose::Stranger => "stranger",
    };
    let Allowance { quota, left, resets_in, .. } = allowance;
    let policy = format!("\"{name}\";q={quota};w={}", WINDOW.as_secs());
    let state = format!("\"{name}\";r={left};t={}", seconds(*resets_in));
    set(answer, HeaderName::from_static("ratelimit-policy"), &policy);
    set(answer, HeaderName::from_static("ratelimit"), &state);
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
    use crate::endpoint::view::{Failed, Passed};

    #[test]
    fn json_is_given_to_those_who_want_it_most() {
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
    struct Stuck(Mutex<std::sync::mpsc::Receiver<()>>);

    impl Stuck {
        fn wait(&self) {
            // Whoever lets them go drops the sender.
            self.0.lock().unwrap_or_else(PoisonError::into_inner).recv().unwrap_err();
        }
    }

    impl Lookout for Stuck {
        fn snapshot(&self) -> Snapshot {
            self.wait();
            panic!("nobody waits for it")
        }

        fn history(&self, _source: &str, _limit: usize) -> Result<Vec<Passed>, Untold> {
            self.wait();
            Ok(Vec::new())
        }

        fn failures(&self, _source: &str, _limit: usize) -> Result<Vec<Failed>, Untold> {
            Ok(Vec::new())
        }

        fn metrics(&self) -> Result<String, Untold> {
            self.wait();
            Ok(String::new())
        }

        fn metrics_json(&self) -> Result<Value, Untold> {
            Ok(Value::Null)
        }
    }

    #[tokio::test]
    async fn what_is_being_read_keeps_its_place_though_nobody_waits_any_more() {
        let (let_go, stuck) = std::sync::mpsc::channel();
        let offer = Offer {
            lookout: Arc::new(Stuck(Mutex::new(stuck))),
            token: None,
            requests_per_minute: 1,
        };
        let service = Service::new(offer, watch::channel(false).1);
        // Each is begun, and given up at once.
        for _ in 0..BLOCKING_MAX {
            let history = service.read_ledger(|lookout| lookout.history("work", 1));
            timeout(Duration::ZERO, history).await.unwrap_err();
            timeout(Duration::ZERO, service.metrics(None)).await.unwrap_err();
            timeout(Duration::ZERO, service.snapshot()).await.unwrap_err();
        }

        assert_eq!(service.ledgers.available_permits(), 0);
        assert_eq!(service.measurings.available_permits(), 0);
        assert!(service.latest.try_lock().is_err(), "one look is made at a time");

        drop(let_go);
        service.read_ledger(|lookout| lookout.history("work", 1)).await.unwrap();
        service.metrics(None).await.unwrap();
        drop(service.latest.lock().await);
    }
}
