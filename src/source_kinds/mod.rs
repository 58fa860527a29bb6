//! Registry of the kinds of sources: builds the client that a table of the configuration selects.
//!
//! The configuration knows no client, and a client knows no configuration. They meet only here, so
//! the worker names no kind.

use std::rc::Rc;

use cynosure_engine::{AccountId, Failure};
use url::{Origin, Url};

use crate::config::{JmapSettings, KindSettings, SourceAuth, SourceSettings};
use crate::limiter::RequestLimiter;
use crate::source::DynSource;
use crate::source::credential::Credential;
use crate::source::http::HttpOptions;
use crate::source::jmap::{AuthScheme, JmapOptions, JmapSource};

/// Emails per page of a JMAP listing: the minimum that RFC 8620 requires for `maxObjectsInGet`.
const JMAP_PAGE_SIZE_MAX: u32 = 500;

/// Parts of a source that do not depend on its kind.
#[derive(Debug)]
pub struct SourceParts {
    /// Name of the source in the configuration, for messages.
    pub name: String,
    /// Account that the ledger belongs to, if known.
    pub account: Option<AccountId>,
    pub credential: Credential,
    pub limiter: Rc<dyn RequestLimiter>,
    /// Maximum number of concurrent downloads.
    pub concurrency: u32,
    /// Options of a kind that works over HTTP. It adds the origins that it allows.
    pub http: HttpOptions,
}

/// Builds a source of the kind that its settings select. Nothing is sent or read before the first
/// request.
///
/// # Errors
/// Returns the failure of the client, such as an unusable proxy.
pub fn build_source(settings: &SourceSettings, parts: SourceParts) -> Result<DynSource, Failure> {
    match &settings.kind {
        KindSettings::Jmap(jmap) => build_jmap(jmap, &settings.auth, parts).map(DynSource::new),
    }
}

fn build_jmap(
    settings: &JmapSettings,
    auth: &SourceAuth,
    parts: SourceParts,
) -> Result<JmapSource, Failure> {
    let options = JmapOptions {
        name: parts.name,
        account: parts.account,
        url: settings.url.clone(),
        auth: match auth {
            SourceAuth::Basic { username, .. } => AuthScheme::Basic { username: username.clone() },
            SourceAuth::Bearer { .. } => AuthScheme::Bearer,
        },
        mailboxes: settings.mailboxes.clone(),
        since: settings.since,
        page_size_max: JMAP_PAGE_SIZE_MAX,
        concurrency: parts.concurrency,
        http: HttpOptions { allowed_origins: https_origins(&settings.allowed_hosts), ..parts.http },
    };
    JmapSource::new(options, parts.credential, parts.limiter)
}

fn https_origins(hosts: &[String]) -> Vec<Origin> {
    let urls = hosts.iter().filter_map(|host| Url::parse(&format!("https://{host}")).ok());
    urls.map(|url| url.origin()).collect()
}
