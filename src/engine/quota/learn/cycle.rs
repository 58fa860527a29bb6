//! What happens from one recovery to the next.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::quota::Rate;
use crate::engine::{ClockStep, Timestamp};

/// What a server's word on when to come back is rounded up by, at most.
const TOLD_ROUNDING: Duration = Duration::from_millis(1100);

/// A time named that is as short as this may be nothing but rounding.
const TOLD_ROUGH: Duration = Duration::from_millis(1500);

/// The longest pause of a client that still counts as work.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(30);

/// No cycle is shorter, or a rate could be anything.
const SHORTEST: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cycle {
    pub(super) began: Timestamp,
    /// For so long the quota had been back by then, if the server named the moment.
    idle: Option<Duration>,
    /// Units.
    pub(super) accepted: f64,
    /// When something was last sent.
    pub(super) last: Timestamp,
    pub(super) throttle: Option<Throttle>,
    /// A part of the time since the throttle is left out: nothing ran.
    has_rested: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Throttle {
    pub(super) first: Timestamp,
    /// The last one: a recovery lies after it.
    pub(super) last: Timestamp,
    /// The rate in force.
    pub(super) rate: Rate,
}

/// The persisted form of a cycle.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub(super) struct CycleMemory {
    began: i64,
    accepted: f64,
    last: i64,
    throttled_first: Option<i64>,
    throttled_last: Option<i64>,
    throttled_rate: Option<f64>,
}

impl CycleMemory {
    /// The same by a clock that was set by so much.
    pub(super) fn moved(&self, step: ClockStep) -> Self {
        let moved = |at: i64| Timestamp(at).shifted_by(step).0;
        Self {
            began: moved(self.began),
            last: moved(self.last),
            throttled_first: self.throttled_first.map(moved),
            throttled_last: self.throttled_last.map(moved),
            ..*self
        }
    }
}

impl Cycle {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { began: now, last: now, ..Self::default() }
    }

    /// Returns the cycle that begins when this one ends.
    pub(super) fn next(&self, told: Option<Duration>, now: Timestamp) -> Self {
        // After a rest nobody knows how often the quota came back.
        let told = told.filter(|told| *told > TOLD_ROUGH && !self.has_rested);
        let told = self.throttle.zip(told);
        let idle = told.map(|(throttle, told)| now.since(throttle.last.after(told)));
        Self { idle, ..Self::new(now) }
    }

    /// Returns the least and the most that lies between two moments at which the quota came back, of
    /// what lies between our returns. Where the server named the first, it came before our return.
    pub(super) fn windows(&self, earliest: Duration, latest: Duration) -> (Duration, Duration) {
        match self.idle {
            Some(idle) => (earliest + idle, latest + idle + TOLD_ROUNDING),
            None => (earliest, latest),
        }
    }

    /// Returns the earliest and the latest that the quota can have come back, from the beginning.
    ///
    /// A moment that the server named counts, not our margin; it is rounded up to a second.
    pub(super) fn bounds(&self, told: Option<Duration>, now: Timestamp) -> (Duration, Duration) {
        let last = self.throttle.map_or(self.last, |throttle| throttle.last);
        let (earliest, latest) = match told {
            Some(told) => {
                let end = last.after(told).since(self.began);
                (end.saturating_sub(TOLD_ROUNDING), end)
            }
            None => (last.since(self.began), now.since(self.began)),
        };
        (earliest, latest.max(SHORTEST))
    }

    /// Returns the units per second up to now.
    pub(super) fn rate(&self, now: Timestamp) -> Rate {
        Rate::of(self.accepted.max(1.0), now.since(self.began).max(SHORTEST))
    }

    /// Leaves out so much of the time since the throttle; without one a pause ends the cycle.
    pub(super) fn rested(&mut self, rest: Duration) {
        if self.throttle.is_some() {
            self.shift(|at| at.after(rest));
            self.has_rested = true;
        }
    }

    /// The clock was set by so much.
    pub(super) fn move_by(&mut self, step: ClockStep) {
        self.shift(|at| at.shifted_by(step));
    }

    fn shift(&mut self, shifted: impl Fn(Timestamp) -> Timestamp) {
        self.began = shifted(self.began);
        self.last = shifted(self.last);
        if let Some(throttle) = &mut self.throttle {
            throttle.first = shifted(throttle.first);
            throttle.last = shifted(throttle.last);
        }
    }

    pub(super) fn memory(&self) -> CycleMemory {
        CycleMemory {
            began: self.began.0,
            accepted: self.accepted,
            last: self.last.0,
            throttled_first: self.throttle.map(|throttle| throttle.first.0),
            throttled_last: self.throttle.map(|throttle| throttle.last.0),
            throttled_rate: self.throttle.map(|throttle| throttle.rate.get()),
        }
    }

    /// Takes up a cycle that was throttled, or that another process has just been in.
    pub(super) fn recall(memory: &CycleMemory, now: Timestamp) -> Self {
        let throttle = memory.throttled_first.zip(memory.throttled_last).zip(memory.throttled_rate);
        if throttle.is_none() && now.since(Timestamp(memory.last)) > PAUSE_MAX {
            return Self::new(now);
        }
        Self {
            began: Timestamp(memory.began).min(now),
            idle: None,
            has_rested: false,
            accepted: memory.accepted.max(0.0),
            last: Timestamp(memory.last).min(now),
            throttle: throttle.map(|((first, last), rate)| Throttle {
                first: Timestamp(first).min(now),
                last: Timestamp(last).min(now),
                rate: Rate::per_second(rate),
            }),
        }
    }
}
