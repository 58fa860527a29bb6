//! Steps of an extraction as the worker takes them, and assertions about their results.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use cynosure::source::{DocumentRef, FetchOutcome, Listing, Page, Sink, Source, UnverifiedEnd};
use cynosure_engine::{
    Cause, Cursor, DocumentId, DocumentLocation, ErrorAction, Failure, ListedDocument, NextPage,
    PageToken, RequestScope,
};
use sha2::{Digest as _, Sha256};

/// More pages than any listing of the cases has.
const PAGES_MAX: usize = 400;

/// Maximum number of places at which a document is looked for.
const MOVES_MAX: u32 = 3;

/// Listing up to the last page that was received.
#[derive(Default)]
pub(crate) struct ListingProgress {
    /// Entries of all pages, in their order.
    pub(crate) entries: Vec<ListedDocument>,
    pub(crate) missing_documents: Vec<DocumentId>,
    /// Latest total number of documents that the server reported.
    pub(crate) total_documents: Option<u64>,
    /// Cursor after the last page, if it has one.
    pub(crate) cursor: Option<Cursor>,
    pub(crate) page_token: Option<PageToken>,
    page_count: usize,
    /// True if the last page was an unverified end, from which the listing resumes once.
    has_resumed: bool,
}

impl ListingProgress {
    /// Lists one page, and returns true if it was the last one.
    pub(crate) async fn list_page(&mut self, source: &impl Source, listing: &Listing) -> bool {
        let page = source.list_page(listing, self.page_token.as_ref()).await;
        self.record_page(page.expect("the server lists"))
    }

    /// Lists all remaining pages.
    pub(crate) async fn finish(&mut self, source: &impl Source, listing: &Listing) {
        while !self.list_page(source, listing).await {}
    }

    /// Records a page, and returns true if it was the last one.
    pub(crate) fn record_page(&mut self, page: Page) -> bool {
        self.page_count += 1;
        assert!(self.page_count <= PAGES_MAX, "the listing does not end");
        self.entries.extend(page.entries);
        self.missing_documents.extend(page.missing_documents);
        self.total_documents = page.total_documents.or(self.total_documents);
        match page.next {
            Ok(NextPage::Done(cursor)) => {
                self.cursor = cursor;
                return true;
            }
            Ok(NextPage::More(token)) => {
                self.page_token = Some(token);
                self.has_resumed = false;
            }
            Err(UnverifiedEnd { resume_from, reason }) => {
                assert!(!self.has_resumed, "{reason}");
                self.page_token = Some(resume_from);
                self.has_resumed = true;
            }
        }
        false
    }

    /// Returns each document once, with all its locations, as the ledger keeps it.
    pub(crate) fn documents(&self) -> Vec<DocumentRef> {
        let mut documents = BTreeMap::<&DocumentId, DocumentRef>::new();
        for ListedDocument { document, blob, size, location, content, .. } in &self.entries {
            let new = || DocumentRef::new(document.clone(), blob.clone(), *size);
            let known = documents.entry(document).or_insert_with(new);
            (known.blob, known.size) = (blob.clone(), *size);
            known.content.clone_from(content);
            if let Some(location) = location {
                // The newest first.
                known.locations.insert(0, location.clone());
            }
        }
        documents.into_values().collect()
    }

    /// Asserts that no place of a document is listed more often than allowed, and that there are
    /// this many documents.
    pub(crate) fn assert_complete(&self, documents: usize, listed_max: usize) {
        let repeated = self.count_by_place().into_iter().find(|(_, count)| listed_max < *count);
        assert_eq!(repeated, None, "listed too often");
        assert_eq!(self.documents().len(), documents);
    }

    /// Returns each place of a document, with the number of its entries.
    pub(crate) fn count_by_place(
        &self,
    ) -> BTreeMap<(&DocumentId, Option<&DocumentLocation>), usize> {
        let mut counts = BTreeMap::<_, usize>::new();
        for ListedDocument { document, location, .. } in &self.entries {
            *counts.entry((document, location.as_ref())).or_default() += 1;
        }
        counts
    }
}

/// Sink that keeps a document in memory.
#[derive(Default)]
struct MemorySink(Vec<u8>);

impl Sink for MemorySink {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    async fn rewind(&mut self) -> Result<(), Failure> {
        self.0.clear();
        Ok(())
    }
}

/// Lists the whole mailbox.
pub(crate) async fn list_everything(source: &impl Source) -> ListingProgress {
    let mut progress = ListingProgress::default();
    progress.finish(source, &Listing::Full).await;
    progress
}

/// Lists the whole mailbox. Returns the listing with the cursor after it: that of its last page, or
/// else the one before the listing.
pub(crate) async fn list_with_cursor(source: &impl Source) -> (ListingProgress, Cursor) {
    let before = source.current_cursor().await.expect("the server has a state");
    let listing = list_everything(source).await;
    let cursor = listing.cursor.clone().unwrap_or(before);
    (listing, cursor)
}

/// Lists the changes since a cursor.
pub(crate) async fn list_since(source: &impl Source, cursor: Cursor) -> ListingProgress {
    let mut changes = ListingProgress::default();
    changes.finish(source, &Listing::Since(cursor)).await;
    changes
}

/// Fetches a document, also if it has moved.
pub(crate) async fn fetch(
    source: &impl Source,
    document: &DocumentRef,
) -> Result<Vec<u8>, Failure> {
    let mut document = document.clone();
    for _ in 0..MOVES_MAX {
        let mut sink = MemorySink::default();
        let outcome = source.fetch(&document, &mut sink).await?;
        match outcome {
            FetchOutcome::Complete { bytes, .. } => {
                assert_eq!(u64::try_from(sink.0.len()), Ok(bytes));
                return Ok(sink.0);
            }
            FetchOutcome::Moved { blob, size } => {
                document = DocumentRef { blob, size, ..document };
            }
        }
    }
    Err(Failure::new(Cause::Unknown, "the document moves at every request"))
}

/// Fetches documents one after the other.
pub(crate) async fn fetch_all(source: &impl Source, documents: &[DocumentRef]) -> Vec<Vec<u8>> {
    let mut contents = Vec::new();
    for document in documents {
        contents.push(fetch(source, document).await.expect("the server has the document"));
    }
    contents
}

/// Fetches documents one after the other. Those that the server no longer has, or has under another
/// id, must be reported as gone.
pub(crate) async fn fetch_remaining(
    source: &impl Source,
    documents: &[DocumentRef],
) -> Vec<Vec<u8>> {
    let mut contents = Vec::new();
    for document in documents {
        match fetch(source, document).await {
            Ok(bytes) => contents.push(bytes),
            Err(failure) => {
                let (scope, action) = (RequestScope::Item, ErrorAction::MarkGone);
                assert_verdict(&failure, Cause::NotFound, scope, action);
            }
        }
    }
    contents
}

/// Polls a future at most `polls` times and then drops it, as a kill does. Returns its output if it
/// was complete by then.
pub(crate) async fn poll_at_most<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut polled = 0;
    poll_fn(|context| {
        polled += 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if polls <= polled => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Asserts that exactly the expected documents were stored, each as often as it exists.
pub(crate) fn assert_same_contents(stored: &[Vec<u8>], expected: &[Vec<u8>]) {
    let (stored, expected) = (hashes(stored), hashes(expected));
    let missing = expected.iter().filter(|hash| !stored.contains(hash)).count();
    let unexpected = stored.iter().filter(|hash| !expected.contains(hash)).count();
    assert!(
        stored == expected,
        "stored {} of {}: {missing} missing, {unexpected} unexpected",
        stored.len(),
        expected.len()
    );
}

/// Asserts the cause of a failure, and the action that the engine takes for it.
pub(crate) fn assert_verdict(
    failure: &Failure,
    cause: Cause,
    scope: RequestScope,
    action: ErrorAction,
) {
    assert_eq!((failure.cause, failure.cause.action(scope)), (cause, action), "{failure}");
}

fn hashes(contents: &[Vec<u8>]) -> Vec<[u8; 32]> {
    let mut hashes: Vec<[u8; 32]> =
        contents.iter().map(|bytes| Sha256::digest(bytes).into()).collect();
    hashes.sort_unstable();
    hashes
}
