//! The line to the servers of one account: counted, and made anew when nothing gets through.
//!
//! Connections that are kept for later, and what a proxy or a router remembers of them, may lead
//! to where nobody is any more. A new client shares nothing with the one before.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use reqwest::{Method, Request, RequestBuilder, Response};
use tracing::{debug, warn};
use url::{Origin, Url};

use crate::engine::Failure;
use crate::engine::metrics::{CONNECTION_FAILURES_MAX, ReconnectDecision, add_saturating};
use crate::source::Meter;
use crate::source::http::body::Pace;
use crate::source::http::gate::Attempt;
use crate::source::http::proxies::Ways;
use crate::source::http::{Egress, Limits, host};

#[derive(Debug)]
pub(super) struct Line {
    present: RefCell<Rc<Made>>,
    egress: Egress,
    limits: Limits,
    trusted: Vec<Origin>,
    meter: Meter,
}

/// The ways out, and how often they had been made anew by then.
#[derive(Debug)]
struct Made {
    ways: Ways,
    number: u64,
}

impl Line {
    pub(super) fn new(
        egress: &Egress,
        limits: &Limits,
        trusted: &[Origin],
        meter: Meter,
    ) -> Result<Self, Failure> {
        let number = meter.note(|figures| figures.connection.reconnects);
        let made = Made { ways: Ways::new(egress, limits, trusted)?, number };
        Ok(Self {
            present: RefCell::new(Rc::new(made)),
            egress: egress.clone(),
            limits: limits.clone(),
            trusted: trusted.to_vec(),
            meter,
        })
    }

    /// Begins a request, which is the same on every way.
    pub(super) fn request(&self, method: Method, url: &Url) -> RequestBuilder {
        self.present.borrow().ways.request(method, url)
    }

    /// Sends a request and waits for the head of its answer, whose body has not been read.
    pub(super) async fn send(
        &self,
        request: Request,
        attempt: Attempt,
        pace: &mut Pace<'_>,
    ) -> Result<Response, Failure> {
        if attempt == Attempt::Again {
            self.meter.note(|figures| add_saturating(&mut figures.requests.retries, 1));
        }
        let url = request.url().clone();
        let made = Rc::clone(&self.present.borrow());
        let sent = made.ways.send(request, &url, pace).await;
        if let Err(failure) = &sent {
            self.unanswered(&url, made.number, failure);
        }
        sent
    }

    /// Notes the end of a request whose head came after `latency`; `bytes` of its body were wanted.
    pub(super) fn ended(&self, latency: Duration, bytes: Result<u64, &Failure>) {
        self.meter.note(|figures| {
            figures.record_response(bytes.err().map(|failure| failure.cause), latency);
            add_saturating(&mut figures.requests.bytes_received, bytes.unwrap_or(0));
        });
    }

    fn unanswered(&self, url: &Url, number: u64, failure: &Failure) {
        let renew = self.meter.note(|figures| figures.record_no_response(failure.cause, number));
        let host = host(url);
        match renew {
            ReconnectDecision::Keep => return,
            ReconnectDecision::Reconnect => warn!(
                host,
                "making the client anew: {CONNECTION_FAILURES_MAX} requests in a row got no reply"
            ),
            ReconnectDecision::ReconnectAgain => {
                debug!(host, "making the client anew, still without any reply")
            }
        }
        match Ways::new(&self.egress, &self.limits, &self.trusted) {
            Ok(ways) => {
                let number = self.meter.note(|figures| figures.connection.reconnects);
                self.present.replace(Rc::new(Made { ways, number }));
            }
            Err(failure) => warn!("going on with the client as it is: {failure}"),
        }
    }
}
