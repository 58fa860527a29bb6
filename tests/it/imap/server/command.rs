//! Commands that the scripted server receives.

use std::mem;
use std::ops::RangeInclusive;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};

use super::ClientStream;

/// Name under which the greeting of a connection is answered, as if it were a command.
pub(crate) const GREETING: &str = "GREETING";

/// Commands that change nothing in the mailbox.
const HARMLESS_COMMANDS: [&str; 11] = [
    "CAPABILITY",
    "ID",
    "NOOP",
    "LOGOUT",
    "STARTTLS",
    "AUTHENTICATE",
    "LOGIN",
    "LIST",
    "STATUS",
    "EXAMINE",
    "UNSELECT",
];

/// Attributes of `UID FETCH` that leave the flags as they are.
const HARMLESS_ATTRIBUTES: [&str; 9] = [
    "UID",
    "RFC822.SIZE",
    "INTERNALDATE",
    "EMAILID",
    "THREADID",
    "X-GM-MSGID",
    "X-GM-THRID",
    "X-GM-LABELS",
    "BODY.PEEK[]",
];

/// Command of a client.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedCommand {
    /// Number of the connection, counted from 0.
    pub(crate) connection: usize,
    pub(crate) tag: String,
    /// Text after the tag, with its literals.
    pub(crate) text: String,
    /// Words after the name, without their quotes. Empty ones are left out.
    pub(crate) arguments: Vec<Vec<u8>>,
}

impl ReceivedCommand {
    /// Returns the command that stands for the beginning of a connection.
    pub(super) fn greeting(connection: usize) -> Self {
        let (tag, text) = ("*".to_owned(), GREETING.to_owned());
        Self { connection, tag, text, arguments: Vec::new() }
    }

    /// Reads the next command, and asks for each of its literals. Returns `None` at the end of the
    /// connection.
    pub(super) async fn read(stream: &mut ClientStream, connection: usize) -> Option<Self> {
        let (mut bytes, mut words) = (Vec::new(), Vec::new());
        loop {
            let mut line = Vec::new();
            stream.read_until(b'\n', &mut line).await.ok()?;
            let line = line.strip_suffix(b"\r\n")?;
            bytes.extend_from_slice(line);
            words.extend(split_words(line));
            let Some(length) = announced_length(line) else { break };
            stream.write_all(b"+ go ahead\r\n").await.ok()?;
            let mut literal = vec![0; length];
            stream.read_exact(&mut literal).await.ok()?;
            bytes.extend_from_slice(&literal);
            // Instead of its announcement.
            words.pop();
            words.push(literal);
        }
        let text = String::from_utf8_lossy(&bytes);
        let (tag, text) = text.split_once(' ')?;
        let arguments = words.into_iter().skip(2).collect();
        Some(Self { connection, tag: tag.to_owned(), text: text.to_owned(), arguments })
    }

    pub(super) fn name(&self) -> &str {
        self.text.split(' ').next().unwrap_or_default()
    }

    /// Returns the ranges of a `UID FETCH`.
    pub(crate) fn uid_ranges(&self) -> Vec<RangeInclusive<u32>> {
        let set = self.text.split(' ').nth(2).unwrap();
        let ranges = set.split(',').map(|range| range.split_once(':').unwrap_or((range, range)));
        ranges.map(|(first, last)| first.parse().unwrap()..=last.parse().unwrap()).collect()
    }

    /// Returns true for a command that changes nothing in the mailbox, and does not depend on
    /// sequence numbers, which shift.
    pub(super) fn is_harmless(&self) -> bool {
        let Some(arguments) = self.text.strip_prefix("UID FETCH ") else {
            return HARMLESS_COMMANDS.contains(&self.name());
        };
        let Some((set, attributes)) = arguments.split_once(' ') else { return false };
        // A `*` is the largest UID, also if it is below the range.
        let is_in_set = |byte: u8| byte.is_ascii_digit() || matches!(byte, b':' | b',');
        let attributes = attributes.trim_matches(['(', ')']);
        set.bytes().all(is_in_set)
            && attributes.split(' ').all(|name| HARMLESS_ATTRIBUTES.contains(&name))
    }
}

/// Returns the words of a line, without quotes and the backslashes in them.
fn split_words(line: &[u8]) -> Vec<Vec<u8>> {
    let (mut words, mut word) = (Vec::new(), Vec::new());
    let (mut is_quoted, mut is_escaped) = (false, false);
    for byte in line {
        match byte {
            b'\\' if is_quoted && !is_escaped => {
                is_escaped = true;
                continue;
            }
            b'"' if !is_escaped => is_quoted = !is_quoted,
            b' ' if !is_quoted => words.push(mem::take(&mut word)),
            _ => word.push(*byte),
        }
        is_escaped = false;
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

/// Returns the length of the literal that the line announces at its end. A quoted string ends with
/// its quote.
fn announced_length(line: &[u8]) -> Option<usize> {
    let line = line.strip_suffix(b"}")?;
    let start = line.iter().rposition(|byte| *byte == b'{')?;
    str::from_utf8(&line[start + 1..]).ok()?.parse().ok()
}

#[test]
fn commands_that_change_or_number_messages_are_recognized() {
    let is_harmless = |text: &str| {
        ReceivedCommand { text: text.to_owned(), ..ReceivedCommand::greeting(0) }.is_harmless()
    };

    for text in [
        "SELECT INBOX",
        "STORE 1 +FLAGS (\\Seen)",
        "UID STORE 1 +FLAGS (\\Seen)",
        "SEARCH ALL",
        "UID SEARCH ALL",
        "FETCH 1 (UID)",
        "UID FETCH 1:* (UID)",
        "UID FETCH 1 (UID BODY[])",
        "UID FETCH 1 (UID RFC822)",
        "CLOSE",
        "EXPUNGE",
    ] {
        assert!(!is_harmless(text), "{text}");
    }
    for text in ["EXAMINE INBOX", "UID FETCH 1:3,7 (UID BODY.PEEK[])", "UID FETCH 1:9 (UID)"] {
        assert!(is_harmless(text), "{text}");
    }
}

#[test]
fn words_are_read_without_quotes() {
    assert_eq!(split_words(br#"A1 EXAMINE "a \"b\" \\c""#)[2], br#"a "b" \c"#);
    assert_eq!(announced_length(b"A1 EXAMINE {12}"), Some(12));
    assert_eq!(announced_length(b"A1 EXAMINE \"{12}\""), None);
}
