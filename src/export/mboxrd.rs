//! The format mboxrd: a separator before each message, and quoted lines that look like one.
//!
//! A line of a message that is `From ` after any number of `>` gets one more `>`, so that a reader
//! who removes one has the original bytes (qmail's mbox(5)).

use chrono::{DateTime, Datelike};
use cynosure_engine::Timestamp;

/// Beginning of a separator, and of the lines that are quoted.
const FROM: &[u8] = b"From ";

/// Quoter of the lines of one message, a chunk at a time.
#[derive(Debug)]
pub(super) struct FromQuoter {
    position: LinePosition,
}

/// Position in a line of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum LinePosition {
    /// After any number of `>`, and this many bytes of `From `, which are held back.
    Start { held: usize },
    /// Behind a byte that shows that the line is not quoted, or behind its quoted beginning.
    Inside,
}

/// Returns the separator before a message, without its line end. The time is in UTC.
#[must_use]
pub(super) fn separator_line(at: Timestamp) -> String {
    // Readers expect four digits of a year.
    let time = DateTime::from_timestamp(at.unix_seconds(), 0)
        .filter(|time| (0..=9999).contains(&time.year()))
        .unwrap_or_default();
    format!("From MAILER-DAEMON {}", time.format("%a %b %e %H:%M:%S %Y"))
}

impl FromQuoter {
    pub(super) fn new() -> Self {
        Self { position: LinePosition::Start { held: 0 } }
    }

    /// Appends the quoted bytes to `quoted`.
    pub(super) fn quote(&mut self, bytes: &[u8], quoted: &mut Vec<u8>) {
        for &byte in bytes {
            self.position = match self.position {
                LinePosition::Start { held: 0 } if byte == b'>' => {
                    quoted.push(byte);
                    LinePosition::Start { held: 0 }
                }
                LinePosition::Start { held } if FROM.get(held) == Some(&byte) => {
                    if held + 1 == FROM.len() {
                        quoted.push(b'>');
                        quoted.extend_from_slice(FROM);
                        LinePosition::Inside
                    } else {
                        LinePosition::Start { held: held + 1 }
                    }
                }
                LinePosition::Start { held } => {
                    quoted.extend(FROM.iter().take(held));
                    quoted.push(byte);
                    position_after(byte)
                }
                LinePosition::Inside => {
                    quoted.push(byte);
                    position_after(byte)
                }
            };
        }
    }

    /// Appends what was held back at the end of the message, then `line_end` if its last line has
    /// none, and an empty line.
    pub(super) fn finish(&mut self, last_byte: Option<u8>, line_end: &[u8], quoted: &mut Vec<u8>) {
        if let LinePosition::Start { held } = self.position {
            quoted.extend(FROM.iter().take(held));
        }
        if last_byte.is_some_and(|byte| byte != b'\n') {
            quoted.extend_from_slice(line_end);
        }
        quoted.extend_from_slice(line_end);
        self.position = LinePosition::Start { held: 0 };
    }
}

fn position_after(byte: u8) -> LinePosition {
    if byte == b'\n' { LinePosition::Start { held: 0 } } else { LinePosition::Inside }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Quotes a message, given to the quoter in chunks of `size` bytes.
    fn quote(message: &[u8], size: usize) -> Vec<u8> {
        let mut quoter = FromQuoter::new();
        let mut quoted = Vec::new();
        for chunk in message.chunks(size) {
            quoter.quote(chunk, &mut quoted);
        }
        quoter.finish(message.last().copied(), b"\n", &mut quoted);
        quoted
    }

    /// Splits a file in the format mboxrd into its messages, without quotes.
    pub(in crate::export) fn read_mboxrd(file: &[u8]) -> Vec<Vec<u8>> {
        let mut messages: Vec<Vec<u8>> = Vec::new();
        for line in file.split_inclusive(|byte| *byte == b'\n') {
            if line.starts_with(FROM) {
                messages.push(Vec::new());
                continue;
            }
            let level = line.iter().take_while(|byte| **byte == b'>').count();
            let is_quoted = level > 0 && line[level..].starts_with(FROM);
            let message = messages.last_mut().expect("a separator comes first");
            message.extend_from_slice(if is_quoted { &line[1..] } else { line });
        }
        for message in &mut messages {
            assert_eq!(message.pop(), Some(b'\n'), "an empty line ends each message");
        }
        messages
    }

    #[test]
    fn lines_that_look_like_a_separator_are_quoted() {
        for (message, expected) in [
            ("From me\n", ">From me\n\n"),
            (">From me\n>>From you\n", ">>From me\n>>>From you\n\n"),
            ("a From b\n From\nFromage\nFrom", "a From b\n From\nFromage\nFrom\n\n"),
            ("> From me\n>From\n", "> From me\n>From\n\n"),
            ("FFrom me\nFrFrom me", "FFrom me\nFrFrom me\n\n"),
            ("Fro\nFrom ", "Fro\n>From \n\n"),
            ("", "\n"),
        ] {
            for size in [1, 3, 99] {
                let quoted = quote(message.as_bytes(), size);
                assert_eq!(String::from_utf8(quoted).unwrap(), expected, "{message:?}");
            }
        }
    }

    #[test]
    fn a_separator_has_the_time_as_c_programs_write_it() {
        assert_eq!(separator_line(Timestamp(0)), "From MAILER-DAEMON Thu Jan  1 00:00:00 1970");
        let at = Timestamp(1_772_874_303_456);
        assert_eq!(separator_line(at), "From MAILER-DAEMON Sat Mar  7 09:05:03 2026");
        for at in [i64::MAX, i64::MIN] {
            assert_eq!(separator_line(Timestamp(at)), separator_line(Timestamp(0)));
        }
    }

    proptest! {
        #[test]
        fn unquoting_returns_each_message(
            messages in prop::collection::vec("([>From a]{0,8}\n|>{0,3}From [a-z]{0,3}\n){0,6}", 1..4),
            size in 1..7_usize,
        ) {
            let mut file = Vec::new();
            for message in &messages {
                file.extend(separator_line(Timestamp(0)).into_bytes());
                file.push(b'\n');
                file.extend(quote(message.as_bytes(), size));
            }

            let read = read_mboxrd(&file);

            let expected: Vec<_> = messages.iter().map(|message| message.as_bytes()).collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn the_size_of_the_chunks_makes_no_difference(
            message in prop::collection::vec(prop::sample::select(b"From >\n".to_vec()), 0..40),
            size in 1..7_usize,
        ) {
            prop_assert_eq!(quote(&message, size), quote(&message, 99));
        }
    }
}
