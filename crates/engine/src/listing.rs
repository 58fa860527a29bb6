//! Entries of a listing and its continuation, as a source returns them and the ledger records them.

use crate::{BlobId, Cursor, DocumentId, ItemId, PageToken};

/// Document in a listing. Several documents may belong to one item.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListedDocument {
    pub item: ItemId,
    pub document: DocumentId,
    pub blob: BlobId,
    /// Exact size in bytes, if the server reports it.
    pub size: Option<u64>,
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
