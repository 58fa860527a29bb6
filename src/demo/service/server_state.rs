//! The side of the service that changes with every request: counts, limits, faults, the token.

use std::io;

use tokio::time::Instant;

use super::DemoRoute;
use super::counters::DemoCounters;
use super::session::CONCURRENT_REQUESTS_MAX;
use crate::demo::bitmap::Bitmap;
use crate::demo::credential::DemoCredential;
use crate::demo::faults::{DownloadFault, FaultPlan, FaultReply};
use crate::demo::mailbox::MessageNumber;

#[derive(Debug)]
pub(super) struct ServerState {
    fault_plan: FaultPlan,
    credential: DemoCredential,
    counters: DemoCounters,
    served_messages: Bitmap,
}

impl ServerState {
    pub(super) fn new(plan: FaultPlan, credential: DemoCredential) -> Self {
        Self {
            fault_plan: plan,
            credential,
            counters: DemoCounters::default(),
            served_messages: Bitmap::default(),
        }
    }

    pub(super) fn counters(&self) -> DemoCounters {
        self.counters.clone()
    }

    pub(super) fn inject_failures(&mut self, refusals: u32) {
        self.fault_plan.inject_failures(refusals);
    }

    /// Counts a request, and tells whether the service is closed to it.
    pub(super) fn on_request(
        &mut self,
        endpoint: &DemoRoute<'_>,
        now: Instant,
    ) -> Option<FaultReply> {
        self.counters.requests += 1;
        match endpoint {
            DemoRoute::Session => self.counters.session_requests += 1,
            DemoRoute::Api => self.counters.api_requests += 1,
            DemoRoute::Download { .. } => self.counters.download_requests += 1,
            DemoRoute::Discovery | DemoRoute::NotFound => {}
        }
        let DemoCounters { messages_served, in_flight, .. } = self.counters;
        let refusal = self.fault_plan.outage_reply(messages_served, in_flight, now);
        refusal.inspect(|refusal| self.count_fault(*refusal))
    }

    pub(super) fn api_fault(&mut self) -> Option<FaultReply> {
        let refusal = self.fault_plan.api_fault();
        refusal.inspect(|refusal| self.count_fault(*refusal))
    }

    pub(super) fn download_fault(
        &mut self,
        message: MessageNumber,
        alone: bool,
    ) -> Option<DownloadFault> {
        let mishap = self.fault_plan.download_fault(message, self.counters.messages_served, alone);
        match mishap? {
            DownloadFault::Reply(refusal) => self.count_fault(refusal),
            DownloadFault::DestroyMessage => self.counters.destroyed_before_download += 1,
            DownloadFault::Delay(_) | DownloadFault::SlowBody => self.counters.slow_responses += 1,
            DownloadFault::TruncatedBody => self.counters.truncated += 1,
        }
        mishap
    }

    /// Takes one of the places for requests in progress, if one is free.
    pub(super) fn try_acquire_slot(&mut self) -> bool {
        if self.counters.in_flight == CONCURRENT_REQUESTS_MAX {
            self.counters.concurrency_limited += 1;
            return false;
        }
        self.counters.in_flight += 1;
        true
    }

    pub(super) fn release_slot(&mut self) {
        self.counters.in_flight -= 1;
    }

    pub(super) fn accepts_token(&self, token: &str) -> bool {
        self.credential.accepts(token)
    }

    pub(super) fn count_authorization(&mut self, is_right: bool) {
        self.counters.unauthorized += u64::from(!is_right);
    }

    pub(super) fn count_method_call(&mut self, method: &'static str) {
        *self.counters.method_calls.entry(method).or_default() += 1;
    }

    pub(super) fn count_served(&mut self, message: MessageNumber, bytes: u64) {
        self.counters.bytes_served += bytes;
        if self.served_messages.insert(message.0) {
            self.counters.messages_served += 1;
        } else {
            self.counters.messages_served_repeatedly += 1;
        }
    }

    /// Tells, once, that the token is refused from now on and a new one is to be made.
    pub(super) fn expire_token_if_due(&mut self) -> bool {
        let is_due = self.fault_plan.take_token_expiry(self.counters.messages_served);
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

    fn count_fault(&mut self, refusal: FaultReply) {
        let counters = &mut self.counters;
        match refusal {
            FaultReply::RateLimited { .. } => counters.rate_limited += 1,
            FaultReply::Unavailable { .. } => counters.unavailable += 1,
            FaultReply::Drop => counters.dropped += 1,
            FaultReply::Html => counters.login_pages += 1,
            FaultReply::ServerError => counters.failing_message_requests += 1,
        }
    }
}
