//! The JMAP source against a mailbox that changes, forgets and misbehaves.

mod account;
mod changes;
mod listing;
mod service;

use cynosure::engine::{BlobId, Cursor, DocumentId, Failure, Place};
use cynosure::source::jmap::Jmap;
use cynosure::source::{Listing, Next, Source as _, Wanted};

use crate::http::Kept;

/// More pages than any listing of these tests has.
const PAGES_MAX: usize = 100;

/// One page: the ids on it, and where it goes on.
async fn page(
    source: &Jmap,
    listing: &Listing,
    place: Option<&Place>,
) -> Result<(Vec<String>, Next), Failure> {
    let page = source.page(listing, place).await?;
    let ids = page.entries.iter().map(|entry| entry.document.as_str().to_owned());
    Ok((ids.collect(), page.next))
}

/// Lists to the end, with something done to the mailbox between the pages.
async fn list(
    source: &Jmap,
    listing: &Listing,
    mut between: impl FnMut(usize),
) -> Result<(Vec<String>, Option<Cursor>), Failure> {
    let mut listed = Vec::new();
    let mut place = None;
    for pages in 0..PAGES_MAX {
        let (mut ids, next) = page(source, listing, place.as_ref()).await?;
        listed.append(&mut ids);
        match next {
            Next::Done(cursor) => return Ok((listed, cursor)),
            Next::More(more) => place = Some(more),
        }
        between(pages);
    }
    panic!("the listing does not end");
}

async fn everything(source: &Jmap) -> Result<Vec<String>, Failure> {
    Ok(list(source, &Listing::Everything, |_| {}).await?.0)
}

fn names(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|n| format!("M{n}")).collect()
}

fn wanted(id: &str) -> Wanted {
    let size = u64::try_from(id.len()).ok();
    Wanted { document: DocumentId::new(id), blob: BlobId::new(format!("B{id}")), size }
}

async fn fetch(source: &Jmap, id: &str) -> Result<Vec<u8>, Failure> {
    let mut sink = Kept::default();
    source.fetch(&wanted(id), &mut sink).await?;
    Ok(sink.bytes)
}
