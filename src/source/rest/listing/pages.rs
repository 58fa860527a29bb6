//! Pages of a list: the request for each, and the rows in its response.

use std::collections::BTreeSet;

use cynosure_engine::rest::{
    JsonPath, PageTarget, PageValues, Paging, RestRow, RowError, RowListing, RowMatch, RowRules,
    TableName, scalar_text,
};
use cynosure_engine::{Cause, Failure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::source::rest::call::{CallValues, RestCall, RestResponse, profile_mismatch};
use crate::source::rest::listing::passes::RowHash;
use crate::source::rest::source::RestSource;

/// Place in a list, as the request for a page names it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::source::rest) enum PagePlace {
    #[default]
    First,
    Token(String),
    Link(String),
    Offset(u64),
    Number(u32),
    Anchor(String),
}

/// Requests for the pages of one list.
#[derive(Clone, Copy, Debug)]
pub(in crate::source::rest) struct PageRequest<'a> {
    pub(in crate::source::rest) table: TableName,
    pub(in crate::source::rest) listing: &'a RowListing,
    pub(in crate::source::rest) part: Option<&'a str>,
    pub(in crate::source::rest) item: Option<&'a str>,
    pub(in crate::source::rest) cursor: Option<&'a str>,
}

/// Rows of a response.
pub(in crate::source::rest) struct ListPage<'v> {
    /// Rows that are not left out.
    pub(in crate::source::rest) rows: Vec<RestRow<'v>>,
    /// Ids of all rows.
    pub(super) ids: Vec<RowHash>,
    /// Ids of the rows that were not on the page before.
    pub(super) new_ids: BTreeSet<RowHash>,
    pub(super) last_row: Option<&'v Value>,
}

/// Reason why a list cannot be read on.
#[derive(Debug)]
pub(in crate::source::rest) enum ListError {
    /// A response does not agree with the profile.
    Mismatch(RowError),
    /// The list changes faster than it can be read.
    Unstable,
    /// A request failed.
    Failed(Failure),
}

impl<'a> PageRequest<'a> {
    /// Returns a request without values.
    pub(in crate::source::rest) fn new(table: TableName, listing: &'a RowListing) -> Self {
        Self { table, listing, part: None, item: None, cursor: None }
    }

    /// Returns the call for the page at a place.
    pub(in crate::source::rest) fn call_at(&self, place: &'a PagePlace) -> RestCall<'a> {
        let RowListing { request, page, .. } = self.listing;
        let (mut values, mut url) = (PageValues::default(), None);
        let argument: Option<(&PageTarget, String)> = match (&page.paging, place) {
            (Paging::Token { to, .. }, PagePlace::Token(value))
            | (Paging::Anchor { to, .. }, PagePlace::Anchor(value)) => Some((to, value.clone())),
            (Paging::Link { .. }, PagePlace::Link(link)) => {
                url = Some(link.as_str());
                None
            }
            (Paging::Offset { to, .. }, place) => {
                values.offset = if let PagePlace::Offset(offset) = place { *offset } else { 0 };
                to.as_ref().map(|to| (to, values.offset.to_string()))
            }
            (Paging::Number { first, to, .. }, place) => {
                values.number =
                    if let PagePlace::Number(number) = place { *number } else { *first };
                to.as_ref().map(|to| (to, values.number.to_string()))
            }
            (
                Paging::Single | Paging::Token { .. } | Paging::Link { .. } | Paging::Anchor { .. },
                _,
            ) => None,
        };
        RestCall {
            table: self.table,
            request,
            values: CallValues {
                part: self.part,
                item: self.item,
                document: None,
                page: values,
                cursor: self.cursor,
            },
            arguments: argument.into_iter().map(|(to, value)| (to.clone(), value)).collect(),
            url,
        }
    }
}

impl<'v> ListPage<'v> {
    /// Reads the rows of a response.
    ///
    /// # Errors
    /// The response does not agree with the profile.
    pub(super) fn read(
        table: TableName,
        rules: &RowRules,
        response: &'v RestResponse,
    ) -> Result<Self, RowError> {
        let rows = rules.read(table, &response.body)?;
        let all_rows = match rules.items.rows(&response.body) {
            RowMatch::Rows(all_rows) => all_rows,
            RowMatch::Absent | RowMatch::NotAList(_) => Vec::new(),
        };
        let ids: Vec<RowHash> = all_rows.iter().map(|row| hash_id(rules, row)).collect();
        let new_ids = ids.iter().copied().collect();
        Ok(Self { rows, ids, new_ids, last_row: all_rows.last().copied() })
    }

    /// True if a row was not on the page before.
    pub(in crate::source::rest) fn is_new(&self, row: &RestRow<'_>) -> bool {
        self.new_ids.contains(&hash_ids(&row.id, row.document.as_deref()))
    }
}

impl ListError {
    /// Returns the failure of the listing.
    pub(in crate::source::rest) fn into_failure(self, source: &RestSource) -> Failure {
        match self {
            Self::Mismatch(error) => profile_mismatch(source, error),
            Self::Unstable => {
                Failure::new(Cause::CursorExpired, "the list changes faster than it can be read")
            }
            Self::Failed(failure) => failure,
        }
    }
}

impl From<Failure> for ListError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<RowError> for ListError {
    fn from(error: RowError) -> Self {
        Self::Mismatch(error)
    }
}

/// Returns a whole number, which may be written as a text.
pub(in crate::source::rest) fn whole_number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// Returns the hash of the ids of a row that may be left out.
fn hash_id(rules: &RowRules, row: &Value) -> RowHash {
    let id = first_text(&rules.id, row).unwrap_or_else(|| row.to_string());
    hash_ids(&id, first_text(&rules.document, row).as_deref())
}

fn hash_ids(id: &str, document: Option<&str>) -> RowHash {
    RowHash::of(&[id, document.unwrap_or_default()])
}

/// Returns the text at the first path with one. Null and an empty text count as absent.
fn first_text(paths: &[JsonPath], row: &Value) -> Option<String> {
    let mut values = paths.iter().filter_map(|path| path.first(row));
    values.find(|value| value.as_str() != Some("")).and_then(scalar_text)
}
