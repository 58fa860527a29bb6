//! Options of a REST source.

use cynosure_engine::AccountId;
use cynosure_engine::rest::{RestProfile, Template};
use url::Url;

use crate::source::http::HttpOptions;

/// Profile and connection settings of one account.
#[derive(Clone, Debug)]
pub struct RestOptions {
    /// Name of the source in the configuration, for messages.
    pub name: String,
    /// Account of the ledger. If `None`, the account of the first response is used from then on.
    pub account: Option<AccountId>,
    /// Account as the configuration names it: the value of `{account}`, and the account itself
    /// unless the profile asks the server for it.
    pub account_name: String,
    /// URL to which the paths of the profile are appended.
    pub base_url: Url,
    pub profile: RestProfile,
    pub auth: RestAuth,
    /// Maximum number of concurrent fetches.
    pub concurrency: u32,
    /// Options of the HTTP client. The origin of `base_url` is always allowed.
    pub http: HttpOptions,
}

/// Form in which the credential is sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RestAuth {
    /// Nothing is sent.
    None,
    /// HTTP basic authentication (RFC 7617).
    Basic { username: String },
    /// HTTP bearer token (RFC 6750).
    Bearer,
    /// The credential is the value of a header.
    Header { name: String },
    /// The credential is the value of a parameter of the URL.
    Query { name: String },
    /// The credential is the session of a browser, as JSON: `{"token": "…", "cookies": {…}, …}`.
    Session {
        /// Names of the cookies that are sent.
        cookies: Vec<String>,
        /// Parameters of the URL, which may contain `{credential.NAME}`.
        query: Vec<(String, Template)>,
    },
}
