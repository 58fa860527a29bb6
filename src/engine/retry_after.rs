//! Parser for Retry-After (RFC 9110 §10.2.3): seconds, or a date relative to the response's own.

use std::time::Duration;

use chrono::DateTime;

use crate::engine::Timestamp;

/// Longest accepted wait, in seconds: 31 days. No known quota window is longer than a month; a
/// larger value is invalid, and the default is better.
const RETRY_AFTER_SECONDS_MAX: u64 = 31 * 24 * 3600;

/// Returns the wait that a Retry-After asks for, if it is plausible.
///
/// Zero, negative, past, unreadable and absurd values are `None`: the caller's
/// default applies, so that a broken server never causes a loop without a wait.
/// `said_at` is the `Date` of the same response if present, since our clock may be wrong.
#[must_use]
pub fn parse(value: &str, said_at: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let seconds = match value.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds > 0.0 => {
            Duration::try_from_secs_f64(seconds).ok()?
        }
        Ok(_) => return None,
        Err(_) => {
            let until = DateTime::parse_from_rfc2822(value).ok()?;
            Timestamp(until.timestamp_millis()).since(said_at)
        }
    };
    (!seconds.is_zero() && seconds.as_secs() <= RETRY_AFTER_SECONDS_MAX).then_some(seconds)
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
            "a date counts from when it was said"
        );
    }

    #[test]
    fn invalid_values_are_ignored() {
        for junk in ["0", "-1", "1e30", "NaN", "inf", "soon", "", "99999999"] {
            assert_eq!(parse(junk, DATE), None, "{junk:?}");
        }
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:36 GMT", DATE), None, "the past");
    }
}
