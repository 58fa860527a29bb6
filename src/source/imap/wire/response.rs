//! Responses of the server, told apart by their first line (RFC 3501 §7).

use cynosure_engine::{ImapReply, ImapStatus};

use crate::source::imap::wire::tokens::ResponseKind;
use crate::source::imap::wire::value::WireValue;

/// One response.
#[derive(Debug, Eq, PartialEq)]
pub(in crate::source::imap) enum Response {
    /// Result of the command that was sent with this tag.
    Tagged { tag: String, reply: ImapReply },
    /// Untagged status.
    ///
    /// A line that is no response at all, such as `Server Unavailable. 15` of Exchange or the
    /// greeting of another protocol, is a `NO` with that line as its text.
    Status(ImapReply),
    /// Untagged data, such as `* 3 FETCH (…)`: its number, if any, its name in upper case, and
    /// the values after it.
    Data { number: Option<u32>, name: String, values: Vec<WireValue> },
    /// Request of the server to continue the command, with the text after `+`.
    Continuation(String),
}

/// First line of a response.
#[derive(Debug)]
pub(super) enum FirstLine {
    /// Empty line, which some servers send after a literal.
    Blank,
    /// Complete response.
    Complete(Response),
    /// Data whose values begin at `position`.
    Data { number: Option<u32>, name: String, position: usize },
}

impl FirstLine {
    /// Reads a line without its CRLF.
    ///
    /// # Errors
    /// Returns a sentence about the violation of the protocol.
    pub(super) fn parse(line: &[u8]) -> Result<Self, String> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::Blank);
        }
        if let Some(untagged) = line.strip_prefix(b"* ") {
            return parse_untagged(line, untagged);
        }
        let (word, rest) = split_word(line);
        if word == b"+" {
            return Ok(Self::Complete(Response::Continuation(to_text(rest))));
        }
        if !is_tag(word) {
            let reply = ImapReply { status: ImapStatus::No, code: None, text: to_text(line) };
            return Ok(Self::Complete(Response::Status(reply)));
        }
        let tag = to_text(word);
        let text = to_text(rest);
        match ImapReply::parse(&text) {
            Some(reply) => Ok(Self::Complete(Response::Tagged { tag, reply })),
            None => Err(format!("the reply to command {tag} has no status: \"{text}\"")),
        }
    }
}

/// Returns the context of the values of untagged data.
pub(super) fn kind_of_data(name: &str) -> ResponseKind {
    match name {
        "FETCH" => ResponseKind::Fetch,
        "LIST" => ResponseKind::List,
        _ => ResponseKind::Other,
    }
}

fn parse_untagged(line: &[u8], untagged: &[u8]) -> Result<FirstLine, String> {
    if let Some(reply) = ImapReply::parse(&to_text(untagged)) {
        return Ok(FirstLine::Complete(Response::Status(reply)));
    }
    let (word, rest) = split_word(untagged);
    let is_number = !word.is_empty() && word.iter().all(u8::is_ascii_digit);
    // Nothing relies on these numbers, which shift while messages are expunged.
    let number = is_number.then(|| to_text(word).parse().unwrap_or(u32::MAX));
    let (name, rest) = if is_number { split_word(rest) } else { (word, rest) };
    if name.is_empty() {
        return Err(format!("a response has no name: \"{}\"", to_text(line)));
    }
    let name = to_text(name).to_ascii_uppercase();
    Ok(FirstLine::Data { number, name, position: line.len().saturating_sub(rest.len()) })
}

/// Returns the text before the first space, and the text after it.
fn split_word(line: &[u8]) -> (&[u8], &[u8]) {
    match line.iter().position(|byte| *byte == b' ') {
        Some(at) => {
            let (word, rest) = line.split_at(at);
            (word, rest.strip_prefix(b" ").unwrap_or(rest))
        }
        None => (line, &[]),
    }
}

/// True for a tag of ours: `A` and a number.
fn is_tag(word: &[u8]) -> bool {
    word.strip_prefix(b"A")
        .is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))
}

fn to_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
