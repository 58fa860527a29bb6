//! Tables of a profile.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::rest::error_rule::ProfileErrorRule;
use crate::rest::json_path::JsonPath;
use crate::rest::request::RequestTemplate;
use crate::rest::rows::RowListing;
use crate::rest::table_name::TableName;
use crate::rest::template::Template;
use crate::{Cause, Scalar};

/// Declaration of an API: how its documents are listed, fetched and followed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RestProfile {
    /// Name of a built-in profile, or path of its file; `None` if the source declares the tables
    /// itself.
    pub name: Option<String>,
    /// Values of `{options.NAME}`. A value may contain `{credential.NAME}` and `{account}`.
    pub options: BTreeMap<String, Template>,
    /// Headers that every request has.
    pub headers: Vec<(String, Template)>,
    /// Query parameters that every request has, except one for the URL of a link or a cursor.
    pub query: Vec<(String, Template)>,
    /// Success beyond the HTTP status.
    pub ok: Option<OkRule>,
    pub tables: RestTables,
    /// Rules for errors, in the order in which they are tried.
    pub errors: Vec<ProfileErrorRule>,
    /// Units that a request of a table takes from the quota; one if it is not named.
    pub weights: BTreeMap<TableName, u32>,
}

/// Requests of a profile, by the tables that declare them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RestTables {
    /// Request that identifies the account.
    pub account: Option<AccountTable>,
    /// Request for the position in the stream of changes, sent before a full listing.
    pub pin: Option<PinTable>,
    /// Parts, such as folders, that are listed one after the other.
    pub parts: Option<PartsTable>,
    /// Request for the names of the folders that rows and documents name by ids.
    pub folders: Option<FoldersTable>,
    pub list: ListTable,
    /// Request for the documents of each listed item.
    pub documents: Option<RowListing>,
    pub fetch: FetchTable,
    pub changes: Option<ChangesTable>,
    pub sweep: Option<SweepTable>,
    pub again: Option<AgainTable>,
}

/// Sign of success in the body of a response with status 200.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OkRule {
    pub at: JsonPath,
    /// Values that mean success.
    pub is: Vec<Scalar>,
    /// Media type that a response must have, except that of a fetch with its own types. Another one
    /// is a challenge.
    pub media_type: Option<String>,
}

/// Request that identifies the account: `[account]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AccountTable {
    pub request: RequestTemplate,
    pub id: JsonPath,
}

/// Position in the stream of changes: `[pin]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PinTable {
    pub request: RequestTemplate,
    pub cursor: JsonPath,
}

/// Parts of the account: `[parts]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PartsTable {
    pub listing: RowListing,
    pub names: FolderNameRules,
    /// Number of documents of a part, for people.
    pub count: Option<JsonPath>,
}

/// Folders of documents: `[folders]`. Without it, the parts are the folders.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FoldersTable {
    pub listing: RowListing,
    pub names: FolderNameRules,
    /// Name in place of the folders of a document that is in none.
    pub none: Option<String>,
}

/// Names of folders or parts, for people.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FolderNameRules {
    /// Name of the last level; the id if absent.
    pub name: Option<JsonPath>,
    /// Id of the folder that contains it. Its name comes first, with a `/` after it.
    pub parent: Option<JsonPath>,
}

/// Listing of everything: `[list]`, once for each part.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListTable {
    pub listing: RowListing,
    /// Number of documents as the server reports it. If a listing finds fewer, it is repeated until
    /// two passes agree.
    pub total: Option<JsonPath>,
    /// Position in the stream of changes of the part, in the last page.
    pub cursor: Option<JsonPath>,
}

/// Listing of what was added since a cursor: `[changes]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChangesTable {
    pub listing: RowListing,
    /// New cursor, in the last page.
    pub cursor: JsonPath,
}

/// Listing that finds what the changes do not report: `[sweep]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SweepTable {
    pub listing: RowListing,
    /// Interval. It is also done at the end of every full listing.
    pub every: Duration,
}

/// Detection of new items by listing the first pages of each part again: `[again]`. The list must
/// have the newest items first.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AgainTable {
    /// Value in a row that changes with the item.
    pub compare: JsonPath,
}

/// Request for one document: `[fetch]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FetchTable {
    /// `None` only with [`FetchBody::Row`].
    pub request: Option<RequestTemplate>,
    pub body: FetchBody,
    /// Cause of the failure that an empty document is. `None` if an empty document is valid.
    pub empty: Option<Cause>,
    /// Media types of a document, in lower case; if empty, any but HTML and JSON.
    pub media_types: Vec<String>,
    /// True if a document must begin with a header line (RFC 5322, section 2.2). Anything else is a
    /// challenge.
    pub must_start_with_header: bool,
    /// Ids of the folders of the document, in a response that is JSON: the first path with a value.
    pub folder: Vec<JsonPath>,
}

/// Place of a document in a response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FetchBody {
    /// The bytes of the body.
    Bytes,
    /// The body, which is JSON.
    Json,
    /// The row of the listing. Nothing is requested.
    Row,
    /// A text in JSON, which is decoded while it arrives.
    Text { at: JsonPath, encoding: TextEncoding },
}

/// Encoding of a document in a text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TextEncoding {
    /// RFC 4648, section 4, with or without padding.
    Base64,
    /// RFC 4648, section 5, with or without padding.
    Base64Url,
    /// UTF-8.
    Plain,
}

impl RestProfile {
    /// Returns the list that has the names of folders, with its table and its rules. `None` if an
    /// id is the name of its folder.
    #[must_use]
    pub fn folder_names(&self) -> Option<(TableName, &RowListing, &FolderNameRules)> {
        let RestTables { parts, folders, .. } = &self.tables;
        match (folders, parts) {
            (Some(folders), _) => Some((TableName::Folders, &folders.listing, &folders.names)),
            (None, Some(parts)) => Some((TableName::Parts, &parts.listing, &parts.names)),
            (None, None) => None,
        }
    }

    /// Returns the units that a request of a table takes from the quota.
    #[must_use]
    pub fn weight(&self, table: TableName) -> u32 {
        self.weights.get(&table).copied().unwrap_or(1)
    }
}

impl OkRule {
    /// True if the body reports success.
    #[must_use]
    pub fn is_met(&self, body: &Value) -> bool {
        let mut found = self.at.select(body).into_iter();
        found.any(|value| self.is.iter().any(|scalar| scalar.matches(value)))
    }

    /// True if the value is an HTTP status: success is 200 or another 2xx. Any other number of
    /// success, such as 0, is of an API with codes of its own.
    #[must_use]
    pub fn is_http_status(&self) -> bool {
        self.is.iter().any(|scalar| matches!(scalar, Scalar::Integer(200..=299)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn success_is_one_of_the_values_at_a_path() {
        let rule = OkRule {
            at: JsonPath::parse("/status").unwrap(),
            is: vec![Scalar::Integer(200), Scalar::Text("ok".to_owned())],
            media_type: None,
        };

        assert!(rule.is_met(&json!({"status": 200})) && rule.is_met(&json!({"status": "ok"})));
        for body in [json!({"status": 403}), json!({"status": "200"}), json!({}), json!(null)] {
            assert!(!rule.is_met(&body), "{body}");
        }
    }
}
