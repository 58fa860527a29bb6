//! Parser for Retry-After (RFC 9110 §10.2.3): seconds, or a date relative to the response's own.

use std::time::Duration;

use chrono::DateTime;

use crate::Timestamp;

/// Longest accepted wait, in seconds: 31 days. No known quota window is longer than a month; a
/// larger value is invalid, and the default is better.
pub(crate) const RETRY_AFTER_SECONDS_MAX: u64 = 31 * 24 * 3600;

/// Returns the wait that a Retry-After asks for, if it is plausible.
///
/// Zero, negative, past, unreadable and too large values are `None`: the caller's default applies,
/// so that a broken server never causes a loop without a wait. `sent_at` is the `Date` of the same
/// response if present, since our clock may be wrong.
#[must_use]
pub fn parse(value: &str, sent_at: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let wait = match value.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds > 0.0 => {
            Duration::try_from_secs_f64(seconds).ok()?
        }
        Ok(_) => return None,
        Err(_) => {
            let date = DateTime::parse_from_rfc2822(value).ok()?;
            Timestamp(date.timestamp_millis()).since(sent_at)
        }
    };
    (!wait.is_zero() && wait.as_secs() <= RETRY_AFTER_SECONDS_MAX).then_some(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT.
    const DATE: Timestamp = Timestamp(784_111_777_000);

    #[test]
    fn seconds_and_dates_are_parsed() {
        assert_eq!(parse("120", DATE), Some(Duration::from_secs(120)));
        assert_eq!(parse(" 0.5 ", DATE), Some(Duration::from_millis(500)));
        assert_eq!(
            parse("Sun, 06 Nov 1994 08:54:37 GMT", DATE),
            Some(Duration::from_secs(300)),
            "a date is relative to that of the response"
        );
    }

    #[test]
    fn invalid_values_are_ignored() {
        for invalid in ["0", "-1", "1e30", "NaN", "inf", "soon", "", "99999999"] {
            assert_eq!(parse(invalid, DATE), None, "{invalid:?}");
        }
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:36 GMT", DATE), None, "a past date");
    }
}
