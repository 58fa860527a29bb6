//! Escapes in a JSON text that arrives in parts (RFC 8259 §7).

use crate::source::rest::json_scanner::JsonTextError;

/// Decoder of the escapes of one text.
#[derive(Debug, Default)]
pub(super) struct EscapeDecoder {
    state: DecoderState,
    /// First half of a character outside of the basic plane.
    high_surrogate: Option<u16>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum DecoderState {
    #[default]
    Plain,
    /// After a backslash.
    Escape,
    /// After `\u` and this many digits, which are the value.
    Unicode { digits: u8, value: u16 },
}

impl EscapeDecoder {
    /// Appends the next part of the text, without escapes, to `decoded`.
    pub(super) fn push(&mut self, part: &[u8], decoded: &mut Vec<u8>) -> Result<(), JsonTextError> {
        let mut rest = part;
        while let Some((&first, after_first)) = rest.split_first() {
            match self.state {
                DecoderState::Plain if first == b'\\' => {
                    self.state = DecoderState::Escape;
                    rest = after_first;
                }
                DecoderState::Plain => {
                    self.reject_lone_surrogate()?;
                    let end = rest.iter().position(|byte| *byte == b'\\').unwrap_or(rest.len());
                    decoded.extend_from_slice(&rest[..end]);
                    rest = &rest[end..];
                }
                DecoderState::Escape => {
                    self.push_escape(first, decoded)?;
                    rest = after_first;
                }
                DecoderState::Unicode { digits, value } => {
                    self.push_digit(first, digits, value, decoded)?;
                    rest = after_first;
                }
            }
        }
        Ok(())
    }

    /// Checks that the text does not end within a character.
    pub(super) fn finish(&self) -> Result<(), JsonTextError> {
        match self.state {
            DecoderState::Plain => self.reject_lone_surrogate(),
            DecoderState::Escape | DecoderState::Unicode { .. } => {
                Err(JsonTextError::InvalidEncoding)
            }
        }
    }

    fn push_escape(&mut self, byte: u8, decoded: &mut Vec<u8>) -> Result<(), JsonTextError> {
        if byte == b'u' {
            self.state = DecoderState::Unicode { digits: 0, value: 0 };
            return Ok(());
        }
        self.reject_lone_surrogate()?;
        decoded.push(match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            _ => return Err(JsonTextError::InvalidEncoding),
        });
        self.state = DecoderState::Plain;
        Ok(())
    }

    fn push_digit(
        &mut self,
        byte: u8,
        digits: u8,
        value: u16,
        decoded: &mut Vec<u8>,
    ) -> Result<(), JsonTextError> {
        let digit = char::from(byte).to_digit(16).and_then(|digit| u16::try_from(digit).ok());
        let value = (value << 4) | digit.ok_or(JsonTextError::InvalidEncoding)?;
        if digits < 3 {
            self.state = DecoderState::Unicode { digits: digits + 1, value };
            return Ok(());
        }
        self.state = DecoderState::Plain;
        let units = match self.high_surrogate.take() {
            None if (0xd800..=0xdbff).contains(&value) => {
                self.high_surrogate = Some(value);
                return Ok(());
            }
            None => [Some(value), None],
            Some(high) => [Some(high), Some(value)],
        };
        for decoded_char in char::decode_utf16(units.into_iter().flatten()) {
            let c = decoded_char.map_err(|_unpaired| JsonTextError::InvalidEncoding)?;
            decoded.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        Ok(())
    }

    fn reject_lone_surrogate(&self) -> Result<(), JsonTextError> {
        match self.high_surrogate {
            None => Ok(()),
            Some(_) => Err(JsonTextError::InvalidEncoding),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Decodes a text as written in JSON, in parts of this many bytes.
    fn decode(text: &str, part: usize) -> Option<Vec<u8>> {
        let (mut decoder, mut decoded) = (EscapeDecoder::default(), Vec::new());
        for part in text.as_bytes().chunks(part) {
            decoder.push(part, &mut decoded).ok()?;
        }
        decoder.finish().ok()?;
        Some(decoded)
    }

    #[test]
    fn invalid_escapes_are_rejected() {
        for text in [r"\", r"\x", r"\u12", r"\u12g4"] {
            assert_eq!(decode(text, 1), None, "{text}");
        }
        for text in [r"\ud83d", r"\ud83dx", r"\ud83d\n", r"\ude00", r"\ud83d\ud83d"] {
            assert_eq!(decode(text, 1), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn escapes_are_decoded_as_a_parser_does(
            text in r#"([a-zA-Z/+=é€😀 ]|\\[bfnrtu"\\/]|\\u[0-9a-fA-F]{4}|\\ud83d\\ude00){0,20}"#,
            part in 1_usize..9,
        ) {
            let expected: Option<String> = serde_json::from_str(&format!("\"{text}\"")).ok();

            prop_assert_eq!(decode(&text, part), expected.map(String::into_bytes));
        }
    }
}
