//! Change log of the mailbox, and the changes since a state that a client knows (RFC 8620 §5.2).

use std::collections::BTreeMap;

use super::folder::Folder;
use super::number::{MessageNumber, ThreadNumber};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ChangeKind {
    Created,
    Updated,
    Destroyed,
}

/// Creation, move or destruction of one message, with the resulting change of its thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChangeLogEntry {
    pub(crate) message: MessageNumber,
    pub(crate) message_change: ChangeKind,
    pub(crate) thread: ThreadNumber,
    pub(crate) thread_change: ChangeKind,
    /// Home folder before a move.
    pub(crate) moved_from: Option<Folder>,
}

/// Error for a state from which changes cannot be calculated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ChangesError {
    /// The text has a form that the server never issues.
    MalformedState,
    /// The state is too old, or belongs to another mailbox.
    StateExpired,
}

/// Net changes from one state to another. Each object is listed once.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct ChangesSince<T> {
    pub(crate) created: Vec<T>,
    pub(crate) updated: Vec<T>,
    pub(crate) destroyed: Vec<T>,
    pub(crate) new_state: String,
    pub(crate) has_more: bool,
}

/// All changes since the mailbox was created. A state is a position in this log.
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

    /// Returns the length of the log at the last expiry of all states.
    pub(super) fn oldest_state(&self) -> usize {
        self.oldest_state
    }

    pub(super) fn state(&self) -> String {
        state_at(self.entries.len())
    }

    /// Expires every state except the current one.
    pub(super) fn expire_states(&mut self) {
        self.oldest_state = self.entries.len();
    }

    /// Returns at most `entries_max` entries from this position on; `None` if the position has
    /// expired or was never reached.
    pub(super) fn entries_after(
        &self,
        position: usize,
        entries_max: usize,
    ) -> Option<&[ChangeLogEntry]> {
        if position < self.oldest_state {
            return None;
        }
        let entries = self.entries.get(position..)?;
        Some(&entries[..entries.len().min(entries_max)])
    }

    /// Returns the net changes of at most `entries_max` entries after the state `since`.
    pub(super) fn changes_since<T: Copy + Ord>(
        &self,
        since: &str,
        entries_max: usize,
        change_of: impl Fn(&ChangeLogEntry) -> (T, ChangeKind),
    ) -> Result<ChangesSince<T>, ChangesError> {
        let start = since
            .strip_prefix('s')
            .and_then(|position| position.parse::<usize>().ok())
            .ok_or(ChangesError::MalformedState)?;
        if start < self.oldest_state || self.entries.len() < start {
            return Err(ChangesError::StateExpired);
        }
        let end = start.saturating_add(entries_max).min(self.entries.len());

        let mut net = BTreeMap::new();
        for (object, change) in self.entries[start..end].iter().map(change_of) {
            net.entry(object).or_insert((change, change)).1 = change;
        }
        let mut changes = ChangesSince {
            created: Vec::new(),
            updated: Vec::new(),
            destroyed: Vec::new(),
            new_state: state_at(end),
            has_more: end < self.entries.len(),
        };
        for (object, (first, last)) in net {
            match (first, last) {
                // Created and destroyed between the two states: not reported to the client.
                (ChangeKind::Created, ChangeKind::Destroyed) => {}
                (ChangeKind::Created, ChangeKind::Created | ChangeKind::Updated) => {
                    changes.created.push(object);
                }
                (ChangeKind::Updated | ChangeKind::Destroyed, ChangeKind::Destroyed) => {
                    changes.destroyed.push(object);
                }
                (
                    ChangeKind::Updated | ChangeKind::Destroyed,
                    ChangeKind::Created | ChangeKind::Updated,
                ) => {
                    changes.updated.push(object);
                }
            }
        }
        Ok(changes)
    }
}

fn state_at(position: usize) -> String {
    format!("s{position}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREAD: ThreadNumber = ThreadNumber(3);

    fn change_log(changes: &[(u32, ChangeKind, ChangeKind)]) -> ChangeLog {
        let mut log = ChangeLog::default();
        for (message, message_change, thread_change) in changes {
            let (message_change, thread_change) = (*message_change, *thread_change);
            log.push(ChangeLogEntry {
                message: MessageNumber(*message),
                message_change,
                thread: THREAD,
                thread_change,
                moved_from: None,
            });
        }
        log
    }

    fn message_change(entry: &ChangeLogEntry) -> (MessageNumber, ChangeKind) {
        (entry.message, entry.message_change)
    }

    fn thread_change(entry: &ChangeLogEntry) -> (ThreadNumber, ChangeKind) {
        (entry.thread, entry.thread_change)
    }

    #[test]
    fn objects_created_and_destroyed_in_between_are_omitted() {
        let log = change_log(&[
            (5, ChangeKind::Created, ChangeKind::Created),
            (6, ChangeKind::Created, ChangeKind::Updated),
            (5, ChangeKind::Destroyed, ChangeKind::Updated),
        ]);

        let changes = log.changes_since("s0", 10, message_change).unwrap();
        assert_eq!((changes.created, changes.destroyed), (vec![MessageNumber(6)], vec![]));

        let changes = log.changes_since("s1", 10, message_change).unwrap();
        assert_eq!(
            (changes.created, changes.destroyed),
            (vec![MessageNumber(6)], vec![MessageNumber(5)])
        );

        let changes = log.changes_since("s1", 10, thread_change).unwrap();
        assert_eq!((changes.created, changes.updated), (vec![], vec![THREAD]));
    }

    #[test]
    fn changes_are_paged_without_loss() {
        let changes: Vec<_> =
            (0..7).map(|number| (number, ChangeKind::Created, ChangeKind::Updated)).collect();
        let log = change_log(&changes);
        let (mut state, mut seen) = ("s0".to_owned(), Vec::new());

        loop {
            let page = log.changes_since(&state, 3, message_change).unwrap();
            seen.extend(page.created);
            state = page.new_state;
            if !page.has_more {
                break;
            }
        }

        assert_eq!(seen, (0..7).map(MessageNumber).collect::<Vec<_>>());
        assert_eq!(state, log.state());
    }

    #[test]
    fn expired_future_and_malformed_states_are_distinguished() {
        let mut log = change_log(&[(1, ChangeKind::Destroyed, ChangeKind::Destroyed)]);
        log.expire_states();

        assert_eq!(
            log.changes_since("s0", 9, message_change).unwrap_err(),
            ChangesError::StateExpired
        );
        assert_eq!(
            log.changes_since("s2", 9, message_change).unwrap_err(),
            ChangesError::StateExpired
        );
        assert_eq!(
            log.changes_since("abc", 9, message_change).unwrap_err(),
            ChangesError::MalformedState
        );
        assert!(log.changes_since("s1", 9, message_change).unwrap().created.is_empty());

        let lengths = [0, 1, 2].map(|position| log.entries_after(position, 9).map(<[_]>::len));
        assert_eq!(lengths, [None, Some(0), None]);
    }
}
