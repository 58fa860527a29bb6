//! Options of a JMAP source.

use chrono::NaiveDate;
use cynosure_engine::AccountId;
use url::Url;

use crate::source::http::HttpOptions;

/// Connection settings and filters of one account.
#[derive(Clone, Debug)]
pub struct JmapOptions {
    /// Name of the source in the configuration, for messages.
    pub name: String,
    /// Account of the ledger. If `None`, the account of the first session is used from then on.
    pub account: Option<AccountId>,
    /// URL of the service: a bare origin, or the URL of the session resource itself.
    pub url: Url,
    pub auth: AuthScheme,
    /// Names, roles or paths (`Parent/Child`) of the mailboxes to extract; empty means all.
    pub mailboxes: Vec<String>,
    /// First day of receipt (UTC) of the emails to extract.
    pub since: Option<NaiveDate>,
    /// Maximum number of emails per page of a listing.
    pub page_size_max: u32,
    /// Maximum number of concurrent downloads.
    pub concurrency: u32,
    /// Options of the HTTP client. The origin of `url` is always allowed.
    pub http: HttpOptions,
}

/// HTTP authentication scheme of the credential.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AuthScheme {
    Basic { username: String },
    Bearer,
}
