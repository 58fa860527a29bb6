//! Ids in the form that real servers use. Each encodes a number, so that no table of ids is needed.
//!
//! Eight characters of `[A-Za-z0-9_-]` (RFC 8620 §1.2) carry 48 bits: a number, scrambled by a
//! keyed Feistel network, which is a bijection for any round function.

use crate::demo::base64::URL_ALPHABET;
use crate::demo::rng::{RngStream, random_u64};

const ID_CHARACTERS: usize = 8;
const BITS_PER_CHARACTER: usize = 6;
const HALF_BITS: u32 = 24;
const HALF_MASK: u64 = (1 << HALF_BITS) - 1;
const ROUNDS: u64 = 4;

/// Kind of object that an id names. The same number has a different id in each kind.
#[derive(Clone, Copy, Debug)]
pub(super) enum IdKind {
    Email,
    Thread,
    Blob,
    Folder,
}

pub(super) fn encode(seed: u64, kind: IdKind, number: u32) -> String {
    let (mut left, mut right) = (u64::from(number) >> HALF_BITS, u64::from(number) & HALF_MASK);
    for round in 0..ROUNDS {
        (left, right) = (right, left ^ scramble(seed, kind, round, right));
    }
    let bits = left << HALF_BITS | right;
    (0..ID_CHARACTERS)
        .rev()
        .map(|index| {
            char::from(URL_ALPHABET[(bits >> (index * BITS_PER_CHARACTER) & 0x3f) as usize])
        })
        .collect()
}

/// Returns the number in an id, or `None` if no number has this id.
pub(super) fn decode(seed: u64, kind: IdKind, id: &str) -> Option<u32> {
    if id.len() != ID_CHARACTERS {
        return None;
    }
    let mut bits = 0;
    for character in id.bytes() {
        bits = bits << BITS_PER_CHARACTER | character_index(character)?;
    }
    let (mut left, mut right) = (bits >> HALF_BITS, bits & HALF_MASK);
    for round in (0..ROUNDS).rev() {
        (left, right) = (right ^ scramble(seed, kind, round, left), left);
    }
    u32::try_from(left << HALF_BITS | right).ok()
}

fn scramble(seed: u64, kind: IdKind, round: u64, half: u64) -> u64 {
    random_u64(seed, RngStream::Id, (kind as u64) << 40 | round << 32 | half) & HALF_MASK
}

fn character_index(character: u8) -> Option<u64> {
    let (first, offset) = match character {
        b'A'..=b'Z' => (b'A', 0),
        b'a'..=b'z' => (b'a', 26),
        b'0'..=b'9' => (b'0', 52),
        b'-' => return Some(62),
        b'_' => return Some(63),
        _ => return None,
    };
    Some(u64::from(character - first + offset))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    proptest::proptest! {
        #[test]
        fn an_id_gives_its_number_back(seed: u64, number: u32) {
            for kind in [IdKind::Email, IdKind::Thread, IdKind::Blob, IdKind::Folder] {
                let id = encode(seed, kind, number);
                assert_eq!(decode(seed, kind, &id), Some(number));
            }
        }

        #[test]
        fn a_decoded_id_encodes_to_the_same_text(seed: u64, id: String) {
            if let Some(number) = decode(seed, IdKind::Email, &id) {
                assert_eq!(encode(seed, IdKind::Email, number), id);
            }
        }
    }

    #[test]
    fn ids_are_distinct_and_some_begin_with_a_dash() {
        let ids: BTreeSet<_> = (0..10_000).map(|number| encode(1, IdKind::Email, number)).collect();

        assert_eq!(ids.len(), 10_000);
        assert!(ids.iter().any(|id| id.starts_with('-')));
    }

    #[test]
    fn a_thread_id_is_no_email_id() {
        assert_ne!(encode(1, IdKind::Email, 7), encode(1, IdKind::Thread, 7));
    }
}
