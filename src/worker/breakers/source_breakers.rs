//! Circuit breakers of one source, and the permits for its calls.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use cynosure_engine::breaker::{Admission, BreakerPermit, CallSubject, HealthSignal};
use cynosure_engine::{Cause, Failure, RequestScope, Timestamp, format_utc_date_time};
use tokio::sync::watch;

use super::{ARCHIVE, Breakers, LEDGER};
use crate::env::Env;

/// Maximum wait of a source whose breaker was opened manually. Closing the breaker wakes it
/// earlier; but every wait needs an end.
const MANUAL_CHECK_INTERVAL: Duration = Duration::from_secs(86_400);

/// Circuit breakers of one source: provider, ledger and archive.
#[derive(Clone, Debug)]
pub struct SourceBreakers {
    breakers: Rc<Breakers>,
    provider: Rc<str>,
    source: Rc<str>,
}

/// Breaker that rejects calls.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::worker) struct OpenBreaker {
    pub(in crate::worker) name: String,
    /// End of the rejection; `None` until it is closed manually.
    until: Option<Timestamp>,
}

/// Error of a call.
#[derive(Debug)]
pub(in crate::worker) enum CallError {
    Failed(Failure),
    /// The call was not made.
    Rejected(OpenBreaker),
}

/// Decision about a call to the provider.
pub(in crate::worker) enum CallDecision {
    Admitted(CallPermit),
    /// A probe is in flight; ask again after it.
    ProbeInFlight,
    Rejected(OpenBreaker),
}

/// Permit for one call. Dropping it records the call as cancelled.
#[derive(Debug)]
pub(in crate::worker) struct CallPermit {
    breakers: SourceBreakers,
    permit: Option<BreakerPermit>,
}

impl SourceBreakers {
    #[must_use]
    pub fn new(breakers: &Rc<Breakers>, provider: &str, source: &str) -> Self {
        let breakers = Rc::clone(breakers);
        Self { breakers, provider: Rc::from(provider), source: Rc::from(source) }
    }

    /// Requests permission to call the provider.
    pub(in crate::worker) fn try_acquire(&self) -> CallDecision {
        match self.breakers.admit(&self.provider) {
            Admission::Admitted(permit) => {
                CallDecision::Admitted(CallPermit { breakers: self.clone(), permit: Some(permit) })
            }
            Admission::ProbeInFlight => CallDecision::ProbeInFlight,
            Admission::Rejected { until } => {
                CallDecision::Rejected(OpenBreaker { name: self.provider.to_string(), until })
            }
        }
    }

    /// Makes a call that concerns the whole service, as soon as it is permitted.
    pub(in crate::worker) async fn call<T>(
        &self,
        scope: RequestScope,
        call: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, CallError> {
        let mut changes = self.subscribe();
        let permit = loop {
            match self.try_acquire() {
                CallDecision::Admitted(permit) => break permit,
                CallDecision::Rejected(breaker) => return Err(CallError::Rejected(breaker)),
                // The sender lives as long as the breakers, which are held here.
                CallDecision::ProbeInFlight => drop(changes.changed().await),
            }
        };
        let result = call.await;
        permit.record(&CallSubject::Service, scope, result.as_ref().err());
        Ok(result?)
    }

    /// Returns the first open breaker.
    pub(in crate::worker) fn open_breaker(&self) -> Option<OpenBreaker> {
        [&self.provider, LEDGER, ARCHIVE].into_iter().find_map(|name| self.find_open(name))
    }

    /// Returns the breaker that a failure counts for, if it is open.
    pub(in crate::worker) fn open_breaker_for(
        &self,
        cause: Cause,
        scope: RequestScope,
    ) -> Option<OpenBreaker> {
        match (HealthSignal::for_provider(cause, scope), storage_breaker(cause)) {
            (HealthSignal::Failure, _) => self.find_open(&self.provider),
            (HealthSignal::Success | HealthSignal::Neutral, Some(name)) => self.find_open(name),
            (HealthSignal::Success | HealthSignal::Neutral, None) => None,
        }
    }

    /// Records that the provider works, and clears its failures.
    pub(in crate::worker) fn clear_provider_failures(&self) {
        self.breakers.clear_and_record_success(&self.provider);
    }

    /// Records a success of the ledger and the archive.
    pub(in crate::worker) fn record_storage_success(&self) {
        self.breakers.record_named(ARCHIVE, None);
        self.record_ledger_success();
    }

    /// Records a success of the ledger.
    pub(in crate::worker) fn record_ledger_success(&self) {
        self.breakers.record_named(LEDGER, None);
    }

    /// Records a failure of the ledger or the archive; ignores others.
    pub(in crate::worker) fn record_storage_failure(&self, failure: &Failure) {
        if let Some(name) = storage_breaker(failure.cause) {
            self.breakers.record_named(name, Some(failure));
        }
    }

    /// Returns true from the time when a breaker opens until it closes.
    pub(in crate::worker) fn is_in_open_period(&self, name: &str) -> bool {
        self.breakers.is_in_open_period(name)
    }

    /// Makes the provider's breaker half-open if it is closed, because a session failed.
    pub(in crate::worker) fn require_probes(&self) {
        self.breakers.require_probes(&self.provider);
    }

    /// Ends the waits of all breakers, because the user asks for work now.
    pub(in crate::worker) fn half_open_now(&self) {
        for name in [&*self.provider, LEDGER, ARCHIVE] {
            self.breakers.half_open_now(name);
        }
    }

    /// Subscribes to changes of state, and to permission for the next probe.
    pub(in crate::worker) fn subscribe(&self) -> watch::Receiver<u64> {
        self.breakers.subscribe()
    }

    /// Saves changes and applies those of other processes, if that is due.
    pub(in crate::worker) async fn sync<E: Env>(&self, env: &E) {
        self.breakers.sync(env).await;
    }

    /// Saves the counts before the process ends.
    pub(in crate::worker) async fn save<E: Env>(&self, env: &E) {
        self.breakers.save(env).await;
    }

    /// Returns the time of the next synchronisation.
    pub(in crate::worker) fn next_sync_at(&self) -> Timestamp {
        self.breakers.next_sync_at()
    }

    fn find_open(&self, name: &str) -> Option<OpenBreaker> {
        let until = self.breakers.open_until(name)?;
        Some(OpenBreaker { name: name.to_owned(), until })
    }
}

impl CallPermit {
    /// Records the result of a call about an item of the source.
    pub(in crate::worker) fn record_item_result(self, item: i64, failure: Option<&Failure>) {
        let subject = failure.map_or(CallSubject::Service, |_| self.item_subject(item));
        self.record(&subject, RequestScope::Item, failure);
    }

    /// Returns true if this failure of a call about an item would open the breaker.
    pub(in crate::worker) fn would_open(&self, item: i64, failure: &Failure) -> bool {
        let (source_breakers, subject) = (&self.breakers, self.item_subject(item));
        let (name, breakers) = (&source_breakers.provider, &source_breakers.breakers);
        self.permit.is_some_and(|permit| {
            breakers.would_open(name, permit, &subject, RequestScope::Item, failure)
        })
    }

    /// Returns the subject of an item. It names the source, because item numbers of two sources may
    /// be equal.
    fn item_subject(&self, item: i64) -> CallSubject {
        CallSubject::Item(format!("{}/{item}", self.breakers.source))
    }

    /// Records that the call says nothing about the provider.
    pub(in crate::worker) fn record_neutral(mut self) {
        let Some(permit) = self.permit.take() else { return };
        self.breakers.breakers.record_neutral(&self.breakers.provider, permit);
    }

    fn record(mut self, subject: &CallSubject, scope: RequestScope, failure: Option<&Failure>) {
        let Some(permit) = self.permit.take() else { return };
        let source_breakers = &self.breakers;
        source_breakers.breakers.record_result(
            &source_breakers.provider,
            permit,
            subject,
            scope,
            failure,
        );
    }
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.breakers.breakers.record_cancelled(&self.breakers.provider, permit);
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(failure) => failure.fmt(f),
            Self::Rejected(breaker) => write!(f, "the circuit breaker {} is open", breaker.name),
        }
    }
}

impl OpenBreaker {
    /// Returns the time at which the wait ends at the latest.
    pub(in crate::worker) fn wait_until(&self, now: Timestamp) -> Timestamp {
        self.until.unwrap_or_else(|| now.after(MANUAL_CHECK_INTERVAL))
    }

    /// Returns true if the breaker must be closed manually.
    pub(in crate::worker) fn needs_manual_close(&self) -> bool {
        self.until.is_none()
    }

    /// Returns the failure with the state of the breaker added to its message.
    pub(in crate::worker) fn annotate(&self, failure: &Failure) -> Failure {
        Failure { message: format!("{self}: {failure}"), ..failure.clone() }
    }
}

impl fmt::Display for OpenBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        write!(f, "the circuit breaker {name} is open until ")?;
        let Some(until) = self.until else {
            return write!(f, "it is closed with `cynosure breaker close {name}`");
        };
        write!(f, "{} UTC", format_utc_date_time(until))
    }
}

impl From<Failure> for CallError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Returns the storage breaker that a failure concerns, if any.
fn storage_breaker(cause: Cause) -> Option<&'static str> {
    match (HealthSignal::for_storage(cause), cause) {
        (HealthSignal::Failure, Cause::Ledger) => Some(LEDGER),
        (HealthSignal::Failure, _) => Some(ARCHIVE),
        (HealthSignal::Success | HealthSignal::Neutral, _) => None,
    }
}
