//! Fetches: how each kind of source is spoken to.
//!
//! A source lists what there is, page by page, and brings the bytes of one
//! document. It keeps no progress of its own: whatever must survive a restart
//! leaves as a [`PageToken`] or a [`Cursor`] and comes back as an argument. It tries
//! a broken request again quickly, within limits; everything else that goes
//! wrong is read here, once, and leaves as a [`Failure`].

pub mod credential;
pub mod http;
pub mod jmap;
mod metrics_handle;
mod recorder;

pub use self::metrics_handle::MetricsHandle;
pub use self::recorder::{ResponseRecord, ResponseRecorder};

use crate::engine::{
    AccountId, BlobId, Cursor, DocumentId, Failure, ItemId, PageToken, ThrottleStrikes, Timestamp,
};

/// One account to extract.
///
/// Every method may be dropped at any await and called again: none leaves
/// anything half done on either side. Requests of one source may run side by
/// side; the source itself obeys the concurrency its server allows.
///
/// A source that is given the account of its ledger refuses every other, also one that turns up
/// in the middle of its life, with [`Cause::AccountChanged`](crate::engine::Cause::AccountChanged):
/// no cursor, id or blob of one account is ever sent to another.
pub trait Source {
    /// Returns the account that it speaks to, as the server calls it.
    fn account(&self) -> impl Future<Output = Result<AccountId, Failure>>;

    /// Asks whether there is anything new since `cursor`, without listing it.
    fn poll_changes(&self, cursor: &Cursor) -> impl Future<Output = Result<PollResult, Failure>>;

    /// Returns where the stream of changes stands now.
    ///
    /// Taken before a listing of everything begins, so that nothing which
    /// happens during the listing can fall between it and the next look.
    fn current_cursor(&self) -> impl Future<Output = Result<Cursor, Failure>>;

    /// Returns one page of the listing; `None` asks for the first.
    fn list_page(
        &self,
        listing: &Listing,
        place: Option<&PageToken>,
    ) -> impl Future<Output = Result<Page, Failure>>;

    /// Brings the bytes of one document into `sink`, or tells that the document is under another
    /// blob now.
    ///
    /// The bytes are complete with [`Fetched::Complete`]: their number agrees with
    /// what the server announced and with `size` where that is known.
    fn fetch(
        &self,
        document: &DocumentRef,
        sink: &mut impl Sink,
    ) -> impl Future<Output = Result<FetchOutcome, Failure>>;

    /// Reads the credential again, or has it refreshed, and says whether it is another one now.
    fn refresh_credential(&self) -> impl Future<Output = Result<CredentialChange, Failure>>;

    /// Returns until when a request waits that may not be sent yet; `None` where none does.
    ///
    /// Such a wait has an end that is known, and is no standstill.
    fn blocked_until(&self) -> Option<Timestamp>;
}

/// What a look found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PollResult {
    Unchanged,
    Changed,
}

/// What is to be listed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Listing {
    /// Everything there is.
    Full,
    /// What has come since the cursor.
    Since(Cursor),
}

/// One page of a listing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Page {
    pub entries: Vec<ListedDocument>,
    /// Documents that the server named and then did not find, also when asked for once more.
    pub missing_documents: Vec<DocumentId>,
    /// How many documents there are in all, where the server says so. For progress only.
    pub total_documents: Option<u64>,
    pub next: NextPage,
}

/// How a listing goes on after a page.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NextPage {
    More(PageToken),
    /// That was all, and the server proved it. A listing of changes also says where the stream
    /// stands now.
    Done(Option<Cursor>),
    /// The server's list has ended, and what the server says of it contradicts that: why. The
    /// listing may go back to the place, which is before that end.
    Unverified {
        resume_from: PageToken,
        reason: String,
    },
}

/// One document, as listed. Several may belong to one item.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListedDocument {
    pub item: ItemId,
    pub document: DocumentId,
    pub blob: BlobId,
    /// In bytes, exact, where the server tells it.
    pub size: Option<u64>,
}

/// A document to be fetched.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DocumentRef {
    pub document: DocumentId,
    pub blob: BlobId,
    pub size: Option<u64>,
    /// How it was throttled before: for the gate, which tells a document's own throttles from a quota.
    pub strikes: ThrottleStrikes,
    /// It failed before while others succeeded.
    pub is_suspect: bool,
}

impl DocumentRef {
    /// One that never failed.
    #[must_use]
    pub fn new(document: DocumentId, blob: BlobId, size: Option<u64>) -> Self {
        Self { document, blob, size, strikes: ThrottleStrikes::default(), is_suspect: false }
    }
}

/// The answer to a fetch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FetchOutcome {
    /// So many bytes are in the sink, and they are all.
    Complete(u64),
    /// The document is not under its blob any more, but under this one.
    Moved {
        blob: BlobId,
        /// In bytes, exact, where the server tells it.
        size: Option<u64>,
    },
}

/// Whether a renewal changed anything.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CredentialChange {
    /// There is another credential than the one that was refused.
    Changed,
    /// It is still the same.
    Unchanged,
}

/// Where the bytes of a document go.
pub trait Sink {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// A storage failure, which the source passes on as it is.
    fn write(&mut self, bytes: &[u8]) -> impl Future<Output = Result<(), Failure>>;

    /// Forgets what was written: the document begins anew.
    fn rewind(&mut self) -> impl Future<Output = Result<(), Failure>>;
}
