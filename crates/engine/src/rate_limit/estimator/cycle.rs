//! Measurement cycle: the time from one recovery after a throttle to the next.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::rate_limit::rate::Rate;
use crate::{ClockStep, Timestamp};

/// Maximum amount by which servers round up Retry-After.
const RETRY_AFTER_ROUNDING: Duration = Duration::from_millis(1100);

/// A Retry-After this short may consist of nothing but rounding.
const RETRY_AFTER_IMPRECISE_MAX: Duration = Duration::from_millis(1500);

/// Longest pause between requests that never counts as idle time.
pub(super) const IDLE_THRESHOLD_MIN: Duration = Duration::from_secs(30);

/// Minimum length of a cycle: in a shorter one, the measured rate could be anything.
const CYCLE_MIN: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct MeasurementCycle {
    pub(super) started_at: Timestamp,
    /// Time from the server's recovery to the start, if the server named the time of recovery.
    available_before_start: Option<Duration>,
    /// Units accepted in this cycle.
    pub(super) accepted_units: f64,
    /// Time of the last request.
    pub(super) last_sent_at: Timestamp,
    pub(super) throttle: Option<ThrottleEpisode>,
    /// True if a part of the time since the throttle was excluded as idle.
    has_idle_gap: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ThrottleEpisode {
    pub(super) first_at: Timestamp,
    /// Last throttled response: the recovery comes after it.
    pub(super) last_at: Timestamp,
    /// Rate in force at the first throttled response.
    pub(super) rate: Rate,
}

/// Persisted form of a cycle.
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
    /// Returns the state with all times shifted by a clock step.
    pub(super) fn shifted_by(&self, step: ClockStep) -> Self {
        let shift = |at: i64| Timestamp(at).shifted_by(step).0;
        Self {
            started_at: shift(self.started_at),
            last_sent_at: shift(self.last_sent_at),
            first_throttled_at: self.first_throttled_at.map(shift),
            last_throttled_at: self.last_throttled_at.map(shift),
            ..*self
        }
    }
}

impl MeasurementCycle {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { started_at: now, last_sent_at: now, ..Self::default() }
    }

    /// Returns the cycle that begins when this one ends.
    pub(super) fn next_cycle(&self, retry_after: Option<Duration>, now: Timestamp) -> Self {
        // After an idle time it is unknown how often the limit recovered.
        let retry_after =
            retry_after.filter(|wait| *wait > RETRY_AFTER_IMPRECISE_MAX && !self.has_idle_gap);
        let available_before_start = self
            .throttle
            .zip(retry_after)
            .map(|(throttle, retry_after)| now.since(throttle.last_at.after(retry_after)));
        Self { available_before_start, ..Self::new(now) }
    }

    /// Returns the bounds of the time between two recoveries of the server, from the bounds of the
    /// second one since the start of the cycle. The server recovered before that start, by a time
    /// that is known if it named the first recovery.
    pub(super) fn window_bounds(
        &self,
        earliest: Duration,
        latest: Duration,
    ) -> (Duration, Duration) {
        match self.available_before_start {
            Some(available) => (earliest + available, latest + available + RETRY_AFTER_ROUNDING),
            None => (earliest, latest),
        }
    }

    /// Returns the earliest and latest time at which the limit can have recovered, from the start
    /// of the cycle.
    ///
    /// A Retry-After counts without our margin; servers round it up to a second.
    pub(super) fn recovery_bounds(
        &self,
        retry_after: Option<Duration>,
        now: Timestamp,
    ) -> (Duration, Duration) {
        let last = self.throttle.map_or(self.last_sent_at, |throttle| throttle.last_at);
        let (earliest, latest) = match retry_after {
            Some(retry_after) => {
                let end = last.after(retry_after).since(self.started_at);
                (end.saturating_sub(RETRY_AFTER_ROUNDING), end)
            }
            None => (last.since(self.started_at), now.since(self.started_at)),
        };
        (earliest, latest.max(CYCLE_MIN))
    }

    /// Returns the units accepted per second up to `now`.
    pub(super) fn accepted_rate(&self, now: Timestamp) -> Rate {
        Rate::from_units(self.accepted_units.max(1.0), now.since(self.started_at).max(CYCLE_MIN))
    }

    /// Excludes an idle time since the throttle; without a throttle, a pause ends the cycle anyway.
    pub(super) fn exclude_idle(&mut self, idle: Duration) {
        if self.throttle.is_some() {
            self.map_times(|at| at.after(idle));
            self.has_idle_gap = true;
        }
    }

    /// Shifts all times by a clock step.
    pub(super) fn shift_by(&mut self, step: ClockStep) {
        self.map_times(|at| at.shifted_by(step));
    }

    fn map_times(&mut self, shift: impl Fn(Timestamp) -> Timestamp) {
        self.started_at = shift(self.started_at);
        self.last_sent_at = shift(self.last_sent_at);
        if let Some(throttle) = &mut self.throttle {
            throttle.first_at = shift(throttle.first_at);
            throttle.last_at = shift(throttle.last_at);
        }
    }

    pub(super) fn to_state(self) -> MeasurementCycleState {
        MeasurementCycleState {
            started_at: self.started_at.0,
            accepted_units: self.accepted_units,
            last_sent_at: self.last_sent_at.0,
            first_throttled_at: self.throttle.map(|throttle| throttle.first_at.0),
            last_throttled_at: self.throttle.map(|throttle| throttle.last_at.0),
            throttled_at_rate: self.throttle.map(|throttle| throttle.rate.get()),
        }
    }

    /// Restores a cycle. One that was not throttled is restarted after a pause of more than
    /// [`IDLE_THRESHOLD_MIN`].
    pub(super) fn restore(state: &MeasurementCycleState, now: Timestamp) -> Self {
        let throttle =
            state.first_throttled_at.zip(state.last_throttled_at).zip(state.throttled_at_rate);
        if throttle.is_none() && now.since(Timestamp(state.last_sent_at)) > IDLE_THRESHOLD_MIN {
            return Self::new(now);
        }
        Self {
            started_at: Timestamp(state.started_at).min(now),
            available_before_start: None,
            has_idle_gap: false,
            accepted_units: state.accepted_units.max(0.0),
            last_sent_at: Timestamp(state.last_sent_at).min(now),
            throttle: throttle.map(|((first, last), rate)| ThrottleEpisode {
                first_at: Timestamp(first).min(now),
                last_at: Timestamp(last).min(now),
                rate: Rate::per_second(rate),
            }),
        }
    }
}
