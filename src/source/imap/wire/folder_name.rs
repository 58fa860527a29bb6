//! Names of folders: between the bytes of the protocol and text (modified UTF-7, RFC 3501 §5.1.3).

use base64::Engine as _;
use base64::alphabet::IMAP_MUTF7;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};

/// Name of the inbox. Its case has no meaning (RFC 3501 §5.1).
const INBOX: &str = "INBOX";

/// First character of the text form of bytes that are no valid encoding, or not the usual one.
const ESCAPE: char = '\u{fffd}';

static BASE64: GeneralPurpose = GeneralPurpose::new(&IMAP_MUTF7, NO_PAD);

/// Name of a folder. Every sequence of bytes has its own text, and no name is lost or changed on
/// its way back, because a server may send any bytes and knows the folder only by these.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(in crate::source::imap) struct ImapFolderName(String);

impl ImapFolderName {
    /// Reads a name as the server sends it.
    pub(in crate::source::imap) fn from_wire(wire: &[u8]) -> Self {
        if wire.eq_ignore_ascii_case(INBOX.as_bytes()) {
            return Self(INBOX.to_owned());
        }
        let is_reversible = |text: &String| !text.starts_with(ESCAPE) && encode(text) == wire;
        Self(decode(wire).filter(is_reversible).unwrap_or_else(|| escape(wire)))
    }

    /// Reads a name as a person writes it, or as [`Self::as_text`] returned it.
    pub(in crate::source::imap) fn from_text(text: &str) -> Self {
        Self::from_wire(&to_wire(text))
    }

    /// Returns the text form: the decoded name, or U+FFFD and each byte as the character of that
    /// value.
    pub(in crate::source::imap) fn as_text(&self) -> &str {
        &self.0
    }

    /// Returns the bytes that name the folder to the server.
    pub(in crate::source::imap) fn wire_bytes(&self) -> Vec<u8> {
        to_wire(&self.0)
    }
}

fn to_wire(text: &str) -> Vec<u8> {
    unescape(text).unwrap_or_else(|| encode(text))
}

fn escape(wire: &[u8]) -> String {
    let bytes = wire.iter().map(|byte| char::from(*byte));
    std::iter::once(ESCAPE).chain(bytes).collect()
}

/// Returns the bytes of an escaped name; `None` for any other text.
fn unescape(text: &str) -> Option<Vec<u8>> {
    text.strip_prefix(ESCAPE)?.chars().map(|c| u8::try_from(c).ok()).collect()
}

fn encode(text: &str) -> Vec<u8> {
    let mut wire = String::new();
    let mut utf16: Vec<u8> = Vec::new();
    for c in text.chars() {
        if !is_direct(c) {
            let units = c.encode_utf16(&mut [0; 2]).to_vec();
            utf16.extend(units.into_iter().flat_map(u16::to_be_bytes));
            continue;
        }
        push_encoded(&utf16, &mut wire);
        utf16.clear();
        match c {
            '&' => wire.push_str("&-"),
            _ => wire.push(c),
        }
    }
    push_encoded(&utf16, &mut wire);
    wire.into_bytes()
}

fn push_encoded(utf16: &[u8], wire: &mut String) {
    if !utf16.is_empty() {
        wire.push('&');
        wire.push_str(&BASE64.encode(utf16));
        wire.push('-');
    }
}

/// Returns the decoded name; `None` if it is not valid.
fn decode(wire: &[u8]) -> Option<String> {
    let mut rest = str::from_utf8(wire).ok().filter(|wire| wire.chars().all(is_direct))?;
    let mut text = String::new();
    while let Some((direct, shifted)) = rest.split_once('&') {
        let (encoded, after) = shifted.split_once('-')?;
        text.push_str(direct);
        if encoded.is_empty() {
            text.push('&');
        } else {
            text.push_str(&decode_shifted(encoded)?);
        }
        rest = after;
    }
    text.push_str(rest);
    Some(text)
}

fn decode_shifted(encoded: &str) -> Option<String> {
    let utf16 = BASE64.decode(encoded).ok()?;
    let (pairs, []) = utf16.as_chunks::<2>() else { return None };
    let units: Vec<u16> = pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
    String::from_utf16(&units).ok()
}

/// True for characters that stand for themselves.
fn is_direct(c: char) -> bool {
    matches!(c, ' '..='~')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_decoded_and_encoded() {
        for (wire, text) in [
            ("INBOX/Sent", "INBOX/Sent"),
            ("Entw&APw-rfe", "Entwürfe"),
            ("A &- B", "A & B"),
            // The example of the RFC.
            ("~peter/mail/&U,BTFw-/&ZeVnLIqe-", "~peter/mail/台北/日本語"),
            ("&2D3eAA-", "😀"),
            ("", ""),
        ] {
            let name = ImapFolderName::from_wire(wire.as_bytes());
            assert_eq!(name.as_text(), text);
            assert_eq!(name.wire_bytes(), wire.as_bytes());
            assert_eq!(ImapFolderName::from_text(text), name);
        }
    }

    #[test]
    fn the_inbox_has_one_name() {
        for wire in ["INBOX", "inbox", "InBox"] {
            assert_eq!(ImapFolderName::from_wire(wire.as_bytes()).as_text(), "INBOX");
            assert_eq!(ImapFolderName::from_text(wire).wire_bytes(), b"INBOX");
        }
        assert_eq!(ImapFolderName::from_wire(b"inbox/a").as_text(), "inbox/a");
    }

    #[test]
    fn names_that_are_no_valid_encoding_keep_their_bytes() {
        let unusual: [&[u8]; 7] =
            [b"caf\xc3\xa9", b"R&D", b"&AGE-", b"&APw-&APw-", b"&2D0-", b"a\tb", b"&APx-"];
        for wire in unusual {
            let name = ImapFolderName::from_wire(wire);
            assert!(name.as_text().starts_with(ESCAPE), "{name:?}");
            assert_eq!(name.wire_bytes(), wire);
            assert_eq!(ImapFolderName::from_text(name.as_text()), name);
        }
        assert_eq!(ImapFolderName::from_wire(b"R&D").as_text(), "\u{fffd}R&D");
    }

    fn any_wire_name() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..20),
            "[a-cA-C0-2&,+/ -]{0,12}".prop_map(String::into_bytes),
            "(&[A-D]{2,8}-|&-|[a-z]){0,4}".prop_map(String::into_bytes),
        ]
    }

    proptest! {
        #[test]
        fn no_name_of_a_server_is_changed(wire in any_wire_name()) {
            prop_assume!(!wire.eq_ignore_ascii_case(b"INBOX"));
            let name = ImapFolderName::from_wire(&wire);

            prop_assert_eq!(name.wire_bytes(), wire);
            prop_assert_eq!(ImapFolderName::from_text(name.as_text()), name);
        }

        #[test]
        fn text_keeps_its_characters(text in "[^\u{fffd}]{1,12}") {
            prop_assume!(!text.eq_ignore_ascii_case("INBOX"));

            let name = ImapFolderName::from_text(&text);
            prop_assert_eq!(name.as_text(), &text);
        }

        #[test]
        fn any_text_has_one_form(text: String) {
            let name = ImapFolderName::from_text(&text);

            prop_assert_eq!(&ImapFolderName::from_text(name.as_text()), &name);
            prop_assert_eq!(&ImapFolderName::from_wire(&name.wire_bytes()), &name);
        }
    }
}
