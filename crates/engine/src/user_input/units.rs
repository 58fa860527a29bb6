//! Durations and sizes as users write them.

use std::time::Duration;

/// Units of time, with their length in milliseconds.
const TIME_UNITS: [(&str, u128); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("ms", 1), ("s", 1_000)];
const NANOS_PER_MILLI: u128 = 1_000_000;
const DAY_SECS: u64 = 86_400;

/// Units of size, the largest first, with their number of bytes.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Reads `"90s"`, `"5m"`, `"1.5h"`, `"500ms"` or `"2d"`; a space may precede the unit.
///
/// Returns `None` for anything else, and for a value finer than a nanosecond or longer than
/// [`Duration::MAX`].
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_number_and_unit(text)?;
    let (_, millis) = TIME_UNITS.iter().find(|(name, _)| *name == unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));

    let unit_nanos = millis * NANOS_PER_MILLI;
    let whole_nanos = u128::from(parse_digits(whole)?).checked_mul(unit_nanos)?;
    let divisor = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let fraction_nanos = u128::from(parse_digits(fraction)?).checked_mul(unit_nanos)?;
    if fraction_nanos % divisor != 0 {
        return None;
    }

    let nanos = whole_nanos.checked_add(fraction_nanos / divisor)?;
    let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
    let subsecond = u32::try_from(nanos % 1_000_000_000).ok()?;
    Some(Duration::new(seconds, subsecond))
}

/// Writes a duration in the largest unit that needs no fraction: days (two or more), hours,
/// minutes, seconds, or milliseconds below a second; else in seconds with a fraction.
/// [`parse_duration`] reads it back to the same value.
#[must_use]
pub fn duration_literal(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let nanos = duration.subsec_nanos();
    if nanos == 0 {
        return match seconds {
            0 => "0s".to_owned(),
            _ if seconds.is_multiple_of(DAY_SECS) && seconds > DAY_SECS => {
                format!("{}d", seconds / DAY_SECS)
            }
            _ if seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
            _ if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
            _ => format!("{seconds}s"),
        };
    }
    if seconds == 0 && nanos.is_multiple_of(1_000_000) {
        return format!("{}ms", nanos / 1_000_000);
    }
    let fraction = format!("{nanos:09}");
    format!("{seconds}.{}s", fraction.trim_end_matches('0'))
}

/// Reads `"64MiB"`, `"10MB"` or `"512B"` as a number of bytes; a space may precede the unit.
///
/// Returns `None` for anything else, and for a size that does not fit 64 bits.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_number_and_unit(text)?;
    let (_, bytes) = SIZE_UNITS.iter().find(|(name, _)| *name == unit)?;
    parse_digits(number)?.checked_mul(*bytes)
}

/// Writes a size in the largest binary unit that needs no fraction. [`parse_size`] reads it back to
/// the same value.
#[must_use]
pub fn size_literal(bytes: u64) -> String {
    let binary = SIZE_UNITS.iter().filter(|(name, _)| name.ends_with("iB"));
    for (name, unit) in binary {
        if bytes != 0 && bytes.is_multiple_of(*unit) {
            return format!("{}{name}", bytes / unit);
        }
    }
    format!("{bytes}B")
}

fn split_number_and_unit(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(end);
    Some((number, unit.strip_prefix(' ').unwrap_or(unit)))
}

/// Parses plain digits; `str::parse` alone would accept a sign too.
fn parse_digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_in_every_unit_and_with_fractions() {
        let cases = [
            ("90s", 90_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("2d", 172_800_000),
            ("500ms", 500),
            ("0.5s", 500),
            ("1.5h", 5_400_000),
            ("10 s", 10_000),
            ("0s", 0),
        ];
        for (text, millis) in cases {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn an_invalid_duration_is_rejected() {
        for text in [
            "",
            "s",
            "90",
            "soon",
            "-5s",
            "+5s",
            "5 minutes",
            "1.s",
            ".5s",
            "1.2.3s",
            "1e3s",
            "5  s",
            "99999999999999999999d",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_read_in_binary_and_decimal_units() {
        let cases = [
            ("64MiB", 64 << 20),
            ("1 GiB", 1 << 30),
            ("10MB", 10_000_000),
            ("3kB", 3_000),
            ("0B", 0),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
    }

    #[test]
    fn an_invalid_size_is_rejected() {
        for text in ["", "MiB", "64", "64M", "1.5MiB", "-1B", "64mib", "99999999999999GiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn durations_are_written_in_the_largest_unit_without_a_fraction() {
        let written = [0, 500, 1_500, 90_000, 300_000, 86_400_000, 172_800_000]
            .map(|millis| duration_literal(Duration::from_millis(millis)));

        assert_eq!(written, ["0s", "500ms", "1.5s", "90s", "5m", "24h", "2d"]);
    }

    proptest! {
        #[test]
        fn a_duration_literal_round_trips(seconds in 0..=u64::from(u32::MAX), nanos in 0..1_000_000_000_u32) {
            for duration in [Duration::new(seconds, nanos), Duration::new(seconds, 0), Duration::new(0, nanos)] {
                prop_assert_eq!(parse_duration(&duration_literal(duration)), Some(duration));
            }
        }

        #[test]
        fn a_size_literal_round_trips(bytes: u64, shift in 0..40_u32) {
            let bytes = bytes >> shift << shift;
            prop_assert_eq!(parse_size(&size_literal(bytes)), Some(bytes));
        }

        #[test]
        fn parsing_any_text_never_panics(text in "\\PC{0,40}|[0-9]{1,30}\\.[0-9]{0,45}(s|ms|d|GiB)") {
            let _: (Option<Duration>, Option<u64>) = (parse_duration(&text), parse_size(&text));
        }
    }
}
