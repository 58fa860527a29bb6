//! HTTP client of one account that is recreated when no request gets a response, and counts its
//! requests.
//!
//! Pooled connections, and the state that a proxy or router keeps for them, may lead to a host that
//! is gone. A new client shares nothing with the previous one.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use cynosure_engine::Failure;
use cynosure_engine::metrics::{CONNECTION_FAILURES_MAX, ReconnectDecision, add_saturating};
use reqwest::{Method, Request, RequestBuilder, Response};
use tracing::{debug, warn};
use url::Url;

use crate::limiter::AttemptKind;
use crate::source::http::body::TransferTimer;
use crate::source::http::options::HttpOptions;
use crate::source::http::proxy_clients::ProxyClients;
use crate::source::http::request::host;

#[derive(Debug)]
pub(super) struct ReconnectingClient {
    current: RefCell<Rc<ClientGeneration>>,
    options: Rc<HttpOptions>,
}

/// One generation of clients, and the number of recreations before it.
#[derive(Debug)]
struct ClientGeneration {
    clients: ProxyClients,
    generation: u64,
}

impl ReconnectingClient {
    pub(super) fn new(options: Rc<HttpOptions>) -> Result<Self, Failure> {
        let generation = options.metrics.update(|metrics| metrics.connection.reconnects);
        let first = ClientGeneration {
            clients: ProxyClients::new(
                &options.proxy_mode,
                &options.limits,
                &options.allowed_origins,
            )?,
            generation,
        };
        Ok(Self { current: RefCell::new(Rc::new(first)), options })
    }

    /// Returns the builder of a request that may be sent through any of the proxies.
    pub(super) fn request_builder(&self, method: Method, url: &Url) -> RequestBuilder {
        self.current.borrow().clients.request_builder(method, url)
    }

    /// Sends a request and waits for the head of its response. The body is not read yet.
    pub(super) async fn send(
        &self,
        request: Request,
        attempt: AttemptKind,
        timer: &mut TransferTimer<'_>,
    ) -> Result<Response, Failure> {
        if attempt == AttemptKind::Retry {
            self.options.metrics.update(|metrics| add_saturating(&mut metrics.requests.retries, 1));
        }
        let url = request.url().clone();
        let current = Rc::clone(&self.current.borrow());
        let result = current.clients.send(request, &url, timer).await;
        if let Err(failure) = &result {
            self.record_no_response(&url, current.generation, failure);
        }
        result
    }

    /// Records the end of a request whose response head came after `latency`: the bytes received of
    /// its body, or its failure.
    pub(super) fn record_response(&self, latency: Duration, received: Result<u64, &Failure>) {
        self.options.metrics.update(|metrics| {
            metrics.record_response(received.err().map(|failure| failure.cause), latency);
            add_saturating(&mut metrics.requests.bytes_received, received.unwrap_or(0));
        });
    }

    fn record_no_response(&self, url: &Url, generation: u64, failure: &Failure) {
        let decision = self
            .options
            .metrics
            .update(|metrics| metrics.record_no_response(failure.cause, generation));
        let host = host(url);
        match decision {
            ReconnectDecision::Keep => return,
            ReconnectDecision::Reconnect => warn!(
                host,
                failures = CONNECTION_FAILURES_MAX,
                "recreating the HTTP client after consecutive requests without a response"
            ),
            ReconnectDecision::ReconnectAgain => {
                debug!(host, "recreating the HTTP client again, still without a response");
            }
        }
        match ProxyClients::new(
            &self.options.proxy_mode,
            &self.options.limits,
            &self.options.allowed_origins,
        ) {
            Ok(clients) => {
                let generation =
                    self.options.metrics.update(|metrics| metrics.connection.reconnects);
                self.current.replace(Rc::new(ClientGeneration { clients, generation }));
            }
            Err(failure) => {
                warn!(
                    host, error = %failure,
                    "cannot recreate the HTTP client, keeping the current one"
                );
            }
        }
    }
}
