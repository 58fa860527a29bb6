//! Splits the lines of a response into values (RFC 3501 §4).
//!
//! The parser does no IO: it asks for each literal and for the line after it. It accepts anything
//! that leaves no doubt where a body ends, because servers differ in the rest:
//!
//! - Lists that are open at the end of the response are closed. A surplus parenthesis is dropped.
//! - Other characters are part of the word in which they are.
//! - The delimiter of folders may be `"\"`, where `"\\"` would be right.
//! - A response with a body must be well-formed after it. Otherwise the announced length of the
//!   body was wrong, and the bytes taken for it are not the message.

use crate::source::imap::wire::value::WireValue;

/// Maximum depth of lists. The deepest of the protocol describe nested MIME parts, which are never
/// asked for.
const DEPTH_MAX: usize = 32;

/// Maximum number of values of a response, since each takes more memory than its bytes on the wire.
/// A message with thousands of labels has fewer.
const VALUES_MAX: usize = 65_536;

/// Names of attributes whose section may contain spaces and lists: `BODY[HEADER.FIELDS (DATE)]`.
const SECTION_NAMES: [&[u8]; 4] = [b"BODY[", b"BODY.PEEK[", b"BINARY[", b"BINARY.SIZE["];

/// Beginning of the names of attributes whose values are bodies.
const BODY_NAME: &[u8] = b"BODY[";

/// Delimiter of the levels of folders without its escape, as some servers write it.
const UNESCAPED_DELIMITER: &[u8] = br#""\""#;

/// Context of values.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ResponseKind {
    /// `FETCH`, the only response with bodies.
    Fetch,
    /// `LIST`, the only response with a delimiter of folders.
    List,
    Other,
}

/// Request of the parser to its reader.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum ParserRequest {
    /// A literal of this many bytes follows the line. It is to be pushed as a value, and after it
    /// the next line.
    Literal(u64),
    /// The same for a literal that is a body.
    BodyLiteral(u64),
    /// The body came as a quoted string. It is to be pushed as a value.
    QuotedBody(Vec<u8>),
    /// The response is complete.
    Finish,
}

/// Parser of the values of one response.
#[derive(Debug)]
pub(super) struct ValueParser {
    kind: ResponseKind,
    line: Vec<u8>,
    position: usize,
    /// Values outside of lists.
    outer_values: Vec<WireValue>,
    /// Values of the open lists, the innermost last.
    open_lists: Vec<Vec<WireValue>>,
    value_count: usize,
    has_body: bool,
}

impl ValueParser {
    /// Creates a parser for the part of the first `line` that begins at `position`.
    pub(super) fn new(kind: ResponseKind, line: Vec<u8>, position: usize) -> Self {
        Self {
            kind,
            line,
            position,
            outer_values: Vec::new(),
            open_lists: Vec::new(),
            value_count: 0,
            has_body: false,
        }
    }

    /// Parses up to the next literal or body, or to the end of the response.
    ///
    /// # Errors
    /// Returns a sentence about the violation of the protocol.
    pub(super) fn advance(&mut self) -> Result<ParserRequest, String> {
        loop {
            let rest = self.line.get(self.position..).unwrap_or_default();
            let spaces = rest.iter().take_while(|byte| is_space(**byte)).count();
            let rest = rest.get(spaces..).unwrap_or_default();
            self.position += spaces;

            let Some(first) = rest.first().copied() else {
                self.close_lists()?;
                return Ok(ParserRequest::Finish);
            };
            if self.has_body && self.open_lists.is_empty() {
                return Err(wrong_length());
            }
            if let Some(length) = announced_length(rest) {
                self.position = self.line.len();
                return Ok(self.literal(length));
            }
            match first {
                b'(' => {
                    self.position += 1;
                    self.open_list()?;
                }
                b')' => {
                    self.position += 1;
                    self.close_list()?;
                }
                b'"' if self.is_unescaped_delimiter(rest) => {
                    self.position += UNESCAPED_DELIMITER.len();
                    self.push(WireValue::Text(b"\\".to_vec()))?;
                }
                b'"' => {
                    let (text, length) = quoted_string(rest)?;
                    self.position += length;
                    if self.is_at_body() {
                        self.has_body = true;
                        return Ok(ParserRequest::QuotedBody(text));
                    }
                    self.push(WireValue::Text(text))?;
                }
                _ => {
                    let (word, length) = word(rest, self.kind)?;
                    self.position += length;
                    self.push(word)?;
                }
            }
        }
    }

    /// Adds a value to the innermost open list.
    ///
    /// # Errors
    /// Returns an error if the response has too many values.
    pub(super) fn push(&mut self, value: WireValue) -> Result<(), String> {
        self.value_count += 1;
        if VALUES_MAX < self.value_count {
            return Err(format!("a response has more than {VALUES_MAX} values"));
        }
        match self.open_lists.last_mut() {
            Some(values) => values.push(value),
            None => self.outer_values.push(value),
        }
        Ok(())
    }

    /// Continues with the line after a literal.
    ///
    /// # Errors
    /// Returns an error if text directly follows a body.
    pub(super) fn push_line(&mut self, line: Vec<u8>) -> Result<(), String> {
        let is_separated = line.first().is_none_or(|byte| is_space(*byte) || *byte == b')');
        if self.has_body && !is_separated {
            return Err(wrong_length());
        }
        (self.line, self.position) = (line, 0);
        Ok(())
    }

    /// Returns the values so far of the outermost open list.
    pub(super) fn list_values(&self) -> &[WireValue] {
        self.open_lists.first().map(Vec::as_slice).unwrap_or_default()
    }

    /// Returns the values of a complete response.
    pub(super) fn into_values(self) -> Vec<WireValue> {
        self.outer_values
    }

    fn literal(&mut self, length: u64) -> ParserRequest {
        if self.is_at_body() {
            self.has_body = true;
            ParserRequest::BodyLiteral(length)
        } else {
            ParserRequest::Literal(length)
        }
    }

    /// True if the next value is a body: the one after `BODY[…]` in the list of a `FETCH`.
    fn is_at_body(&self) -> bool {
        let name = match self.open_lists.as_slice() {
            [list] if self.outer_values.is_empty() => list.last(),
            _ => None,
        };
        self.kind == ResponseKind::Fetch
            && matches!(name, Some(WireValue::Atom(name)) if has_prefix(name.as_bytes(), BODY_NAME))
    }

    /// True for `"\"` in the place of a delimiter. A delimiter is one character (RFC 3501 §9,
    /// `mailbox-list`), so that none begins with an escaped quote and a space.
    fn is_unescaped_delimiter(&self, rest: &[u8]) -> bool {
        let after = rest.strip_prefix(UNESCAPED_DELIMITER);
        self.kind == ResponseKind::List
            && self.open_lists.is_empty()
            && matches!(self.outer_values.as_slice(), [WireValue::List(_attributes)])
            && after.is_some_and(|after| after.first().is_none_or(|byte| is_space(*byte)))
    }

    fn open_list(&mut self) -> Result<(), String> {
        if self.open_lists.len() == DEPTH_MAX {
            return Err(format!("the lists of a response are nested more than {DEPTH_MAX} deep"));
        }
        self.open_lists.push(Vec::new());
        Ok(())
    }

    fn close_list(&mut self) -> Result<(), String> {
        match self.open_lists.pop() {
            Some(values) => self.push(WireValue::List(values)),
            None => Ok(()),
        }
    }

    /// Closes all lists at the end of the response.
    fn close_lists(&mut self) -> Result<(), String> {
        if self.has_body && !self.open_lists.is_empty() {
            return Err(wrong_length());
        }
        while !self.open_lists.is_empty() {
            self.close_list()?;
        }
        Ok(())
    }
}

/// Returns the length of the literal that a line announces, if `rest` is nothing but the
/// announcement: `{5}`, `{5+}` or `~{5}` (RFC 3516). A length beyond all limits is the largest
/// number.
fn announced_length(rest: &[u8]) -> Option<u64> {
    let rest = rest.strip_prefix(b"~").unwrap_or(rest);
    let digits = rest.strip_prefix(b"{")?.strip_suffix(b"}")?;
    let digits = str::from_utf8(digits.strip_suffix(b"+").unwrap_or(digits)).ok()?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// Reads the quoted string at the start of `rest`, and returns it with its length there.
///
/// A backslash before any other character than a quote or a backslash is kept.
fn quoted_string(rest: &[u8]) -> Result<(Vec<u8>, usize), String> {
    let mut text = Vec::new();
    let mut is_escaped = false;
    for (at, byte) in rest.iter().copied().enumerate().skip(1) {
        match byte {
            b'"' if !is_escaped => return Ok((text, at + 1)),
            b'\\' if !is_escaped => {
                is_escaped = true;
                continue;
            }
            _ if is_escaped && !matches!(byte, b'"' | b'\\') => text.extend([b'\\', byte]),
            _ => text.push(byte),
        }
        is_escaped = false;
    }
    Err("a quoted string does not end in its line".to_owned())
}

/// Reads the word at the start of `rest`, and returns it with its length there, at least 1.
fn word(rest: &[u8], kind: ResponseKind) -> Result<(WireValue, usize), String> {
    let section = if kind == ResponseKind::Fetch { section_length(rest) } else { 0 };
    let is_end = |at: usize, byte: u8| {
        is_space(byte)
            || matches!(byte, b'(' | b')')
            || (byte == b'{' && rest.get(at..).is_some_and(|rest| announced_length(rest).is_some()))
    };
    let mut bytes = rest.iter().copied().enumerate().skip(section.max(1));
    let length = bytes.find(|(at, byte)| is_end(*at, *byte)).map_or(rest.len(), |(at, _)| at);
    let word = rest.get(..length).unwrap_or_default();

    if kind == ResponseKind::Fetch && word.strip_prefix(b"~").unwrap_or(word).starts_with(b"{") {
        return Err("the length of a literal is not a number".to_owned());
    }
    let value = match str::from_utf8(word) {
        Ok(text) if text.eq_ignore_ascii_case("NIL") => WireValue::Nil,
        Ok(text) => WireValue::Atom(text.to_owned()),
        Err(_not_utf8) => WireValue::Text(word.to_vec()),
    };
    Ok((value, length))
}

/// Returns the length of an attribute name with its section, up to the closing bracket; 0 for any
/// other word.
fn section_length(rest: &[u8]) -> usize {
    if !SECTION_NAMES.iter().any(|name| has_prefix(rest, name)) {
        return 0;
    }
    rest.iter().position(|byte| *byte == b']').map_or(0, |at| at + 1)
}

fn has_prefix(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn wrong_length() -> String {
    "the length announced for a message is wrong, because other text follows it".to_owned()
}
