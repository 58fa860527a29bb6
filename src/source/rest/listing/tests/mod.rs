//! Listings of made-up servers, without a network.

mod changes;
mod documents;
mod full;
mod guards;
mod moving_list;
mod parts;

use std::cell::RefCell;

use cynosure_engine::rest::{JsonPath, PageTarget, PageTargetPlace, Paging, RestProfile};
use cynosure_engine::{Cause, Cursor, Failure, ListedDocument, NextPage, PageToken, Timestamp};
use futures_util::FutureExt as _;
use serde_json::{Value, json};

use super::build_page;
use super::context::{ListingContext, ListingScope};
use super::lister::Lister;
use super::pages::ListError;
use super::passes::SeenItems;
use crate::source::Page;
use crate::source::rest::call::{RestCall, RestResponse};
use crate::source::rest::cursor::{ChangeMethod, RestCursor};
use crate::source::rest::test_server;

const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// Pages after which a listing has failed: it does not end.
const PAGES_MAX: usize = 5_000;

/// Listing of one profile.
struct ListingRun {
    profile: RestProfile,
    /// Cursor since which changes are listed; `None` if everything is.
    since: Option<Cursor>,
    seen_items: RefCell<SeenItems>,
    now: Timestamp,
}

/// Result of a listing.
#[derive(Debug)]
struct ListingResult {
    entries: Vec<ListedDocument>,
    cursor: Option<Cursor>,
    /// Number of documents on each page.
    page_sizes: Vec<usize>,
}

impl ListingRun {
    fn of_everything(profile: RestProfile) -> Self {
        Self { profile, since: None, seen_items: RefCell::default(), now: NOW }
    }

    fn since(profile: RestProfile, cursor: &Cursor) -> Self {
        Self { since: Some(cursor.clone()), ..Self::of_everything(profile) }
    }

    /// Requests the page after a token.
    #[expect(clippy::unwrap_in_result, reason = "a helper of tests panics")]
    fn page(
        &self,
        token: Option<&PageToken>,
        mut respond: impl FnMut(&RestCall<'_>) -> Result<Value, Failure>,
    ) -> Result<Page, ListError> {
        let method = ChangeMethod::of(&self.profile.tables);
        let scope = match &self.since {
            None => ListingScope::Everything,
            Some(cursor) => ListingScope::Since(RestCursor::parse(cursor, method).unwrap()),
        };
        let context = ListingContext {
            profile: &self.profile,
            name: "test",
            scope,
            seen_items: &self.seen_items,
            now: self.now,
        };
        let send = async |call: RestCall<'_>| {
            respond(&call).map(|body| RestResponse { body, next_link: None })
        };
        let page = build_page(Lister::resume(context, token), send).now_or_never();
        page.expect("the server answers at once")
    }

    /// Lists until the end.
    #[expect(clippy::unwrap_in_result, reason = "a helper of tests panics")]
    fn run(
        &self,
        mut respond: impl FnMut(&RestCall<'_>) -> Result<Value, Failure>,
    ) -> Result<ListingResult, ListError> {
        let (mut entries, mut page_sizes, mut token) = (Vec::new(), Vec::new(), None);
        for _ in 0..PAGES_MAX {
            let page = self.page(token.as_ref(), &mut respond)?;
            page_sizes.push(page.entries.len());
            entries.extend(page.entries);
            match page.next.expect("the end is verified") {
                NextPage::More(next) => token = Some(next),
                NextPage::Done(cursor) => return Ok(ListingResult { entries, cursor, page_sizes }),
            }
        }
        panic!("the listing has more than {PAGES_MAX} pages");
    }

    /// Lists until the end, and returns the requests with the result.
    fn run_logged(
        &self,
        mut respond: impl FnMut(&RestCall<'_>) -> Result<Value, Failure>,
    ) -> (Vec<String>, Result<ListingResult, ListError>) {
        let mut requests = Vec::new();
        let result = self.run(|call| {
            requests.push(describe(call));
            respond(call)
        });
        (requests, result)
    }
}

impl ListingResult {
    /// Returns the ids of the documents.
    fn ids(&self) -> Vec<&str> {
        self.entries.iter().map(|entry| entry.document.as_str()).collect()
    }
}

/// Returns the profile of a list at `/list`.
fn profile() -> RestProfile {
    test_server::profile(test_server::bytes_table("/raw/{document.id}"))
}

/// Returns the profile of a list with pages.
fn profile_with(paging: Paging) -> RestProfile {
    let mut profile = profile();
    profile.tables.list.listing.page.paging = paging;
    profile
}

fn path(text: &str) -> JsonPath {
    JsonPath::parse(text).unwrap()
}

fn query(name: &str) -> PageTarget {
    PageTarget { place: PageTargetPlace::Query, name: name.to_owned() }
}

fn token_paging() -> Paging {
    Paging::Token { from: path("/next"), to: query("page") }
}

fn offset_paging(size: u32, overlap: u32, needs_two_passes: bool) -> Paging {
    Paging::Offset { size, overlap, needs_two_passes, to: Some(query("offset")) }
}

/// Returns table, values and parameters of a call.
fn describe(call: &RestCall<'_>) -> String {
    let values = [("part", call.values.part), ("item", call.values.item)];
    let values = values.into_iter().chain([("cursor", call.values.cursor), ("url", call.url)]);
    let mut words = vec![call.table.name().to_owned()];
    words.extend(values.filter_map(|(name, value)| Some(format!("{name}={}", value?))));
    words.extend(call.arguments.iter().map(|(target, value)| format!("{}={value}", target.name)));
    words.join(" ")
}

/// Returns the value of a parameter of the page.
fn argument<'c>(call: &'c RestCall<'_>) -> Option<&'c str> {
    call.arguments.first().map(|(_, value)| value.as_str())
}

/// Returns a response with these rows.
fn rows<I: ToString>(ids: impl IntoIterator<Item = I>) -> Value {
    let row = |id: I| json!({"id": id.to_string()});
    json!({"items": ids.into_iter().map(row).collect::<Vec<Value>>()})
}

/// Returns the rows of a list from an offset on.
fn offset_page(ids: &[u32], call: &RestCall<'_>, size: usize) -> Value {
    let offset = argument(call).map_or(0, |offset| offset.parse().unwrap());
    rows(ids.iter().skip(offset).take(size))
}

fn failure(cause: Cause) -> Failure {
    Failure::new(cause, "refused")
}

/// Returns the failure of a listing, which must not be one of the profile.
fn cause_of(error: ListError) -> Cause {
    match error {
        ListError::Failed(failure) => failure.cause,
        ListError::Mismatch(error) => panic!("{error:?}"),
        ListError::Unstable => panic!("the list is unstable"),
    }
}

/// Returns the sentence of a response that does not agree with the profile.
fn mismatch_of(error: ListError) -> String {
    match error {
        ListError::Mismatch(error) => error.0,
        ListError::Failed(failure) => panic!("{failure}"),
        ListError::Unstable => panic!("the list is unstable"),
    }
}
