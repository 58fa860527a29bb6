//! One provider's gate, and the doors through which its accounts pass it.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::sync::Notify;
use tracing::{error, info, warn};

use crate::disk::Lasts;
use crate::engine::quota::{Hold, Outcome, Signals, Wait, read};
use crate::engine::{Cause, ClockReading, ClockStep, Failure, ThrottleStrikes, Timestamp};
use crate::source::http::{Attempt, Gate, Outgoing, Passage};
use crate::state::{ScopeKey, ScopeMemory};
use crate::worker::gate::file::QuotaFile;
use crate::worker::gate::scope::{May, Scope, Sent, health};
use crate::worker::gate::{GateRules, HELD_PATIENCE, PACED_PATIENCE};
use crate::worker::world::World;

/// How often what a gate has learned is written down while nobody else uses the file. A process
/// that dies in between loses the memory of as little.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);

/// How often it is looked whether other processes have come.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// The gate of one provider.
pub(super) struct Keeper<W: World> {
    provider: String,
    world: Rc<W>,
    file: Rc<RefCell<QuotaFile>>,
    rules: RefCell<GateRules>,
    scopes: RefCell<BTreeMap<ScopeKey, Scope>>,
    company: Cell<Company>,
    /// How many requests were sent.
    sent: Cell<u64>,
    /// When the machine was started, by the clock that the scopes go by.
    booted: Cell<Timestamp>,
}

/// Whether other processes ask the same provider.
#[derive(Clone, Copy, Debug)]
struct Company {
    is_alone: bool,
    looked_at: Timestamp,
}

/// The gate as one account passes it.
pub struct Door<W: World> {
    keeper: Rc<Keeper<W>>,
    /// Named where the accounts of the provider have quotas of their own.
    account: Option<String>,
    /// The scopes that its requests wait to pass, each as often as there are requests.
    queue: Rc<RefCell<Vec<ScopeKey>>>,
}

/// A request in the queue, also where it is given up.
struct Queued {
    queue: Rc<RefCell<Vec<ScopeKey>>>,
    key: ScopeKey,
}

/// Under which quota a request falls, and what it costs there.
struct Fare {
    key: ScopeKey,
    weight: u32,
    /// The path of the route, where that has a budget of its own.
    route: Option<String>,
}

/// A request on its way.
struct Traveller<W: World> {
    keeper: Rc<Keeper<W>>,
    key: ScopeKey,
    sent: Sent,
    attempt: Attempt,
    signals: Signals,
    first_byte: Option<Duration>,
    judged: Option<Outcome>,
    /// Of a document.
    strikes: Option<ThrottleStrikes>,
}

impl<W: World> Door<W> {
    pub(super) fn new(keeper: Rc<Keeper<W>>, account: Option<String>) -> Self {
        Self { keeper, account, queue: Rc::default() }
    }

    fn fare(&self, request: Outgoing<'_>) -> Fare {
        let rules = self.keeper.rules.borrow();
        let route = rules.provider.route(request.path);
        let apart = route.filter(|route| route.budget.is_some()).map(|route| route.path.clone());
        let (provider, account) = (&self.keeper.provider, self.account.as_deref());
        let key = ScopeKey::new(provider, request.host, account, apart.as_deref());
        Fare { key, weight: route.map_or(1, |route| route.weight), route: apart }
    }
}

impl<W: World> Gate for Door<W> {
    fn enter<'a>(
        &'a self,
        request: Outgoing<'a>,
    ) -> LocalBoxFuture<'a, Result<Box<dyn Passage>, Failure>> {
        let fare = self.fare(request);
        Box::pin(async move {
            let queued = Queued::join(&self.queue, &fare.key);
            let sent = self.keeper.enter(&fare, request.attempt).await?;
            drop(queued);
            Ok(Box::new(Traveller {
                keeper: Rc::clone(&self.keeper),
                key: fare.key,
                sent,
                attempt: request.attempt,
                signals: Signals::default(),
                first_byte: None,
                judged: None,
                strikes: request.strikes,
            }) as Box<dyn Passage>)
        })
    }

    fn waits_until(&self) -> Option<Timestamp> {
        let (queue, scopes) = (self.queue.borrow(), self.keeper.scopes.borrow());
        queue.iter().filter_map(|key| scopes.get(key)?.opens_at).max()
    }

    fn may_retry(&self, request: Outgoing<'_>) -> bool {
        let fare = self.fare(request);
        let now = self.keeper.now();
        let mut scopes = self.keeper.scopes_with(&fare, now);
        scopes.get_mut(&fare.key).is_none_or(|scope| scope.budget.try_take_retry(now))
    }

    fn understand(&self, headers: &[(&str, &str)]) -> Signals {
        read(headers, &self.keeper.rules.borrow().provider.headers, self.keeper.now())
    }
}

impl<W: World> Keeper<W> {
    pub(super) fn new(
        provider: &str,
        world: Rc<W>,
        file: Rc<RefCell<QuotaFile>>,
        rules: &GateRules,
    ) -> Self {
        Self {
            provider: provider.to_owned(),
            booted: Cell::new(world.time().booted_at),
            world,
            file,
            rules: RefCell::new(rules.clone()),
            scopes: RefCell::default(),
            sent: Cell::new(0),
            company: Cell::new(Company { is_alone: false, looked_at: Timestamp::default() }),
        }
    }

    /// The time, once every scope goes by the clock as it is set now.
    fn now(&self) -> Timestamp {
        let ClockReading { wall: now, booted_at: booted } = self.world.time();
        if let Some(step) = ClockStep::between(self.booted.get(), booted) {
            self.booted.set(booted);
            for (key, scope) in self.scopes.borrow_mut().iter_mut() {
                scope.quota.move_by(step);
                scope.opens_at = scope.opens_at.map(|at| at.shifted_by(step));
                // What others have written goes by another clock.
                let memory = scope.memory(&self.provider, now);
                let moved = |_: Option<&ScopeMemory>| (Some(memory), ());
                let written = self.file.borrow_mut().exchange(key, Lasts::PowerCut, now, moved);
                self.complain(written);
            }
        }
        now
    }

    /// Takes up rules, which may have changed; what was learned stays.
    pub(super) fn rule(&self, rules: GateRules) {
        if *self.rules.borrow() == rules {
            return;
        }
        let now = self.now();
        for scope in self.scopes.borrow_mut().values_mut() {
            let policy = rules.policy_of(scope.route.as_deref());
            scope.rule(policy, rules.provider.concurrency, now);
        }
        *self.rules.borrow_mut() = rules;
    }

    async fn enter(&self, fare: &Fare, attempt: Attempt) -> Result<Sent, Failure> {
        let mut now = self.now();
        let turnstile = {
            let mut scopes = self.scopes_with(fare, now);
            let scope = scopes.get_mut(&fare.key).ok_or_else(lost)?;
            if attempt != Attempt::Again {
                scope.budget.record_first_attempt();
            }
            Rc::clone(&scope.turnstile)
        };
        let _turn = match turnstile.try_lock() {
            Ok(turn) => turn,
            Err(_taken) => {
                let turn = turnstile.lock().await;
                now = self.now();
                turn
            }
        };
        loop {
            let (may, news) = self.ask(fare, now)?;
            let news = news.notified();
            match may {
                May::Go(sent) => {
                    self.sent.set(sent.no + 1);
                    return Ok(sent);
                }
                May::WaitForPlace => news.await,
                May::Wait { until, why } => {
                    self.write_before(&fare.key, until, now);
                    self.refuse_if_long(&fare.key, until, why, now)?;
                    let look = match why {
                        // What another process proves is not told here.
                        Wait::Proving => until.min(now.after(LOOK_INTERVAL)),
                        Wait::Held | Wait::Paced => until,
                    };
                    tokio::select! {
                        () = self.world.sleep_until(ClockReading { wall: look, booted_at: self.booted.get() }) => {}
                        () = news => {}
                    }
                }
            }
            now = self.now();
        }
    }

    /// Asks for one request, with what other processes know if there are any.
    fn ask(&self, fare: &Fare, now: Timestamp) -> Result<(May, Rc<Notify>), Failure> {
        let mut scopes = self.scopes_with(fare, now);
        let scope = scopes.get_mut(&fare.key).ok_or_else(lost)?;
        let news = Rc::clone(&scope.news);
        if self.is_alone(now) {
            return Ok((scope.admit(fare.weight, self.sent.get(), now), news));
        }
        let mut may = None;
        let shared = self.file.borrow_mut().exchange(&fare.key, Lasts::Process, now, |theirs| {
            scope.adopt(theirs, now);
            let asked = may.insert(scope.admit(fare.weight, self.sent.get(), now));
            (matches!(asked, May::Go(_)).then(|| scope.memory(&self.provider, now)), ())
        });
        self.complain(shared);
        Ok((may.unwrap_or_else(|| scope.admit(fare.weight, self.sent.get(), now)), news))
    }

    /// A request waits for its turn, and not for hours: that is for the source to know.
    fn refuse_if_long(
        &self,
        key: &ScopeKey,
        until: Timestamp,
        why: Wait,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let patience = match why {
            Wait::Held => HELD_PATIENCE,
            Wait::Paced => PACED_PATIENCE,
            Wait::Proving => Duration::MAX,
        };
        if until.since(now) < patience {
            return Ok(());
        }
        let scopes = self.scopes.borrow();
        let standing = scopes.get(key).map(|scope| scope.quota.standing(now));
        let rate = standing.as_ref().and_then(|standing| standing.rate);
        let why = match (why, standing.and_then(|standing| standing.hold), rate) {
            (Wait::Held, Some(hold), _) => hold.to_string(),
            (_, _, Some(rate)) => format!("the quota of {key} lets {rate} through"),
            (_, _, None) => format!("the gate of {key} is closed"),
        };
        Err(Failure::new(Cause::RateLimit, why).with_blocked_until(Some(until)))
    }

    /// Returns the scopes, with that of the fare among them, as it was left by whoever used it last.
    fn scopes_with(&self, fare: &Fare, now: Timestamp) -> RefMut<'_, BTreeMap<ScopeKey, Scope>> {
        let mut scopes = self.scopes.borrow_mut();
        if !scopes.contains_key(&fare.key) {
            let mut memory = ScopeMemory::default();
            let known = self.file.borrow_mut().exchange(&fare.key, Lasts::Process, now, |theirs| {
                memory = theirs.cloned().unwrap_or_default();
                (None, ())
            });
            self.complain(known);
            let rules = self.rules.borrow();
            let policy = rules.policy_of(fare.route.as_deref());
            let places = rules.provider.concurrency;
            let scope = Scope::new(policy, places, fare.route.clone(), &memory, now);
            scopes.insert(fare.key.clone(), scope);
        }
        scopes
    }

    /// Notes the reply to a request; whoever waits, here or elsewhere, goes by it.
    fn answered(
        &self,
        key: &ScopeKey,
        sent: &Sent,
        outcome: Outcome,
        signals: &Signals,
    ) -> Option<Timestamp> {
        let (now, draw) = (self.now(), self.world.draw());
        let mut scopes = self.scopes.borrow_mut();
        let scope = scopes.get_mut(key)?;
        let hold = scope.answered(sent, outcome, signals, now, draw);
        if let Some(hold) = &hold {
            tell(key, hold);
        }
        // What a server asks for outlives the process, and the power.
        let lasts = if hold.is_some() { Lasts::PowerCut } else { Lasts::Process };
        let is_due = scope.written_at.after(WRITE_INTERVAL) <= now || now < scope.written_at;
        if hold.is_some() || is_due || !self.is_alone(now) {
            self.write(key, scope, lasts, now);
        }
        scope.news.notify_waiters();
        match (hold, outcome) {
            (Some(hold), _) => Some(hold.until),
            // Refused with others of its time: there is nothing to wait for but what they led to.
            (None, Outcome::Throttled) => {
                Some(scope.quota.held(now).map_or(now, |hold| hold.until))
            }
            (None, Outcome::Accepted | Outcome::Failed) => None,
        }
    }

    /// The latest request of a scope that was accepted.
    fn accepted(&self, key: &ScopeKey) -> Option<u64> {
        self.scopes.borrow().get(key)?.accepted
    }

    fn write(&self, key: &ScopeKey, scope: &mut Scope, lasts: Lasts, now: Timestamp) {
        let written = self.file.borrow_mut().exchange(key, lasts, now, |theirs| {
            scope.adopt(theirs, now);
            (Some(scope.memory(&self.provider, now)), ())
        });
        (scope.written_at, scope.is_unwritten) = (now, false);
        self.complain(written);
    }

    /// Whoever ends in a long wait has left the next process all that it knew.
    fn write_before(&self, key: &ScopeKey, until: Timestamp, now: Timestamp) {
        let mut scopes = self.scopes.borrow_mut();
        let unwritten = scopes.get_mut(key).filter(|scope| scope.is_unwritten);
        if let Some(scope) = unwritten.filter(|_| now.after(WRITE_INTERVAL) <= until) {
            self.write(key, scope, Lasts::Process, now);
        }
    }

    /// Writes everything down: the process or the rules come to an end.
    fn flush(&self) {
        let now = self.now();
        for (key, scope) in self.scopes.borrow_mut().iter_mut() {
            self.write(key, scope, Lasts::Process, now);
        }
    }

    fn is_alone(&self, now: Timestamp) -> bool {
        let known = self.company.get();
        if now < known.looked_at.after(LOOK_INTERVAL) && known.looked_at <= now {
            return known.is_alone;
        }
        let is_alone = self.file.borrow().is_ours_alone();
        self.company.set(Company { is_alone, looked_at: now });
        is_alone
    }

    fn complain(&self, outcome: Result<(), Failure>) {
        if let Err(failure) = outcome
            && self.file.borrow_mut().is_worth_a_word()
        {
            let cause = failure.cause;
            warn!(%cause, "what is learned of quotas is neither kept nor shared: {failure}");
        }
    }
}

impl Queued {
    fn join(queue: &Rc<RefCell<Vec<ScopeKey>>>, key: &ScopeKey) -> Self {
        queue.borrow_mut().push(key.clone());
        Self { queue: Rc::clone(queue), key: key.clone() }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        let mut queue = self.queue.borrow_mut();
        if let Some(place) = queue.iter().position(|key| *key == self.key) {
            queue.swap_remove(place);
        }
    }
}

fn tell(key: &ScopeKey, hold: &Hold) {
    let until = hold.until;
    if hold.exceeds_max_wait {
        error!(scope = %key, %until, "a person is needed: a wait longer than `max_wait`: {hold}");
    } else {
        info!(scope = %key, %until, "gate closed: {hold}");
    }
}

fn lost() -> Failure {
    Failure::new(Cause::Unknown, "a quota was let go while it was asked")
}

impl<W: World> fmt::Debug for Keeper<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("provider", &self.provider).finish_non_exhaustive()
    }
}

impl<W: World> Drop for Keeper<W> {
    fn drop(&mut self) {
        self.flush();
    }
}

impl<W: World> fmt::Debug for Door<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("provider", &self.keeper.provider).finish_non_exhaustive()
    }
}

impl<W: World> Passage for Traveller<W> {
    fn head(&mut self, signals: Signals, latency: Duration) {
        self.signals = signals;
        self.first_byte = Some(latency);
    }

    fn told(&mut self, wait: Duration) {
        self.signals.told = self.signals.told.max(Some(wait));
    }

    fn judge(&mut self, outcome: Outcome) -> Option<Timestamp> {
        if self.judged.replace(outcome).is_some() {
            return None;
        }
        if outcome == Outcome::Throttled
            && let Some(strikes) = &mut self.strikes
        {
            *strikes = strikes.with_throttle(self.sent.no, self.keeper.accepted(&self.key));
            if strikes.is_item_specific() {
                // Others are let through: neither the refusal nor its headers are about the quota.
                let signals = Signals::default();
                return self.keeper.answered(&self.key, &self.sent, Outcome::Failed, &signals);
            }
        }
        self.keeper.answered(&self.key, &self.sent, outcome, &self.signals)
    }

    fn strikes(&self) -> Option<ThrottleStrikes> {
        self.strikes.filter(|_| self.judged == Some(Outcome::Throttled))
    }
}

impl<W: World> Drop for Traveller<W> {
    fn drop(&mut self) {
        if self.judged.is_none() && self.first_byte.is_some() {
            self.judge(Outcome::Accepted);
        }
        let now = self.keeper.now();
        let mut scopes = self.keeper.scopes.borrow_mut();
        let Some(scope) = scopes.get_mut(&self.key) else { return };
        if self.judged.is_none() {
            scope.quota.dropped(self.sent.ticket, now);
        }
        let health = health(self.judged, self.attempt, self.first_byte, &self.sent, now);
        scope.left(&self.sent, health, now);
    }
}

impl<W: World> fmt::Debug for Traveller<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traveller").field("scope", &self.key).finish_non_exhaustive()
    }
}
