//! The way out: straight on, or by one of a pool of proxies and never past them.
//!
//! Each proxy has a client of its own per account. One that does not let a request through is
//! passed over for the next at once: the server was not reached, so that this is no retry of it.
//! Names are looked up by the proxies alone, whatever their kind.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reqwest::{Method, Request, RequestBuilder, Response, StatusCode};
use secrecy::SecretString;
use tokio::time::Instant;
use tracing::{debug, info, warn};
use url::{Origin, Url};

use crate::engine::metrics::ProxyMetrics;
use crate::engine::{
    Cause, Failure, ProxyChange, ProxyHealth, ProxyIndex, ProxyPolicy, ProxyPool, Timestamp,
};
use crate::source::http::body::Pace;
use crate::source::http::transport::{self, Blame};
use crate::source::http::{Limits, host};

/// One proxy: `http`, or `socks5`, at a host and a port.
#[derive(Clone, Debug)]
pub struct Proxy {
    pub url: Url,
    pub login: Option<(String, SecretString)>,
}

/// How the requests of a client leave this machine.
#[derive(Clone, Debug)]
pub enum Egress {
    /// Straight on, or as the environment's proxy variables say; never by a proxy to this machine itself.
    Direct,
    /// By one of these, whatever the environment says and wherever the server is.
    Pool { proxies: Vec<Proxy>, health: Arc<PoolHealth> },
}

/// The health of a pool, shared by all accounts that go out by it.
pub struct PoolHealth {
    names: Vec<String>,
    began: Instant,
    pool: Mutex<ProxyPool>,
}

impl Egress {
    /// How the proxies are, where there is a pool.
    #[must_use]
    pub fn health(&self) -> Option<Arc<PoolHealth>> {
        match self {
            Self::Direct => None,
            Self::Pool { health, .. } => Some(Arc::clone(health)),
        }
    }
}

impl PoolHealth {
    /// Of proxies that are addressed by these URLs.
    #[must_use]
    pub fn new(policy: ProxyPolicy, urls: &[Url]) -> Self {
        Self {
            names: urls.iter().map(name).collect(),
            began: Instant::now(),
            pool: Mutex::new(ProxyPool::new(policy, urls.len())),
        }
    }

    /// How each proxy is, by its name, in the configured order.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(String, ProxyHealth)> {
        self.names.iter().cloned().zip(self.pool().health().iter().copied()).collect()
    }

    /// How many of them are how.
    #[must_use]
    pub fn figures(&self) -> ProxyMetrics {
        ProxyMetrics::from_proxies(self.pool().health().iter(), self.now())
    }

    fn choose(&self, tried: &BTreeSet<ProxyIndex>) -> Option<(ProxyIndex, Timestamp)> {
        let now = self.now();
        self.pool().choose(tried, now).map(|no| (no, now))
    }

    fn answered(&self, no: ProxyIndex, sent: Timestamp) {
        let change = self.pool().record_success(no, sent, self.now());
        if let Some(ProxyChange::Recovered) = change {
            info!(proxy = self.name(no), "proxy back");
        }
    }

    fn failed(&self, no: ProxyIndex, sent: Timestamp, why: &Failure) {
        let (change, proxy) = (self.pool().record_failure(no, sent, self.now()), self.name(no));
        match change {
            Some(ProxyChange::Dead { cooldown }) => warn!(proxy, ?cooldown, "proxy dead: {why}"),
            Some(ProxyChange::StillDead { cooldown }) => {
                debug!(proxy, ?cooldown, "proxy still dead: {why}");
            }
            Some(ProxyChange::Recovered) | None => {}
        }
    }

    fn name(&self, no: ProxyIndex) -> &str {
        self.names.get(no.0).map_or("", String::as_str)
    }

    /// Time since the pool was made: nothing here outlives the process.
    fn now(&self) -> Timestamp {
        Timestamp(0).after(self.began.elapsed())
    }

    fn pool(&self) -> MutexGuard<'_, ProxyPool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for PoolHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolHealth").field("names", &self.names).finish_non_exhaustive()
    }
}

/// The clients of one account, one per way out.
#[derive(Debug)]
pub(super) enum Ways {
    Direct(reqwest::Client),
    Pool { first: reqwest::Client, ways: Vec<Way>, health: Arc<PoolHealth> },
}

/// The way by one proxy.
#[derive(Debug)]
pub(super) struct Way {
    client: reqwest::Client,
    /// It reads requests that are not for https, and may answer them itself.
    speaks_http: bool,
}

/// A request that did not get through a proxy.
struct Stopped {
    no: ProxyIndex,
    sent: Timestamp,
    blame: Blame,
    failure: Failure,
}

impl Ways {
    pub(super) fn new(
        egress: &Egress,
        limits: &Limits,
        trusted: &[Origin],
    ) -> Result<Self, Failure> {
        match egress {
            Egress::Direct => transport::client(limits, trusted, None).map(Self::Direct),
            Egress::Pool { proxies, health } => {
                let way = |proxy: &Proxy| {
                    let client = transport::client(limits, trusted, Some(proxy))?;
                    Ok(Way { client, speaks_http: proxy.url.scheme() == "http" })
                };
                let ways: Vec<Way> = proxies.iter().map(way).collect::<Result<_, Failure>>()?;
                let Some(first) = ways.first().map(|way| way.client.clone()) else {
                    return Err(Failure::new(Cause::Proxy, "there is no proxy in the pool"));
                };
                Ok(Self::Pool { first, ways, health: Arc::clone(health) })
            }
        }
    }

    /// Begins a request, which is the same on every way.
    pub(super) fn request(&self, method: Method, url: &Url) -> RequestBuilder {
        match self {
            Self::Direct(client) | Self::Pool { first: client, .. } => {
                client.request(method, url.clone())
            }
        }
    }

    /// Sends a request and waits for the head of its answer, whose body has not been read.
    pub(super) async fn send(
        &self,
        request: Request,
        url: &Url,
        pace: &mut Pace<'_>,
    ) -> Result<Response, Failure> {
        match self {
            Self::Direct(client) => {
                let sent = pace.head(url, client.execute(request)).await?;
                sent.map_err(|error| transport::failure(&error, host(url)))
            }
            Self::Pool { ways, health, .. } => through(ways, health, &request, url, pace).await,
        }
    }
}

/// Sends a request by one proxy after the other until one lets it through.
async fn through(
    ways: &[Way],
    health: &PoolHealth,
    request: &Request,
    url: &Url,
    pace: &mut Pace<'_>,
) -> Result<Response, Failure> {
    let mut stopped: Vec<Stopped> = Vec::new();
    let mut tried = BTreeSet::new();
    while let Some((no, sent)) = health.choose(&tried) {
        tried.insert(no);
        let (Some(way), Some(request)) = (ways.get(no.0), request.try_clone()) else { break };
        match attempt(way, request, url, pace).await? {
            Ok(response) => {
                health.answered(no, sent);
                // Another proxy leads there, so that those which did not are to blame.
                for Stopped { no, sent, failure, .. } in
                    stopped.iter().filter(|stopped| stopped.blame == Blame::Doubtful)
                {
                    health.failed(*no, *sent, failure);
                }
                return Ok(response);
            }
            Err((blame, failure)) => {
                debug!(proxy = health.name(no), "passed over for the next: {failure}");
                if blame == Blame::Certain {
                    health.failed(no, sent, &failure);
                }
                stopped.push(Stopped { no, sent, blame, failure });
            }
        }
    }
    Err(no_way(health, url, &stopped))
}

/// The outer error is the server's, or of the request; the inner one the proxy's.
type Outcome = Result<Result<Response, (Blame, Failure)>, Failure>;

async fn attempt(way: &Way, request: Request, url: &Url, pace: &mut Pace<'_>) -> Outcome {
    match pace.head(url, way.client.execute(request)).await? {
        // Out of a tunnel it would be the server's word, which no proxy is blamed for.
        Ok(response)
            if response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED
                && way.speaks_http
                && url.scheme() == "http" =>
        {
            Ok(Err((Blame::Certain, Failure::new(Cause::Proxy, transport::WANTS_LOGIN))))
        }
        Ok(response) => Ok(Ok(response)),
        Err(error) => match transport::stopped(&error, host(url)) {
            Some(stopped) => Ok(Err(stopped)),
            None => Err(transport::failure(&error, host(url))),
        },
    }
}

fn no_way(health: &PoolHealth, url: &Url, stopped: &[Stopped]) -> Failure {
    let host = host(url);
    let Some(last) = stopped.last() else {
        let why = format!("no way to {host}: all proxies of `proxy.pool` are dead for now");
        return Failure::new(Cause::Proxy, why);
    };
    let name = health.name(last.no);
    let why = match stopped.len() {
        1 => format!("{}; {name} is the only proxy left", last.failure),
        count => format!("{}; so with {count} proxies, the last of them {name}", last.failure),
    };
    Failure::new(Cause::Proxy, why)
}

/// What a proxy is called in logs.
fn name(url: &Url) -> String {
    let port = url.port_or_known_default().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
}
