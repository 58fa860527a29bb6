//! Formatting of numbers and times for people, the same in all outputs.

use std::time::Duration;

use chrono::{DateTime, Local, TimeZone};
use cynosure_engine::{Timestamp, format_bytes, format_count, format_duration, plural_form};

/// Table cell without a value.
pub const EMPTY_CELL: &str = "–";

/// Shortest wait whose end is shown to the minute, without seconds.
const MINUTE_PRECISION_FROM: Duration = Duration::from_secs(60);

/// Formats a number with its noun: `1 item`, `2,000 items`.
#[must_use]
pub fn pluralize(number: u64, noun: &str) -> String {
    format!("{} {}", format_count(number), plural_form(number, noun))
}

/// Returns `rate limited` for `rate_limited`.
#[must_use]
pub fn humanize(name: &str) -> String {
    name.replace('_', " ")
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
    format!("{} (in {})", format_wait_end(at, now), format_duration(wait_until(at, now)))
}

/// Formats the end of a wait in local time: `14:05`, with seconds if it is less than a minute away.
#[must_use]
pub fn format_wait_end(at: Timestamp, now: Timestamp) -> String {
    let mut clock = format_clock_time(at, now);
    if wait_until(at, now) >= MINUTE_PRECISION_FROM && clock.matches(':').count() == 2 {
        clock.truncate(clock.len() - ":00".len());
    }
    clock
}

/// Returns the wait in whole seconds, rounded up, so that a deadline in the future never shows 0 s.
fn wait_until(at: Timestamp, now: Timestamp) -> Duration {
    let wait = at.since(now);
    Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}

/// Formats a date and time in local time: `2024-05-09 14:05:09`.
#[must_use]
pub fn format_date_time(at: Timestamp) -> String {
    to_local_time(at)
        .map_or_else(|| EMPTY_CELL.to_owned(), |time| time.format("%Y-%m-%d %H:%M:%S").to_string())
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

/// Formats the progress of a download: `1.2 of about 3.4 GB`. `None` without an estimate of the
/// total. One that is exceeded has proved too low, and what was fetched is shown in its place.
#[must_use]
pub fn format_byte_progress(fetched: u64, expected: Option<u64>) -> Option<String> {
    let total = format_bytes(expected?.max(fetched));
    let done = format_bytes(fetched);
    let (number, unit) = done.split_once(' ')?;
    let is_same_unit = total.split_once(' ').is_some_and(|(_, total_unit)| total_unit == unit);
    Some(format!("{} of about {total}", if is_same_unit { number } else { done.as_str() }))
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
    fn the_progress_in_bytes_names_a_common_unit_once() {
        let progress = |fetched, expected| format_byte_progress(fetched, Some(expected)).unwrap();

        assert_eq!(progress(1_234_567_890, 3_400_000_000), "1.2 of about 3.4 GB");
        assert_eq!(progress(812_000_000, 3_400_000_000), "812.0 MB of about 3.4 GB");
        assert_eq!(progress(0, 500), "0 of about 500 bytes");
        assert_eq!(progress(3_600_000_000, 3_400_000_000), "3.6 of about 3.6 GB");
        assert_eq!(format_byte_progress(812, None), None);
    }

    #[test]
    fn slow_rates_are_per_minute_or_hour() {
        assert_eq!([14.21, 0.1, 0.001].map(format_rate), ["14.2/s", "6.0/min", "3.6/h"]);
    }
}
