//! The JMAP source against a mailbox that changes, forgets and misbehaves.

mod account;
mod changes;
mod completeness;
mod contents;
mod listing;
mod service;

use cynosure::engine::{BlobId, Cause, Cursor, DocumentId, Failure, PageToken, ThrottleStrikes};
use cynosure::source::jmap::JmapSource;
use cynosure::source::{DocumentRef, Listing, NextPage, Source as _};

use crate::http::MemorySink;

/// More pages than any listing of these tests has.
const PAGES_MAX: usize = 400;

/// One page: the ids on it, and where it goes on.
async fn next_page(
    source: &JmapSource,
    listing: &Listing,
    place: Option<&PageToken>,
) -> Result<(Vec<String>, NextPage), Failure> {
    let page = source.list_page(listing, place).await?;
    let ids = page.entries.iter().map(|entry| entry.document.as_str().to_owned());
    Ok((ids.collect(), page.next))
}

/// What a listing came to.
#[derive(Debug, Default)]
struct ListingResult {
    listed: Vec<String>,
    missing: Vec<String>,
    cursor: Option<Cursor>,
}

/// Lists to the end, with something done to the mailbox between the pages.
async fn list(
    source: &JmapSource,
    listing: &Listing,
    between: impl FnMut(usize),
) -> Result<(Vec<String>, Option<Cursor>), Failure> {
    let outcome = list_completely(source, listing, between).await?;
    Ok((outcome.listed, outcome.cursor))
}

/// Likewise. An end that is not proved is gone back from once, as the worker does.
async fn list_completely(
    source: &JmapSource,
    listing: &Listing,
    mut between: impl FnMut(usize),
) -> Result<ListingResult, Failure> {
    let mut outcome = ListingResult::default();
    let (mut place, mut has_gone_back) = (None, false);
    for pages in 0..PAGES_MAX {
        let page = source.list_page(listing, place.as_ref()).await?;
        let ids = page.entries.iter().map(|entry| entry.document.as_str().to_owned());
        outcome.listed.extend(ids);
        outcome.missing.extend(page.missing_documents.iter().map(|id| id.as_str().to_owned()));
        let is_proved = !matches!(page.next, NextPage::Unverified { .. });
        match page.next {
            NextPage::Done(cursor) => return Ok(ListingResult { cursor, ..outcome }),
            NextPage::More(more) => place = Some(more),
            NextPage::Unverified { reason: why, .. } if has_gone_back => {
                return Err(Failure::new(Cause::ListingIncomplete, why));
            }
            NextPage::Unverified { resume_from: back, .. } => place = Some(back),
        }
        has_gone_back = !is_proved;
        between(pages);
    }
    panic!("the listing does not end");
}

async fn list_everything(source: &JmapSource) -> Result<Vec<String>, Failure> {
    Ok(list(source, &Listing::Full, |_| {}).await?.0)
}

fn names(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|n| format!("M{n}")).collect()
}

fn document_ref(id: &str) -> DocumentRef {
    let size = u64::try_from(id.len()).ok();
    DocumentRef {
        document: DocumentId::new(id),
        blob: BlobId::new(format!("B{id}")),
        size,
        strikes: ThrottleStrikes::default(),
        is_suspect: false,
    }
}

async fn fetch(source: &JmapSource, id: &str) -> Result<Vec<u8>, Failure> {
    let mut sink = MemorySink::default();
    source.fetch(&document_ref(id), &mut sink).await?;
    Ok(sink.bytes)
}
