//! HTTP client of one account that is recreated when no request gets a response, and counts its
//! requests.
//!
//! Pooled connections, and the state that a proxy or router keeps for them, may lead to a host that
//! is gone. A new client shares nothing with the previous one.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use reqwest::{Method, Request, RequestBuilder, Response};
use tracing::{debug, warn};
use url::{Origin, Url};

use crate::engine::Failure;
use crate::engine::metrics::{CONNECTION_FAILURES_MAX, ReconnectDecision, add_saturating};
use crate::source::MetricsHandle;
use crate::source::http::body::TransferTimer;
use crate::source::http::limiter::AttemptKind;
use crate::source::http::proxies::ProxyClients;
use crate::source::http::{ProxyMode, RequestLimits, host};

#[derive(Debug)]
pub(super) struct ReconnectingClient {
    current: RefCell<Rc<ClientGeneration>>,
    proxy_mode: ProxyMode,
    limits: RequestLimits,
    allowed_origins: Vec<Origin>,
    metrics: MetricsHandle,
}

/// One generation of clients, and the number of recreations before it.
#[derive(Debug)]
struct ClientGeneration {
    clients: ProxyClients,
    generation: u64,
}

impl ReconnectingClient {
    pub(super) fn new(
        egress: &ProxyMode,
        limits: &RequestLimits,
        trusted: &[Origin],
        meter: MetricsHandle,
    ) -> Result<Self, Failure> {
        let number = meter.update(|figures| figures.connection.reconnects);
        let made = ClientGeneration {
            clients: ProxyClients::new(egress, limits, trusted)?,
            generation: number,
        };
        Ok(Self {
            current: RefCell::new(Rc::new(made)),
            proxy_mode: egress.clone(),
            limits: limits.clone(),
            allowed_origins: trusted.to_vec(),
            metrics: meter,
        })
    }

    /// Starts building a request; it is the same for every proxy.
    pub(super) fn request_builder(&self, method: Method, url: &Url) -> RequestBuilder {
        self.current.borrow().clients.request_builder(method, url)
    }

    /// Sends a request and waits for the head of its response. The body is not read yet.
    pub(super) async fn send(
        &self,
        request: Request,
        attempt: AttemptKind,
        pace: &mut TransferTimer<'_>,
    ) -> Result<Response, Failure> {
        if attempt == AttemptKind::Retry {
            self.metrics.update(|figures| add_saturating(&mut figures.requests.retries, 1));
        }
        let url = request.url().clone();
        let made = Rc::clone(&self.current.borrow());
        let sent = made.clients.send(request, &url, pace).await;
        if let Err(failure) = &sent {
            self.record_no_response(&url, made.generation, failure);
        }
        sent
    }

    /// Records the end of a request whose response head came after `latency`; `bytes` of its body
    /// were used.
    pub(super) fn record_response(&self, latency: Duration, bytes: Result<u64, &Failure>) {
        self.metrics.update(|figures| {
            figures.record_response(bytes.err().map(|failure| failure.cause), latency);
            add_saturating(&mut figures.requests.bytes_received, bytes.unwrap_or(0));
        });
    }

    fn record_no_response(&self, url: &Url, number: u64, failure: &Failure) {
        let renew =
            self.metrics.update(|figures| figures.record_no_response(failure.cause, number));
        let host = host(url);
        match renew {
            ReconnectDecision::Keep => return,
            ReconnectDecision::Reconnect => warn!(
                host,
                "making the client anew: {CONNECTION_FAILURES_MAX} requests in a row got no reply"
            ),
            ReconnectDecision::ReconnectAgain => {
                debug!(host, "making the client anew, still without any reply");
            }
        }
        match ProxyClients::new(&self.proxy_mode, &self.limits, &self.allowed_origins) {
            Ok(ways) => {
                let number = self.metrics.update(|figures| figures.connection.reconnects);
                self.current
                    .replace(Rc::new(ClientGeneration { clients: ways, generation: number }));
            }
            Err(failure) => warn!("going on with the client as it is: {failure}"),
        }
    }
}
