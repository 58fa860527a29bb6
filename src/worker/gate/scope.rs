//! One quota with everything that bounds the requests under it.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify};

use crate::engine::quota::{
    Admission, Hold, Outcome, Quota, QuotaPolicy, Rate, Reply, Signals, Ticket, Wait,
};
use crate::engine::{
    ConcurrencyLimiter, LatencySample, LoadSignal, RandomSample, RetryBudget, RetryBudgetPolicy,
    Timestamp,
};
use crate::source::http::Attempt;
use crate::state::ScopeMemory;

/// The bounds of one scope, as this process knows them.
#[derive(Debug)]
pub(super) struct Scope {
    pub(super) quota: Quota,
    pub(super) concurrency: ConcurrencyLimiter,
    pub(super) budget: RetryBudget,
    pub(super) in_flight: u32,
    /// The number of the latest request that was accepted.
    pub(super) accepted: Option<u64>,
    /// The path of the route that it is for, if it is for one.
    pub(super) route: Option<String>,
    /// Units that one request costs, for the rate in requests.
    weight: u32,
    /// Those who wait pass one after the other, in the order in which they came.
    pub(super) turnstile: Rc<Mutex<()>>,
    /// Something changed for whoever waits.
    pub(super) news: Rc<Notify>,
    /// Until when whoever is first of them waits, where that is known.
    pub(super) opens_at: Option<Timestamp>,
    /// When all of this was last written down.
    pub(super) written_at: Timestamp,
    /// Something was sent or answered since.
    pub(super) is_unwritten: bool,
}

/// What a request carries that is on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) ticket: Ticket,
    pub(super) at: Timestamp,
    pub(super) in_flight: u32,
    /// Numbers follow the order in which requests are sent.
    pub(super) no: u64,
}

/// Whether a request may go.
pub(super) enum May {
    Go(Sent),
    Wait {
        until: Timestamp,
        why: Wait,
    },
    /// As many are in flight as may be.
    WaitForPlace,
}

impl Scope {
    pub(super) fn new(
        policy: QuotaPolicy,
        concurrency: u32,
        route: Option<String>,
        memory: &ScopeMemory,
        now: Timestamp,
    ) -> Self {
        Self {
            quota: Quota::recall(policy, &memory.quota, now),
            concurrency: ConcurrencyLimiter::restore(concurrency, &memory.concurrency, now),
            budget: RetryBudget::restore(RetryBudgetPolicy::default(), &memory.budget, now),
            in_flight: 0,
            accepted: None,
            route,
            weight: 1,
            turnstile: Rc::default(),
            news: Rc::default(),
            opens_at: None,
            written_at: now,
            is_unwritten: false,
        }
    }

    /// Goes on from what another process wrote, if one did.
    pub(super) fn adopt(&mut self, theirs: Option<&ScopeMemory>, now: Timestamp) {
        if let Some(theirs) = theirs {
            self.quota.adopt(&theirs.quota, now);
        }
    }

    /// Goes on by other rules.
    pub(super) fn rule(&mut self, policy: QuotaPolicy, concurrency: u32, now: Timestamp) {
        self.quota = Quota::recall(policy, &self.quota.memory(now), now);
        self.concurrency =
            ConcurrencyLimiter::restore(concurrency, &self.concurrency.to_state(now), now);
        self.news.notify_waiters();
    }

    pub(super) fn memory(&self, provider: &str, now: Timestamp) -> ScopeMemory {
        ScopeMemory {
            provider: provider.to_owned(),
            quota: self.quota.memory(now),
            concurrency: self.concurrency.to_state(now),
            budget: self.budget.to_state(),
            ..ScopeMemory::default()
        }
    }

    /// Asks for one request, which is to have the number `no`.
    pub(super) fn admit(&mut self, weight: u32, no: u64, now: Timestamp) -> May {
        self.weight = weight;
        self.opens_at = None;
        if self.in_flight >= self.concurrency.limit(self.requests_per_second(now)) {
            return May::WaitForPlace;
        }
        match self.quota.admit(weight, now) {
            Admission::Go(ticket) => {
                self.in_flight += 1;
                self.is_unwritten = true;
                May::Go(Sent { ticket, at: now, in_flight: self.in_flight, no })
            }
            Admission::Wait { until, why } => {
                self.opens_at = Some(until);
                May::Wait { until, why }
            }
        }
    }

    pub(super) fn answered(
        &mut self,
        sent: &Sent,
        outcome: Outcome,
        signals: &Signals,
        now: Timestamp,
        draw: RandomSample,
    ) -> Option<Hold> {
        self.is_unwritten = true;
        if outcome == Outcome::Accepted {
            self.accepted = self.accepted.max(Some(sent.no));
        }
        self.quota.answered(sent.ticket, &Reply { outcome, signals }, now, draw)
    }

    /// The place of a request is free again.
    pub(super) fn left(&mut self, sent: &Sent, health: LoadSignal, now: Timestamp) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.concurrency.record_result(sent.at, health, now);
        self.news.notify_waiters();
    }

    /// The rate in force; `None` where nothing is paced.
    pub(super) fn rate(&self, now: Timestamp) -> Option<Rate> {
        self.quota.rate_in_force(now)
    }

    fn requests_per_second(&self, now: Timestamp) -> Option<f64> {
        self.rate(now).map(|rate| rate.get() / f64::from(self.weight))
    }
}

/// What the end of a request says of the server's health.
pub(super) fn health(
    outcome: Option<Outcome>,
    attempt: Attempt,
    first_byte: Option<Duration>,
    sent: &Sent,
    now: Timestamp,
) -> LoadSignal {
    match (outcome, first_byte) {
        (Some(Outcome::Failed), _) => match attempt {
            Attempt::First => LoadSignal::Overloaded,
            Attempt::Suspect => LoadSignal::ItemSpecificFailure,
            // Its first attempt has said so already.
            Attempt::Again => LoadSignal::Neutral,
        },
        (Some(Outcome::Accepted), Some(first_byte)) => LoadSignal::Completed(LatencySample {
            time_to_first_byte: first_byte,
            total: now.since(sent.at).max(first_byte),
            in_flight: sent.in_flight,
        }),
        (Some(Outcome::Accepted | Outcome::Throttled) | None, _) => LoadSignal::Neutral,
    }
}
