//! Full listings, of mailboxes that stay the same and of those that change meanwhile.

use cynosure::source::{Listing, Source};
use cynosure_engine::Cursor;

use super::extraction::{
    ListingProgress, assert_same_contents, fetch_all, fetch_remaining, list_everything, list_since,
};
use super::options::SourceOptions;
use super::rig::{Rig, Unsupported};

/// More documents than a page has.
const DOCUMENTS: usize = 50;

pub(crate) async fn every_document_is_listed_once<R: Rig>() -> Result<(), Unsupported> {
    let rig = R::start(DOCUMENTS).await?;
    let source = rig.source(&SourceOptions::new(R::SECRET));
    let contents = rig.contents();
    assert!(DOCUMENTS <= contents.len(), "the rig has too few documents: {}", contents.len());

    let listing = list_everything(&source).await;

    listing.assert_complete(contents.len(), R::LISTED_MAX);
    assert!(listing.missing_documents.is_empty(), "{:?}", listing.missing_documents);
    if let Some(total) = listing.total_documents {
        // A document in two folders may count twice.
        assert_eq!(usize::try_from(total), Ok(listing.count_by_place().len()));
    }
    assert_same_contents(&fetch_all(&source, &listing.documents()).await, &contents);
    Ok(())
}

pub(crate) async fn every_document_is_counted_in_a_folder<R: Rig>() -> Result<(), Unsupported> {
    let rig = R::start(DOCUMENTS).await?;
    rig.check_folder_counts()?;

    let folders = rig.source(&SourceOptions::new(R::SECRET)).folders().await;

    let folders = folders.expect("the server lists its folders");
    let extracted = folders.iter().filter(|folder| folder.is_extracted);
    let messages: u64 = extracted.filter_map(|folder| folder.messages).sum();
    // A document in two folders counts in both.
    assert!(rig.contents().len() as u64 <= messages, "{folders:?}");
    Ok(())
}

pub(crate) async fn an_empty_mailbox_has_no_documents<R: Rig>() -> Result<(), Unsupported> {
    let rig = R::start(0).await?;

    let listing = list_everything(&rig.source(&SourceOptions::new(R::SECRET))).await;

    assert_eq!((listing.entries, listing.missing_documents), (Vec::new(), Vec::new()));
    Ok(())
}

pub(crate) async fn documents_that_arrive_during_a_listing_are_found<R: Rig>()
-> Result<(), Unsupported> {
    assert_change_during_listing::<R>(|rig| rig.deliver(7)).await
}

pub(crate) async fn documents_that_move_during_a_listing_are_found<R: Rig>()
-> Result<(), Unsupported> {
    assert_change_during_listing::<R>(|rig| rig.move_to_other_folder(7)).await
}

pub(crate) async fn a_document_in_two_folders_is_one_document<R: Rig>() -> Result<(), Unsupported> {
    let rig = R::start(DOCUMENTS).await?;
    rig.copy_to_other_folder(7)?;
    let source = rig.source(&SourceOptions::new(R::SECRET));

    let documents = list_everything(&source).await.documents();

    assert_same_contents(&fetch_all(&source, &documents).await, &rig.contents());
    Ok(())
}

/// Renumbers the folders after the first page, so that its documents have other locations.
pub(crate) async fn folders_renumbered_during_a_listing_are_found<R: Rig>()
-> Result<(), Unsupported> {
    let rig = R::start_with_pages().await?;
    let interrupted = rig.source(&SourceOptions::new(R::SECRET));
    let listing = InterruptedListing::begin(&interrupted).await;

    rig.renumber_folders()?;

    // A server ends the connections that have such a folder open, and with them the run.
    let source = rig.source(&SourceOptions::new(R::SECRET));
    listing.assert_finds_everything(&rig, &source).await;
    Ok(())
}

/// Changes the mailbox after the first page, and asserts that every document is found.
async fn assert_change_during_listing<R: Rig>(
    change: impl FnOnce(&R) -> Result<(), Unsupported>,
) -> Result<(), Unsupported> {
    let rig = R::start_with_pages().await?;
    let source = rig.source(&SourceOptions::new(R::SECRET));
    let listing = InterruptedListing::begin(&source).await;

    change(&rig)?;

    listing.assert_finds_everything(&rig, &source).await;
    Ok(())
}

/// Full listing after its first page.
struct InterruptedListing {
    /// Cursor before the listing.
    cursor: Cursor,
    progress: ListingProgress,
}

impl InterruptedListing {
    async fn begin(source: &impl Source) -> Self {
        let cursor = source.current_cursor().await.expect("the server has a state");
        let mut progress = ListingProgress::default();
        let is_complete = progress.list_page(source, &Listing::Full).await;
        assert!(!is_complete, "the listing has one page, so nothing can change during it");
        Self { cursor, progress }
    }

    /// Asserts that the whole listing and the changes since its cursor contain every document. The
    /// place of one that was moved meanwhile may be gone.
    async fn assert_finds_everything<R: Rig>(mut self, rig: &R, source: &R::Source) {
        self.progress.finish(source, &Listing::Full).await;
        let cursor = self.progress.cursor.take().unwrap_or(self.cursor);
        let mut changes = list_since(source, cursor).await;

        self.progress.entries.append(&mut changes.entries);
        let documents = self.progress.documents();
        assert_same_contents(&fetch_remaining(source, &documents).await, &rig.contents());
    }
}
