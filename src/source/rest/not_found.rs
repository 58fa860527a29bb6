//! Documents that a fetch does not find: gone, or not found by a service that fails.

use cynosure_engine::rest::{RestProfile, RowListing, TableName};
use cynosure_engine::{Cause, Failure};

use crate::source::rest::blob::FetchValues;
use crate::source::rest::call::{RestCall, as_service_failure, profile_mismatch};
use crate::source::rest::listing::pages::{PagePlace, PageRequest};
use crate::source::rest::source::RestSource;

/// Maximum number of documents that are gone in a row, by a 404 alone. A thread or a folder may be
/// deleted after it was listed; more look like a service that finds nothing.
pub(super) const GONE_IN_A_ROW_MAX: u32 = 100;

/// Distinguishes a document that is gone from one that the service only fails to find: a 404 for
/// every document would mark a whole account as deleted.
///
/// The list of the documents of an item decides, where the profile has one. Otherwise a rule of the
/// profile does, or a document is gone as long as others are fetched.
pub(super) async fn resolve_not_found(
    rest: &RestSource,
    values: &FetchValues,
    failure: Failure,
) -> Failure {
    let documents = rest.profile().tables.documents.as_ref();
    let problem = match documents
        .and_then(|documents| Some((documents, documents_call(documents, values)?)))
    {
        None if has_rule_for_gone(rest.profile()) || is_plausibly_gone(rest) => return failure,
        None => "and no document was fetched since others were not found",
        Some((documents, call)) => match rest.call(call).await {
            Ok(response) => match documents.rows.read(TableName::Documents, &response.body) {
                Ok(rows) if rows.iter().any(|row| row.id == values.document.id) => {
                    "but the document is listed"
                }
                Ok(_) => return failure,
                Err(error) => return profile_mismatch(rest, error),
            },
            Err(other) if other.cause == Cause::NotFound => {
                if is_plausibly_gone(rest) {
                    return failure;
                }
                "nor is its item, and no document was fetched since"
            }
            Err(other) => return as_service_failure(other),
        },
    };
    let message = format!("{}, {problem}", failure.message);
    Failure { response: failure.response, ..Failure::new(Cause::Server, message) }
}

/// True if a rule of the profile says what a document that is gone looks like.
fn has_rule_for_gone(profile: &RestProfile) -> bool {
    let is_for_fetch =
        |tables: &[TableName]| tables.is_empty() || tables.contains(&TableName::Fetch);
    profile.errors.iter().any(|rule| rule.cause == Cause::NotFound && is_for_fetch(&rule.tables))
}

/// True if documents are fetched and no more are gone in a row than a user may have deleted.
fn is_plausibly_gone(rest: &RestSource) -> bool {
    match rest.gone_in_a_row.get() {
        Some(gone) if gone < GONE_IN_A_ROW_MAX => {
            rest.gone_in_a_row.set(Some(gone + 1));
            true
        }
        Some(_) | None => false,
    }
}

/// Returns the call for the first page of the documents of an item; `None` if the blob id does not
/// have all values for it.
fn documents_call<'a>(documents: &'a RowListing, values: &'a FetchValues) -> Option<RestCall<'a>> {
    let templates = documents.request.templates();
    let mut placeholders = templates.iter().flat_map(|template| template.placeholders());
    if !placeholders.all(|placeholder| values.has(placeholder)) {
        return None;
    }
    let request = PageRequest {
        table: TableName::Documents,
        listing: documents,
        part: values.part.as_deref(),
        item: values.item.as_deref(),
        cursor: None,
    };
    Some(request.call_at(&PagePlace::First))
}
