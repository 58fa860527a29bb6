//! A moment as people name it: a date, a time, or how long ago.

use chrono::{DateTime, Local, NaiveDate, NaiveTime, TimeZone};

use crate::cli::error::CliError;
use crate::config::parse_duration;
use crate::engine::{Timestamp, sanitize_line};

/// Reads `2h`, `2026-11-22` (its beginning here) or `2026-11-22T06:00:00Z`.
///
/// # Errors
/// For anything else, and for what lies ahead.
pub(super) fn parse_time_arg(text: &str, now: Timestamp) -> Result<Timestamp, CliError> {
    let written = sanitize_line(text);
    let since = parse_time(text, now).ok_or_else(|| {
        CliError::Usage(format!(
            "--since '{written}' is no time: write '2h' for two hours ago, '2026-11-22' or '2026-11-22T06:00:00Z'"
        ))
    })?;
    if now < since {
        return Err(CliError::Usage(format!("--since '{written}' lies ahead")));
    }
    Ok(since)
}

fn parse_time(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Some(ago) = parse_duration(text) {
        return Some(Timestamp(now.0.saturating_sub(i64::try_from(ago.as_millis()).ok()?)));
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(Timestamp(time.timestamp_millis()));
    }
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    // Where the clocks skip midnight, the day begins with the hour after it.
    let hours = (0..=1).filter_map(|hour| NaiveTime::from_hms_opt(hour, 0, 0));
    let begin = hours
        .map(|hour| day.and_time(hour))
        .find_map(|begin| Local.from_local_datetime(&begin).earliest())?;
    Some(Timestamp(begin.timestamp_millis()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-03-07T09:05:03.456Z.
    const NOW: Timestamp = Timestamp(1_772_874_303_456);

    #[test]
    fn a_time_is_an_age_a_timestamp_or_a_date() {
        assert_eq!(parse_time("2h", NOW), Some(Timestamp(NOW.0 - 7_200_000)));
        assert_eq!(parse_time("2026-03-07T09:00:00Z", NOW), Some(Timestamp(1_772_874_000_000)));
        let day = parse_time("2026-03-06", NOW).unwrap();
        let begin = Local.timestamp_millis_opt(day.0).single().unwrap();
        assert_eq!(begin.format("%Y-%m-%d %H:%M").to_string(), "2026-03-06 00:00");
    }

    #[test]
    fn invalid_and_future_times_are_rejected() {
        for text in ["", "yesterday", "2026-13-01", "-2h", "\u{1b}[2J"] {
            let Err(CliError::Usage(why)) = parse_time_arg(text, NOW) else {
                panic!("{text:?} is taken")
            };
            assert!(why.contains("is no time: write '2h'") && !why.contains('\u{1b}'), "{why}");
        }
        assert!(matches!(parse_time_arg("2026-03-08T00:00:00Z", NOW), Err(CliError::Usage(_))));
    }
}
