//! Documents of an archive from which a ledger is rebuilt.

use cynosure_engine::{BlobId, DocumentId, ItemId};

/// A document that is in the archive.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AdoptedDocument {
    pub item: ItemId,
    pub document: DocumentId,
    pub blob: Option<BlobId>,
    /// Size in bytes that the server announced, if that was exact.
    pub size: Option<u64>,
    /// In bytes.
    pub length: u64,
    pub sha256: [u8; 32],
    /// The path below the session's folder.
    pub file: String,
    /// Names and values of the document, for people.
    pub labels: Vec<(String, String)>,
    /// Names of the folders that contained the document when it was stored, if its source names
    /// them without numbers.
    pub folders: Vec<String>,
}

/// Counts of the documents adopted from one folder.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct AdoptionCounts {
    /// Documents that the ledger did not know.
    pub documents: u64,
    /// Documents of which an earlier version is known.
    pub versions: u64,
    /// Files with the same bytes as a known document; they are left unchanged.
    pub copies: u64,
}
