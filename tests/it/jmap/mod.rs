//! JMAP source against a mailbox that changes, loses state and sends wrong responses.

mod account;
mod changes;
mod completeness;
mod contents;
mod folders;
mod listing;
mod service;

use cynosure::source::jmap::JmapSource;
use cynosure::source::{DocumentRef, Listing, Source as _};
use cynosure_engine::{
    BlobId, Cause, Cursor, DocumentId, Failure, NextPage, PageToken, ThrottleStrikes,
};

use crate::http::MemorySink;

/// More pages than any listing of these tests has.
const PAGES_MAX: usize = 400;

/// Lists one page. Returns its ids, and how the listing continues.
async fn page_ids(
    source: &JmapSource,
    listing: &Listing,
    page_token: Option<&PageToken>,
) -> Result<(Vec<String>, NextPage), Failure> {
    let page = source.list_page(listing, page_token).await?;
    let ids = page.entries.iter().map(|entry| entry.document.as_str().to_owned());
    Ok((ids.collect(), page.next.expect("the end is verified")))
}

/// Result of a complete listing.
#[derive(Debug, Default)]
struct ListingResult {
    listed: Vec<String>,
    missing: Vec<String>,
    cursor: Option<Cursor>,
}

/// Lists to the end. Calls `after_page` after each page, with its number, counted from 0.
async fn list(
    source: &JmapSource,
    listing: &Listing,
    after_page: impl FnMut(usize),
) -> Result<(Vec<String>, Option<Cursor>), Failure> {
    let result = list_completely(source, listing, after_page).await?;
    Ok((result.listed, result.cursor))
}

/// Like [`list`], also with the missing documents. Resumes once from an unverified end, as the
/// worker does.
async fn list_completely(
    source: &JmapSource,
    listing: &Listing,
    mut after_page: impl FnMut(usize),
) -> Result<ListingResult, Failure> {
    let mut result = ListingResult::default();
    let (mut page_token, mut has_resumed) = (None, false);
    for page_number in 0..PAGES_MAX {
        let page = source.list_page(listing, page_token.as_ref()).await?;
        let ids = page.entries.iter().map(|entry| entry.document.as_str().to_owned());
        result.listed.extend(ids);
        result.missing.extend(page.missing_documents.iter().map(|id| id.as_str().to_owned()));
        (page_token, has_resumed) = match page.next {
            Ok(NextPage::Done(cursor)) => return Ok(ListingResult { cursor, ..result }),
            Ok(NextPage::More(next)) => (Some(next), false),
            Err(end) if has_resumed => {
                return Err(Failure::new(Cause::ListingIncomplete, end.reason));
            }
            Err(end) => (Some(end.resume_from), true),
        };
        after_page(page_number);
    }
    panic!("the listing does not end");
}

async fn list_everything(source: &JmapSource) -> Result<Vec<String>, Failure> {
    Ok(list(source, &Listing::Full, |_| {}).await?.0)
}

fn email_ids(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|n| format!("M{n}")).collect()
}

fn document_ref(id: &str) -> DocumentRef {
    let size = u64::try_from(id.len()).ok();
    DocumentRef {
        document: DocumentId::new(id),
        blob: BlobId::new(format!("B{id}")),
        size,
        locations: Vec::new(),
        content: None,
        strikes: ThrottleStrikes::default(),
        is_suspect: false,
    }
}

async fn fetch(source: &JmapSource, id: &str) -> Result<Vec<u8>, Failure> {
    let mut sink = MemorySink::default();
    source.fetch(&document_ref(id), &mut sink).await?;
    Ok(sink.bytes)
}
