//! Follows the quota of one scope: takes what the server allows, and is told "too many" almost never.
//!
//! A request passes, in this order:
//!
//! - the [gate]: closed until the moment a server named, or until the next step of the [ladder];
//!   then open for one request until one succeeds;
//! - the [pace]: evenly spaced, since bursts are what synchronised refusals are made of;
//! - what is left of each of the [limits] that the server describes;
//! - what it may still have [counted], where one request too many locks us out.
//!
//! The pace is the slowest that the cap, the limits and the [learn]er demand. Where headers tell the
//! rate, the learner sleeps until a refusal shows that they hide something.

mod adopt;
mod counted;
mod gate;
#[cfg(test)]
mod handover;
mod headers;
mod ladder;
#[cfg(test)]
mod laws;
mod learn;
mod limits;
mod memory;
mod pace;
mod policy;
mod rate;
#[cfg(test)]
mod rest;
mod signals;
mod standing;
mod structured;
#[cfg(test)]
mod tests;
mod used;
mod window;

use std::time::Duration;

use crate::engine::backoff::retry_after_with_margin;
use crate::engine::{RandomSample, Timestamp};

use self::counted::{Counted, Strict};
use self::gate::{Gate, Passage};
use self::ladder::Ladder;
use self::learn::Learner;
use self::limits::Limits;
use self::pace::Pace;
use self::window::Context;

pub use self::gate::{Hold, HoldReason};
pub use self::headers::{HeaderNames, public, read};
pub use self::learn::LearnerMemory;
pub use self::memory::{HoldMemory, LimitMemory, Memory};
pub use self::policy::{QuotaMode, QuotaPolicy};
pub use self::rate::{Rate, RateError};
pub use self::signals::{Family, Limit, Reset, ResetMeaning, Signals};
pub use self::standing::{Basis, Standing};

/// Nothing remains for so short a time that waiting for it is only pacing.
const SHORT_RESET: Duration = Duration::from_secs(5);

/// No reply takes longer: a request is given up before. A machine that was suspended answers later.
const REPLY_MAX: Duration = Duration::from_secs(600);

/// Requests are so much closer than a strict limit has it while it is known what counts against it: what is
/// lost while replies travel is made up for.
const CATCH_UP: f64 = 1.1;

/// The quota of one scope: a host and a credential.
#[derive(Clone, Debug, PartialEq)]
pub struct Quota {
    policy: QuotaPolicy,
    gate: Gate,
    pace: Pace,
    ladder: Ladder,
    learner: Learner,
    limits: Limits,
    counted: Counted,
    /// The limits that were in force when this was written down, until a reply tells them anew.
    remembered: Vec<Limit>,
    /// Since when the next request waits for its turn.
    waiting_since: Option<Timestamp>,
    /// The last rate that followed from headers.
    told: Option<Rate>,
    /// Units of requests that are out.
    in_flight: u64,
    /// Units accepted since the start.
    accepted: f64,
    /// When this was last asked or told something.
    seen: Timestamp,
    /// Up to here something ran: a request was sent or answered, or waited for a moment known to it.
    active_until: Timestamp,
}

/// The answer to a request that wants to be sent.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use = "a request that was admitted must be sent or dropped"]
pub enum Admission {
    Go(Ticket),
    /// `until` lies ahead; ask again then, or as soon as another request is answered.
    Wait {
        until: Timestamp,
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
    sent: Timestamp,
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
    pub fn new(policy: QuotaPolicy, now: Timestamp) -> Self {
        Self {
            policy,
            gate: Gate::default(),
            pace: Pace::default(),
            ladder: Ladder::default(),
            learner: Learner::new(now),
            limits: Limits::default(),
            counted: Counted::default(),
            remembered: Vec::new(),
            waiting_since: None,
            told: None,
            in_flight: 0,
            accepted: 0.0,
            seen: now,
            active_until: now,
        }
    }

    /// Asks to send a request that costs `weight` units.
    pub fn admit(&mut self, weight: u32, now: Timestamp) -> Admission {
        self.heed_clock(now);
        self.leave_out_rest(self.learner.pause_max(), now);
        let admission = self.decide(weight, now);
        self.active_until = match admission {
            Admission::Go(_) => now,
            Admission::Wait { until, .. } => until,
        };
        admission
    }

    fn decide(&mut self, weight: u32, now: Timestamp) -> Admission {
        match self.gate.passage(now) {
            Passage::Open => {}
            Passage::Held(until) => {
                self.waiting_since.get_or_insert(now);
                return Admission::Wait { until, why: Wait::Held };
            }
            Passage::Proving(until) => return Admission::Wait { until, why: Wait::Proving },
        }
        if let Some(until) = self.pace(weight, now) {
            self.learner.held_back();
            self.waiting_since.get_or_insert(now);
            return Admission::Wait { until, why: Wait::Paced };
        }
        self.waiting_since = None;
        self.learner.sent(now);
        self.gate.pass(now);
        self.in_flight += u64::from(weight);
        Admission::Go(Ticket { sent: now, weight, generation: self.gate.generation })
    }

    /// Notes the reply to a request. Returns the hold if it closed the gate, or moved it later.
    pub fn answered(
        &mut self,
        ticket: Ticket,
        reply: &Reply<'_>,
        now: Timestamp,
        draw: RandomSample,
    ) -> Option<Hold> {
        self.heed_clock(now);
        self.leave_out_rest(REPLY_MAX, now);
        self.in_flight = self.in_flight.saturating_sub(u64::from(ticket.weight));
        let is_accepted = reply.outcome == Outcome::Accepted;
        if is_accepted {
            self.accepted += f64::from(ticket.weight);
        }
        self.read(ticket, reply, now);
        match reply.outcome {
            Outcome::Accepted => self.succeeded(ticket, now),
            Outcome::Failed => self.gate.inconclusive(ticket.generation),
            Outcome::Throttled => {}
        }
        if reply.outcome != Outcome::Throttled {
            self.count(ticket, now);
        }
        let hold = self.hold_for(ticket, reply, now, draw)?;
        self.gate.close(hold.clone()).then_some(hold)
    }

    /// Notes that a request is never answered: the connection failed, or it was cancelled.
    pub fn dropped(&mut self, ticket: Ticket, now: Timestamp) {
        self.in_flight = self.in_flight.saturating_sub(u64::from(ticket.weight));
        self.count(ticket, now);
        self.gate.inconclusive(ticket.generation);
    }

    /// Returns the hold in force.
    #[must_use]
    pub fn held(&self, now: Timestamp) -> Option<&Hold> {
        self.gate.hold().filter(|hold| now < hold.until)
    }

    /// Returns the rate in force; none where nothing is paced.
    #[must_use]
    pub fn rate_in_force(&self, now: Timestamp) -> Option<Rate> {
        self.rate(now).map(|(rate, _)| rate)
    }

    /// Returns what was understood.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> Standing {
        let recalled = self.told.filter(|_| self.limits.read().next().is_none());
        let recalled = recalled.filter(|_| !self.remembered.is_empty());
        let (rate, basis) = match (self.rate(now), recalled) {
            (Some((rate, Basis::SlowStart)), Some(told)) => (Some(rate.min(told)), Basis::Headers),
            (Some((rate, basis)), _) => (Some(rate), basis),
            (None, _) => (None, Basis::Nothing),
        };
        Standing {
            mode: self.policy.mode,
            hold: self.gate.hold().cloned(),
            limits: self.limits_known(),
            rate,
            basis,
            estimate: self.learner.estimate,
            cycles: self.learner.cycles,
            next_probe: self.learner.next_probe,
        }
    }

    fn limits_known(&self) -> Vec<Limit> {
        let read: Vec<Limit> = self.limits.read().cloned().collect();
        if read.is_empty() { self.remembered.clone() } else { read }
    }

    /// Spends the units of a request that may go, or returns until when it may not.
    fn pace(&mut self, weight: u32, now: Timestamp) -> Option<Timestamp> {
        let follows = self.policy.mode == QuotaMode::Follow;
        if follows {
            self.limits.roll(f64::from(weight), now);
        }
        let rate = self.rate(now);
        if let Some(until) = rate.and_then(|(_, basis)| self.turn(basis, now)) {
            return Some(until);
        }
        let strict = rate.and_then(|(rate, basis)| self.strict(rate, basis));
        if follows {
            if let Some(until) = self.stall(weight, strict, now) {
                return Some(until);
            }
            self.limits.spend(f64::from(weight));
        }
        if let Some((rate, _)) = rate {
            self.pace.spend(weight, self.spacing(rate, strict, now), now);
        }
        None
    }

    /// Returns when it is a request's turn, if not now. A hold before it counts towards the wait.
    fn turn(&self, basis: Basis, now: Timestamp) -> Option<Timestamp> {
        let due = self.pace.wait(now)?;
        let until = match basis {
            // What a person wants is never too long.
            Basis::Cap => due,
            Basis::Nothing | Basis::Headers | Basis::SlowStart | Basis::Learned | Basis::Probe => {
                due.min(self.latest(now))
            }
        };
        (until > now).then_some(until)
    }

    /// Returns until when too little is left, but no longer than a wait may be: then a try finds out.
    fn stall(&self, weight: u32, strict: Option<Strict>, now: Timestamp) -> Option<Timestamp> {
        let units = f64::from(weight);
        let left = self.limits.wait(units, self.in_flight, now);
        let counted = |limit| self.counted.wait(limit, units, self.units_in_flight(), now);
        let counted = strict.and_then(counted);
        let until = left.max(counted)?.min(self.latest(now));
        (until > now).then_some(until)
    }

    /// Returns the limit that must not be exceeded by one unit, if what is learned sets the rate.
    fn strict(&self, rate: Rate, basis: Basis) -> Option<Strict> {
        let window = match basis {
            Basis::Learned | Basis::Probe => self.learner.strict_window()?,
            Basis::Nothing | Basis::Cap | Basis::Headers | Basis::SlowStart => return None,
        };
        // The division that made the rate may have taken a little off the last unit.
        let units = (rate.get() * window.as_secs_f64() + 1e-6).floor().max(1.0);
        Some(Strict { units, window })
    }

    /// Returns the rate at which requests are spaced.
    fn spacing(&self, rate: Rate, strict: Option<Strict>, now: Timestamp) -> Rate {
        match strict {
            Some(limit) if self.counted.is_whole(limit.window, now) => rate.times(CATCH_UP),
            Some(limit) => rate.times(learn::caution(limit.window)),
            None => rate,
        }
    }

    /// Notes a request that the server may count from now on, at the latest.
    fn count(&mut self, ticket: Ticket, now: Timestamp) {
        if let Some(window) = self.learner.window {
            self.counted.answered(f64::from(ticket.weight), window, now);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "units in flight are few")]
    fn units_in_flight(&self) -> f64 {
        self.in_flight as f64
    }

    /// Until when the next request may be kept waiting on our own judgement.
    fn latest(&self, now: Timestamp) -> Timestamp {
        self.waiting_since.unwrap_or(now).after(self.policy.max_wait)
    }

    /// Returns the rate in force and what it rests on: the slowest that anything demands.
    fn rate(&self, now: Timestamp) -> Option<(Rate, Basis)> {
        let cap = self.policy.cap.map(|cap| (cap, Basis::Cap));
        match self.policy.mode {
            QuotaMode::Off => None,
            QuotaMode::Fixed => cap,
            QuotaMode::Follow => {
                let slowest = Rate::of(1.0, self.policy.max_wait);
                let told = self.limits.rate(self.policy.reserve, now);
                let told = told.map(|rate| (rate.max(slowest), Basis::Headers));
                let learned = self.learner.rate().map(|rate| {
                    let factor = if told.is_none() { 1.0 - self.policy.reserve } else { 1.0 };
                    (rate.times(factor).max(slowest), self.learner.basis())
                });
                let slower = |a: (Rate, Basis), b: (Rate, Basis)| if b.0 < a.0 { b } else { a };
                [cap, told, learned].into_iter().flatten().reduce(slower)
            }
        }
    }

    /// Takes in the limits that a reply names.
    fn read(&mut self, ticket: Ticket, reply: &Reply<'_>, now: Timestamp) {
        if reply.signals.is_cached {
            return;
        }
        let context = Context {
            sent: ticket.sent,
            in_flight: self.units_in_flight(),
            accepted: self.accepted,
            is_accepted: reply.outcome == Outcome::Accepted,
            reserve: self.policy.reserve,
            now,
        };
        self.limits.take(&reply.signals.limits, &context);
        match self.limits.rate(self.policy.reserve, now) {
            Some(rate) => {
                self.told = Some(rate);
                self.learner.sleep();
            }
            // What a server told counts while it is silent, but not what turned out to be no use.
            None if reply.signals.limits.is_empty() => self.learner.wake(self.told),
            None => self.learner.wake(None),
        }
    }

    fn succeeded(&mut self, ticket: Ticket, now: Timestamp) {
        self.counted.took(now.since(ticket.sent));
        if ticket.generation == self.gate.generation {
            self.ladder.succeeded();
            let told = self.gate.hold().and_then(|hold| match hold.reason {
                HoldReason::Told(told) => Some(told),
                HoldReason::Exhausted { .. } | HoldReason::Unexplained { .. } => None,
            });
            if self.gate.hold().is_some() {
                self.learner.recovered(told, now);
                // The request that proved it went at a rate that no longer counts.
                if let Some((rate, _)) = self.rate(now) {
                    self.pace.restart(rate, now);
                }
            }
            self.gate.succeeded(ticket.generation);
        }
        self.learner.accepted(f64::from(ticket.weight), now);
    }

    /// Returns what a reply closes the gate for, by the first reason that applies.
    fn hold_for(
        &mut self,
        ticket: Ticket,
        reply: &Reply<'_>,
        now: Timestamp,
        draw: RandomSample,
    ) -> Option<Hold> {
        let signals = reply.signals;
        let is_throttled = reply.outcome == Outcome::Throttled;
        let is_current = ticket.generation == self.gate.generation;
        let exhausted = self.limits.exhausted(signals, is_throttled, now);
        if is_throttled
            && is_current
            && exhausted.is_none()
            && self.policy.mode == QuotaMode::Follow
        {
            self.learner.throttled(now);
        }
        if let Some(told) = signals.told.filter(|_| reply.outcome != Outcome::Accepted) {
            let until = now.after(retry_after_with_margin(told, draw));
            let exceeds_max_wait = told > self.policy.max_wait;
            return Some(Hold { until, reason: HoldReason::Told(told), exceeds_max_wait });
        }
        if let Some((resets, family)) = exhausted {
            let wait = resets.since(now);
            if is_throttled || wait >= SHORT_RESET {
                let until =
                    now.after(retry_after_with_margin(wait.min(self.policy.max_wait), draw));
                let exceeds_max_wait = wait > self.policy.max_wait;
                let reason = HoldReason::Exhausted { resets, family };
                return Some(Hold { until, reason, exceeds_max_wait });
            }
        }
        (is_throttled && is_current).then(|| self.unexplained(now, draw))
    }

    /// Returns the hold after a throttle that names no time.
    fn unexplained(&mut self, now: Timestamp, draw: RandomSample) -> Hold {
        let longest = self.policy.longest_hold();
        let doublings = self.ladder.tries.min(16);
        let window_ends = self.learner.window_ends(now).filter(|_| doublings == 0);
        let found = self.ladder.next(longest, now, draw);
        let until = match (self.policy.chosen_hold(), window_ends) {
            (Some(chosen), _) => now.after(chosen.saturating_mul(1 << doublings).min(longest)),
            (None, Some(ends)) => {
                now.after(retry_after_with_margin(ends.since(now).min(longest), draw))
            }
            (None, None) => now.after(found),
        };
        let reason = HoldReason::Unexplained { times: self.ladder.tries };
        Hold { until, reason, exceeds_max_wait: until.since(now) > self.policy.max_wait }
    }
}
