//! Rate limiter in front of the embedded mailbox service: it forwards a request or sends 429.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cynosure_lab::demo::{self, DemoServer, FaultLevel};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::limiter::{BenchDecision, BenchLimiter, LimiterKind};

/// Threads of the mailbox: more documents than the fastest limiter accepts in a run.
const ITEMS: u32 = 20_000;

/// Rate limit headers of a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum BenchHeaderMode {
    None,
    /// Retry-After, in a 429.
    RetryAfter,
    /// RateLimit and RateLimit-Policy in each response, and Retry-After in a 429.
    RateLimit,
}

/// Numbers of responses.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ResponseCounts {
    pub(crate) accepted: u32,
    pub(crate) throttled: u32,
}

/// Mailbox service behind a limiter.
pub(crate) struct LimitedServer {
    pub(crate) address: SocketAddr,
    pub(crate) demo: DemoServer,
    proxy: Arc<LimitingProxy>,
}

struct LimitingProxy {
    kind: LimiterKind,
    headers: BenchHeaderMode,
    started_at: Instant,
    /// Time after which responses are not counted any more.
    duration: Duration,
    state: Mutex<(BenchLimiter, ResponseCounts)>,
    client: reqwest::Client,
    demo_address: SocketAddr,
}

impl LimitedServer {
    /// Starts the service and the limiter, whose time begins now.
    pub(crate) async fn start(
        kind: LimiterKind,
        headers: BenchHeaderMode,
        duration: Duration,
    ) -> Self {
        let options =
            demo::DemoOptions { items: ITEMS, faults: FaultLevel::None, ..Default::default() };
        let demo = demo::start(options).expect("the service starts");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it has an address");
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build();
        let proxy = Arc::new(LimitingProxy {
            kind,
            headers,
            started_at: now(),
            duration,
            state: Mutex::new((BenchLimiter::new(kind), ResponseCounts::default())),
            client: client.expect("a client"),
            demo_address: demo.address(),
        });
        tokio::spawn(accept_connections(listener, Arc::clone(&proxy)));
        Self { address, demo, proxy }
    }

    pub(crate) fn counts(&self) -> ResponseCounts {
        self.proxy.state.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

async fn accept_connections(listener: TcpListener, proxy: Arc<LimitingProxy>) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        tokio::spawn(serve_connection(stream, Arc::clone(&proxy)));
    }
}

async fn serve_connection(stream: TcpStream, proxy: Arc<LimitingProxy>) {
    stream.set_nodelay(true).expect("a socket takes options");
    let service = service_fn(move |request| respond(Arc::clone(&proxy), request));
    // A killed client closes its connection in the middle.
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
}

async fn respond(
    proxy: Arc<LimitingProxy>,
    request: Request<Incoming>,
) -> hyper::Result<Response<Full<Bytes>>> {
    let decision = proxy.decide_and_count();
    let mut response = if decision.is_accepted {
        proxy.forward(request).await?
    } else {
        let mut throttle = Response::new(Full::new(Bytes::from_static(b"slow down")));
        *throttle.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        throttle
    };
    proxy.add_headers(&decision, &mut response);
    Ok(response)
}

impl LimitingProxy {
    fn decide_and_count(&self) -> BenchDecision {
        let at = now() - self.started_at;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (limiter, counts) = &mut *state;
        let decision = limiter.decide(at);
        if at < self.duration {
            counts.accepted += u32::from(decision.is_accepted);
            counts.throttled += u32::from(!decision.is_accepted);
        }
        decision
    }

    async fn forward(&self, request: Request<Incoming>) -> hyper::Result<Response<Full<Bytes>>> {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let mut forwarded = self
            .client
            .request(request.method().clone(), format!("http://{}{path}", self.demo_address));
        for name in [AUTHORIZATION, CONTENT_TYPE] {
            if let Some(value) = request.headers().get(&name) {
                forwarded = forwarded.header(name, value);
            }
        }
        let body = request.into_body().collect().await?.to_bytes();
        let mut response = Response::new(Full::default());
        // The service stops at the end of its case, even during a request.
        let Ok(forwarded) = forwarded.body(body).send().await else {
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            return Ok(response);
        };
        *response.status_mut() = forwarded.status();
        *response.headers_mut() = forwarded.headers().clone();
        *response.body_mut() = Full::new(forwarded.bytes().await.unwrap_or_default());
        Ok(response)
    }

    fn add_headers(&self, decision: &BenchDecision, response: &mut Response<Full<Bytes>>) {
        let headers = response.headers_mut();
        let mut insert = |name: &'static str, value: String| {
            headers.insert(name, HeaderValue::from_str(&value).expect("printable"));
        };
        let seconds = |duration: Duration| duration.as_secs_f64().ceil();
        if self.headers != BenchHeaderMode::None && !decision.is_accepted {
            insert("retry-after", seconds(decision.retry_after).to_string());
        }
        if self.headers == BenchHeaderMode::RateLimit {
            let (quota, window) = self.kind.policy();
            insert("ratelimit-policy", format!("\"default\";q={quota};w={window}"));
            let (remaining, reset) = (decision.remaining, seconds(decision.reset));
            insert("ratelimit", format!("\"default\";r={remaining};t={reset}"));
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> Instant {
    Instant::now()
}
