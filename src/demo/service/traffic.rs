//! The side of the service that changes with every request: counts, limits, faults, the token.

use std::io;

use tokio::time::Instant;

use super::Endpoint;
use super::counters::Counters;
use super::session::CONCURRENT_REQUESTS_MAX;
use crate::demo::bitmap::Bitmap;
use crate::demo::credential::Credential;
use crate::demo::faults::{Mishap, Plan, Refusal};
use crate::demo::mailbox::MessageNo;

#[derive(Debug)]
pub(super) struct Traffic {
    plan: Plan,
    credential: Credential,
    counters: Counters,
    served: Bitmap,
}

impl Traffic {
    pub(super) fn new(plan: Plan, credential: Credential) -> Self {
        Self { plan, credential, counters: Counters::default(), served: Bitmap::default() }
    }

    pub(super) fn counters(&self) -> Counters {
        self.counters.clone()
    }

    pub(super) fn order_outage(&mut self, refusals: u32) {
        self.plan.order_outage(refusals);
    }

    /// Counts a request, and tells whether the service is closed to it.
    pub(super) fn admit(&mut self, endpoint: &Endpoint<'_>, now: Instant) -> Option<Refusal> {
        self.counters.requests += 1;
        match endpoint {
            Endpoint::Session => self.counters.session_requests += 1,
            Endpoint::Api => self.counters.api_requests += 1,
            Endpoint::Download { .. } => self.counters.download_requests += 1,
            Endpoint::Discovery | Endpoint::Nothing => {}
        }
        let Counters { messages_served, in_flight, .. } = self.counters;
        let refusal = self.plan.refuse(messages_served, in_flight, now);
        refusal.inspect(|refusal| self.count_refusal(*refusal))
    }

    pub(super) fn refuse_api(&mut self) -> Option<Refusal> {
        let refusal = self.plan.refuse_api();
        refusal.inspect(|refusal| self.count_refusal(*refusal))
    }

    pub(super) fn befall_download(&mut self, message: MessageNo, alone: bool) -> Option<Mishap> {
        let mishap = self.plan.befall_download(message, self.counters.messages_served, alone);
        match mishap? {
            Mishap::Refused(refusal) => self.count_refusal(refusal),
            Mishap::Vanish => self.counters.vanished += 1,
            Mishap::Late(_) | Mishap::Drip => self.counters.slow += 1,
            Mishap::Cut => self.counters.cut += 1,
        }
        mishap
    }

    /// Takes one of the places for requests in progress, if one is free.
    pub(super) fn enter(&mut self) -> bool {
        if self.counters.in_flight == CONCURRENT_REQUESTS_MAX {
            self.counters.too_many_at_once += 1;
            return false;
        }
        self.counters.in_flight += 1;
        true
    }

    pub(super) fn leave(&mut self) {
        self.counters.in_flight -= 1;
    }

    pub(super) fn accepts(&self, token: &str) -> bool {
        self.credential.accepts(token)
    }

    pub(super) fn count_authorization(&mut self, is_right: bool) {
        self.counters.unauthorized += u64::from(!is_right);
    }

    pub(super) fn count_call(&mut self, method: &'static str) {
        *self.counters.method_calls.entry(method).or_default() += 1;
    }

    pub(super) fn count_served(&mut self, message: MessageNo, bytes: u64) {
        self.counters.bytes_served += bytes;
        if self.served.insert(message.0) {
            self.counters.messages_served += 1;
        } else {
            self.counters.messages_served_again += 1;
        }
    }

    /// Tells, once, that the token is refused from now on and a new one is to be made.
    pub(super) fn expire_token_if_due(&mut self) -> bool {
        let is_due = self.plan.expires(self.counters.messages_served);
        if is_due {
            self.credential.expire();
            self.counters.token_expiries += 1;
        }
        is_due
    }

    pub(super) fn renew_token(&mut self) -> io::Result<()> {
        self.counters.token_renewals += 1;
        self.credential.renew()
    }

    fn count_refusal(&mut self, refusal: Refusal) {
        let counters = &mut self.counters;
        match refusal {
            Refusal::TooMany { .. } => counters.rate_limited += 1,
            Refusal::Unavailable { .. } => counters.unavailable += 1,
            Refusal::Drop => counters.dropped += 1,
            Refusal::Html => counters.html += 1,
            Refusal::Broken => counters.poisoned += 1,
        }
    }
}
