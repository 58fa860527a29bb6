//! Commands: text with arguments, each in the simplest form that the grammar allows (RFC 3501 §4).

use std::{fmt, iter, mem};

use secrecy::{ExposeSecret as _, SecretSlice, SecretString};

use crate::source::imap::wire::folder_name::ImapFolderName;

/// Punctuation in arguments without quotes. The grammar allows more, but servers differ in it.
/// These are enough for base64, dates and encoded folder names.
const ATOM_PUNCTUATION: &[u8] = b"-_.+/=,&:@";

/// Text of a secret in the debug output.
const MASK: &str = "***";

/// One command, without its tag and its final CRLF.
///
/// All its bytes are wiped when it is dropped or extended, because any may be a secret.
pub(in crate::source::imap) struct WireCommand {
    /// Parts that end with the announcement of a literal.
    announcing_parts: Vec<SecretSlice<u8>>,
    last_part: SecretSlice<u8>,
    /// The same text with secrets masked.
    masked_text: String,
}

impl WireCommand {
    /// Begins a command with trusted text, such as `UID FETCH`.
    pub(in crate::source::imap) fn new(text: impl Into<String>) -> Self {
        let masked_text = text.into();
        let last_part = SecretSlice::from(masked_text.as_bytes().to_vec());
        Self { announcing_parts: Vec::new(), last_part, masked_text }
    }

    /// Appends a space and trusted text, such as `(UID BODY.PEEK[])`.
    pub(in crate::source::imap) fn text(mut self, text: &str) -> Self {
        self.append(iter::once(b' ').chain(text.bytes()));
        self.show(text);
        self
    }

    /// Appends a space and an argument with any characters.
    pub(in crate::source::imap) fn astring(mut self, argument: &str) -> Self {
        self.append_argument(argument.as_bytes());
        self.show(argument);
        self
    }

    /// Appends a space and the name of a folder.
    pub(in crate::source::imap) fn folder(mut self, folder: &ImapFolderName) -> Self {
        self.append_argument(&folder.wire_bytes());
        self.show(folder.as_text());
        self
    }

    /// Appends a space and an argument that is masked in the debug output. Base64 is sent without
    /// quotes, so it may be the initial response of `AUTHENTICATE`.
    pub(in crate::source::imap) fn secret(mut self, secret: &SecretString) -> Self {
        self.append_argument(secret.expose_secret().as_bytes());
        self.show(MASK);
        self
    }

    /// Returns the parts in the order in which they are sent.
    ///
    /// Each part but the last ends with `{n}` and CRLF. The next one may be sent only after the
    /// server's continuation. The sender writes the tag and a space before the first part, and CRLF
    /// after the last one, which has none.
    pub(in crate::source::imap) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let parts = self.announcing_parts.iter().chain(iter::once(&self.last_part));
        parts.map(|part| part.expose_secret())
    }

    fn append_argument(&mut self, bytes: &[u8]) {
        if is_plain_atom(bytes) {
            self.append(iter::once(b' ').chain(bytes.iter().copied()));
        } else if bytes.iter().all(|byte| matches!(byte, b' '..=b'~')) {
            let escaped = bytes.iter().flat_map(|byte| {
                let escape = matches!(byte, b'"' | b'\\').then_some(b'\\');
                escape.into_iter().chain(iter::once(*byte))
            });
            self.append(b" \"".iter().copied().chain(escaped).chain(iter::once(b'"')));
        } else {
            self.append(format!(" {{{}}}\r\n", bytes.len()).bytes());
            let literal = SecretSlice::from(bytes.to_vec());
            self.announcing_parts.push(mem::replace(&mut self.last_part, literal));
        }
    }

    /// Appends bytes to the last part. Its memory is allocated once, with the exact size, because a
    /// vector that grows leaves a copy behind that is not wiped.
    fn append(&mut self, added: impl Iterator<Item = u8> + Clone) {
        let part = self.last_part.expose_secret();
        let length = part.len().saturating_add(added.clone().count());
        let mut longer = Vec::with_capacity(length);
        longer.extend_from_slice(part);
        longer.extend(added);
        self.last_part = SecretSlice::from(longer);
    }

    fn show(&mut self, text: &str) {
        self.masked_text.push(' ');
        self.masked_text.push_str(text);
    }
}

impl fmt::Debug for WireCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WireCommand").field(&self.masked_text).finish()
    }
}

/// True for an argument that needs no quotes. `NIL` would be another value without them.
fn is_plain_atom(bytes: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || ATOM_PUNCTUATION.contains(byte);
    !bytes.is_empty() && !bytes.eq_ignore_ascii_case(b"NIL") && bytes.iter().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(command: &WireCommand) -> Vec<String> {
        command.parts().map(|part| String::from_utf8_lossy(part).into_owned()).collect()
    }

    #[test]
    fn arguments_are_quoted_only_where_needed() {
        let command = WireCommand::new("LIST").astring("").astring("a/b").astring("*").text("(X)");

        assert_eq!(parts(&command), [r#"LIST "" a/b "*" (X)"#]);
        assert_eq!(parts(&WireCommand::new("X").astring("nil")), [r#"X "nil""#]);
        assert_eq!(parts(&WireCommand::new("X").astring(r#"a"\ b"#)), [r#"X "a\"\\ b""#]);
    }

    #[test]
    fn other_characters_are_sent_as_literals() {
        let command = WireCommand::new("LOGIN").astring("é").astring("a\r\nb").text("c");

        assert_eq!(parts(&command), ["LOGIN {2}\r\n", "é {4}\r\n", "a\r\nb c"]);
    }

    #[test]
    fn folders_are_sent_in_their_encoded_form() {
        let command = WireCommand::new("EXAMINE").folder(&ImapFolderName::from_text("Entwürfe"));

        assert_eq!(parts(&command), ["EXAMINE Entw&APw-rfe"]);
        assert_eq!(format!("{command:?}"), r#"WireCommand("EXAMINE Entwürfe")"#);
    }

    #[test]
    fn secrets_are_not_shown() {
        let (base64, password) = (SecretString::from("cGFzcw=="), SecretString::from("pass word"));
        let command = WireCommand::new("AUTHENTICATE PLAIN").secret(&base64).secret(&password);

        assert_eq!(parts(&command), [r#"AUTHENTICATE PLAIN cGFzcw== "pass word""#]);
        assert_eq!(format!("{command:?}"), r#"WireCommand("AUTHENTICATE PLAIN *** ***")"#);
    }
}
