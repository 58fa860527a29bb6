//! Facts of the ledger about documents beside their contents.

use cynosure_engine::DocumentId;

use crate::ledger::rows::DocumentRowId;

/// Document with its labels.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LabeledDocument {
    pub document: DocumentId,
    /// Names and values, by name. Untrusted text.
    pub labels: Vec<(String, String)>,
}

/// Fetched document of which the ledger is asked how to store it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FetchedContent {
    pub document: DocumentRowId,
    /// SHA-256 and length of its bytes, if only they show that other documents have the same
    /// content.
    pub identity: Option<([u8; 32], u64)>,
}

/// Facts that decide on the file of a fetched document.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DocumentFacts {
    /// Number of the version that is stored next: the number of its earlier versions plus one. No
    /// two files of a document have the same number.
    pub next_version: u32,
    /// Names and values, by name. Untrusted text.
    pub labels: Vec<(String, String)>,
    /// Names of the folders that the source reported without numbers, sorted. Untrusted text.
    pub folders: Vec<String>,
    /// True if a document with the same bytes is stored and in the index. Only documents that their
    /// locations identify are in it.
    pub is_content_stored: bool,
}
