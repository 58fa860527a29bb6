//! What changed since a state the client knows (RFC 8620 §5.2).

use std::collections::BTreeMap;

use super::{MessageNumber, ThreadNumber};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ChangeKind {
    Created,
    Updated,
    Destroyed,
}

/// One message that came or went, and what that did to its thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChangeLogEntry {
    pub(super) message: MessageNumber,
    pub(super) message_change: ChangeKind,
    pub(super) thread: ThreadNumber,
    pub(super) thread_change: ChangeKind,
}

/// Why the changes can't be told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ChangesError {
    /// The server never gave out such a state.
    MalformedState,
    /// The state is too old, or of another mailbox.
    StateExpired,
}

/// The changes from one state to another; each number once.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct ChangesSince<T> {
    pub(crate) created: Vec<T>,
    pub(crate) updated: Vec<T>,
    pub(crate) destroyed: Vec<T>,
    pub(crate) new_state: String,
    pub(crate) has_more: bool,
}

/// Every change since the mailbox was made; a state is a place in it.
#[derive(Debug, Default)]
pub(super) struct ChangeLog {
    entries: Vec<ChangeLogEntry>,
    oldest_state: usize,
}

impl ChangeLog {
    pub(super) fn push(&mut self, entry: ChangeLogEntry) {
        self.entries.push(entry);
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn state(&self) -> String {
        state_at(self.entries.len())
    }

    /// Forgets the way from every state but the present one.
    pub(super) fn expire_states(&mut self) {
        self.oldest_state = self.entries.len();
    }

    /// Returns what at most `entries_max` entries after the state `since` amount to.
    pub(super) fn changes_since<T: Copy + Ord>(
        &self,
        since: &str,
        entries_max: usize,
        view: impl Fn(&ChangeLogEntry) -> (T, ChangeKind),
    ) -> Result<ChangesSince<T>, ChangesError> {
        let start = since
            .strip_prefix('s')
            .and_then(|place| place.parse::<usize>().ok())
            .ok_or(ChangesError::MalformedState)?;
        if start < self.oldest_state || self.entries.len() < start {
            return Err(ChangesError::StateExpired);
        }
        let end = start.saturating_add(entries_max).min(self.entries.len());

        let mut net = BTreeMap::new();
        for (number, change) in self.entries[start..end].iter().map(view) {
            net.entry(number).or_insert((change, change)).1 = change;
        }
        let mut delta = ChangesSince {
            created: Vec::new(),
            updated: Vec::new(),
            destroyed: Vec::new(),
            new_state: state_at(end),
            has_more: end < self.entries.len(),
        };
        for (number, (first, last)) in net {
            match (first, last) {
                // It came and went between the two states: the client need not know.
                (ChangeKind::Created, ChangeKind::Destroyed) => {}
                (ChangeKind::Created, ChangeKind::Created | ChangeKind::Updated) => {
                    delta.created.push(number)
                }
                (ChangeKind::Updated | ChangeKind::Destroyed, ChangeKind::Destroyed) => {
                    delta.destroyed.push(number);
                }
                (
                    ChangeKind::Updated | ChangeKind::Destroyed,
                    ChangeKind::Created | ChangeKind::Updated,
                ) => {
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

    const THREAD: ThreadNumber = ThreadNumber(3);

    fn log(changes: &[(u32, ChangeKind, ChangeKind)]) -> ChangeLog {
        let mut log = ChangeLog::default();
        for (message, on_message, on_thread) in changes {
            let (on_message, on_thread) = (*on_message, *on_thread);
            log.push(ChangeLogEntry {
                message: MessageNumber(*message),
                message_change: on_message,
                thread: THREAD,
                thread_change: on_thread,
            });
        }
        log
    }

    fn messages(entry: &ChangeLogEntry) -> (MessageNumber, ChangeKind) {
        (entry.message, entry.message_change)
    }

    fn threads(entry: &ChangeLogEntry) -> (ThreadNumber, ChangeKind) {
        (entry.thread, entry.thread_change)
    }

    #[test]
    fn objects_created_and_destroyed_in_between_are_omitted() {
        let log = log(&[
            (5, ChangeKind::Created, ChangeKind::Created),
            (6, ChangeKind::Created, ChangeKind::Updated),
            (5, ChangeKind::Destroyed, ChangeKind::Updated),
        ]);

        let delta = log.changes_since("s0", 10, messages).unwrap();
        assert_eq!((delta.created, delta.destroyed), (vec![MessageNumber(6)], vec![]));

        let delta = log.changes_since("s1", 10, messages).unwrap();
        assert_eq!(
            (delta.created, delta.destroyed),
            (vec![MessageNumber(6)], vec![MessageNumber(5)])
        );

        let delta = log.changes_since("s1", 10, threads).unwrap();
        assert_eq!((delta.created, delta.updated), (vec![], vec![THREAD]));
    }

    #[test]
    fn changes_are_paged_without_loss() {
        let changes: Vec<_> =
            (0..7).map(|number| (number, ChangeKind::Created, ChangeKind::Updated)).collect();
        let log = log(&changes);
        let (mut state, mut seen) = ("s0".to_owned(), Vec::new());

        loop {
            let delta = log.changes_since(&state, 3, messages).unwrap();
            seen.extend(delta.created);
            state = delta.new_state;
            if !delta.has_more {
                break;
            }
        }

        assert_eq!(seen, (0..7).map(MessageNumber).collect::<Vec<_>>());
        assert_eq!(state, log.state());
    }

    #[test]
    fn expired_future_and_malformed_states_are_distinguished() {
        let mut log = log(&[(1, ChangeKind::Destroyed, ChangeKind::Destroyed)]);
        log.expire_states();

        assert_eq!(log.changes_since("s0", 9, messages).unwrap_err(), ChangesError::StateExpired);
        assert_eq!(log.changes_since("s2", 9, messages).unwrap_err(), ChangesError::StateExpired);
        assert_eq!(
            log.changes_since("abc", 9, messages).unwrap_err(),
            ChangesError::MalformedState
        );
        assert!(log.changes_since("s1", 9, messages).unwrap().created.is_empty());
    }
}
