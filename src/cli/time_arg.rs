//! Parser of `--since`: a date, an RFC 3339 time, or an age such as `2h`.

use chrono::{DateTime, Local, NaiveDate, NaiveTime, TimeZone};
use cynosure_engine::user_input::parse_duration;
use cynosure_engine::{Timestamp, sanitize_line};

use crate::app::error::ProgramError;

/// Parses `2h` (two hours ago), `2026-11-22` (its start in local time) or `2026-11-22T06:00:00Z`.
///
/// # Errors
/// [`ProgramError::Usage`] for any other text, and for a time in the future.
pub(super) fn parse_time_arg(text: &str, now: Timestamp) -> Result<Timestamp, ProgramError> {
    let sanitized = sanitize_line(text);
    let since = parse_time(text, now).ok_or_else(|| {
        ProgramError::Usage(format!(
            "--since '{sanitized}' is not a valid time: write '2h' for two hours ago, '2026-11-22' \
             or '2026-11-22T06:00:00Z'"
        ))
    })?;
    if now < since {
        return Err(ProgramError::Usage(format!("--since '{sanitized}' is in the future")));
    }
    Ok(since)
}

fn parse_time(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Some(age) = parse_duration(text) {
        return Some(Timestamp(now.0.saturating_sub(i64::try_from(age.as_millis()).ok()?)));
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(Timestamp(time.timestamp_millis()));
    }
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    // If a change of the local clock skips midnight, the day starts at 01:00.
    let hours = (0..=1).filter_map(|hour| NaiveTime::from_hms_opt(hour, 0, 0));
    let start = hours
        .map(|hour| date.and_time(hour))
        .find_map(|start| Local.from_local_datetime(&start).earliest())?;
    Some(Timestamp(start.timestamp_millis()))
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
        let start = Local.timestamp_millis_opt(day.0).single().unwrap();
        assert_eq!(start.format("%Y-%m-%d %H:%M").to_string(), "2026-03-06 00:00");
    }

    #[test]
    fn invalid_and_future_times_are_rejected() {
        for text in ["", "yesterday", "2026-13-01", "-2h", "\u{1b}[2J"] {
            let Err(ProgramError::Usage(message)) = parse_time_arg(text, NOW) else {
                panic!("{text:?} is accepted")
            };
            assert!(message.contains("is not a valid time: write '2h'"), "{message}");
            assert!(!message.contains('\u{1b}'), "{message}");
        }
        assert!(matches!(parse_time_arg("2026-03-08T00:00:00Z", NOW), Err(ProgramError::Usage(_))));
    }
}
