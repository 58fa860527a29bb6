//! Rate: units that a server grants per span of time.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Spans of a written rate, longest first, with their names.
const SPANS: [(f64, &str, &[&str]); 4] = [
    (86_400.0, "d", &["d", "day"]),
    (3600.0, "h", &["h", "hour"]),
    (60.0, "min", &["min", "minute", "m"]),
    (1.0, "s", &["s", "sec", "second"]),
];

/// Minimum rate: one unit in about 31 years. It keeps every interval finite.
const SLOWEST_PER_SECOND: f64 = 1e-9;

/// Maximum rate: one unit per nanosecond.
const FASTEST_PER_SECOND: f64 = 1e9;

/// Rate in units per second; finite and above zero.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Rate(f64);

impl Rate {
    /// Creates a rate in units per second, clamped to the valid range.
    #[must_use]
    pub fn per_second(units: f64) -> Self {
        Self(if units.is_nan() {
            SLOWEST_PER_SECOND
        } else {
            units.clamp(SLOWEST_PER_SECOND, FASTEST_PER_SECOND)
        })
    }

    /// Returns the rate of `units` per `duration`.
    #[must_use]
    pub fn from_units(units: f64, duration: Duration) -> Self {
        Self::per_second(units / duration.as_secs_f64())
    }

    /// Returns the units per second.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }

    /// Returns the rate multiplied by `factor`.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        Self::per_second(self.0 * factor)
    }

    /// Returns the lower of two rates.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self(self.0.min(other.0))
    }

    /// Returns the higher of two rates.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self(self.0.max(other.0))
    }

    /// Returns the time between two units.
    #[must_use]
    pub fn interval(self) -> Duration {
        Duration::from_secs_f64(1.0 / self.0)
    }
}

impl fmt::Display for Rate {
    /// Uses the shortest span that holds at least ten units: `600/min`, `5000/h`, `12.5/s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spans = SPANS.iter().rev();
        let span = spans.clone().find(|span| self.0 * span.0 >= 9.95).unwrap_or(&SPANS[0]);
        let units = self.0 * span.0;
        let tenths = (units * 10.0).round() / 10.0;
        if tenths >= 100.0 || tenths.fract() == 0.0 {
            write!(f, "{units:.0}/{}", span.1)
        } else if tenths >= 0.1 {
            write!(f, "{units:.1}/{}", span.1)
        } else {
            write!(f, "{units:.3}/{}", span.1)
        }
    }
}

impl FromStr for Rate {
    type Err = RateError;

    /// Parses `600/min`, `10/s`, `5000/h`, `100/d`, and multiples of a span: `40/10s`.
    fn from_str(text: &str) -> Result<Self, RateError> {
        parse_rate(text).ok_or_else(|| RateError(text.to_owned()))
    }
}

fn parse_rate(text: &str) -> Option<Rate> {
    let (units, span) = text.split_once('/')?;
    let units: f64 = units.trim().replace('_', "").parse().ok()?;
    let span = span.trim();
    let name = span.trim_start_matches(|c: char| c.is_ascii_digit());
    let count = &span[..span.len() - name.len()];
    let count: f64 = if count.is_empty() { 1.0 } else { count.parse().ok()? };
    let known = SPANS.iter().find(|known| known.2.contains(&name.trim()))?;
    let rate = units / (count * known.0);
    (SLOWEST_PER_SECOND..=FASTEST_PER_SECOND).contains(&rate).then_some(Rate(rate))
}

/// Error for a text that is not a rate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RateError(String);

impl fmt::Display for RateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a rate: write it as `600/min`, `10/s`, `5000/h` or `100/d`", self.0)
    }
}

impl std::error::Error for RateError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_parses_and_displays_in_human_units() {
        for (text, written, per_second) in [
            ("600/min", "10/s", 10.0),
            ("10/s", "10/s", 10.0),
            ("5000/h", "83.3/min", 5000.0 / 3600.0),
            ("100/d", "100/d", 100.0 / 86_400.0),
            ("19/min", "19/min", 19.0 / 60.0),
            ("100 / hour", "100/h", 100.0 / 3600.0),
            ("40/10s", "240/min", 4.0),
            ("15_000/min", "250/s", 250.0),
        ] {
            let rate: Rate = text.parse().expect(text);
            assert!((rate.get() - per_second).abs() < 1e-9, "{text}");
            assert_eq!(rate.to_string(), written, "{text}");
        }
    }

    #[test]
    fn invalid_rate_is_rejected_with_an_example() {
        for junk in ["", "10", "/s", "0/s", "-1/s", "NaN/s", "inf/s", "1/0s", "1/fortnight"] {
            let error = junk.parse::<Rate>().expect_err(junk);
            assert!(error.to_string().contains("600/min"), "{junk}");
        }
    }
}
