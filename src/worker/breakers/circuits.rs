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
use crate::worker::world::World;

/// When a source that a person keeps from working looks whether it still is kept. It notices
/// sooner when the breaker is closed; a wait must only have an end.
const HELD_LOOK: Duration = Duration::from_secs(86_400);

/// The breakers of one source: its provider's, the ledger's and the archive's.
#[derive(Clone, Debug)]
pub struct Circuits {
    breakers: Rc<Breakers>,
    provider: Rc<str>,
    source: Rc<str>,
}

/// A breaker that lets nothing through.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::worker) struct Shut {
    pub(in crate::worker) name: String,
    /// `None` until a person closes it.
    until: Option<Timestamp>,
}

/// Why a call brought nothing.
#[derive(Debug)]
pub(in crate::worker) enum Halt {
    Failed(Failure),
    /// It was not made.
    Shut(Shut),
}

/// Whether a call to the provider may be made.
pub(in crate::worker) enum Entry {
    Go(Pass),
    /// After the one that is under way.
    Busy,
    Shut(Shut),
}

/// The leave to make one call. Dropped without a word, the call was given up.
#[derive(Debug)]
pub(in crate::worker) struct Pass {
    circuits: Circuits,
    permit: Option<BreakerPermit>,
}

impl Circuits {
    #[must_use]
    pub fn new(breakers: &Rc<Breakers>, provider: &str, source: &str) -> Self {
        let breakers = Rc::clone(breakers);
        Self { breakers, provider: Rc::from(provider), source: Rc::from(source) }
    }

    /// Asks for leave to call the provider.
    pub(in crate::worker) fn try_enter(&self) -> Entry {
        match self.breakers.admit(&self.provider) {
            Admission::Admitted(permit) => {
                Entry::Go(Pass { circuits: self.clone(), permit: Some(permit) })
            }
            Admission::ProbeInFlight => Entry::Busy,
            Admission::Rejected { until } => {
                Entry::Shut(Shut { name: self.provider.to_string(), until })
            }
        }
    }

    /// Makes a call about the service as a whole, as soon as it may be made.
    pub(in crate::worker) async fn call<T>(
        &self,
        scope: RequestScope,
        call: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Halt> {
        let mut news = self.news();
        let pass = loop {
            match self.try_enter() {
                Entry::Go(pass) => break pass,
                Entry::Shut(shut) => return Err(Halt::Shut(shut)),
                // The sender lives as long as the breakers, which we hold.
                Entry::Busy => drop(news.changed().await),
            }
        };
        let end = call.await;
        pass.end(&CallSubject::Service, scope, end.as_ref().err());
        Ok(end?)
    }

    /// The first of the breakers that lets nothing through.
    pub(in crate::worker) fn shut(&self) -> Option<Shut> {
        [&self.provider, LEDGER, ARCHIVE].into_iter().find_map(|name| self.shut_by(name))
    }

    /// The breaker that a failure counts for, if it lets nothing through.
    pub(in crate::worker) fn shut_for(&self, cause: Cause, scope: RequestScope) -> Option<Shut> {
        match (HealthSignal::for_provider(cause, scope), storage(cause)) {
            (HealthSignal::Failure, _) => self.shut_by(&self.provider),
            (HealthSignal::Success | HealthSignal::Neutral, Some(name)) => self.shut_by(name),
            (HealthSignal::Success | HealthSignal::Neutral, None) => None,
        }
    }

    /// Notes that the provider is well, and that what failed before did so by itself.
    pub(in crate::worker) fn absolved(&self) {
        self.breakers.absolved(&self.provider);
    }

    /// Notes that the ledger did what was asked, and the archive too.
    pub(in crate::worker) fn stored(&self) {
        self.breakers.note(ARCHIVE, None);
        self.recorded();
    }

    /// Notes that the ledger did what was asked.
    pub(in crate::worker) fn recorded(&self) {
        self.breakers.note(LEDGER, None);
    }

    /// Notes a failure of the ledger or the archive, if it is one.
    pub(in crate::worker) fn not_stored(&self, failure: &Failure) {
        if let Some(name) = storage(failure.cause) {
            self.breakers.note(name, Some(failure));
        }
    }

    pub(in crate::worker) fn is_closed(&self, name: &str) -> bool {
        self.breakers.phase(name) == BreakerState::Closed
    }

    /// A person asks for the work now: whatever wait a breaker chose is over.
    pub(in crate::worker) fn try_now(&self) {
        for name in [&*self.provider, LEDGER, ARCHIVE] {
            self.breakers.obey(name, ManualCommand::TryNow);
        }
    }

    /// Tells when a breaker has changed its state, or lets the next one try.
    pub(in crate::worker) fn news(&self) -> watch::Receiver<u64> {
        self.breakers.subscribe()
    }

    /// Saves what changed, and sees what others have changed, now and then.
    pub(in crate::worker) async fn sync<W: World>(&self, world: &W) {
        self.breakers.sync(world).await;
    }

    /// Saves what was counted, before the process leaves.
    pub(in crate::worker) async fn save<W: World>(&self, world: &W) {
        self.breakers.save(world).await;
    }

    /// When what others have changed is seen.
    pub(in crate::worker) fn next_look(&self) -> Timestamp {
        self.breakers.next_look()
    }

    fn shut_by(&self, name: &str) -> Option<Shut> {
        let until = self.breakers.shut(name)?;
        Some(Shut { name: name.to_owned(), until })
    }
}

impl Pass {
    /// Tells how a call about an item of the source ended.
    pub(in crate::worker) fn ended(self, item: i64, failure: Option<&Failure>) {
        let subject = failure.map_or(CallSubject::Service, |_| self.subject(item));
        self.end(&subject, RequestScope::Item, failure);
    }

    /// Tells beforehand whether this failure of the call, about an item, would open the breaker.
    pub(in crate::worker) fn would_open(&self, item: i64, failure: &Failure) -> bool {
        let (circuits, subject) = (&self.circuits, self.subject(item));
        let (name, breakers) = (&circuits.provider, &circuits.breakers);
        self.permit.is_some_and(|permit| {
            breakers.would_open(name, permit, &subject, RequestScope::Item, failure)
        })
    }

    /// Two sources may have items of one number.
    fn subject(&self, item: i64) -> CallSubject {
        CallSubject::Item(format!("{}/{item}", self.circuits.source))
    }

    /// Tells that the end of a call says nothing of the provider.
    pub(in crate::worker) fn said_nothing(mut self) {
        let Some(permit) = self.permit.take() else { return };
        self.circuits.breakers.said_nothing(&self.circuits.provider, permit);
    }

    fn end(mut self, subject: &CallSubject, scope: RequestScope, failure: Option<&Failure>) {
        let Some(permit) = self.permit.take() else { return };
        let circuits = &self.circuits;
        circuits.breakers.ended(&circuits.provider, permit, subject, scope, failure);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.circuits.breakers.dropped(&self.circuits.provider, permit);
        }
    }
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(failure) => failure.fmt(f),
            Self::Shut(shut) => write!(f, "the circuit of {} is open", shut.name),
        }
    }
}

impl Shut {
    /// When the wait ends at the latest.
    pub(in crate::worker) fn until(&self, now: Timestamp) -> Timestamp {
        self.until.unwrap_or_else(|| now.after(HELD_LOOK))
    }

    /// Only a person can close it.
    pub(in crate::worker) fn needs_a_person(&self) -> bool {
        self.until.is_none()
    }

    /// The failure that opened it, which now says so.
    pub(in crate::worker) fn explains(&self, failure: &Failure) -> Failure {
        Failure { message: format!("{self}: {failure}"), ..failure.clone() }
    }
}

impl fmt::Display for Shut {
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

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// The breaker of what a failure is about, if that is something of ours.
fn storage(cause: Cause) -> Option<&'static str> {
    match (HealthSignal::for_storage(cause), cause) {
        (HealthSignal::Failure, Cause::Ledger) => Some(LEDGER),
        (HealthSignal::Failure, _) => Some(ARCHIVE),
        (HealthSignal::Success | HealthSignal::Neutral, _) => None,
    }
}
