//! Parser for the status replies of IMAP servers (RFC 9051 §7.1).

use std::fmt;

/// Status of a reply.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum ImapStatus {
    Ok,
    No,
    Bad,
    /// The server closes the connection.
    Bye,
    /// Greeting of a connection that is logged in already.
    PreAuth,
}

/// Response code of a reply, such as those of RFC 5530.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ImapCode {
    /// Name in upper case.
    pub name: String,
    /// Text after the name; empty if there is none.
    pub arguments: String,
}

/// Status reply of a server, tagged or untagged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ImapReply {
    pub status: ImapStatus,
    pub code: Option<ImapCode>,
    /// Text for people, without the code. It is untrusted.
    pub text: String,
}

impl ImapStatus {
    const ALL: [Self; 5] = [Self::Ok, Self::No, Self::Bad, Self::Bye, Self::PreAuth];

    /// Returns the word that a server sends.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::No => "NO",
            Self::Bad => "BAD",
            Self::Bye => "BYE",
            Self::PreAuth => "PREAUTH",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name().eq_ignore_ascii_case(word))
    }
}

impl ImapReply {
    /// Parses a line such as `NO [CODE arguments] text`, without its tag or `* `. Returns `None`
    /// unless it begins with a status.
    ///
    /// Everything after the status is optional: mail.ru sends status lines without a text. What is
    /// not a code belongs to the text.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let line = line.trim();
        let word_end = line.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(line.len());
        let (word, rest) = line.split_at(word_end);
        let status = ImapStatus::from_word(word)?;
        if !rest.is_empty() && !rest.starts_with(|c: char| c == '[' || c.is_whitespace()) {
            return None;
        }
        let rest = rest.trim_start();
        let found = match status {
            ImapStatus::Ok => leading_code(rest).or_else(|| trailing_code(rest)),
            ImapStatus::No | ImapStatus::Bad | ImapStatus::Bye | ImapStatus::PreAuth => {
                leading_code(rest)
            }
        };
        let (code, text) = found.map_or((None, rest), |(code, text)| (Some(code), text));
        Some(Self { status, code, text: text.to_owned() })
    }

    /// Returns the name of the code, in upper case.
    #[must_use]
    pub fn code_name(&self) -> Option<&str> {
        self.code.as_ref().map(|code| code.name.as_str())
    }
}

/// Reads `[CODE arguments] text`. If the bracket is not closed, a first word in upper case is the
/// code.
fn leading_code(text: &str) -> Option<(ImapCode, &str)> {
    let inner = text.strip_prefix('[')?;
    if let Some((code, text)) = inner.split_once(']') {
        let (name, arguments) = split_word(code.trim());
        return Some((ImapCode::new(name, arguments)?, text.trim_start()));
    }
    let (name, text) = split_word(inner);
    Some((ImapCode::from_upper_case(name)?, text))
}

/// Reads `text [CODE]`: Gmail writes `OK Success [THROTTLED]`. The code is in upper case and has
/// no arguments, because other texts end with brackets, too: Exchange's greeting with an id.
fn trailing_code(text: &str) -> Option<(ImapCode, &str)> {
    let (text, name) = text.strip_suffix(']')?.rsplit_once('[')?;
    Some((ImapCode::from_upper_case(name)?, text.trim_end()))
}

/// Splits a text after its first word.
fn split_word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim_start())
}

impl ImapCode {
    /// Creates a code. Returns `None` if the name cannot be one.
    fn new(name: &str, arguments: &str) -> Option<Self> {
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
        is_name.then(|| Self { name: name.to_ascii_uppercase(), arguments: arguments.to_owned() })
    }

    /// Creates a code without arguments. Returns `None` if its name has lower-case letters.
    fn from_upper_case(name: &str) -> Option<Self> {
        if name.chars().any(|c| c.is_ascii_lowercase()) { None } else { Self::new(name, "") }
    }
}

impl fmt::Display for ImapReply {
    /// Formats the reply as it is sent, with its code before the text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.status.name())?;
        if let Some(ImapCode { name, arguments }) = &self.code {
            let space = if arguments.is_empty() { "" } else { " " };
            write!(f, " [{name}{space}{arguments}]")?;
        }
        if !self.text.is_empty() {
            write!(f, " {}", self.text)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: ImapStatus, code: Option<(&str, &str)>, text: &str) -> ImapReply {
        let code = code.map(|(name, arguments)| ImapCode {
            name: name.to_owned(),
            arguments: arguments.to_owned(),
        });
        ImapReply { status, code, text: text.to_owned() }
    }

    #[test]
    fn status_code_and_text_are_separated() {
        for (line, status, code, text) in [
            ("OK", ImapStatus::Ok, None, ""),
            ("OK\r\n", ImapStatus::Ok, None, ""),
            ("no Login failed.", ImapStatus::No, None, "Login failed."),
            ("NO [alert] Look!", ImapStatus::No, Some(("ALERT", "")), "Look!"),
            ("NO[ALERT]Look!", ImapStatus::No, Some(("ALERT", "")), "Look!"),
            ("OK [UIDNEXT 7]", ImapStatus::Ok, Some(("UIDNEXT", "7")), ""),
            (
                "NO [WEBALERT https://a.example/?b=c] Web login required.",
                ImapStatus::No,
                Some(("WEBALERT", "https://a.example/?b=c")),
                "Web login required.",
            ),
            ("PREAUTH [CAPABILITY A B] hi", ImapStatus::PreAuth, Some(("CAPABILITY", "A B")), "hi"),
        ] {
            assert_eq!(ImapReply::parse(line), Some(reply(status, code, text)), "{line}");
        }
    }

    #[test]
    fn a_code_without_closing_bracket_is_read() {
        let parsed = ImapReply::parse("NO [THROTTLED slow down");
        assert_eq!(parsed, Some(reply(ImapStatus::No, Some(("THROTTLED", "")), "slow down")));
        let parsed = ImapReply::parse("NO [see below");
        assert_eq!(parsed, Some(reply(ImapStatus::No, None, "[see below")));
    }

    #[test]
    fn a_code_at_the_end_is_read_of_ok_only() {
        let throttled = Some(("THROTTLED", ""));
        for (line, status, code, text) in [
            ("OK Success [THROTTLED]", ImapStatus::Ok, throttled, "Success"),
            ("OK ready. [TQBSADEAUAAy==]", ImapStatus::Ok, None, "ready. [TQBSADEAUAAy==]"),
            ("OK seen by [me]", ImapStatus::Ok, None, "seen by [me]"),
            ("NO folder [THROTTLED]", ImapStatus::No, None, "folder [THROTTLED]"),
        ] {
            assert_eq!(ImapReply::parse(line), Some(reply(status, code, text)), "{line}");
        }
    }

    #[test]
    fn other_lines_are_no_replies() {
        for line in ["", " ", "A1 OK", "* OK", "OKAY", "NO1", "+ go", "Server Unavailable. 15"] {
            assert_eq!(ImapReply::parse(line), None, "{line}");
        }
    }
}

#[cfg(test)]
mod proptests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_line_is_parsed_without_a_panic(line: String) {
            drop(ImapReply::parse(&line));
        }

        #[test]
        fn a_formatted_reply_is_read_back(
            status in "OK|no|Bad|BYE|PREAUTH", rest in "[\\[\\] A-Za-zé.:-]{0,24}",
        ) {
            let reply = ImapReply::parse(&format!("{status} {rest}")).unwrap();

            prop_assert_eq!(ImapReply::parse(&reply.to_string()), Some(reply));
        }
    }
}
