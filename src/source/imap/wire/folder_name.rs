//! Names of folders: between the bytes of the protocol and text (modified UTF-7, RFC 3501 §5.1.3).

use cynosure_engine::{decode_modified_utf7, encode_modified_utf7};

/// Name of the inbox. Its case has no meaning (RFC 3501 §5.1).
const INBOX: &str = "INBOX";

/// First character of the text form of bytes that are no valid encoding, or not the usual one.
const ESCAPE: char = '\u{fffd}';

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
        let is_reversible = |text: &String| {
            !text.starts_with(ESCAPE) && encode_modified_utf7(text).as_bytes() == wire
        };
        Self(decode_modified_utf7(wire).filter(is_reversible).unwrap_or_else(|| escape(wire)))
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
    unescape(text).unwrap_or_else(|| encode_modified_utf7(text).into_bytes())
}

fn escape(wire: &[u8]) -> String {
    let bytes = wire.iter().map(|byte| char::from(*byte));
    std::iter::once(ESCAPE).chain(bytes).collect()
}

/// Returns the bytes of an escaped name; `None` for any other text.
fn unescape(text: &str) -> Option<Vec<u8>> {
    text.strip_prefix(ESCAPE)?.chars().map(|c| u8::try_from(c).ok()).collect()
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
