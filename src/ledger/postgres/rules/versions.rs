//! Earlier versions of the documents of a change.

use crate::ledger::postgres::records::{ContentRecord, SupersededRecord};

/// Earlier versions that a change needs, as they are after its decisions so far.
#[derive(Debug, Default)]
pub(super) struct EarlierVersions {
    /// In the order of their numbers.
    loaded: Vec<SupersededRecord>,
    /// In the order in which they were added: all come after those that were loaded.
    added: Vec<SupersededRecord>,
    /// Numbers of the restored ones.
    deleted: Vec<i64>,
}

impl EarlierVersions {
    pub(super) fn new(mut loaded: Vec<SupersededRecord>) -> Self {
        loaded.sort_by_key(|version| version.no);
        Self { loaded, ..Self::default() }
    }

    pub(super) fn add(&mut self, version: SupersededRecord) {
        self.added.push(version);
    }

    /// True if a document has a version in this file of a session's folder.
    pub(super) fn contains(&self, document: i64, session: i64, file: &str) -> bool {
        let mut versions = self.loaded.iter().chain(&self.added);
        versions.any(|SupersededRecord { document: of, content, .. }| {
            (*of, content.session, content.file.as_str()) == (document, session, file)
        })
    }

    /// Removes the newest version of a document that has this blob and size, and returns its bytes.
    pub(super) fn restore(
        &mut self,
        document: i64,
        blob: &str,
        size: Option<i64>,
    ) -> Option<ContentRecord> {
        let is_same = |version: &SupersededRecord| {
            let has_size = match size {
                Some(size) => version.content.length == size,
                None => version.size.is_none(),
            };
            version.document == document && version.blob == blob && has_size
        };
        if let Some(index) = self.added.iter().rposition(is_same) {
            return Some(self.added.remove(index).content);
        }
        let index = self.loaded.iter().rposition(is_same)?;
        let version = self.loaded.remove(index);
        self.deleted.extend(version.no);
        Some(version.content)
    }

    /// Returns the versions to add, in this order, and the numbers of those to delete.
    pub(super) fn into_changes(self) -> (Vec<SupersededRecord>, Vec<i64>) {
        (self.added, self.deleted)
    }
}
