//! Sources: one client module per kind of service.
//!
//! A source lists the documents of an account page by page, and downloads one document at a time.
//! It keeps no progress: whatever must survive a restart is returned as a [`PageToken`] or a
//! [`Cursor`] and passed back as an argument. It retries a broken request quickly, within limits.
//! Every other error is classified here, once, and returned as a [`Failure`].

pub mod credential;
mod dyn_source;
pub mod http;
pub mod imap;
pub mod jmap;
mod metrics_handle;
mod page_token;
mod recorder;
pub mod rest;

pub use self::dyn_source::DynSource;
pub use self::metrics_handle::MetricsHandle;
pub use self::recorder::{ResponseRecord, ResponseRecorder};

use cynosure_engine::{
    AccountId, BlobId, Cursor, DocumentId, DocumentLocation, Failure, FolderCount, ListedDocument,
    NextPage, PageToken, ThrottleStrikes, Timestamp, VanishedMessages,
};

/// One account to extract.
///
/// Every method may be dropped at any await and called again: none leaves partial work on either
/// side. Requests of one source may run concurrently; the source itself respects the concurrency
/// limit of its server.
///
/// A source that knows the account of its ledger rejects every other account with
/// [`Cause::AccountChanged`](cynosure_engine::Cause::AccountChanged), even if the account changes
/// while the source runs: no cursor, id or blob of one account is ever sent to another.
pub trait Source {
    /// Returns the account id that the server uses.
    fn account(&self) -> impl Future<Output = Result<AccountId, Failure>>;

    /// Returns the folders of the account, for people to read. Nothing else depends on them.
    ///
    /// A document in several folders counts in each of them.
    fn folders(&self) -> impl Future<Output = Result<Vec<FolderCount>, Failure>>;

    /// Checks for changes since `cursor`, without listing them.
    fn poll_changes(&self, cursor: &Cursor) -> impl Future<Output = Result<PollResult, Failure>>;

    /// Returns the current position in the change stream.
    ///
    /// It is read before a full listing starts, so that no change made during the listing is missed
    /// by the next poll.
    fn current_cursor(&self) -> impl Future<Output = Result<Cursor, Failure>>;

    /// Returns one page of the listing. A `None` token requests the first page.
    fn list_page(
        &self,
        listing: &Listing,
        page_token: Option<&PageToken>,
    ) -> impl Future<Output = Result<Page, Failure>>;

    /// Writes the bytes of one document to `sink`, or returns the document's new blob id if that
    /// has changed.
    ///
    /// The bytes are complete with [`FetchOutcome::Complete`]: their number agrees with the length
    /// announced by the server and with `size` where that is known.
    fn fetch(
        &self,
        document: &DocumentRef,
        sink: &mut impl Sink,
    ) -> impl Future<Output = Result<FetchOutcome, Failure>>;

    /// Reads the credential again, or has it refreshed, and returns whether it has changed.
    fn refresh_credential(&self) -> impl Future<Output = Result<CredentialChange, Failure>>;

    /// Reads the credential again where it is stored, and returns whether it has changed. Unlike
    /// [`Source::refresh_credential`] it sends nothing, so it may be called every few seconds.
    fn reload_credential(&self) -> impl Future<Output = Result<CredentialChange, Failure>> {
        self.refresh_credential()
    }

    /// Returns the time until which a request is blocked by the rate limiter; `None` if none is
    /// blocked.
    ///
    /// Such a wait has a known end and does not mean that the source hangs.
    fn blocked_until(&self) -> Option<Timestamp>;
}

/// Result of a poll for changes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PollResult {
    Unchanged,
    Changed,
}

/// Scope of a listing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Listing {
    /// All documents.
    Full,
    /// Documents added since the cursor.
    Since(Cursor),
}

/// One page of a listing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Page {
    pub entries: Vec<ListedDocument>,
    /// Documents that the server listed but did not find, even on a second request.
    pub missing_documents: Vec<DocumentId>,
    /// Total number of documents, if the server reports it. For progress only.
    pub total_documents: Option<u64>,
    /// Messages that are no longer where they were, as far as the source reports it. Nothing
    /// depends on it: a document that is at none of its locations is found gone when it is fetched.
    pub vanished: Vec<VanishedMessages>,
    /// Continuation of the listing. An end is confirmed by other data of the server, or an error.
    pub next: Result<NextPage, UnverifiedEnd>,
}

/// End of the server's list that other data of the server contradicts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnverifiedEnd {
    /// Token before that end, from which the listing may resume.
    pub resume_from: PageToken,
    /// Contradiction, as a sentence.
    pub reason: String,
}

/// Document to fetch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DocumentRef {
    pub document: DocumentId,
    pub blob: BlobId,
    pub size: Option<u64>,
    /// Places of the document on the server, in the order in which they are tried. Empty if the
    /// source names none.
    pub locations: Vec<DocumentLocation>,
    /// The document itself, if its listing contained it.
    pub content: Option<String>,
    /// Earlier throttles of the document. The rate limiter uses them to distinguish throttles
    /// caused by the document from an exhausted rate limit.
    pub strikes: ThrottleStrikes,
    /// True if it failed before while other documents succeeded.
    pub is_suspect: bool,
}

impl DocumentRef {
    /// Creates a reference to a document without locations and content that has never failed.
    #[must_use]
    pub fn new(document: DocumentId, blob: BlobId, size: Option<u64>) -> Self {
        Self {
            document,
            blob,
            size,
            locations: Vec::new(),
            content: None,
            strikes: ThrottleStrikes::default(),
            is_suspect: false,
        }
    }

    /// Sets the locations of the document.
    #[must_use]
    pub fn with_locations(self, locations: Vec<DocumentLocation>) -> Self {
        Self { locations, ..self }
    }

    /// Returns true if the blob is one of the locations. Then only the bytes show that two
    /// documents have the same content.
    #[must_use]
    pub fn is_identified_by_location(&self) -> bool {
        self.locations.iter().any(|location| location.to_blob() == self.blob)
    }
}

/// Result of a fetch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FetchOutcome {
    /// The sink has the whole document.
    Complete {
        /// Length in bytes.
        bytes: u64,
        /// Names of all folders that contain the document, if the response reports them; as in
        /// [`ListedDocument::folders`].
        folders: Vec<String>,
    },
    /// The document has a different blob id now.
    Moved {
        blob: BlobId,
        /// Exact size in bytes, if the server reports it.
        size: Option<u64>,
    },
}

/// Result of refreshing a credential.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CredentialChange {
    /// The credential differs from the rejected one.
    Changed,
    /// The credential is the same.
    Unchanged,
}

/// Destination of a document's bytes.
pub trait Sink {
    /// Writes the next bytes.
    ///
    /// # Errors
    /// Returns a storage failure, which the source returns unchanged.
    fn write(&mut self, bytes: &[u8]) -> impl Future<Output = Result<(), Failure>>;

    /// Discards all written bytes, before the document is downloaded again from the start.
    fn rewind(&mut self) -> impl Future<Output = Result<(), Failure>>;
}
