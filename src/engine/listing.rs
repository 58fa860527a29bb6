//! Entry of a listing, as a source returns it and the ledger records it.

use crate::engine::{BlobId, DocumentId, ItemId};

/// Document in a listing. Several documents may belong to one item.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListedDocument {
    pub item: ItemId,
    pub document: DocumentId,
    pub blob: BlobId,
    /// Exact size in bytes, if the server reports it.
    pub size: Option<u64>,
}
