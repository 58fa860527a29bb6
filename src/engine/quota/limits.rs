//! All limits that a server describes: the tightest one counts.

use crate::engine::quota::window::{Context, Tracked};
use crate::engine::quota::{Family, Limit, Rate, Signals};
use crate::engine::{ClockStep, Timestamp};

/// More than this are not followed: the least recently named gives way.
const TRACKED_MAX: usize = 16;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Limits {
    tracked: Vec<Tracked>,
}

impl Limits {
    /// Takes in what one reply says.
    pub(super) fn take(&mut self, limits: &[Limit], context: &Context) {
        for limit in limits {
            if let Some(tracked) = self.tracked.iter_mut().find(|tracked| tracked.is(limit)) {
                tracked.read(limit, context);
                continue;
            }
            if self.tracked.len() == TRACKED_MAX {
                self.tracked.remove(0);
            }
            self.tracked.push(Tracked::new(limit, context));
        }
    }

    pub(super) fn roll(&mut self, weight: f64, now: Timestamp) {
        for tracked in &mut self.tracked {
            tracked.roll(weight, now);
        }
    }

    /// The clock was set by so much.
    pub(super) fn move_by(&mut self, step: ClockStep) {
        for tracked in &mut self.tracked {
            tracked.move_by(step);
        }
    }

    /// Nothing ran for a while.
    pub(super) fn rested(&mut self) {
        for tracked in &mut self.tracked {
            tracked.rested();
        }
    }

    pub(super) fn spend(&mut self, units: f64) {
        for tracked in &mut self.tracked {
            tracked.spend(units);
        }
    }

    /// Returns the rate of the tightest limit that says enough.
    pub(super) fn rate(&self, reserve: f64, now: Timestamp) -> Option<Rate> {
        self.tracked.iter().filter_map(|tracked| tracked.rate(reserve, now)).reduce(Rate::min)
    }

    /// Returns until when a request of `weight` must wait for some limit.
    pub(super) fn wait(&self, weight: f64, in_flight: u64, now: Timestamp) -> Option<Timestamp> {
        self.tracked.iter().filter_map(|tracked| tracked.wait(weight, in_flight, now)).max()
    }

    /// Returns the reset of a limit that this reply says is used up: the last, if of several.
    ///
    /// What trickles back is never gone for long, unless the request was refused.
    pub(super) fn exhausted(
        &self,
        signals: &Signals,
        is_throttled: bool,
        now: Timestamp,
    ) -> Option<(Timestamp, Family)> {
        let limits = if signals.is_cached { &[][..] } else { &signals.limits[..] };
        limits
            .iter()
            .filter(|limit| limit.remaining == Some(0.0))
            .filter_map(|limit| self.tracked.iter().find(|tracked| tracked.is(limit)))
            .filter(|tracked| is_throttled || !tracked.trickles())
            .filter_map(|tracked| Some((tracked.exhausted_until(now)?, tracked.limit.family)))
            .max()
    }

    /// Returns the limits as last read.
    pub(super) fn read(&self) -> impl Iterator<Item = &Limit> {
        self.tracked.iter().map(|tracked| &tracked.limit)
    }
}
