//! Options of a source under test, and the source that they give for each protocol.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cynosure::config::{self, EnvVars, Settings};
use cynosure::retry::{BackoffConfig, RetryPolicy};
use cynosure::source::credential::Credential;
use cynosure::source::http::{HttpOptions, ProxyMode, QuotaRules, RequestLimits};
use cynosure::source::imap::{
    FolderFilter, ImapNetwork, ImapOptions, ImapSource, LoginMechanism, Security,
};
use cynosure::source::jmap::{AuthScheme, JmapOptions, JmapSource};
use cynosure::source::{DynSource, MetricsHandle, ResponseRecorder};
use cynosure::source_kinds::{self, SourceParts};
use url::Url;

use super::limiter::BlockingLimiter;

/// Documents per page of a JMAP listing, few enough for several pages.
const PAGE_DOCUMENTS: u32 = 20;

/// Requests at once over JMAP, connections over IMAP.
const CONCURRENCY: u32 = 2;

/// More than the largest document of the cases.
const BYTES_MAX: u64 = 64 << 20;

/// Options of a source, for any kind of source.
pub(crate) struct SourceOptions {
    /// Credential, which a case may replace as a user does.
    pub(crate) secret: Arc<Mutex<String>>,
    pub(crate) limiter: Rc<BlockingLimiter>,
    /// Maximum number of quick attempts of one request.
    pub(crate) attempts: u32,
    /// Longest time without data from the server.
    pub(crate) idle_timeout: Duration,
    /// Recorder of all responses over HTTP.
    pub(crate) recorder: ResponseRecorder,
}

impl SourceOptions {
    pub(crate) fn new(secret: &str) -> Self {
        Self {
            secret: Arc::new(Mutex::new(secret.to_owned())),
            limiter: Rc::default(),
            attempts: 3,
            idle_timeout: Duration::from_secs(20),
            recorder: ResponseRecorder::default(),
        }
    }

    /// Replaces the credential where the source reads it.
    pub(crate) fn replace_secret(&self, secret: &str) {
        *self.secret.lock().expect("no test panicked with the lock") = secret.to_owned();
    }

    fn credential(&self) -> Credential {
        let secret = Arc::clone(&self.secret);
        Credential::new(move || {
            let current = secret.lock().expect("no test panicked with the lock").clone();
            Box::pin(async move { Ok(current.into()) })
        })
    }

    fn http(&self) -> HttpOptions {
        HttpOptions {
            allowed_origins: Vec::new(),
            limits: self.limits(),
            proxy_mode: ProxyMode::Direct,
            quota_rules: QuotaRules::default(),
            error_rules: Vec::new(),
            metrics: MetricsHandle::default(),
            recorder: self.recorder.clone(),
        }
    }

    fn limits(&self) -> RequestLimits {
        let (base_delay, max_delay) = (Duration::from_millis(1), Duration::from_millis(5));
        let backoff = BackoffConfig {
            max_attempts: self.attempts,
            base_delay,
            max_delay,
            ..BackoffConfig::FAST
        };
        RequestLimits {
            retry_policy: RetryPolicy::new("request", backoff),
            connect_timeout: Duration::from_secs(20),
            idle_timeout: self.idle_timeout,
            total_timeout: Duration::from_secs(120),
            min_rate: 1,
            max_response: BYTES_MAX,
            max_document: BYTES_MAX,
        }
    }
}

/// Builds a JMAP source for the service at `url`.
pub(crate) fn jmap_source(options: &SourceOptions, url: &Url, auth: AuthScheme) -> JmapSource {
    let jmap_options = JmapOptions {
        name: "work".to_owned(),
        account: None,
        url: url.clone(),
        auth,
        mailboxes: Vec::new(),
        since: None,
        page_size_max: PAGE_DOCUMENTS,
        concurrency: CONCURRENCY,
        http: options.http(),
    };
    let limiter = Rc::clone(&options.limiter);
    JmapSource::new(jmap_options, options.credential(), limiter).expect("the options are valid")
}

/// Builds an IMAP source for a server that accepts logins without encryption.
pub(crate) fn imap_source(
    options: &SourceOptions,
    server: SocketAddr,
    username: &str,
) -> ImapSource {
    let imap_options = ImapOptions {
        name: "work".to_owned(),
        account: None,
        username: username.to_owned(),
        host: server.ip().to_string(),
        port: server.port(),
        security: Security::Plain,
        mechanism: LoginMechanism::Password,
        folders: FolderFilter::default(),
        since: None,
        connections: CONCURRENCY,
        limits: options.limits(),
        network: ImapNetwork { proxy_mode: ProxyMode::Direct, metrics: MetricsHandle::default() },
    };
    let limiter = Rc::clone(&options.limiter);
    ImapSource::new(imap_options, options.credential(), limiter)
}

/// Builds a REST source as the worker does, from the table of a source in a configuration. `url` is
/// that of the API.
pub(crate) fn rest_source(options: &SourceOptions, table: &str, url: &Url) -> DynSource {
    let settings = load_settings(table, url);
    let (name, source) = settings.find_source("work").expect("the configuration has the source");
    let provider = settings.provider_or_default(&source.provider);
    let limiter = Rc::clone(&options.limiter);
    let parts = SourceParts {
        name: name.to_string(),
        account: None,
        credential: options.credential(),
        limiter,
        concurrency: provider.concurrency,
        connections: provider.connections,
        http: options.http(),
    };
    source_kinds::build_source(source, parts).expect("the options are valid")
}

/// Reads a configuration with one source.
fn load_settings(table: &str, url: &Url) -> Settings {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let path = folder.path().join("config.toml");
    let head = format!("[source.work]\naccount = \"demo@example.com\"\nbase_url = \"{url}\"\n");
    fs_err::write(&path, head + table).expect("the folder is ours");
    config::load(&path, &EnvVars::default()).expect("the configuration is valid").settings
}
