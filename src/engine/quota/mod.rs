//! Follows the quota of one scope: takes what the server allows, and is told "too many" almost never.

mod adopt;
mod gate;
mod headers;
mod memory;
mod pace;
mod policy;
mod rate;
mod signals;
mod standing;

use std::time::Duration;

use crate::engine::backoff::obeyed;
use crate::engine::{Draw, Moment};

use self::gate::{Gate, Passage};
use self::pace::Pace;

pub use self::gate::{Hold, HoldReason};
pub use self::headers::{HeaderNames, read};
pub use self::memory::{HoldMemory, Memory};
pub use self::policy::{QuotaMode, QuotaPolicy};
pub use self::rate::{Rate, RateError};
pub use self::signals::{Family, Limit, Reset, ResetMeaning, Signals};
pub use self::standing::{Basis, Standing};

/// The first hold after a throttle that names no time; each further one is twice as long.
const HOLD_FIRST: Duration = Duration::from_secs(1);

/// The quota of one scope: a host and a credential.
#[derive(Clone, Debug, PartialEq)]
pub struct Quota {
    policy: QuotaPolicy,
    gate: Gate,
    pace: Pace,
    /// Throttles that named no time, with no success between.
    unexplained: u32,
    limits: Vec<Limit>,
}

/// The answer to a request that wants to be sent.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use = "a request that was admitted must be sent or dropped"]
pub enum Admission {
    Go(Ticket),
    /// `until` lies ahead; ask again then, or as soon as another request is answered.
    Wait {
        until: Moment,
        why: Wait,
    },
}

/// Why a request is not sent yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wait {
    /// The gate is closed.
    Held,
    /// The hold is over and one request is out to prove it.
    Proving,
    Paced,
}

/// What a request is known by while it is out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ticket {
    sent: Moment,
    weight: u32,
    generation: u32,
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reply<'a> {
    pub outcome: Outcome,
    pub signals: &'a Signals,
}

/// What a reply says of the rate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    Accepted,
    /// "Too many", in whatever words.
    Throttled,
    /// A server error, or a reply cut short: nothing of the rate.
    Failed,
}

impl Quota {
    #[must_use]
    pub fn new(policy: QuotaPolicy, now: Moment) -> Self {
        Self::recall(policy, &Memory::default(), now)
    }

    /// Takes up what an earlier process remembered. A hold goes on until its own deadline.
    #[must_use]
    pub fn recall(policy: QuotaPolicy, memory: &Memory, _now: Moment) -> Self {
        Self {
            policy,
            gate: Gate::recalled(memory.hold.as_ref().map(Hold::from)),
            pace: Pace::default(),
            unexplained: memory.hold.as_ref().map_or(0, |hold| hold.times),
            limits: Vec::new(),
        }
    }

    /// Returns what the next process should know.
    #[must_use]
    pub fn memory(&self, now: Moment) -> Memory {
        Memory { written_at: now.0, rate: None, hold: self.gate.hold().map(HoldMemory::from) }
    }

    /// Asks to send a request that costs `weight` units.
    pub fn admit(&mut self, weight: u32, now: Moment) -> Admission {
        match self.gate.passage(now) {
            Passage::Open => {}
            Passage::Held(until) => return Admission::Wait { until, why: Wait::Held },
            Passage::Proving(until) => return Admission::Wait { until, why: Wait::Proving },
        }
        if let Some(rate) = self.rate() {
            if let Some(until) = self.pace.wait(now) {
                return Admission::Wait { until, why: Wait::Paced };
            }
            self.pace.spend(weight, rate, now);
        }
        self.gate.pass(now);
        Admission::Go(Ticket { sent: now, weight, generation: self.gate.generation })
    }

    /// Notes the reply to a request. Returns the hold if it closed the gate, or moved it later.
    pub fn answered(
        &mut self,
        ticket: Ticket,
        reply: &Reply<'_>,
        now: Moment,
        draw: Draw,
    ) -> Option<Hold> {
        let signals = reply.signals;
        if !signals.is_cached && !signals.limits.is_empty() {
            self.limits.clone_from(&signals.limits);
        }
        match reply.outcome {
            Outcome::Accepted => {
                self.unexplained = 0;
                self.gate.succeeded(ticket.generation);
            }
            Outcome::Failed => self.gate.inconclusive(ticket.generation),
            Outcome::Throttled => {}
        }
        let hold = self.hold_for(reply, now, draw)?;
        self.gate.close(hold.clone()).then_some(hold)
    }

    /// Notes that a request is never answered: the connection failed, or it was cancelled.
    pub fn dropped(&mut self, ticket: Ticket, _now: Moment) {
        self.gate.inconclusive(ticket.generation);
    }

    /// Returns the hold in force.
    #[must_use]
    pub fn held(&self, now: Moment) -> Option<&Hold> {
        self.gate.hold().filter(|hold| now < hold.until)
    }

    /// Returns what was understood.
    #[must_use]
    pub fn standing(&self, _now: Moment) -> Standing {
        let rate = self.rate();
        Standing {
            mode: self.policy.mode,
            hold: self.gate.hold().cloned(),
            limits: self.limits.clone(),
            rate,
            basis: if rate.is_some() { Basis::Cap } else { Basis::Nothing },
            estimate: None,
            cycles: 0,
            next_probe: None,
        }
    }

    fn rate(&self) -> Option<Rate> {
        match self.policy.mode {
            QuotaMode::Follow | QuotaMode::Fixed => self.policy.cap,
            QuotaMode::Off => None,
        }
    }

    fn hold_for(&mut self, reply: &Reply<'_>, now: Moment, draw: Draw) -> Option<Hold> {
        let signals = reply.signals;
        let exhausted = signals
            .limits
            .iter()
            .filter(|limit| limit.remaining == Some(0.0) && !signals.is_cached)
            .filter_map(|limit| Some((limit.reset?.after, limit.family)))
            .filter(|(after, _)| !after.is_zero())
            .max();
        let throttled = reply.outcome == Outcome::Throttled;
        let (wait, reason) =
            if let Some(told) = signals.told.filter(|_| reply.outcome != Outcome::Accepted) {
                (told, HoldReason::Told(told))
            } else if let Some((after, family)) = exhausted {
                let resets = now.after(after);
                (after.min(self.policy.max_wait), HoldReason::Exhausted { resets, family })
            } else if throttled {
                self.unexplained = self.unexplained.saturating_add(1);
                let doublings = self.unexplained.saturating_sub(1).min(20);
                let grown = HOLD_FIRST.saturating_mul(1 << doublings).min(self.policy.hold);
                (grown, HoldReason::Unexplained { times: self.unexplained })
            } else {
                return None;
            };
        let exceeds_max_wait = match &reason {
            HoldReason::Exhausted { resets, .. } => resets.since(now) > self.policy.max_wait,
            HoldReason::Told(_) | HoldReason::Unexplained { .. } => wait > self.policy.max_wait,
        };
        Some(Hold { until: now.after(obeyed(wait, draw)), reason, exceeds_max_wait })
    }
}
