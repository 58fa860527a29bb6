//! Ids of 16 hexadecimal digits, as Gmail and mail.ru have them.

use crate::demo::base64::URL_ALPHABET;

/// First digits of every id. The other twelve are the bits of an id of the mailbox.
const PREFIX: &str = "18c5";
const DIGITS: usize = 12;
const BITS_PER_CHARACTER: usize = 6;
const CHARACTERS: usize = 8;

/// Returns the hexadecimal form of an id of the mailbox, which has eight characters of base64url.
pub(super) fn to_hex(id: &str) -> String {
    let bits = id.bytes().fold(0, |bits: u64, character| {
        let value = URL_ALPHABET.iter().position(|other| *other == character).unwrap_or(0);
        bits << BITS_PER_CHARACTER | value as u64
    });
    format!("{PREFIX}{bits:012x}")
}

/// Returns the id of the mailbox in a hexadecimal id.
pub(super) fn from_hex(id: &str) -> Option<String> {
    let digits = id.strip_prefix(PREFIX).filter(|digits| digits.len() == DIGITS)?;
    if !digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let bits = u64::from_str_radix(digits, 16).ok()?;
    let characters = (0..CHARACTERS).rev().map(|index| {
        char::from(URL_ALPHABET[(bits >> (index * BITS_PER_CHARACTER) & 0x3f) as usize])
    });
    Some(characters.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_16_digits_and_leads_back() {
        for id in ["AAAAAAAA", "-_09azAZ", "________"] {
            let hex = to_hex(id);
            assert_eq!((hex.len(), from_hex(&hex).as_deref()), (16, Some(id)));
        }
        assert_eq!(to_hex("AAAAAAAB"), "18c5000000000001");
        for id in ["", "18c5", "18c500000000000G", "18c50000000000001", "28c5000000000001"] {
            assert_eq!(from_hex(id), None, "{id}");
        }
    }
}
