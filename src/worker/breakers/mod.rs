//! The breakers of this process: one per provider, and one each for the ledger and the archive.
//!
//! All sources of a process share them, on one thread. They are saved in `breakers.json` when one
//! changes its state, and now and then for what they count. Others may change them there, a
//! person by a command above all; that is noticed within seconds.

mod circuits;
mod kept;
mod orders;
mod sync;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

pub use self::circuits::Circuits;
pub(super) use self::circuits::{Entry, Halt, Pass, Shut};
pub use self::orders::{Ordered, order};
pub use crate::state::{BreakersFile, Memories};

use self::kept::Kept;
use self::sync::{Brought, Errand, Task};
use crate::engine::breaker::{
    Admission, Breaker, BreakerPermit, BreakerPolicy, BreakerState, BreakerTransition, CallSubject,
    HealthSignal, ManualCommand, Severity,
};
use crate::engine::{Failure, RequestScope, Timestamp};
use crate::worker::world::World;

/// The breaker of what is remembered.
pub const LEDGER: &str = "ledger";

/// The breaker of where documents are kept.
pub const ARCHIVE: &str = "archive";

/// How often it is looked whether others have changed a breaker. A person who has just typed a
/// command waits for it; reading a small file costs nothing.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// How often what is only counted is saved.
const COUNT_INTERVAL: Duration = Duration::from_secs(60);

/// When whoever may not call because another call is under way asks again.
const BUSY_WAIT: Duration = Duration::from_secs(1);

/// All breakers of a process.
pub struct Breakers {
    file: Arc<BreakersFile>,
    clock: Box<dyn Fn() -> Timestamp>,
    inner: RefCell<Inner>,
    /// Another number whenever someone who waits may find something else than before.
    version: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner {
    policy: BreakerPolicy,
    kept: BTreeMap<String, Kept>,
    looked_at: Timestamp,
    saved_at: Timestamp,
    /// The file is being read or written.
    is_away: bool,
    /// What went wrong with the file, so that it is told once.
    trouble: Option<Failure>,
}

impl Breakers {
    /// The breakers as their file has them; and what a person should know about how it was found.
    pub fn open(
        file: BreakersFile,
        policy: BreakerPolicy,
        clock: impl Fn() -> Timestamp + 'static,
    ) -> (Rc<Self>, Option<String>) {
        let now = clock();
        let (memories, note) = match file.examine() {
            Ok(Ok(memories)) => (memories, None),
            Ok(Err(_)) => match file.change(|memories| memories.clone()) {
                Ok(found) => found,
                Err(failure) => (Memories::new(), Some(failure.message)),
            },
            // What it says is seen as soon as it can be read.
            Err(failure) => (Memories::new(), Some(failure.message)),
        };
        let recall = |(name, memory): (String, _)| {
            let breaker = Breaker::restore(&name, policy, &memory, now);
            (name, Kept::saved(breaker))
        };
        let kept = memories.into_iter().map(recall).collect();
        let inner =
            Inner { policy, kept, looked_at: now, saved_at: now, is_away: false, trouble: None };
        let breakers = Self {
            file: Arc::new(file),
            clock: Box::new(clock),
            inner: RefCell::new(inner),
            version: watch::Sender::new(0),
        };
        (Rc::new(breakers), note)
    }

    /// Judges by another policy from now on.
    pub fn set_policy(&self, policy: BreakerPolicy) {
        let mut inner = self.inner.borrow_mut();
        inner.policy = policy;
        inner.kept.values_mut().for_each(|kept| kept.breaker.set_policy(policy));
    }

    /// Whether a call may be made by whoever tells its end by name; else when to ask again.
    ///
    /// # Errors
    /// The moment before which it is of no use to ask.
    pub fn permits(&self, name: &str) -> Result<(), Timestamp> {
        let now = (self.clock)();
        match self.admit(name) {
            Admission::Admitted(permit) => {
                self.with(name, |kept, _| (kept.named.replace(permit), None));
                Ok(())
            }
            Admission::ProbeInFlight => Err(now.after(BUSY_WAIT)),
            Admission::Rejected { until } => Err(until.unwrap_or_else(|| now.after(LOOK_INTERVAL))),
        }
    }

    /// Notes that a call that was permitted by name ended well.
    pub fn succeeded(&self, name: &str) {
        self.note(name, None);
    }

    /// Notes that the one called is well after all, by a call that did not ask.
    pub fn absolved(&self, name: &str) {
        let permit = self.with(name, |kept, now| kept.breaker.admit_unconditionally(now));
        self.with(name, |kept, now| ((), kept.breaker.clear_and_record_success(permit, now)));
        self.let_the_next_try(name);
    }

    /// Notes that a call that was permitted by name failed. What does not speak against the one
    /// called does not count.
    pub fn failed(&self, name: &str, failure: &Failure) {
        self.note(name, Some(failure));
    }

    /// Notes that a call that was permitted by name was given up, or says nothing.
    pub fn abandoned(&self, name: &str) {
        if let Some(permit) = self.with(name, |kept, _| (kept.named.take(), None)) {
            self.dropped(name, permit);
        }
    }

    /// Carries out what a person wants.
    pub fn obey(&self, name: &str, order: ManualCommand) {
        // A breaker that nobody has used has nothing to end.
        if self.inner.borrow().kept.contains_key(name) {
            self.with(name, |kept, now| ((), kept.breaker.apply_command(order, now)));
        }
    }

    #[must_use]
    pub fn phase(&self, name: &str) -> BreakerState {
        let inner = self.inner.borrow();
        inner.kept.get(name).map_or(BreakerState::Closed, |kept| kept.breaker.state())
    }

    /// Until when it lets nothing through, if so; `Some(None)` until a person closes it.
    #[must_use]
    pub fn shut(&self, name: &str) -> Option<Option<Timestamp>> {
        let inner = self.inner.borrow();
        let breaker = &inner.kept.get(name)?.breaker;
        match breaker.state() {
            // Asked before every step of the work: then not even the clock.
            BreakerState::Closed | BreakerState::HalfOpen => None,
            BreakerState::Open => breaker.rejecting_until((self.clock)()),
        }
    }

    /// Tells when a breaker has changed its state, or lets the next one try.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Saves what changed, and sees what others have changed, when it is time.
    pub async fn sync<W: World>(&self, world: &W) {
        let errand = self.errand((self.clock)());
        self.carry_out(errand, world).await;
    }

    /// Saves whatever is not saved.
    pub async fn save<W: World>(&self, world: &W) {
        let errand = self.inner.borrow_mut().everything(&self.file);
        self.carry_out(errand, world).await;
    }
}

impl Breakers {
    fn admit(&self, name: &str) -> Admission {
        self.with(name, |kept, now| kept.breaker.admit(now))
    }

    /// Notes the end of a call by its permit.
    fn ended(
        &self,
        name: &str,
        permit: BreakerPermit,
        subject: &CallSubject,
        scope: RequestScope,
        failure: Option<&Failure>,
    ) {
        let bearing = failure.map_or(HealthSignal::Success, |failure| {
            HealthSignal::for_provider(failure.cause, scope)
        });
        self.judged(name, permit, subject, bearing, failure);
    }

    /// Tells beforehand whether a failure of the call would open a breaker.
    fn would_open(
        &self,
        name: &str,
        permit: BreakerPermit,
        subject: &CallSubject,
        scope: RequestScope,
        failure: &Failure,
    ) -> bool {
        HealthSignal::for_provider(failure.cause, scope) == HealthSignal::Failure
            && self.with(name, |kept, now| {
                (kept.breaker.would_open(permit, subject, failure, now), None)
            })
    }

    /// Notes the end of a call that asked by name, or not at all.
    fn note(&self, name: &str, failure: Option<&Failure>) {
        let permit = self.with(name, |kept, now| match kept.named.take() {
            Some(permit) => (permit, None),
            None => kept.breaker.admit_unconditionally(now),
        });
        let bearing = match (failure, name) {
            (None, _) => HealthSignal::Success,
            (Some(failure), LEDGER | ARCHIVE) => HealthSignal::for_storage(failure.cause),
            (Some(failure), _) => HealthSignal::for_provider(failure.cause, RequestScope::Session),
        };
        self.judged(name, permit, &CallSubject::Service, bearing, failure);
    }

    fn judged(
        &self,
        name: &str,
        permit: BreakerPermit,
        subject: &CallSubject,
        bearing: HealthSignal,
        failure: Option<&Failure>,
    ) {
        self.with(name, |Kept { breaker, .. }, now| {
            let change = match (bearing, failure) {
                (HealthSignal::Failure, Some(failure)) => {
                    breaker.record_failure(permit, subject, failure, now)
                }
                (HealthSignal::Success, _) | (HealthSignal::Failure, None) => {
                    breaker.record_success(permit, now)
                }
                (HealthSignal::Neutral, _) => {
                    breaker.record_neutral(permit);
                    None
                }
            };
            ((), change)
        });
        self.let_the_next_try(name);
    }

    fn said_nothing(&self, name: &str, permit: BreakerPermit) {
        self.with(name, |kept, _| {
            kept.breaker.record_neutral(permit);
            ((), None)
        });
        self.let_the_next_try(name);
    }

    fn dropped(&self, name: &str, permit: BreakerPermit) {
        self.with(name, |kept, _| (kept.breaker.record_cancelled(permit), None));
        self.let_the_next_try(name);
    }

    fn let_the_next_try(&self, name: &str) {
        if self.phase(name) == BreakerState::HalfOpen {
            self.version.send_modify(|version| *version += 1);
        }
    }

    /// Has a breaker take in a fact, and tells what it became.
    fn with<T>(
        &self,
        name: &str,
        fact: impl FnOnce(&mut Kept, Timestamp) -> (T, Option<BreakerTransition>),
    ) -> T {
        let now = (self.clock)();
        let (told, change) = {
            let mut inner = self.inner.borrow_mut();
            let policy = inner.policy;
            if !inner.kept.contains_key(name) {
                let breaker = Breaker::new(name, policy, now);
                inner.kept.insert(name.to_owned(), Kept::new(breaker));
            }
            match inner.kept.get_mut(name) {
                Some(kept) => fact(kept, now),
                None => fact(&mut Kept::new(Breaker::new(name, policy, now)), now),
            }
        };
        if let Some(change) = change {
            self.announce(&change);
        }
        told
    }

    /// Logs a change, and wakes those who wait.
    fn announce(&self, change: &BreakerTransition) {
        let BreakerTransition {
            breaker: name,
            generation: _,
            from,
            to,
            severity,
            at: _,
            reason: why,
        } = change;
        let (from, to, level) = (from.name(), to.name(), severity.name());
        match severity {
            Severity::Critical | Severity::Warning => {
                warn!(name, from, to, severity = level, why, "circuit breaker changed");
            }
            Severity::Info => {
                info!(name, from, to, severity = level, why, "circuit breaker changed");
            }
        }
        self.version.send_modify(|version| *version += 1);
    }
}

/// The file.
impl Breakers {
    /// When it is time to look at the file again.
    fn next_look(&self) -> Timestamp {
        let (now, looked_at) = ((self.clock)(), self.inner.borrow().looked_at);
        // A clock that was set back must not put it off.
        looked_at.min(now).after(LOOK_INTERVAL)
    }

    fn errand(&self, now: Timestamp) -> Option<Errand> {
        let mut inner = self.inner.borrow_mut();
        let is_past = |at: Timestamp, interval| now < at || now.since(at) >= interval;
        let is_look = is_past(inner.looked_at, LOOK_INTERVAL);
        let has_changed = inner.kept.values().any(Kept::has_changed);
        let has_counted = is_past(inner.saved_at, COUNT_INTERVAL);
        // While the file cannot be written, it is tried as often as it is looked at.
        if (has_changed && (is_look || inner.trouble.is_none())) || (is_look && has_counted) {
            inner.looked_at = now;
            if let Some(errand) = inner.everything(&self.file) {
                inner.saved_at = now;
                return Some(errand);
            }
        }
        if !is_look {
            return None;
        }
        // Also where another source is just looking: whoever waits must not ask again at once.
        inner.looked_at = now;
        if inner.is_away {
            return None;
        }
        inner.kept.values_mut().for_each(Kept::send_nothing);
        Some(Errand { file: Arc::clone(&self.file), task: Task::Read })
    }

    async fn carry_out<W: World>(&self, errand: Option<Errand>, world: &W) {
        let Some(errand) = errand else { return };
        self.inner.borrow_mut().is_away = true;
        let away = Away(self);
        let brought = world.offload(move || errand.carry_out()).await;
        drop(away);
        match brought {
            Ok(brought) => self.take_in(brought),
            Err(failure) => {
                let mut inner = self.inner.borrow_mut();
                if inner.trouble.as_ref() != Some(&failure) {
                    warn!(cause = %failure.cause, "cannot share the breakers: {failure}");
                    inner.trouble = Some(failure);
                }
            }
        }
    }

    fn take_in(&self, Brought { memories, taken, note }: Brought) {
        if let Some(note) = note {
            warn!("{note}");
        }
        let now = (self.clock)();
        let mut changes = Vec::new();
        {
            let mut inner = self.inner.borrow_mut();
            inner.trouble = None;
            let policy = inner.policy;
            for (name, memory) in memories {
                let theirs = || Breaker::restore(&name, policy, &memory, now);
                match inner.kept.get_mut(&name) {
                    None => {
                        let kept = Kept::saved(theirs());
                        inner.kept.insert(name, kept);
                    }
                    Some(kept) if taken.contains(&name) => kept.was_saved(&memory),
                    Some(kept) if kept.is_behind(&memory) => changes.extend(kept.adopt(theirs())),
                    Some(_) => {}
                }
            }
        }
        for change in &changes {
            self.announce(change);
        }
    }
}

/// The end of an errand, also where it was given up.
struct Away<'a>(&'a Breakers);

impl Drop for Away<'_> {
    fn drop(&mut self) {
        self.0.inner.borrow_mut().is_away = false;
    }
}

impl Inner {
    /// All that is not saved, if there is any and nothing is under way.
    fn everything(&mut self, file: &Arc<BreakersFile>) -> Option<Errand> {
        if self.is_away || !self.kept.values().any(|kept| kept.has_changed() || kept.has_counted())
        {
            return None;
        }
        let ours = self.kept.iter_mut().map(|(name, kept)| (name.clone(), kept.send()));
        Some(Errand { file: Arc::clone(file), task: Task::Write(ours.collect()) })
    }
}

impl fmt::Debug for Breakers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breakers").field("inner", &self.inner).finish_non_exhaustive()
    }
}
