//! Intent list of a write batch: the files or lines to be published, recorded before any is.
//!
//! After a crash the list names the documents that may be in the archive without a ledger row, so
//! that recovery does not have to search anything else. The files and the lines of a batch have
//! separate lists.

use std::path::PathBuf;

use cynosure_engine::{DocumentId, ItemId};
use serde::{Deserialize, Serialize};

use crate::archive::FolderName;
use crate::archive::format::FileExtension;
use crate::archive::layout::{FIRST_VERSION, document_path};
use crate::archive::line_file::{LineRange, UnrecordedLines};

/// Prefix of the file names of intent lists in the staging folder.
pub(super) const INTENT_PREFIX: &str = "intent";

/// Handle of the intent lists of a batch on disk.
///
/// They are removed by [`clear_intent`](crate::archive::FileArchive::clear_intent) once the ledger has
/// the documents.
#[derive(Debug)]
#[must_use = "clear it once the ledger has its documents"]
pub struct Intent {
    /// Path of the list of files; `None` if the batch has none.
    pub(super) files: Option<PathBuf>,
    pub(super) lines: Option<UnrecordedLines>,
}

/// Contents of an intent list.
#[derive(Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct IntentList {
    folder: String,
    /// Pairs of item id and document id.
    documents: Vec<(String, String)>,
    /// Path or line of each document below the folder. Lists of version 0.1.0 have none: there the
    /// paths follow from the ids.
    #[serde(default)]
    paths: Vec<String>,
    /// Bytes that the documents take in the file of lines; `None` for a list of files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lines: Option<LineRange>,
}

/// Document on an intent list.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct IntendedDocument {
    pub(super) item: ItemId,
    pub(super) document: DocumentId,
    /// Path or line below the session folder.
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
        Self { folder: folder.as_str().to_owned(), documents, paths, lines: None }
    }

    /// Sets the bytes that the documents take in the file of lines.
    pub(super) fn with_lines(self, lines: LineRange) -> Self {
        Self { lines: Some(lines), ..self }
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

    pub(super) fn lines(&self) -> Option<LineRange> {
        self.lines
    }

    pub(super) fn documents(&self) -> impl Iterator<Item = IntendedDocument> {
        self.documents.iter().enumerate().map(|(index, (item, document))| {
            let (item, document) = (ItemId::new(item), DocumentId::new(document));
            let file = self.paths.get(index).cloned();
            let file = file.unwrap_or_else(|| first_mail_path(&item, &document));
            IntendedDocument { item, document, file }
        })
    }
}

/// Returns the path of a document of version 0.1.0, which stored one version, and only mail.
fn first_mail_path(item: &ItemId, document: &DocumentId) -> String {
    document_path(item, document, FIRST_VERSION, &FileExtension::default())
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
            assert_eq!(file, first_mail_path(&item, &document));
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
            let paths: Vec<String> =
                ids.iter().map(|(item, document)| format!("{item}/{document}")).collect();
            let range = LineRange { start: 0, end: paths.len() as u64 };
            let lines = paths.first().map(|_| range);
            let list = IntentList { folder: "f".to_owned(), documents: ids, paths, lines };
            let bytes = list.to_bytes();
            let cut = cut.index(bytes.len());

            prop_assert_eq!(IntentList::from_bytes(&bytes[..cut]), None);
            prop_assert_eq!(IntentList::from_bytes(&bytes), Some(list));
        }
    }
}
