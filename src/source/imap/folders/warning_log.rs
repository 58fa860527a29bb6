//! Warnings about folders, each logged once per process: every poll lists the folders again.

use std::cell::RefCell;
use std::collections::BTreeSet;

/// Maximum number of warnings that are remembered, so that a server with ever new folders cannot
/// fill the memory. Later ones are not logged.
const WARNINGS_MAX: usize = 1_000;

/// Subject of a warning.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(in crate::source::imap) enum FolderWarning {
    /// The server refuses access to the folder.
    Refused(String),
    /// The server fails to list the folder, so that it is listed after the others.
    Deferred(String),
    /// The folder has as many messages as a size limit of Gmail.
    AtSizeLimit(String),
    /// Gmail does not list its folder of all messages.
    AllMailHidden,
}

/// Warnings that were logged.
#[derive(Debug, Default)]
pub(in crate::source::imap) struct WarningLog(RefCell<BTreeSet<FolderWarning>>);

impl WarningLog {
    /// Records a warning. Returns true if it is to be logged.
    pub(in crate::source::imap) fn is_new(&self, warning: FolderWarning) -> bool {
        let mut logged = self.0.borrow_mut();
        logged.len() < WARNINGS_MAX && logged.insert(warning)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_logged_once_per_folder() {
        let log = WarningLog::default();
        let refused = |name: &str| FolderWarning::Refused(name.to_owned());

        assert!(log.is_new(refused("a")));
        assert!(log.is_new(refused("b")));
        assert!(log.is_new(FolderWarning::AtSizeLimit("a".to_owned())));
        assert!(!log.is_new(refused("a")));
    }

    #[test]
    fn the_number_of_warnings_is_limited() {
        let log = WarningLog::default();
        let logged = (0..2 * WARNINGS_MAX)
            .filter(|number| log.is_new(FolderWarning::Refused(number.to_string())))
            .count();

        assert_eq!(logged, WARNINGS_MAX);
    }
}
