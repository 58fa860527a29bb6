//! Stored documents as an export reads them, with their folders and all their versions.

use cynosure_engine::{DocumentId, ItemId, Timestamp};

use crate::ledger::rows::DocumentRowId;

/// Stored version of a document.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExportVersion {
    /// Name of the session's folder in the archive.
    pub session_folder: String,
    /// Path below it, or line of the file there, such as `records.jsonl@1234`.
    pub file: String,
    /// In bytes.
    pub length: u64,
    pub sha256: [u8; 32],
    pub session_started_at: Timestamp,
}

/// Document with its folders and its stored versions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExportDocument {
    pub row_id: DocumentRowId,
    pub item: ItemId,
    pub document: DocumentId,
    /// Names, sorted, each once; empty if none is known. Untrusted text.
    pub folders: Vec<String>,
    /// The newest first. Never empty.
    pub versions: Vec<ExportVersion>,
}
