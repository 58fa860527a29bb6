//! Conversion of line ends, a chunk at a time.

use crate::export::options::LineEnds;

/// Converter of the line ends of one message.
#[derive(Debug)]
pub(super) struct LineEndConverter {
    line_ends: LineEnds,
    /// True if the last byte was a CR. It is held back if a following LF removes it.
    is_after_cr: bool,
}

impl LineEndConverter {
    pub(super) fn new(line_ends: LineEnds) -> Self {
        Self { line_ends, is_after_cr: false }
    }

    /// Appends the converted bytes to `converted`.
    pub(super) fn convert(&mut self, bytes: &[u8], converted: &mut Vec<u8>) {
        match self.line_ends {
            LineEnds::Keep => converted.extend_from_slice(bytes),
            LineEnds::Lf => {
                for &byte in bytes {
                    if self.is_after_cr && byte != b'\n' {
                        converted.push(b'\r');
                    }
                    self.is_after_cr = byte == b'\r';
                    if !self.is_after_cr {
                        converted.push(byte);
                    }
                }
            }
            LineEnds::Crlf => {
                for &byte in bytes {
                    if byte == b'\n' && !self.is_after_cr {
                        converted.push(b'\r');
                    }
                    self.is_after_cr = byte == b'\r';
                    converted.push(byte);
                }
            }
        }
    }

    /// Appends what was held back at the end of the message.
    pub(super) fn finish(&mut self, converted: &mut Vec<u8>) {
        if self.line_ends == LineEnds::Lf && self.is_after_cr {
            converted.push(b'\r');
        }
        self.is_after_cr = false;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Converts a text, given to the converter in chunks of `size` bytes.
    fn convert(line_ends: LineEnds, bytes: &[u8], size: usize) -> Vec<u8> {
        let mut converter = LineEndConverter::new(line_ends);
        let mut converted = Vec::new();
        for chunk in bytes.chunks(size) {
            converter.convert(chunk, &mut converted);
        }
        converter.finish(&mut converted);
        converted
    }

    #[test]
    fn only_whole_line_ends_are_converted() {
        let text = b"a\r\nb\nc\rd\r\r\n\r";
        for size in [1, 2, 99] {
            assert_eq!(convert(LineEnds::Keep, text, size), text);
            assert_eq!(convert(LineEnds::Lf, text, size), b"a\nb\nc\rd\r\n\r");
            assert_eq!(convert(LineEnds::Crlf, text, size), b"a\r\nb\r\nc\rd\r\r\n\r");
        }
    }

    proptest! {
        #[test]
        fn chunks_make_no_difference(text in "[a\r\n]{0,20}", size in 1..5_usize) {
            for line_ends in [LineEnds::Keep, LineEnds::Lf, LineEnds::Crlf] {
                prop_assert_eq!(
                    convert(line_ends, text.as_bytes(), size),
                    convert(line_ends, text.as_bytes(), 99)
                );
            }
        }
    }
}
