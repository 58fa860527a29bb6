//! Description of a paginated HTTP API, as a profile declares it: requests, paths in the responses,
//! paging, and the meaning of errors.
//!
//! A profile has no expressions: a [`JsonPath`] selects values in a response, a [`Template`] fills
//! values into a request. Everything here is a decision on text and JSON; `source/rest` sends the
//! requests.

mod error_rule;
mod json_path;
mod paging;
mod placeholder;
mod profile;
mod request;
mod retry_text;
mod rows;
mod selected_ids;
mod table_name;
mod template;

pub use self::error_rule::{
    ProfileErrorRule, ProfileRules, ReportedWait, RuleVerdict, ValueCondition, ValueTest,
};
pub use self::json_path::{JsonPath, RowMatch, scalar_text};
pub use self::paging::{LinkOrigin, PageRule, PageTarget, PageTargetPlace, Paging};
pub use self::placeholder::Placeholder;
pub use self::profile::{
    AccountTable, AgainTable, ChangesTable, FetchBody, FetchTable, FolderNameRules, FoldersTable,
    ListTable, OkRule, PartsTable, PinTable, RestProfile, RestTables, SweepTable, TextEncoding,
};
pub use self::request::{JsonTemplate, RequestBodyTemplate, RequestTemplate, RestMethod};
pub use self::retry_text::{WaitFormat, parse_wait};
pub use self::rows::{RestRow, RowError, RowListing, RowRules, SkipRule};
pub use self::selected_ids::select_ids;
pub use self::table_name::TableName;
pub use self::template::{DocumentValues, PageValues, Template, TemplateForm, TemplateValues};
