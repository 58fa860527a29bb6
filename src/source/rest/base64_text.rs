//! Base64 that arrives in parts (RFC 4648), in either alphabet, with or without padding and line
//! breaks.

use crate::source::rest::json_scanner::JsonTextError;

/// Characters of a group.
const GROUP_LENGTH: usize = 4;

/// Bits of a character.
const CHAR_BITS: u32 = 6;

/// Decoder of one text.
#[derive(Debug, Default)]
pub(super) struct Base64Decoder {
    /// Bits of the current group.
    bits: u32,
    /// Characters of the current group, without padding.
    chars: usize,
    /// Padding of the current group, which is the last one.
    padding: usize,
}

impl Base64Decoder {
    /// Appends the bytes of the next part of the text to `decoded`.
    pub(super) fn push(&mut self, part: &[u8], decoded: &mut Vec<u8>) -> Result<(), JsonTextError> {
        for byte in part {
            match byte {
                b'\r' | b'\n' => {}
                b'=' => {
                    self.padding += 1;
                    if self.chars < 2 || GROUP_LENGTH < self.chars + self.padding {
                        return Err(JsonTextError::InvalidEncoding);
                    }
                }
                _ => {
                    let value = value_of(*byte).filter(|_| self.padding == 0);
                    let value = value.ok_or(JsonTextError::InvalidEncoding)?;
                    self.bits = (self.bits << CHAR_BITS) | u32::from(value);
                    self.chars += 1;
                    if self.chars == GROUP_LENGTH {
                        let [_, bytes @ ..] = self.bits.to_be_bytes();
                        decoded.extend_from_slice(&bytes);
                        (self.bits, self.chars) = (0, 0);
                    }
                }
            }
        }
        Ok(())
    }

    /// Appends the bytes of the last group.
    ///
    /// Bits that belong to no byte must be zero (RFC 4648 §3.5): without padding, only they show
    /// that a text lacks its end.
    pub(super) fn finish(&self, decoded: &mut Vec<u8>) -> Result<(), JsonTextError> {
        let bytes_count = match (self.chars, self.padding) {
            (0, 0) => return Ok(()),
            (2, 0 | 2) => 1,
            (3, 0 | 1) => 2,
            _ => return Err(JsonTextError::InvalidEncoding),
        };
        let missing = if self.chars == 2 { 2 * CHAR_BITS } else { CHAR_BITS };
        let [_, bytes @ ..] = (self.bits << missing).to_be_bytes();
        let (bytes, unused) = bytes.split_at(bytes_count);
        if unused.iter().any(|byte| *byte != 0) {
            return Err(JsonTextError::InvalidEncoding);
        }
        decoded.extend_from_slice(bytes);
        Ok(())
    }
}

/// Returns the value of a character in either alphabet.
fn value_of(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Decodes a text in parts of this many bytes.
    fn decode(text: &str, part: usize) -> Option<Vec<u8>> {
        let (mut decoder, mut decoded) = (Base64Decoder::default(), Vec::new());
        for part in text.as_bytes().chunks(part) {
            decoder.push(part, &mut decoded).ok()?;
        }
        decoder.finish(&mut decoded).ok()?;
        Some(decoded)
    }

    #[test]
    fn invalid_text_is_rejected() {
        for text in ["A", "AA=", "AAA==", "A===", "====", "AA==A", "AA==AA==", "A A", "AAAA=", "é"]
        {
            assert_eq!(decode(text, 1), None, "{text}");
        }
        for text in ["AB", "AAB", "AB=="] {
            assert_eq!(decode(text, 1), None, "{text} has bits of a byte that is missing");
        }
        assert_eq!(decode("", 1), Some(Vec::new()));
        assert_eq!(decode("\r\nQU\nI=\r\n", 1), Some(b"AB".to_vec()));
    }

    proptest! {
        #[test]
        fn every_form_is_decoded(
            bytes in vec(any::<u8>(), 0..60),
            part in 1_usize..9,
            line in 1_usize..80,
        ) {
            for engine in [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD] {
                let text = engine.encode(&bytes);
                prop_assert_eq!(decode(&text, part), Some(bytes.clone()), "{}", &text);
                let chars: Vec<char> = text.chars().collect();
                let lines = chars.chunks(line).map(|line| line.iter().collect());
                let lines: Vec<String> = lines.collect();
                prop_assert_eq!(decode(&lines.join("\r\n"), part), Some(bytes.clone()));
            }
        }

        #[test]
        fn text_is_accepted_as_the_library_does(
            text in "[A-Za-z0-9+/=]{0,12}",
            part in 1_usize..9,
        ) {
            let expected = if text.contains('=') || text.len() % 4 == 0 {
                STANDARD.decode(&text)
            } else {
                STANDARD_NO_PAD.decode(&text)
            };
            prop_assert_eq!(decode(&text, part), expected.ok());
        }
    }
}
