//! UIDs of messages, and sets of them (RFC 3501 §9, `sequence-set`).

use std::ops::Range;

use crate::demo::mailbox::MessageNumber;

/// Returns the UID of a message, which is the same in every folder.
pub(super) fn uid(message: MessageNumber) -> u32 {
    message.0 + 1
}

/// Returns the positions of the messages with the UIDs of a set, such as `3:5,7,9:*`: ascending
/// ranges, each message once. `messages` ascend. Returns `None` if the set is malformed.
pub(super) fn positions(set: &str, messages: &[MessageNumber]) -> Option<Vec<Range<usize>>> {
    let highest = messages.last().map_or(1, |message| uid(*message));
    let mut ranges = Vec::new();
    for part in set.split(',') {
        let (first, last) = part.split_once(':').unwrap_or((part, part));
        let (first, last) = (parse_uid(first, highest)?, parse_uid(last, highest)?);
        // A range may be written from its end. `9:*` is one if the highest UID is lower.
        let (low, high) = (first.min(last), first.max(last));
        let start = messages.partition_point(|message| uid(*message) < low);
        let end = messages.partition_point(|message| uid(*message) <= high);
        ranges.push(start..end);
    }
    ranges.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            Some(_) | None => merged.push(range),
        }
    }
    Some(merged)
}

fn parse_uid(text: &str, highest: u32) -> Option<u32> {
    if text == "*" {
        return Some(highest);
    }
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| is_number && *number != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::{btree_set, vec};

    /// Returns the UIDs of `set` in a folder with these UIDs.
    fn uids(set: &str, folder: &[u32]) -> Option<Vec<u32>> {
        let messages: Vec<_> = folder.iter().map(|uid| MessageNumber(uid - 1)).collect();
        let found = positions(set, &messages)?.into_iter().flatten();
        Some(found.map(|position| uid(messages[position])).collect())
    }

    #[test]
    fn ranges_lists_and_stars_are_resolved() {
        const FOLDER: [u32; 5] = [2, 3, 7, 9, 20];

        assert_eq!(uids("3:9", &FOLDER).unwrap(), [3, 7, 9]);
        assert_eq!(uids("9:3,7,1,2", &FOLDER).unwrap(), [2, 3, 7, 9]);
        assert_eq!(uids("9:*", &FOLDER).unwrap(), [9, 20]);
        assert_eq!(uids("*", &FOLDER).unwrap(), [20]);
        assert_eq!(uids("100:*", &FOLDER).unwrap(), [20]);
        assert_eq!(uids("1:4294967295", &[]).unwrap(), [0; 0]);
        assert_eq!(uids("*", &[]).unwrap(), [0; 0]);
    }

    #[test]
    fn malformed_sets_are_refused() {
        for set in ["", "0", "a", "1:", ":1", "1,", "1:2:3", "+1", "4294967296", "1 2", "**"] {
            assert_eq!(uids(set, &[1, 2]), None, "{set}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_set_has_the_messages_of_its_ranges(
            folder in btree_set(1_u32..60, 0..30),
            ranges in vec((1_u32..60, 1_u32..60), 1..6),
        ) {
            let folder: Vec<u32> = folder.into_iter().collect();
            let set: Vec<_> = ranges.iter().map(|(a, b)| format!("{a}:{b}")).collect();
            let is_in_set = |uid: &u32| {
                ranges.iter().any(|(a, b)| (*a.min(b)..=*a.max(b)).contains(uid))
            };

            let expected: Vec<u32> = folder.iter().copied().filter(is_in_set).collect();

            assert_eq!(uids(&set.join(","), &folder).unwrap(), expected);
        }
    }
}
