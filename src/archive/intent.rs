//! Intent list of a write batch: the files to be published, recorded before any is renamed.
//!
//! After a crash the list names the files that may be in the archive without a ledger row, so
//! that recovery does not have to search anything else.

use std::path::PathBuf;

use cynosure_engine::{DocumentId, ItemId};
use serde::{Deserialize, Serialize};

use crate::archive::FolderName;
use crate::archive::layout::{FIRST_VERSION, document_path};

/// Prefix of the file names of intent lists in the staging folder.
pub(super) const INTENT_PREFIX: &str = "intent";

/// Handle of an intent list on disk.
///
/// It is removed by [`clear_intent`](crate::archive::Archive::clear_intent) once the ledger has
/// the documents.
#[derive(Debug)]
#[must_use = "clear it once the ledger has its documents"]
pub struct Intent {
    pub(super) path: PathBuf,
}

/// Contents of an intent list.
#[derive(Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct IntentList {
    folder: String,
    /// Pairs of item id and document id.
    documents: Vec<(String, String)>,
    /// Path of each document below the folder. Lists of version 0.1.0 have none: there the paths
    /// follow from the ids.
    #[serde(default)]
    paths: Vec<String>,
}

/// Document on an intent list.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct IntendedDocument {
    pub(super) item: ItemId,
    pub(super) document: DocumentId,
    /// Path below the session folder.
    pub(super) file: String,
}

impl IntentList {
    pub(super) fn new<'a>(
        folder: &FolderName,
        documents: impl Iterator<Item = (&'a ItemId, &'a DocumentId, String)>,
    ) -> Self {
        let documents = documents
            .map(|(item, document, file)| ((item.to_string(), document.to_string()), file));
        let (documents, paths) = documents.unzip();
        Self { folder: folder.as_str().to_owned(), documents, paths }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Parses a list. `None` if it is truncated, in which case none of its files was published yet.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    pub(super) fn folder(&self) -> Option<FolderName> {
        FolderName::parse(&self.folder)
    }

    pub(super) fn documents(&self) -> impl Iterator<Item = IntendedDocument> {
        self.documents.iter().enumerate().map(|(index, (item, document))| {
            let (item, document) = (ItemId::new(item), DocumentId::new(document));
            let file = self.paths.get(index).cloned();
            let file = file.unwrap_or_else(|| document_path(&item, &document, FIRST_VERSION));
            IntendedDocument { item, document, file }
        })
    }
}

#[cfg(test)]
#[path = "../../tests/fixtures/frozen_format.rs"]
#[expect(clippy::duplicate_mod, reason = "the tests of each layer have it to themselves")]
mod fixture;

#[cfg(test)]
mod tests {
    use super::*;

    /// Paths of the JSON keys added since the first released format.
    const ADDED_KEYS: &[&str] = &["paths"];

    #[test]
    fn an_intent_list_of_the_first_format_can_be_read() {
        let json = include_bytes!("../../tests/fixtures/state-1/intent.json");

        let list = IntentList::from_bytes(json).unwrap();

        assert!(list.folder().is_some() && 0 < list.documents().count());
        for IntendedDocument { item, document, file } in list.documents() {
            assert_eq!(file, document_path(&item, &document, FIRST_VERSION));
        }
        fixture::assert_format_kept(json, &list.to_bytes(), ADDED_KEYS);
    }
}

#[cfg(test)]
mod proptests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_intent_list_is_read_whole_or_not_at_all(
            ids in proptest::collection::vec(any::<(String, String)>(), 0..5),
            cut in any::<proptest::sample::Index>(),
        ) {
            let paths = ids.iter().map(|(item, document)| format!("{item}/{document}")).collect();
            let list = IntentList { folder: "f".to_owned(), documents: ids, paths };
            let bytes = list.to_bytes();
            let cut = cut.index(bytes.len());

            prop_assert_eq!(IntentList::from_bytes(&bytes[..cut]), None);
            prop_assert_eq!(IntentList::from_bytes(&bytes), Some(list));
        }
    }
}
