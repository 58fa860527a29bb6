//! Futures of a source that are dropped at any of their awaits, as by a kill or a shutdown.

use cynosure::source::{Listing, Page, Source as _};
use cynosure_engine::PageToken;

use super::extraction::{
    ListingProgress, assert_same_contents, fetch, fetch_all, list_everything, poll_at_most,
};
use super::options::SourceOptions;
use super::rig::{Rig, Unsupported};

/// More documents than a page has.
const DOCUMENTS: usize = 25;

/// Number of documents whose fetch is interrupted.
const FETCHED: usize = 2;

pub(crate) async fn a_listing_resumes_after_a_kill_at_any_await<R: Rig>() -> Result<(), Unsupported>
{
    let rig = R::start(DOCUMENTS).await?;
    let mut listing = ListingProgress::default();

    loop {
        let page = list_page_despite_kills(&rig, listing.page_token.as_ref()).await;
        if listing.record_page(page) {
            break;
        }
    }

    let contents = rig.contents();
    listing.assert_complete(contents.len(), R::LISTED_MAX);
    let source = rig.source(&SourceOptions::new(R::SECRET));
    assert_same_contents(&fetch_all(&source, &listing.documents()).await, &contents);
    Ok(())
}

pub(crate) async fn a_fetch_is_repeated_after_a_drop_at_any_await<R: Rig>()
-> Result<(), Unsupported> {
    let rig = R::start(DOCUMENTS).await?;
    let source = rig.source(&SourceOptions::new(R::SECRET));
    let documents = list_everything(&source).await.documents();
    // The number of awaits, and with it that of the repetitions, grows with the size, which not
    // every server tells.
    let lengths = fetch_all(&source, &documents).await.into_iter().map(|bytes| bytes.len());
    let mut by_length: Vec<_> = lengths.zip(&documents).collect();
    by_length.sort_by_key(|(length, _)| *length);
    let contents = rig.contents();

    for (_, document) in &by_length[..FETCHED] {
        let mut polls = 1;
        let bytes = loop {
            match poll_at_most(polls, fetch(&source, document)).await {
                Some(fetched) => break fetched.expect("the server has the document"),
                None => polls += 1,
            }
        };
        assert!(contents.contains(&bytes), "{} differs", document.document);
    }
    assert_same_contents(&fetch_all(&source, &documents).await, &contents);
    Ok(())
}

/// Lists one page with a new source for each attempt, which is dropped one await later each time,
/// until it is complete.
async fn list_page_despite_kills<R: Rig>(rig: &R, page_token: Option<&PageToken>) -> Page {
    let mut polls = 1;
    loop {
        let source = rig.source(&SourceOptions::new(R::SECRET));
        let page = poll_at_most(polls, source.list_page(&Listing::Full, page_token)).await;
        if let Some(page) = page {
            return page.expect("the server lists");
        }
        polls += 1;
    }
}
