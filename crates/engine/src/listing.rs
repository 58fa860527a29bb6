//! Entries of a listing and its continuation, as a source returns them and the ledger records them.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use crate::{BlobId, Cursor, DocumentId, ItemId, PageToken, truncate_to_bytes};

/// Bytes of a folder's name that are kept. Longer than any path that servers accept: 255 bytes for
/// each of four levels.
const FOLDER_NAME_BYTES_MAX: usize = 1_024;

/// Folders of one document that are kept. Limited so that a server that lists very many costs no
/// more than others; people file a message under a few.
const FOLDERS_MAX: usize = 256;

/// Place of a document on the server: a message in a folder.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct DocumentLocation {
    /// Name of the folder.
    pub folder: String,
    /// Number of the folder's numbering (RFC 9051, section 2.3.1.1). It changes if the server
    /// renumbers the messages.
    pub uid_validity: u32,
    /// Number of the message within that numbering.
    pub uid: u32,
}

/// Document in a listing. Several documents may belong to one item.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListedDocument {
    pub item: ItemId,
    pub document: DocumentId,
    pub blob: BlobId,
    /// Exact size in bytes, if the server reports it.
    pub size: Option<u64>,
    /// Size in bytes that may be wrong, if the server reports only that. It is shown as progress;
    /// nothing is decided by it.
    pub size_estimate: Option<u64>,
    /// Place of the document, if the source names places. A document in several of them has an
    /// entry for each.
    pub location: Option<DocumentLocation>,
    /// Names of all folders that contain the document, with `/` between their levels, for people
    /// and exports. Empty if the source names no folders, or names them by `location`. Untrusted
    /// text.
    pub folders: Vec<String>,
    /// Names and values that the source lists with the document, for people to read. Untrusted
    /// text.
    pub labels: Vec<(String, String)>,
    /// The document itself, if the listing contains it. Then nothing is requested to fetch it.
    pub content: Option<String>,
}

/// Folder of an account, as its server reports it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FolderCount {
    /// Name, with `/` between its levels. Untrusted text.
    pub name: String,
    /// Number of messages; `None` if the server did not report it.
    pub messages: Option<u64>,
    /// True if a listing includes the messages of the folder.
    pub is_extracted: bool,
}

/// Messages of a folder that are no longer in it, by their numbers in one numbering of the folder.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VanishedMessages {
    pub folder: String,
    pub uid_validity: u32,
    /// UIDs, also of messages that were never listed.
    pub uids: Vec<RangeInclusive<u32>>,
}

/// Continuation of a listing after a page.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NextPage {
    More(PageToken),
    /// The listing is complete. The cursor is the end of the stream of changes, as a listing of
    /// changes reports it; after a full listing it is `None`, and the cursor that was read before
    /// the listing is used.
    Done(Option<Cursor>),
}

impl ListedDocument {
    /// Creates an entry with ids alone.
    #[must_use]
    pub fn new(item: ItemId, document: DocumentId, blob: BlobId) -> Self {
        Self {
            item,
            document,
            blob,
            size: None,
            size_estimate: None,
            location: None,
            folders: Vec::new(),
            labels: Vec::new(),
            content: None,
        }
    }

    /// Returns a folder name without what exceeds 1,024 bytes.
    #[must_use]
    pub fn cut_folder_name(name: &str) -> &str {
        truncate_to_bytes(name, FOLDER_NAME_BYTES_MAX)
    }

    /// Returns the folder names that are kept of those that a source reports of one document:
    /// sorted, each once, without empty ones, at most 256, and each cut to 1,024 bytes.
    #[must_use]
    pub fn kept_folders<'a>(names: impl IntoIterator<Item = &'a String>) -> Vec<&'a str> {
        let names = names.into_iter().map(|name| Self::cut_folder_name(name));
        let distinct: BTreeSet<&str> = names.filter(|name| !name.is_empty()).collect();
        distinct.into_iter().take(FOLDERS_MAX).collect()
    }

    /// Returns the size to expect, in bytes: the exact one, or else the estimate.
    #[must_use]
    pub fn expected_size(&self) -> Option<u64> {
        self.size.or(self.size_estimate)
    }
}

impl DocumentLocation {
    /// Returns the blob id of a document that only its location identifies:
    /// `folder;uidvalidity;uid`.
    #[must_use]
    pub fn to_blob(&self) -> BlobId {
        let Self { folder, uid_validity, uid } = self;
        BlobId::new(format!("{folder};{uid_validity};{uid}"))
    }

    /// Parses a blob id that [`to_blob`](Self::to_blob) returned; `None` for any other. The name of
    /// a folder may contain semicolons.
    #[must_use]
    pub fn from_blob(blob: &BlobId) -> Option<Self> {
        let mut parts = blob.as_str().rsplitn(3, ';');
        let uid = parts.next()?.parse().ok()?;
        let uid_validity = parts.next()?.parse().ok()?;
        let location = Self { folder: parts.next()?.to_owned(), uid_validity, uid };
        // `parse` accepts a sign and leading zeros as well.
        (location.to_blob() == *blob).then_some(location)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn location(folder: &str, uid_validity: u32, uid: u32) -> DocumentLocation {
        DocumentLocation { folder: folder.to_owned(), uid_validity, uid }
    }

    #[test]
    fn an_exact_size_is_preferred_to_an_estimate() {
        let expected = |size, size_estimate| {
            let entry =
                ListedDocument::new(ItemId::new("a"), DocumentId::new("a"), BlobId::new("a"));
            ListedDocument { size, size_estimate, ..entry }.expected_size()
        };

        assert_eq!(expected(Some(4), Some(5)), Some(4));
        assert_eq!(expected(None, Some(5)), Some(5));
        assert_eq!(expected(None, None), None);
    }

    #[test]
    fn folder_names_are_kept_once_and_sorted() {
        let names = ["Work/2024", "", "Inbox", "Work/2024"].map(str::to_owned);

        assert_eq!(ListedDocument::kept_folders(&names), ["Inbox", "Work/2024"]);
        assert!(ListedDocument::kept_folders(&[String::new()]).is_empty());
    }

    #[test]
    fn long_folder_names_and_lists_are_cut() {
        let name = format!("a{}", "ü".repeat(1_000));
        let cut = format!("a{}", "ü".repeat(511));
        assert_eq!(ListedDocument::kept_folders(&[name]), [cut]);

        let names: Vec<String> = (0..300).rev().map(|number| format!("{number:03}")).collect();
        let kept = ListedDocument::kept_folders(&names);
        assert_eq!((kept.len(), kept[0], kept[255]), (256, "000", "255"));
    }

    #[test]
    fn a_location_is_parsed_from_the_end_of_its_blob() {
        let blob = location("a;b;7", 12, 345).to_blob();

        assert_eq!(blob.as_str(), "a;b;7;12;345");
        assert_eq!(DocumentLocation::from_blob(&blob), Some(location("a;b;7", 12, 345)));
    }

    #[test]
    fn other_blobs_are_no_locations() {
        for text in ["", "em:M1", "1;2", "INBOX;1;", "INBOX;+1;2", "INBOX;1;02", "a;1;4294967296"] {
            assert_eq!(DocumentLocation::from_blob(&BlobId::new(text)), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_location_has_its_own_blob(
            folders in (".{0,9}", "[a;0-9]{0,9}"),
            numbers in any::<[u32; 2]>(),
        ) {
            for folder in [&folders.0, &folders.1] {
                let original = location(folder, numbers[0], numbers[1]);
                prop_assert_eq!(DocumentLocation::from_blob(&original.to_blob()), Some(original));
            }
        }
    }
}
