//! Sets of UIDs, as commands write them (RFC 3501 §9, `sequence-set`).

use std::collections::BTreeSet;
use std::fmt;

/// Set of UIDs as ascending ranges, displayed like `1:3,7`.
///
/// The text of an empty set is empty, which no command accepts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(in crate::source::imap) struct UidSet(Vec<(u32, u32)>);

impl FromIterator<u32> for UidSet {
    /// Collects UIDs in any order. Zero is left out, because it is no UID and servers reject the
    /// whole command.
    fn from_iter<I: IntoIterator<Item = u32>>(uids: I) -> Self {
        let uids: BTreeSet<u32> = uids.into_iter().filter(|uid| *uid > 0).collect();
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for uid in uids {
            match ranges.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(uid) => *last = uid,
                Some(_) | None => ranges.push((uid, uid)),
            }
        }
        Self(ranges)
    }
}

impl fmt::Display for UidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            write!(f, "{separator}{first}")?;
            if first < last {
                write!(f, ":{last}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(uids: impl IntoIterator<Item = u32>) -> String {
        uids.into_iter().collect::<UidSet>().to_string()
    }

    /// Returns the UIDs that a set contains, in the order of its text.
    fn parse(text: &str) -> Vec<u32> {
        let ranges = text.split(',').filter(|range| !range.is_empty());
        let uids = ranges.flat_map(|range| {
            let (first, last) = range.split_once(':').unwrap_or((range, range));
            first.parse::<u32>().unwrap()..=last.parse::<u32>().unwrap()
        });
        uids.collect()
    }

    #[test]
    fn neighbours_become_ranges() {
        assert_eq!(shown([7, 2, 1, 3, 2]), "1:3,7");
        assert_eq!(shown([5]), "5");
        assert_eq!(shown([0]), "");
        assert_eq!(shown([u32::MAX, u32::MAX - 1, 1]), "1,4294967294:4294967295");
    }

    proptest! {
        #[test]
        fn the_text_names_each_uid_once(
            uids in prop::collection::vec(prop_oneof![1_u32..30, 1_u32..=u32::MAX], 0..60),
        ) {
            let expected: Vec<u32> =
                uids.iter().copied().collect::<BTreeSet<u32>>().into_iter().collect();

            prop_assert_eq!(parse(&shown(uids)), expected);
        }
    }
}
