//! Values of responses: atoms, strings and lists.

use std::borrow::Cow;

/// Value in a response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::source::imap) enum WireValue {
    Nil,
    /// Word without quotes: a name, a number, a flag, or a name with a section, such as
    /// `BODY[HEADER.FIELDS (DATE)]`.
    Atom(String),
    /// Quoted string, literal, or word that is not UTF-8.
    Text(Vec<u8>),
    /// Body of this many bytes, which were given to the sink.
    Streamed(u64),
    List(Vec<Self>),
}

impl WireValue {
    /// Returns the bytes of a word or a string, as sent.
    pub(in crate::source::imap) fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Atom(text) => Some(text.as_bytes()),
            Self::Text(bytes) => Some(bytes),
            Self::Nil | Self::Streamed(_) | Self::List(_) => None,
        }
    }

    /// Returns the text of a word or a string. Bytes that are not UTF-8 are replaced.
    pub(in crate::source::imap) fn as_text(&self) -> Option<Cow<'_, str>> {
        self.as_bytes().map(String::from_utf8_lossy)
    }

    /// Returns a whole number; `None` for other forms, such as the `9.3736e+06` of some servers.
    pub(in crate::source::imap) fn as_number(&self) -> Option<u64> {
        self.as_text()?.parse().ok()
    }

    /// Returns the values of a list.
    pub(in crate::source::imap) fn as_list(&self) -> Option<&[Self]> {
        match self {
            Self::List(values) => Some(values),
            Self::Nil | Self::Atom(_) | Self::Text(_) | Self::Streamed(_) => None,
        }
    }
}

/// Returns the value that follows `name` in a list of names and values in turn, such as that of a
/// `FETCH` or `STATUS` response. Names are compared without regard to case.
pub(in crate::source::imap) fn attribute<'v>(
    values: &'v [WireValue],
    name: &str,
) -> Option<&'v WireValue> {
    values.chunks_exact(2).find_map(|pair| match pair {
        [WireValue::Atom(found), value] if found.eq_ignore_ascii_case(name) => Some(value),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn atom(text: &str) -> WireValue {
        WireValue::Atom(text.to_owned())
    }

    #[test]
    fn numbers_are_whole_decimals() {
        let numbers = ["0", "4294967296", "9.3736e+06", "-1", "", "18446744073709551616"]
            .map(|text| atom(text).as_number());

        assert_eq!(numbers, [Some(0), Some(4_294_967_296), None, None, None, None]);
        assert_eq!(WireValue::Nil.as_number(), None);
    }

    #[test]
    fn strings_keep_their_bytes() {
        let text = WireValue::Text(b"caf\xe9".to_vec());

        assert_eq!(text.as_bytes(), Some(&b"caf\xe9"[..]));
        assert_eq!(text.as_text().unwrap(), "caf\u{fffd}");
        assert_eq!(WireValue::List(vec![text]).as_bytes(), None);
    }

    #[test]
    fn attributes_are_found_only_at_the_place_of_a_name() {
        let values = [atom("X"), atom("UID"), atom("uid"), atom("7"), atom("SIZE")];

        assert_eq!(attribute(&values, "UID"), Some(&atom("7")));
        assert_eq!(attribute(&values, "SIZE"), None, "a name without a value");
    }
}
