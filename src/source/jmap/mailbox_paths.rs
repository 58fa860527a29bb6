//! Paths of mailboxes by their ids, as a session knows them.

use std::collections::{BTreeMap, BTreeSet};

use cynosure_engine::ListedDocument;

use crate::source::jmap::email::Email;

/// Paths that are kept before another read of the mailboxes. Accounts have a few hundred; limited
/// so that a server that invents ids costs no more memory than others.
const PATHS_MAX: usize = 10_000;

/// Paths of mailboxes by id, with `/` between their levels. An id that the server does not report
/// is its own path.
#[derive(Debug, Default)]
pub(super) struct MailboxPaths(BTreeMap<String, String>);

impl MailboxPaths {
    /// Forgets all paths.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds paths by id, in place of those known.
    pub(super) fn extend(&mut self, paths: BTreeMap<String, String>) {
        self.0.extend(paths);
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }

    /// Forgets all paths if they are too many.
    pub(super) fn limit(&mut self) {
        if PATHS_MAX < self.0.len() {
            self.0.clear();
        }
    }

    /// Makes ids that are still unknown their own paths, so that they are not requested again.
    pub(super) fn name_by_id(&mut self, ids: BTreeSet<&str>) {
        for id in ids {
            self.0.entry(id.to_owned()).or_insert_with(|| id.to_owned());
        }
    }

    pub(super) fn name_folders(&self, email: Email) -> ListedDocument {
        let paths = email.mailbox_ids().filter_map(|id| self.0.get(id));
        let folders = ListedDocument::kept_folders(paths).into_iter().map(str::to_owned).collect();
        ListedDocument { folders, ..email.into_listed_document() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn paths(names: &[(&str, &str)]) -> MailboxPaths {
        let to_owned = |&(id, path): &(&str, &str)| (id.to_owned(), path.to_owned());
        MailboxPaths(names.iter().map(to_owned).collect())
    }

    #[test]
    fn an_email_is_in_the_folders_of_all_its_mailboxes() {
        let email = json!({"id": "M1", "blobId": "B1", "threadId": "T1",
            "mailboxIds": {"2": true, "1": 1, "9": null}});
        let mut paths = paths(&[("1", "Inbox"), ("2", "Work/2024")]);
        paths.name_by_id(BTreeSet::from(["2", "9"]));

        let listed = paths.name_folders(serde_json::from_value(email).unwrap());

        assert_eq!(listed.folders, ["9", "Inbox", "Work/2024"]);
        assert_eq!(listed.document.as_str(), "M1");
    }

    #[test]
    fn an_email_without_mailboxes_has_no_folders() {
        for mailbox_ids in [json!(null), json!({})] {
            let email = json!({"id": "M1", "blobId": "B1", "threadId": "T1",
                "mailboxIds": mailbox_ids});

            let listed = paths(&[]).name_folders(serde_json::from_value(email).unwrap());

            assert!(listed.folders.is_empty());
        }
    }

    #[test]
    fn paths_are_forgotten_beyond_their_limit() {
        let numbers = (0..=PATHS_MAX).map(|number| number.to_string());
        let mut paths = MailboxPaths(numbers.map(|id| (id.clone(), id)).collect());

        paths.limit();

        assert!(!paths.contains("0"));
    }
}
