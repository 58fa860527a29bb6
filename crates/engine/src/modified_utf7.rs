//! Modified UTF-7, the encoding of folder names in IMAP and in Maildir++ (RFC 3501 §5.1.3).

use base64::Engine as _;
use base64::alphabet::IMAP_MUTF7;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};

static BASE64: GeneralPurpose = GeneralPurpose::new(&IMAP_MUTF7, NO_PAD);

/// Encodes text, such as the name of a folder.
#[must_use]
pub fn encode_modified_utf7(text: &str) -> String {
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
    wire
}

fn push_encoded(utf16: &[u8], wire: &mut String) {
    if !utf16.is_empty() {
        wire.push('&');
        wire.push_str(&BASE64.encode(utf16));
        wire.push('-');
    }
}

/// Decodes a name; `None` if it is not valid.
#[must_use]
pub fn decode_modified_utf7(wire: &[u8]) -> Option<String> {
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
    fn text_beyond_ascii_is_encoded_in_units_of_utf_16() {
        for (text, wire) in [
            ("Entw\u{fc}rfe", "Entw&APw-rfe"),
            ("A & B", "A &- B"),
            ("\u{1f600}", "&2D3eAA-"),
            ("a\tb", "a&AAk-b"),
            ("", ""),
        ] {
            assert_eq!(encode_modified_utf7(text), wire);
            assert_eq!(decode_modified_utf7(wire.as_bytes()).as_deref(), Some(text));
        }
    }

    #[test]
    fn invalid_names_are_not_decoded() {
        for wire in ["R&D", "&AGE", "&2D0-", "caf\u{e9}", "a\tb"] {
            assert_eq!(decode_modified_utf7(wire.as_bytes()), None, "{wire}");
        }
    }

    proptest! {
        #[test]
        fn every_text_is_decoded_from_printable_ascii(text: String) {
            let wire = encode_modified_utf7(&text);

            prop_assert!(wire.chars().all(is_direct), "{wire}");
            prop_assert_eq!(decode_modified_utf7(wire.as_bytes()), Some(text));
        }
    }
}
