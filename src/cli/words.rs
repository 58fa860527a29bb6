//! Numbers and times in words, the same everywhere a person reads them.

use std::time::Duration;

use chrono::{DateTime, Local, TimeZone};

use crate::engine::Moment;

/// `10204` as `10,204`.
#[must_use]
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time span in its two largest units: `45 s`, `1 min 24 s`, `3 h 5 min`, `2 d 4 h`.
#[must_use]
pub(super) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds} s"),
        (0, 0, minutes, 0) => format!("{minutes} min"),
        (0, 0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (0, hours, 0, _) => format!("{hours} h"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
        (days, 0, _, _) => format!("{days} d"),
        (days, hours, _, _) => format!("{days} d {hours} h"),
    }
}

/// A moment on the wall clock of this machine: the time, with the date unless it is today's.
#[must_use]
pub(super) fn clock(at: Moment, now: Moment) -> String {
    let (Some(at), Some(now)) = (local(at), local(now)) else { return "-".to_owned() };
    if at.date_naive() == now.date_naive() {
        at.format("%H:%M:%S").to_string()
    } else {
        at.format("%Y-%m-%d %H:%M").to_string()
    }
}

/// `14:05:00 (in 4 min)`.
#[must_use]
pub(super) fn clock_and_wait(at: Moment, now: Moment) -> String {
    if at <= now {
        return "now".to_owned();
    }
    format!("{} (in {})", clock(at, now), span(at.since(now)))
}

/// `14.2/s`, and slower ones per minute or hour.
#[must_use]
pub(super) fn rate(per_second: f64) -> String {
    if per_second >= 0.5 {
        format!("{per_second:.1}/s")
    } else if per_second * 60.0 >= 0.5 {
        format!("{:.1}/min", per_second * 60.0)
    } else {
        format!("{:.1}/h", per_second * 3600.0)
    }
}

/// The time `left` items take at a rate; `None` where there is no end in sight.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "an estimate for people")]
pub(super) fn remaining(left: u64, per_second: Option<f64>) -> Option<Duration> {
    let per_second = per_second.filter(|rate| *rate > 0.0)?;
    Duration::try_from_secs_f64((left as f64 / per_second).ceil()).ok()
}

fn local(at: Moment) -> Option<DateTime<Local>> {
    Local.timestamp_millis_opt(at.0).single()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let texts = [0, 999, 1000, 81_113, 10_000_000].map(count);

        assert_eq!(texts, ["0", "999", "1,000", "81,113", "10,000,000"]);
    }

    #[test]
    fn spans_are_told_in_two_units() {
        let texts = [45, 60, 84, 3600, 11_100, 90_000, 187_200]
            .map(|seconds| span(Duration::from_secs(seconds)));

        assert_eq!(
            texts,
            ["45 s", "1 min", "1 min 24 s", "1 h", "3 h 5 min", "1 d 1 h", "2 d 4 h"]
        );
    }

    #[test]
    fn slow_rates_are_told_per_minute_or_hour() {
        assert_eq!([14.21, 0.1, 0.001].map(rate), ["14.2/s", "6.0/min", "3.6/h"]);
    }
}
