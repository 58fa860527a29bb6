//! Lists the rows of an account, part by part and page by page, and the documents that they name.
//!
//! A listing is of everything, or of what was added since a cursor. Parts that are new are listed
//! as a whole. After the parts comes the sweep, which finds what changes do not report. Lists that
//! are addressed by positions move while they are read: their pages overlap, and they are read
//! until two passes agree.

mod context;
mod documents;
mod lister;
mod on_failure;
pub(super) mod pages;
pub(super) mod passes;
mod position;
pub(super) mod progress;
#[cfg(test)]
mod tests;

use cynosure_engine::{Failure, ListedDocument, NextPage, PageToken};

use self::context::{ListingContext, ListingScope};
pub(super) use self::documents::hash_row;
use self::lister::{Lister, ListerStep};
use self::pages::ListError;
use crate::source::rest::call::{RestCall, RestResponse};
use crate::source::rest::cursor::{ChangeMethod, RestCursor};
use crate::source::rest::name_folders::{expire_names, name_folders};
use crate::source::rest::source::RestSource;
use crate::source::{Listing, Page, UnverifiedEnd};

/// Maximum number of requests for one page of the listing: for pages without documents, such as
/// those of empty parts, and for the documents of items. A restart repeats no more.
const REQUESTS_MAX: usize = 8;

/// Returns the page after `token`; the first page begins the listing.
pub(super) async fn list_page(
    source: &RestSource,
    listing: &Listing,
    token: Option<&PageToken>,
) -> Result<Page, Failure> {
    let lister = Lister::resume(listing_context(source, listing)?, token);
    if token.is_none() {
        expire_names(source).await;
    }
    let page = build_page(lister, async |call: RestCall<'_>| source.call(call).await).await;
    let mut page = page.map_err(|error| error.into_failure(source))?;
    name_folders(source, &mut page.entries).await?;
    Ok(page)
}

/// Sends requests until the page has documents, or there have been enough requests.
async fn build_page(
    mut lister: Lister<'_>,
    mut send: impl AsyncFnMut(RestCall<'_>) -> Result<RestResponse, Failure>,
) -> Result<Page, ListError> {
    for requests_before in 0..REQUESTS_MAX {
        match lister.next_step() {
            ListerStep::Request if lister.has_documents() && lister.is_page_complete() => break,
            ListerStep::Request => {}
            // An unverified page is not recorded, so that the documents are returned first.
            ListerStep::Unverified if lister.has_documents() => break,
            ListerStep::Unverified => return Ok(unverified_page(lister)),
            ListerStep::Finished => return Ok(last_page(lister)),
        }
        let (request, place) = lister.request();
        let result = send(request.call_at(place)).await;
        match result {
            Ok(response) => lister.on_response(&response)?,
            Err(failure) => match lister.on_failure(failure) {
                Ok(()) => {}
                Err(failure) if requests_before == 0 => return Err(failure.into()),
                // What was found before is returned first: that of a failed call is lost. The next
                // call sends the request again, and returns its failure.
                Err(_) => break,
            },
        }
    }
    Ok(page_before(lister))
}

fn listing_context<'a>(
    source: &'a RestSource,
    listing: &Listing,
) -> Result<ListingContext<'a>, Failure> {
    let profile = source.profile();
    let scope = match listing {
        Listing::Full => ListingScope::Everything,
        Listing::Since(cursor) => {
            let method = ChangeMethod::of(&profile.tables);
            ListingScope::Since(RestCursor::parse(cursor, method)?)
        }
    };
    let (name, seen_items) = (source.options.name.as_str(), &source.seen_items);
    Ok(ListingContext { profile, name, scope, seen_items, now: source.now() })
}

/// Returns the page with all that was found, and the token after it.
fn page_before(lister: Lister<'_>) -> Page {
    let (entries, total, token) = lister.finish_early();
    new_page(entries, total, Ok(NextPage::More(token)))
}

/// Returns the last page of the listing.
fn last_page(lister: Lister<'_>) -> Page {
    let (entries, total, cursor) = lister.finish();
    new_page(entries, total, Ok(NextPage::Done(cursor)))
}

/// Returns a page that ends where the end of a list cannot be verified.
fn unverified_page(lister: Lister<'_>) -> Page {
    match lister.unverified_end() {
        Some((reason, resume_from)) => {
            new_page(Vec::new(), None, Err(UnverifiedEnd { resume_from, reason }))
        }
        None => page_before(lister),
    }
}

fn new_page(
    entries: Vec<ListedDocument>,
    total_documents: Option<u64>,
    next: Result<NextPage, UnverifiedEnd>,
) -> Page {
    Page { entries, missing_documents: Vec::new(), total_documents, vanished: Vec::new(), next }
}
