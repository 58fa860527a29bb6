//! State of the service that changes with requests: counts, limits, faults, the token.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::counters::DemoCounters;
use super::route::DemoRoute;
use crate::demo::bitmap::Bitmap;
use crate::demo::credential::DemoCredential;
use crate::demo::faults::{DownloadFault, FaultPlan, ResponseFault};
use crate::demo::mailbox::MessageNumber;

/// Counts, planned faults and the token.
#[derive(Debug)]
pub(crate) struct ServerState {
    fault_plan: FaultPlan,
    credential: DemoCredential,
    counters: DemoCounters,
    served_messages: Bitmap,
    /// Maximum number of requests in progress.
    requests_max: u32,
}

/// Purpose of a request to an API other than JMAP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum RequestPurpose {
    Api,
    /// The octets of a message.
    Download,
}

/// Slot of one request in progress. Dropped when the last byte is handed over or the connection
/// ends.
#[derive(Debug)]
pub(crate) struct RequestSlot(Arc<Mutex<ServerState>>);

impl ServerState {
    pub(super) fn new(plan: FaultPlan, credential: DemoCredential, requests_max: u32) -> Self {
        Self {
            fault_plan: plan,
            credential,
            counters: DemoCounters::default(),
            served_messages: Bitmap::default(),
            requests_max,
        }
    }

    pub(super) fn counters(&self) -> DemoCounters {
        self.counters.clone()
    }

    /// Refuses the next `count` requests. Zero ends the refusals.
    pub(crate) fn inject_failures(&mut self, count: u32) {
        self.fault_plan.inject_failures(count);
    }

    /// Counts a request, and returns its fault if an outage refuses it.
    pub(super) fn on_request(
        &mut self,
        route: &DemoRoute<'_>,
        now: Instant,
    ) -> Option<ResponseFault> {
        match route {
            DemoRoute::Session => self.counters.session_requests += 1,
            DemoRoute::Api => self.counters.api_requests += 1,
            DemoRoute::Download { .. } => self.counters.download_requests += 1,
            DemoRoute::Discovery | DemoRoute::NotFound => {}
        }
        self.count_request();
        self.outage_fault(now)
    }

    /// Counts a request to an API other than JMAP, and returns its fault if an outage refuses it.
    pub(crate) fn on_api_request(
        &mut self,
        purpose: RequestPurpose,
        now: Instant,
    ) -> Option<ResponseFault> {
        match purpose {
            RequestPurpose::Api => self.counters.api_requests += 1,
            RequestPurpose::Download => self.counters.download_requests += 1,
        }
        self.count_request();
        self.outage_fault(now)
    }

    pub(crate) fn count_request(&mut self) {
        self.counters.requests += 1;
    }

    /// Returns the fault of a request, or of a part of it, if an outage refuses it.
    pub(crate) fn outage_fault(&mut self, now: Instant) -> Option<ResponseFault> {
        let DemoCounters { messages_served, in_flight, .. } = self.counters;
        let fault = self.fault_plan.outage_fault(messages_served, in_flight, now);
        fault.inspect(|fault| self.count_fault(*fault))
    }

    pub(crate) fn api_fault(&mut self) -> Option<ResponseFault> {
        let fault = self.fault_plan.api_fault();
        fault.inspect(|fault| self.count_fault(*fault))
    }

    /// Returns true if the listing whose further page is requested is to be disturbed.
    pub(crate) fn take_listing_disturbance(&mut self) -> bool {
        let is_due = self.fault_plan.take_listing_disturbance();
        self.counters.disturbed_listings += u64::from(is_due);
        is_due
    }

    pub(crate) fn download_fault(
        &mut self,
        message: MessageNumber,
        is_only_in_thread: bool,
    ) -> Option<DownloadFault> {
        let fault = self.fault_plan.download_fault(
            message,
            self.counters.messages_served,
            is_only_in_thread,
        );
        match fault? {
            DownloadFault::Response(fault) => self.count_fault(fault),
            DownloadFault::DestroyMessage => self.counters.destroyed_before_download += 1,
            DownloadFault::Delay(_) | DownloadFault::SlowBody => self.counters.slow_responses += 1,
            DownloadFault::TruncatedBody => self.counters.truncated += 1,
        }
        fault
    }

    fn try_acquire_slot(&mut self) -> bool {
        if self.counters.in_flight == self.requests_max {
            self.count_concurrency_limit();
            return false;
        }
        self.counters.in_flight += 1;
        true
    }

    fn release_slot(&mut self) {
        self.counters.in_flight -= 1;
    }

    /// Returns the token that is accepted now, if any.
    pub(crate) fn token(&self) -> Option<&str> {
        self.credential.token()
    }

    pub(crate) fn accepts_token(&self, token: &str) -> bool {
        self.credential.accepts(token)
    }

    pub(crate) fn count_authorization(&mut self, is_authorized: bool) {
        self.counters.unauthorized += u64::from(!is_authorized);
    }

    pub(crate) fn count_mark_read(&mut self) {
        self.counters.mark_read_requests += 1;
    }

    /// Returns the number of responses with 503 or 502.
    pub(crate) fn unavailable_count(&self) -> u64 {
        self.counters.unavailable
    }

    pub(crate) fn count_concurrency_limit(&mut self) {
        self.counters.concurrency_limited += 1;
    }

    pub(super) fn count_method_call(&mut self, method: &'static str) {
        *self.counters.method_calls.entry(method).or_default() += 1;
    }

    fn count_served(&mut self, message: MessageNumber, bytes: u64) {
        self.counters.bytes_served += bytes;
        if self.served_messages.insert(message.0) {
            self.counters.messages_served += 1;
        } else {
            self.counters.messages_served_repeatedly += 1;
        }
    }

    /// Expires the token if that is due. Returns true once, when the caller must renew the token.
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

    fn count_fault(&mut self, fault: ResponseFault) {
        let counters = &mut self.counters;
        match fault {
            ResponseFault::RateLimited { .. } => counters.rate_limited += 1,
            ResponseFault::Unavailable { .. } => counters.unavailable += 1,
            ResponseFault::Drop => counters.dropped += 1,
            ResponseFault::Html => counters.login_pages += 1,
            ResponseFault::ServerError => counters.failing_message_requests += 1,
        }
    }
}

impl RequestSlot {
    /// Takes a slot, if one is free.
    pub(super) fn try_acquire(state: &Arc<Mutex<ServerState>>) -> Option<Self> {
        lock(state).try_acquire_slot().then(|| Self(Arc::clone(state)))
    }

    pub(crate) fn record_served(&self, message: MessageNumber, bytes: u64) {
        lock(&self.0).count_served(message, bytes);
    }
}

impl Drop for RequestSlot {
    fn drop(&mut self) {
        lock(&self.0).release_slot();
    }
}

pub(super) fn lock(state: &Mutex<ServerState>) -> MutexGuard<'_, ServerState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
