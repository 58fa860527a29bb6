//! Commands (RFC 3501 §9): their bytes, read from a connection, and the words in them.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Maximum bytes of a command, its literals included. The longest ones of a reader of mail list
/// UIDs, and have some kilobytes.
const COMMAND_BYTES_MAX: usize = 64 * 1024;

/// Maximum depth of parentheses. `LIST … RETURN (STATUS (…))` needs two.
const DEPTH_MAX: u32 = 8;

/// Bytes that a client sent as one command.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum CommandBytes {
    /// The lines with their ends, and the literals between them.
    Complete(Vec<u8>),
    /// More than [`COMMAND_BYTES_MAX`]; the rest is not read.
    TooLong,
    /// The client closed the connection.
    Closed,
}

/// Command of a client, with its arguments.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct DemoCommand {
    pub(super) tag: String,
    /// In upper case; those of `UID` are two words.
    pub(super) name: String,
    pub(super) arguments: Vec<DemoArgument>,
}

/// Argument of a command.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum DemoArgument {
    /// An atom, a quoted string or a literal.
    Word(String),
    /// Arguments in parentheses.
    List(Vec<Self>),
}

/// Command that does not follow the grammar.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct MalformedCommand {
    /// Its tag, or `*` without one.
    pub(super) tag: String,
}

/// Reader of the arguments in the bytes of a command.
struct ArgumentReader<'a> {
    rest: &'a [u8],
}

/// Reads the next command, and asks the client for each literal that it announces.
pub(super) async fn read_command<S>(stream: &mut S) -> io::Result<CommandBytes>
where
    S: AsyncBufRead + AsyncWrite + Unpin,
{
    let mut bytes = Vec::new();
    loop {
        let line_start = bytes.len();
        let room = COMMAND_BYTES_MAX - line_start;
        (&mut *stream).take(room as u64).read_until(b'\n', &mut bytes).await?;
        let line = &bytes[line_start..];
        if !line.ends_with(b"\n") {
            let is_too_long = line.len() == room;
            return Ok(if is_too_long { CommandBytes::TooLong } else { CommandBytes::Closed });
        }
        let announcement = line.iter().rposition(|byte| *byte == b'{').map(|at| &line[at..]);
        let Some(length) = announcement.and_then(literal_length) else {
            return Ok(CommandBytes::Complete(bytes));
        };
        let literal_start = bytes.len();
        if COMMAND_BYTES_MAX - literal_start <= length {
            return Ok(CommandBytes::TooLong);
        }
        stream.write_all(b"+ Send the literal.\r\n").await?;
        stream.flush().await?;
        (&mut *stream).take(length as u64).read_to_end(&mut bytes).await?;
        if bytes.len() - literal_start < length {
            return Ok(CommandBytes::Closed);
        }
    }
}

/// Returns the length in the announcement of a literal, such as `{12}` and the end of the line.
fn literal_length(announcement: &[u8]) -> Option<usize> {
    let line = announcement.strip_suffix(b"\n")?;
    let digits = line.strip_suffix(b"\r").unwrap_or(line).strip_prefix(b"{")?.strip_suffix(b"}")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

impl DemoCommand {
    /// Parses the bytes of a complete command.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, MalformedCommand> {
        let tag_length = bytes.iter().position(|byte| !is_tag_byte(*byte)).unwrap_or(bytes.len());
        let (tag, rest) = bytes.split_at(tag_length);
        let tag = if tag.is_empty() { &b"*"[..] } else { tag };
        let tag = String::from_utf8_lossy(tag).into_owned();
        match Self::parse_words(rest).filter(|_| tag_length != 0) {
            Some((name, arguments)) => Ok(Self { tag, name, arguments }),
            None => Err(MalformedCommand { tag }),
        }
    }

    /// Parses the name and the arguments after the tag.
    fn parse_words(rest: &[u8]) -> Option<(String, Vec<DemoArgument>)> {
        let mut words = ArgumentReader { rest }.read_list(0)?.into_iter();
        let mut name = words.next()?.as_word()?.to_ascii_uppercase();
        if name == "UID" {
            let second = words.next()?.as_word()?.to_ascii_uppercase();
            name = format!("UID {second}");
        }
        Some((name, words.collect()))
    }
}

impl DemoArgument {
    /// Returns the text of a word; `None` for a list.
    pub(super) fn as_word(&self) -> Option<&str> {
        match self {
            Self::Word(text) => Some(text),
            Self::List(_) => None,
        }
    }

    /// True for this word in any case.
    pub(super) fn is_word(&self, word: &str) -> bool {
        self.as_word().is_some_and(|text| text.eq_ignore_ascii_case(word))
    }

    /// Returns the words of a list, or a single word; `None` if a list contains another.
    pub(super) fn words(&self) -> Option<Vec<&str>> {
        match self {
            Self::Word(text) => Some(vec![text.as_str()]),
            Self::List(arguments) => arguments.iter().map(Self::as_word).collect(),
        }
    }
}

impl ArgumentReader<'_> {
    /// Reads arguments up to the closing parenthesis; at depth zero, up to the end of the command.
    fn read_list(&mut self, depth: u32) -> Option<Vec<DemoArgument>> {
        let mut arguments = Vec::new();
        loop {
            let argument = match self.rest {
                [] | [b'\n'] | [b'\r', b'\n'] => return (depth == 0).then_some(arguments),
                [b' ', rest @ ..] => {
                    self.rest = rest;
                    continue;
                }
                [b')', rest @ ..] => {
                    self.rest = rest;
                    return (depth != 0).then_some(arguments);
                }
                [b'(', rest @ ..] if depth < DEPTH_MAX => {
                    self.rest = rest;
                    DemoArgument::List(self.read_list(depth + 1)?)
                }
                [b'"', rest @ ..] => {
                    self.rest = rest;
                    DemoArgument::Word(self.read_quoted()?)
                }
                [b'{', ..] => DemoArgument::Word(self.read_literal()?),
                _ => DemoArgument::Word(self.read_atom()?),
            };
            arguments.push(argument);
        }
    }

    /// Reads the rest of a quoted string, after its first quote.
    fn read_quoted(&mut self) -> Option<String> {
        let mut text = Vec::new();
        loop {
            match self.read_byte()? {
                b'"' => return Some(String::from_utf8_lossy(&text).into_owned()),
                b'\\' => text.push(self.read_byte()?),
                b'\r' | b'\n' => return None,
                byte => text.push(byte),
            }
        }
    }

    fn read_literal(&mut self) -> Option<String> {
        let line_end = self.rest.iter().position(|byte| *byte == b'\n')? + 1;
        let (announcement, rest) = self.rest.split_at(line_end);
        let (text, rest) = rest.split_at_checked(literal_length(announcement)?)?;
        self.rest = rest;
        Some(String::from_utf8_lossy(text).into_owned())
    }

    /// Reads an atom. A section in brackets, such as that of `BODY[HEADER.FIELDS (DATE)]`, belongs
    /// to it.
    fn read_atom(&mut self) -> Option<String> {
        let mut is_in_section = false;
        let is_end = |byte: &u8| match byte {
            b'\r' | b'\n' => true,
            b' ' | b'(' | b')' | b'"' | b'{' => !is_in_section,
            b'[' | b']' => {
                is_in_section = *byte == b'[';
                false
            }
            _ => false,
        };
        let length = self.rest.iter().position(is_end).unwrap_or(self.rest.len());
        let (atom, rest) = self.rest.split_at(length);
        self.rest = rest;
        (!atom.is_empty()).then(|| String::from_utf8_lossy(atom).into_owned())
    }

    fn read_byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }
}

/// True for the characters of a tag (RFC 3501 §9).
fn is_tag_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"(){%*\"\\+".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{BufStream, duplex};

    fn word(text: &str) -> DemoArgument {
        DemoArgument::Word(text.to_owned())
    }

    fn arguments(text: &[u8]) -> Vec<DemoArgument> {
        DemoCommand::parse(text).unwrap().arguments
    }

    /// Reads two commands from a client that sends `bytes`, and returns what the client receives.
    async fn read_two(bytes: &[u8]) -> ([CommandBytes; 2], String) {
        let (mut client, server) = duplex(4 * COMMAND_BYTES_MAX);
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let mut server = BufStream::new(server);
        let commands =
            [read_command(&mut server).await.unwrap(), read_command(&mut server).await.unwrap()];
        drop(server);
        let mut received = String::new();
        client.read_to_string(&mut received).await.unwrap();
        (commands, received)
    }

    #[test]
    fn words_strings_literals_and_lists_are_arguments() {
        let text = b"a1 uid fetch 1:* \"\" \"a\\\"b\" {3}\r\nx y (body[header (a)] (uid))\r\n";

        let command = DemoCommand::parse(text).unwrap();

        assert_eq!((command.tag.as_str(), command.name.as_str()), ("a1", "UID FETCH"));
        let nested = DemoArgument::List(vec![word("uid")]);
        let list = DemoArgument::List(vec![word("body[header (a)]"), nested]);
        assert_eq!(command.arguments, [word("1:*"), word(""), word("a\"b"), word("x y"), list]);
    }

    #[test]
    fn malformed_commands_keep_their_tag() {
        for (text, tag) in [
            (&b"a1\r\n"[..], "a1"),
            (b"a1 (\r\n", "a1"),
            (b"a1 x )\r\n", "a1"),
            (b"a1 x \"open\r\n", "a1"),
            (b"a1 x {5}\r\nabc", "a1"),
            (b"a1 uid\r\n", "a1"),
            (b"\r\n", "*"),
            (b"(a\r\n", "*"),
        ] {
            assert_eq!(DemoCommand::parse(text).unwrap_err().tag, tag, "{text:?}");
        }
    }

    #[test]
    fn deep_lists_are_malformed() {
        let nested = |depth| format!("a x {}{}\r\n", "(".repeat(depth), ")".repeat(depth));

        assert_eq!(arguments(nested(8).as_bytes()).len(), 1);
        assert!(DemoCommand::parse(nested(9).as_bytes()).is_err());
        assert!(DemoCommand::parse(nested(30_000).as_bytes()).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_parsed_without_a_panic(bytes: Vec<u8>) {
            DemoCommand::parse(&bytes).ok();
            DemoCommand::parse(&[b"a x ", bytes.as_slice()].concat()).ok();
        }

        #[test]
        fn any_text_is_the_same_as_a_literal(text: String) {
            let literal = format!("a x {{{}}}\r\n{text}\r\n", text.len());
            assert_eq!(arguments(literal.as_bytes()), [word(&text)]);
        }
    }

    #[tokio::test]
    async fn literals_are_asked_for_and_pipelined_commands_are_kept() {
        let (commands, received) = read_two(b"a login {2}\r\n\n} {1}\nx\r\nb noop\r\n").await;

        let first = CommandBytes::Complete(b"a login {2}\r\n\n} {1}\nx\r\n".to_vec());
        assert_eq!(commands, [first, CommandBytes::Complete(b"b noop\r\n".to_vec())]);
        assert_eq!(received, "+ Send the literal.\r\n".repeat(2));
    }

    #[tokio::test]
    async fn long_lines_and_literals_are_not_read() {
        let line = vec![b'x'; COMMAND_BYTES_MAX];
        assert_eq!(read_two(&line).await.0[0], CommandBytes::TooLong);

        let (commands, received) = read_two(b"a x {65536}\r\n").await;
        assert_eq!((&commands[0], received.as_str()), (&CommandBytes::TooLong, ""));
    }

    #[tokio::test]
    async fn the_end_of_the_connection_is_no_command() {
        for bytes in [&b""[..], b"a noop", b"a x {5}\r\nab", b"a x {2}\r\n\n\n"] {
            assert_eq!(read_two(bytes).await.0[0], CommandBytes::Closed, "{bytes:?}");
        }
    }
}
