//! The breakers that one source depends on, and the leave to call.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use chrono::DateTime;
use tokio::sync::watch;

use super::{ARCHIVE, Breakers, LEDGER};
use crate::engine::breaker::{
    Admission, BreakerPermit, BreakerState, CallSubject, HealthSignal, ManualCommand,
};
use crate::engine::{Cause, Failure, RequestScope, Timestamp};
use crate::worker::env::Env;

/// When a source that a person keeps from working looks whether it still is kept. It notices
/// sooner when the breaker is closed; a wait must only have an end.
const MANUAL_CHECK_INTERVAL: Duration = Duration::from_secs(86_400);

/// The breakers of one source: its provider's, the ledger's and the archive's.
#[derive(Clone, Debug)]
pub struct SourceBreakers {
    breakers: Rc<Breakers>,
    provider: Rc<str>,
    source: Rc<str>,
}

/// A breaker that lets nothing through.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::worker) struct OpenBreaker {
    pub(in crate::worker) name: String,
    /// `None` until a person closes it.
    until: Option<Timestamp>,
}

/// Why a call brought nothing.
#[derive(Debug)]
pub(in crate::worker) enum CallError {
    Failed(Failure),
    /// It was not made.
    Rejected(OpenBreaker),
}

/// Whether a call to the provider may be made.
pub(in crate::worker) enum CallDecision {
    Admitted(CallPermit),
    /// After the one that is under way.
    ProbeInFlight,
    Rejected(OpenBreaker),
}

/// The leave to make one call. Dropped without a word, the call was given up.
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

    /// Asks for leave to call the provider.
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

    /// Makes a call about the service as a whole, as soon as it may be made.
    pub(in crate::worker) async fn call<T>(
        &self,
        scope: RequestScope,
        call: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, CallError> {
        let mut news = self.subscribe();
        let pass = loop {
            match self.try_acquire() {
                CallDecision::Admitted(pass) => break pass,
                CallDecision::Rejected(shut) => return Err(CallError::Rejected(shut)),
                // The sender lives as long as the breakers, which we hold.
                CallDecision::ProbeInFlight => drop(news.changed().await),
            }
        };
        let end = call.await;
        pass.record(&CallSubject::Service, scope, end.as_ref().err());
        Ok(end?)
    }

    /// The first of the breakers that lets nothing through.
    pub(in crate::worker) fn open_breaker(&self) -> Option<OpenBreaker> {
        [&self.provider, LEDGER, ARCHIVE].into_iter().find_map(|name| self.find_open(name))
    }

    /// The breaker that a failure counts for, if it lets nothing through.
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

    /// Notes that the provider is well, and that what failed before did so by itself.
    pub(in crate::worker) fn clear_provider_failures(&self) {
        self.breakers.clear_and_record_success(&self.provider);
    }

    /// Notes that the ledger did what was asked, and the archive too.
    pub(in crate::worker) fn record_storage_success(&self) {
        self.breakers.record_named(ARCHIVE, None);
        self.record_ledger_success();
    }

    /// Notes that the ledger did what was asked.
    pub(in crate::worker) fn record_ledger_success(&self) {
        self.breakers.record_named(LEDGER, None);
    }

    /// Notes a failure of the ledger or the archive, if it is one.
    pub(in crate::worker) fn record_storage_failure(&self, failure: &Failure) {
        if let Some(name) = storage_breaker(failure.cause) {
            self.breakers.record_named(name, Some(failure));
        }
    }

    pub(in crate::worker) fn is_closed(&self, name: &str) -> bool {
        self.breakers.state(name) == BreakerState::Closed
    }

    /// A person asks for the work now: whatever wait a breaker chose is over.
    pub(in crate::worker) fn half_open_now(&self) {
        for name in [&*self.provider, LEDGER, ARCHIVE] {
            self.breakers.apply_command(name, ManualCommand::TryNow);
        }
    }

    /// Tells when a breaker has changed its state, or lets the next one try.
    pub(in crate::worker) fn subscribe(&self) -> watch::Receiver<u64> {
        self.breakers.subscribe()
    }

    /// Saves what changed, and sees what others have changed, now and then.
    pub(in crate::worker) async fn sync<W: Env>(&self, world: &W) {
        self.breakers.sync(world).await;
    }

    /// Saves what was counted, before the process leaves.
    pub(in crate::worker) async fn save<W: Env>(&self, world: &W) {
        self.breakers.save(world).await;
    }

    /// When what others have changed is seen.
    pub(in crate::worker) fn next_sync_at(&self) -> Timestamp {
        self.breakers.next_sync_at()
    }

    fn find_open(&self, name: &str) -> Option<OpenBreaker> {
        let until = self.breakers.open_until(name)?;
        Some(OpenBreaker { name: name.to_owned(), until })
    }
}

impl CallPermit {
    /// Tells how a call about an item of the source ended.
    pub(in crate::worker) fn record_item_result(self, item: i64, failure: Option<&Failure>) {
        let subject = failure.map_or(CallSubject::Service, |_| self.item_subject(item));
        self.record(&subject, RequestScope::Item, failure);
    }

    /// Tells beforehand whether this failure of the call, about an item, would open the breaker.
    pub(in crate::worker) fn would_open(&self, item: i64, failure: &Failure) -> bool {
        let (circuits, subject) = (&self.breakers, self.item_subject(item));
        let (name, breakers) = (&circuits.provider, &circuits.breakers);
        self.permit.is_some_and(|permit| {
            breakers.would_open(name, permit, &subject, RequestScope::Item, failure)
        })
    }

    /// Two sources may have items of one number.
    fn item_subject(&self, item: i64) -> CallSubject {
        CallSubject::Item(format!("{}/{item}", self.breakers.source))
    }

    /// Tells that the end of a call says nothing of the provider.
    pub(in crate::worker) fn record_neutral(mut self) {
        let Some(permit) = self.permit.take() else { return };
        self.breakers.breakers.record_neutral(&self.breakers.provider, permit);
    }

    fn record(mut self, subject: &CallSubject, scope: RequestScope, failure: Option<&Failure>) {
        let Some(permit) = self.permit.take() else { return };
        let circuits = &self.breakers;
        circuits.breakers.record_result(&circuits.provider, permit, subject, scope, failure);
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
            Self::Rejected(shut) => write!(f, "the circuit of {} is open", shut.name),
        }
    }
}

impl OpenBreaker {
    /// When the wait ends at the latest.
    pub(in crate::worker) fn wait_until(&self, now: Timestamp) -> Timestamp {
        self.until.unwrap_or_else(|| now.after(MANUAL_CHECK_INTERVAL))
    }

    /// Only a person can close it.
    pub(in crate::worker) fn needs_manual_close(&self) -> bool {
        self.until.is_none()
    }

    /// The failure that opened it, which now says so.
    pub(in crate::worker) fn annotate(&self, failure: &Failure) -> Failure {
        Failure { message: format!("{self}: {failure}"), ..failure.clone() }
    }
}

impl fmt::Display for OpenBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        write!(f, "the circuit of {name} is open until ")?;
        let Some(until) = self.until else {
            return write!(f, "a person closes it with `cynosure breaker close {name}`");
        };
        let time = DateTime::from_timestamp(until.unix_seconds(), 0).unwrap_or_default();
        write!(f, "{}", time.format("%Y-%m-%d %H:%M:%S UTC"))
    }
}

impl From<Failure> for CallError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// The breaker of what a failure is about, if that is something of ours.
fn storage_breaker(cause: Cause) -> Option<&'static str> {
    match (HealthSignal::for_storage(cause), cause) {
        (HealthSignal::Failure, Cause::Ledger) => Some(LEDGER),
        (HealthSignal::Failure, _) => Some(ARCHIVE),
        (HealthSignal::Success | HealthSignal::Neutral, _) => None,
    }
}
