//! Texts that PostgreSQL can store: without the character 0.

use std::borrow::Cow;
use std::io;

use serde::Serialize;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter, Serializer};

use crate::database::Parameter;

/// Writes the replacement character for the character 0, which no text of PostgreSQL can have.
struct StorableFormatter;

impl Formatter for StorableFormatter {
    fn write_char_escape<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        if matches!(escape, CharEscape::AsciiControl(0)) {
            return writer.write_all(b"\\ufffd");
        }
        CompactFormatter.write_char_escape(writer, escape)
    }
}

/// Returns a text as PostgreSQL can store it: without the character 0, for which it has the
/// replacement character. Rows are found by the texts that are stored.
pub(super) fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// Returns a text as a parameter.
pub(super) fn to_text(text: &str) -> Parameter {
    Box::new(storable(text).into_owned())
}

/// Returns a record as a parameter of type TEXT.
pub(super) fn to_json(record: &impl Serialize) -> Parameter {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, StorableFormatter);
    // Records have string keys and finite numbers, which JSON can always express.
    record.serialize(&mut serializer).ok();
    Box::new(String::from_utf8(bytes).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_character_0_is_replaced_and_nothing_else() {
        let parameter = to_json(&["a\0b", "\\u0000", "\u{1}\"\n"]);

        assert_eq!(
            format!("{parameter:?}"),
            format!("{:?}", r#"["a\ufffdb","\\u0000","\u0001\"\n"]"#)
        );
    }
}
