//! Direct connections, or connections through a proxy pool that is never bypassed.
//!
//! Each account has one client per proxy. If a proxy does not let a request through, the next one
//! is tried at once. This is not a retry, because the server was not reached. Only the proxies look
//! up host names, whatever their kind.

use std::collections::BTreeSet;
use std::sync::Arc;

use cynosure_engine::{Cause, Failure, ProxyIndex, Timestamp};
use reqwest::{Method, Request, RequestBuilder, Response, StatusCode};
use tracing::debug;
use url::{Origin, Url};

use crate::source::http::body::TransferTimer;
use crate::source::http::options::RequestLimits;
use crate::source::http::proxies::{Proxy, ProxyMode, ProxyPoolHealth};
use crate::source::http::request::host;
use crate::source::http::transport::{self, FaultCertainty};

/// Clients of one account: one without proxy, or one per proxy.
#[derive(Debug)]
pub(super) enum ProxyClients {
    Direct(reqwest::Client),
    Pool {
        request_builder: reqwest::Client,
        clients: Vec<ProxyClient>,
        health: Arc<ProxyPoolHealth>,
    },
}

/// Client that connects through one proxy.
#[derive(Debug)]
pub(super) struct ProxyClient {
    client: reqwest::Client,
    /// True for an HTTP proxy, which reads requests to `http` URLs and may respond to them itself.
    is_http_proxy: bool,
}

/// Failed attempt to send a request through a proxy.
struct ProxyError {
    proxy: ProxyIndex,
    sent_at: Timestamp,
    certainty: FaultCertainty,
    failure: Failure,
}

impl ProxyClients {
    pub(super) fn new(
        proxy_mode: &ProxyMode,
        limits: &RequestLimits,
        allowed_origins: &[Origin],
    ) -> Result<Self, Failure> {
        match proxy_mode {
            ProxyMode::Direct => {
                transport::build_client(limits, allowed_origins, None).map(Self::Direct)
            }
            ProxyMode::Pool { proxies, health } => {
                let build = |proxy: &Proxy| {
                    let client = transport::build_client(limits, allowed_origins, Some(proxy))?;
                    Ok(ProxyClient { client, is_http_proxy: proxy.url.scheme() == "http" })
                };
                let clients: Vec<ProxyClient> =
                    proxies.iter().map(build).collect::<Result<_, Failure>>()?;
                let Some(first) = clients.first().map(|client| client.client.clone()) else {
                    return Err(Failure::new(Cause::Proxy, "there is no proxy in the pool"));
                };
                Ok(Self::Pool { request_builder: first, clients, health: Arc::clone(health) })
            }
        }
    }

    /// Returns the builder of a request that may be sent through any of the proxies.
    pub(super) fn request_builder(&self, method: Method, url: &Url) -> RequestBuilder {
        match self {
            Self::Direct(client) | Self::Pool { request_builder: client, .. } => {
                client.request(method, url.clone())
            }
        }
    }

    /// Sends a request and waits for the head of its response. The body is not read yet.
    pub(super) async fn send(
        &self,
        request: Request,
        url: &Url,
        timer: &mut TransferTimer<'_>,
    ) -> Result<Response, Failure> {
        match self {
            Self::Direct(client) => {
                let result = timer.wait_for_head(url, client.execute(request)).await?;
                result.map_err(|error| transport::to_failure(&error, host(url)))
            }
            Self::Pool { clients, health, .. } => {
                send_with_failover(clients, health, &request, url, timer).await
            }
        }
    }
}

/// Tries one proxy after the other until one lets the request through.
async fn send_with_failover(
    clients: &[ProxyClient],
    health: &ProxyPoolHealth,
    request: &Request,
    url: &Url,
    timer: &mut TransferTimer<'_>,
) -> Result<Response, Failure> {
    let mut errors: Vec<ProxyError> = Vec::new();
    let mut tried = BTreeSet::new();
    while let Some((index, sent_at)) = health.choose_proxy(&tried) {
        tried.insert(index);
        let (Some(client), Some(request)) = (clients.get(index.0), request.try_clone()) else {
            break;
        };
        match send_through(client, request, url, timer).await? {
            Ok(response) => {
                health.record_success(index, sent_at);
                // This proxy reached the server, so the proxies that possibly failed are at fault.
                for ProxyError { proxy: index, sent_at, failure, .. } in
                    errors.iter().filter(|error| error.certainty == FaultCertainty::Possible)
                {
                    health.record_failure(*index, *sent_at, failure);
                }
                return Ok(response);
            }
            Err((certainty, failure)) => {
                let proxy = health.proxy_name(index);
                debug!(proxy, error = %failure, "proxy failed, trying the next one");
                if certainty == FaultCertainty::Certain {
                    health.record_failure(index, sent_at, &failure);
                }
                errors.push(ProxyError { proxy: index, sent_at, certainty, failure });
            }
        }
    }
    Err(all_proxies_failed(health, url, &errors))
}

/// Outer error: fault of the server or of the request. Inner error: fault of the proxy.
type ProxyAttemptResult = Result<Result<Response, (FaultCertainty, Failure)>, Failure>;

async fn send_through(
    client: &ProxyClient,
    request: Request,
    url: &Url,
    timer: &mut TransferTimer<'_>,
) -> ProxyAttemptResult {
    match timer.wait_for_head(url, client.client.execute(request)).await? {
        // In a tunnel, the server would have sent this response, which is not the proxy's fault.
        Ok(response)
            if response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED
                && client.is_http_proxy
                && url.scheme() == "http" =>
        {
            Ok(Err((
                FaultCertainty::Certain,
                Failure::new(Cause::Proxy, transport::PROXY_AUTH_REQUIRED),
            )))
        }
        Ok(response) => Ok(Ok(response)),
        Err(error) => match transport::proxy_failure(&error, host(url)) {
            Some(proxy_fault) => Ok(Err(proxy_fault)),
            None => Err(transport::to_failure(&error, host(url))),
        },
    }
}

fn all_proxies_failed(health: &ProxyPoolHealth, url: &Url, errors: &[ProxyError]) -> Failure {
    let host = host(url);
    let Some(last) = errors.last() else {
        let message = format!(
            "no proxy is available for {host}: all proxies of `proxy.pool` are dead for now"
        );
        return Failure::new(Cause::Proxy, message);
    };
    let name = health.proxy_name(last.proxy);
    let message = match errors.len() {
        1 => format!("{}; {name} is the only proxy left", last.failure),
        count => format!("{}; {count} proxies failed, the last of them {name}", last.failure),
    };
    Failure::new(Cause::Proxy, message)
}
