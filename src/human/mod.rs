//! Formatting of numbers and times for people, the same in all outputs.

use std::time::Duration;

use chrono::{DateTime, Local, SecondsFormat, TimeZone};

use crate::engine::Timestamp;
pub use crate::engine::{format_bytes, format_duration};

/// Table cell without a value.
pub const EMPTY_CELL: &str = "–";

/// Shortest wait whose deadline is shown to the minute, without seconds.
const MINUTE_PRECISION_FROM: Duration = Duration::from_secs(60);

/// Formats `10204` as `10,204`.
#[must_use]
pub fn format_count(number: u64) -> String {
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

/// Formats a number with its noun: `1 item`, `2,000 items`.
#[must_use]
pub fn pluralize(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", format_count(number))
}

/// Formats a timestamp in local time: `14:05:09` if it is today, else `2024-05-09 14:05`.
#[must_use]
pub fn format_clock_time(at: Timestamp, now: Timestamp) -> String {
    let (Some(at), Some(now)) = (to_local_time(at), to_local_time(now)) else {
        return EMPTY_CELL.to_owned();
    };
    if at.date_naive() == now.date_naive() {
        at.format("%H:%M:%S").to_string()
    } else {
        at.format("%Y-%m-%d %H:%M").to_string()
    }
}

/// Formats a deadline: `14:05 (in 4 min)`, with seconds if it is less than a minute away.
#[must_use]
pub fn format_deadline(at: Timestamp, now: Timestamp) -> String {
    if at <= now {
        return "now".to_owned();
    }
    // Rounded up, so that a deadline in the future never shows 0 s.
    let wait = at.since(now);
    let wait = Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
    let mut clock = format_clock_time(at, now);
    if wait >= MINUTE_PRECISION_FROM && clock.matches(':').count() == 2 {
        clock.truncate(clock.len() - ":00".len());
    }
    format!("{clock} (in {})", format_duration(wait))
}

/// Formats a date and time in local time: `2024-05-09 14:05:09`.
#[must_use]
pub fn format_date_time(at: Timestamp) -> String {
    to_local_time(at)
        .map_or_else(|| EMPTY_CELL.to_owned(), |time| time.format("%Y-%m-%d %H:%M:%S").to_string())
}

/// Formats a timestamp in UTC (RFC 3339), with milliseconds, for programs. The state file has the
/// same form.
#[must_use]
pub fn format_utc(at: Timestamp) -> String {
    let time = DateTime::from_timestamp_millis(at.0).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Formats a rate: `14.2/s`, and slower ones per minute or hour.
#[must_use]
pub fn format_rate(per_second: f64) -> String {
    if per_second >= 0.5 {
        format!("{per_second:.1}/s")
    } else if per_second * 60.0 >= 0.5 {
        format!("{:.1}/min", per_second * 60.0)
    } else {
        format!("{:.1}/h", per_second * 3600.0)
    }
}

/// Estimates the time that the remaining items take. `None` if the rate is zero or unknown, or the
/// time too long for a [`Duration`].
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "an estimate for people")]
pub fn estimate_remaining(remaining: u64, per_second: Option<f64>) -> Option<Duration> {
    let per_second = per_second.filter(|rate| *rate > 0.0)?;
    Duration::try_from_secs_f64((remaining as f64 / per_second).ceil()).ok()
}

fn to_local_time(at: Timestamp) -> Option<DateTime<Local>> {
    Local.timestamp_millis_opt(at.0).single()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let texts = [0, 999, 1000, 81_113, 10_000_000].map(format_count);

        assert_eq!(texts, ["0", "999", "1,000", "81,113", "10,000,000"]);
    }

    #[test]
    fn durations_have_two_units() {
        let texts = [45, 60, 84, 3600, 11_100, 90_000, 187_200]
            .map(|seconds| format_duration(Duration::from_secs(seconds)));

        assert_eq!(
            texts,
            ["45 s", "1 min", "1 min 24 s", "1 h", "3 h 5 min", "1 d 1 h", "2 d 4 h"]
        );
        assert_eq!(
            [0, 1, 500_000].map(|micros| format_duration(Duration::from_micros(micros))),
            ["0 s", "1 ms", "500 ms"]
        );
    }

    #[test]
    fn sizes_use_the_largest_fitting_unit() {
        let texts = [0, 1, 999, 1000, 12_345_678, 999_949_999, 999_990_000].map(format_bytes);

        assert_eq!(
            texts,
            ["0 bytes", "1 byte", "999 bytes", "1.0 kB", "12.3 MB", "999.9 MB", "1.0 GB"]
        );
    }

    #[test]
    fn a_deadline_shows_seconds_only_when_near() {
        let now = Timestamp(1_700_000_000_000);
        let deadline_in = |seconds| format_deadline(now.after(Duration::from_secs(seconds)), now);

        assert_eq!(deadline_in(0), "now");
        assert!(format_deadline(Timestamp(now.0 + 1), now).ends_with(" (in 1 s)"));
        assert_eq!(deadline_in(20).matches(':').count(), 2, "{}", deadline_in(20));
        assert_eq!(deadline_in(300).matches(':').count(), 1, "{}", deadline_in(300));
        assert!(deadline_in(300).ends_with(" (in 5 min)"));
    }

    #[test]
    fn slow_rates_are_per_minute_or_hour() {
        assert_eq!([14.21, 0.1, 0.001].map(format_rate), ["14.2/s", "6.0/min", "3.6/h"]);
    }
}
