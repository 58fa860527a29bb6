//! Options of an HTTP client.

use std::time::Duration;

use cynosure_engine::ErrorRule;
use url::Origin;

use crate::retry::RetryPolicy;
use crate::source::http::proxies::ProxyMode;
use crate::source::http::quota_rules::QuotaRules;
use crate::source::{MetricsHandle, ResponseRecorder};

/// Options of the HTTP client of one account.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Origins to which requests may be sent.
    pub allowed_origins: Vec<Origin>,
    pub limits: RequestLimits,
    /// Connection mode: direct, or through a proxy pool.
    pub proxy_mode: ProxyMode,
    pub quota_rules: QuotaRules,
    /// User's error rules for the provider, which take precedence over the built-in ones.
    pub error_rules: Vec<ErrorRule>,
    /// Metrics that count the requests.
    pub metrics: MetricsHandle,
    /// Recorder of all responses, and of requests without a response.
    pub recorder: ResponseRecorder,
}

/// Timeouts, size limits and retry policy of one request.
#[derive(Clone, Debug)]
pub struct RequestLimits {
    /// Quick retries of a broken request, before its failure is returned.
    pub retry_policy: RetryPolicy,
    /// DNS lookup, connection and TLS handshake.
    pub connect_timeout: Duration,
    /// Longest time without data, and the window over which the rate is measured.
    pub idle_timeout: Duration,
    /// Duration of one whole attempt, not counting the time spent on our own disk.
    pub total_timeout: Duration,
    /// Bytes per second of a body; a slower server counts as timed out.
    pub min_rate: u64,
    /// Largest response that is held in memory, in bytes.
    pub max_response: u64,
    /// Largest document, in bytes.
    pub max_document: u64,
}
