//! Time as the engine knows it: an argument, never read.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::engine::ClockStep;

/// The years that RFC 3339 can write, in milliseconds since the epoch.
const RFC3339_MILLIS_RANGE: (i64, i64) = (-62_167_219_200_000, 253_402_300_799_999);

/// A point in time, in milliseconds since the Unix epoch (UTC).
///
/// Deadlines outlive the process, so the monotonic clock will not do.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Returns the moment `wait` later, or the last one there is.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Returns the moment `wait` earlier, or the first one there is.
    #[must_use]
    pub fn before(self, wait: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Returns the moment that this one is by a clock that was set since.
    #[must_use]
    pub fn shifted_by(self, by: ClockStep) -> Self {
        Self(self.0.saturating_add(by.millis()))
    }

    /// Returns the time passed since `earlier`; zero if it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Returns the moment in whole seconds since the epoch, rounded down.
    #[must_use]
    pub fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, with milliseconds. What cannot be written is written as the last that can.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let writable = self.0.clamp(RFC3339_MILLIS_RANGE.0, RFC3339_MILLIS_RANGE.1);
        let time = DateTime::from_timestamp_millis(writable).unwrap_or_default();
        f.write_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

/// As it is displayed.
impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Any time of RFC 3339.
impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let time = DateTime::parse_from_rfc3339(&text).map_err(Error::custom)?;
        Ok(Self(time.timestamp_millis()))
    }
}

/// A random draw, uniform over the whole range: chance as an argument.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RandomSample(pub u32);

impl RandomSample {
    /// Returns the draw as a share in `0.0..=1.0`.
    #[must_use]
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / f64::from(u32::MAX)
    }

    /// Returns a place among so many; 0 among none.
    #[must_use]
    pub fn index_below(self, count: usize) -> usize {
        (self.0 as usize).checked_rem(count).unwrap_or_default()
    }
}
