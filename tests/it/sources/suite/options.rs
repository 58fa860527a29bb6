//! Options of a source under test, and the source that they give for JMAP.

use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cynosure::retry::{BackoffConfig, RetryPolicy};
use cynosure::source::credential::Credential;
use cynosure::source::http::{HttpOptions, ProxyMode, QuotaRules, RequestLimits};
use cynosure::source::jmap::{AuthScheme, JmapOptions, JmapSource};
use cynosure::source::{MetricsHandle, ResponseRecorder};
use url::Url;

use super::limiter::BlockingLimiter;

/// Documents per page, few enough for several pages.
const PAGE_DOCUMENTS: u32 = 20;

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
}

impl SourceOptions {
    pub(crate) fn new(secret: &str) -> Self {
        Self {
            secret: Arc::new(Mutex::new(secret.to_owned())),
            limiter: Rc::default(),
            attempts: 3,
            idle_timeout: Duration::from_secs(20),
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
        let (base_delay, max_delay) = (Duration::from_millis(1), Duration::from_millis(5));
        let backoff = BackoffConfig {
            max_attempts: self.attempts,
            base_delay,
            max_delay,
            ..BackoffConfig::FAST
        };
        HttpOptions {
            allowed_origins: Vec::new(),
            limits: RequestLimits {
                retry_policy: RetryPolicy::new("request", backoff),
                connect_timeout: Duration::from_secs(20),
                idle_timeout: self.idle_timeout,
                total_timeout: Duration::from_secs(120),
                min_rate: 1,
                max_response: BYTES_MAX,
                max_document: BYTES_MAX,
            },
            proxy_mode: ProxyMode::Direct,
            quota_rules: QuotaRules::default(),
            error_rules: Vec::new(),
            metrics: MetricsHandle::default(),
            recorder: ResponseRecorder::default(),
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
        concurrency: 2,
        http: options.http(),
    };
    let limiter = Rc::clone(&options.limiter);
    JmapSource::new(jmap_options, options.credential(), limiter).expect("the options are valid")
}
