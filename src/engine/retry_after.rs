//! Reads Retry-After (RFC 9110 §10.2.3): seconds, or a date that counts from the answer's own `Date`.

use std::time::Duration;

use chrono::DateTime;

/// The longest wait that is believed, in seconds: 31 days. No quota window known is
/// longer than a month; beyond it the figure is junk and the default serves better.
const WAIT_SECONDS_MAX: u64 = 31 * 24 * 3600;

/// Returns the wait a Retry-After asks for, if it is sane.
///
/// Zero, negative, past, unreadable and absurd values are `None`: the caller's
/// default applies, so that a broken server never causes a loop without a wait.
/// A date needs the `Date` header of the same answer, since our clock may be wrong.
#[must_use]
pub fn parse(value: &str, date: Option<&str>) -> Option<Duration> {
    let value = value.trim();
    let seconds = match value.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds > 0.0 => {
            Duration::try_from_secs_f64(seconds).ok()?
        }
        Ok(_) => return None,
        Err(_) => {
            let until = DateTime::parse_from_rfc2822(value).ok()?;
            let said_at = DateTime::parse_from_rfc2822(date?.trim()).ok()?;
            until.signed_duration_since(said_at).to_std().ok()?
        }
    };
    (!seconds.is_zero() && seconds.as_secs() <= WAIT_SECONDS_MAX).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: Option<&str> = Some("Sun, 06 Nov 1994 08:49:37 GMT");

    #[test]
    fn seconds_and_dates_are_obeyed() {
        assert_eq!(parse("120", None), Some(Duration::from_secs(120)));
        assert_eq!(parse(" 0.5 ", None), Some(Duration::from_millis(500)));
        assert_eq!(
            parse("Sun, 06 Nov 1994 08:54:37 GMT", DATE),
            Some(Duration::from_secs(300)),
            "a date counts from the answer's own"
        );
    }

    #[test]
    fn junk_gives_way_to_the_default() {
        for junk in ["0", "-1", "1e30", "NaN", "inf", "soon", "", "99999999"] {
            assert_eq!(parse(junk, DATE), None, "{junk:?}");
        }
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:36 GMT", DATE), None, "the past");
        assert_eq!(parse("Sun, 06 Nov 1994 08:54:37 GMT", None), None, "no date to count from");
    }
}
