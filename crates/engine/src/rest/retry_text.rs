//! Waits that a server writes in a text, such as `Retry after 2026-05-01T10:00:00.123Z`.

use std::time::Duration;

use chrono::DateTime;

use crate::retry_after::RETRY_AFTER_SECONDS_MAX;
use crate::{Timestamp, truncate_to_bytes};

/// Length of a date in HTTP, in bytes (RFC 9110 §5.6.7).
const HTTP_DATE_BYTES: usize = 29;

/// Longest text of a wait, in bytes: twice that of a time with nanoseconds and an offset.
const WAIT_BYTES_MAX: usize = 70;

/// Format of a wait in a text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WaitFormat {
    /// Time, as in RFC 3339.
    Rfc3339,
    /// Time, as in HTTP: `Sun, 06 Nov 1994 08:49:37 GMT`.
    HttpDate,
    Seconds,
    Milliseconds,
}

impl WaitFormat {
    pub const ALL: [Self; 4] = [Self::Rfc3339, Self::HttpDate, Self::Seconds, Self::Milliseconds];

    /// Returns the name in a profile.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rfc3339 => "rfc3339",
            Self::HttpDate => "http-date",
            Self::Seconds => "seconds",
            Self::Milliseconds => "milliseconds",
        }
    }
}

/// Returns the wait after a phrase in a text. The phrase is compared without regard to case.
///
/// A time that has passed is a wait of zero. A negative, unreadable or implausibly long wait is
/// `None`, as for a Retry-After.
#[must_use]
pub fn parse_wait(text: &str, after: &str, format: WaitFormat, now: Timestamp) -> Option<Duration> {
    let starts = text.char_indices().map(|(start, _)| &text[start..]);
    let mut wait_texts = starts.filter_map(|rest| strip_phrase(rest, after));
    let longest = Duration::from_secs(RETRY_AFTER_SECONDS_MAX);
    wait_texts.find_map(|rest| parse_start(rest, format, now).filter(|wait| *wait <= longest))
}

/// Returns the text after a phrase at its beginning.
fn strip_phrase<'t>(text: &'t str, phrase: &str) -> Option<&'t str> {
    let mut rest = text.chars();
    for expected in phrase.chars() {
        if !rest.next()?.to_lowercase().eq(expected.to_lowercase()) {
            return None;
        }
    }
    Some(rest.as_str())
}

/// Parses the wait at the beginning of a text.
fn parse_start(text: &str, format: WaitFormat, now: Timestamp) -> Option<Duration> {
    let text = truncate_to_bytes(text, WAIT_BYTES_MAX).trim_start();
    let word = text.split_whitespace().next()?.trim_end_matches(['.', ',', ')', '"']);
    match format {
        WaitFormat::Rfc3339 => {
            let time = DateTime::parse_from_rfc3339(word).ok()?;
            Some(Timestamp(time.timestamp_millis()).since(now))
        }
        WaitFormat::HttpDate => {
            let time = DateTime::parse_from_rfc2822(text.get(..HTTP_DATE_BYTES)?).ok()?;
            Some(Timestamp(time.timestamp_millis()).since(now))
        }
        WaitFormat::Seconds => Duration::try_from_secs_f64(word.parse().ok()?).ok(),
        WaitFormat::Milliseconds => word.parse().ok().map(Duration::from_millis),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-05-01 09:59:30 UTC.
    const NOW: Timestamp = Timestamp(1_777_629_570_000);

    #[test]
    fn the_word_after_the_phrase_is_the_wait() {
        use WaitFormat::{HttpDate, Milliseconds, Rfc3339, Seconds};
        let gmail = "User-rate limit exceeded.  Retry after 2026-05-01T10:00:00.123Z";
        for (text, after, format, millis) in [
            (gmail, "Retry after ", Rfc3339, 30_123),
            (gmail, "RETRY AFTER", Rfc3339, 30_123),
            ("(retry after 2026-05-01T12:00:00+02:00).", "Retry after ", Rfc3339, 30_000),
            ("until Fri, 01 May 2026 10:00:30 GMT, then", "until ", HttpDate, 60_000),
            ("Backoff: 2.5, please", "backoff:", Seconds, 2_500),
            ("wait \"0.5\" s, or wait 7.", "wait ", Seconds, 7_000),
            ("Suggested Backoff Time: 89117 milliseconds", "Time: ", Milliseconds, 89_117),
            ("ПОВТОРИТЕ ЧЕРЕЗ 60 секунд", "повторите через ", Seconds, 60_000),
        ] {
            let wait = parse_wait(text, after, format, NOW);
            assert_eq!(wait, Some(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn a_time_that_has_passed_is_a_wait_of_zero() {
        let text = "Retry after 2026-05-01T09:59:29Z";

        assert_eq!(parse_wait(text, "after ", WaitFormat::Rfc3339, NOW), Some(Duration::ZERO));
    }

    #[test]
    fn an_invalid_wait_is_ignored() {
        for word in ["", "soon", "-1", "NaN", "inf", "1e30", "99999999999", "2027-05-01T10:00:00Z"]
        {
            for format in WaitFormat::ALL {
                let text = format!("Retry after {word}");
                assert_eq!(parse_wait(&text, "after", format, NOW), None, "{word} {format:?}");
            }
        }
        assert_eq!(parse_wait("60 seconds", "Retry after ", WaitFormat::Seconds, NOW), None);
    }
}

#[cfg(test)]
mod proptests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parsing_any_text_never_panics(
            text in "\\PC{0,60}|after [0-9TZ:.+-]{1,30}", after in "\\PC{0,3}|after ", now: i64,
        ) {
            for format in WaitFormat::ALL {
                if let Some(wait) = parse_wait(&text, &after, format, Timestamp(now)) {
                    prop_assert!(wait.as_secs() <= RETRY_AFTER_SECONDS_MAX);
                }
            }
        }
    }
}
