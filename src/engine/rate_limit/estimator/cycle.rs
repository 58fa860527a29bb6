//! What happens from one recovery to the next.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::rate_limit::Rate;
use crate::engine::{ClockStep, Timestamp};

/// What a server's word on when to come back is rounded up by, at most.
const RETRY_AFTER_ROUNDING: Duration = Duration::from_millis(1100);

/// A time named that is as short as this may be nothing but rounding.
const RETRY_AFTER_IMPRECISE: Duration = Duration::from_millis(1500);

/// The longest pause of a client that still counts as work.
pub(super) const IDLE_THRESHOLD_MIN: Duration = Duration::from_secs(30);

/// No cycle is shorter, or a rate could be anything.
const CYCLE_MIN: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct MeasurementCycle {
    pub(super) started_at: Timestamp,
    /// For so long the quota had been back by then, if the server named the moment.
    available_before_start: Option<Duration>,
    /// Units.
    pub(super) accepted_units: f64,
    /// When something was last sent.
    pub(super) last_sent_at: Timestamp,
    pub(super) throttle: Option<ThrottleEpisode>,
    /// A part of the time since the throttle is left out: nothing ran.
    has_idle_gap: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ThrottleEpisode {
    pub(super) first_at: Timestamp,
    /// The last one: a recovery lies after it.
    pub(super) last_at: Timestamp,
    /// The rate in force.
    pub(super) rate: Rate,
}

/// The persisted form of a cycle.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub(super) struct MeasurementCycleState {
    #[serde(rename = "began")]
    started_at: i64,
    #[serde(rename = "accepted")]
    accepted_units: f64,
    #[serde(rename = "last")]
    last_sent_at: i64,
    #[serde(rename = "throttled_first")]
    first_throttled_at: Option<i64>,
    #[serde(rename = "throttled_last")]
    last_throttled_at: Option<i64>,
    #[serde(rename = "throttled_rate")]
    throttled_at_rate: Option<f64>,
}

impl MeasurementCycleState {
    /// The same by a clock that was set by so much.
    pub(super) fn shifted_by(&self, step: ClockStep) -> Self {
        let moved = |at: i64| Timestamp(at).shifted_by(step).0;
        Self {
            started_at: moved(self.started_at),
            last_sent_at: moved(self.last_sent_at),
            first_throttled_at: self.first_throttled_at.map(moved),
            last_throttled_at: self.last_throttled_at.map(moved),
            ..*self
        }
    }
}

impl MeasurementCycle {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { started_at: now, last_sent_at: now, ..Self::default() }
    }

    /// Returns the cycle that begins when this one ends.
    pub(super) fn next_cycle(&self, told: Option<Duration>, now: Timestamp) -> Self {
        // After a rest nobody knows how often the quota came back.
        let told = told.filter(|told| *told > RETRY_AFTER_IMPRECISE && !self.has_idle_gap);
        let told = self.throttle.zip(told);
        let idle = told.map(|(throttle, told)| now.since(throttle.last_at.after(told)));
        Self { available_before_start: idle, ..Self::new(now) }
    }

    /// Returns the least and the most that lies between two moments at which the quota came back, of
    /// what lies between our returns. Where the server named the first, it came before our return.
    pub(super) fn window_bounds(
        &self,
        earliest: Duration,
        latest: Duration,
    ) -> (Duration, Duration) {
        match self.available_before_start {
            Some(idle) => (earliest + idle, latest + idle + RETRY_AFTER_ROUNDING),
            None => (earliest, latest),
        }
    }

    /// Returns the earliest and the latest that the quota can have come back, from the beginning.
    ///
    /// A moment that the server named counts, not our margin; it is rounded up to a second.
    pub(super) fn recovery_bounds(
        &self,
        told: Option<Duration>,
        now: Timestamp,
    ) -> (Duration, Duration) {
        let last = self.throttle.map_or(self.last_sent_at, |throttle| throttle.last_at);
        let (earliest, latest) = match told {
            Some(told) => {
                let end = last.after(told).since(self.started_at);
                (end.saturating_sub(RETRY_AFTER_ROUNDING), end)
            }
            None => (last.since(self.started_at), now.since(self.started_at)),
        };
        (earliest, latest.max(CYCLE_MIN))
    }

    /// Returns the units per second up to now.
    pub(super) fn accepted_rate(&self, now: Timestamp) -> Rate {
        Rate::from_units(self.accepted_units.max(1.0), now.since(self.started_at).max(CYCLE_MIN))
    }

    /// Leaves out so much of the time since the throttle; without one a pause ends the cycle.
    pub(super) fn exclude_idle(&mut self, rest: Duration) {
        if self.throttle.is_some() {
            self.map_times(|at| at.after(rest));
            self.has_idle_gap = true;
        }
    }

    /// The clock was set by so much.
    pub(super) fn shift_by(&mut self, step: ClockStep) {
        self.map_times(|at| at.shifted_by(step));
    }

    fn map_times(&mut self, shifted: impl Fn(Timestamp) -> Timestamp) {
        self.started_at = shifted(self.started_at);
        self.last_sent_at = shifted(self.last_sent_at);
        if let Some(throttle) = &mut self.throttle {
            throttle.first_at = shifted(throttle.first_at);
            throttle.last_at = shifted(throttle.last_at);
        }
    }

    pub(super) fn to_state(&self) -> MeasurementCycleState {
        MeasurementCycleState {
            started_at: self.started_at.0,
            accepted_units: self.accepted_units,
            last_sent_at: self.last_sent_at.0,
            first_throttled_at: self.throttle.map(|throttle| throttle.first_at.0),
            last_throttled_at: self.throttle.map(|throttle| throttle.last_at.0),
            throttled_at_rate: self.throttle.map(|throttle| throttle.rate.get()),
        }
    }

    /// Takes up a cycle that was throttled, or that another process has just been in.
    pub(super) fn restore(memory: &MeasurementCycleState, now: Timestamp) -> Self {
        let throttle =
            memory.first_throttled_at.zip(memory.last_throttled_at).zip(memory.throttled_at_rate);
        if throttle.is_none() && now.since(Timestamp(memory.last_sent_at)) > IDLE_THRESHOLD_MIN {
            return Self::new(now);
        }
        Self {
            started_at: Timestamp(memory.started_at).min(now),
            available_before_start: None,
            has_idle_gap: false,
            accepted_units: memory.accepted_units.max(0.0),
            last_sent_at: Timestamp(memory.last_sent_at).min(now),
            throttle: throttle.map(|((first, last), rate)| ThrottleEpisode {
                first_at: Timestamp(first).min(now),
                last_at: Timestamp(last).min(now),
                rate: Rate::per_second(rate),
            }),
        }
    }
}
