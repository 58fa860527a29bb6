//! Registry of the kinds of sources: builds the client that a table of the configuration selects.
//!
//! The configuration knows no client, and a client knows no configuration. They meet only here, so
//! the worker names no kind.

use std::rc::Rc;

use cynosure_engine::rate_limit::{Rate, RateLimitPolicy};
use cynosure_engine::{AccountId, Failure};
use url::{Origin, Url};

use crate::config::{
    ImapSecurity, ImapSettings, JmapSettings, KindSettings, ProviderSettings, RestSettings,
    SourceAuth, SourceSettings,
};
use crate::limiter::RequestLimiter;
use crate::source::DynSource;
use crate::source::credential::Credential;
use crate::source::http::HttpOptions;
use crate::source::imap::{
    FolderFilter, ImapNetwork, ImapOptions, ImapSource, LoginMechanism, Security,
};
use crate::source::jmap::{AuthScheme, JmapOptions, JmapSource};
use crate::source::rest::{RestAuth, RestOptions, RestSource};

/// Emails per page of a JMAP listing: the minimum that RFC 8620 requires for `maxObjectsInGet`.
const JMAP_PAGE_SIZE_MAX: u32 = 500;

/// Commands in flight on one IMAP connection: the server reads the next one while its reply to the
/// first is on the way.
const IMAP_COMMANDS_IN_FLIGHT: u32 = 2;

/// Open fetches for each IMAP connection: those of the commands in flight, each for 64 messages. With
/// fewer, the latency of the connection would set the pace.
const IMAP_FETCHES_PER_CONNECTION: u32 = 64 * IMAP_COMMANDS_IN_FLIGHT;

/// Commands per second with which the limit of an unknown IMAP server is looked for. Such servers
/// limit connections and bytes rather than commands, and the commands in flight wait for replies.
/// At the rate of HTTP the logins and the listing would take longer than 2,000 messages.
const IMAP_SLOW_START_RATE: f64 = 400.0;

/// Parts of a source that do not depend on its kind.
#[derive(Debug)]
pub struct SourceParts {
    /// Name of the source in the configuration, for messages.
    pub name: String,
    /// Account that the ledger belongs to, if known.
    pub account: Option<AccountId>,
    pub credential: Credential,
    pub limiter: Rc<dyn RequestLimiter>,
    /// Maximum number of concurrent downloads, of a kind with a request for each.
    pub concurrency: u32,
    /// Maximum number of connections, of a kind that logs in on each.
    pub connections: u32,
    /// Options of a kind that works over HTTP. It adds the origins that it allows. Other kinds use
    /// the limits, the proxies and the metrics.
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
        KindSettings::Imap(imap) => Ok(DynSource::new(build_imap(imap, settings, parts))),
        KindSettings::Rest(rest) => build_rest(rest, settings, parts).map(DynSource::new),
    }
}

/// Returns the number of fetches that the worker keeps open for a source.
#[must_use]
pub fn fetch_concurrency(settings: &SourceSettings, provider: &ProviderSettings) -> usize {
    let fetches = match &settings.kind {
        KindSettings::Jmap(_) | KindSettings::Rest(_) => provider.concurrency,
        KindSettings::Imap(_) => provider.connections.saturating_mul(IMAP_FETCHES_PER_CONNECTION),
    };
    usize::try_from(fetches).unwrap_or(usize::MAX)
}

/// Returns the number of requests of a source that the limiter of its provider allows in flight.
#[must_use]
pub fn request_concurrency(settings: &SourceSettings, provider: &ProviderSettings) -> u32 {
    match &settings.kind {
        KindSettings::Jmap(_) | KindSettings::Rest(_) => provider.concurrency,
        KindSettings::Imap(_) => provider.connections.saturating_mul(IMAP_COMMANDS_IN_FLIGHT),
    }
}

/// Returns the rate from which the limit of a source's server is looked for.
#[must_use]
pub fn slow_start_rate(settings: &SourceSettings) -> Rate {
    match &settings.kind {
        KindSettings::Jmap(_) => RateLimitPolicy::default().slow_start_rate,
        KindSettings::Rest(rest) => {
            // As many of its heaviest requests as of those that cost one unit.
            let weight = rest.profile.weights.values().copied().max().unwrap_or(1);
            RateLimitPolicy::default().slow_start_rate.scaled(f64::from(weight))
        }
        KindSettings::Imap(_) => Rate::per_second(IMAP_SLOW_START_RATE),
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
            SourceAuth::Basic { username, .. } | SourceAuth::Password { username, .. } => {
                AuthScheme::Basic { username: username.clone() }
            }
            SourceAuth::Bearer { .. }
            | SourceAuth::OAuth2 { .. }
            | SourceAuth::SignIn { .. }
            | SourceAuth::Application { .. }
            // The configuration of this kind has none of these.
            | SourceAuth::None
            | SourceAuth::Header { .. }
            | SourceAuth::Query { .. }
            | SourceAuth::Session { .. } => AuthScheme::Bearer,
        },
        mailboxes: settings.mailboxes.clone(),
        since: settings.since,
        page_size_max: JMAP_PAGE_SIZE_MAX,
        concurrency: parts.concurrency,
        http: HttpOptions { allowed_origins: https_origins(&settings.allowed_hosts), ..parts.http },
    };
    JmapSource::new(options, parts.credential, parts.limiter)
}

fn build_imap(settings: &ImapSettings, source: &SourceSettings, parts: SourceParts) -> ImapSource {
    let HttpOptions { limits, proxy_mode, metrics, .. } = parts.http;
    let options = ImapOptions {
        name: parts.name,
        account: parts.account,
        username: source.auth.username().unwrap_or(&source.account).to_owned(),
        host: settings.host.clone(),
        port: settings.port,
        security: match settings.security {
            ImapSecurity::Tls => Security::Tls,
            ImapSecurity::StartTls => Security::StartTls,
            ImapSecurity::None => Security::Plain,
        },
        mechanism: match source.auth {
            SourceAuth::Basic { .. } | SourceAuth::Password { .. } => LoginMechanism::Password,
            SourceAuth::Bearer { .. }
            | SourceAuth::OAuth2 { .. }
            | SourceAuth::SignIn { .. }
            | SourceAuth::Application { .. }
            // The configuration of this kind has none of these.
            | SourceAuth::None
            | SourceAuth::Header { .. }
            | SourceAuth::Query { .. }
            | SourceAuth::Session { .. } => LoginMechanism::OAuth2,
        },
        folders: FolderFilter {
            include: settings.folders.clone(),
            exclude: settings.excluded_folders.clone(),
        },
        since: settings.since,
        connections: parts.connections,
        limits,
        network: ImapNetwork { proxy_mode, metrics },
    };
    ImapSource::new(options, parts.credential, parts.limiter)
}

fn build_rest(
    settings: &RestSettings,
    source: &SourceSettings,
    parts: SourceParts,
) -> Result<RestSource, Failure> {
    let auth = match &source.auth {
        SourceAuth::None => RestAuth::None,
        SourceAuth::Basic { username, .. } | SourceAuth::Password { username, .. } => {
            RestAuth::Basic { username: username.clone() }
        }
        SourceAuth::Bearer { .. }
        | SourceAuth::OAuth2 { .. }
        | SourceAuth::SignIn { .. }
        | SourceAuth::Application { .. } => RestAuth::Bearer,
        SourceAuth::Header { name, .. } => RestAuth::Header { name: name.clone() },
        SourceAuth::Query { name, .. } => RestAuth::Query { name: name.clone() },
        SourceAuth::Session { cookies, query, .. } => {
            RestAuth::Session { cookies: cookies.clone(), query: query.clone() }
        }
    };
    let options = RestOptions {
        name: parts.name,
        account: parts.account,
        account_name: source.account.clone(),
        base_url: settings.base_url.clone(),
        profile: settings.profile.clone(),
        auth,
        concurrency: parts.concurrency,
        http: HttpOptions { allowed_origins: https_origins(&settings.allowed_hosts), ..parts.http },
    };
    RestSource::new(options, parts.credential, parts.limiter)
}

fn https_origins(hosts: &[String]) -> Vec<Origin> {
    let urls = hosts.iter().filter_map(|host| Url::parse(&format!("https://{host}")).ok());
    urls.map(|url| url.origin()).collect()
}
