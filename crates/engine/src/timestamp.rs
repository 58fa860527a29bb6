//! Time and randomness in the engine: always arguments, never read from the system.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Range of times that RFC 3339 can represent, in milliseconds since the epoch.
const RFC3339_MILLIS_RANGE: (i64, i64) = (-62_167_219_200_000, 253_402_300_799_999);

/// Point in time, in milliseconds since the Unix epoch (UTC).
///
/// Deadlines outlive the process, so the monotonic clock cannot be used.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Returns the time `wait` later, at most the largest one.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Returns the time `wait` earlier, at least the smallest one.
    #[must_use]
    pub fn before(self, wait: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Returns the time passed since `earlier`; zero if it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Returns the time in whole seconds since the epoch, rounded down.
    #[must_use]
    pub fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }
}

impl fmt::Display for Timestamp {
    /// Writes RFC 3339 in UTC, with milliseconds. A time outside its range is written as the
    /// nearest one inside.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clamped = self.0.clamp(RFC3339_MILLIS_RANGE.0, RFC3339_MILLIS_RANGE.1);
        let time = DateTime::from_timestamp_millis(clamped).unwrap_or_default();
        f.write_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

/// Uses the displayed form.
impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Accepts any time in RFC 3339.
impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = DateTime::parse_from_rfc3339(&text).map_err(Error::custom)?;
        Ok(Self(time.timestamp_millis()))
    }
}

/// Random number, uniform over the whole range of `u32`, passed as an argument.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RandomSample(pub u32);

impl RandomSample {
    /// Returns the sample as a fraction in `0.0..=1.0`.
    #[must_use]
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / f64::from(u32::MAX)
    }

    /// Returns an index below `count`; 0 if `count` is 0.
    #[must_use]
    pub fn index_below(self, count: usize) -> usize {
        (self.0 as usize).checked_rem(count).unwrap_or_default()
    }
}
