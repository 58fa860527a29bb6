//! Text of numbers, times and untrusted input, for people, logs and terminals.

use std::time::Duration;

use chrono::DateTime;

use crate::Timestamp;

/// Longest sanitized line, in characters, since it is shown in one table cell or log line.
const LINE_CHARS_MAX: usize = 300;

/// Formats a byte count with decimal units, as used for disks: `812 bytes`, `12.3 MB`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub fn format_bytes(bytes: u64) -> String {
    let units = ["kB", "MB", "GB", "TB", "PB"];
    let mut size = bytes as f64;
    let mut unit = None;
    for larger in units {
        // A value that would be shown as 1000.0 belongs to the next unit.
        if size < 999.95 {
            break;
        }
        (size, unit) = (size / 1000.0, Some(larger));
    }
    match unit {
        Some(unit) => format!("{size:.1} {unit}"),
        None => number_with_noun(bytes, "byte"),
    }
}

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

/// Formats a duration in its two largest units: `500 ms`, `45 s`, `1 min 24 s`, `3 h 5 min`,
/// `2 d 4 h`.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes, seconds % 60) {
        (0, 0, 0, 0) if !duration.is_zero() => format!("{} ms", duration.as_millis().max(1)),
        (0, 0, 0, seconds) => format!("{seconds} s"),
        (0, 0, minutes, 0) => format!("{minutes} min"),
        (0, 0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (0, hours, 0, _) => format!("{hours} h"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
        (days, 0, _, _) => format!("{days} d"),
        (days, hours, _, _) => format!("{days} d {hours} h"),
    }
}

/// Formats a date and time in UTC, without the zone: `2024-05-09 14:05:09`.
#[must_use]
pub fn format_utc_date_time(at: Timestamp) -> String {
    let time = DateTime::from_timestamp(at.unix_seconds(), 0).unwrap_or_default();
    time.format("%Y-%m-%d %H:%M:%S").to_string()
}

/// Formats a share, rounded to at most one decimal: `95 %`, `99.5 %`.
pub(super) fn format_percent(share: f64) -> String {
    let percent = (share * 1000.0).round() / 10.0;
    if percent.fract() == 0.0 { format!("{percent:.0} %") } else { format!("{percent:.1} %") }
}

/// Formats a number with its noun, without separators: `1 source`, `3000 sources`.
#[must_use]
pub fn number_with_noun(number: u64, noun: &str) -> String {
    format!("{number} {}", plural_form(number, noun))
}

/// Returns a noun in the form for a number: `copy`, `copies`, `successes`. A final `y` is taken to
/// follow a consonant.
#[must_use]
pub fn plural_form(number: u64, noun: &str) -> String {
    match (number, noun.strip_suffix('y')) {
        (1, _) => noun.to_owned(),
        (_, Some(stem)) => format!("{stem}ies"),
        _ if noun.ends_with('s') => format!("{noun}es"),
        _ => format!("{noun}s"),
    }
}

/// Returns the longest prefix of whole characters with at most `max` bytes.
#[must_use]
pub fn truncate_to_bytes(text: &str, max: usize) -> &str {
    let boundaries = (0..=max.min(text.len())).rev();
    boundaries.into_iter().find_map(|end| text.get(..end)).unwrap_or_default()
}

/// Returns untrusted text as one printable line of bounded length.
#[must_use]
pub fn sanitize_line(text: &str) -> String {
    let mut line = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == LINE_CHARS_MAX {
            line.push('…');
            break;
        }
        push_escaped(&mut line, c);
    }
    line
}

/// Returns untrusted text as printable lines without truncation, to show a whole response.
#[must_use]
pub fn sanitize_lines(text: &str) -> Vec<String> {
    let escaped = |line: &str| {
        let mut escaped = String::new();
        line.chars().for_each(|c| push_escaped(&mut escaped, c));
        escaped
    };
    text.lines().map(escaped).collect()
}

fn push_escaped(line: &mut String, c: char) {
    if is_unsafe_for_terminal(c) {
        line.extend(c.escape_unicode());
    } else {
        line.push(c);
    }
}

/// True for control characters, which can forge log lines and colours, and for bidirectional
/// ones, which reorder the displayed text.
#[must_use]
pub fn is_unsafe_for_terminal(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}')
        || ('\u{202a}'..='\u{202e}').contains(&c)
        || ('\u{2066}'..='\u{2069}').contains(&c)
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
    fn nouns_have_the_form_of_their_number() {
        let texts = [(1, "copy"), (2, "copy"), (0, "success"), (3000, "new version")]
            .map(|(number, noun)| number_with_noun(number, noun));

        assert_eq!(texts, ["1 copy", "2 copies", "0 successes", "3000 new versions"]);
    }

    #[test]
    fn text_is_truncated_at_character_boundaries() {
        assert_eq!([7, 6, 5, 1].map(|max| truncate_to_bytes("ééé", max)), ["ééé", "ééé", "éé", ""]);
    }
}

#[cfg(test)]
mod proptests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sanitized_text_is_safe_for_terminals_and_logs(text: String) {
            let line = sanitize_line(&text);
            let lines = sanitize_lines(&text);

            prop_assert!(!line.chars().any(is_unsafe_for_terminal), "{line:?}");
            prop_assert!(!lines.iter().flat_map(|line| line.chars()).any(is_unsafe_for_terminal));
            prop_assert_eq!(lines.len(), text.lines().count(), "nothing is left out");
        }
    }
}
