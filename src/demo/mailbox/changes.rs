//! What changed since a state the client knows (RFC 8620 §5.2).

use std::collections::BTreeMap;

use super::{MessageNo, ThreadNo};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Change {
    Created,
    Updated,
    Destroyed,
}

/// One message that came or went, and what that did to its thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) message: MessageNo,
    pub(super) on_message: Change,
    pub(super) thread: ThreadNo,
    pub(super) on_thread: Change,
}

/// Why the changes can't be told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unknown {
    /// The server never gave out such a state.
    Malformed,
    /// The state is too old, or of another mailbox.
    Forgotten,
}

/// The changes from one state to another; each number once.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Delta<T> {
    pub(crate) created: Vec<T>,
    pub(crate) updated: Vec<T>,
    pub(crate) destroyed: Vec<T>,
    pub(crate) new_state: String,
    pub(crate) has_more: bool,
}

/// Every change since the mailbox was made; a state is a place in it.
#[derive(Debug, Default)]
pub(super) struct Log {
    entries: Vec<Entry>,
    oldest: usize,
}

impl Log {
    pub(super) fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn state(&self) -> String {
        state_at(self.entries.len())
    }

    /// Forgets the way from every state but the present one.
    pub(super) fn expire(&mut self) {
        self.oldest = self.entries.len();
    }

    /// Returns what at most `entries_max` entries after the state `since` amount to.
    pub(super) fn since<T: Copy + Ord>(
        &self,
        since: &str,
        entries_max: usize,
        view: impl Fn(&Entry) -> (T, Change),
    ) -> Result<Delta<T>, Unknown> {
        let start = since
            .strip_prefix('s')
            .and_then(|place| place.parse::<usize>().ok())
            .ok_or(Unknown::Malformed)?;
        if start < self.oldest || self.entries.len() < start {
            return Err(Unknown::Forgotten);
        }
        let end = start.saturating_add(entries_max).min(self.entries.len());

        let mut net = BTreeMap::new();
        for (number, change) in self.entries[start..end].iter().map(view) {
            net.entry(number).or_insert((change, change)).1 = change;
        }
        let mut delta = Delta {
            created: Vec::new(),
            updated: Vec::new(),
            destroyed: Vec::new(),
            new_state: state_at(end),
            has_more: end < self.entries.len(),
        };
        for (number, (first, last)) in net {
            match (first, last) {
                // It came and went between the two states: the client need not know.
                (Change::Created, Change::Destroyed) => {}
                (Change::Created, Change::Created | Change::Updated) => delta.created.push(number),
                (Change::Updated | Change::Destroyed, Change::Destroyed) => {
                    delta.destroyed.push(number);
                }
                (Change::Updated | Change::Destroyed, Change::Created | Change::Updated) => {
                    delta.updated.push(number);
                }
            }
        }
        Ok(delta)
    }
}

fn state_at(place: usize) -> String {
    format!("s{place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREAD: ThreadNo = ThreadNo(3);

    fn log(changes: &[(u32, Change, Change)]) -> Log {
        let mut log = Log::default();
        for (message, on_message, on_thread) in changes {
            let (on_message, on_thread) = (*on_message, *on_thread);
            log.push(Entry { message: MessageNo(*message), on_message, thread: THREAD, on_thread });
        }
        log
    }

    fn messages(entry: &Entry) -> (MessageNo, Change) {
        (entry.message, entry.on_message)
    }

    fn threads(entry: &Entry) -> (ThreadNo, Change) {
        (entry.thread, entry.on_thread)
    }

    #[test]
    fn what_came_and_went_is_not_told_to_who_never_saw_it() {
        let log = log(&[
            (5, Change::Created, Change::Created),
            (6, Change::Created, Change::Updated),
            (5, Change::Destroyed, Change::Updated),
        ]);

        let delta = log.since("s0", 10, messages).unwrap();
        assert_eq!((delta.created, delta.destroyed), (vec![MessageNo(6)], vec![]));

        let delta = log.since("s1", 10, messages).unwrap();
        assert_eq!((delta.created, delta.destroyed), (vec![MessageNo(6)], vec![MessageNo(5)]));

        let delta = log.since("s1", 10, threads).unwrap();
        assert_eq!((delta.created, delta.updated), (vec![], vec![THREAD]));
    }

    #[test]
    fn many_changes_are_told_in_portions_and_none_is_lost() {
        let changes: Vec<_> =
            (0..7).map(|number| (number, Change::Created, Change::Updated)).collect();
        let log = log(&changes);
        let (mut state, mut seen) = ("s0".to_owned(), Vec::new());

        loop {
            let delta = log.since(&state, 3, messages).unwrap();
            seen.extend(delta.created);
            state = delta.new_state;
            if !delta.has_more {
                break;
            }
        }

        assert_eq!(seen, (0..7).map(MessageNo).collect::<Vec<_>>());
        assert_eq!(state, log.state());
    }

    #[test]
    fn states_that_are_expired_from_the_future_or_malformed_are_told_apart() {
        let mut log = log(&[(1, Change::Destroyed, Change::Destroyed)]);
        log.expire();

        assert_eq!(log.since("s0", 9, messages).unwrap_err(), Unknown::Forgotten);
        assert_eq!(log.since("s2", 9, messages).unwrap_err(), Unknown::Forgotten);
        assert_eq!(log.since("abc", 9, messages).unwrap_err(), Unknown::Malformed);
        assert!(log.since("s1", 9, messages).unwrap().created.is_empty());
    }
}
