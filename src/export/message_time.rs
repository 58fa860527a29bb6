//! Time of a message, from its header.
//!
//! The newest `Received` line comes first: the server of the recipient wrote it, while `Date` is
//! what the sender claims. Both are untrusted text, and are read with tolerance: comments, missing
//! zones and wrong days of the week occur in real mail.

use chrono::DateTime;
use cynosure_engine::Timestamp;

/// Bytes of a message in which its header is looked for.
pub(super) const HEADER_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a date that are read. A date with every optional part takes less than a fifth.
const DATE_BYTES_MAX: usize = 256;

/// `Received` lines that are read, to find one with a date.
const RECEIVED_LINES_MAX: usize = 8;

/// Returns the time of the newest `Received` line of a message that has one, or else of `Date`.
/// `message` is the beginning of the message; only its header is read.
#[must_use]
pub(super) fn message_time(message: &[u8]) -> Option<Timestamp> {
    let header = message.get(..HEADER_BYTES_MAX).unwrap_or(message);
    let mut received_lines = 0;
    let mut date = None;
    for field in HeaderFields::new(header) {
        if let Some(value) = field_value(&field, "received") {
            received_lines += 1;
            // The date comes after the last semicolon (RFC 5322, section 3.6.7).
            let value = without_comments(value);
            let at = value.rsplit_once(';').and_then(|(_, date)| parse_date(date));
            if at.is_some() {
                return at;
            }
            if received_lines == RECEIVED_LINES_MAX {
                break;
            }
        } else if date.is_none() {
            date = field_value(&field, "date").and_then(parse_date);
        }
    }
    date
}

/// Fields of a header, each with its continuation lines, up to the empty line.
#[derive(Debug)]
struct HeaderFields<'a> {
    rest: &'a [u8],
}

impl<'a> HeaderFields<'a> {
    fn new(header: &'a [u8]) -> Self {
        Self { rest: header }
    }

    /// Removes and returns the next line, without its line end.
    fn next_line(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.iter().position(|byte| *byte == b'\n');
        let (line, rest) = self.rest.split_at(end.map_or(self.rest.len(), |end| end + 1));
        self.rest = rest;
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

impl Iterator for HeaderFields<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let line = self.next_line().filter(|line| !line.is_empty())?;
        let mut field = String::from_utf8_lossy(line).into_owned();
        while matches!(self.rest.first(), Some(b' ' | b'\t')) {
            let continuation = self.next_line().unwrap_or_default();
            field.push_str(&String::from_utf8_lossy(continuation));
        }
        Some(field)
    }
}

/// Returns the value of a field with this name, which is in lower case.
fn field_value<'a>(field: &'a str, name: &str) -> Option<&'a str> {
    let (found, value) = field.split_once(':')?;
    found.trim_end().eq_ignore_ascii_case(name).then_some(value)
}

/// Parses a date of RFC 5322. Without a known zone it is taken to be in UTC.
fn parse_date(text: &str) -> Option<Timestamp> {
    let text = without_comments(text.get(..DATE_BYTES_MAX).unwrap_or(text));
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let text = words.join(" ");
    // The day of the week follows from the date, and some programs write a wrong one.
    let text = match text.split_once(',') {
        Some((day, rest)) if day.chars().all(|c| c.is_alphabetic() || c == '.') => {
            rest.trim_start()
        }
        Some(_) | None => text.as_str(),
    };
    // Some programs write a name of the zone, also behind its offset.
    let shorter = text.rsplit_once(' ')?.0;
    let with_zone = |text: &str| format!("{text} +0000");
    let candidates = [text.to_owned(), shorter.to_owned(), with_zone(text), with_zone(shorter)];
    let time = candidates.iter().find_map(|text| DateTime::parse_from_rfc2822(text).ok())?;
    Some(Timestamp(time.timestamp_millis()))
}

/// Removes the comments, which are in brackets and may be nested. One that does not end goes to the
/// end of the text.
fn without_comments(text: &str) -> String {
    let mut depth = 0_usize;
    let mut kept = String::new();
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            c if depth == 0 => kept.push(c),
            _ => {}
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-03-07 09:05:03 UTC.
    const SATURDAY: Timestamp = Timestamp(1_772_874_303_000);

    #[test]
    fn dates_are_read_with_tolerance() {
        for date in [
            "Sat, 7 Mar 2026 09:05:03 +0000",
            "Sat, 07 Mar 2026 10:05:03 +0100 (CET)",
            "  Sat,  7\tMar 2026 09:05:03\t(a (nested) comment) GMT ",
            "7 Mar 2026 09:05:03 -0000",
            "Mon, 7 Mar 2026 09:05:03 +0000",
            "Sat, 7 Mar 2026 04:05:03 EST",
            "Sat, 7 Mar 26 09:05:03 +0000",
            "Sat, 7 Mar 2026 09:05:03",
            "Sat, 7 Mar 2026 10:05:03 +0100 CET",
            "Sat, 7 Mar 2026 09:05:03 WET",
            "sat, 7 mar 2026 09:05:03 z",
        ] {
            assert_eq!(parse_date(date), Some(SATURDAY), "{date}");
        }
        let expected = Some(Timestamp(SATURDAY.0 - 3000));
        assert_eq!(parse_date("Sat, 7 Mar 2026 09:05 +0000"), expected, "without seconds");
    }

    #[test]
    fn other_texts_are_no_dates() {
        for date in ["", "yesterday", "32 Mar 2026 09:05:03 +0000", "(7 Mar 2026 09:05:03", ",,,"] {
            assert_eq!(parse_date(date), None, "{date}");
        }
        assert_eq!(parse_date(&"7 Mar 2026 ".repeat(9_999)), None);
    }

    #[test]
    fn the_newest_received_line_counts_more_than_the_date() {
        let message = b"Return-Path: <a@b>\r\n\
            Date: Mon, 1 Jan 2001 00:00:00 +0000\r\n\
            RECEIVED: from a (b [c]; d)\r\n\tby e with ESMTP;\r\n\
            \tSat, 7 Mar 2026 09:05:03 +0000 (a; b)\r\n\
            Received: from f; Tue, 2 Jan 2001 00:00:00 +0000\r\n\
            \r\n\
            Received: x; Wed, 3 Jan 2001 00:00:00 +0000\r\n";
        assert_eq!(message_time(message), Some(SATURDAY));
    }

    #[test]
    fn the_date_counts_if_no_received_line_has_one() {
        let message = b"Received: from a; no date\nReceived: x\nDate : 7 Mar 2026 09:05:03\n\n";
        assert_eq!(message_time(message), Some(SATURDAY));
        assert_eq!(message_time(b"Subject: x\n\nDate: 7 Mar 2026 09:05:03\n"), None);
        assert_eq!(message_time(b"Date"), None);
        assert_eq!(message_time(b"\n"), None);
        assert_eq!(message_time(b""), None);
    }

    #[test]
    fn only_the_beginning_of_a_message_is_read() {
        let mut message = vec![b'x'; HEADER_BYTES_MAX];
        message.extend_from_slice(b"\nDate: 7 Mar 2026 09:05:03\n");
        assert_eq!(message_time(&message), None);
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_time_in_range_or_none(
            bytes in any::<Vec<u8>>(),
            text in "(Date|Received):[;, 0-9a-zA-Z:()+é-]{0,60}\n",
        ) {
            for at in [message_time(&bytes), message_time(text.as_bytes())].into_iter().flatten() {
                prop_assert!(at.0.unsigned_abs() < i64::MAX.unsigned_abs() / 1000);
            }
        }
    }
}
